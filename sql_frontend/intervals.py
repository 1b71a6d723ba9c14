"""INTERVAL constants as PostgreSQL writes them, and how intervals add up."""

from __future__ import annotations

import re

import duckdb
from sqlglot import exp

from sql_frontend.duck import constant, first_line
from sql_frontend.origin import Origin

INTERVAL_PARTS = (
    "date_part('year', p1) * 12 + date_part('month', p1)",
    "date_part('day', p1)",
    "date_part('hour', p1) * 3600000000 + date_part('minute', p1) * 60000000 + date_part('microsecond', p1)",
)
"""What intervals add up by, each on its own: months, days and microseconds."""
INTERVAL_OF_PARTS = (
    "to_months(CAST(p1 AS INTEGER)) + to_days(CAST(p2 AS INTEGER)) + to_microseconds(CAST(p3 AS BIGINT))"
)

_UNITS = ("DAY", "HOUR", "MINUTE", "SECOND")
_UNIT_US = {"DAY": 86_400_000_000, "HOUR": 3_600_000_000, "MINUTE": 60_000_000, "SECOND": 1_000_000}


def interval(node: exp.Interval, origin: Origin) -> exp.Expression:
    """Return the constant of ``INTERVAL '...' [unit [TO unit]]``; SqlError (22007) for what is none."""
    unit = node.args.get("unit")
    if not isinstance(node.this, exp.Literal):
        raise origin.unsupported("INTERVAL of anything but a string", node)
    if isinstance(unit, exp.IntervalSpan):
        micros = _span_microseconds(node.this.name, unit.this.name.upper(), unit.expression.name.upper())
        if micros is None:
            raise origin.error(f"cannot read the interval {node.this.name!r}", node, sqlstate="22007")
        return exp.Interval(this=exp.Literal.string(f"{micros} MICROSECONDS"))
    # in a string DuckDB takes every unit that PostgreSQL does, after it only whole words
    written = f"{node.this.name} {unit.name}" if unit else node.this.name
    made = exp.Interval(this=exp.Literal.string(written))
    try:
        constant(made.sql("duckdb"))
    except duckdb.Error as error:
        raise origin.error(first_line(error), node, sqlstate="22007") from error
    return made


def _span_microseconds(text: str, first: str, last: str) -> int | None:
    """Return the length of ``INTERVAL '20:10.5' MINUTE TO SECOND``, or None if it is not written like that."""
    if first not in _UNITS or last not in _UNITS or _UNITS.index(first) >= _UNITS.index(last):
        return None
    units = _UNITS[_UNITS.index(first) : _UNITS.index(last) + 1]
    stripped = text.strip()
    sign = -1 if stripped.startswith("-") else 1
    parts = re.split(r"[ :]+", stripped.lstrip("+-"))
    if len(parts) != len(units):
        return None
    total = 0
    for unit, part in zip(units, parts, strict=True):
        match = re.fullmatch(r"(\d+)(?:\.(\d{1,6}))?", part)
        if match is None or (match[2] and unit != "SECOND"):
            return None
        total += int(match[1]) * _UNIT_US[unit] + int((match[2] or "").ljust(6, "0") or 0)
    return sign * total
