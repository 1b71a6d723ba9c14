"""Windows written as functions of intervals alone, as Arroyo has them: ``GROUP BY tumble(INTERVAL '1 hour')``.

The time is the one that the watermark is of; the value is a STRUCT of the window's start and end.
"""

from __future__ import annotations

from sqlglot import exp

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
    WindowKind,
    schema_of,
)
from sql_frontend import build
from sql_frontend.lower_windows import microseconds
from sql_frontend.origin import Origin
from sql_frontend.resolver import Resolver
from sql_frontend.scope import Column, RelationInScope, Scope, folded

_ARGUMENTS = {"tumble": ("size",), "hop": ("slide", "size"), "cumulate": ("step", "size"), "session": ("gap",)}
_START, _END = "__window_start", "__window_end"


def with_window(select: exp.Select, node: LogicalNode, scope: Scope) -> LogicalNode | None:
    """Return `node` with the window that the select list or GROUP BY calls for, or None if there is no such call.

    The calls in `select` become expressions over the window's columns, which `scope` has from then on.

    Raises
    ------
    SqlError
        Two windows differ, or there is no time to go by.
    """
    origin = scope.origin
    calls = _calls(select)
    if not calls:
        return None
    first = calls[0]
    if any(c.sql() != first.sql() for c in calls):
        raise origin.unsupported("two windows in one query", calls[-1], hint="group by one in a subquery")
    time = _event_time(node, first, origin)
    kind = first.name.lower()
    lengths = [microseconds(a, what, origin) for a, what in zip(first.expressions, _ARGUMENTS[kind], strict=True)]
    if lengths[-1] % lengths[0]:
        what = "hopping" if kind == "hop" else "cumulating"
        msg = f"the size of a {what} window must be a multiple of its {_ARGUMENTS[kind][0]}"
        raise origin.error(msg, first.expressions[-1], hint=f"{kind}({', '.join(_ARGUMENTS[kind])})", sqlstate="22023")
    fields = [f.name for f in schema_of(node)]
    type_ = next(f.type for f in schema_of(node) if f.name == time)
    start = build.fresh(_START, fields)
    end = build.fresh(_END, [*fields, start])
    windowed: LogicalNode
    if kind == "session":
        node, keys = _keyed(select, node, scope)
        windowed = Timeline(node, tuple(keys), time, Sessions(lengths[0], start, end))
    else:
        windowed = Window(node, WindowKind(kind), time, lengths[-1], lengths[0], 0, start, end)
    _replace(select, first)
    columns = (Column(_START, start, type_, hidden=True), Column(_END, end, type_, hidden=True))
    scope.relations.append(RelationInScope(None, columns))
    return windowed


def _is_call(node: exp.Expr) -> bool:
    if not isinstance(node, exp.Anonymous) or node.name.lower() not in _ARGUMENTS:
        return False
    wanted = len(_ARGUMENTS[node.name.lower()])
    return len(node.expressions) == wanted and all(isinstance(a, exp.Interval) for a in node.expressions)


def _calls(select: exp.Select) -> list[exp.Anonymous]:
    """The calls of the select list and of GROUP BY; only what stands there by itself is one."""
    group = select.args.get("group")
    items = [e.this if isinstance(e, exp.Alias) else e for e in select.expressions]
    return [e for e in (*items, *(group.expressions if group is not None else ())) if _is_call(e)]


def _event_time(node: LogicalNode, call: exp.Expr, origin: Origin) -> str:
    found = _watermarked(node)
    if len(found) == 1:
        return next(iter(found))
    kind = call.name.lower()
    which = "several columns have one" if found else "no column has a watermark"
    hint = f"{kind.upper()}(relation, time column, ...) in FROM names the time"
    raise origin.error(f"{kind} of an interval goes by the watermark's column, and {which}", call, hint=hint)


def _watermarked(node: LogicalNode) -> set[str]:
    match node:
        case Scan(relation=relation):
            return {relation.watermark.column} if relation.watermark is not None else set()
        case Project(input=child, exprs=exprs):
            below = _watermarked(child)
            return {e.name for e in exprs if isinstance(e.expr, exp.Column) and e.expr.name in below}
        case Filter(input=child) | Unnest(input=child):
            return _watermarked(child)
        case Join(left=left, right=right):
            return _watermarked(left) | _watermarked(right)
        case Union(inputs=inputs):
            first, *others = [_watermarked(i) for i in inputs]
            return first.intersection(*others)
        case Window() | Timeline() | Aggregate() | Over():
            return set()


def _keyed(select: exp.Select, node: LogicalNode, scope: Scope) -> tuple[LogicalNode, list[str]]:
    """Return `node` with a field for each other key of GROUP BY: sessions are of one key."""
    group = select.args.get("group")
    written = [_written(e, select) for e in (group.expressions if group is not None else ())]
    fields = [f.name for f in schema_of(node)]
    added: list[tuple[str, exp.Expression]] = []
    for item in written:
        if not _is_call(item):
            added.append((build.fresh(f"__key{len(added)}", fields), Resolver(scope, not_in="GROUP BY")(item)))
    if not added:
        return node, []
    return build.project(node, [*((f, build.column(f)) for f in fields), *added], scope.origin), [n for n, _ in added]


def _written(item: exp.Expr, select: exp.Select) -> exp.Expr:
    """Return the item of the select list that an element of GROUP BY names or counts, or the element itself."""
    if isinstance(item, exp.Literal) and not item.is_string and item.name.isdigit():
        at = int(item.name) - 1
        if 0 <= at < len(select.expressions):
            found = select.expressions[at]
            return found.this if isinstance(found, exp.Alias) else found  # type: ignore[no-any-return]
    if isinstance(item, exp.Column) and len(item.parts) == 1:
        for e in select.expressions:
            if isinstance(e, exp.Alias) and folded(e.args["alias"]) == folded(item.this):
                return e.this  # type: ignore[no-any-return]
    return item


def _replace(select: exp.Select, call: exp.Anonymous) -> None:
    """Put the window's columns where the call stands, or what names it."""
    text = call.sql()
    group = select.args.get("group")
    if group is not None:
        keys: list[exp.Expr] = []
        for item in group.expressions:
            of_window = _written(item, select).sql() == text
            keys += [exp.column(_START), exp.column(_END)] if of_window else [item]
        group.set("expressions", keys)
    for item in list(select.expressions):
        value = item.this if isinstance(item, exp.Alias) else item
        if value.sql() == text:
            pair = [
                exp.PropertyEQ(this=exp.to_identifier(n), expression=exp.column(c))
                for n, c in (("start", _START), ("end", _END))
            ]
            struct = exp.Struct(expressions=pair)
            named = item.args["alias"] if isinstance(item, exp.Alias) else exp.to_identifier(call.name.lower())
            item.replace(exp.Alias(this=struct, alias=named))
