"""Moves filters towards the scans: fewer rows are decoded, projected, shuffled and kept."""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from planner.expressions import conjunction, conjuncts, fields_read, is_cheap, reads_clock, substitute
from planner.logical import (
    Aggregate,
    Filter,
    Join,
    JoinKind,
    LogicalNode,
    Over,
    Project,
    Scan,
    Timeline,
    Union,
    Unnest,
    Window,
    schema_of,
)
from planner.tree import consumer_counts


def push_filters(root: LogicalNode) -> LogicalNode:
    """Push each conjunct as far down as its fields go; never into a node that others consume too."""
    return _Pusher(root).push(root, [])


class _Pusher:
    def __init__(self, root: LogicalNode) -> None:
        self._consumers = consumer_counts(root)
        self._shared: dict[LogicalNode, LogicalNode] = {}

    def push(self, node: LogicalNode, predicates: list[exp.Expression]) -> LogicalNode:
        if self._consumers[node] > 1:
            if node not in self._shared:
                self._shared[node] = self._into(node, [])
            return _filtered(self._shared[node], predicates)
        return self._into(node, predicates)

    def _into(self, node: LogicalNode, predicates: list[exp.Expression]) -> LogicalNode:
        match node:
            case Scan():
                return _filtered(node, predicates)
            case Filter(input=child, predicate=own):
                # the inner predicate first: a reader sees them in the order of the text
                return self.push(child, [*conjuncts(own), *predicates])
            case Project():
                return self._into_project(node, predicates)
            case Window(input=child):
                added = {node.start_name, node.end_name}
                below = [p for p in predicates if not fields_read(p) & added]
                above = [p for p in predicates if fields_read(p) & added]
                return _filtered(replace(node, input=self.push(child, below)), above)
            case Timeline(input=child, partition=keys):
                below = [p for p in predicates if fields_read(p) and fields_read(p) <= set(keys)]
                above = [p for p in predicates if p not in below]
                return _filtered(replace(node, input=self.push(child, below)), above)
            case Aggregate(input=child, keys=keys):
                below = [p for p in predicates if fields_read(p) and fields_read(p) <= set(keys)]
                above = [p for p in predicates if p not in below]
                return _filtered(replace(node, input=self.push(child, below)), above)
            case Join():
                return self._into_join(node, predicates)
            case Over():
                return self._into_over(node, predicates)
            case Unnest(input=child, lists=lists):
                added = {name for _, name, _ in lists} | {node.ordinality or ""}
                below = [p for p in predicates if not fields_read(p) & added]
                above = [p for p in predicates if fields_read(p) & added]
                return _filtered(replace(node, input=self.push(child, below)), above)
            case Union(inputs=inputs):
                return replace(node, inputs=tuple(self.push(kid, predicates) for kid in inputs))

    def _into_project(self, node: Project, predicates: list[exp.Expression]) -> LogicalNode:
        by = {e.name: e.expr for e in node.exprs}
        below, above = [], []
        for predicate in predicates:
            if all(is_cheap(by[name]) for name in fields_read(predicate)):
                below.append(substitute(predicate, by))
            else:
                above.append(predicate)
        return _filtered(replace(node, input=self.push(node.input, below)), above)

    def _into_over(self, node: Over, predicates: list[exp.Expression]) -> LogicalNode:
        """What reads the partition alone leaves whole partitions out; the rest is for the rows once computed."""
        own = conjuncts(node.condition) if node.condition is not None else []
        below = [p for p in predicates if fields_read(p) and fields_read(p) <= set(node.partition)]
        kept = [*own, *(p for p in predicates if p not in below)]
        return replace(node, input=self.push(node.input, below), condition=conjunction(kept) if kept else None)

    def _into_outer_join(self, node: Join, predicates: list[exp.Expression]) -> LogicalNode:
        """A side whose rows all stay is filtered from above, one whose rows may go by the join's own condition."""
        left = {f.name for f in schema_of(node.left)}
        right = {f.name for f in schema_of(node.right)}
        keeps_left = node.kind in (JoinKind.LEFT, JoinKind.SEMI, JoinKind.ANTI)
        to_left, to_right, residual, above = [], [], [], []
        for predicate in predicates:
            read = fields_read(predicate)
            if read and read <= left and keeps_left:
                to_left.append(predicate)
            elif read and read <= right and node.kind is JoinKind.RIGHT:
                to_right.append(predicate)
            else:
                above.append(predicate)
        for predicate in conjuncts(node.residual) if node.residual else []:
            read = fields_read(predicate)
            if read and read <= right and keeps_left:
                to_right.append(predicate)
            elif read and read <= left and node.kind in (JoinKind.RIGHT, JoinKind.SEMI):
                to_left.append(predicate)
            else:
                residual.append(predicate)
        joined = replace(
            node,
            left=self.push(node.left, to_left),
            right=self.push(node.right, to_right),
            residual=conjunction(residual) if residual else None,
        )
        return _filtered(joined, above)

    def _into_join(self, node: Join, predicates: list[exp.Expression]) -> LogicalNode:
        if node.temporal and any(map(reads_clock, predicates)):
            # below it a row that leaves on the right would stay, and one on the left would have to be kept
            above = [p for p in predicates if reads_clock(p)]
            return _filtered(self._into_join(node, [p for p in predicates if not reads_clock(p)]), above)
        if node.kind is not JoinKind.INNER:
            return self._into_outer_join(node, predicates)
        left = {f.name for f in schema_of(node.left)}
        right = {f.name for f in schema_of(node.right)}
        if node.asof is not None:
            # a right row that is filtered out below would leave its place to the next nearest
            below = [p for p in predicates if fields_read(p) and fields_read(p) <= left]
            above = [p for p in predicates if p not in below]
            joined = replace(node, left=self.push(node.left, below), right=self.push(node.right, []))
            return _filtered(joined, above)
        to_left, to_right, residual = [], [], []
        for predicate in [*(conjuncts(node.residual) if node.residual else []), *predicates]:
            read = fields_read(predicate)
            if read and read <= left:
                to_left.append(predicate)
            elif read and read <= right:
                to_right.append(predicate)
            else:
                residual.append(predicate)
        return replace(
            node,
            left=self.push(node.left, to_left),
            right=self.push(node.right, to_right),
            residual=conjunction(residual) if residual else None,
        )


def _filtered(node: LogicalNode, predicates: list[exp.Expression]) -> LogicalNode:
    return Filter(node, conjunction(predicates)) if predicates else node
