"""How many rows a node may have, where that is known; and which side of a join is better sent to every task."""

from __future__ import annotations

from planner.logical import (
    Aggregate,
    Filter,
    Join,
    LogicalNode,
    Over,
    Project,
    Scan,
    Sessions,
    Timeline,
    Union,
    Unnest,
    Window,
)

BROADCAST_ROWS = 10_000
"""The most rows of a side that is broadcast although the join has keys."""
_TIMES_LARGER = 10


def rows_estimate(node: LogicalNode) -> int | None:
    """Return about how many rows `node` has at most, as far as relations tell (`Relation.rows_estimate`), else None.

    A relation that is empty when it is asked is to be filled yet: nothing is known of it.
    """
    match node:
        case Scan(relation=relation):
            return relation.rows_estimate or None
        case Project(input=child) | Filter(input=child) | Aggregate(input=child):
            return rows_estimate(child)
        case Window(input=child):
            rows = rows_estimate(child)
            return None if rows is None else rows * -(-node.size_us // node.slide_us)
        case Union(inputs=inputs):
            found = [rows_estimate(kid) for kid in inputs]
            known = [rows for rows in found if rows is not None]
            return sum(known) if len(known) == len(found) else None
        case Over(input=child):
            return rows_estimate(child)
        case Timeline(input=child, work=Sessions()):
            return rows_estimate(child)
        case Join() | Unnest() | Timeline():
            return None


def broadcast_side(node: Join, *, keyed: bool) -> int | None:
    """Return which side of a join goes to every task of the other: 0 left, 1 right, None for neither.

    Of a join without keys one has to: the smaller, as far as is known. Of one with keys only what is known to be
    small, beside something that is much larger or endless.
    """
    left, right = rows_estimate(node.left), rows_estimate(node.right)
    if not keyed:
        return 0 if left is not None and (right is None or left < right) else 1
    for side, (mine, other) in enumerate(((left, right), (right, left))):
        if mine is not None and mine <= BROADCAST_ROWS and (other is None or other >= mine * _TIMES_LARGER):
            return side
    return None
