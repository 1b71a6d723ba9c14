"""Casts in a join's condition that read one side move below the join: made once a row, and told of where they fail."""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from planner.expressions import column, fields_read
from planner.failures import GUARD
from planner.logical import Join, LogicalNode, NamedExpr, Project, schema_of
from planner.tree import rebuild


def cast_before_joins(root: LogicalNode) -> LogicalNode:
    """Have residual conditions of joins read hidden columns in the place of casts that may fail."""
    return rebuild(root, lambda node: _moved(node) if isinstance(node, Join) else node)


def _moved(node: Join) -> LogicalNode:
    if node.residual is None or node.temporal or node.asof is not None:
        return node
    sides = [{f.name for f in schema_of(side)} for side in (node.left, node.right)]
    added: tuple[list[NamedExpr], list[NamedExpr]] = ([], [])
    taken = sides[0] | sides[1]

    def swap(found: exp.Expr) -> exp.Expr:
        # the outermost cast of one side: what is in it moves along
        if isinstance(found, exp.TryCast) and GUARD in found.meta and found.args["to"].args.get("kind"):
            read = fields_read(found)
            for side, names in enumerate(sides):
                if read and read <= names:
                    name = _fresh("join_condition", taken)
                    added[side].append(NamedExpr(name, found.copy(), str(found.args["to"].args["kind"])))
                    return column(name)
        for child in list(found.iter_expressions()):
            new = swap(child)
            if new is not child:
                child.replace(new)
        return found

    residual = swap(node.residual.copy())
    if not any(added):
        return node
    assert isinstance(residual, exp.Expression)
    left, right = (_extended(side, new) for side, new in zip((node.left, node.right), added, strict=True))
    joined = replace(node, left=left, right=right, residual=residual)
    return Project(joined, tuple(NamedExpr(f.name, column(f.name), f.type) for f in schema_of(node)))


def _extended(node: LogicalNode, added: list[NamedExpr]) -> LogicalNode:
    if not added:
        return node
    return Project(node, (*(NamedExpr(f.name, column(f.name), f.type) for f in schema_of(node)), *added))


def _fresh(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name
