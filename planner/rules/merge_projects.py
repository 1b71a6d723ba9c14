"""Makes one node of neighbours: projections over projections, filters over filters."""

from __future__ import annotations

from collections import Counter

from sqlglot import exp

from planner.expressions import conjunction, conjuncts, is_cheap, renamed_field, substitute
from planner.logical import Filter, LogicalNode, NamedExpr, Project, schema_of
from planner.tree import consumer_counts, rebuild


def merge_projects(root: LogicalNode) -> LogicalNode:
    """Merge neighbours and drop projections that change nothing; a node with other consumers stays whole."""
    while True:
        merged = _merge_once(root)
        if merged == root:
            return root
        root = merged


def _merge_once(root: LogicalNode) -> LogicalNode:
    consumers = consumer_counts(root)

    def merge(node: LogicalNode) -> LogicalNode:
        match node:
            case Filter(input=Filter(input=child, predicate=inner) as below, predicate=outer) if consumers[below] < 2:
                return Filter(child, conjunction([*conjuncts(inner), *conjuncts(outer)]))
            case Project(input=Project() as below) if consumers[below] < 2 and _worth_it(node, below):
                return Project(below.input, tuple(_over(e, below) for e in node.exprs))
            case Project(input=child) if _changes_nothing(node):
                return child
            case _:
                return node

    return rebuild(root, merge)


def _over(outer: NamedExpr, below: Project) -> NamedExpr:
    """Return `outer` over the input of `below`."""
    return NamedExpr(outer.name, substitute(outer.expr, {e.name: e.expr for e in below.exprs}), outer.type)


def _worth_it(outer: Project, inner: Project) -> bool:
    """Whether merging evaluates no costly expression twice."""
    uses = Counter(c.name for e in outer.exprs for c in e.expr.find_all(exp.Column))
    return all(is_cheap(e.expr) or uses[e.name] <= 1 for e in inner.exprs)


def _changes_nothing(node: Project) -> bool:
    fields = schema_of(node.input)
    return len(fields) == len(node.exprs) and all(
        e.name == f.name == renamed_field(e.expr) and e.type == f.type for e, f in zip(node.exprs, fields, strict=True)
    )
