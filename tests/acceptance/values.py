"""Rows as other systems' test files write them, and when two of them say the same."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

_CLOSE = 1e-9
_PLAIN = re.compile(r'[^\s,{}()"\\]+')


def texts(table: pa.Table) -> list[str]:
    """Return each row as one string: values as psql shows them, one blank between, white space folded."""
    columns = [[text(v, f.type) for v in _values(c)] for c, f in zip(table.columns, table.schema, strict=True)]
    return [fold(" ".join(row)) for row in zip(*columns, strict=True)]


def _values(column: pa.ChunkedArray) -> list[Any]:
    try:
        return list(column.to_pylist())
    except (OverflowError, ValueError):
        # Python's own dates end with the year 9999, and know no nanoseconds
        return [_dated(text) for text in column.cast(pa.string()).to_pylist()]


def _dated(text: str | None) -> str | None:
    """Write a time of a year outside of Python's as psql does: BC for years below 1, the zone as an offset."""
    match = re.match(r"(-?\d{4,})(-\d\d-\d\d.*)", text or "")
    if text is None or match is None:
        return text
    year, rest = int(match[1]), re.sub(r"\.0*$|(?<=\d)0+$(?<=\.\d)", "", match[2].removesuffix("Z"))
    rest += "+00:00" if text.endswith("Z") else ""
    return f"{year:04d}{rest}" if year > 0 else f"{1 - year:04d}{rest} BC"


def fold(row: str) -> str:
    """Return `row` with its white space folded."""
    return " ".join(row.split())


def text(value: Any, kind: pa.DataType) -> str:
    """Return a value of Arrow type `kind` as psql shows it."""
    if value is None:
        return "NULL"
    return _text(value, kind) or "(empty)"


def _text(value: Any, kind: pa.DataType) -> str:
    if pa.types.is_map(kind):
        return "{" + ",".join(f"{_element(k, kind.key_type)}:{_element(v, kind.item_type)}" for k, v in value) + "}"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return "{" + ",".join(_element(v, kind.value_type) for v in value) + "}"
    if pa.types.is_struct(kind):
        return "(" + ",".join("" if value[f.name] is None else _field(value[f.name], f.type) for f in kind) + ")"
    if isinstance(value, bool):
        return "t" if value else "f"
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, dt.datetime):
        return value.isoformat(sep=" ")
    if hasattr(value, "nanoseconds") and hasattr(value, "months"):
        return _interval(value.months, value.days, value.nanoseconds // 1000)
    if isinstance(value, dt.timedelta):
        return _interval(0, value.days, value.seconds * 1_000_000 + value.microseconds)
    return str(value)


def _float(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return repr(value)


def _interval(months: int, days: int, micros: int) -> str:
    sign = -1 if months < 0 else 1
    years, rest = divmod(abs(months), 12)
    parts = [f"{sign * n} {unit}{'' if n == 1 else 's'}" for n, unit in ((years, "year"), (rest, "mon")) if n]
    if days:
        parts.append(f"{days} day{'' if days == 1 else 's'}")
    if micros or not parts:
        seconds, fraction = divmod(abs(micros), 1_000_000)
        clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
        parts.append(("-" if micros < 0 else "") + clock + (f".{fraction:06d}".rstrip("0") if fraction else ""))
    return " ".join(parts)


def _element(value: Any, kind: pa.DataType) -> str:
    if value is None:
        return "NULL"
    written = _text(value, kind)
    nested = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if nested or (_PLAIN.fullmatch(written) and written.lower() != "null"):
        return written
    escaped = written.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _field(value: Any, kind: pa.DataType) -> str:
    """A field of a row: quoted where it is empty or holds what parts fields; quotes are doubled."""
    written = _text(value, kind)
    if written and not re.search(r'[\s,()"\\]', written):
        return written
    escaped = written.replace("\\", "\\\\").replace('"', '""')
    return f'"{escaped}"'


def same(actual: str, expected: str) -> bool:
    """Tell whether two rows say the same: numbers by value, JSON by content, the rest as it stands."""
    if actual == expected:
        return True
    ours, theirs = _pieces(actual), _pieces(expected)
    return len(ours) == len(theirs) and all(_same_piece(a, e) for a, e in zip(ours, theirs, strict=True))


def _pieces(row: str) -> list[str]:
    # blanks inside of JSON say nothing: there they follow the comma and the colon behind a key
    dense = re.sub(r'(?<=[\w"\]}]), (?=[\w"\[{-])|(?<=":) ', lambda m: m[0].strip(), row)
    return [p for p in re.split(r'([\s,{}()\[\]":]+)', dense) if p]


def _same_piece(actual: str, expected: str) -> bool:
    if actual == expected:
        return True
    ours, theirs = _number(actual), _number(expected)
    if ours is None or theirs is None:
        return _trimmed(actual) == _trimmed(expected)
    if ours == theirs:
        return True
    if ours == ours.to_integral_value() and theirs == theirs.to_integral_value():
        return False
    return math.isclose(ours, theirs, rel_tol=_CLOSE, abs_tol=1e-12)


def _trimmed(piece: str) -> str:
    """A fraction of seconds may end in zeros; booleans are written short and long."""
    short = {"true": "t", "false": "f", "null": "NULL", "+00": "+00:00", "inf": "Infinity"}.get(piece, piece)
    return re.sub(r"(:?\d\d\.\d*?)0+(?=$|[+-])", r"\1", short)


def _number(piece: str) -> Decimal | None:
    try:
        value = Decimal(piece)
    except InvalidOperation:
        return None
    return value if value.is_finite() else None


def difference(actual: Sequence[str], expected: Sequence[str], *, ordered: bool) -> str | None:
    """Return what is wrong with `actual` in a few lines, or None when it says what is expected."""
    expected = [fold(row) for row in expected]
    if ordered:
        if len(actual) == len(expected) and all(same(a, e) for a, e in zip(actual, expected, strict=True)):
            return None
    elif _same_bag(actual, expected):
        return None
    return f"expected {_shown(expected)}, got {_shown(actual)}"


def _same_bag(actual: Sequence[str], expected: Sequence[str]) -> bool:
    if len(actual) != len(expected):
        return False
    left = sorted(expected)
    rest = []
    for row in sorted(actual):
        if row in left:
            left.remove(row)
        else:
            rest.append(row)
    for row in rest:
        found = next((e for e in left if same(row, e)), None)
        if found is None:
            return False
        left.remove(found)
    return True


def _shown(rows: Sequence[str]) -> str:
    return f"{len(rows)} rows {json.dumps(list(rows[:8]), ensure_ascii=False)}"
