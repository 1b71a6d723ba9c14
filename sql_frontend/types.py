"""Type names as PostgreSQL, RisingWave and DuckDB write them, to DuckDB's canonical type text."""

from __future__ import annotations

import re

import duckdb
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from sabot.errors import Span, SqlError
from sabot.schema import arrow_type, quote
from sql_frontend.cursor import nearest
from sql_frontend.duck import describe

DEFAULT_DECIMAL = "DECIMAL(38,10)"
"""What NUMERIC without precision means: PostgreSQL's has no limits, Arrow's and DuckDB's 38 digits."""

_T = exp.DType
_SIMPLE = {
    _T.BOOLEAN: "BOOLEAN",
    _T.TINYINT: "TINYINT",
    _T.SMALLINT: "SMALLINT",
    _T.INT: "INTEGER",
    _T.BIGINT: "BIGINT",
    _T.UTINYINT: "UTINYINT",
    _T.USMALLINT: "USMALLINT",
    _T.UINT: "UINTEGER",
    _T.UBIGINT: "UBIGINT",
    _T.INT128: "DECIMAL(38,0)",
    _T.FLOAT: "FLOAT",
    _T.DOUBLE: "DOUBLE",
    _T.TEXT: "VARCHAR",
    _T.VARCHAR: "VARCHAR",
    _T.CHAR: "VARCHAR",
    _T.NVARCHAR: "VARCHAR",
    _T.NCHAR: "VARCHAR",
    _T.BPCHAR: "VARCHAR",
    _T.JSON: "JSON",
    _T.JSONB: "JSON",
    _T.UUID: "UUID",
    _T.VARBINARY: "BLOB",
    _T.BINARY: "BLOB",
    _T.BLOB: "BLOB",
    _T.DATE: "DATE",
    _T.TIME: "TIME",
    _T.TIMESTAMP: "TIMESTAMP",
    _T.TIMESTAMPNTZ: "TIMESTAMP",
    _T.DATETIME: "TIMESTAMP",
    _T.TIMESTAMPTZ: "TIMESTAMP WITH TIME ZONE",
    _T.TIMESTAMPLTZ: "TIMESTAMP WITH TIME ZONE",
    _T.INTERVAL: "INTERVAL",
}
_OWN_NAMES = {
    "UTINYINT": "UTINYINT",
    "USMALLINT": "USMALLINT",
    "UINTEGER": "UINTEGER",
    "UBIGINT": "UBIGINT",
    "BLOB": "BLOB",
}
_KNOWN = [
    "boolean",
    "smallint",
    "int",
    "integer",
    "bigint",
    "real",
    "float",
    "double",
    "numeric",
    "decimal",
    "varchar",
    "text",
    "bytea",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "interval",
    "json",
    "jsonb",
    "uuid",
    "struct",
    "map",
]
_ROW = re.compile(r"\bROW(?=\s*\()", re.IGNORECASE)


def type_text(written: str, *, text: str | None = None, start: int = 0) -> str:
    """Return DuckDB's type text of a written type, such as ``STRUCT(a INTEGER, b VARCHAR[])``.

    Lengths of VARCHAR and CHAR are not kept, a precision of TIMESTAMP neither; NUMERIC alone is
    ``DECIMAL(38,10)``.

    Parameters
    ----------
    written : str
        The type as it stands in the statement.
    text, start : str, int
        The statement and where the type stands in it, for errors.

    Raises
    ------
    SqlError
        If there is no such type (42704), or it cannot be a column's here (0A000).
    """
    span = Span(start, start + len(written))
    own = _OWN_NAMES.get(written.strip().upper())
    if own is not None:
        return own
    try:
        cast = sqlglot.parse_one(f"CAST(NULL AS {_ROW.sub('STRUCT', written)})", read="risingwave")
    except SqlglotError as error:
        raise _unknown(written, span, text) from error
    if not isinstance(cast, exp.Cast):
        raise _unknown(written, span, text)
    return data_type_text(cast.to, span=span, text=text)


