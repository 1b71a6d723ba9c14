"""Writes results: aligned and expanded tables as psql draws them, CSV, JSON lines, Arrow IPC.

Streams: holds one chunk of rows, never all.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import BinaryIO, TextIO

import pyarrow as pa
import pyarrow.compute as pc

from repl.text import is_numeric, json_encoder, json_values, texts, visible, visible_text

CHUNK_ROWS = 1000
"""Rows by which column widths are found; later chunks may be wider."""


class Format(enum.Enum):
    """How results are written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    ARROW = "arrow"


def width(text: str) -> int:
    """Return how many cells `text` takes on a terminal."""
    if text.isascii():
        return len(text)
    from wcwidth import wcswidth

    return max(wcswidth(text), 0)


def write_result(
    out: TextIO,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    *,
    format: Format,
    expanded: bool = False,
    null: str = "",
    live: bool = False,
) -> int:
    """Write the rows of one result as they come.

    Parameters
    ----------
    out : text file
        Arrow goes to its ``buffer``.
    expanded : bool
        One line a column, for `Format.TABLE`.
    null : str
        What NULL looks like in tables.
    live : bool
        The stream does not end by itself: hand every batch on at once, and write no row count.

    Returns
    -------
    int
        The number of rows written.
    """
    counted = _Counter(batches)
    if format is Format.ARROW:
        _write_arrow(out.buffer, schema, counted, live=live)
        return counted.rows
    if format is Format.CSV:
        lines = csv_lines(schema, counted)
    elif format is Format.JSON:
        lines = json_lines(schema, counted)
    elif expanded:
        lines = expanded_lines(schema, counted, null)
    else:
        lines = table_lines(schema, counted, null, chunk_rows=1 if live else CHUNK_ROWS)
    for text in lines:
        out.write(text)
        if live:
            out.flush()
    if format is Format.TABLE and not live:
        out.write("\n" if expanded and counted.rows else footer(counted.rows) + "\n\n")
    return counted.rows


def footer(rows: int) -> str:
    """Return psql's count line."""
    return f"({rows} row{'' if rows == 1 else 's'})"


class _Counter:
    """Passes batches on and counts their rows."""

    def __init__(self, batches: Iterable[pa.RecordBatch]) -> None:
        self._batches = batches
        self.rows = 0

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for batch in self._batches:
            self.rows += batch.num_rows
            yield batch


