"""Aggregates within one task before the exchange, so that the wire carries groups, not rows."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from cython_shuffle.frames import Barrier
from planner.task_spec import Columns, ColumnSpec, PartialAggOp, PartialColumn
from sabot.schema import quote
from sabotd.operators.columns import Batches, Gathered, arrow_columns, names, row_count
from sabotd.operators.failures import Watched
from sabotd.state.duckdb_state import TaskDatabase

# Rows gather until a statement is worth its fixed cost; partials until merging them is worth it.
_RAW_ROWS = 131_072
_PARTIAL_ROWS = 1_048_576


class PartialAgg:
    """Partials of an epoch by key. A global aggregate's first epoch gives a row even without input."""

    def __init__(self, op: PartialAggOp, db: TaskDatabase, schema: pa.Schema) -> None:
        out = arrow_columns(partial_columns(op.keys, op.partials))
        self._global = not op.keys
        self._begun = False
        self._session = db.session()
        self._raw: Batches = []
        self._partials: Batches = []
        self._gathered = Gathered(_PARTIAL_ROWS)
        self._raw_slot = self._session.slot("input", schema)
        self._reduce = Watched(self._session, op.sql, op.strict, op.checks, out, db.tell_failures)
        self._partial_slot = self._session.slot("partials", out)
        self._merge = self._session.prepare(merge_sql(op.keys, op.partials, "partials"), out)

    def process(self, port: int, batch: pa.RecordBatch) -> Iterable[pa.RecordBatch]:
        """Gather; reduce when much has gathered."""
        if batch.num_rows:
            self._raw.append(batch)
            if row_count(self._raw) >= _RAW_ROWS:
                self._reduce_raw()
                if self._gathered.are_enough(self._partials):
                    self._merge_partials()
        return []

    def barrier(self, barrier: Barrier) -> Iterable[pa.RecordBatch]:
        """Return the epoch's partials, one row a key."""
        if self._raw or (self._global and not self._begun):
            self._reduce_raw()
        self._begun = True
        if len(self._partials) > 1:
            self._merge_partials()
        out, self._partials = self._partials, []
        return out

    def close(self) -> None:
        """Close the connection and let rows go."""
        self._raw, self._partials = [], []
        self._session.close()

    def _reduce_raw(self) -> None:
        self._raw_slot.fill(self._raw)
        try:
            self._partials += self._reduce.batches()
        finally:
            self._raw_slot.clear()
            self._raw = []

    def _merge_partials(self) -> None:
        self._partial_slot.fill(self._partials)
        try:
            self._partials = self._gathered.merged(self._merge.batches())
        finally:
            self._partial_slot.clear()


def partial_columns(keys: Columns, partials: tuple[PartialColumn, ...]) -> Columns:
    """Return the columns of a partial aggregate's rows."""
    return (*keys, *(ColumnSpec(p.name, p.type) for p in partials))


def merge_sql(keys: Columns, partials: tuple[PartialColumn, ...], source: str, where: str = "") -> str:
    """Return the SELECT that merges the partials of `source` by key; NULL is a key."""
    by = ", ".join(names(keys))
    items = names(keys) + [f"CAST({p.merge}({quote(p.name)}) AS {p.type}) AS {quote(p.name)}" for p in partials]
    return f"SELECT {', '.join(items)} FROM {source}{where}" + (f" GROUP BY {by}" if by else "")
