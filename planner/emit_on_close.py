"""Emission on close as a rewrite of the logical plan: late rows filtered, windows closed by the watermark.

Under EMIT ON WINDOW CLOSE all of the query has to close. In a query whose windows are written as Flink or Arroyo
write them, what belongs to windows closes (groups, joins, functions over a window's rows), and all else is kept up.

Each field that tells when its row's window closes has a bound: the row is complete once the watermark is at or past
``field + offset``. Bounds start at a source's watermark column and follow it through the plan.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from sqlglot import exp

from planner.closing_over import closing_time, problem
from planner.expressions import column
from planner.logical import (
    Aggregate,
    Emit,
    Filter,
    GapFill,
    Join,
    JoinKind,
    LogicalNode,
    NamedExpr,
    Over,
    Project,
    Query,
    Scan,
    Timeline,
    Union,
    Unnest,
    Window,
    schema_of,
)
from planner.time_bounds import Lags, bounded, join_expiry, shifted
from planner.tree import unique_nodes
from sabot.errors import SqlError
from sabot.ids import ROW_WATERMARK
from sabot.schema import Field, Schema

OVER_HINT = "end the frame so many rows or so long after the row, or leave EMIT ON WINDOW CLOSE out"
_NOTHING_HINT = (
    "group by window_start, window_end of TUMBLE or HOP over the watermark's column, join by a window or by times that"
    " are near each other (l.t BETWEEN r.t AND r.t + INTERVAL '1 minute'), or leave EMIT ON WINDOW CLOSE out"
)
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
        If nothing in the query tells when a row's window has closed, and it says EMIT ON WINDOW CLOSE.
    """
    fields = schema_of(query.root)
    if query.emit is Emit.BY_WINDOW:
        closing = _Rewriter(by_window=True).rewrite(query.root, closing=False)
        closes = any(closed(n) for n in unique_nodes(closing.node))
        return ClosingPlan(_only(closing.node, fields) if closes else query.root, None, fields)
    closing = _Rewriter(by_window=False).rewrite(query.root, keep=True)
    if closing.gated:
        return ClosingPlan(_only(closing.node, fields), None, fields)
    if not closing.complete:
        closing = _filter_late(closing, list(closing.bounds))
    name = _closest(closing.bounds, list(closing.bounds))
    if name is None or not closing.complete:
        msg = "EMIT ON WINDOW CLOSE: nothing tells when a row of the result is complete"
        raise SqlError(msg, sqlstate="42P20", hint=_NOTHING_HINT)
    node, close = _with_close(closing.node, name, closing.bounds[name])
    return ClosingPlan(node, close, fields)


def closed(node: LogicalNode) -> bool:
    """Whether a node of a rewritten plan shows rows once the watermark has passed them."""
    match node:
        case Aggregate():
            return node.close_column is not None
        case Over():
            return node.close_column is not None or node.close_order is not None
        case Join():
            return node.close_columns is not None
        case Timeline():
            return node.closing
        case _:
            return False