def data_type_text(kind: exp.DataType, *, span: Span | None = None, text: str | None = None) -> str:
    """Return DuckDB's type text of a parsed type; raises as :func:`type_text` does."""
    written = _written(kind, span, text)
    # which field names DuckDB quotes when it prints a type is its own affair
    if "STRUCT(" not in written:
        return written
    try:
        return describe((), (f"NULL::{written}",))[0]
    except duckdb.Error as error:
        msg = f"{kind.sql('risingwave')!r} is not a type"
        hint = "a STRUCT has fields, each with a name of its own"
        raise SqlError(msg, span=span, text=text, hint=hint, sqlstate="42704") from error


def _written(kind: exp.DataType, span: Span | None, text: str | None) -> str:
    this = kind.this
    if this == _T.DECIMAL:
        return _decimal(kind, span, text)
    if this in (_T.ARRAY, _T.LIST):
        inner = kind.expressions[0] if kind.expressions else None
        if not isinstance(inner, exp.DataType):
            raise _unknown(kind.sql("duckdb"), span, text)
        return _written(inner, span, text) + "[]"
    if this == _T.STRUCT:
        return f"STRUCT({', '.join(_struct_field(f, span, text) for f in kind.expressions)})"
    if this == _T.MAP and len(kind.expressions) == 2:
        key, value = (_written(t, span, text) for t in kind.expressions)
        return f"MAP({key}, {value})"
    if this in _SIMPLE:
        return _SIMPLE[this]
    name = kind.sql("risingwave").lower()
    raise _unknown(name, span, text)


def _decimal(kind: exp.DataType, span: Span | None, text: str | None) -> str:
    names = [p.name for p in kind.expressions]
    if not all(name.isdigit() for name in names) or len(names) > 2:
        msg = "NUMERIC takes a number of digits, and how many of them are behind the point"
        raise SqlError(msg, span=span, text=text, hint="write NUMERIC(10, 2)", sqlstate="22023")
    params = [int(name) for name in names]
    if not params:
        return DEFAULT_DECIMAL
    precision, scale = params[0], params[1] if len(params) > 1 else 0
    if not (1 <= precision <= 38 and 0 <= scale <= precision):
        msg = f"NUMERIC({precision},{scale}) is out of range"
        raise SqlError(msg, span=span, text=text, hint="at most 38 digits, the scale not above them", sqlstate="22023")
    return f"DECIMAL({precision},{scale})"


def _struct_field(field: exp.Expr, span: Span | None, text: str | None) -> str:
    if not isinstance(field, exp.ColumnDef) or not isinstance(field.kind, exp.DataType):
        msg = "a field of STRUCT needs a name and a type"
        raise SqlError(msg, span=span, text=text, hint="write STRUCT<a INT, b VARCHAR>")
    identifier = field.this
    name = identifier.name if identifier.args.get("quoted") else identifier.name.lower()
    return f"{quote(name)} {_written(field.kind, span, text)}"


def _unknown(name: str, span: Span | None, text: str | None) -> SqlError:
    msg = f"type {name.strip()!r} does not exist"
    return SqlError(msg, span=span, text=text, hint=nearest(name.strip(), _KNOWN), sqlstate="42704")


def is_map(type_: str) -> bool:
    """Whether a DuckDB type is a MAP, and no list of maps."""
    return type_.startswith("MAP(") and type_.endswith(")")


def is_struct(type_: str) -> bool:
    """Whether a DuckDB type is a STRUCT, and no list of such."""
    return type_.startswith("STRUCT(") and type_.endswith(")")


def collation_problem(name: str, type_: str) -> tuple[str, str, str] | None:
    """Return why a value of DuckDB type `type_` cannot have the collation `name`: message, hint, SQLSTATE.

    Text is compared by its bytes, which is what ``"C"`` and ``"POSIX"`` mean; there is no other.
    """
    if name not in ("C", "POSIX", "default"):
        return f"collation {name!r} does not exist", '"C" and "POSIX" are there, in double quotes', "42704"
    if type_.rstrip("[]") not in ("VARCHAR", "NULL", "STRING_LITERAL"):
        return f"COLLATE is for text, this is {type_}", "leave COLLATE out", "42804"
    return None


def check_column_type(type_: str, name: str, span: Span | None = None, text: str | None = None) -> None:
    """Raise SqlError (0A000) if a column of DuckDB type `type_` cannot be carried between tasks."""
    try:
        arrow_type(type_)
    except SqlError as error:
        msg = f"column {name!r} has type {type_}, which is not supported"
        raise SqlError(msg, span=span, text=text, hint="cast it to another type", sqlstate="0A000") from error
