"""Gives a job in this process the rows of a relation with a watermark: by split, through the real source driver."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence

import pyarrow as pa

from planner.task_spec import Columns, JobSpec, LogSourceOp, SourceOp
from sabot.ids import ROW_WATERMARK
from sabotd.agent.messages import EpochDone, SourceDirty, SourcePassed
from sabotd.agent.source import SourceDriver
from sabotd.connectors.base import Position, SourceBatch, SourceStatus
from sabotd.control.job_state import Inject, JobState
from sabotd.operators.late import TellsLate
from sabotd.state.duckdb_state import TaskDatabase
from tests.support.job_runner import JobRunner, node_index

_JOB = "mv:v"


class _Reader:
    """A source without end, whose batches are given from outside."""

    def __init__(self, splits: int) -> None:
        self.batches: deque[SourceBatch] = deque()
        self._splits = tuple(f"s{i}" for i in range(max(splits, 1)))

    def read(self, max_rows: int, timeout_s: float) -> SourceBatch | None:
        return self.batches.popleft() if self.batches else None

    def finished(self) -> bool:
        return False

    def position(self) -> Position:
        return {}

    def fence(self) -> Position:
        return {}

    def status(self) -> SourceStatus:
        return SourceStatus(splits=self._splits)

    def wake(self) -> None:
        """Nobody waits."""

    def close(self) -> None:
        """Nothing is open."""


class Splits:
    """The sources with a watermark of one job, and its barriers."""

    def __init__(self, spec: JobSpec, runner: JobRunner, splits: dict[str, int], database: TaskDatabase) -> None:
        self._runner = runner
        self.splits = splits
        self._drivers: dict[str, SourceDriver] = {}
        self._readers = {name: _Reader(count) for name, count in splits.items()}
        for name, reader in self._readers.items():
            ops = _sources(spec, name)
            judging = next((op for op in ops if op.watermark_sql is not None), ops[0])
            columns: Columns = judging.columns
            self._drivers[name] = SourceDriver(
                name,
                reader,
                database,
                columns=columns,
                watermark_sql=judging.watermark_sql,
                judge_lateness=any(op.judge_lateness for op in ops),
                idle_timeout_s=1e6,
                on_bad_records=_no_bad_records,
            )
        tasks = {f"{name}/0": [name] for name in splits}
        self._state = JobState(_JOB, 1, tasks, frozenset({"m/0"}), 0.0)
        self._pending: deque[EpochDone] = deque()
        self._carry(list(self._state.begin(0.0)))
        self._settle()

    def feed_all(self, relation: str, rows: pa.RecordBatch, *, snapshot: bool) -> None:
        """Give rows of any splits, as they come."""
        splits = self.splits[relation]
        numbers = [int(n) % max(splits, 1) for n in rows.column("id").to_pylist()]
        at = 0
        for split, run in itertools.groupby(numbers):
            count = len(list(run))
            self.feed(relation, split, rows.slice(at, count), ordered=not (snapshot and splits == 0))
            at += count

    def feed(self, relation: str, split: int, rows: pa.RecordBatch, *, ordered: bool = True) -> None:
        """Give rows of one split in their order: one task reads it."""
        self._readers[relation].batches.append(SourceBatch(f"s{split}", rows, ordered=ordered))
        read = self._drivers[relation].read(rows.num_rows, 0.0)
        if read is None:
            return
        marks = None
        if ROW_WATERMARK in read.schema.names:
            marks = read.column(ROW_WATERMARK).to_pylist()
            read = read.drop_columns([ROW_WATERMARK])
        runner = self._runner
        for name in runner._order:
            task = runner._tasks[name]
            for at, node in enumerate(task.spec.nodes):
                mine = isinstance(node.op, SourceOp | LogSourceOp) and node.op.relation == relation
                if mine and split % task.spec.parallelism == node_index(name):
                    runner._emit(task, at, runner._as_read(node.op, read, marks))

    def tick(self) -> None:
        """Send a barrier, and another as long as the one before has news."""
        self._carry(list(self._state.report(SourceDirty(_JOB, 1, next(iter(self._state.sources))), 0.0)))
        self._settle()

    def _settle(self) -> None:
        while self._pending:
            self._carry(list(self._state.report(self._pending.popleft(), 0.0)))

    def _carry(self, instructions: Sequence[object]) -> None:
        for instruction in instructions:
            if not isinstance(instruction, Inject):
                continue
            inject = instruction.barrier
            least: list[int | None] = []
            passed = []
            for name, driver in self._drivers.items():
                least.append(driver.barrier(inject.watermarks_us[name], inject.splits))
                passed.append(
                    SourcePassed(_JOB, 1, f"{name}/0", inject.epoch, driver.split_watermarks(), False, 0, 0, 0)
                )
            known = [w for w in least if w is not None]
            self._runner.barrier(min(known) if len(known) == len(least) else None)
            for report in passed:
                self._state.report(report, 0.0)
            self._pending.append(EpochDone(_JOB, 1, "m/0", inject.epoch, 0))

    def late(self) -> list[pa.Table]:
        """Return the late rows that the operators have told of since they were last asked."""
        out = []
        for name in self._runner._order:
            for operator in self._runner._tasks[name].operators:
                for kind in operator.late if isinstance(operator, TellsLate) else ():
                    told = kind.drain()
                    if told is not None and told[1] is not None:
                        out.append(told[1])
        return out

    def close(self) -> None:
        """Close the drivers."""
        for driver in self._drivers.values():
            driver.close()


def _sources(spec: JobSpec, relation: str) -> list[SourceOp | LogSourceOp]:
    ops = (n.op for t in spec.tasks for n in t.nodes)
    return [op for op in ops if isinstance(op, SourceOp | LogSourceOp) and op.relation == relation]


def _no_bad_records(source: str, records: Sequence[object]) -> None:
    raise AssertionError(records)
