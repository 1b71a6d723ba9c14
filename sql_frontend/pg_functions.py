"""PostgreSQL's and RisingWave's functions that DuckDB lacks or means otherwise, in DuckDB's own words.

Views put the expression in the call's place; SELECT finds a macro of the function's name.
"""

from __future__ import annotations

from sabot.schema import quote

_PARTS = (
    "CASE WHEN p2 IS NULL THEN string_split(p1, '') WHEN p1 = '' THEN []::VARCHAR[] WHEN p2 = '' THEN [p1] "
    "ELSE string_split(p1, p2) END"
)
_TEXTS = "list_transform(p1, LAMBDA x: {})"
_JOINED = (
    "CASE WHEN p2 IS NULL THEN NULL WHEN len({0}) = 0 THEN '' ELSE list_reduce({0}, LAMBDA x, y: concat(x, p2, y)) END"
)
_SHOWN = "CASE WHEN p1 IS NOT NULL THEN printf(p1, {}) END"
_MOST_FORMATTED = 8

TEMPLATES: dict[tuple[str, int], str] = {
    ("array_join", 2): _JOINED.format(f"list_filter({_TEXTS.format('CAST(x AS VARCHAR)')}, LAMBDA x: x IS NOT NULL)"),
    ("array_join", 3): _JOINED.format(_TEXTS.format("COALESCE(CAST(x AS VARCHAR), p3)")),
    ("array_min", 1): "list_min(p1)",
    ("array_max", 1): "list_max(p1)",
    ("array_sum", 1): "list_sum(p1)",
    ("array_overlaps", 2): "list_has_any(p1, p2)",
    ("array_is_overlap", 2): "list_has_any(p1, p2)",
    ("array_is_intersect", 2): "list_has_any(p1, p2)",
    ("string_to_array", 2): _PARTS,
    ("string_to_array", 3): f"list_transform({_PARTS}, LAMBDA x: CASE WHEN x IS DISTINCT FROM p3 THEN x END)",
    ("booleq", 2): "CAST(p1 AS BOOLEAN) = CAST(p2 AS BOOLEAN)",
    ("boolne", 2): "CAST(p1 AS BOOLEAN) <> CAST(p2 AS BOOLEAN)",
    ("format", 1): "CASE WHEN p1 IS NOT NULL THEN printf(p1) END",
    **{
        ("format", n): _SHOWN.format(", ".join(f"COALESCE(CAST(p{i} AS VARCHAR), '')" for i in range(2, n + 1)))
        for n in range(2, _MOST_FORMATTED + 1)
    },
}
"""By name and number of arguments: SQL over ``p1``, ``p2``, ..."""

_FIRST = "CASE WHEN p2 < 1 THEN 1 ELSE p2 END"
_COUNT = (
    "CASE WHEN p3 < 0 THEN error('negative substring length not allowed') WHEN p2 >= 1 THEN p3 "
    "WHEN CAST(p2 AS HUGEINT) + p3 < 1 THEN 0 ELSE CAST(CAST(p2 AS HUGEINT) + p3 - 1 AS BIGINT) END"
)
_SELECT_ONLY: dict[tuple[str, int], str] = {
    ("clock_timestamp", 0): "get_current_timestamp()",
    ("div", 2): "trunc(p1 / p2)",
    **{(n, 2): f"system.main.substring(p1, {_FIRST})" for n in ("substr", "substring")},
    **{(n, 3): f"system.main.substring(p1, {_FIRST}, {_COUNT})" for n in ("substr", "substring")},
    ("jsonb_array_length", 1): "json_array_length(p1)",
}
"""What views have by other means, or not at all."""


def macros() -> list[str]:
    """Return the statements that make the functions as macros of DuckDB, each with all its numbers of arguments."""
    by_name: dict[str, list[tuple[int, str]]] = {}
    for (name, count), body in {**TEMPLATES, **_SELECT_ONLY}.items():
        by_name.setdefault(name, []).append((count, body))
    return [
        f"CREATE MACRO {quote(name)}"
        + ", ".join(f"({', '.join(f'p{i + 1}' for i in range(count))}) AS {body}" for count, body in overloads)
        for name, overloads in by_name.items()
    ]
