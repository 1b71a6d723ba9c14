"""The operators that only the daemon's own agent has: a view's materialization and the reader of a relation's log."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import duckdb
import pyarrow as pa

from cython_shuffle.frames import Barrier
from planner.job_columns import columns_schema
from planner.task_spec import LogSourceOp, MaterializeOp, TableSinkOp
from sabot.ids import WEIGHT
from sabotd.agent.places import SourcePlace
from sabotd.connectors.base import Position, SourceBatch, SourceStatus
from sabotd.state.changelog import Changelog
from sabotd.state.duckdb_state import as_job_error
from sabotd.state.store import Store, Subscription
from sabotd.state.table_sinks import TableSink


class MaterializeOperator:
    """Gathers an epoch's changes and applies them to the store at the barrier, at once."""

    def __init__(self, op: MaterializeOp, store: Store) -> None:
        self._op = op
        self._store = store
        self._pending: list[pa.RecordBatch] = []

    def process(self, port: int, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, ...]:
        """Keep `batch` for the barrier."""
        self._pending.append(batch)
        return ()

    def barrier(self, barrier: Barrier) -> tuple[pa.RecordBatch, ...]:
        """Make the epoch visible."""
        pending, self._pending = self._pending, []
        key = self._op.stream_key if self._op.weighted else ()
        try:
            self._store.apply(self._op.relation, barrier.epoch, pending, key, forgiving=self._op.forgiving)
        except duckdb.Error as error:
            raise as_job_error(error) from error
        if barrier.final:
            self._store.finish(self._op.relation)
        return ()

    def close(self) -> None:
        """Drop what was not applied."""
        self._pending.clear()


class LogSourceReader:
    """A `SourceReader` over a table or view: the snapshot, then the log from right after it."""

    def __init__(self, op: LogSourceOp, store: Store, *, keep: bool = False, place: SourcePlace | None = None) -> None:
        self._subscription: Subscription = (
            store.subscribe(op.relation, keep=keep)
            if place is None
            else store.resume(op.relation, place.log, place.position)
        )
        self._snapshot: Iterator[pa.RecordBatch] | None = None
        self._in_snapshot = place is None
        self._whole_snapshot = op.whole_snapshot
        self._relation = op.relation
        self._changelog = Changelog(op.changelog, store, op.relation) if op.changelog is not None else None
        self._told: deque[pa.RecordBatch] = deque()
        # the plan may need only some of the columns
        self._columns = [c.name for c in op.columns] + ([WEIGHT] if op.weighted else [])
        self._schema = columns_schema(op.columns)
        self._rows = 0
        self._bytes = 0

    def read(self, max_rows: int, timeout_s: float) -> SourceBatch | None:
        """Return the next batch of the snapshot, or of the log."""
        if self._in_snapshot:
            if self._snapshot is None:
                self._snapshot = self._subscription.snapshot(max_rows)
            batch = next(self._snapshot, None)
            if batch is not None:
                return self._take(batch if self._changelog is None else self._changelog.inserted(batch))
            self._in_snapshot = False
        if self._changelog is not None:
            return self._read_changes(max_rows, timeout_s, self._changelog)
        entry = self._subscription.cursor.read(timeout_s)
        return None if entry is None else self._take(entry[1])

    def _read_changes(self, max_rows: int, timeout_s: float, changelog: Changelog) -> SourceBatch | None:
        """Return more of what was told of a change, or the first of the next, once all of it has been read."""
        while not self._told:
            entry = self._subscription.cursor.read(timeout_s)
            if entry is None:
                return None
            changelog.take(entry[1])
            if not self._subscription.cursor.within_epoch:
                self._told.extend(changelog.told(max_rows))
        return self._take(self._told.popleft())

    def _take(self, batch: pa.RecordBatch) -> SourceBatch:
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        return SourceBatch(self._relation, batch.select(self._columns), ordered=not self._in_snapshot)

    def finished(self) -> bool:
        """Whether the relation will not change any more and all of it has been read."""
        return not self._in_snapshot and not self._told and self._subscription.cursor.finished()

    def within_change(self) -> bool:
        """Whether the rest of an INSERT, of the other view's epoch, or of a snapshot is still to be read."""
        more = self._subscription.cursor.within_epoch or bool(self._told)
        return more or (self._whole_snapshot and self._in_snapshot)

    def position(self) -> Position:
        """Return the log position; -1 while the snapshot is being read."""
        return {self._relation: -1 if self._in_snapshot else self._subscription.cursor.position}

    def place(self) -> SourcePlace:
        """Return the log's name and the position in it; -1 while the snapshot is being read."""
        cursor = self._subscription.cursor
        return SourcePlace(self._relation, cursor.log_name, -1 if self._in_snapshot else cursor.position)

    def keep_from(self, place: SourcePlace) -> None:
        """Keep what stands from `place` on, though it has been read."""
        if place.position >= 0:
            self._subscription.cursor.kept_from = place.position

    def fence(self) -> Position:
        """Return the log's end now."""
        return {self._relation: self._subscription.cursor.end}

    def status(self) -> SourceStatus:
        """Return figures."""
        state = ""
        if self._in_snapshot:
            state = f"filling from {self._relation!r}: {self._rows} of {self._subscription.rows} rows"
        return SourceStatus(state, (self._relation,), self._rows, self._bytes)

    def wake(self) -> None:
        """End a waiting read."""
        self._subscription.cursor.wake()

    def close(self) -> None:
        """Give up the place in the log."""
        self._subscription.close()
        if self._changelog is not None:
            self._changelog.close()


class StorePinned:
    """Makes the operators on `store`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def log_source(self, op: LogSourceOp, *, keep: bool, place: SourcePlace | None) -> LogSourceReader:
        """Open a reader: its snapshot is taken now, or it goes on at `place`."""
        return LogSourceReader(op, self._store, keep=keep, place=place)

    def materialize(self, op: MaterializeOp, *, keep: bool, resume: bool) -> MaterializeOperator:
        """Make the operator that keeps a view, whose rows outlive this process (`keep`), or have done so (`resume`)."""
        if not resume:
            self._store.renew(op.relation, durable=keep)
        return MaterializeOperator(op, self._store)

    def table_sink(self, op: TableSinkOp) -> TableSink:
        """Make the operator that writes into a table."""
        return self._store.sinks.open(op, self._store.relation(op.table))

    def epoch_on_disk(self, op: MaterializeOp) -> int | None:
        """Return the epoch of the rows that a killed process left; None if it left none."""
        return self._store.resumes(op.relation)
