"""Operator chaining: neighbours joined by FORWARD become one task."""

from __future__ import annotations

from dataclasses import dataclass

from planner.execution_graph import ExecutionGraph, ShuffleEdge, ShuffleEdgeType
from sabot.ids import OperatorId


@dataclass(frozen=True)
class Chain:
    """Operators that run in the same tasks, in topological order; named after the first."""

    operators: tuple[OperatorId, ...]
    parallelism: int
    pinned: bool

    @property
    def chain_id(self) -> OperatorId:
        """The id under which the chain's tasks are known."""
        return self.operators[0]


@dataclass(frozen=True)
class ChainedGraph:
    """Chains in topological order, and the edges that are left between them."""

    chains: tuple[Chain, ...]
    edges: tuple[ShuffleEdge, ...]

    def chain_of(self, operator_id: OperatorId) -> Chain:
        """Return the chain that an operator is in."""
        return next(c for c in self.chains if operator_id in c.operators)


def chain_operators(graph: ExecutionGraph) -> ChainedGraph:
    """Fuse what FORWARD joins.

    Two things keep a FORWARD edge an edge. A chain must not wait for itself: an operator whose other input comes back
    to it through an exchange, directly or not, would align its barriers on its own output. And a task that reads a
    source reads one, and nothing else: it sleeps in the source's reader.
    """
    operators = graph.job_graph.operators
    group = {op.operator_id: i for i, op in enumerate(operators)}
    for edge in graph.edges:
        a, b = group[edge.upstream], group[edge.downstream]
        if edge.type is not ShuffleEdgeType.FORWARD or a == b:
            continue
        merged = {name: a if g == b else g for name, g in group.items()}
        sources = sum(op.is_source for op in operators if merged[op.operator_id] == a)
        fed = any(merged[e.downstream] == a and merged[e.upstream] != a for e in graph.edges)
        shuffled = any(
            merged[e.downstream] == merged[e.upstream] and e.type is not ShuffleEdgeType.FORWARD for e in graph.edges
        )
        if sources + fed <= 1 and not shuffled and _order(merged, graph.edges) is not None:
            group = merged
    order = _order(group, graph.edges) or []
    chains = []
    for g in order:
        members = [op for op in operators if group[op.operator_id] == g]
        chains.append(Chain(tuple(m.operator_id for m in members), members[0].parallelism, members[0].pinned))
    between = tuple(e for e in graph.edges if group[e.upstream] != group[e.downstream])
    return ChainedGraph(tuple(chains), between)


def _order(group: dict[OperatorId, int], edges: tuple[ShuffleEdge, ...]) -> list[int] | None:
    """Return the groups in topological order, lowest first where free to choose; None if they form a cycle."""
    below: dict[int, set[int]] = {g: set() for g in group.values()}
    for edge in edges:
        if group[edge.upstream] != group[edge.downstream]:
            below[group[edge.downstream]].add(group[edge.upstream])
    order: list[int] = []
    while len(order) < len(below):
        ready = [g for g in below if g not in order and below[g] <= set(order)]
        if not ready:
            return None
        order.append(min(ready))
    return order
