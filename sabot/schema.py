"""Column types: DuckDB's type names in the plan, Arrow's in motion, and the way between."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pyarrow as pa

from sabot.errors import SqlError


@dataclass(frozen=True)
class Field:
    """A column: its name and its DuckDB type text (``BIGINT``, ``STRUCT(a BIGINT, b VARCHAR[])``)."""

    name: str
    type: str


Schema = tuple[Field, ...]

_SIMPLE: dict[str, pa.DataType] = {
    "BOOLEAN": pa.bool_(),
    "TINYINT": pa.int8(),
    "SMALLINT": pa.int16(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "UTINYINT": pa.uint8(),
    "USMALLINT": pa.uint16(),
    "UINTEGER": pa.uint32(),
    "UBIGINT": pa.uint64(),
    # DuckDB itself hands a HUGEINT to Arrow as decimal128(38, 0)
    "HUGEINT": pa.decimal128(38, 0),
    "FLOAT": pa.float32(),
    "DOUBLE": pa.float64(),
    "VARCHAR": pa.string(),
    "JSON": pa.string(),
    "UUID": pa.string(),
    "BLOB": pa.binary(),
    "DATE": pa.date32(),
    "TIME": pa.time64("us"),
    "TIMESTAMP": pa.timestamp("us"),
    "TIMESTAMP_NS": pa.timestamp("ns"),
    "TIMESTAMP_MS": pa.timestamp("ms"),
    "TIMESTAMP_S": pa.timestamp("s"),
    "TIMESTAMP WITH TIME ZONE": pa.timestamp("us", tz="UTC"),
    "INTERVAL": pa.month_day_nano_interval(),
    "NULL": pa.int32(),
    '"NULL"': pa.int32(),
}
_ALIASES = {
    "INT": "INTEGER",
    "TEXT": "VARCHAR",
    "STRING": "VARCHAR",
    "BOOL": "BOOLEAN",
    "REAL": "FLOAT",
    "BYTEA": "BLOB",
    "TIMESTAMPTZ": "TIMESTAMP WITH TIME ZONE",
    "JSONB": "JSON",
}
_DECIMAL = re.compile(r"DECIMAL\((\d+),\s*(\d+)\)\Z")
_ARRAY = re.compile(r"(.*)\[(\d*)\]\Z", re.DOTALL)


def arrow_type(text: str) -> pa.DataType:
    """Return the Arrow type of a DuckDB type text.

    Raises
    ------
    SqlError
        If the type has no Arrow form here.
    """
    text = text.strip()
    upper = text.upper()
    upper = _ALIASES.get(upper, upper)
    if upper in _SIMPLE:
        return _SIMPLE[upper]
    if match := _DECIMAL.match(upper):
        return pa.decimal128(int(match[1]), int(match[2]))
    if match := _ARRAY.match(text):
        return pa.list_(arrow_type(match[1]))
    if upper.startswith("STRUCT(") and upper.endswith(")"):
        return pa.struct([pa.field(name, arrow_type(t)) for name, t in struct_fields(text)])
    if upper.startswith("MAP(") and upper.endswith(")"):
        key, value = _split_commas(text[4:-1])
        return pa.map_(arrow_type(key), arrow_type(value))
    if upper.startswith("ENUM("):
        return pa.string()
    msg = f"type {text!r} is not supported"
    raise SqlError(msg, sqlstate="0A000")


def struct_fields(text: str) -> list[tuple[str, str]]:
    """Split ``STRUCT(a T, "b c" U)`` into its (name, type text) pairs."""
    inner = text.strip()[len("STRUCT(") : -1]
    fields = []
    for part in _split_commas(inner):
        part = part.strip()
        if part.startswith('"'):
            end = 1
            while not (part[end] == '"' and part[end + 1 : end + 2] != '"'):
                end += 2 if part[end] == '"' else 1
            name, rest = part[1:end].replace('""', '"'), part[end + 1 :]
        else:
            name, _, rest = part.partition(" ")
        fields.append((name, rest.strip()))
    return fields


def _split_commas(text: str) -> list[str]:
    parts, depth, start, quoted = [], 0, 0, False
    for i, ch in enumerate(text):
        if ch == '"':
            quoted = not quoted
        elif quoted:
            continue
        elif ch == "(":
            depth += 1
        elif ch == ")":
            depth -= 1
        elif ch == "," and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    parts.append(text[start:])
    return parts


def arrow_schema(fields: Schema) -> pa.Schema:
    """Return the Arrow schema of `fields`."""
    return pa.schema([pa.field(f.name, arrow_type(f.type)) for f in fields])


def quote(name: str) -> str:
    """Return `name` as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return `text` as a SQL string literal."""
    return "'" + text.replace("'", "''") + "'"
