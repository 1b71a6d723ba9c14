"""SQL text that several operators need: column lists, stored types, key conditions, consolidation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa

from planner.task_spec import Columns, ColumnSpec
from sabot.ids import WEIGHT
from sabot.schema import arrow_type, quote
from sabotd.state.duckdb_state import stored_type

Batches = list[pa.RecordBatch]


def arrow_columns(columns: Columns, *, weighted: bool = False) -> pa.Schema:
    """Return the Arrow schema of `columns`, with ``__weight`` (int32) last if `weighted`."""
    fields = [pa.field(c.name, arrow_type(c.type)) for c in columns]
    if weighted:
        fields.append(pa.field(WEIGHT, pa.int32()))
    return pa.schema(fields)


def names(columns: Columns, prefix: str = "") -> list[str]:
    """Return the quoted column names, each after `prefix`."""
    return [prefix + quote(c.name) for c in columns]


def declarations(columns: Columns, *, weighted: bool = False) -> str:
    """Return the column definitions of a state table."""
    parts = [f"{quote(c.name)} {stored_type(c.type)}" for c in columns]
    if weighted:
        parts.append(f"{quote(WEIGHT)} BIGINT")
    return ", ".join(parts)


HASH = '"#h"'
"""The column beside rows whose key is compared by its hash first."""

DUE = '"#due"'
"""The column beside rows that can go when the watermark has passed it, in microseconds since 1970."""

_FIXED_WIDTH = ("INT", "FLOAT", "DOUBLE", "DECIMAL", "DATE", "TIME", "BOOLEAN", "UUID")


def is_fixed_width(type_text: str) -> bool:
    """Whether each value of a type takes the same few bytes."""
    return "[" not in type_text and any(word in type_text.upper().split("(")[0] for word in _FIXED_WIDTH)


def key_hash(keys: Sequence[ColumnSpec], prefix: str = "") -> str:
    """Return the expression of a key's hash, or nothing where its columns are compared as they are.

    Comparing text takes 16 ms a million rows of state, its hash 3 ms; keys of fixed width are left alone, because
    their ranges prune row groups.
    """
    if all(is_fixed_width(k.type) for k in keys):
        return ""
    return f"hash({', '.join(names(tuple(keys), prefix))})"


def same_key(left: Iterable[str], right: Iterable[str], *, null_safe: bool) -> str:
    """Return the condition that two keys are equal; without keys, true.

    ``=`` prunes row groups by the range of the built side and needs a third of the time of ``null_safe`` (NULL is a
    key), which is for the few keys that hold a NULL.
    """
    sign = "IS NOT DISTINCT FROM" if null_safe else "="
    return " AND ".join(f"{a} {sign} {b}" for a, b in zip(left, right, strict=True)) or "true"


def same_hashed_key(state: str, delta: str, equal: str) -> str:
    """Return the condition that the hashes of two aliases are equal, and then their keys by `equal`."""
    # coalesce keeps the optimizer from making the keys part of what is hashed and compared for every row
    return f"{state}.{HASH} = {delta}.{HASH} AND coalesce({equal}, false)"


def any_null(keys: Iterable[str]) -> str:
    """Return the condition that a key holds a NULL."""
    return " OR ".join(f"{key} IS NULL" for key in keys) or "false"


def has_null(batches: Batches, columns: Sequence[str]) -> bool:
    """Return whether any of `columns` holds a NULL."""
    return any(batch.column(name).null_count for batch in batches for name in columns)


def row_count(batches: Batches) -> int:
    """Return the rows of all `batches`."""
    return sum(batch.num_rows for batch in batches)


def consolidated(columns: Columns, source: str, *, weighted: bool) -> str:
    """Return the SELECT that sums the weights of equal rows of `source` and drops those that sum to zero."""
    cols = ", ".join(names(columns))
    weight = f"sum({quote(WEIGHT)})" if weighted else "count(*)"
    group = f" GROUP BY {cols}" if cols else ""
    comma = ", " if cols else ""
    return f"SELECT {cols}{comma}CAST({weight} AS BIGINT) AS {quote(WEIGHT)} FROM {source}{group} HAVING {weight} <> 0"


def repeated(columns: Columns, source: str) -> str:
    """Return the SELECT that gives each row of `source` as often as its weight says (never for a weight below 1)."""
    cols = ", ".join(names(columns))
    weight = quote(WEIGHT)
    return (
        f"SELECT {cols} FROM {source} WHERE {weight} = 1 UNION ALL "
        f"SELECT {cols} FROM (SELECT *, unnest(range({weight})) FROM {source} WHERE {weight} > 1)"
    )


class Gathered:
    """Tells when gathered batches are worth merging into fewer rows.

    Not before there are `least_rows`, nor before there are twice those that the last merge left: where most keys differ
    merging at a fixed number would go through all of them again with every batch.
    """

    def __init__(self, least_rows: int) -> None:
        self._least = least_rows
        self._left = 0

    def are_enough(self, batches: Batches) -> bool:
        """Whether to merge `batches` now."""
        rows = row_count(batches)
        if rows < self._left:  # what was merged has been taken since
            self._left = 0
        return len(batches) > 1 and rows > max(self._least, 2 * self._left)

    def merged(self, batches: Batches) -> Batches:
        """Return `batches`, which a merge has left, taken note of."""
        self._left = row_count(batches)
        return batches
