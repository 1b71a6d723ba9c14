"""PostgreSQL's scalar functions as DuckDB computes them; which functions a streaming query may not call."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from sqlglot import exp

from planner.numeric import digits
from sql_frontend import json_path
from sql_frontend.clock import CLOCK_HINT
from sql_frontend.cursor import nearest
from sql_frontend.duck import functions as duckdb_functions
from sql_frontend.operators import powered
from sql_frontend.origin import Origin
from sql_frontend.pg_functions import TEMPLATES
from sql_frontend.pg_library import LIBRARY, LOCALLY_TRUNCATED, RENAMED
from sql_frontend.series import series
from sql_frontend.templates import filled
from sql_frontend.time_formats import number_sql, shown_sql, strftime_format
from sql_frontend.types import is_map

_NEGATIVE = "negative substring length not allowed"
TypeOf = Callable[[exp.Expression], str]

_RENAMED = {**RENAMED, "octet_length": "strlen"}
_TEMPLATES = {
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
    if name in _CLOCKS and not origin.once:
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
    if name in ("array_join", "array_to_string") and args and isinstance(args[0], exp.Null):
        msg = f"could not determine polymorphic type: NULL does not tell which array {name} is given"
        raise origin.error(msg, call, hint="cast it: NULL::TEXT[]", sqlstate="42P38")
    if name in json_path.FUNCTIONS:
        return json_path.translate(name, call, args, origin)
    if name in ("num_nulls", "num_nonnulls") and args:
        test = "IS NULL" if name == "num_nulls" else "IS NOT NULL"
        return filled(" + ".join(f"CAST(p{i + 1} {test} AS INTEGER)" for i in range(len(args))), args)
    if name.removesuffix("_text") in ("jsonb_extract_path", "json_extract_path") and len(args) > 1:
        keys = [a.name for a in args[1:] if isinstance(a, exp.Literal) and a.is_string]
        if len(keys) == len(args) - 1:
            return json_path.by_keys("json_extract_string" if name.endswith("_text") else "json_extract", args[0], keys)
    if name == "make_interval":
        return _make_interval(call, args, origin)
    if name in ("to_char", "to_timestamp", "to_date"):
        special = _time_function(name, call, args, origin, type_of)
        if special is not None:
            return special
    if name == "round" and len(args) == 1 and type_of(args[0]) in ("DOUBLE", "FLOAT"):
        # PostgreSQL rounds halves of double precision to even, of numeric away from zero
        return function("round_even", args[0], exp.Literal.number(0), like=call)
    if name in ("substr", "substring") and len(args) in (2, 3):
        if type_of(args[1]) == "VARCHAR":
            return filled(
                "CASE WHEN regexp_matches(p1, p2) THEN CASE WHEN regexp_matches(p2, '(^|[^\\\\])\\([^?]') "
                "THEN regexp_extract(p1, p2, 1) ELSE regexp_extract(p1, p2) END END",
                args[:2],
            )
        length = args[2] if len(args) == 3 else None
        return substring(args[0], args[1], length, like=call, binary=type_of(args[0]) == "BLOB")
    if name in ("length", "octet_length", "bit_length") and len(args) == 1 and type_of(args[0]) == "BLOB":
        size = function("octet_length", args[0], like=call)
        return exp.Mul(this=size, expression=exp.Literal.number(8)) if name == "bit_length" else size
    if name == "split_part" and len(args) == 3 and isinstance(args[2], exp.Literal) and args[2].name != "0":
        return function(name, *args, like=call)
    if name in ("cardinality", "len", "length") and len(args) == 1 and is_map(type_of(args[0])):
        return filled("CAST(cardinality(p1) AS BIGINT)", args)
    if name == "date_part" and len(args) == 2 and isinstance(args[0], exp.Literal):
        return part_of(args[0].name.lower(), args[1])
    if name == "date_trunc" and len(args) == 2 and origin.once and type_of(args[1]) == "TIMESTAMP WITH TIME ZONE":
        return filled(LOCALLY_TRUNCATED, args)
    if name in ("pow", "power") and len(args) == 2:
        return powered([_number(a) for a in args], type_of)
    if name in ("range", "generate_series") and len(args) in (2, 3):
        return series(name, args, type_of)
    if name == "mod" and len(args) == 2:
        return exp.Mod(this=exp.paren(args[0]), expression=exp.paren(args[1]))
    if origin.once and name in ("statement_timestamp", "clock_timestamp", "proctime"):
        name = "now" if name != "clock_timestamp" else "get_current_timestamp"
    name = _RENAMED.get(name, name)
    key = (name, len(args))
    if name == "regexp_match" and len(args) in (2, 3) and isinstance(args[1], exp.Literal):
        return _regexp_match(args, groups(args[1].name))
    template = LIBRARY.get(key) or _TEMPLATES.get(key) or TEMPLATES.get(key)
    if template is not None:
        return filled(template, args)
    known = duckdb_functions()
    if name not in known:
        raise origin.error(f"function {name!r} does not exist", call, hint=nearest(name, known), sqlstate="42883")
    kind, pure = known[name]
    if origin.once and kind in ("scalar", "macro"):
        return function(name, *args, like=call)
    if kind not in ("scalar", "macro"):
        raise origin.unsupported(f"{kind} function {name!r}", call)
    if not pure or name in _HIDDEN or (name == "age" and len(args) == 1):  # age(t) counts from today
        hint = "a view is a function of its rows: the same rows must give the same answer"
        raise origin.unsupported(f"function {name!r}", call, hint=hint)
    return function(name, *args, like=call)


_INTERVAL_PARTS = ("years", "months", "weeks", "days", "hours", "mins", "secs")
_INTERVAL_SQL = {
    "years": "to_years({})",
    "months": "to_months({})",
    "weeks": "to_weeks({})",
    "days": "to_days({})",
    "hours": "to_hours({})",
    "mins": "to_minutes({})",
    "secs": "to_microseconds(CAST({} * 1000000 AS BIGINT))",
}


def _make_interval(call: exp.Anonymous, args: Sequence[exp.Expression], origin: Origin) -> exp.Expression:
    """``make_interval(years, months, ...)``, by place or by name (``days => 3``)."""
    values: list[exp.Expression] = []
    parts = []
    for i, arg in enumerate(args):
        name = _INTERVAL_PARTS[i] if i < len(_INTERVAL_PARTS) else ""
        if isinstance(arg, exp.Kwarg):
            name, arg = arg.this.name.lower(), arg.expression
        if name not in _INTERVAL_SQL:
            raise origin.error("make_interval does not take this argument", call, sqlstate="42883")
        values.append(arg)
        parts.append(_INTERVAL_SQL[name].format(f"p{len(values)}"))
    return filled(" + ".join(parts) or "INTERVAL '0 seconds'", values)


def matches(call: exp.Expr, args: Sequence[exp.Expression]) -> exp.Expression:
    """Return the rows of regexp_matches as a list: what each match has between parentheses, or the whole of it."""
    flags = call.expressions[2].name if len(args) > 2 and isinstance(call.expressions[2], exp.Literal) else ""
    letters = flags.replace("g", "")
    pattern = f"('(?{letters})' || p2)" if letters else "p2"
    captured = groups(args[1].name) if isinstance(args[1], exp.Literal) else 0
    if captured > 1:
        lists = [f"regexp_extract_all(p1, {pattern}, {n + 1})" for n in range(captured)]
        each = ", ".join(f"m[{n + 1}]" for n in range(captured))
        found = f"list_zip({', '.join(lists)})"
        found = found if "g" in flags else f"list_slice({found}, 1, 1)"
        return filled(f"list_transform({found}, LAMBDA m: [{each}])", args[:2])
    group = f"CASE WHEN regexp_matches({pattern}, '(^|[^\\\\])\\([^?]') THEN 1 ELSE 0 END"
    every = f"regexp_extract_all(p1, {pattern}, {group})"
    found = every if "g" in flags else f"list_slice({every}, 1, 1)"
    return filled(f"list_transform({found}, LAMBDA m: [m])", args[:2])


def _number(value: exp.Expression) -> exp.Expression:
    """A string without a type is a number where one is needed."""
    is_text = isinstance(value, exp.Literal) and value.is_string
    return exp.Cast(this=value, to=exp.DataType.build("DOUBLE")) if is_text else value


_OF_MICROSECONDS = {
    **dict.fromkeys(("second", "seconds"), "/ 1000000.0"),
    **dict.fromkeys(("millisecond", "milliseconds"), "/ 1000.0"),
    **dict.fromkeys(("nanosecond", "nanoseconds"), "* 1000"),
}


def part_of(part: str, value: exp.Expression) -> exp.Expression:
    """Return a part of a time; PostgreSQL's seconds and milliseconds have a fraction."""
    behind = _OF_MICROSECONDS.get(part)
    if behind is not None:
        return filled(f"(date_part('microseconds', p1) {behind})", [value])
    return function("date_part", exp.Literal.string(part), value)


