"""Plans over a subquery's domain: put together with the rows it is read with, and replaced by those around it."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from planner.logical import AggCall, Join, JoinKind, LogicalNode, schema_of
from planner.tree import rebuild
from sql_frontend import build
from sql_frontend.origin import Origin
from sql_frontend.scope import Domain

_OF_NOTHING = {"count": "0", "approx_count_distinct": "0", "regr_count": "0", "entropy": "0.0"}
"""What aggregates say of no rows; the others say NULL."""


def of_nothing(function: str) -> exp.Expression:
    """Return what the aggregate `function` says of no rows."""
    value = _OF_NOTHING.get(function)
    return exp.Null() if value is None else exp.Literal.number(value)


def over_rows(
    inner: LogicalNode, domain: Domain | None, outer: LogicalNode, given: Sequence[exp.Expression], origin: Origin
) -> LogicalNode:
    """Return `inner` with the domain's leaf replaced by the different values of `given` over the rows `outer`."""
    if domain is None or not domain.columns:
        return inner
    values = list(zip(domain.fields, given, strict=False))
    rows = build.distinct(build.project(outer, values, origin), origin)
    leaf = domain.leaf
    return rebuild(inner, lambda node: rows if node == leaf else node)


def crossed(node: LogicalNode, domain: Domain) -> LogicalNode:
    """Return each row of `node` beside each row of the domain; the domain's fields stand last."""
    return Join(node, domain.leaf, (), ())


def completed(
    node: LogicalNode, domain: Domain, keys: Sequence[str], calls: Sequence[AggCall], origin: Origin
) -> LogicalNode:
    """Return aggregates by the domain's columns (`keys` of `node`) with a row for each of the domain.

    An aggregate without GROUP BY has a row where there is nothing to aggregate too.
    """
    taken = [f.name for f in schema_of(node)]
    marker = build.fresh("there", taken)
    apart = {k: build.fresh(f"{k}_of", taken) for k in keys}
    items = [(apart.get(f, f), build.column(f)) for f in taken]
    marked = build.project(node, [*items, (marker, exp.Boolean(this=True))], origin)
    pairs = [(build.column(f), apart[k]) for f, k in zip(domain.fields, keys, strict=True)]
    on = [exp.NullSafeEQ(this=a, expression=build.column(b)) for a, b in pairs]
    build.conjunction(schema_of(domain.leaf) + schema_of(marked), on, origin)
    fields = tuple(domain.fields)
    whole = Join(domain.leaf, marked, fields, tuple(b for _, b in pairs), kind=JoinKind.LEFT, null_safe=len(pairs))
    by_name = {c.name: c for c in calls}
    own = dict(zip(keys, fields, strict=True))
    made: list[tuple[str, exp.Expression]] = []
    for field in taken:
        value: exp.Expression = build.column(own.get(field, field))
        call = by_name.get(field)
        nothing = of_nothing(call.function) if call is not None else exp.Null()
        if call is not None and not isinstance(nothing, exp.Null):
            absent = exp.Is(this=build.column(marker), expression=exp.Null())
            value = exp.Case(ifs=[exp.If(this=absent, true=build.cast_to(nothing, call.type))], default=value)
        made.append((field, value))
    return build.project(whole, made, origin)
