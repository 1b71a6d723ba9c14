"""Aggregates that DuckDB has as macros or not at all, written with those it has.

A macro takes no DISTINCT, ORDER BY or FILTER; what stands here takes all of them, and OVER.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

JSONB_OBJECT = "jsonb_group_object"
"""PostgreSQL's jsonb_object_agg: each key once, with its last value; keys in the order of jsonb."""
_PAIR = "struct_pack(k := CAST({} AS VARCHAR), v := CAST(to_json({}) AS VARCHAR))"
_MEMBER = "lambda e: concat(to_json(e.k), ':', coalesce(e.v, 'null'))"


def form(
    function: str, types: Sequence[str], arguments: Sequence[str], listed: Callable[[str, Sequence[str]], str]
) -> str | None:
    """Return SQL for a call of `function` over SQL `arguments` of `types`, or None where DuckDB has it as it is.

    Parameters
    ----------
    listed : callable
        Gives ``list(...)`` of an expression, with all that stands in and around the call; the expressions given
        beside go before its order.
    """
    if function == "json_group_array" and len(arguments) == 1:
        return f"to_json({listed(arguments[0], ())})"
    if function in ("json_group_object", JSONB_OBJECT) and len(arguments) == 2:
        pairs = _PAIR.format(*arguments)
        if function == "json_group_object":
            members = listed(pairs, ())
        else:
            key = f"CAST({arguments[0]} AS VARCHAR)"
            sorted_ = listed(pairs, (f"length({key})", key))
            # of equal keys, which lie side by side, the last is the one that stays
            members = (
                f"list_filter({sorted_}, lambda e, i: i = len({sorted_}) OR {sorted_}[i + 1].k IS DISTINCT FROM e.k)"
            )
        named = f"list_filter({members}, lambda e: e.k IS NOT NULL)"
        joined = f"array_to_string(list_transform({named}, {_MEMBER}), ',')"
        return f"CAST('{{' || coalesce({joined}, CASE WHEN {members} IS NOT NULL THEN '' END) || '}}' AS JSON)"
    if function == "sum" and list(types) == ["INTERVAL"]:
        given = f"list_filter({listed(arguments[0], ())}, lambda e: e IS NOT NULL)"
        return f"CASE WHEN len({given}) > 0 THEN list_reduce({given}, lambda a, b: a + b) END"
    return None
