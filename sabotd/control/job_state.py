"""A running job as a state machine: takes reports and the time, returns instructions; no clock, no socket.

Epochs are cut one at a time: the next barrier goes out when the last one has arrived everywhere and its interval is
over, and only if a source has something that waits for it. So an idle job costs nothing, and under load epochs get
longer by themselves: a barrier costs a look at the state, which is worth more rows the longer it takes.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from cython_shuffle.frames import MAX_WATERMARK_US
from sabot.errors import ShuffleError
from sabotd.agent.messages import (
    BadRecordReport,
    EpochDone,
    FenceReached,
    InjectBarrier,
    LateReport,
    Report,
    SourceDirty,
    SourcePassed,
    SplitWatermark,
    TaskFailed,
    TaskStanding,
)


class JobPhase(enum.Enum):
    """Where a job's attempt stands."""

    DEPLOYING = "DEPLOYING"
    RUNNING = "RUNNING"
    RECOVERING = "RECOVERING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"


@dataclass(frozen=True)
class Inject:
    """Send this barrier to the sources."""

    barrier: InjectBarrier


@dataclass(frozen=True)
class Completed:
    """`epoch` has arrived at every sink and view."""

    epoch: int


@dataclass(frozen=True)
class Finished:
    """The job's sources have ended and all is written."""


@dataclass(frozen=True)
class Broken:
    """A stream between tasks broke: an agent is gone, or a task whose own failure will be told in a moment."""

    error: Mapping[str, Any]


@dataclass(frozen=True)
class Failed:
    """A task failed; `error` is ``SabotError.to_wire()``."""

    error: Mapping[str, Any]


_BUSY = 3
"""Between barriers lies this many times what the last epoch took from its barrier on."""
_LONGEST = 10
"""... but no more than this many of the job's intervals."""
_LIVE = (JobPhase.RUNNING, JobPhase.DEPLOYING, JobPhase.RECOVERING)

Instruction: TypeAlias = Inject | Completed | Finished | Broken | Failed


@dataclass
class _Fence:
    waiting: set[str]
    epoch: int = 0
    error: str | None = None
    settled: bool = False  # `epoch` takes in the barrier after, which carries what the rows did to watermarks
    of_pause: bool = False  # the sources read nothing more; what others wait for is not going to be read


