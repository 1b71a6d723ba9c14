"""generate_series and range as lists: of whole numbers, NUMERIC and times."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlglot import exp

from planner.numeric import digits, is_decimal
from sql_frontend.duck import constant
from sql_frontend.templates import filled

TypeOf = Callable[[exp.Expression], str]
_DAY_US = 86_400_000_000
_MONTH_US = 2_629_746_000_000
"""A month of the Gregorian calendar on average, 30.436875 days."""
_MONTHS = "(datepart('year', p3) * 12 + datepart('month', p3))"
_DAYS = "datepart('day', p3)"
_CLOCK = "(datepart('hour', p3) * 3600000000 + datepart('minute', p3) * 60000000 + datepart('microsecond', p3))"
_MIXED = f"greatest({_MONTHS}, {_DAYS}, {_CLOCK}) > 0 AND least({_MONTHS}, {_DAYS}, {_CLOCK}) < 0"
# months are at most 3 days off their average, a day of a time zone 2 hours
_MIDDLE = f"({_MONTHS} * {_MONTH_US} + {_DAYS} * {_DAY_US} + {_CLOCK})"
_SLACK = f"(CASE WHEN {_MONTHS} = 0 THEN 0 ELSE {3 * _DAY_US} END + CASE WHEN {_DAYS} = 0 THEN 0 ELSE 7200000000 END)"


def series(name: str, args: Sequence[exp.Expression], type_of: TypeOf) -> exp.Expression:
    """Return the list of ``name(from, to [, step])``; a step of zero is an error.

    NUMERIC goes by whole steps. An interval with one part above zero and another below (``1 month - 60 days``) is added
    again and again, as in PostgreSQL, each time to what the last one gave; one that goes now forwards, now backwards,
    is an error.
    """
    types = [type_of(a) for a in args]
    if len(args) == 3 and types[0].startswith(("TIMESTAMP", "DATE")) and isinstance(args[2], exp.Literal):
        # a string without a type is an interval here
        args = [*args[:2], exp.Cast(this=args[2], to=exp.DataType(this=exp.DType.USERDEFINED, kind="INTERVAL"))]
        types[2] = "INTERVAL"
    zero = "CASE WHEN {0} = 0 THEN CAST(error('step size cannot be zero') AS BIGINT) ELSE {0} END"
    if any(is_decimal(t) for t in types):
        step = zero.format("p3").replace("BIGINT", "DECIMAL(38,10)") if len(args) == 3 else "1"
        count = f"CAST(floor(CAST(p2 - p1 AS DOUBLE) / CAST({step} AS DOUBLE)) AS BIGINT)"
        if name == "range":
            count = f"CAST(ceil(CAST(p2 - p1 AS DOUBLE) / CAST({step} AS DOUBLE)) AS BIGINT) - 1"
        return filled(f"list_transform(generate_series(0, {count}), LAMBDA i: p1 + i * {step})", args)
    if len(args) == 3 and all(digits(t) is not None for t in types):
        return filled(f"{name}(p1, p2, {zero.format('p3')})", args)
    if len(args) == 3 and types[2] == "INTERVAL":
        return _times(name, args, types)
    return exp.Anonymous(this=name, expressions=list(args))


def _times(name: str, args: Sequence[exp.Expression], types: Sequence[str]) -> exp.Expression:
    plain = exp.Anonymous(this=name, expressions=list(args))
    step = args[2]
    if not any(step.find_all(exp.Column)) and constant(filled(_MIXED, [step] * 3).sql("duckdb")) is False:
        return plain
    last, ends = "list_extract(a, len(a))", "" if name == "range" else "="
    going = f"CASE WHEN {_MIDDLE} > 0 THEN {last} + p3 <{ends} p2 ELSE {last} + p3 >{ends} p2 END"
    begins = f"CASE WHEN {_MIDDLE} > 0 THEN p1 <{ends} p2 ELSE p1 >{ends} p2 END"
    most = f"abs(epoch_us(p2) - epoch_us(p1)) // (abs({_MIDDLE}) - {_SLACK}) + 1"
    wanders = "CAST(error('a step that goes now forwards, now backwards') AS BIGINT)"
    steps = f"CASE WHEN NOT ({begins}) THEN 0 WHEN abs({_MIDDLE}) <= {_SLACK} THEN {wanders} ELSE {most} END"
    times = f"range(CAST({steps} AS BIGINT))"
    added = f"list_reduce({times}, LAMBDA a, i: CASE WHEN {going} THEN list_append(a, {last} + p3) ELSE a END, [p1])"
    first = f"CASE WHEN {begins} THEN {added} ELSE list_slice([p1], 2, 1) END"
    zoned = "TIMESTAMP WITH TIME ZONE"
    kind = zoned if zoned in types[:2] else "TIMESTAMP"
    ends_as_times = [exp.Cast(this=a, to=exp.DataType(this=exp.DType.USERDEFINED, kind=kind)) for a in args[:2]]
    return filled(f"CASE WHEN {_MIXED} THEN {first} ELSE p4 END", [*ends_as_times, step, plain])