class _Rewriter:
    """Rewrites one query; with `by_window`, only what belongs to windows waits for them to close."""

    def __init__(self, *, by_window: bool) -> None:
        self._by_window = by_window

    def rewrite(self, node: LogicalNode, *, keep: bool = False, closing: bool = True) -> _Closing:
        """Rewrite `node`.

        With `keep`, a projection that drops every bound passes one on under a hidden name. Without `closing`, nothing
        above waits for windows to close, and rows that come late for them stay.
        """
        match node:
            case Scan(relation=relation):
                if relation.watermark is None:
                    return _Closing(node)
                scan = replace(node, fields=(*node.fields, Field(ROW_WATERMARK, "TIMESTAMP")))
                return _Closing(scan, {relation.watermark.column: _Bound(1, raw=True)}, row_watermark=True)
            case Project():
                return self._project(node, keep, closing)
            case Filter(input=child):
                below = self.rewrite(child, keep=keep, closing=closing)
                return replace(below, node=replace(node, input=below.node))
            case Window():
                return self._window(node, closing)
            case Timeline():
                return self._timeline(node)
            case Aggregate():
                return self._aggregate(node, closing)
            case Join():
                return self._join(node, closing)
            case Over():
                return self._over(node, closing)
            case Unnest(input=child):
                below = self.rewrite(child, keep=keep, closing=closing)
                unnested = _moved_watermark(replace(node, input=below.node), below)
                return replace(below, node=unnested)
            case Union():
                return self._union(node, closing)

    def _project(self, node: Project, keep: bool, closing: bool) -> _Closing:
        below = self.rewrite(node.input, keep=keep, closing=closing)
        exprs = node.exprs
        bounds = {}
        for e in node.exprs:
            source, shift = shifted(e.expr) or ("", 0)
            bound = below.bounds.get(source)
            if bound is None or (shift and (bound.raw or not below.complete)):
                continue
            bounds[e.name] = replace(bound, offset_us=bound.offset_us - shift)
        hidden = _closest(below.bounds, list(below.bounds))
        if keep and not bounds and hidden is not None:
            bounds[CLOSE_KEY] = below.bounds[hidden]
            exprs = (*exprs, NamedExpr(CLOSE_KEY, column(hidden), _type_of(below.node, hidden)))
        if below.row_watermark:
            exprs = (*exprs, NamedExpr(ROW_WATERMARK, column(ROW_WATERMARK), "TIMESTAMP"))
        return replace(below, node=Project(below.node, exprs), bounds=bounds)

    def _window(self, node: Window, closing: bool) -> _Closing:
        below = self.rewrite(node.input, closing=closing)
        bound = below.bounds.get(node.time_column)
        window = replace(node, input=below.node)
        if bound is not None and below.complete and not bound.raw and closing:
            lag = bound.offset_us - 1
            bounds = {node.start_name: _Bound(node.size_us + lag, raw=False), node.end_name: _Bound(lag, raw=False)}
            return replace(below, node=_moved_watermark(window, below), bounds=bounds)
        if bound is None or not bound.raw or not below.row_watermark or not closing:
            return replace(below, node=_moved_watermark(window, below), bounds={}, complete=False)
        bounds = {node.start_name: _Bound(node.size_us, raw=False), node.end_name: _Bound(0, raw=False)}
        late_filtered = _late_filter(_moved_watermark(window, below), node.end_name)
        return replace(below, node=late_filtered, bounds=bounds, complete=True)

    def _timeline(self, node: Timeline) -> _Closing:
        below = self.rewrite(node.input, closing=False)
        bound = below.bounds.get(node.time_column)
        if isinstance(node.work, GapFill) or bound is None or not bound.raw or not below.row_watermark:
            return _Closing(replace(node, input=_only(below.node, schema_of(node.input))))
        sessions = replace(node, input=below.node, closing=True)
        return _Closing(sessions, {node.work.end_name: _Bound(0, raw=False)}, complete=True, gated=True)

    def _over(self, node: Over, closing: bool) -> _Closing:
        """Rows among those of a window: what it says of them stands when the window has closed."""
        below = self.rewrite(node.input)
        if not below.complete and not self._by_window:
            below = _filter_late(below, list(node.partition))
        name = self._closest(below, list(node.partition))
        if name is None or not below.complete:
            if self._by_window and not closing:
                below = self.rewrite(node.input, closing=False)
            in_turn = None if self._by_window else self._over_in_turn(node, below)
            return in_turn or _Closing(replace(node, input=_only(below.node, schema_of(node.input))), gated=below.gated)
        bounds = {key: below.bounds[key] for key in node.partition if key in below.bounds}
        child, close = _with_close(_only(below.node, schema_of(node.input)), name, below.bounds[name])
        partition = node.partition if close in node.partition else (*node.partition, close)
        over: LogicalNode = replace(node, input=child, partition=partition, close_column=close)
        return _Closing(_only(over, schema_of(node)), bounds, complete=True, gated=True)

    def _over_in_turn(self, node: Over, below: _Closing) -> _Closing | None:
        """Return the rows in the order of the watermark's column, each once its answer stands."""
        time = closing_time(node, {n for n, b in below.bounds.items() if b.raw})
        if time is None or not below.row_watermark:
            return None
        if (why := problem(node)) is not None:
            msg = f"emit on window close cannot tell when a row is complete: {why}"
            raise SqlError(msg, sqlstate="0A000", hint=OVER_HINT)
        child = _only(_late_filter(below.node, time, inclusive=True), schema_of(node.input))
        return _Closing(replace(node, input=child, close_order=time), gated=True)

    def _aggregate(self, node: Aggregate, closing: bool) -> _Closing:
        below = self.rewrite(node.input)
        if not below.complete and not self._by_window:
            below = _filter_late(below, list(node.keys))
        name = self._closest(below, list(node.keys))
        if name is None or not below.complete:
            # a group of no window, or of one that late rows may still reach: it shows its changes
            if self._by_window and not closing:
                below = self.rewrite(node.input, closing=False)
            return _Closing(replace(node, input=below.node), gated=below.gated)
        bounds = {key: below.bounds[key] for key in node.keys if key in below.bounds}
        child, close = _with_close(below.node, name, below.bounds[name])
        keys = node.keys if close in node.keys else (*node.keys, close)
        closed: LogicalNode = replace(node, input=child, keys=keys, close_column=close)
        if keys != node.keys:
            closed = _select(closed, schema_of(node))
        return _Closing(closed, bounds, complete=True, gated=True)

    def _join(self, node: Join, closing: bool) -> _Closing:
        left, right = self.rewrite(node.left), self.rewrite(node.right)
        pairs = list(zip(node.left_keys, node.right_keys, strict=True))[node.null_safe :]
        alike = [(a, b) for a, b in pairs if a in left.bounds and left.bounds[a] == right.bounds.get(b)]
        complete = bool(alike) and left.complete and right.complete
        if complete and not node.temporal and node.asof is None:
            return self._closed_join(node, left, right, alike)
        if not self._by_window and (within := _interval_join(node, left, right)) is not None:
            return within
        if self._by_window and not closing:
            left, right = (self.rewrite(side, closing=False) for side in (node.left, node.right))
        joined = replace(
            node, left=_only(left.node, schema_of(node.left)), right=_only(right.node, schema_of(node.right))
        )
        if node.temporal:
            # a row that has come has its partners: it waits for nothing
            return _Closing(joined, left.bounds, complete=left.complete, gated=left.gated)
        return _Closing(joined, _joined_bounds(node, left, right), complete=complete, gated=left.gated or right.gated)

    def _closed_join(self, node: Join, left: _Closing, right: _Closing, alike: list[tuple[str, str]]) -> _Closing:
        """A join of windows: it is made once, when they have closed."""
        a, b = min(alike, key=lambda pair: (left.bounds[pair[0]].offset_us, pair))
        sides = []
        for below, name, given, hidden in (
            (left, a, node.left, f"{CLOSE}_l"),
            (right, b, node.right, f"{CLOSE}_r"),
        ):
            sides.append(_with_close(_only(below.node, schema_of(given)), name, below.bounds[name], hidden))
        (left_node, left_close), (right_node, right_close) = sides
        joined = replace(node, left=left_node, right=right_node, close_columns=(left_close, right_close))
        bounds = _joined_bounds(node, left, right)
        return _Closing(_only(joined, schema_of(node)), bounds, complete=True, gated=True)

    def _union(self, node: Union, closing: bool) -> _Closing:
        kids = [self.rewrite(kid, closing=closing) for kid in node.inputs]
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

    def _closest(self, below: _Closing, names: list[str]) -> str | None:
        """Return the field to close by; by a watermark's column itself only where the query says so."""
        bounds = {n: b for n, b in below.bounds.items() if not (self._by_window and b.raw)}
        return _closest(bounds, names)


