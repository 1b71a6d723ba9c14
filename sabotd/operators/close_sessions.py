"""Sessions that are told once, when the watermark has passed the end of each; their rows are then dropped.

A session grows while rows come that reach into it, so whether a row is late depends on what came before it: rows that
lie behind their own watermark are taken one after another of their key, all others at once.
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
_MARK, _PLACE = '"#mark"', '"#place"'
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
        marked = self._plain.append(pa.field(_MARK.strip('"'), pa.int64())).append(
            pa.field(_PLACE.strip('"'), pa.int64())
        )
        self._behind = session.slot("behind", marked)
        with_row = same_key((f"r.{k}" for k in keys), (f"n.{k}" for k in keys), null_safe=True)
        self._of_behind = session.prepare(f"SELECT {mine} FROM {source} r JOIN behind n ON {with_row}", touched)
        self._drop_behind = session.prepare(f"DELETE FROM {self._rows} r USING behind n WHERE {with_row}")
        closed = f"epoch_us(r.{end}) <= n.{_MARK}"
        of_row = f"FROM found r JOIN behind n ON {with_row} WHERE"
        told = ", ".join(names(op.columns, "r."))
        self._tell_behind = session.prepare(f"INSERT INTO {self._told} SELECT {told} {of_row} {closed}")
        open_rows = f"{', '.join(names(op.rows, 'r.'))}{weight}, epoch_us(r.{end})"
        self._keep_behind = session.prepare(f"INSERT INTO {self._rows} SELECT {open_rows} {of_row} NOT ({closed})")
        near = f"abs(epoch_us(r.{time}) - epoch_us(n.{time})) < {op.gap_us}"
        reached = f"SELECT DISTINCT n.{_PLACE} FROM {source} r JOIN behind n ON {near} AND {with_row}"
        self._reached = session.prepare(reached, pa.schema([(_PLACE.strip('"'), pa.int64())]))

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
        if not len(times):
            return
        ends = times + self._op.gap_us
        first_end = int(ends.min())
        if self._next_us is not None:
            first_end = min(first_end, self._next_us)
        self._expect(first_end)
        critical = (times < marks) & ((ends <= marks) | (first_end <= marks))
        if not critical.any():
            self._pending.append(batch)
            return
        turns = _turns(self._key_codes(batch), critical)
        for turn in range(int(turns[critical].max()) + 1):
            mine = turns == turn
            self._gather(batch, mine & ~critical)
            judged = np.flatnonzero(mine & critical)
            if len(judged):
                self._store()
                self._judge(batch.take(pa.array(judged)), marks[judged], ends[judged])
        self._gather(batch, turns > turns[critical].max())
        self._expect(int(ends.min()))

    def _key_codes(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return a number for each row that is the same for rows of one key."""
        codes = np.zeros(batch.num_rows, np.int64)
        for key in self._op.keys:
            encoded = pc.dictionary_encode(batch.column(key), null_encoding="encode")
            of_column = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
            _, codes = np.unique(codes * (len(encoded.dictionary) + 1) + of_column, return_inverse=True)
        return codes

    def _expect(self, end_us: int) -> None:
        """Know that a session may end then."""
        if self._next_us is None or end_us < self._next_us:
            self._next_us = end_us

    def _gather(self, batch: pa.RecordBatch, wanted: np.ndarray) -> None:
        if wanted.any():
            self._pending.append(batch.filter(pa.array(wanted)))

    def _judge(self, rows: pa.RecordBatch, marks: np.ndarray, ends: np.ndarray) -> None:
        """Take rows that lie behind their watermark, each of another key, at which sessions of that key close first.

        A row whose own window has closed is taken if an open session reaches into it.
        """
        places = np.arange(rows.num_rows)
        marked = rows.append_column(_MARK.strip('"'), pa.array(marks)).append_column(
            _PLACE.strip('"'), pa.array(places)
        )
        self._behind.fill([marked])
        try:
            old = self._of_behind.batches()
            if old:
                self._drop_behind.run()
                self._find_sessions(old)
                self._tell_behind.run()
                self._keep_behind.run()
                self._some_told = True
            reached = self._reached.batches()
        finally:
            self._behind.clear()
            self._found.clear()
        taken = ends > marks
        for batch in reached:
            taken[batch.column(0).to_numpy()] = True
        self._gather(rows, taken)
        self._store()
        if not taken.all():
            late = pa.array(~taken)
            self.late[0].add(rows.filter(late), pa.array(marks).filter(late).cast(pa.timestamp("us")))
        (self._next_us,) = self._least.row()

    def _find_sessions(self, rows: Batches) -> None:
        """Show the sessions of `rows`, all that are open of their keys, as ``found``."""
        self._old.fill(rows)
        try:
            self._found.fill(self._sessions.batches())
        finally:
            self._old.clear()

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
            self._find_sessions(old)
            try:
                self._tell.run(watermark_us)
                self._keep.run(watermark_us)
            finally:
                self._found.clear()
            self._some_told = True
        (self._next_us,) = self._least.row()


def _turns(codes: np.ndarray, critical: np.ndarray) -> np.ndarray:
    """Return how many critical rows of the same key stand before each row."""
    order = np.argsort(codes, kind="stable")
    marked = critical[order].astype(np.int64)
    before = np.cumsum(marked) - marked
    first = np.flatnonzero(np.diff(codes[order], prepend=-1))
    sizes = np.diff(np.append(first, len(order)))
    turns = np.empty(len(order), np.int64)
    turns[order] = before - np.repeat(before[first], sizes)
    return turns
