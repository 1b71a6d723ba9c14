"""INSERT with many rows of constants, read by one regular expression: a row costs a dozen tokens and as many lexemes.

What is not surely such a statement is read like any other; nothing is decided here but that the rows mean to DuckDB
what is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from sabot.errors import Span, SqlError
from sql_frontend.statements import Insert, Statement

_LEAST_CHARS = 4096
_CONSTANT = r"(?:[+-]?\d++(?:\.\d*+)?(?:e[+-]?\d++)?|'(?:[^'\0]++|'')*+'|null|true|false)"
_ROW = rf"\(\s*+{_CONSTANT}(?:\s*+,\s*+{_CONSTANT})*+\s*+\)"
_NAME = r'(?:[a-z_]\w*+|"[^"\0]++")'
_INSERT = re.compile(
    rf"\s*insert\s+into\s+{_NAME}(?:\s*\.\s*{_NAME})*\s*(?:\(\s*{_NAME}(?:\s*,\s*{_NAME})*\s*\)\s*)?"
    rf"(?P<values>values\s*{_ROW})(?P<rows>(?:\s*+,\s*+{_ROW})++)\s*;?\s*\Z",
    re.IGNORECASE | re.ASCII,
)


def read(text: str, parse: Callable[[str], Statement]) -> Insert | None:
    """Return the statement of `text` if it is an INSERT of many rows of constants, and nothing else; else None.

    Parameters
    ----------
    parse : callable
        Reads a statement: this one with its first row alone.
    """
    if len(text) < _LEAST_CHARS:
        return None
    found = _INSERT.match(text)
    if found is None:
        return None
    cut, rows = found.end("values"), found["rows"]
    try:
        short = parse(text[:cut])
    except SqlError:
        return None  # with all rows, so that it is told of the statement as it stands
    begin = found.start("values")
    if not isinstance(short, Insert) or short.query != text[begin:cut]:
        return None
    whole = text[short.span.start : cut] + rows
    return replace(
        short,
        text=whole,
        sql=whole,
        span=Span(short.span.start, cut + len(rows)),
        query=short.query + rows,
        written=short.query + rows,
        constant=True,
    )
