"""Small questions about scalar expressions: which fields they read, what they become under a projection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from sqlglot import exp

Path: TypeAlias = tuple[str, ...]
"""Struct field names from a column downwards, lower case; ``()`` is the whole column."""


def column(name: str) -> exp.Column:
    """Return a reference to field `name`."""
    return exp.column(name, quoted=True)


def fields_read(expression: exp.Expression) -> set[str]:
    """Return the names of the fields that `expression` reads."""
    return {c.name for c in expression.find_all(exp.Column)}


def paths_read(expression: exp.Expression) -> dict[str, set[Path]]:
    """Return, per field read, the struct paths read from it."""
    found: dict[str, set[Path]] = {}
    for node in expression.find_all(exp.Column):
        path: list[str] = []
        at: exp.Expr = node
        while at.parent is not None and at is not expression:
            parent = at.parent
            if isinstance(parent, exp.Paren):
                at = parent
                continue
            step = _struct_step(parent, at)
            if step is None:
                break
            path.append(step)
            at = parent
        found.setdefault(node.name, set()).add(tuple(path))
    return found


def _struct_step(parent: exp.Expr, child: exp.Expr) -> str | None:
    """Return the struct field that `parent` takes out of `child`, or None if it does something else."""
    if parent.this is not child:
        return None
    if isinstance(parent, exp.Dot) and isinstance(parent.expression, exp.Identifier):
        return str(parent.expression.name).lower()
    if isinstance(parent, exp.StructExtract) and isinstance(parent.expression, exp.Literal | exp.Identifier):
        return str(parent.expression.name).lower()
    return None


def reads_clock(expression: exp.Expression) -> bool:
    """Whether `expression` compares with now(), so that its answer changes as time passes."""
    return any(call.name == "now" for call in expression.find_all(exp.Anonymous))


def renamed_field(expression: exp.Expression) -> str | None:
    """Return the field that `expression` passes on unchanged, or None if it computes."""
    inner = expression.unnest()
    return inner.name if isinstance(inner, exp.Column) else None


def is_cheap(expression: exp.Expression) -> bool:
    """Whether evaluating `expression` twice costs next to nothing: a field, a struct's field, a literal."""
    inner = expression.unnest()
    while isinstance(inner, exp.Dot | exp.StructExtract):
        inner = inner.this.unnest()
    return isinstance(inner, exp.Column | exp.Literal | exp.Boolean | exp.Null)


def substitute(expression: exp.Expression, by: Mapping[str, exp.Expression]) -> exp.Expression:
    """Return `expression` with every field in `by` replaced by its expression (in parentheses where needed)."""

    def swap(node: exp.Expression) -> exp.Expression:
        if isinstance(node, exp.Column) and node.name in by:
            new = by[node.name].copy()
            atomic = isinstance(new, exp.Column | exp.Literal | exp.Paren | exp.Func | exp.Boolean | exp.Null)
            return new if atomic else exp.Paren(this=new)
        return node

    return expression.copy().transform(swap, copy=False)


def conjuncts(predicate: exp.Expr) -> list[exp.Expression]:
    """Split `predicate` at its outer ANDs."""
    inner = predicate.unnest()
    if isinstance(inner, exp.And):
        return [*conjuncts(inner.left), *conjuncts(inner.right)]
    assert isinstance(inner, exp.Expression)
    return [inner]


def conjunction(predicates: Sequence[exp.Expression]) -> exp.Expression:
    """Return the AND of one or more `predicates`, in order."""
    result = _operand(predicates[0]) if len(predicates) > 1 else predicates[0].copy()
    for predicate in predicates[1:]:
        result = exp.And(this=result, expression=_operand(predicate))
    return result


def _operand(predicate: exp.Expression) -> exp.Expression:
    copy = predicate.copy()
    return exp.Paren(this=copy) if isinstance(copy, exp.Or | exp.Xor) else copy
