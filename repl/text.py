"""Arrow columns as text, whole columns at a time: SQL's text for tables and CSV, plain values for JSON."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
_CONTROL_RE2 = r"[\x00-\x09\x0b-\x1f\x7f]|\xc2[\x80-\x9f]"


def is_numeric(type_: pa.DataType) -> bool:
    """Tell whether columns of `type_` are set to the right."""
    return bool(pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_decimal(type_))


def texts(column: pa.Array) -> pa.Array:
    """Return the column as strings, NULL kept: numbers and times as SQL writes them, nested values as JSON."""
    type_ = column.type
    if isinstance(column, pa.ExtensionArray):
        return texts(column.storage)
    if pa.types.is_dictionary(type_):
        return texts(column.dictionary_decode())
    if pa.types.is_string(type_):
        return column
    if pa.types.is_temporal(type_) and not pa.types.is_interval(type_) and not pa.types.is_duration(type_):
        return _moments(pc.cast(column, pa.string()))
    if pa.types.is_decimal(type_):
        out = pc.cast(column, pa.string())
        # small values come in scientific notation
        return _each(column, lambda d: f"{d:f}") if pc.any(pc.match_substring(out, "E")).as_py() else out
    if pa.types.is_binary(type_) or pa.types.is_large_binary(type_) or pa.types.is_fixed_size_binary(type_):
        return _each(column, lambda b: "\\x" + b.hex())
    if pa.types.is_interval(type_):
        return _each(column, interval)
    if pa.types.is_nested(type_):
        return _json_texts(column)
    return pc.cast(column, pa.string())


def _moments(column: pa.Array) -> pa.Array:
    """Cut the fraction's trailing zeros and write UTC as PostgreSQL does."""
    column = pc.replace_substring_regex(column, r"(\.\d*?)0+(Z?)$", r"\1\2")
    column = pc.replace_substring_regex(column, r"\.(Z?)$", r"\1")
    return pc.replace_substring_regex(column, "Z$", "+00")


def _each(column: pa.Array, text: Callable[[Any], str]) -> pa.Array:
    return pa.array([None if value is None else text(value) for value in column.to_pylist()], pa.string())


def interval(value: Any) -> str:
    """Return a month-day-nano interval as PostgreSQL writes it: ``1 year 2 mons 3 days 04:05:06.5``."""
    parts = []
    years, months = divmod(abs(value.months), 12)
    sign = "-" if value.months < 0 else ""
    if years:
        parts.append(f"{sign}{years} year{'s' if years > 1 else ''}")
    if months:
        parts.append(f"{sign}{months} mon{'s' if months > 1 else ''}")
    if value.days:
        parts.append(f"{value.days} day{'s' if abs(value.days) != 1 else ''}")
    if value.nanoseconds or not parts:
        micros = abs(value.nanoseconds) // 1000
        seconds, micros = divmod(micros, 1_000_000)
        fraction = f".{micros:06}".rstrip("0") if micros else ""
        clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{fraction}"
        parts.append(("-" if value.nanoseconds < 0 else "") + clock)
    return " ".join(parts)


def visible(column: pa.Array) -> pa.Array:
    r"""Return the strings with control characters written as ``\x1b``, so that data cannot steer the terminal.

    Newlines stay.
    """
    if not pc.any(pc.match_substring_regex(column, _CONTROL_RE2)).as_py():
        return column
    return _each(column, visible_text)


def visible_text(text: str) -> str:
    """Return one text as :func:`visible` does."""
    return _CONTROL.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    return {"\t": "\\t", "\r": "\\r"}.get(match[0], f"\\x{ord(match[0]):02x}")


def json_values(column: pa.Array) -> list[Any]:
    """Return the column as values that JSON has: numbers, strings, booleans, lists, objects, None.

    Times, intervals and binary values become their text; NaN and infinities, which JSON lacks, become strings.
    """
    type_ = column.type
    if isinstance(column, pa.ExtensionArray):
        return json_values(column.storage)
    if pa.types.is_dictionary(type_):
        return json_values(column.dictionary_decode())
    if pa.types.is_floating(type_):
        return [_finite(value) for value in column.to_pylist()]
    if pa.types.is_integer(type_) or pa.types.is_boolean(type_) or pa.types.is_decimal(type_):
        return list(column.to_pylist())
    if pa.types.is_struct(type_):
        names = [field.name for field in type_]
        rows = zip(*(json_values(child) for child in column.flatten()), strict=True) if names else iter(())
        valid = column.is_valid().to_pylist()
        values = [dict(zip(names, row, strict=True)) for row in rows] if names else [{} for _ in valid]
        return [value if ok else None for value, ok in zip(values, valid, strict=True)]
    if pa.types.is_map(type_):
        keys, items = texts(column.keys).to_pylist(), json_values(column.items)
        return _sliced(column, list(zip(keys, items, strict=True)), dict)
    if pa.types.is_fixed_size_list(type_):
        return json_values(column.cast(pa.list_(type_.value_type)))
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        return _sliced(column, json_values(column.values), list)
    return list(texts(column).to_pylist())


def _sliced(column: pa.Array, values: list[Any], build: Callable[[Iterable[Any]], Any]) -> list[Any]:
    offsets = column.offsets.to_pylist()
    bounds = zip(offsets, offsets[1:], column.is_valid().to_pylist(), strict=False)
    return [build(values[low:high]) if ok else None for low, high, ok in bounds]


def _finite(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)


def _json_texts(column: pa.Array) -> pa.Array:
    encode = json_encoder()
    return pa.array([None if v is None else encode(v).decode() for v in json_values(column)], pa.string())


def json_encoder() -> Callable[[Any], bytes]:
    """Return a function from a value of :func:`json_values` to its JSON text; decimals keep their digits."""
    import msgspec

    return msgspec.json.Encoder(decimal_format="number").encode
