"""Turns a join of rows with their own maximum into a ranking, which keeps the best rows only."""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp

from planner.expressions import column, conjunction, conjuncts, renamed_field
from planner.logical import (
    AggCall,
    Aggregate,
    Filter,
    Join,
    JoinKind,
    LogicalNode,
    NamedExpr,
    OrderBy,
    Over,
    OverCall,
    Project,
    Scan,
    Union,
    Unnest,
    Window,
    WindowKind,
    schema_of,
)
from planner.tree import rebuild, unique_nodes

_STATELESS = (Scan, Project, Filter, Window, Unnest, Union)


def rank_own_extreme(root: LogicalNode) -> LogicalNode:
    """Rewrite ``x JOIN (SELECT k, max(v) FROM x GROUP BY k) ON v = max AND k = k`` to the rows of rank 1.

    Also where `k` is the TUMBLE window of the rows and the join says so by its bounds. Only over rows that are never
    taken back: a ranking of others would have to keep them all.
    """
    return rebuild(root, lambda node: _ranked(node) if isinstance(node, Join) else node)


@dataclass(frozen=True)
class _Best:
    """The side that has the maximum: `names` are its fields in terms of `rows`."""

    rows: LogicalNode
    keys: tuple[str, ...]
    value: str
    descending: bool
    names: dict[str, str]
    extreme: str


def _ranked(node: Join) -> LogicalNode:
    if node.kind is not JoinKind.INNER or node.temporal or node.asof is not None or node.null_safe:
        return node
    for rows, best, row_keys, best_keys in (
        (node.left, node.right, node.left_keys, node.right_keys),
        (node.right, node.left, node.right_keys, node.left_keys),
    ):
        side = _best(best)
        if side is None:
            continue
        ranked = _over(node, rows, side, list(zip(row_keys, best_keys, strict=True)))
        if ranked is not None:
            return ranked
    return node


def _renames(node: LogicalNode) -> tuple[LogicalNode, dict[str, str]]:
    """Return what `node` only renames or drops fields of, and its fields by the names there."""
    names = {f.name: f.name for f in schema_of(node)}
    while isinstance(node, Project) and all(renamed_field(e.expr) is not None for e in node.exprs):
        by = {e.name: renamed_field(e.expr) or "" for e in node.exprs}
        names = {outer: by[inner] for outer, inner in names.items()}
        node = node.input
    return node, names


def _best(node: LogicalNode) -> _Best | None:
    groups, names = _renames(node)
    if not isinstance(groups, Aggregate) or len(groups.calls) != 1 or groups.close_column is not None:
        return None
    (call,) = groups.calls
    if call.function not in ("min", "max") or call.argument is None or call.filter is not None or not groups.keys:
        return None
    rows, below = _renames(groups.input)
    if not all(isinstance(n, _STATELESS) for n in unique_nodes(rows)):
        return None
    scans = [n.relation for n in unique_nodes(rows) if isinstance(n, Scan)]
    if not all(relation.append_only and not relation.changes for relation in scans):
        return None
    value = below[call.argument]
    named = {f: value if inner == call.name else below[inner] for f, inner in names.items()}
    extreme = next((f for f, inner in names.items() if inner == call.name), "")
    return _Best(rows, tuple(below[k] for k in groups.keys), value, call.function == "max", named, extreme)


def _over(node: Join, rows: LogicalNode, best: _Best, pairs: list[tuple[str, str]]) -> LogicalNode | None:
    base, names = _renames(rows)
    conditions = conjuncts(node.residual) if node.residual is not None else []
    window = best.rows if isinstance(best.rows, Window) else None
    same = base == best.rows
    if not same:
        # the rows as they are, and the maximum by their window
        if window is None or window.kind is not WindowKind.TUMBLE:
            return None
        below, renamed = _renames(window.input)
        if below != base:
            return None
        inner = {through: f for f, through in renamed.items()}
        if not set(names.values()) <= set(inner) or len(inner) < len(renamed):
            return None
        names = {f: inner[through] for f, through in names.items()}
    taken: list[exp.Expression] = []
    met: set[str] = set()
    extreme = False
    for mine, theirs in pairs:
        if theirs == best.extreme and names[mine] == best.value:
            extreme = True
        elif theirs != best.extreme and names[mine] == best.names[theirs] and best.names[theirs] in best.keys:
            met.add(best.names[theirs])
        else:
            return None
    if window is not None and not same:
        bounds = _bounds(conditions, names, best, window)
        if bounds is not None:
            taken = bounds
            met |= {window.start_name, window.end_name}
    if not extreme or not set(best.keys) <= met:
        return None
    return _built(node, names, best, [c for c in conditions if c not in taken], window)


def _bounds(
    conditions: list[exp.Expression], names: dict[str, str], best: _Best, window: Window
) -> list[exp.Expression] | None:
    """Return the two conditions that say that a row lies in the window, or None."""
    start = end = None
    for condition in conditions:
        bound = condition.unnest()
        if isinstance(bound, exp.LTE | exp.GT):
            low, high, strict = bound.left.unnest(), bound.right.unnest(), isinstance(bound, exp.GT)
            if strict:
                low, high = high, low
        elif isinstance(bound, exp.GTE | exp.LT):
            low, high, strict = bound.right.unnest(), bound.left.unnest(), isinstance(bound, exp.LT)
            if strict:
                low, high = high, low
        else:
            continue
        if not isinstance(low, exp.Column) or not isinstance(high, exp.Column):
            continue
        if not strict and best.names.get(low.name) == window.start_name and names.get(high.name) == window.time_column:
            start = condition
        if strict and names.get(low.name) == window.time_column and best.names.get(high.name) == window.end_name:
            end = condition
    return [start, end] if start is not None and end is not None else None


def _built(
    node: Join, names: dict[str, str], best: _Best, residual: list[exp.Expression], window: Window | None
) -> LogicalNode:
    added = {window.start_name, window.end_name} if window is not None else set()
    # what is NULL joins nothing; rows without a time are in no window
    present = [
        exp.Not(this=exp.Is(this=column(f), expression=exp.Null()))
        for f in dict.fromkeys((best.value, *best.keys))
        if f not in added
    ]
    place = "__place"
    while place in {f.name for f in schema_of(best.rows)}:
        place += "_"
    order = (OrderBy(best.value, descending=best.descending),)
    call = OverCall(AggCall(place, "rank", None, "BIGINT", order=order))
    first = exp.EQ(this=column(place), expression=exp.Literal.number(1))
    ranked = Over(Filter(best.rows, conjunction(present)), best.keys, (call,), first)
    of_best = dict(best.names)
    exprs = tuple(
        NamedExpr(f.name, column(names[f.name] if f.name in names else of_best[f.name]), f.type)
        for f in schema_of(node)
    )
    rows = Project(ranked, exprs)
    return Filter(rows, conjunction(residual)) if residual else rows
