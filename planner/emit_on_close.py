"""EMIT ON WINDOW CLOSE as a rewrite of the logical plan: late rows filtered, groups closed by the watermark.

Each field that tells when its row's window closes has a bound: the row is complete once the watermark is at or past
``field + offset``. Bounds start at a source's watermark column and follow it through the plan.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from sqlglot import exp

from planner.expressions import column, renamed_field
from planner.logical import (
    Aggregate,
    Filter,
    Join,
    JoinKind,
    LogicalNode,
    NamedExpr,
    Over,
    Project,
    Query,
    RelationKind,
    Scan,
    Union,
    Unnest,
    Window,
    schema_of,
)
from sabot.errors import SqlError
from sabot.ids import ROW_WATERMARK
from sabot.schema import Field, Schema

CLOSE = "__close"
CLOSE_KEY = "__window"


@dataclass(frozen=True)
class _Bound:
    """The row's window has closed at field + `offset_us`; `raw`: late rows are not filtered by it yet."""

    offset_us: int
    raw: bool


@dataclass(frozen=True)
class _Closing:
    """A rewritten node.

    ``row_watermark``: it has the column ``__wm``. ``complete``: no row comes after its bound has passed.
    ``gated``: rows come only after their window has closed.
    """

    node: LogicalNode
    bounds: dict[str, _Bound] = field(default_factory=dict)
    row_watermark: bool = False
    complete: bool = False
    gated: bool = False


@dataclass(frozen=True)
class ClosingPlan:
    """The rewritten root. Where `close_column` is set, rows are held back at the root until it has passed.

    `fields` are the query's columns; the root may have a hidden one beside them.
    """

    root: LogicalNode
    close_column: str | None
    fields: Schema


def rewrite(query: Query) -> ClosingPlan:
    """Return the plan that shows each window once, when it has closed.

    Raises
    ------
    SqlError
        If nothing in the query tells when a row's window has closed.
    """
    fields = schema_of(query.root)
    closing = _rewrite(query.root, keep=True)
    if closing.gated:
        return ClosingPlan(_only(closing.node, fields), None, fields)
    if not closing.complete:
        closing = _filter_late(closing, list(closing.bounds))
    name = _closest(closing.bounds, list(closing.bounds))
    if name is None or not closing.complete:
        msg = "emit on window close needs a window over a watermarked source in the result"
        raise SqlError(
            msg,
            sqlstate="0A000",
            hint="group by window_start and window_end of TUMBLE or HOP over the source's watermark column",
        )
    node, close = _with_close(closing.node, name, closing.bounds[name])
    return ClosingPlan(node, close, fields)


def _rewrite(node: LogicalNode, *, keep: bool = False) -> _Closing:
    """Rewrite `node`; with `keep`, a projection that drops every bound passes one on under a hidden name."""
    match node:
        case Scan(relation=relation):
            if relation.kind is not RelationKind.SOURCE or relation.watermark is None:
                return _Closing(node)
            scan = replace(node, fields=(*node.fields, Field(ROW_WATERMARK, "TIMESTAMP")))
            return _Closing(scan, {relation.watermark.column: _Bound(1, raw=True)}, row_watermark=True)
        case Project():
            return _project(node, keep)
        case Filter(input=child):
            below = _rewrite(child, keep=keep)
            return replace(below, node=replace(node, input=below.node))
        case Window():
            return _window(node)
        case Aggregate():
            return _aggregate(node)
        case Join():
            return _join(node)
        case Over():
            return _over(node)
        case Unnest(input=child):
            below = _rewrite(child, keep=keep)
            unnested = _moved_watermark(replace(node, input=below.node), below)
            return replace(below, node=unnested)
        case Union():
            return _union(node)


def _project(node: Project, keep: bool) -> _Closing:
    below = _rewrite(node.input, keep=keep)
    exprs = node.exprs
    bounds = {}
    for e in node.exprs:
        source = renamed_field(e.expr)
        if source in below.bounds:
            bounds[e.name] = below.bounds[source]
    hidden = _closest(below.bounds, list(below.bounds))
    if keep and not bounds and hidden is not None:
        bounds[CLOSE_KEY] = below.bounds[hidden]
        exprs = (*exprs, NamedExpr(CLOSE_KEY, column(hidden), _type_of(below.node, hidden)))
    if below.row_watermark:
        exprs = (*exprs, NamedExpr(ROW_WATERMARK, column(ROW_WATERMARK), "TIMESTAMP"))
    return replace(below, node=Project(below.node, exprs), bounds=bounds)


def _window(node: Window) -> _Closing:
    below = _rewrite(node.input)
    bound = below.bounds.get(node.time_column)
    window = replace(node, input=below.node)
    if bound is None or not bound.raw or not below.row_watermark:
        return replace(below, node=_moved_watermark(window, below), bounds={}, complete=False)
    bounds = {node.start_name: _Bound(node.size_us, raw=False), node.end_name: _Bound(0, raw=False)}
    late_filtered = _late_filter(_moved_watermark(window, below), node.end_name)
    return replace(below, node=late_filtered, bounds=bounds, complete=True)


def _over(node: Over) -> _Closing:
    """Rows among those of a window: what it says of them stands when the window has closed."""
    below = _rewrite(node.input)
    if not below.complete:
        below = _filter_late(below, list(node.partition))
    bounds = {key: below.bounds[key] for key in node.partition if key in below.bounds}
    over = replace(node, input=_only(below.node, schema_of(node.input)))
    return _Closing(over, bounds, complete=below.complete and bool(bounds), gated=below.gated)


