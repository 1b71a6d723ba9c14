"""Rows told in the order of their time, each once what functions over its neighbours say of it stands."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cython_shuffle.frames import MAX_WATERMARK_US, Barrier
from planner.closing_over import ID, MARK, SHOWN, TOLD
from planner.task_spec import CloseOverOp
from sabot.schema import quote
from sabotd.operators.close_agg import close_us
from sabotd.operators.columns import Batches, arrow_columns, declarations, names, same_key
from sabotd.operators.late import LateRows
from sabotd.state.duckdb_state import TaskDatabase


class CloseOver:
    """Keeps rows until the watermark has passed them and the rows that they wait for; tells each once.

    Rows that lie before the last watermark when they come are told in `late` and dropped.
    """

    def __init__(self, op: CloseOverOp, db: TaskDatabase, schema: pa.Schema) -> None:
        self._op = op
        self.late = (LateRows([c.name for c in op.rows]),)
        self._pending: Batches = []
        self._closed_us: int | None = None
        self._oldest_us: int | None = None
        """No row that has not been told is older."""
        self._next_id = 0
        self._session = session = db.session()
        table, time = session.table("rows"), f"epoch_us({quote(op.time)})"
        session.execute(f"CREATE TABLE {table} ({declarations(op.rows)}, {ID} BIGINT, {TOLD} BOOLEAN)")
        numbered = schema.append(pa.field(ID.strip('"'), pa.int64()))
        self._raw = session.slot("raw", numbered)
        cols = ", ".join(names(op.rows))
        self._append = session.prepare(f"INSERT INTO {table} SELECT {cols}, {ID}, false FROM raw")
        keys = [quote(k) for k in op.keys]
        passed = f"({time} < CAST($1 AS BIGINT) OR CAST($1 AS BIGINT) = {MAX_WATERMARK_US})"
        some = f"SELECT DISTINCT {', '.join(keys) or '1'} FROM {table} WHERE NOT {TOLD} AND {passed}"
        on = same_key((f"r.{k}" for k in keys), (f"k.{k}" for k in keys), null_safe=True)
        loaded = arrow_columns(op.rows)
        for name, kind in ((ID, pa.int64()), (TOLD, pa.bool_()), (MARK, pa.int64())):
            loaded = loaded.append(pa.field(name.strip('"'), kind))
        mine = ", ".join([*names(op.rows, "r."), f"r.{ID}", f"r.{TOLD}"])
        mark = f"nullif(CAST($1 AS BIGINT), {MAX_WATERMARK_US}) AS {MARK}"
        load = f"SELECT {mine}, {mark} FROM {table} r JOIN ({some}) k ON {on} WHERE {passed}"
        self._load = session.prepare(load, loaded)
        self._input = session.slot("input", loaded)
        found = arrow_columns(op.columns)
        for name, kind in ((ID, pa.int64()), (SHOWN, pa.bool_())):
            found = found.append(pa.field(name.strip('"'), kind))
        self._answer = session.prepare(op.sql, found)
        self._found = session.slot("found", found)
        self._mark = session.prepare(f"UPDATE {table} SET {TOLD} = true WHERE {ID} IN (SELECT {ID} FROM found)")
        by = f"PARTITION BY {', '.join(keys)} " if keys else ""
        later = f"SELECT {ID} FROM {table} WHERE {TOLD} QUALIFY rank() OVER ({by}ORDER BY {time} DESC)"
        self._prune = session.prepare(f"DELETE FROM {table} WHERE {ID} IN ({later} > {op.history or 0})")
        self._look = session.prepare(f"SELECT min({time}) FROM {table} WHERE NOT {TOLD}")
        self._out = arrow_columns(op.columns)

    def process(self, port: int, batch: pa.RecordBatch) -> Iterable[pa.RecordBatch]:
        """Gather, without what comes too late."""
        if self._closed_us is not None and batch.num_rows:
            late = pc.fill_null(pc.less(close_us(batch, self._op.time), self._closed_us), fill_value=False)
            if pc.any(late).as_py():
                self.late[0].add(batch.filter(late), self._closed_us)
                batch = batch.filter(pc.invert(late))
        if batch.num_rows:
            numbers = np.arange(self._next_id, self._next_id + batch.num_rows)
            self._next_id += batch.num_rows
            self._pending.append(batch.append_column(ID.strip('"'), pa.array(numbers)))
        return []

    def barrier(self, barrier: Barrier) -> Iterable[pa.RecordBatch]:
        """Return the rows whose answer stands by the watermark."""
        self._store()
        watermark = barrier.watermark_us
        if watermark is None:
            return []
        if self._closed_us is not None and watermark <= self._closed_us:
            return []
        self._closed_us = watermark
        if self._oldest_us is None or (watermark <= self._oldest_us and watermark != MAX_WATERMARK_US):
            return []
        self._input.fill(self._load.batches(watermark))
        try:
            found = self._answer.batches()
        finally:
            self._input.clear()
        if not found:
            return []
        self._found.fill(found)
        try:
            self._mark.run()
        finally:
            self._found.clear()
        if self._op.history is not None:
            self._prune.run()
        (self._oldest_us,) = self._look.row()
        shown = [b.filter(b.column(SHOWN.strip('"'))).select(self._out.names) for b in found]
        return [pa.RecordBatch.from_arrays(b.columns, schema=self._out) for b in shown if b.num_rows]

    def close(self) -> None:
        """Close the connection and let rows go."""
        self._pending = []
        self._session.close()

    def _store(self) -> None:
        for batch in self._pending:
            oldest = pc.min(close_us(batch, self._op.time)).as_py()
            # rows without a time are told at the end
            oldest = MAX_WATERMARK_US - 1 if oldest is None else oldest
            if self._oldest_us is None or oldest < self._oldest_us:
                self._oldest_us = oldest
        if self._pending:
            self._raw.fill(self._pending)
            try:
                self._append.run()
            finally:
                self._raw.clear()
            self._pending = []
