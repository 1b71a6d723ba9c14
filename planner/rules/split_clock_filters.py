"""Puts conditions with now() into filters of their own, above the others: these keep rows as time passes."""

from __future__ import annotations

from planner.expressions import conjunction, conjuncts, reads_clock
from planner.logical import Filter, LogicalNode
from planner.tree import rebuild


def split_clock_filters(root: LogicalNode) -> LogicalNode:
    """Split each filter that has conditions of both kinds in two."""
    return rebuild(root, lambda node: _split(node) if isinstance(node, Filter) else node)


def _split(node: Filter) -> LogicalNode:
    parts = conjuncts(node.predicate)
    clock = [p for p in parts if reads_clock(p)]
    plain = [p for p in parts if not reads_clock(p)]
    if not clock or not plain:
        return node
    return Filter(Filter(node.input, conjunction(plain)), conjunction(clock))
