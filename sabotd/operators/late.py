"""Rows that came too late: counted, and the newest shown with the watermark that they were judged by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, runtime_checkable

import pyarrow as pa
import pyarrow.compute as pc

from cython_shuffle.frames import Barrier
from planner.task_spec import LateOp
from sabot.ids import ROW_WATERMARK
from sabotd.operators.columns import arrow_columns, row_count
from sabotd.state.duckdb_state import TaskDatabase

WATERMARK = "watermark"
"""The column beside late rows: what they were judged by."""
_SHOWN_AN_EPOCH = 1000


class LateRows:
    """Late rows of one kind since they were last asked for, the newest of them, and how many there ever were.

    Parameters
    ----------
    names : sequence of str
        The columns that are shown; those that the plan has added for itself are left out.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.total = 0
        self._names = [n for n in names if not n.startswith("__")]
        self._told = 0
        self._rows: list[pa.RecordBatch] = []

    def add(self, rows: pa.RecordBatch, watermark: pa.Array | int) -> None:
        """Take rows, and the watermark of each (timestamp) or of all (microseconds)."""
        self.total += rows.num_rows
        if isinstance(watermark, int):
            watermark = pa.repeat(pa.scalar(watermark, pa.int64()), rows.num_rows).cast(pa.timestamp("us"))
        shown = rows.select(self._names)
        if WATERMARK not in self._names:
            shown = shown.append_column(WATERMARK, watermark)
        self._rows.append(shown)
        while len(self._rows) > 1 and row_count(self._rows[1:]) >= _SHOWN_AN_EPOCH:
            self._rows.pop(0)

    def count(self, rows: int) -> None:
        """Count rows that cannot be shown."""
        self.total += rows

    def drain(self) -> tuple[int, pa.Table | None] | None:
        """Return how many there ever were and the newest of the latest; None if there are no more than before."""
        if self.total == self._told:
            return None
        self._told = self.total
        rows, self._rows = self._rows, []
        if not rows:
            return self.total, None
        table = pa.Table.from_batches(rows)
        return self.total, table.slice(max(0, table.num_rows - _SHOWN_AN_EPOCH))


@runtime_checkable
class TellsLate(Protocol):
    """An operator that drops rows which come too late."""

    late: Sequence[LateRows]


class Late:
    """Passes its rows on, and tells of those that the statements behind it leave out as too late.

    A row can be late for a window only if it lies behind its own watermark, so most batches are only looked at.
    """

    def __init__(self, op: LateOp, db: TaskDatabase, schema: pa.Schema) -> None:
        self._op = op
        self.late = (LateRows([c.name for c in op.late]),)
        self._session = session = db.session()
        self._slot = session.slot("input", schema)
        out = arrow_columns(op.late).append(pa.field(ROW_WATERMARK, pa.timestamp("us")))
        self._find = session.prepare(op.sql, out)

    def process(self, port: int, batch: pa.RecordBatch) -> Iterable[pa.RecordBatch]:
        """Return `batch` as it is."""
        suspects = self._behind(batch)
        if suspects.num_rows:
            self._slot.fill([suspects])
            try:
                found = self._find.batches()
            finally:
                self._slot.clear()
            for rows in found:
                self.late[0].add(rows, rows.column(ROW_WATERMARK))
        return [batch]

    def barrier(self, barrier: Barrier) -> Iterable[pa.RecordBatch]:
        """Return nothing: all has been passed on."""
        return []

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def _behind(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if self._op.time is None or not batch.num_rows:
            return batch
        at = batch.column(self._op.time)
        micros = at.cast(pa.timestamp("us", tz=at.type.tz)).cast(pa.int64())
        behind = pc.less(micros, batch.column(ROW_WATERMARK).cast(pa.int64()))
        if not pc.any(behind).as_py():
            return batch.slice(0, 0)
        # not a slice: DuckDB refuses structs below an offset
        return batch.filter(behind)
