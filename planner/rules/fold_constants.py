"""Drops what is constant in predicates; touches nothing that could fail or be NULL."""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from planner.expressions import conjunction, conjuncts
from planner.logical import Filter, Join, LogicalNode
from planner.tree import rebuild


def fold_constants(root: LogicalNode) -> LogicalNode:
    """Remove TRUE from conjunctions, and filters and residuals of which nothing is left."""

    def fold(node: LogicalNode) -> LogicalNode:
        match node:
            case Filter(input=child, predicate=predicate):
                kept = _without_true(predicate)
                return replace(node, predicate=kept) if kept is not None else child
            case Join(residual=residual) if residual is not None:
                return replace(node, residual=_without_true(residual))
            case _:
                return node

    return rebuild(root, fold)


def _without_true(predicate: exp.Expression) -> exp.Expression | None:
    parts = conjuncts(predicate)
    kept = [p for p in parts if not _is_true(p)]
    if len(kept) == len(parts):
        return predicate
    return conjunction(kept) if kept else None


def _is_true(predicate: exp.Expression) -> bool:
    inner = predicate.unnest()
    if isinstance(inner, exp.Boolean):
        return bool(inner.this)
    if isinstance(inner, exp.EQ):
        left, right = inner.left.unnest(), inner.right.unnest()
        return isinstance(left, exp.Literal) and isinstance(right, exp.Literal) and bool(left == right)
    return False
