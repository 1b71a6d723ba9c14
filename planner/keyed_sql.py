"""What the operator that recomputes keys runs for joins with rows of no partner, and for functions over windows."""

from __future__ import annotations

from planner.aggregates import order_sql, value_sql
from planner.logical import Join, JoinKind, OrderBy, Over, OverCall, schema_of
from planner.render import as_declared, motion_type, render
from sabot.schema import quote

_PEERS_ALIKE = frozenset(["rank", "dense_rank", "percent_rank", "cume_dist"])
"""Functions that give rows of equal order the same answer."""
_ROW_BY_ROW = frozenset(["row_number", "ntile", "lag", "lead"])
"""Functions that take rows one after another, whatever the frame is."""
_ONE_OF_FRAME = frozenset(["first_value", "last_value", "nth_value", "first", "last", "any_value", "arbitrary"])
_SORTED = frozenset(["list", "array_agg", "string_agg", "group_concat", "listagg", "mode"])


def join_sql(node: Join) -> str:
    """Return the statement of an outer, semi or anti join over ``input`` and ``input_1``."""
    fields = schema_of(node.left) + schema_of(node.right)
    parts = [f"l.{quote(a)} {sign} r.{quote(b)}" for a, sign, b in node.key_pairs]
    if node.residual is not None:
        parts.append(f"({render(as_declared(node.residual, fields))})")
    on = " AND ".join(parts) or "true"
    names = ", ".join(quote(f.name) for f in schema_of(node))
    return f"SELECT {names} FROM input l {node.kind.value.upper()} JOIN input_1 r ON {on}"


def asof_sql(node: Join) -> str:
    """Return the statement of a join with the nearest row over ``input`` and ``input_1``.

    Of right rows that are equally near the least by its other columns is taken.
    """
    assert node.asof is not None
    near = node.asof
    places = [*node.right_keys, near.right]
    others = [f.name for f in schema_of(node.right) if f.name not in places]
    by = ", ".join(map(quote, places))
    order = ", ".join(map(quote, [*places, *others]))
    parts = [f"l.{quote(a)} {sign} r.{quote(b)}" for a, sign, b in node.key_pairs]
    parts.append(f"l.{quote(near.left)} {near.sign} r.{quote(near.right)}")
    names = ", ".join(quote(f.name) for f in schema_of(node))
    left = "LEFT " if node.kind is JoinKind.LEFT else ""
    right = f"(SELECT DISTINCT ON ({by}) * FROM input_1 ORDER BY {order})"
    return f"SELECT {names} FROM input l ASOF {left}JOIN {right} r ON {' AND '.join(parts)}"


SESSION_FRAME = "SESSION"
"""Begins the frame of the rows of a session; its gap in microseconds follows."""


def session_gap(over: OverCall) -> int | None:
    """Return the gap of a call over the rows of a session, in microseconds; None for one with another frame."""
    word, _, gap = over.frame.partition(" ")
    return int(gap) if word == SESSION_FRAME else None


def over_sql(node: Over, source: str = "input") -> str:
    """Return the statement of `node` over `source`, the partition's rows."""
    names = [quote(f.name) for f in schema_of(node)]
    sql = f"SELECT {', '.join(['*', *over_items(node)])} FROM {with_sessions(node, source)}"
    if node.condition is not None:
        condition = render(as_declared(node.condition, schema_of(node)))
        return f"SELECT {', '.join(names)} FROM ({sql}) WHERE {condition}"
    return f"SELECT {', '.join(names)} FROM ({sql})"


def over_items(node: Over, beside: tuple[str, ...] = ()) -> list[str]:
    """Return the SELECT items of the calls; among rows alike in all columns those `beside` (quoted) decide."""
    return [
        f"CAST({_over(node, over, beside)} AS {motion_type(over.call.type)}) AS {quote(over.name)}"
        for over in node.calls
    ]


def with_sessions(node: Over, source: str) -> str:
    """Return `source` with a column for each call whose frame is a session: which one a row is of, counted from 1."""
    for i, over in enumerate(node.calls):
        gap = session_gap(over)
        if gap is None:
            continue
        time = quote(over.call.order[0].field)
        by = f"PARTITION BY {', '.join(map(quote, node.partition))} " if node.partition else ""
        apart = f"epoch_us({time}) - lag(epoch_us({time})) OVER ({by}ORDER BY {time}) < {gap}"
        marked = f'SELECT *, CASE WHEN {apart} THEN 0 ELSE 1 END AS "#new" FROM {source}'
        counted = f'sum("#new") OVER ({by}ORDER BY {time}) AS {session_column(i)}'
        source = f'(SELECT * EXCLUDE ("#new"), {counted} FROM ({marked}))'
    return source


def session_column(i: int) -> str:
    """Return the quoted column of the sessions of call `i`."""
    return quote(f"#session{i}")


def ties(node: Over, over: OverCall, beside: tuple[str, ...] = ()) -> str:
    """Return the order of a call's rows in which none is left open."""
    order = order_sql((*over.call.order, *_rest(node, over)))
    return ", ".join([p for p in (order, *beside) if p])


def ranking_order(node: Over, over: OverCall) -> tuple[OrderBy, ...]:
    """Return the order of a call that ranks rows, with what settles ties where rows have a place each."""
    order = over.call.order
    return (*order, *_rest(node, over)) if over.call.function in _ROW_BY_ROW else order


def _rest(node: Over, over: OverCall) -> tuple[OrderBy, ...]:
    known = {o.field for o in over.call.order} | set(node.partition)
    return tuple(OrderBy(f.name) for f in schema_of(node.input) if f.name not in known)


def _over(node: Over, over: OverCall, beside: tuple[str, ...]) -> str:
    call = over.call
    fields = schema_of(node.input)
    types = {f.name: f.type for f in fields}
    order = call.order
    rest = _rest(node, over)
    rows = over.frame.upper().startswith("ROWS")
    session = session_gap(over)
    inside: tuple[OrderBy, ...] = ()
    sort = order_sql(order)
    if call.function in _ROW_BY_ROW or session is not None or (rows and call.function not in _PEERS_ALIKE):
        sort = ties(node, over, beside)
    elif call.function in _ONE_OF_FRAME or call.function in _SORTED:
        # the frame goes by peers, and among these by the other columns
        inside = (*order, *rest)
    where = f" FILTER (WHERE {quote(call.filter)})" if call.filter is not None else ""
    parts = []
    keys = [*map(quote, node.partition), *([session_column(node.calls.index(over))] if session is not None else [])]
    if keys:
        parts.append(f"PARTITION BY {', '.join(keys)}")
    if sort:
        parts.append(f"ORDER BY {sort}")
    if session is not None:
        parts.append("ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING")
    elif over.frame:
        parts.append(over.frame)
    return value_sql(
        call, types, inside, f"{where} OVER ({' '.join(parts)})", " IGNORE NULLS" if over.ignore_nulls else ""
    )
