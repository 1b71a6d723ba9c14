"""Drives one source of a task: reads its connector, keeps the splits' watermarks, judges rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow as pa

from cython_shuffle.frames import MAX_WATERMARK_US
from planner.job_columns import columns_schema
from planner.task_spec import Columns
from sabot.ids import ROW_WATERMARK, WEIGHT
from sabotd.agent.messages import SplitWatermark
from sabotd.agent.places import SourcePlace
from sabotd.connectors.base import BadRecord, ChangesReader, Position, SourceReader, SourceStatus
from sabotd.state.duckdb_state import Statement, TaskDatabase


@runtime_checkable
class LogReader(Protocol):
    """A `SourceReader` over a log, which can be read again from a place."""

    def place(self) -> SourcePlace:
        """Return where it stands."""
        ...

    def keep_from(self, place: SourcePlace) -> None:
        """Keep what stands from `place` on, though it has been read."""
        ...


@dataclass(slots=True)
class _Split:
    watermark_us: int | None = None
    last_row_ns: int = 0
    idle: bool = False


class SourceDriver:
    """One `SourceReader` with its watermarks.

    A row's watermark is min(the running watermark of its own split, the other splits' at the last barrier), and never
    below the last barrier's: so lateness does not depend on where barriers fall.
    """

    def __init__(
        self,
        relation: str,
        reader: SourceReader,
        db: TaskDatabase,
        *,
        columns: Columns,
        watermark_sql: str | None = None,
        judge_lateness: bool = False,
        idle_timeout_s: float,
        on_bad_records: Callable[[str, Sequence[BadRecord]], None],
    ) -> None:
        self.relation = relation
        self.reader = reader
        self._changes = reader if isinstance(reader, ChangesReader) else None
        self._judge_lateness = judge_lateness
        self._idle_timeout_ns = int(idle_timeout_s * 1e9)
        self._on_bad_records = on_bad_records
        self._splits: dict[str, _Split] = {}
        self._others: dict[str, int | None] = {}
        self._barrier_us: int | None = None
        self._watermark_query: Statement | None = None
        self._paused_at_ns = 0
        self.rows = 0
        if watermark_sql is not None:
            session = db.session()
            self._slot = session.slot("input", columns_schema(columns))
            self._watermark_query = session.prepare(
                f"SELECT epoch_us({watermark_sql}) AS w FROM input", pa.schema([("w", pa.int64())])
            )

    def read(self, max_rows: int, timeout_s: float) -> pa.RecordBatch | None:
        """Return the next rows with ``__wm`` where asked for, or None."""
        got = self.reader.read(max_rows, timeout_s)
        if got is None:
            return None
        if got.errors:
            self._on_bad_records(self.relation, got.errors)
        batch = got.batch
        if batch.num_rows == 0:
            return None
        self.rows += batch.num_rows
        split = self._splits.setdefault(got.split, _Split())
        split.last_row_ns = time.monotonic_ns()
        split.idle = False
        if self._watermark_query is None:
            return batch
        running = self._advance(split, batch)
        if not self._judge_lateness:
            return batch
        if got.ordered:
            mark = self._judge(got.split, running)
        else:
            mark = pa.nulls(batch.num_rows, pa.timestamp("us"))
        if WEIGHT in batch.schema.names:
            # the weight stands last, as everywhere
            return batch.add_column(batch.num_columns - 1, pa.field(ROW_WATERMARK, mark.type), mark)
        return batch.append_column(ROW_WATERMARK, mark)

    def _advance(self, split: _Split, batch: pa.RecordBatch) -> np.ndarray:
        """Move the split's watermark over `batch`; return it as it stood at each row (int64, least value: none)."""
        assert self._watermark_query is not None
        self._slot.fill((batch.select(self._slot.schema.names),))
        results = self._watermark_query.batches()
        self._slot.clear()
        none = np.iinfo(np.int64).min
        values = np.concatenate([r.column(0).fill_null(none).to_numpy(zero_copy_only=False) for r in results])
        running = np.maximum.accumulate(values)
        if split.watermark_us is not None:
            running = np.maximum(running, split.watermark_us)
        last = int(running[-1])
        split.watermark_us = None if last == none else last
        return running

    def _judge(self, split_name: str, running: np.ndarray) -> pa.Array:
        none = np.iinfo(np.int64).min
        judged = running
        for name, watermark_us in self._others.items():
            if name != split_name:
                judged = np.minimum(judged, none if watermark_us is None else watermark_us)
        if self._barrier_us is not None:
            judged = np.maximum(judged, self._barrier_us)
        mask = judged == none
        return pa.array(judged, pa.int64(), mask=mask).cast(pa.timestamp("us"))

    def barrier(self, watermark_us: int | None, splits: Sequence[SplitWatermark]) -> int | None:
        """Take over the barrier's watermark and the other splits'; return what to send downstream."""
        if self._watermark_query is None:
            return MAX_WATERMARK_US  # a source without event time has no say in min()
        self._barrier_us = watermark_us
        self._others = {s.split: s.watermark_us for s in splits if s.relation == self.relation and not s.idle}
        return watermark_us

    def resume(self, watermark_us: int | None, splits: Sequence[SplitWatermark]) -> None:
        """Go on after a barrier that another process took: with its watermark, and those that its splits had."""
        self.barrier(watermark_us, splits)
        for s in splits:
            if s.relation == self.relation and s.watermark_us is not None:
                self._splits.setdefault(s.split, _Split(last_row_ns=time.monotonic_ns())).watermark_us = s.watermark_us

    def split_watermarks(self) -> tuple[SplitWatermark, ...]:
        """Return the running watermark of each split this task owns."""
        if self._watermark_query is None:
            return ()
        now = time.monotonic_ns()
        for name in self.reader.status().splits:
            self._splits.setdefault(name, _Split(last_row_ns=now))
        finished = self.reader.finished()
        out = []
        for name, split in self._splits.items():
            split.idle = finished or (now - split.last_row_ns > self._idle_timeout_ns)
            out.append(SplitWatermark(self.relation, name, split.watermark_us, split.idle))
        return tuple(out)

    def pause(self, *, paused: bool) -> None:
        """Stop the clock that takes silent splits for idle, or have it go on: a paused source is not silent."""
        now = time.monotonic_ns()
        if paused:
            self._paused_at_ns = now
            return
        for split in self._splits.values():
            split.last_row_ns += now - max(self._paused_at_ns, split.last_row_ns)

    def within_change(self) -> bool:
        """Whether a barrier has to wait for the rest of a change."""
        return self._changes is not None and self._changes.within_change()

    def became_idle(self) -> bool:
        """Whether a split has gone silent since `split_watermarks` was last asked."""
        if self._watermark_query is None:
            return False
        now = time.monotonic_ns()
        return any(not s.idle and now - s.last_row_ns > self._idle_timeout_ns for s in self._splits.values())

    def place(self) -> SourcePlace:
        """Return where a reader of a log stands."""
        assert isinstance(self.reader, LogReader)
        return self.reader.place()

    def stands_at(self, place: SourcePlace) -> bool:
        """Whether a reader of a log stands there."""
        return self.place() == place

    def keep_from(self, place: SourcePlace) -> None:
        """Have a reader of a log keep what stands from `place` on, though it has been read."""
        assert isinstance(self.reader, LogReader)
        self.reader.keep_from(place)

    def reached(self, fence: Position) -> bool:
        """Whether everything before `fence` has been read."""
        if self.reader.finished():
            return True
        position = self.reader.position()
        return all(position.get(split, 0) >= offset for split, offset in fence.items())

    def status(self) -> SourceStatus:
        """Return the reader's figures."""
        return self.reader.status()

    def close(self) -> None:
        """Close the reader."""
        self.reader.close()