def _moved_watermark(window: Window | Unnest, below: _Closing) -> LogicalNode:
    """Keep ``__wm`` last, as everywhere."""
    if not below.row_watermark:
        return window
    fields = [f for f in schema_of(window) if f.name != ROW_WATERMARK]
    return _select(window, (*fields, Field(ROW_WATERMARK, "TIMESTAMP")))


def _aggregate(node: Aggregate) -> _Closing:
    below = _rewrite(node.input)
    name = _closest(below.bounds, list(node.keys))
    if not below.complete:
        below = _filter_late(below, list(node.keys))
    if name is None or not below.complete:
        # a group of no window, or of one that late rows may still reach: it shows its changes
        return _Closing(replace(node, input=below.node), gated=below.gated)
    bounds = {key: below.bounds[key] for key in node.keys if key in below.bounds}
    child, close = _with_close(below.node, name, below.bounds[name])
    keys = node.keys if close in node.keys else (*node.keys, close)
    closed: LogicalNode = replace(node, input=child, keys=keys, close_column=close)
    if keys != node.keys:
        closed = _select(closed, schema_of(node))
    return _Closing(closed, bounds, complete=True, gated=True)


def _join(node: Join) -> _Closing:
    left, right = _rewrite(node.left), _rewrite(node.right)
    joined = replace(node, left=_only(left.node, schema_of(node.left)), right=_only(right.node, schema_of(node.right)))
    together = any(
        lk in left.bounds and left.bounds[lk] == right.bounds.get(rk)
        for lk, rk in zip(node.left_keys, node.right_keys, strict=True)
    )
    bounds = {**left.bounds, **right.bounds}
    if node.temporal:
        # a row that has come has its partners: it waits for nothing
        return _Closing(joined, left.bounds, complete=left.complete, gated=left.gated)
    if node.kind in (JoinKind.LEFT, JoinKind.SEMI, JoinKind.ANTI) or node.asof is not None:
        bounds = left.bounds
    elif node.kind is JoinKind.RIGHT:
        bounds = right.bounds
    elif node.kind is JoinKind.FULL:
        bounds = {}
    return _Closing(
        joined,
        bounds,
        complete=together and left.complete and right.complete,
        gated=left.gated or right.gated,
    )


def _union(node: Union) -> _Closing:
    kids = [_rewrite(kid) for kid in node.inputs]
    marked = all(kid.row_watermark for kid in kids)
    fields = schema_of(node)
    inputs = tuple(kid.node if marked else _only(kid.node, fields) for kid in kids)
    bounds = {n: b for n, b in kids[0].bounds.items() if all(kid.bounds.get(n) == b for kid in kids)}
    return _Closing(
        Union(inputs),
        bounds,
        row_watermark=marked,
        complete=all(kid.complete for kid in kids),
        gated=all(kid.gated for kid in kids),
    )


def _closest(bounds: dict[str, _Bound], names: list[str]) -> str | None:
    """Return the field to close by: one that needs no arithmetic if there is one."""
    known = [n for n in names if n in bounds]
    return min(known, key=lambda n: (bounds[n].offset_us, n), default=None)


def _filter_late(below: _Closing, names: list[str]) -> _Closing:
    """Filter late rows by the watermark column itself, where rows are grouped by it without a window."""
    raw = next((n for n in names if n in below.bounds and below.bounds[n].raw), None)
    if raw is None or not below.row_watermark:
        return below
    return replace(below, node=_late_filter(below.node, raw, inclusive=True), complete=True)


def _late_filter(node: LogicalNode, name: str, *, inclusive: bool = False) -> LogicalNode:
    return Filter(node, late_predicate(node, name, inclusive=inclusive))


def late_predicate(node: LogicalNode, name: str, *, inclusive: bool = False) -> exp.Expression:
    """Return the condition that a row of `node` is not late: its `name` is after (or at) its own watermark."""
    time: exp.Expression = column(name)
    watermark: exp.Expression = column(ROW_WATERMARK)
    if _type_of(node, name) != "TIMESTAMP":
        # compared as microseconds: a cast between TIMESTAMP and TIMESTAMPTZ would ask the session's time zone
        time = exp.Anonymous(this="epoch_us", expressions=[time])
        watermark = exp.Anonymous(this="epoch_us", expressions=[watermark])
    still_open = (exp.GTE if inclusive else exp.GT)(this=time, expression=watermark)
    unknown = exp.Is(this=column(ROW_WATERMARK), expression=exp.Null())
    return exp.Or(this=still_open, expression=unknown)


def _with_close(node: LogicalNode, name: str, bound: _Bound) -> tuple[LogicalNode, str]:
    """Return `node` with a column that holds the closing time itself, and that column's name."""
    if bound.offset_us == 0:
        return node, name
    time_type = _type_of(node, name)
    close = exp.Add(this=column(name), expression=interval(bound.offset_us))
    kept = tuple(NamedExpr(f.name, column(f.name), f.type) for f in schema_of(node))
    return Project(node, (*kept, NamedExpr(CLOSE, close, time_type))), CLOSE


def interval(microseconds: int) -> exp.Expression:
    """Return an INTERVAL expression of whole microseconds."""
    return exp.Interval(this=exp.Literal.string(str(microseconds)), unit=exp.var("MICROSECONDS"))


def _type_of(node: LogicalNode, name: str) -> str:
    return next(f.type for f in schema_of(node) if f.name == name)


def _only(node: LogicalNode, fields: Schema) -> LogicalNode:
    return node if schema_of(node) == fields else _select(node, fields)


def _select(node: LogicalNode, fields: Schema) -> LogicalNode:
    return Project(node, tuple(NamedExpr(f.name, column(f.name), f.type) for f in fields))
