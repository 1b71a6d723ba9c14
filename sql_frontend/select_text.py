"""A query's text as DuckDB has to get it: PostgreSQL lets columns be called by words that DuckDB reserves."""

from __future__ import annotations

import re

from sql_frontend.split import LexemeKind, lexemes

_AT = re.compile(r"\bat\b", re.IGNORECASE)


def for_duckdb(query: str) -> str:
    """Return `query` with the name ``at`` quoted; in AT TIME ZONE, AT LOCAL and before a bracket it stays as it is."""
    if not _AT.search(query):
        return query
    items = lexemes(query)
    parts = []
    done = 0
    for item, following in zip(items, [*items[1:], None], strict=True):
        if item.kind is not LexemeKind.WORD or item.value.lower() != "at":
            continue
        if following is not None and following.value.upper() in ("TIME", "LOCAL", "("):
            continue
        parts += [query[done : item.start], f'"{query[item.start : item.end]}"']
        done = item.end
    return "".join([*parts, query[done:]])
