"""Lets every scan of a relation be the same node, so that a job reads a source once."""

from __future__ import annotations

from planner.expressions import column
from planner.logical import LogicalNode, NamedExpr, Project, Scan
from planner.tree import rebuild, unique_nodes
from sabot.schema import Field


def unify_scans(root: LogicalNode) -> LogicalNode:
    """Widen the scans of a relation to the union of their fields, where they differ; a projection narrows again."""
    fields: dict[tuple[str, bool], dict[str, Field]] = {}
    for node in unique_nodes(root):
        if isinstance(node, Scan):
            mine = fields.setdefault(_place(node), {})
            full = {f.name: f for f in node.relation.schema}
            for field in node.fields:
                mine[field.name] = full.get(field.name, field)

    def widen(node: LogicalNode) -> LogicalNode:
        if not isinstance(node, Scan):
            return node
        order = {f.name: i for i, f in enumerate(node.relation.schema)}
        wide = tuple(sorted(fields[_place(node)].values(), key=lambda f: order.get(f.name, len(order))))
        if wide == node.fields:
            return node
        narrow = tuple(NamedExpr(f.name, column(f.name), fields[_place(node)][f.name].type) for f in node.fields)
        return Project(Scan(node.relation, wide), narrow)

    return rebuild(root, widen)


def _place(scan: Scan) -> tuple[str, bool]:
    return scan.relation.name, scan.relation.changelog
