"""Leaves out rows that cannot be among the best of their key, before they are shuffled, sorted or kept."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from cython_shuffle.frames import Barrier
from planner.task_spec import BestRowsOp
from sabot.schema import quote
from sabotd.operators.columns import Batches, arrow_columns, names, row_count
from sabotd.state.duckdb_state import TaskDatabase

# Rows gather until a statement is worth its fixed cost.
_ROWS = 131_072
# Where keys have few rows each nothing is left out: then rows pass, and now and again it is tried anew.
_WORTH = 0.7
_TRY_AGAIN = 16
_LEAST_TOLD = 4_096


class BestRows:
    """Passes on what may be among the first of its key in this epoch; keeps nothing over a barrier.

    By the first column of the order alone, so it is a grouping and no sort; rows that are equal in it stay.
    """

    def __init__(self, op: BestRowsOp, db: TaskDatabase, schema: pa.Schema) -> None:
        self._session = db.session()
        self._raw: Batches = []
        self._passing = 0
        self._slot = self._session.slot("input", schema)
        self._statement = self._session.prepare(_best_sql(op), arrow_columns(op.columns))

    def process(self, port: int, batch: pa.RecordBatch) -> Iterable[pa.RecordBatch]:
        """Gather; choose when much has gathered."""
        if batch.num_rows:
            self._raw.append(batch)
            if row_count(self._raw) >= _ROWS:
                return self._choose()
        return []

    def barrier(self, barrier: Barrier) -> Iterable[pa.RecordBatch]:
        """Choose among what is left."""
        return self._choose() if self._raw else []

    def close(self) -> None:
        """Close the connection and let rows go."""
        self._raw = []
        self._session.close()

    def _choose(self) -> Batches:
        raw, self._raw = self._raw, []
        if self._passing:
            self._passing -= 1
            return raw
        self._slot.fill(raw)
        try:
            best = self._statement.batches()
        finally:
            self._slot.clear()
        if row_count(raw) >= _LEAST_TOLD and row_count(best) > _WORTH * row_count(raw):
            self._passing = _TRY_AGAIN
        return best


def _best_sql(op: BestRowsOp) -> str:
    """Return the SELECT of the rows that are no worse than the n-th best of their key, by the leading column."""
    lead, listed = quote(op.lead.name), ", ".join(names(op.columns))
    function = "max" if op.lead.descending else "min"
    sign = ">=" if op.lead.descending else "<="
    nth = f"{function}({lead})" if op.limit == 1 else f"{function}({lead}, {op.limit})"
    # with fewer values than asked for, or none, every row may be needed
    short = "g.nth IS NULL" if op.limit == 1 else f"coalesce(len(g.nth), 0) < {op.limit}"
    bound = "g.nth" if op.limit == 1 else f"g.nth[{op.limit}]"
    kept = f"{lead} {sign} {bound} OR {short}" + (f" OR {lead} IS NULL" if op.lead.nulls_first else "")
    if not op.keys:
        return f"SELECT {listed} FROM input, (SELECT {nth} AS nth FROM input) AS g WHERE {kept}"
    by = ", ".join(quote(k) for k in op.keys)
    aliases = [f'"#k{i}"' for i in range(len(op.keys))]
    groups = ", ".join(f"{quote(k)} AS {alias}" for k, alias in zip(op.keys, aliases, strict=True))
    on = " AND ".join(f"{quote(k)} IS NOT DISTINCT FROM {alias}" for k, alias in zip(op.keys, aliases, strict=True))
    best = f"SELECT {groups}, {nth} AS nth FROM input GROUP BY {by}"
    return f"SELECT {listed} FROM input JOIN ({best}) AS g ON {on} WHERE {kept}"