def _interval_join(node: Join, left: _Closing, right: _Closing) -> _Closing | None:
    """A join whose times lie near each other: its rows stand, with a partner or none, once no partner can come."""
    of_left, of_right = _lags(left), _lags(right)
    found = bounded(node, of_left, of_right)
    if found is None:
        return None
    (lf, rf), low, high = found
    sides = [
        _only(below.node if below.complete else _late_filter(below.node, name, inclusive=True), schema_of(given))
        for below, name, given in ((left, lf, node.left), (right, rf, node.right))
    ]
    joined: LogicalNode = replace(node, left=sides[0], right=sides[1], expiry=join_expiry(node, of_left, of_right))
    bounds = {
        lf: _Bound(max(of_left[lf], of_right[rf] - low) + 1, raw=False),
        rf: _Bound(max(of_right[rf], of_left[lf] + high) + 1, raw=False),
    }
    if node.kind is JoinKind.FULL:
        if (type_ := _type_of(sides[0], lf)) != _type_of(sides[1], rf):
            return None
        # of a row without a partner, one side's time is NULL
        ends: list[exp.Expression] = [
            exp.Add(this=column(name), expression=interval(bounds[name].offset_us)) for name in (lf, rf)
        ]
        kept = tuple(NamedExpr(f.name, column(f.name), f.type) for f in schema_of(node))
        whole = NamedExpr(CLOSE_KEY, exp.Coalesce(this=ends[0], expressions=ends[1:]), type_)
        return _Closing(Project(joined, (*kept, whole)), {CLOSE_KEY: _Bound(0, raw=False)}, complete=True)
    names = {f.name for f in schema_of(node)}
    shown = _joined_bounds(node, replace(left, bounds={lf: bounds[lf]}), replace(right, bounds={rf: bounds[rf]}))
    return _Closing(joined, {n: b for n, b in shown.items() if n in names}, complete=True)