def function(name: str, *args: exp.Expression, like: exp.Expr | None = None) -> exp.Anonymous:
    """Return a call that sqlglot renders as it stands; `like` lends its place in the text."""
    call = exp.Anonymous(this=name, expressions=list(args))
    if like is not None and like.meta_get("start") is not None:
        call.meta.update(like.meta)
    return call


def substring(
    text: exp.Expression,
    start: exp.Expression,
    length: exp.Expression | None,
    *,
    like: exp.Expr,
    binary: bool = False,
) -> exp.Expression:
    """PostgreSQL counts places before the first as there but empty, DuckDB from the end."""
    if binary:
        first = "CASE WHEN p2 < 1 THEN 1 ELSE p2 END"
        if length is None:
            return filled(f"unhex(substring(hex(p1), ({first} - 1) * 2 + 1))", [text, start])
        count = (
            f"CASE WHEN p3 < 0 THEN CAST(error('{_NEGATIVE}') AS BIGINT) WHEN p2 >= 1 THEN p3 WHEN "
            f"p2 + p3 < 1 THEN 0 ELSE p2 + p3 - 1 END"
        )
        return filled(f"unhex(substring(hex(p1), ({first} - 1) * 2 + 1, ({count}) * 2))", [text, start, length])
    if isinstance(start, exp.Literal) and int(start.name) >= 1 and _not_negative(length):
        return function("substring", text, start, *([length] if length is not None else []), like=like)
    if length is None:
        return filled("SUBSTRING(p1, CASE WHEN p2 < 1 THEN 1 ELSE p2 END)", [text, start])
    # GREATEST leaves out NULL, and of NULL a part is NULL
    first = "CASE WHEN p2 < 1 THEN 1 ELSE p2 END"
    count = (
        f"CASE WHEN p3 < 0 THEN CAST(error('{_NEGATIVE}') AS BIGINT) WHEN p2 >= 1 THEN p3 "
        "WHEN CAST(p2 AS HUGEINT) + p3 < 1 THEN 0 ELSE CAST(CAST(p2 AS HUGEINT) + p3 - 1 AS BIGINT) END"
    )
    return filled(f"SUBSTRING(p1, {first}, {count})", [text, start, length])


