"""EMIT ON WINDOW CLOSE: whether a watermark can ever close the groups of a plan."""

from __future__ import annotations

from sqlglot import exp

from planner.closing_over import closing_time, problem
from planner.emit_on_close import OVER_HINT
from planner.logical import (
    Aggregate,
    Filter,
    Join,
    JoinKind,
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
from planner.tree import unique_nodes
from sql_frontend.origin import Origin

WINDOW_FUNCTIONS = ("tumble", "hop", "cumulate", "session")
_WATERMARK_HINT = (
    "declare WATERMARK FOR column AS column - INTERVAL '5 seconds' in CREATE SOURCE or CREATE TABLE ... APPEND ONLY"
)
_WINDOW_HINT = "group by window_start, window_end of TUMBLE or HOP over the source's watermark column"


def check_emit_on_close(root: LogicalNode, tree: exp.Expr, origin: Origin) -> None:
    """Raise SqlError unless every group and every row of `root` has a time that a watermark passes."""
    if not _has_watermark(root):
        msg = "EMIT ON WINDOW CLOSE needs a source or table with a watermark"
        raise origin.error(msg, tree, hint=_WATERMARK_HINT, sqlstate="42P20")
    for over in (n for n in unique_nodes(root) if isinstance(n, Over)):
        _check_over(over, tree, origin)
    timed = _Timed()
    at_root = timed.fields(root)
    if timed.open_group or (not at_root and not timed.closed_group):
        _refuse_unmarked_window(root, tree, origin)
    if timed.open_group or (not at_root and not timed.closed_group):
        what = "GROUP BY" if timed.open_group else "the select list"
        msg = f"EMIT ON WINDOW CLOSE needs a window's column in {what}"
        raise origin.error(msg, tree.args.get("group") or tree, hint=_WINDOW_HINT, sqlstate="42P20")


def _refuse_unmarked_window(root: LogicalNode, tree: exp.Expr, origin: Origin) -> None:
    """Refuse a window over a time that no watermark tells of, which may be why nothing closes."""
    for node in unique_nodes(root):
        if not isinstance(node, Window) and not (isinstance(node, Timeline) and isinstance(node.work, Sessions)):
            continue
        if node.time_column in _Timed().fields(node.input):
            continue
        calls = (c for c in tree.find_all(exp.Anonymous) if c.name.lower() in WINDOW_FUNCTIONS)
        named = (a for c in calls for a in c.find_all(exp.Column) if a.name.lower() == node.time_column.lower())
        marked = sorted(
            n.relation.watermark.column for n in unique_nodes(root) if isinstance(n, Scan) and n.relation.watermark
        )
        msg = f"EMIT ON WINDOW CLOSE: the window goes by {node.time_column!r}, which has no watermark"
        hint = f"window by {marked[0]!r}, which has one, or declare WATERMARK FOR {node.time_column}"
        raise origin.error(msg, next(named, tree), hint=hint, sqlstate="42P20")


def _check_over(over: Over, tree: exp.Expr, origin: Origin) -> None:
    """Refuse a function over rows sorted by the watermark's column of which no row would ever be complete."""
    below = _Timed().fields(over.input)
    if below & set(over.partition) or closing_time(over, below) is None or (why := problem(over)) is None:
        return
    at = next((w for w in tree.find_all(exp.Window)), tree)
    msg = f"EMIT ON WINDOW CLOSE cannot tell when a row is complete: {why}"
    raise origin.error(msg, at, hint=OVER_HINT, sqlstate="42P20")


def _has_watermark(node: LogicalNode) -> bool:
    match node:
        case Scan(relation=relation):
            return relation.watermark is not None
        case Join(left=left, right=right):
            return _has_watermark(left) or _has_watermark(right)
        case Union(inputs=inputs):
            return any(_has_watermark(i) for i in inputs)
        case Project() | Filter() | Window() | Timeline() | Aggregate() | Over() | Unnest():
            return _has_watermark(node.input)


class _Timed:
    """Finds the fields whose value says when a watermark has passed their row."""

    def __init__(self) -> None:
        self.open_group = False
        self.closed_group = False

    def fields(self, node: LogicalNode) -> set[str]:
        match node:
            case Scan(relation=relation):
                return {relation.watermark.column} if relation.watermark is not None else set()
            case Project(input=child, exprs=exprs):
                below = self.fields(child)
                return {e.name for e in exprs if isinstance(e.expr, exp.Column) and e.expr.name in below}
            case Filter(input=child):
                return self.fields(child)
            case Window(input=child):
                below = self.fields(child)
                return below | {node.start_name, node.end_name} if node.time_column in below else below
            case Timeline(input=child, work=work):
                below = self.fields(child)
                if isinstance(work, Sessions) and node.time_column in below:
                    return below | {work.start_name, work.end_name}
                return set()
            case Aggregate(input=child, keys=keys):
                timed = self.fields(child) & set(keys)
                self.open_group |= not timed
                self.closed_group |= bool(timed)
                return timed
            case Over(input=child):
                below = self.fields(child)
                self.closed_group |= closing_time(node, below) is not None
                return below
            case Unnest(input=child):
                return self.fields(child)
            case Join(left=left, kind=JoinKind.SEMI | JoinKind.ANTI):
                return self.fields(left)
            case Join(left=left, right=right):
                return self.fields(left) | self.fields(right)
            case Union(inputs=inputs):
                first, *others = [self.fields(i) for i in inputs]
                return first.intersection(*others)
