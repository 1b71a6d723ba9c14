"""What stays true of rows on their way up a stateless chain: stream key, distribution, monotony."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

from planner.changelog import Monotone
from planner.distribution import AnyDistribution, Distribution, Hash, Single, renamed
from planner.expressions import fields_read, renamed_field
from planner.logical import Filter, LogicalNode, Project, Unnest, Window, WindowKind
from sabot.errors import PlanError

StreamKey: TypeAlias = tuple[str, ...] | None
"""Columns that identify a row; None where none are known, () where there is at most one row."""


def result_distribution(requires: Distribution, provided: Distribution, parallelism: int) -> Distribution:
    """Return how the rows of an operator lie whose output keeps the keys it is partitioned by."""
    if parallelism == 1:
        return Single()
    if isinstance(requires, Hash) and isinstance(provided, Hash):
        fitting = [keys for keys in provided.alternatives() if keys and set(keys) <= set(requires.keys)]
        if fitting:
            return Hash(fitting[0], tuple(fitting[1:]))
    if isinstance(requires, AnyDistribution):
        return provided
    return replace(requires, exact=False) if isinstance(requires, Hash) else requires


def carried(
    top: LogicalNode, boundary: LogicalNode, key: StreamKey, distribution: Distribution
) -> tuple[StreamKey, Distribution]:
    """Follow stream key and distribution of `boundary` up a stateless chain to `top`."""
    if top == boundary:
        return key, distribution
    match top:
        case Project(input=child, exprs=exprs):
            key, distribution = carried(child, boundary, key, distribution)
            names: dict[str, str] = {}
            for e in exprs:
                source = renamed_field(e.expr)
                if source is not None:
                    names.setdefault(source, e.name)
            kept = tuple(names[k] for k in key) if key is not None and all(k in names for k in key) else None
            return kept, renamed(distribution, names)
        case Window(input=child):
            key, distribution = carried(child, boundary, key, distribution)
            many = top.size_us > top.slide_us
            which = top.end_name if top.kind is WindowKind.CUMULATE else top.start_name
            return (*key, which) if key is not None and many else key, distribution
        case Unnest(input=child):
            return None, carried(child, boundary, key, distribution)[1]
        case Filter(input=child):
            return carried(child, boundary, key, distribution)
        case _:
            msg = f"{type(top).__name__!r} is not stateless"
            raise PlanError(msg)


def still_monotone(top: LogicalNode, boundary: LogicalNode, monotone: Monotone | None) -> Monotone | None:
    """Follow `monotone` of `boundary` up a stateless chain: a filter or window by what may change ends it."""
    if monotone is None or top == boundary:
        return monotone
    match top:
        case Project(input=child, exprs=exprs):
            below = still_monotone(child, boundary, monotone)
            names: dict[str, str] = {}
            for e in exprs:
                source = renamed_field(e.expr)
                if source is not None:
                    names.setdefault(source, e.name)
            return below.renamed(names) if below is not None else None
        case Filter(input=child, predicate=predicate):
            below = still_monotone(child, boundary, monotone)
            return below if below is not None and fields_read(predicate) <= below.fixed else None
        case _:
            return None


def only_renames(node: Project | Filter | Window | Unnest) -> bool:
    """Whether a node only gives fields other names."""
    return isinstance(node, Project) and all(renamed_field(e.expr) is not None for e in node.exprs)


def passed_fields(node: LogicalNode, boundary: LogicalNode) -> tuple[str, ...]:
    """Return the fields of `boundary` that a chain passes on as those of `node`, or nothing if it does more."""
    chain = []
    while node != boundary:
        if not isinstance(node, Project) or not only_renames(node):
            return ()
        chain.append(node)
        node = node.input
    fields = [e.name for e in chain[0].exprs] if chain else []
    for step in chain:
        by = {e.name: renamed_field(e.expr) or "" for e in step.exprs}
        fields = [by[f] for f in fields]
    return tuple(fields)


def is_identity(node: LogicalNode, boundary: LogicalNode) -> bool:
    """Whether the chain passes every field on under its own name."""
    while node != boundary:
        if not isinstance(node, Project) or any(renamed_field(e.expr) != e.name for e in node.exprs):
            return False
        node = node.input
    return True