@dataclass
class JobState:
    """One attempt of a job.

    Parameters
    ----------
    sources : mapping of task id to relation names
        The source tasks and what they read.
    terminals : set of task ids
        Tasks without outputs; an epoch is complete when they all have it.
    interval_s : float
        Least time between barriers.
    wall_us : callable
        The time of day, microseconds since 1970; what now() means.
    clock_s : float, optional
        Of a job that waits for the time of day: the most between barriers. Such a job does not end with its sources.
    """

    job_id: str
    attempt: int
    sources: Mapping[str, Sequence[str]]
    terminals: frozenset[str]
    interval_s: float
    wall_us: Callable[[], int] = field(default=lambda: 0)
    clock_s: float | None = None
    now_us: int = 0
    """Of the last barrier sent."""
    phase: JobPhase = JobPhase.DEPLOYING
    epoch: int = 0
    """Of the last barrier sent."""
    completed: int = 0
    error: str | None = None
    paused: bool = False
    """The sources were told to read nothing more; barriers still carry what they have read."""
    started_at: float = 0.0
    rows_in: int = 0
    bytes_in: int = 0
    rows_out: int = 0
    bad_records: int = 0
    late_rows: int = 0
    watermarks_us: dict[str, int | None] = field(default_factory=dict)
    _last_barrier_at: float = 0.0
    _took_s: float = 0.0
    _dirty: bool = True
    _urgent: bool = False  # somebody waits for the next epoch: it need not be a whole interval away
    _final: bool = False
    _passed: set[str] = field(default_factory=set)
    _done: set[str] = field(default_factory=set)
    _finished: set[str] = field(default_factory=set)
    _splits: dict[str, tuple[SplitWatermark, ...]] = field(default_factory=dict)
    _fences: dict[int, _Fence] = field(default_factory=dict)
    _figures: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    _undecoded: int = 0
    _failed_rows: dict[str, int] = field(default_factory=dict)
    _rows_out: dict[str, int] = field(default_factory=dict)
    _late: dict[tuple[str, int], int] = field(default_factory=dict)

    def begin(self, now: float) -> list[Instruction]:
        """All tasks are up: send the first barrier."""
        self.phase = JobPhase.RUNNING
        self.started_at = now
        self._last_barrier_at = now - self.interval_s
        return self.tick(now)

    def resume(self, tasks: Sequence[TaskStanding], completed: int, now: float) -> list[Instruction]:
        """Go on where the attempt stood when the daemon was killed; `completed` is the last epoch complete everywhere.

        A barrier that had not reached all sources is sent again, as it was.
        """
        self.phase = JobPhase.RUNNING
        self.started_at = now
        self._last_barrier_at = now - self.interval_s
        self.completed = completed
        told = [t.injected for t in tasks if t.injected is not None]
        last = max(told, key=lambda b: b.epoch, default=None)
        self.epoch = max(completed, last.epoch if last is not None else 0)
        if last is not None:
            self.watermarks_us, self._final, self.now_us = dict(last.watermarks_us), last.final, last.now_us
        self._splits = dict.fromkeys(self.sources, ())
        for task in tasks:
            if task.passed is not None and task.task_id in self.sources:
                self._take_passed(task.passed)
                self._splits[task.task_id] = task.passed.splits
                if task.passed.finished:
                    self._finished.add(task.task_id)
            if task.task_id in self.terminals and task.completed >= self.epoch:
                self._done.add(task.task_id)
        again: list[Instruction] = []
        if self._final and self.epoch == completed:
            self.phase = JobPhase.FINISHED
            return [Finished()]
        if self.epoch > completed and last is not None:
            again = [Inject(last), *self._advance(now)]
        return [*again, *self.tick(now)]

    def due(self) -> float | None:
        """Return when `tick` has something to do, None for: not before a report comes."""
        if self.phase is not JobPhase.RUNNING or self.epoch > self.completed:
            return None
        if not self._dirty:
            return (
                None
                if self.clock_s is None or self.paused
                else self._last_barrier_at + max(self.clock_s, self._interval())
            )
        return self._last_barrier_at + (0.0 if self._urgent else self._interval())

    def _interval(self) -> float:
        """Return the time between barriers: longer where an epoch takes long, for each looks at the state anew.

        A task that is behind so spends at most a third of its time on what an epoch costs however few its rows are.
        """
        return max(self.interval_s, min(_BUSY * self._took_s, _LONGEST * self.interval_s))

    def tick(self, now: float) -> list[Instruction]:
        """Send the next barrier if it is time."""
        due = self.due()
        if due is None or now < due:
            return []
        self.epoch += 1
        self._last_barrier_at = now
        self._dirty = self._urgent = False
        self._passed.clear()
        self._done.clear()
        self._final = self._ends()
        # a clock that is put back would have rows come back that had left
        self.now_us = max(self.now_us, self.wall_us())
        self.watermarks_us = self._next_watermarks()
        splits = tuple(s for splits in self._splits.values() for s in splits)
        barrier = InjectBarrier(
            self.job_id, self.attempt, self.epoch, self.watermarks_us, splits, final=self._final, now_us=self.now_us
        )
        return [Inject(barrier)]

    def _ends(self) -> bool:
        return len(self._finished) == len(self.sources) and self.clock_s is None

    def _next_watermarks(self) -> dict[str, int | None]:
        """The least watermark of each relation's live splits, never going back."""
        out: dict[str, int | None] = {}
        for relation in sorted({r for relations in self.sources.values() for r in relations}):
            before = self.watermarks_us.get(relation)
            tasks = [t for t, relations in self.sources.items() if relation in relations]
            if self._finished.issuperset(tasks):
                out[relation] = MAX_WATERMARK_US  # no row of it comes any more, whatever the job's other sources do
                continue
            splits = [s for t in tasks for s in self._splits.get(t, ()) if s.relation == relation]
            live = [s.watermark_us for s in splits if not s.idle]
            known = [s.watermark_us for s in splits if s.watermark_us is not None]
            found: int | None
            if not all(t in self._splits for t in tasks) or any(w is None for w in live):
                found = None
            elif live:
                found = min(w for w in live if w is not None)
            else:
                found = max(known, default=None)
            out[relation] = before if found is None or (before is not None and before > found) else found
        return out

    def fence(self, fence_id: int) -> None:
        """Expect `FenceReached` of every source task."""
        self._fences[fence_id] = _Fence(set(self.sources))

    def pause(self, fence_id: int) -> None:
        """Expect every source task to say with which barrier all goes out that it has read."""
        self.paused = True
        self._fences[fence_id] = _Fence(set(self.sources), of_pause=True)

    def unpause(self) -> None:
        """The sources go on."""
        self.paused = False

    def fence_error(self, fence_id: int) -> str | None:
        """Return why the fence cannot be reached, if a source said so."""
        return self._fences[fence_id].error

    def fence_passed(self, fence_id: int) -> bool:
        """Whether all before the fence is visible and written, or, while the job is paused, is not going to be."""
        if self.phase is JobPhase.FINISHED:
            return True
        fence = self._fences[fence_id]
        if self.paused and not fence.of_pause:
            return True
        return not fence.waiting and self.completed >= fence.epoch

    def drop_fence(self, fence_id: int) -> None:
        """Forget a fence."""
        self._fences.pop(fence_id, None)

    def report(self, report: Report, now: float) -> list[Instruction]:
        """Take a report; of another attempt it says nothing."""
        if report.attempt != self.attempt or self.phase not in _LIVE:
            return []
        if self.phase is JobPhase.RECOVERING and not isinstance(report, TaskFailed):
            return []
        match report:
            case SourceDirty():
                self._dirty = True
            case SourcePassed():
                self._take_passed(report)
            case FenceReached():
                self._take_fence(report)
            case EpochDone():
                self._rows_out[report.task_id] = report.rows
                self.rows_out = sum(self._rows_out.values())
                if report.epoch == self.epoch:
                    self._done.add(report.task_id)
            case BadRecordReport():
                if report.computed:
                    self._failed_rows[report.task_id] = report.total
                    self._count_bad()
            case LateReport():
                self._late[report.task_id, report.place] = report.total
                self.late_rows = sum(self._late.values())
            case TaskFailed() if report.error["type"] == ShuffleError.__name__:
                if self.phase is JobPhase.RECOVERING:
                    return []
                self.phase = JobPhase.RECOVERING
                self.error = str(report.error["message"])
                return [Broken(report.error)]
            case TaskFailed():
                self.phase = JobPhase.FAILED
                self.error = str(report.error["message"])
                return [Failed(report.error)]
        return [*self._advance(now), *self.tick(now)]

    def _count_bad(self) -> None:
        self.bad_records = self._undecoded + sum(self._failed_rows.values())

    def _take_passed(self, report: SourcePassed) -> None:
        self._figures[report.task_id] = (report.rows, report.bytes, report.bad_records)
        rows, sizes, bad = zip(*self._figures.values(), strict=True)
        self.rows_in, self.bytes_in, self._undecoded = sum(rows), sum(sizes), sum(bad)
        self._count_bad()
        if report.epoch == self.epoch:
            self._passed.add(report.task_id)
            self._splits[report.task_id] = report.splits
            if report.finished:
                self._finished.add(report.task_id)

    def _take_fence(self, report: FenceReached) -> None:
        fence = self._fences.get(report.fence_id)
        if fence is None:
            return
        fence.waiting.discard(report.task_id)
        fence.epoch = max(fence.epoch, report.epoch)
        if report.error:
            fence.error = report.error
        if fence.epoch > self.epoch:
            self._dirty = self._urgent = True

    def _advance(self, now: float) -> list[Instruction]:
        if self.epoch == self.completed or len(self._passed) < len(self.sources) or self._done != self.terminals:
            return []
        self.completed = self.epoch
        self._took_s = now - self._last_barrier_at
        if self._final:
            self.phase = JobPhase.FINISHED
            return [Completed(self.completed), Finished()]
        if self._ends() or self._next_watermarks() != self.watermarks_us:
            self._dirty = True  # one more barrier to carry the end, or the watermarks that this one reported
            self._settle_fences()
        return [Completed(self.completed)]

    def _settle_fences(self) -> None:
        """Have fences at the epoch just completed wait for the windows that its rows, or their end, have closed."""
        for fence in self._fences.values():
            if not fence.waiting and not fence.settled and fence.epoch == self.completed:
                fence.settled = self._urgent = True
                fence.epoch = self.completed + 1
