"""Rows of parameters: out of Arrow batches, and many rows of an INSERT into few statements."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa

from sabot.schema import quote

Row = tuple[object, ...]

_MAX_ROWS = 20_000
_NAME = r'(?:"(?:[^"]|"")+"|[^\W\d]\w*)'
_ALL_PARAMETERS_INSERT = re.compile(
    rf"(?P<head>\s*insert\s+into\s+{_NAME}(?:\s*\.\s*{_NAME})*\s*(?:\(\s*{_NAME}(?:\s*,\s*{_NAME})*\s*\)\s*)?)values\s*"
    r"(?P<row>\(\s*\?(?:\s*,\s*\?)*\s*\))\s*;?\s*\Z",
    re.IGNORECASE,
)


def rows_of(batch: pa.RecordBatch) -> list[Row]:
    """Return the rows of a batch as Python values."""
    if not batch.num_columns:
        return [()] * batch.num_rows
    return list(zip(*(column.to_pylist() for column in batch.columns), strict=True))


def statements(sql: str, rows: Sequence[Row]) -> Iterator[tuple[str, Row]]:
    """Yield statements with parameters that together do `sql` once for every row, in order.

    An INSERT whose VALUES are one row of nothing but ``?`` becomes INSERTs of many rows each, with one list a column:
    a parameter a value costs DuckDB 0.1 ms.
    """
    match = _ALL_PARAMETERS_INSERT.match(sql) if len(rows) > 1 else None
    if match is None:
        for row in rows:
            yield sql, row
        return
    width = match["row"].count("?")
    text = f"{match['head'].rstrip()} SELECT {', '.join(['unnest(?)'] * width)}"
    for start in range(0, len(rows), _MAX_ROWS):
        part = rows[start : start + _MAX_ROWS]
        wrong = next((row for row in part if len(row) != width), None)
        if wrong is not None:  # the engine says what is wrong with it
            yield sql, wrong
            return
        yield text, tuple(list(column) for column in zip(*part, strict=True))


def insert_text(table: str, columns: Iterable[str]) -> str:
    """Return the INSERT of one row of parameters into `table`."""
    names = [quote(c) for c in columns]
    marks = ", ".join("?" * len(names))
    return f"INSERT INTO {quote(table)} ({', '.join(names)}) VALUES ({marks})"
