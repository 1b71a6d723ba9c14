"""Walking logical plans: children, rebuilding, and which nodes have several consumers.

Equal nodes are one node: a plan is a DAG although it is written as a tree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

from planner.logical import (
    Aggregate,
    Filter,
    Join,
    LogicalNode,
    Over,
    Project,
    Scan,
    Timeline,
    Union,
    Unnest,
    Window,
)


def children(node: LogicalNode) -> tuple[LogicalNode, ...]:
    """Return the inputs of `node`, in order."""
    match node:
        case Scan():
            return ()
        case Join(left=left, right=right):
            return (left, right)
        case Union(inputs=inputs):
            return inputs
        case (
            Project(input=child)
            | Filter(input=child)
            | Window(input=child)
            | Timeline(input=child)
            | Aggregate(input=child)
            | Over(input=child)
            | Unnest(input=child)
        ):
            return (child,)


def with_children(node: LogicalNode, kids: tuple[LogicalNode, ...]) -> LogicalNode:
    """Return `node` over other inputs."""
    match node:
        case Scan():
            return node
        case Join():
            return replace(node, left=kids[0], right=kids[1])
        case Union():
            return replace(node, inputs=kids)
        case Project() | Filter() | Window() | Timeline() | Aggregate() | Over() | Unnest():
            return replace(node, input=kids[0])


def rebuild(root: LogicalNode, change: Callable[[LogicalNode], LogicalNode]) -> LogicalNode:
    """Return the plan with `change` applied to every node, inputs first, equal nodes once."""
    done: dict[LogicalNode, LogicalNode] = {}

    def visit(node: LogicalNode) -> LogicalNode:
        if node not in done:
            done[node] = change(with_children(node, tuple(visit(kid) for kid in children(node))))
        return done[node]

    return visit(root)


def unique_nodes(root: LogicalNode) -> Iterator[LogicalNode]:
    """Yield every different node once, consumers before their inputs."""
    order: list[LogicalNode] = []
    seen: set[LogicalNode] = set()

    def visit(node: LogicalNode) -> None:
        if node in seen:
            return
        seen.add(node)
        for kid in children(node):
            visit(kid)
        order.append(node)

    visit(root)
    return reversed(order)


def consumer_counts(root: LogicalNode) -> Counter[LogicalNode]:
    """Return how many inputs of other nodes each node feeds (a self-join counts twice)."""
    counts: Counter[LogicalNode] = Counter()
    for node in unique_nodes(root):
        counts.update(children(node))
    return counts
