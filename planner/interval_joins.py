"""Joins whose state a watermark clears, outside of EMIT ON WINDOW CLOSE: by a bounded difference of times, or a window.

Rows that come too late for such a join are left out below it, judged by the watermark that held when they came: so the
answer does not depend on when the state was cleared.
"""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from planner.emit_on_close import late_predicate
from planner.expressions import column, reads_clock, renamed_field
from planner.logical import (
    Filter,
    Join,
    JoinKind,
    LogicalNode,
    NamedExpr,
    Project,
    RelationKind,
    Scan,
    Union,
    Unnest,
    Window,
    schema_of,
)
from planner.time_bounds import Lags, bounded, join_expiry
from planner.tree import children, rebuild, with_children
from sabot.ids import ROW_WATERMARK
from sabot.schema import Field, Schema


def bounded_joins(root: LogicalNode) -> LogicalNode:
    """Return `root` with such joins marked (`Join.expiry`), and rows that come too late for them left out below."""

    def change(node: LogicalNode) -> LogicalNode:
        if not isinstance(node, Join):
            return node
        expiry = join_expiry(node, lags_of(node.left), lags_of(node.right))
        if expiry is None:
            return node
        return replace(node, left=_judged(node.left), right=_judged(node.right), expiry=expiry)

    return rebuild(root, change)


def lags_of(node: LogicalNode) -> Lags:
    """Return the times of `node` whose lag is known, once late rows are left out."""
    match node:
        case Scan(relation=relation):
            of_source = relation.kind is RelationKind.SOURCE and relation.append_only
            watermark = relation.watermark if of_source else None
            return {watermark.column: 0} if watermark is not None else {}
        case Project(input=child, exprs=exprs):
            below = lags_of(child)
            return {e.name: below[s] for e in exprs if (s := renamed_field(e.expr)) is not None and s in below}
        case Filter(input=child, predicate=predicate):
            return {} if reads_clock(predicate) else lags_of(child)
        case Unnest(input=child):
            return lags_of(child)
        case Window(input=child):
            if not _is_chain(child) or lags_of(child).get(node.time_column) != 0:
                return {}
            # late is what falls into windows that have closed: the time itself may lie before the watermark
            begun = node.size_us - 1
            return {node.start_name: begun, node.end_name: -1, node.time_column: begun}
        case Union(inputs=inputs):
            first, *others = [lags_of(kid) for kid in inputs]
            return {n: max(lag, *(o[n] for o in others)) for n, lag in first.items() if all(n in o for o in others)}
        case Join(kind=JoinKind.INNER, expiry=expiry) if expiry is not None:
            return _joined_lags(node)
        case Join(temporal=True):
            return lags_of(node.left)
        case _:
            return {}


def _joined_lags(node: Join) -> Lags:
    """Of a joined row one side may have come long before the other."""
    left, right = lags_of(node.left), lags_of(node.right)
    found = bounded(node, left, right)
    assert found is not None
    (lf, rf), low, high = found
    return {lf: max(left[lf], right[rf] - low), rf: max(right[rf], left[lf] + high)}


def _judged(node: LogicalNode) -> LogicalNode:
    """Leave out late rows, where their source or their window is."""
    match node:
        case Scan() if lags_of(node):
            assert node.relation.watermark is not None
            return _in_time(_marked(node), node.relation.watermark.column, schema_of(node), inclusive=True)
        case Window() if lags_of(node):
            return _in_time(_marked(node), node.end_name, schema_of(node), inclusive=False)
        case Project() | Filter() | Unnest() | Union() | Window():
            return with_children(node, tuple(_judged(kid) for kid in children(node)))
        case Join(temporal=True):
            return replace(node, left=_judged(node.left))
        case _:
            return node


def _is_chain(node: LogicalNode) -> bool:
    """Whether rows come to `node` from their sources one by one."""
    if isinstance(node, Scan):
        return node.relation.watermark is not None
    return isinstance(node, Project | Filter | Unnest | Union | Window) and all(map(_is_chain, children(node)))


def _in_time(marked: LogicalNode, name: str, fields: Schema, *, inclusive: bool) -> LogicalNode:
    # rows without a time have no partner, but an outer join shows them
    in_time = exp.Or(
        this=late_predicate(marked, name, inclusive=inclusive),
        expression=exp.Is(this=column(name), expression=exp.Null()),
    )
    return _select(Filter(marked, in_time), fields)


def _marked(node: LogicalNode) -> LogicalNode:
    """Give the rows of a chain down to its source the watermark that holds for each, ``__wm``, as the last field."""
    match node:
        case Scan():
            return replace(node, fields=(*node.fields, Field(ROW_WATERMARK, "TIMESTAMP")))
        case Project(input=child, exprs=exprs):
            mark = NamedExpr(ROW_WATERMARK, column(ROW_WATERMARK), "TIMESTAMP")
            return Project(_marked(child), (*exprs, mark))
        case Union(inputs=inputs):
            return Union(tuple(map(_marked, inputs)))
        case Filter(input=child):
            return replace(node, input=_marked(child))
        case Window(input=child) | Unnest(input=child):
            wide = replace(node, input=_marked(child))
            return _select(wide, (*schema_of(node), Field(ROW_WATERMARK, "TIMESTAMP")))
        case _:
            raise AssertionError(node)


def _select(node: LogicalNode, fields: Schema) -> LogicalNode:
    return Project(node, tuple(NamedExpr(f.name, column(f.name), f.type) for f in fields))
