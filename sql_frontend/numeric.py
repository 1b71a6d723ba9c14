"""Products and quotients of NUMERIC, exact where DuckDB's own would overflow or go through DOUBLE."""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from planner.numeric import is_decimal, product_scales, quotient_sql, quotient_type
from sql_frontend.templates import filled

_MONTHS = "(datepart('year', p1) * 12 + datepart('month', p1))"
_DAYS = (
    f"(datepart('day', p1) / CAST(p2 AS DOUBLE) + ({_MONTHS} / CAST(p2 AS DOUBLE) - "
    f"trunc({_MONTHS} / CAST(p2 AS DOUBLE))) * 30)"
)
_CLOCK = "(datepart('hour', p1) * 3600000000 + datepart('minute', p1) * 60000000 + datepart('microsecond', p1))"
# what is left of a month is days, what is left of a day is hours
_INTERVAL = (
    f"to_months(CAST(trunc({_MONTHS} / CAST(p2 AS DOUBLE)) AS INTEGER)) + to_days(CAST(trunc({_DAYS}) AS INTEGER)) + "
    f"to_microseconds(CAST({_CLOCK} / CAST(p2 AS DOUBLE) + ({_DAYS} - trunc({_DAYS})) * 86400000000 AS BIGINT))"
)
TypeOf = Callable[[exp.Expression], str]


def divided(left: exp.Expression, right: exp.Expression, type_of: TypeOf) -> exp.Expression:
    """Return ``left / right``: whole numbers truncate, NUMERIC is exact, all else is DuckDB's own."""
    # neither `typed` nor `safe`: DuckDB's own division, which truncates integers (integer_division is on)
    plain = exp.Div(this=left, expression=right)
    left_type, right_type = type_of(left), type_of(right)
    if left_type == "INTERVAL":
        return filled(_INTERVAL, [left, right])
    if not (is_decimal(left_type) or is_decimal(right_type)) or quotient_type(left_type, right_type) is None:
        return plain
    return filled(quotient_sql("p1", left_type, "p2", right_type), [left, right])


def multiplied(left: exp.Expression, right: exp.Expression, type_of: TypeOf) -> exp.Expression:
    """Return ``left * right``, of NUMERIC in a type that holds it."""
    types = product_scales(type_of(left), type_of(right))
    if types is None:
        return exp.Mul(this=left, expression=right)
    wide = [
        exp.Cast(this=side, to=exp.DataType(this=exp.DType.USERDEFINED, kind=kind))
        for side, kind in zip((left, right), types, strict=True)
    ]
    return exp.Mul(this=wide[0], expression=wide[1])
