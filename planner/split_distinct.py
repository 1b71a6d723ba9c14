"""Aggregates over DISTINCT values in two levels, so that no row need be kept: values by group, then groups.

The first level knows which values of a group are there, for each FILTER over them; it says when a value comes
or goes. The second counts and adds what is said. Both are ordinary aggregates that merge partials, the first spread
by group and value, so that one great group is the work of all tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from sqlglot import exp

from planner.aggregates import FLOATING, TwoPhase, presence, sum_type, two_phase
from planner.expressions import column
from planner.logical import AggCall, Aggregate, Filter, schema_of
from planner.render import motion_type
from planner.task_spec import PartialColumn
from sabot.schema import quote


@dataclass(frozen=True)
class ValueLevel:
    """The calls over one argument: `values` has a row for each group and value, `groups` aggregates over these."""

    values: Aggregate
    value_phases: TwoPhase
    groups: Aggregate
    group_phases: TwoPhase


@dataclass(frozen=True)
class SplitDistinct:
    """An aggregate cut up: the calls over rows, and a level of values for each argument of DISTINCT.

    `partials` and `results` are of the whole; `row_phases` and each level's `group_phases` give all of the
    partials, neutral ones where they have nothing to say.
    """

    rows: Aggregate
    row_phases: TwoPhase
    levels: tuple[ValueLevel, ...]
    partials: tuple[PartialColumn, ...]
    results: tuple[str, ...]


def split_distinct(
    node: Aggregate, fits: Callable[[AggCall], bool], *, retracting: bool, prefix: str = "__"
) -> SplitDistinct | None:
    """Cut `node` up, or return None where a call neither `fits` (is mergeable over the rows) nor is over values."""
    types = {f.name: f.type for f in schema_of(node.input)}
    over_rows = tuple(c for c in node.calls if fits(c))
    over_values = [c for c in node.calls if not fits(c)]
    if not all(_over_value(c, types) for c in over_values):
        return None
    rows = replace(node, calls=over_rows, close_column=None)
    row_phases = two_phase(rows, retracting=retracting, rows=True)
    arguments = dict.fromkeys(c.argument for c in over_values if c.argument is not None)
    levels = [
        _level(node, argument, [c for c in over_values if c.argument == argument], f"__d{i}", retracting)
        for i, argument in enumerate(arguments)
    ]
    parts = [row_phases, *(level.group_phases for level in levels)]
    partials = tuple(p for part in parts for p in part.partials)
    of_call = dict(zip((c.name for c in over_rows), row_phases.results, strict=True))
    for level in levels:
        of_call |= dict(zip((c.name for c in level.groups.calls), level.group_phases.results, strict=True))
    whole = [_filled(part, partials) for part in parts]
    return SplitDistinct(
        rows,
        whole[0],
        tuple(replace(level, group_phases=part) for level, part in zip(levels, whole[1:], strict=True)),
        partials,
        tuple(of_call[c.name] for c in node.calls),
    )


def _over_value(call: AggCall, types: dict[str, str]) -> bool:
    if not call.distinct or call.argument is None or call.more or call.constants or call.order:
        return False
    if call.function == "count":
        return True
    argument_type = types[call.argument]
    return call.function in ("sum", "avg") and argument_type not in FLOATING and sum_type(argument_type) is not None


def _level(node: Aggregate, argument: str, calls: list[AggCall], prefix: str, retracting: bool) -> ValueLevel:
    filters = list(dict.fromkeys(c.filter for c in calls))
    flags = {f: f"{prefix}f{i}" for i, f in enumerate(filters)}
    present: exp.Expression = exp.Not(this=exp.Is(this=column(argument), expression=exp.Null()))
    asked = [column(f) for f in filters if f is not None]
    if len(asked) == len(filters):
        # a row that no FILTER takes is no row of any call
        some: exp.Expression = asked[0]
        for more in asked[1:]:
            some = exp.Or(this=some, expression=more)
        present = exp.And(this=present, expression=exp.Paren(this=some))
    keys = tuple(dict.fromkeys((*node.keys, argument)))
    there = tuple(AggCall(flags[f], "bool_or", f, "BOOLEAN") for f in filters)
    values = Aggregate(Filter(node.input, present), keys, there)
    taken = tuple(
        AggCall(c.name, c.function, None if c.function == "count" else argument, c.type, filter=flags[c.filter])
        for c in calls
    )
    groups = Aggregate(values, node.keys, taken)
    phases = two_phase(groups, retracting=True, prefix=prefix, rows=False)
    return ValueLevel(values, presence(there, retracting=retracting), groups, phases)


def _filled(part: TwoPhase, partials: tuple[PartialColumn, ...]) -> TwoPhase:
    """Return `part` with all `partials`, those it has not as what changes nothing when merged."""
    own = dict(zip((p.name for p in part.partials), part.items, strict=True))
    items = []
    for p in partials:
        nothing = "0" if p.merge == "sum" else "NULL"
        items.append(own.get(p.name, f"CAST({nothing} AS {motion_type(p.type)}) AS {quote(p.name)}"))
    return replace(part, items=tuple(items), partials=partials)