_GROUP = re.compile(r"\\.|\[\^?\]?(?:\\.|\[:\w+:\]|[^\]\\])*\]|(?P<group>\((?!\?)|\(\?P?<\w)")


def groups(pattern: str) -> int:
    """Return how many groups of a regular expression are captured."""
    return sum(1 for m in _GROUP.finditer(pattern) if m["group"])


def _regexp_match(args: Sequence[exp.Expression], captured: int) -> exp.Expression:
    """Return what the first match has in each of its groups, or the whole of it; NULL without a match."""
    pattern = "p2" if len(args) == 2 else "'(?' || p3 || ')' || p2"
    parts = [f"regexp_extract(p1, {pattern}, {n})" for n in (range(1, captured + 1) if captured else (0,))]
    return filled(f"CASE WHEN regexp_matches(p1, {pattern}) THEN [{', '.join(parts)}] END", args)


def _not_negative(length: exp.Expression | None) -> bool:
    return length is None or isinstance(length, exp.Literal)


def _to_char(
    call: exp.Anonymous, value: exp.Expression, pattern: exp.Literal, origin: Origin, type_: str
) -> exp.Expression:
    if type_.startswith(("TIMESTAMP", "DATE")):
        sql = shown_sql(pattern.name)
        hint = "patterns: YYYY MM DD HH24 HH12 MI SS MS US NS AM DDD D Q WW IYYY IW Month Mon Day Dy TZ"
    elif digits(type_) is not None or type_ in ("DOUBLE", "FLOAT"):
        sql = number_sql(pattern.name, exact=type_ not in ("DOUBLE", "FLOAT"))
        hint = "patterns: 9 0 , . FM"
    else:
        raise origin.unsupported(f"to_char of {type_}", call, hint="cast the value to VARCHAR")
    if sql is None:
        # no SQLSTATE of what DuckDB may know: it has no to_char
        raise origin.error(f"the format {pattern.name!r} is not supported", call, hint=hint, sqlstate="22023")
    return filled(sql, [value])


def _time_function(
    name: str, call: exp.Anonymous, args: Sequence[exp.Expression], origin: Origin, type_of: TypeOf
) -> exp.Expression | None:
    if len(args) == 1 and name == "to_timestamp":
        return filled("TRY_CAST(p1 AS TIMESTAMP)", args) if type_of(args[0]) == "VARCHAR" else None
    if len(args) != 2:
        raise origin.error(f"function {name!r} takes a value and a format", call, sqlstate="42883")
    pattern = args[1]
    if not isinstance(pattern, exp.Literal) or not pattern.is_string:
        raise origin.unsupported(f"{name} with a format that is not a string", call)
    if name == "to_char":
        return _to_char(call, args[0], pattern, origin, type_of(args[0]))
    strftime = strftime_format(pattern.name)
    if strftime is None:
        hint = "patterns: YYYY MM DD HH24 HH12 MI SS MS US AM DDD IW Mon Dy FMMonth FMDay"
        raise origin.unsupported(f"the format {pattern.name!r}", call, hint=hint)
    quoted = exp.Literal.string(strftime)
    parsed = function("strptime", args[0], quoted, like=call)
    if name == "to_date":
        return exp.Cast(this=parsed, to=exp.DataType.build("DATE"))
    return exp.AtTimeZone(this=parsed, zone=exp.Literal.string("UTC"))
