"""Holds rows back until the watermark has passed their window: EMIT ON WINDOW CLOSE where no aggregate makes it."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from cython_shuffle.frames import MAX_WATERMARK_US, Barrier
from planner.task_spec import CloseFilterOp
from sabot.errors import InternalError
from sabot.ids import WEIGHT
from sabot.schema import quote
from sabotd.operators.close_agg import close_us, watermark_literal
from sabotd.operators.columns import (
    Batches,
    arrow_columns,
    consolidated,
    declarations,
    names,
    repeated,
    row_count,
)
from sabotd.state.duckdb_state import TaskDatabase

_PENDING_ROWS = 131_072
_REWRITE_ROWS = 262_144


class CloseFilter:
    """Rows leave once, when the watermark is at or past their close column; rows with NULL there leave at the end.

    Weighted rows consolidate while they are held; what is retracted after its window closed has been shown and stays.
    """

    def __init__(self, op: CloseFilterOp, db: TaskDatabase, schema: pa.Schema) -> None:
        close = next((c for c in op.columns if c.name == op.close_column), None)
        if close is None:
            msg = f"close column {op.close_column!r} is not among the columns"
            raise InternalError(msg)
        self._op = op
        self._close = close.name
        self._pending: Batches = []
        self._next_us: int | None = None
        self._stored = self._dropped = 0
        self._session = session = db.session()
        self._table = table = session.table("held")
        session.execute(f"CREATE TABLE {table} ({declarations(op.columns, weighted=op.weighted)})")
        self._slot = session.slot("input", schema)
        listed = ", ".join(names(op.columns) + ([quote(WEIGHT)] if op.weighted else []))
        self._append = session.prepare(f"INSERT INTO {table} SELECT {listed} FROM input")
        due = f" WHERE {quote(close.name)} <= {watermark_literal(close.type)}"
        out = arrow_columns(op.columns)

        def answer(where: str) -> str:
            if not op.weighted:
                return f"SELECT {listed} FROM {table}{where}"
            rows = consolidated(op.columns, f"(SELECT * FROM {table}{where})", weighted=True)
            return f"WITH due AS MATERIALIZED ({rows}) {repeated(op.columns, 'due')}"

        self._due = session.prepare(answer(due), out)
        self._all = session.prepare(answer(""), out)
        self._drop_due = session.prepare(f"DELETE FROM {table}{due}")
        self._drop_all = session.prepare(f"DELETE FROM {table}")
        self._look = session.prepare(f"SELECT epoch_us(min({quote(close.name)})), count(*) FROM {table}")

    def process(self, port: int, batch: pa.RecordBatch) -> Iterable[pa.RecordBatch]:
        """Hold the rows."""
        if batch.num_rows:
            self._pending.append(batch)
            if row_count(self._pending) >= _PENDING_ROWS:
                self._store()
        return []

    def barrier(self, barrier: Barrier) -> Iterable[pa.RecordBatch]:
        """Return the rows whose window the watermark has passed, and forget them."""
        if self._pending:
            self._store()
        watermark = barrier.watermark_us
        if watermark is None or not self._stored:
            return []
        if watermark == MAX_WATERMARK_US:
            out = self._all.batches()
            self._drop_all.run()
            self._next_us, self._stored = None, 0
            return out
        if self._next_us is None or watermark < self._next_us:
            return []
        out = self._due.batches(watermark)
        self._drop_due.run(watermark)
        self._next_us, left = self._look.row()
        self._dropped += self._stored - left
        self._stored = left
        if self._dropped > max(_REWRITE_ROWS, left):
            self._rewrite()
        return out

    def close(self) -> None:
        """Close the connection and let rows go."""
        self._pending = []
        self._session.close()

    def _store(self) -> None:
        for batch in self._pending:
            earliest = pc.min(close_us(batch, self._close)).as_py()
            if earliest is not None and (self._next_us is None or earliest < self._next_us):
                self._next_us = earliest
        self._slot.fill(self._pending)
        try:
            self._append.run()
        finally:
            self._slot.clear()
        self._stored += row_count(self._pending)
        self._pending = []

    def _rewrite(self) -> None:
        """Free what was deleted."""
        swap = self._session.table("swap")
        self._session.execute(f"CREATE TABLE {swap} ({declarations(self._op.columns, weighted=self._op.weighted)})")
        self._session.execute(f"INSERT INTO {swap} SELECT * FROM {self._table}")
        self._session.execute(f"DROP TABLE {self._table}")
        self._session.execute(f"ALTER TABLE {swap} RENAME TO {self._table}")
        self._dropped = 0