def _lags(below: _Closing) -> Lags:
    """Return by how much the times of rows that are still to come may lie before the watermark."""
    told = below.complete or below.row_watermark
    return {n: b.offset_us - 1 for n, b in below.bounds.items() if told and b.raw != below.complete}


def _joined_bounds(node: Join, left: _Closing, right: _Closing) -> dict[str, _Bound]:
    if node.kind in (JoinKind.LEFT, JoinKind.SEMI, JoinKind.ANTI) or node.asof is not None:
        return left.bounds
    if node.kind is JoinKind.RIGHT:
        return right.bounds
    # of a row without a partner, one side's time is NULL
    return {} if node.kind is JoinKind.FULL else {**left.bounds, **right.bounds}


def _moved_watermark(window: Window | Unnest, below: _Closing) -> LogicalNode:
    """Keep ``__wm`` last, as everywhere."""
    if not below.row_watermark:
        return window
    fields = [f for f in schema_of(window) if f.name != ROW_WATERMARK]
    return _select(window, (*fields, Field(ROW_WATERMARK, "TIMESTAMP")))


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


def _with_close(node: LogicalNode, name: str, bound: _Bound, hidden: str = CLOSE) -> tuple[LogicalNode, str]:
    """Return `node` with a column that holds the closing time itself, and that column's name."""
    if bound.offset_us == 0:
        return node, name
    time_type = _type_of(node, name)
    close = exp.Add(this=column(name), expression=interval(bound.offset_us))
    kept = tuple(NamedExpr(f.name, column(f.name), f.type) for f in schema_of(node))
    return Project(node, (*kept, NamedExpr(hidden, close, time_type))), hidden


def interval(microseconds: int) -> exp.Expression:
    """Return an INTERVAL expression of whole microseconds."""
    return exp.Interval(this=exp.Literal.string(str(microseconds)), unit=exp.var("MICROSECONDS"))


def _type_of(node: LogicalNode, name: str) -> str:
    return next(f.type for f in schema_of(node) if f.name == name)


def _only(node: LogicalNode, fields: Schema) -> LogicalNode:
    return node if schema_of(node) == fields else _select(node, fields)


def _select(node: LogicalNode, fields: Schema) -> LogicalNode:
    return Project(node, tuple(NamedExpr(f.name, column(f.name), f.type) for f in fields))
