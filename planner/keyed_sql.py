"""What the operator that recomputes keys runs for joins with rows of no partner, and for functions over windows."""

from __future__ import annotations

from planner.aggregates import call_sql, order_sql
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
    parts = [f"l.{quote(a)} = r.{quote(b)}" for a, b in zip(node.left_keys, node.right_keys, strict=True)]
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
    parts = [f"l.{quote(a)} = r.{quote(b)}" for a, b in zip(node.left_keys, node.right_keys, strict=True)]
    parts.append(f"l.{quote(near.left)} {near.sign} r.{quote(near.right)}")
    names = ", ".join(quote(f.name) for f in schema_of(node))
    left = "LEFT " if node.kind is JoinKind.LEFT else ""
    right = f"(SELECT DISTINCT ON ({by}) * FROM input_1 ORDER BY {order})"
    return f"SELECT {names} FROM input l ASOF {left}JOIN {right} r ON {' AND '.join(parts)}"


def over_sql(node: Over) -> str:
    """Return the statement of `node` over ``input``, the partition's rows."""
    names = [quote(f.name) for f in schema_of(node)]
    items = [f"CAST({_over(node, over)} AS {motion_type(over.call.type)}) AS {quote(over.name)}" for over in node.calls]
    sql = f"SELECT {', '.join(['*', *items])} FROM input"
    if node.condition is not None:
        condition = render(as_declared(node.condition, schema_of(node)))
        return f"SELECT {', '.join(names)} FROM ({sql}) WHERE {condition}"
    return f"SELECT {', '.join(names)} FROM ({sql})"


def _over(node: Over, over: OverCall) -> str:
    call = over.call
    fields = schema_of(node.input)
    types = {f.name: f.type for f in fields}
    order = call.order
    known = {o.field for o in order} | set(node.partition)
    ties = tuple(OrderBy(f.name) for f in fields if f.name not in known)
    rows = over.frame.upper().startswith("ROWS")
    inside: tuple[OrderBy, ...] = ()
    if call.function in _ROW_BY_ROW or (rows and call.function not in _PEERS_ALIKE):
        order = (*order, *ties)
    elif call.function in _ONE_OF_FRAME or call.function in _SORTED:
        # the frame goes by peers, and among these by the other columns
        inside = (*order, *ties)
    bare = call_sql(call, types, inside)
    if call.function == "count" and call.argument is None:
        bare = "count(*)"
    if over.ignore_nulls:
        bare = f"{bare[:-1]} IGNORE NULLS)"
    where = f" FILTER (WHERE {quote(call.filter)})" if call.filter is not None else ""
    parts = []
    if node.partition:
        parts.append(f"PARTITION BY {', '.join(map(quote, node.partition))}")
    if order:
        parts.append(f"ORDER BY {order_sql(order)}")
    if over.frame:
        parts.append(over.frame)
    return f"{bare}{where} OVER ({' '.join(parts)})"
