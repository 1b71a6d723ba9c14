"""PostgreSQL's scalar functions as DuckDB computes them; which functions a streaming query may not call."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence

import sqlglot
from sqlglot import exp

from sql_frontend.clock import CLOCK_HINT
from sql_frontend.cursor import nearest
from sql_frontend.duck import functions as duckdb_functions
from sql_frontend.origin import Origin
from sql_frontend.pg_functions import TEMPLATES
from sql_frontend.time_formats import strftime_format

_PLACE = re.compile(r"p\d")
TypeOf = Callable[[exp.Expression], str]

_RENAMED = {
    "btrim": "trim",
    "jsonb_array_length": "json_array_length",
    "octet_length": "strlen",
    "jsonb_extract_path": "json_extract_path",
    "jsonb_extract_path_text": "json_extract_path_text",
    "ceiling": "ceil",
    "array_cat": "list_concat",
}
# An argument outside a function's domain is an error to PostgreSQL, so NULL in a view; DuckDB says inf or nan.
_TEMPLATES = {
    ("ln", 1): "LN(CASE WHEN p1 > 0 THEN p1 END)",
    ("log", 1): "LOG10(CASE WHEN p1 > 0 THEN p1 END)",
    ("log10", 1): "LOG10(CASE WHEN p1 > 0 THEN p1 END)",
    ("sqrt", 1): "SQRT(CASE WHEN p1 >= 0 THEN p1 END)",
    ("lpad", 2): "LPAD(p1, p2, ' ')",
    ("rpad", 2): "RPAD(p1, p2, ' ')",
    ("div", 2): "TRUNC(p1 / NULLIF(p2, 0))",
    ("json_extract_path", 2): "JSON_EXTRACT(p1, p2)",
    ("json_extract_path_text", 2): "JSON_EXTRACT_STRING(p1, p2)",
}
_CLOCKS = frozenset(
    [
        "now",
        "proctime",
        "current_timestamp",
        "current_date",
        "current_time",
        "localtimestamp",
        "localtime",
        "clock_timestamp",
        "statement_timestamp",
        "transaction_timestamp",
        "today",
        "get_current_timestamp",
        "get_current_time",
    ]
)
_HIDDEN = frozenset(
    [
        "current_setting",
        "getenv",
        "getvariable",
        "current_database",
        "current_schema",
        "current_schemas",
        "current_user",
        "user",
        "session_user",
        "current_role",
        "version",
        "in_search_path",
        "vector_type",
        "stats",
        "sleep_ms",
        "write_log",
        "error",
    ]
)
_AGGREGATES = frozenset(["jsonb_agg", "json_agg", "jsonb_object_agg", "xmlagg", "percentile_cont", "percentile_disc"])
_AGGREGATE_HINT = "count, sum, min, max and avg work, each with DISTINCT and FILTER"


def check_callable(call: exp.Anonymous, origin: Origin) -> None:
    """Raise SqlError (0A000) for a clock or an aggregate that is not there, before its arguments are looked at."""
    name = call.name.lower()
    if name in _CLOCKS:
        raise origin.unsupported(f"{name}()", call, hint=CLOCK_HINT)
    if name in ("all", "some"):
        raise origin.unsupported(name.upper(), call, hint="value = ANY(array) works")
    if name in _AGGREGATES or duckdb_functions().get(name, ("", True))[0] == "aggregate":
        raise origin.unsupported(f"aggregate {name!r}", call, hint=_AGGREGATE_HINT)


def translate(call: exp.Anonymous, args: Sequence[exp.Expression], origin: Origin, type_of: TypeOf) -> exp.Expression:
    """Return DuckDB's expression of a function call whose arguments are resolved.

    Raises
    ------
    SqlError
        42883 no such function; 0A000 a table or window function, or one whose answer depends on
        anything but its arguments.
    """
    name = call.name.lower()
    if name in ("to_char", "to_timestamp", "to_date"):
        special = _time_function(name, call, args, origin, type_of)
        if special is not None:
            return special
    if name == "round" and len(args) == 1 and type_of(args[0]) in ("DOUBLE", "FLOAT"):
        # PostgreSQL rounds halves of double precision to even, of numeric away from zero
        return function("round_even", args[0], exp.Literal.number(0), like=call)
    if name in ("substr", "substring") and len(args) in (2, 3):
        return substring(args[0], args[1], args[2] if len(args) == 3 else None, like=call)
    if name in ("length", "octet_length") and len(args) == 1 and type_of(args[0]) == "BLOB":
        return function("octet_length", args[0], like=call)
    if name == "mod" and len(args) == 2:
        return exp.Mod(this=exp.paren(args[0]), expression=exp.paren(non_zero(args[1])))
    name = _RENAMED.get(name, name)
    template = _TEMPLATES.get((name, len(args))) or TEMPLATES.get((name, len(args)))
    if template is not None:
        return _filled(template, args)
    known = duckdb_functions()
    if name not in known:
        raise origin.error(f"function {name!r} does not exist", call, hint=nearest(name, known), sqlstate="42883")
    kind, pure = known[name]
    if kind not in ("scalar", "macro"):
        raise origin.unsupported(f"{kind} function {name!r}", call)
    if not pure or name in _HIDDEN or (name == "age" and len(args) == 1):  # age(t) counts from today
        hint = "a view is a function of its rows: the same rows must give the same answer"
        raise origin.unsupported(f"function {name!r}", call, hint=hint)
    return function(name, *args, like=call)


def function(name: str, *args: exp.Expression, like: exp.Expr | None = None) -> exp.Anonymous:
    """Return a call that sqlglot renders as it stands; `like` lends its place in the text."""
    call = exp.Anonymous(this=name, expressions=list(args))
    if like is not None and like.meta_get("start") is not None:
        call.meta.update(like.meta)
    return call


def non_zero(divisor: exp.Expression) -> exp.Expression:
    """Return `divisor` with NULL for zero: dividing by it is then NULL too, and no error for the whole batch."""
    bare = divisor.unnest()
    if isinstance(bare, exp.Literal) and not bare.is_string and float(bare.name) != 0:
        return divisor
    return exp.Nullif(this=divisor, expression=exp.Literal.number(0))


def substring(
    text: exp.Expression, start: exp.Expression, length: exp.Expression | None, *, like: exp.Expr
) -> exp.Expression:
    """PostgreSQL counts places before the first as there but empty, DuckDB from the end."""
    if isinstance(start, exp.Literal) and int(start.name) >= 1:
        return function("substring", text, start, *([length] if length is not None else []), like=like)
    if length is None:
        return _filled("SUBSTRING(p1, CASE WHEN p2 < 1 THEN 1 ELSE p2 END)", [text, start])
    # GREATEST leaves out NULL, and of NULL a part is NULL
    first = "CASE WHEN p2 < 1 THEN 1 ELSE p2 END"
    count = "CASE WHEN p2 >= 1 THEN p3 WHEN p2 + p3 < 1 THEN 0 ELSE p2 + p3 - 1 END"
    return _filled(f"SUBSTRING(p1, {first}, {count})", [text, start, length])


def _time_function(
    name: str, call: exp.Anonymous, args: Sequence[exp.Expression], origin: Origin, type_of: TypeOf
) -> exp.Expression | None:
    if len(args) == 1 and name == "to_timestamp":
        return _filled("TRY_CAST(p1 AS TIMESTAMP)", args) if type_of(args[0]) == "VARCHAR" else None
    if len(args) != 2:
        raise origin.error(f"function {name!r} takes a value and a format", call, sqlstate="42883")
    pattern = args[1]
    if not isinstance(pattern, exp.Literal) or not pattern.is_string:
        raise origin.unsupported(f"{name} with a format that is not a string", call)
    strftime = strftime_format(pattern.name)
    if strftime is None:
        hint = "patterns: YYYY MM DD HH24 HH12 MI SS MS US AM DDD IW Mon Dy FMMonth FMDay"
        raise origin.unsupported(f"the format {pattern.name!r}", call, hint=hint)
    quoted = exp.Literal.string(strftime)
    if name == "to_char":
        type_ = type_of(args[0])
        if not type_.startswith(("TIMESTAMP", "DATE")):
            raise origin.unsupported(f"to_char of {type_}", call, hint="cast the value to VARCHAR")
        return function("strftime", args[0], quoted, like=call)
    parsed = function("try_strptime", args[0], quoted, like=call)
    if name == "to_date":
        return exp.Cast(this=parsed, to=exp.DataType.build("DATE"))
    return exp.AtTimeZone(this=parsed, zone=exp.Literal.string("UTC"))


@functools.cache
def _template(sql: str) -> exp.Expr:
    return sqlglot.parse_one(sql, read="duckdb")


def _filled(template: str, args: Sequence[exp.Expression]) -> exp.Expression:
    tree = _template(template).copy()
    for place in [c for c in tree.find_all(exp.Column) if _PLACE.fullmatch(c.name)]:
        place.replace(exp.paren(args[int(place.name.removeprefix("p")) - 1].copy()))
    return tree  # type: ignore[return-value]
