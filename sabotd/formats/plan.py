"""What a decoder makes of each column: the kernel's kinds, read once from the DuckDB type texts.

Knows no format; the compiled decoder and its plain twin both take these.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

from sabot.errors import SqlError
from sabot.schema import arrow_type, struct_fields


class Kind(enum.IntEnum):
    """How the text of a value becomes an Arrow value; the numbers are the kernel's."""

    BOOLEAN = 0
    INT = 1
    UINT = 2
    FLOAT = 3
    DOUBLE = 4
    DECIMAL = 5
    VARCHAR = 6
    BLOB = 7
    JSON = 8
    UUID = 9
    DATE = 10
    TIME = 11
    TIMESTAMP = 12
    STRUCT = 13
    LIST = 14


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """A column or a nested field.

    `width` is the bytes a value takes (0 for strings, STRUCT and LIST). `scale` is a DECIMAL's digits after the point,
    or a TIMESTAMP's ticks a second; `precision` a DECIMAL's digits. `sql_type` is what errors call the type.
    """

    name: str
    kind: Kind
    type: pa.DataType
    width: int = 0
    precision: int = 0
    scale: int = 0
    children: tuple[ColumnPlan, ...] = ()
    sql_type: str = ""


_UNIT_TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_LIST = re.compile(r"(.*)\[\d*\]\Z", re.DOTALL)


def plan_column(name: str, text: str) -> ColumnPlan:
    """Return the plan of a column of DuckDB type `text`.

    Raises
    ------
    SqlError
        If a record format cannot give the type (INTERVAL, MAP).
    """
    text = text.strip()
    arrow = arrow_type(text)
    upper = text.upper()
    if match := _LIST.match(text):
        return ColumnPlan(name, Kind.LIST, arrow, children=(plan_column("item", match[1]),), sql_type=text)
    if pa.types.is_struct(arrow):
        children = tuple(plan_column(n, t) for n, t in struct_fields(text))
        return ColumnPlan(name, Kind.STRUCT, arrow, children=children, sql_type=text)
    if upper in ("JSON", "JSONB"):
        return ColumnPlan(name, Kind.JSON, arrow, sql_type=upper)
    if upper == "UUID":
        return ColumnPlan(name, Kind.UUID, arrow, sql_type=upper)
    return _plan_scalar(name, text, arrow)


def _plan_scalar(name: str, text: str, arrow: pa.DataType) -> ColumnPlan:
    if pa.types.is_boolean(arrow):
        return ColumnPlan(name, Kind.BOOLEAN, arrow, width=1, sql_type=text)
    if pa.types.is_signed_integer(arrow):
        return ColumnPlan(name, Kind.INT, arrow, width=arrow.bit_width // 8, sql_type=text)
    if pa.types.is_unsigned_integer(arrow):
        return ColumnPlan(name, Kind.UINT, arrow, width=arrow.bit_width // 8, sql_type=text)
    if pa.types.is_float32(arrow):
        return ColumnPlan(name, Kind.FLOAT, arrow, width=4, sql_type=text)
    if pa.types.is_float64(arrow):
        return ColumnPlan(name, Kind.DOUBLE, arrow, width=8, sql_type=text)
    if pa.types.is_decimal128(arrow):
        return ColumnPlan(
            name, Kind.DECIMAL, arrow, width=16, precision=arrow.precision, scale=arrow.scale, sql_type=text
        )
    if pa.types.is_string(arrow):
        return ColumnPlan(name, Kind.VARCHAR, arrow, sql_type=text)
    if pa.types.is_binary(arrow):
        return ColumnPlan(name, Kind.BLOB, arrow, sql_type=text)
    if pa.types.is_date32(arrow):
        return ColumnPlan(name, Kind.DATE, arrow, width=4, sql_type=text)
    if pa.types.is_time64(arrow):
        return ColumnPlan(name, Kind.TIME, arrow, width=8, sql_type=text)
    if pa.types.is_timestamp(arrow):
        return ColumnPlan(name, Kind.TIMESTAMP, arrow, width=8, scale=_UNIT_TICKS[arrow.unit], sql_type=text)
    msg = f"column {name!r} of type {text} cannot be decoded"
    raise SqlError(msg, hint="declare it as VARCHAR or JSON and convert it in the query", sqlstate="0A000")


def plan_columns(columns: Iterable[tuple[str, str]]) -> tuple[ColumnPlan, ...]:
    """Plan (name, DuckDB type text) pairs."""
    return tuple(plan_column(name, text) for name, text in columns)
