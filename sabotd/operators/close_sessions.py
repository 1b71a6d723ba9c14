"""Sessions that are told once, when the watermark has passed the end of each; their rows are then dropped.

A session grows while rows come that reach into it, so whether a row is late depends on what came before it: rows that
lie behind their own watermark are taken one watermark after another, all others at once.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cython_shuffle.frames import Barrier
from planner.task_spec import CloseSessionsOp
from sabot.ids import ROW_WATERMARK, WEIGHT
from sabot.schema import quote
from sabotd.operators.close_agg import close_us
from sabotd.operators.columns import Batches, arrow_columns, consolidated, declarations, names, repeated, same_key
from sabotd.operators.late import LateRows
from sabotd.state.duckdb_state import TaskDatabase

_NEVER = np.iinfo(np.int64).min
_END = '"#end"'
"""Beside each row of the state: when its session ended as far as was known; sessions only grow."""


class CloseSessions:
    """Rows by key and time until their session has closed.

    `late` has the rows whose own window had closed by their watermark and into which no open session reached. The
    answer depends on the order of the rows and their watermarks alone, not on where epochs end.
    """

    def __init__(self, op: CloseSessionsOp, db: TaskDatabase, schema: pa.Schema) -> None:
        self._op = op
        self.late = (LateRows([c.name for c in op.rows]),)
        self._pending: Batches = []
        self._next_us: int | None = None
        """No open session ends before this."""
        self._session = session = db.session()
        self._rows, self._told = session.table("rows"), session.table("told")
        self._plain = schema.remove(schema.get_field_index(ROW_WATERMARK))
        session.execute(f"CREATE TABLE {self._rows} ({declarations(op.rows, weighted=op.weighted)}, {_END} BIGINT)")
        session.execute(f"CREATE TABLE {self._told} ({declarations(op.columns)})")
        self._slot = session.slot("raw", self._plain)
        time, end = quote(op.time_column), quote(op.columns[-1].name)
        cols = ", ".join(names(op.rows))
        listed = cols + (f", {quote(WEIGHT)}" if op.weighted else "")
        own_end = f"epoch_us({time}) + {op.gap_us}"
        self._append = session.prepare(f"INSERT INTO {self._rows} SELECT {listed}, {own_end} FROM raw")
        # a session may have closed only in a partition with such a row
        keys = [quote(k) for k in op.keys]
        old = f"SELECT {', '.join([*keys, f'min({_END}) AS {_END}'])} FROM {self._rows}"
        old += f" GROUP BY {', '.join(keys)}" if keys else ""
        old += f" HAVING min({_END}) <= CAST($1 AS BIGINT)"
        on = same_key((f"r.{k}" for k in keys), (f"k.{k}" for k in keys), null_safe=True)
        source = f"(FROM {self._rows})"
        if op.weighted:
            source = f"({consolidated(op.rows, self._rows, weighted=True)})"
        mine = ", ".join([*names(op.rows, "r."), *([f"r.{quote(WEIGHT)}"] if op.weighted else [])])
        touched = arrow_columns(op.rows)
        touched = touched.append(pa.field(WEIGHT, pa.int64())) if op.weighted else touched
        self._candidates = session.prepare(f"SELECT {mine} FROM {source} r JOIN ({old}) k ON {on}", touched)
        self._drop = session.prepare(f"DELETE FROM {self._rows} r USING ({old}) k WHERE {on}")
        self._old = session.slot("old", touched)
        rows = repeated(op.rows, "old") if op.weighted else "FROM old"
        session.execute(f"CREATE TEMP VIEW input AS {rows}")
        out = arrow_columns(op.columns)
        self._sessions = session.prepare(f"SELECT {', '.join(names(op.columns))} FROM ({op.sql})", out)
        self._found = session.slot("found", out)
        open_ = f"epoch_us({end}) > CAST($1 AS BIGINT)"
        weight = f", CAST(1 AS BIGINT) AS {quote(WEIGHT)}" if op.weighted else ""
        kept = f"{cols}{weight}, epoch_us({end})"
        self._keep = session.prepare(f"INSERT INTO {self._rows} SELECT {kept} FROM found WHERE {open_}")
        self._tell = session.prepare(f"INSERT INTO {self._told} SELECT * FROM found WHERE NOT ({open_})")
        self._least = session.prepare(f"SELECT min({_END}) FROM {self._rows}")
        self._all_told = session.prepare(f"SELECT {', '.join(names(op.columns))} FROM {self._told}", out)
        self._drop_told = session.prepare(f"DELETE FROM {self._told}")
        self._some_told = False
        near = f"abs(epoch_us(r.{time}) - epoch_us(n.{time})) < {op.gap_us}"
        same = same_key((f"r.{k}" for k in keys), (f"n.{k}" for k in keys), null_safe=True)
        self._reached = session.prepare(f"SELECT count(*) FROM {source} r JOIN raw n ON {near} AND {same}")

    def process(self, port: int, batch: pa.RecordBatch) -> Iterable[pa.RecordBatch]:
        """Take the rows in their order."""
        if batch.num_rows:
            self._take(batch)
        return []

    def barrier(self, barrier: Barrier) -> Iterable[pa.RecordBatch]:
        """Return the rows of the sessions that have closed, and forget them."""
        self._store()
        if barrier.watermark_us is not None:
            self._close(barrier.watermark_us)
        if not self._some_told:
            return []
        out = self._all_told.batches()
        self._drop_told.run()
        self._some_told = False
        return out

    def close(self) -> None:
        """Close the connection and let rows go."""
        self._pending = []
        self._session.close()

    def _take(self, batch: pa.RecordBatch) -> None:
        at = close_us(batch, self._op.time_column)
        marks = batch.column(ROW_WATERMARK).cast(pa.int64()).fill_null(_NEVER).to_numpy(zero_copy_only=False)
        timed = pc.is_valid(at)
        times = at.fill_null(0).to_numpy(zero_copy_only=False)
        batch = batch.select(self._plain.names)
        if at.null_count:
            batch = batch.filter(timed)
            kept = timed.to_numpy(zero_copy_only=False)
            times, marks = times[kept], marks[kept]
        gap, done, seen = self._op.gap_us, 0, 0
        for i in np.flatnonzero(times < marks):
            # a row behind its watermark: sessions that had closed by then are not reached any more
            mark = int(marks[i])
            if seen < i:
                self._expect(int(times[seen:i].min()) + gap)
                seen = int(i)
            own_closed = int(times[i]) + gap <= mark
            if not own_closed and (self._next_us is None or self._next_us > mark):
                continue
            self._gather(batch.slice(done, i - done))
            self._store()
            self._close(mark)
            done = int(i)
            if own_closed:
                self._judge(batch.slice(i, 1), int(times[i]), mark)
                done = seen = done + 1
        if seen < len(times):
            self._expect(int(times[seen:].min()) + gap)
        self._gather(batch.slice(done))

    def _expect(self, end_us: int) -> None:
        """Know that a session may end then."""
        if self._next_us is None or end_us < self._next_us:
            self._next_us = end_us

    def _gather(self, batch: pa.RecordBatch) -> None:
        if batch.num_rows:
            self._pending.append(batch)

    def _judge(self, row: pa.RecordBatch, time_us: int, mark_us: int) -> None:
        """Take a row whose own window has closed if an open session reaches into it."""
        self._slot.fill([row])
        try:
            (found,) = self._reached.row()
        finally:
            self._slot.clear()
        if found:
            self._expect(time_us + self._op.gap_us)
            self._gather(row)
            self._store()
        else:
            self.late[0].add(row, mark_us)

    def _store(self) -> None:
        if not self._pending:
            return
        self._slot.fill(self._pending)
        try:
            self._append.run()
        finally:
            self._slot.clear()
        self._pending = []

    def _close(self, watermark_us: int) -> None:
        """Move the sessions that end by the watermark from the state to what is told at the barrier."""
        if self._next_us is None or watermark_us < self._next_us:
            return
        old = self._candidates.batches(watermark_us)
        if old:
            self._drop.run(watermark_us)
            self._old.fill(old)
            try:
                self._found.fill(self._sessions.batches())
            finally:
                self._old.clear()
            try:
                self._tell.run(watermark_us)
                self._keep.run(watermark_us)
            finally:
                self._found.clear()
            self._some_told = True
        (self._next_us,) = self._least.row()