def _chunks(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[list[pa.RecordBatch]]:
    """Gather batches until there are `rows`, and cut big ones to that size."""
    chunk: list[pa.RecordBatch] = []
    held = 0
    for batch in batches:
        size = max(rows, CHUNK_ROWS)
        for start in range(0, batch.num_rows, size):
            part = batch.slice(start, size)
            chunk.append(part)
            held += part.num_rows
            if held >= rows:
                yield chunk
                chunk, held = [], 0
    if chunk:
        yield chunk


def cells(column: pa.Array, null: str) -> list[str]:
    """Return a column's texts as a table shows them."""
    return [null if text is None else text for text in visible(texts(column)).to_pylist()]


def table_lines(
    schema: pa.Schema, batches: Iterable[pa.RecordBatch], null: str, *, chunk_rows: int = CHUNK_ROWS
) -> Iterator[str]:
    """Give an aligned table in pieces of whole lines: header, rule, rows."""
    names = [shown_name(name) for name in schema.names]
    right = [is_numeric(type_) for type_ in schema.types]
    widths = [width(name) for name in names]
    headed = False
    for chunk in chain(_chunks(batches, chunk_rows), [[]]):
        columns = [[cell for batch in chunk for cell in cells(batch.column(i), null)] for i in range(len(names))]
        widths = [max(w, *map(_cell_width, column), 0) for w, column in zip(widths, columns, strict=True)]
        if not headed:
            yield header_lines(names, widths)
            headed = True
        if chunk and not names:
            yield "\n" * sum(batch.num_rows for batch in chunk)
        elif chunk:
            yield rows_text(columns, widths, right)


def shown_name(name: str) -> str:
    """Return a column's name on one line."""
    return visible_text(name).replace("\n", "\\n")


def header_lines(names: Sequence[str], widths: Sequence[int]) -> str:
    """Return the two lines above the rows, names in the middle."""
    titles = []
    for name, size in zip(names, widths, strict=True):
        left = (size - width(name)) // 2
        titles.append(" " + " " * left + name + " " * (size - width(name) - left) + " ")
    return "|".join(titles).rstrip() + "\n" + "+".join("-" * (size + 2) for size in widths) + "\n"


def _cell_width(cell: str) -> int:
    return width(cell) if "\n" not in cell else max(map(width, cell.split("\n")))


def rows_text(columns: Sequence[Sequence[str]], widths: Sequence[int], right: Sequence[bool]) -> str:
    """Return the lines of the rows; a cell with newlines takes several, marked ``+`` as psql does."""
    last = len(columns) - 1
    padded = []
    for i, (column, size, to_right) in enumerate(zip(columns, widths, right, strict=True)):
        if any("\n" in cell for cell in column):
            return "".join(_tall_row(row, widths, right) for row in zip(*columns, strict=True))
        if to_right:
            padded.append([" " + _pad(cell, size, left=True) for cell in column])
        elif i == last:
            padded.append([" " + cell if cell else "" for cell in column])
        else:
            padded.append([" " + _pad(cell, size) for cell in column])
    return "".join(" |".join(row).rstrip() + "\n" for row in zip(*padded, strict=True))


def _pad(cell: str, size: int, *, left: bool = False) -> str:
    if cell.isascii():
        return cell.rjust(size) if left else cell.ljust(size)
    fill = " " * (size - width(cell))
    return fill + cell if left else cell + fill


def _tall_row(row: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    parts = [cell.split("\n") for cell in row]
    lines = []
    for k in range(max(map(len, parts))):
        line = []
        for part, size, to_right in zip(parts, widths, right, strict=True):
            more = "+" if k + 1 < len(part) else " "
            line.append(" " + _pad(part[k] if k < len(part) else "", size, left=to_right) + more)
        lines.append("|".join(line).rstrip() + "\n")
    return "".join(lines)


def expanded_lines(schema: pa.Schema, batches: Iterable[pa.RecordBatch], null: str) -> Iterator[str]:
    """Give each row as a block of ``column | value`` lines."""
    names = [shown_name(name) for name in schema.names]
    size = max(map(width, names), default=0)
    record = 0
    for chunk in _chunks(batches, 1):
        for batch in chunk:
            columns = [cells(column, null) for column in batch.columns]
            out = []
            for k in range(batch.num_rows):
                record += 1
                out.append(f"-[ RECORD {record} ]".ljust(size + 2, "-") + "\n")
                for name, column in zip(names, columns, strict=True):
                    head, *more = column[k].split("\n")
                    out.append(f"{_pad(name, size)} | {head}".rstrip() + "\n")
                    out += [f"{' ' * size} | {line}\n" for line in more]
            yield "".join(out)


def csv_lines(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[str]:
    """Give RFC 4180 lines with a header; NULL is an empty field, an empty string ``""``."""
    yield ",".join(_csv_field(pa.array(schema.names, pa.string())).to_pylist()) + "\n"
    for batch in batches:
        if batch.num_rows == 0:
            continue
        fields = [pc.fill_null(_csv_field(texts(column)), "") for column in batch.columns]
        lines = pc.binary_join_element_wise(*fields, ",") if fields else pa.array([""] * batch.num_rows)
        yield "\n".join(lines.to_pylist()) + "\n"


def _csv_field(column: pa.Array) -> pa.Array:
    special = pc.match_substring_regex(column, '[",\r\n]|^$|^ | $')
    if not pc.any(special).as_py():
        return column
    quoted = pc.binary_join_element_wise('"', pc.replace_substring(column, '"', '""'), '"', "")
    return pc.if_else(special, quoted, column)


def json_lines(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[str]:
    """Give one JSON object a line; a column name that stands twice gets ``_1``, ``_2`` appended."""
    names = unique_names(schema.names)
    encode = json_encoder()
    for batch in batches:
        if batch.num_rows == 0:
            continue
        columns = [json_values(column) for column in batch.columns]
        rows = zip(*columns, strict=True) if columns else [()] * batch.num_rows
        yield b"".join(encode(dict(zip(names, row, strict=True))) + b"\n" for row in rows).decode()


def unique_names(names: Sequence[str]) -> list[str]:
    """Return the names, later ones of a kind told apart by a number."""
    out: list[str] = []
    for name in names:
        unique, n = name, 0
        while unique in out:
            n += 1
            unique = f"{name}_{n}"
        out.append(unique)
    return out


def _write_arrow(out: BinaryIO, schema: pa.Schema, batches: Iterable[pa.RecordBatch], *, live: bool) -> None:
    with pa.ipc.new_stream(out, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            if live:
                out.flush()
    out.flush()
