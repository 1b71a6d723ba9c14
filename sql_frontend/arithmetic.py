"""``+ - * / %`` by the types of their sides: times and the calendar, JSON, strings that have no type yet."""

from __future__ import annotations

import re
from collections.abc import Callable

from sqlglot import exp

from planner.numeric import digits, is_decimal
from sql_frontend.duck import constant
from sql_frontend.numeric import divided, multiplied
from sql_frontend.templates import filled

TypeOf = Callable[[exp.Expression], str]
ARITHMETIC = (exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod)
_NUMBER = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)\s*\Z")
_TIMES = ("DATE", "TIME", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE")


def asked_for(node: exp.Expr, other: str, text: str, *, on_left: bool) -> str | None:
    """Return the type that a string without one has beside a value of type `other`.

    As in PostgreSQL that is the other side's where such an operator is there. "" is the number that it spells, None
    leaves it to DuckDB.
    """
    if is_decimal(other):
        return "" if _NUMBER.match(text) else other
    if digits(other) is not None or other in ("FLOAT", "DOUBLE"):
        return "INTEGER" if other == "INTEGER_LITERAL" else other
    if other == "INTERVAL":
        if isinstance(node, (exp.Mul, exp.Div)):
            return "DOUBLE"
        return None if on_left else "INTERVAL"
    if other in _TIMES and isinstance(node, exp.Sub):
        return other
    return None


def computed(
    node: exp.Expr, left: exp.Expression, right: exp.Expression, type_of: TypeOf, *, once: bool
) -> exp.Expression:
    """Return the operator of `node` between two resolved sides."""
    if isinstance(node, exp.Div):
        return divided(left, right, type_of)
    if isinstance(node, exp.Mul):
        return multiplied(left, right, type_of)
    if isinstance(node, exp.Sub):
        return subtracted(left, right, type_of, once=once)
    if isinstance(node, exp.Add):
        return _added(left, right, type_of, once=once)
    return exp.Mod(this=left, expression=right)


def _added(left: exp.Expression, right: exp.Expression, type_of: TypeOf, *, once: bool) -> exp.Expression:
    types = (type_of(left), type_of(right)) if once else None
    if types == ("TIMESTAMP WITH TIME ZONE", "INTERVAL"):
        return _shifted(left, right, "+")
    if types == ("INTERVAL", "TIMESTAMP WITH TIME ZONE"):
        return _shifted(right, left, "+")
    return exp.Add(this=left, expression=right)


_MONTHS = "CAST(datepart('year', p2) * 12 + datepart('month', p2) AS INTEGER)"
_DAYS = "CAST(datepart('day', p2) AS INTEGER)"
_CLOCK = (
    "to_microseconds(datepart('hour', p2) * 3600000000 + datepart('minute', p2) * 60000000 "
    "+ datepart('microsecond', p2))"
)


def _shifted(time: exp.Expression, interval: exp.Expression, sign: str) -> exp.Expression:
    """Months and days by the calendar of the session's time zone, then hours by the clock, which is never set."""
    bare = interval.unnest()
    if isinstance(bare, exp.Interval) and constant(
        filled(f"{_MONTHS} = 0 AND {_DAYS} = 0", [bare, bare]).sql("duckdb")  # only p2 is read
    ):
        return exp.Add(this=time, expression=interval) if sign == "+" else exp.Sub(this=time, expression=interval)
    # a time that the clocks show twice is the second of the two, as where a TIMESTAMP is cast
    moved = f"CAST(CAST(p1 AS TIMESTAMP) {sign} (to_months({_MONTHS}) + to_days({_DAYS})) AS TIMESTAMP WITH TIME ZONE)"
    return filled(
        f"(CASE WHEN {_MONTHS} = 0 AND {_DAYS} = 0 THEN p1 ELSE {moved} END) {sign} {_CLOCK}", [time, interval]
    )


def subtracted(left: exp.Expression, right: exp.Expression, type_of: TypeOf, *, once: bool) -> exp.Expression:
    """Return ``left - right``; of JSON, `left` without the key, the keys or the element `right`."""
    plain = exp.Sub(this=left, expression=right)
    kind, of = type_of(right), type_of(left)
    if of == kind == "TIMESTAMP WITH TIME ZONE":
        # the time between two moments, whatever the clocks did
        return filled("timezone('UTC', p1) - timezone('UTC', p2)", [left, right])
    if once and of == "TIMESTAMP WITH TIME ZONE" and kind == "INTERVAL":
        return _shifted(left, right, "-")
    if of == kind == "TIME":
        return filled("to_microseconds(epoch_us(p1) - epoch_us(p2))", [left, right])
    if of != "JSON":
        return plain
    if kind == "VARCHAR":
        return filled(
            "CASE json_type(p1) WHEN 'OBJECT' THEN CAST(to_json(map_from_entries(list_transform(list_filter("
            "json_keys(p1), LAMBDA k: k <> p2), LAMBDA k: struct_pack(k := k, v := "
            "json_extract(p1, concat('$.\"', k, '\"')))))) "
            "AS JSON) WHEN 'ARRAY' THEN CAST(to_json(list_filter(CAST(p1 AS JSON[]), "
            "LAMBDA k: json_extract_string(k, '$') IS DISTINCT FROM p2)) AS JSON) END",
            [left, right],
        )
    if kind.startswith(("INT", "BIGINT", "SMALLINT")):
        return filled(
            "CAST(to_json(list_filter(CAST(p1 AS JSON[]), LAMBDA k, i: i <> CASE WHEN p2 < 0 THEN "
            "json_array_length(p1) + p2 + 1 ELSE p2 + 1 END)) AS JSON)",
            [left, right],
        )
    return plain
