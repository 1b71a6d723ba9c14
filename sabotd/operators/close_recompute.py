"""Rows of windows kept until the watermark has closed them; then what an SQL statement says of them, once."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from cython_shuffle.frames import MAX_WATERMARK_US, Barrier
from planner.task_spec import CloseRecomputeOp, Columns
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
from sabotd.operators.late import LateRows
from sabotd.state.duckdb_state import Session, TaskDatabase

_PENDING_ROWS = 131_072
_REWRITE_ROWS = 262_144


class _Input:
    """One input: rows not yet stored, the state, and the rows of the windows that close (the SQL's ``input``)."""

    def __init__(
        self, session: Session, port: int, columns: Columns, close: str, schema: pa.Schema, *, ordered: bool
    ) -> None:
        spec = next((c for c in columns if c.name == close), None)
        if spec is None:
            msg = f"close column {close!r} is not among the columns"
            raise InternalError(msg)
        self._session, self._columns, self._close = session, columns, close
        self._weighted = WEIGHT in schema.names
        self._pending: Batches = []
        self.next_us: int | None = None
        self.late = LateRows([c.name for c in columns])
        self._dropped = self._stored = 0
        self._table = table = session.table(f"rows_{port}")
        session.execute(f"CREATE TABLE {table} ({declarations(columns, weighted=self._weighted)})")
        self._slot = session.slot(f"raw_{port}", schema)
        listed = ", ".join([*names(columns), *([quote(WEIGHT)] if self._weighted else [])])
        self._append = session.prepare(f"INSERT INTO {table} SELECT {listed} FROM raw_{port}")
        due = f" WHERE {quote(close)} <= {watermark_literal(spec.type)}"
        sort = f" ORDER BY {', '.join(names(columns))}" if ordered else ""

        def rows(where: str) -> str:
            if self._weighted:
                return consolidated(columns, f"(FROM {table}{where})", weighted=True) + sort
            return f"SELECT {listed} FROM {table}{where}{sort}"

        out = arrow_columns(columns)
        out = out.append(pa.field(WEIGHT, pa.int64())) if self._weighted else out
        self.due = session.slot(f"due_{port}", out)
        view = quote("input" if port == 0 else f"input_{port}")
        shown = repeated(columns, f"due_{port}") if self._weighted else f"FROM due_{port}"
        session.execute(f"CREATE TEMP VIEW {view} AS {shown}")
        self._load_due, self._load_all = session.prepare(rows(due), out), session.prepare(rows(""), out)
        self._drop_due = session.prepare(f"DELETE FROM {table}{due}")
        self._drop_all = session.prepare(f"DELETE FROM {table}")
        self._look = session.prepare(f"SELECT epoch_us(min({quote(close)})), count(*) FROM {table}")

    def take(self, batch: pa.RecordBatch, closed_us: int | None) -> None:
        """Keep the rows but for those whose window has been closed."""
        if closed_us is not None and batch.num_rows:
            late = pc.fill_null(pc.less_equal(close_us(batch, self._close), closed_us), fill_value=False)
            if pc.any(late).as_py():
                self.late.add(batch.filter(late), closed_us)
                batch = batch.filter(pc.invert(late))
        if batch.num_rows:
            self._pending.append(batch)
            if row_count(self._pending) >= _PENDING_ROWS:
                self.store()

    def store(self) -> None:
        """Move what has been taken into the table."""
        if not self._pending:
            return
        for batch in self._pending:
            earliest = pc.min(close_us(batch, self._close)).as_py()
            if earliest is not None and (self.next_us is None or earliest < self.next_us):
                self.next_us = earliest
        self._slot.fill(self._pending)
        try:
            self._append.run()
        finally:
            self._slot.clear()
        self._stored += row_count(self._pending)
        self._pending = []

    def load(self, watermark_us: int) -> None:
        """Move the rows of the windows that close from the table to ``input``."""
        if watermark_us == MAX_WATERMARK_US:
            self.due.fill(self._load_all.batches())
            self._drop_all.run()
            self.next_us, self._stored, self._dropped = None, 0, 0
            return
        if self.next_us is None or watermark_us < self.next_us:
            return
        self.due.fill(self._load_due.batches(watermark_us))
        self._drop_due.run(watermark_us)
        self.next_us, left = self._look.row()
        self._dropped += self._stored - left
        self._stored = left
        if self._dropped > max(_REWRITE_ROWS, left):
            self._rewrite()

    def forget(self) -> None:
        """Let rows go."""
        self._pending = []

    def _rewrite(self) -> None:
        """Free what was deleted."""
        swap = f"{self._table[:-1]}_swap{self._table[-1]}"
        self._session.execute(f"CREATE TABLE {swap} ({declarations(self._columns, weighted=self._weighted)})")
        self._session.execute(f"INSERT INTO {swap} SELECT * FROM {self._table}")
        self._session.execute(f"DROP TABLE {self._table}")
        self._session.execute(f"ALTER TABLE {swap} RENAME TO {self._table}")
        self._dropped = 0


class CloseRecompute:
    """Emits, when the watermark is at or past the close columns of rows, the answer over those rows; they are dropped.

    All rows of a key share one close time, so a key is answered once and for all. Rows that are closed when they come
    are told in `late`.
    """

    def __init__(self, op: CloseRecomputeOp, db: TaskDatabase, schemas: list[pa.Schema]) -> None:
        self._session = session = db.session()
        self._closed_us: int | None = None
        self._inputs = [
            _Input(session, i, columns, close, schema, ordered=op.ordered)
            for i, (columns, close, schema) in enumerate(zip(op.inputs, op.close_columns, schemas, strict=True))
        ]
        self.late = tuple(side.late for side in self._inputs)
        listed = ", ".join(names(op.columns))
        self._answer = session.prepare(f"SELECT {listed} FROM ({op.sql})", arrow_columns(op.columns))

    def process(self, port: int, batch: pa.RecordBatch) -> Iterable[pa.RecordBatch]:
        """Gather, without what comes too late; store when much has gathered."""
        self._inputs[port].take(batch, self._closed_us)
        return []

    def barrier(self, barrier: Barrier) -> Iterable[pa.RecordBatch]:
        """Store the epoch; return the answer for the windows that the watermark has passed, and forget them."""
        for side in self._inputs:
            side.store()
        watermark = barrier.watermark_us
        if watermark is None:
            return []
        if self._closed_us is None or watermark > self._closed_us:
            self._closed_us = watermark
        waiting = all(side.next_us is None or watermark < side.next_us for side in self._inputs)
        if waiting and watermark != MAX_WATERMARK_US:
            return []
        try:
            for side in self._inputs:
                side.load(watermark)
            return self._answer.batches()
        finally:
            for side in self._inputs:
                side.due.clear()

    def close(self) -> None:
        """Close the connection and let rows go."""
        for side in self._inputs:
            side.forget()
        self._session.close()
