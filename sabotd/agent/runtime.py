"""An agent: tasks on threads over one shuffle manager, commanded by the coordinator.

Lives in each agent process, and once in the daemon itself for the tasks that are pinned to its store.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from cython_shuffle.hold import Hold
from cython_shuffle.shuffle_manager import ShuffleEdgeInfo, ShuffleManager
from cython_shuffle.transport import FlightEndpoint
from planner import task_spec as spec
from planner.job_columns import columns_schema, input_schemas
from sabot.errors import InternalError, JobError, SabotError, ShuffleError
from sabotd.agent import held
from sabotd.agent import messages as msg
from sabotd.agent.keeper import Keeper
from sabotd.agent.places import SourcePlace
from sabotd.agent.sink import SinkOperator
from sabotd.agent.source import SourceDriver
from sabotd.agent.task import Task
from sabotd.connectors import registry
from sabotd.connectors.base import BadRecord, SourceReader
from sabotd.operators.base import Operator
from sabotd.operators.factory import make_operator
from sabotd.operators.python import partition_function
from sabotd.operators.scalar_function import ScalarFunction, TellFailures
from sabotd.state.duckdb_state import TaskDatabase

log = logging.getLogger("sabot.agent")

_ALL_ATTEMPTS = 2**31 - 1
_ENDED_KEPT = 200
_LEAST_TASK_MB = 128

ReportFn = Callable[[msg.Report], None]


class PinnedOperators(Protocol):
    """What only the daemon's own agent has: operators on its store."""

    def log_source(self, op: spec.LogSourceOp, *, keep: bool, place: SourcePlace | None) -> SourceReader:
        """Open a reader of a relation's snapshot and changes, or of its changes from `place` on."""
        ...

    def materialize(self, op: spec.MaterializeOp, *, keep: bool, resume: bool) -> Operator:
        """Make the operator that keeps a view."""
        ...

    def table_sink(self, op: spec.TableSinkOp) -> Operator:
        """Make the operator that writes a sink's rows into a table."""
        ...

    def epoch_on_disk(self, op: spec.MaterializeOp) -> int | None:
        """Return the epoch of the rows that a killed process left; None if it left none."""
        ...


@dataclass(slots=True)
class _Running:
    task: Task
    thread: threading.Thread
    db: TaskDatabase
    folder: Path
    keeper: Keeper | None


@dataclass(slots=True)
class _Attempt:
    attempt: int
    tasks: dict[str, _Running] = field(default_factory=dict)
    opening: threading.Lock = field(default_factory=threading.Lock)  # held while edges or tasks are being opened
    deployed: bool = False
    hold: msg.HoldTerms | None = None


class AgentRuntime:
    """Runs the tasks of this process.

    Parameters
    ----------
    agent_id : str
    endpoint : FlightEndpoint
        The process's one Flight server; must not be started before `register_actions`.
    pool_bytes : int
        Limit of the buffers between tasks.
    state_dir : Path
        Folder for the tasks' databases; emptied of what an earlier attempt left.
    memory_mb : int
        What the tasks' databases may take, shared among those that run.
    spill_bytes : int
        Disk that each of them may take; 0 for what is free.
    report : callable
        Takes reports for the coordinator.
    pinned : callable, optional
        Makes store-bound operators; only in the daemon.
    held_dir : Path, optional
        Only in the daemon: where its tasks' places are kept in attempts that outlive it.
    """

    def __init__(
        self,
        agent_id: str,
        endpoint: FlightEndpoint,
        *,
        pool_bytes: int,
        state_dir: Path,
        memory_mb: int,
        idle_timeout_s: float,
        report: ReportFn,
        pinned: PinnedOperators | None = None,
        held_dir: Path | None = None,
        spill_bytes: int = 0,
    ) -> None:
        self.agent_id = agent_id
        self.endpoint = endpoint
        self._shuffle = ShuffleManager(agent_id, endpoint, pool_bytes)
        self._state_dir = state_dir
        self._memory_mb = memory_mb
        self._idle_timeout_s = idle_timeout_s
        self._report = report
        self._pinned = pinned
        self._held_dir = held_dir
        self.heard_at = time.monotonic()
        """When the coordinator last asked for anything."""
        self._spill_bytes = spill_bytes
        self._lock = threading.Lock()
        self._attempts: dict[str, _Attempt] = {}
        self._ended: dict[str, list[dict[str, object]]] = {}  # edge figures of jobs that have ended here
        self._fenced: dict[str, int] = {}  # job -> highest attempt cancelled here

    def start(self) -> None:
        """Start the shuffle."""
        self._shuffle.start()

    def stop(self) -> None:
        """Stop all tasks and free everything."""
        self.halt()
        with self._lock:
            jobs = list(self._attempts)
        for job_id in jobs:
            self.cancel(msg.Cancel(job_id, _ALL_ATTEMPTS))
        self._shuffle.stop()

    def halt(self) -> None:
        """Have all tasks leave quietly when their peers go."""
        with self._lock:
            jobs = list(self._attempts)
        for job_id in jobs:
            self.cancel(msg.Cancel(job_id, _ALL_ATTEMPTS, halt=True))

    # -- commands

    def register_shuffles(self, command: msg.RegisterShuffles) -> None:
        """Begin an attempt: make its edges known. A second call for the same attempt does nothing.

        Raises
        ------
        SabotError
            An edge cannot be; nothing of the attempt is left here.
        """
        attempt = _Attempt(command.attempt, hold=command.hold)
        attempt.opening.acquire()
        try:
            try:
                if not self._enter(command, attempt):
                    return
                self._register_all(command)
            finally:
                attempt.opening.release()
        except BaseException:
            self._leave(command.job_id, attempt)
            raise

    def deploy(self, command: msg.Deploy) -> None:
        """Open and start the tasks of an attempt that was begun. A second call does nothing.

        Raises
        ------
        SabotError
            The attempt was not begun here or is over, or a task cannot be opened; nothing of it is left running then.
        """
        with self._lock:
            self._refuse_fenced(command)
            attempt = self._attempts.get(command.job_id)
            if attempt is None or attempt.attempt < command.attempt:
                text = f"attempt {command.attempt} of job {command.job_id!r} was not begun here"
                raise JobError(text)
            if attempt.attempt > command.attempt:
                raise _overtaken(command, attempt)
        try:
            with attempt.opening:
                if not attempt.deployed:
                    attempt.deployed = True
                    self._open_all(command, attempt)
        except BaseException:
            self._leave(command.job_id, attempt)
            raise

    def _enter(self, command: msg.RegisterShuffles, attempt: _Attempt) -> bool:
        """Make `attempt` the job's; an older one is cancelled first. Returns False if it is there already."""
        while True:
            with self._lock:
                self._refuse_fenced(command)
                present = self._attempts.get(command.job_id)
                if present is None:
                    self._attempts[command.job_id] = attempt
                    self._ended.pop(command.job_id, None)
                    return True
                if present.attempt == command.attempt:
                    return False
                if present.attempt > command.attempt:
                    raise _overtaken(command, present)
            self.cancel(msg.Cancel(command.job_id, present.attempt))

    def _leave(self, job_id: str, attempt: _Attempt) -> None:
        """Free an attempt that failed while it was opened, if that has not been done."""
        with self._lock:
            mine = self._attempts.get(job_id) is attempt
        if mine:
            self.cancel(msg.Cancel(job_id, attempt.attempt))

    def _refuse_fenced(self, command: msg.Deploy | msg.RegisterShuffles) -> None:
        if self._fenced.get(command.job_id, -1) >= command.attempt:
            text = f"attempt {command.attempt} of job {command.job_id!r} has been cancelled"
            raise JobError(text)

    def _register_all(self, command: msg.RegisterShuffles) -> None:
        hold = None
        if command.hold is not None:
            hold = Hold(command.hold.location, command.hold.away_s)
            if self._held_dir is not None:
                hold = held.own_end(self._held_dir, command, hold)
        for edge in command.edges:
            info = ShuffleEdgeInfo(
                edge_id=edge.edge_id,
                kind=edge.kind,
                keys=edge.keys,
                schema=columns_schema(edge.columns),
                upstream=edge.upstream,
                downstream=edge.downstream,
                max_parallelism=edge.max_parallelism,
                bounds=tuple(pa.scalar(bound) for bound in edge.bounds),
                partition=partition_function(edge.edge_id, edge.function_path, edge.function_pickled)
                if edge.kind == "CUSTOM"
                else None,
            )
            self._shuffle.register_shuffle(command.job_id, command.attempt, info, command.locations, hold)

    def _open_all(self, command: msg.Deploy, attempt: _Attempt) -> None:
        for task in command.tasks:
            self._refuse_fenced(command)  # a cancel waits for us: what is open is closed by it
            attempt.tasks[task.task_id] = self._open(command, task)
        for running in attempt.tasks.values():
            running.thread.start()

    def cancel(self, command: msg.Cancel) -> None:
        """Stop the job's tasks up to `attempt` and free what they held; waits for their threads."""
        with self._lock:
            self._fenced[command.job_id] = max(self._fenced.get(command.job_id, -1), command.attempt)
            present = self._attempts.get(command.job_id)
            if present is None or present.attempt > command.attempt:
                return
            if not command.halt:
                del self._attempts[command.job_id]
        for running in list(present.tasks.values()):
            running.task.stop()
        if command.halt:
            return
        with present.opening:  # a deploy that is under way stops at its next task
            self._free(command.job_id, present)

    def _free(self, job_id: str, attempt: _Attempt) -> None:
        """Stop what runs, wait for it, and remove what it held."""
        for running in attempt.tasks.values():
            running.task.stop()
        figures = [m.to_dict() for m in self._shuffle.metrics() if m.job_id == job_id]
        with self._lock:
            self._ended[job_id] = figures
            while len(self._ended) > _ENDED_KEPT:
                del self._ended[next(iter(self._ended))]
        # wakes whoever waits for buffers or peers
        self._shuffle.unregister(job_id, attempt.attempt)
        for running in attempt.tasks.values():
            if running.thread.ident is None:
                running.task.close()
                running.db.close()
            else:
                running.db.interrupt()
                running.thread.join()
            if running.keeper is not None:
                running.keeper.close()
        shutil.rmtree(self._folder(job_id, attempt.attempt), ignore_errors=True)
        if self._held_dir is not None:
            shutil.rmtree(held.folder(self._held_dir, job_id, attempt.attempt), ignore_errors=True)

    def take_over(self, command: msg.TakeOver) -> msg.Standing:
        """Tell how the tasks of an attempt stand, and expect the daemon at its location now.

        Raises
        ------
        JobError
            The attempt is not here.
        """
        with self._lock:
            present = self._attempts.get(command.job_id)
            there = present is not None and present.attempt == command.attempt and present.deployed
            tasks = list(present.tasks.values()) if present is not None and there else []
        if not there:
            text = f"attempt {command.attempt} of job {command.job_id!r} is not at agent {self.agent_id!r}"
            raise JobError(text)
        self._shuffle.relocate(command.job_id, command.attempt, command.location)
        return msg.Standing(tuple(r.task.standing() for r in tasks))

    def left_here(self, job_id: str, attempt: int, tasks: Sequence[spec.TaskSpec]) -> msg.Standing:
        """Tell how the daemon's own tasks of an attempt stood when the process before this one was killed.

        Raises
        ------
        JobError
            Something that they need to go on is not there.
        """
        if self._held_dir is None or self._pinned is None:
            text = f"agent {self.agent_id!r} keeps nothing"
            raise InternalError(text)
        return held.standing(self._held_dir, job_id, attempt, tasks, self._pinned.epoch_on_disk)

    def sweep(self) -> None:
        """Remove what is kept of attempts that do not run here."""
        if self._held_dir is None or not self._held_dir.is_dir():
            return
        with self._lock:
            live = {held.folder(self._held_dir, j, a.attempt) for j, a in self._attempts.items()}
        for path in self._held_dir.iterdir():
            if path not in live:
                shutil.rmtree(path, ignore_errors=True)

    def let_go_of_held(self) -> None:
        """Stop attempts whose daemon has been away for longer than they wait."""
        away_s = time.monotonic() - self.heard_at
        with self._lock:
            over = [(j, a.attempt) for j, a in self._attempts.items() if a.hold is not None and a.hold.away_s < away_s]
        for job_id, attempt in over:
            log.warning("the daemon has been away for %.0f s: job %s is given up here", away_s, job_id)
            self.cancel(msg.Cancel(job_id, attempt))

    def inject(self, command: msg.InjectBarrier) -> None:
        """Hand a barrier to the job's source tasks here."""
        for running in self._tasks_of(command.job_id, command.attempt):
            if running.task.is_source:
                running.task.inject(command)

    def fence(self, command: msg.Fence) -> None:
        """Hand a fence to the job's source tasks here."""
        for running in self._tasks_of(command.job_id, command.attempt):
            if running.task.is_source:
                running.task.fence(command.fence_id)

    def pause(self, command: msg.Pause) -> None:
        """Have the job's source tasks here read nothing more, or go on."""
        for running in self._tasks_of(command.job_id, command.attempt):
            if running.task.is_source:
                running.task.pause(command.fence_id, paused=command.paused)

    def running(self) -> dict[str, int]:
        """Return the jobs that have tasks here, with their attempt."""
        with self._lock:
            return {job_id: a.attempt for job_id, a in self._attempts.items()}

    def metrics(self) -> list[dict[str, object]]:
        """Return the figures of every edge end in this process."""
        live = [m.to_dict() for m in self._shuffle.metrics()]
        with self._lock:
            return live + [m for figures in self._ended.values() for m in figures]

    def conditions(self) -> dict[str, list[str]]:
        """Return per job what its sources and sinks here wait for."""
        with self._lock:
            jobs = {job_id: list(a.tasks.values()) for job_id, a in self._attempts.items()}
        return {job_id: [c for r in tasks for c in r.task.conditions] for job_id, tasks in jobs.items()}

    def _tasks_of(self, job_id: str, attempt: int) -> list[_Running]:
        with self._lock:
            present = self._attempts.get(job_id)
            if present is None or present.attempt != attempt:
                return []
            return list(present.tasks.values())

    # -- tasks

    def _folder(self, job_id: str, attempt: int) -> Path:
        return self._state_dir / f"{held.file_name(job_id)}.{attempt}"

    def _open(self, command: msg.Deploy, task: spec.TaskSpec) -> _Running:
        folder = self._folder(command.job_id, command.attempt) / held.file_name(task.task_id)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        edges = {e.edge_id: e for e in command.edges}
        with self._lock:
            running_tasks = sum(len(a.tasks) for a in self._attempts.values())
        # a limit is for good: the first tasks get a quarter, later ones less
        memory_mb = max(_LEAST_TASK_MB, self._memory_mb // max(4, running_tasks + 1))
        db = TaskDatabase(folder, memory_mb, task.task_id, spill_bytes=self._spill_bytes)
        operators: list[Operator | SourceDriver] = []
        keeper = self._keeper(command, task)
        try:
            db.tell_failures = _Failures(command, task, self._report)
            for function in task.functions:
                db.define(
                    function.name,
                    _scalar_function(function, db.tell_failures),
                    function.types,
                    function.returns,
                )
            for node, schemas in zip(task.nodes, input_schemas(task, edges), strict=True):
                operators.append(self._make(command, task, node.op, schemas, db, keeper))
            channels = {
                origin.edge_id: self._shuffle.read_partition(command.job_id, origin.edge_id, task.task_id)
                for node in task.nodes
                for origin in node.inputs
                if isinstance(origin, spec.FromEdge)
            }
            writers = {
                output.edge_id: self._shuffle.writer(command.job_id, output.edge_id, task.task_id)
                for output in task.outputs
            }
            opened = Task(
                command.job_id, command.attempt, task, operators, channels, writers, self._report, keeper=keeper
            )
        except BaseException:
            if keeper is not None:
                keeper.close()
            for op in operators:
                op.close()
            db.close()
            shutil.rmtree(folder, ignore_errors=True)
            raise
        running = _Running(opened, threading.Thread(), db, folder, keeper)
        running.thread = threading.Thread(
            target=self._supervise, args=(running,), name=f"task {command.job_id} {task.task_id}", daemon=True
        )
        return running

    def _make(
        self,
        command: msg.Deploy,
        task: spec.TaskSpec,
        op: spec.Operator,
        schemas: Sequence[pa.Schema],
        db: TaskDatabase,
        keeper: Keeper | None,
    ) -> Operator | SourceDriver:
        match op:
            case spec.SourceOp():
                reader = registry.open_source(op, task.index, task.parallelism)
                return SourceDriver(
                    op.relation,
                    reader,
                    db,
                    columns=op.columns,
                    watermark_sql=op.watermark_sql,
                    judge_lateness=op.judge_lateness,
                    idle_timeout_s=self._idle_timeout_s,
                    on_bad_records=_BadRecords(command, task, self._report),
                )
            case spec.SinkOp():
                return SinkOperator(registry.connector(op.connector).open_sink(op, task.index, task.parallelism))
            case spec.LogSourceOp():
                start = {p.relation: p for p in keeper.start} if keeper is not None else {}
                reader = self._pinned_here(task).log_source(op, keep=keeper is not None, place=start.get(op.relation))
                return SourceDriver(
                    op.relation,
                    reader,
                    db,
                    columns=op.columns,
                    watermark_sql=op.watermark_sql,
                    judge_lateness=op.judge_lateness,
                    idle_timeout_s=self._idle_timeout_s,
                    on_bad_records=_BadRecords(command, task, self._report),
                )
            case spec.MaterializeOp():
                resume = keeper is not None and keeper.resumes
                return self._pinned_here(task).materialize(op, keep=keeper is not None, resume=resume)
            case spec.TableSinkOp():
                return self._pinned_here(task).table_sink(op)
            case _:
                return make_operator(op, db, list(schemas))

    def _keeper(self, command: msg.Deploy, task: spec.TaskSpec) -> Keeper | None:
        """Return what keeps a task's place: only for the daemon's own, in an attempt that outlives it."""
        with self._lock:
            hold = self._attempts[command.job_id].hold if command.job_id in self._attempts else None
        if self._held_dir is None or hold is None:
            return None
        return Keeper(
            held.folder(self._held_dir, command.job_id, command.attempt),
            held.file_name(task.task_id),
            has_sources=any(isinstance(n.op, spec.LogSourceOp) for n in task.nodes),
            resume_epoch=hold.resume_epoch,
            on_completed=lambda epoch: self._shuffle.complete(command.job_id, epoch),
        )

    def _pinned_here(self, task: spec.TaskSpec) -> PinnedOperators:
        if self._pinned is None:
            text = f"task {task.task_id!r} belongs on the daemon's own agent, not on {self.agent_id!r}"
            raise InternalError(text)
        return self._pinned

    def _supervise(self, running: _Running) -> None:
        """Run a task to its end; the only place that catches everything, because a failure has to be told."""
        task = running.task
        try:
            try:
                task.run()
            finally:
                task.close()
                running.db.close()
        except BaseException as error:
            if task.stopping:
                log.debug("task %s of %s ended while being stopped: %s", task.spec.task_id, task.job_id, error)
                return
            told = error if isinstance(error, SabotError) else _wrap(error)
            # a broken stream follows from another task's failure, which is told where it happened
            log.log(
                logging.INFO if isinstance(error, ShuffleError) else logging.ERROR,
                "task %s of job %s failed: %s",
                task.spec.task_id,
                task.job_id,
                told.message,
                exc_info=None if told is error else error,
            )
            task.has_failed(told.to_wire())
            # the cause goes out before its consequences
            self._report(msg.TaskFailed(task.job_id, task.attempt, task.spec.task_id, told.to_wire()))
            task.abort(told.message)


def _scalar_function(function: spec.FunctionSpec, tell: TellFailures) -> ScalarFunction:
    try:
        return ScalarFunction(function, tell)
    except Exception as error:
        text = f"function {function.function!r} cannot be made here: {type(error).__name__}: {error}"
        raise JobError(text, hint="its packages must be installed where the agents run") from error


def _overtaken(command: msg.Deploy | msg.RegisterShuffles, present: _Attempt) -> JobError:
    return JobError(f"attempt {command.attempt} of job {command.job_id!r} was overtaken by {present.attempt}")


def _wrap(error: BaseException) -> SabotError:
    wrapped = JobError(f"{type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped


class _Failures:
    """Passes rows on which an expression failed to the coordinator; a few of each batch are shown, all counted."""

    def __init__(self, command: msg.Deploy, task: spec.TaskSpec, report: ReportFn) -> None:
        self._job_id, self._attempt, self._task_id = command.job_id, command.attempt, task.task_id
        self._report = report
        self._total = 0

    def __call__(self, source: str, failures: Sequence[tuple[str, bytes, str]], count: int) -> None:
        self._total += count
        shown = tuple((place, payload[:4096], reason) for place, payload, reason in failures)
        self._report(
            msg.BadRecordReport(self._job_id, self._attempt, self._task_id, source, shown, self._total, computed=True)
        )


class _BadRecords:
    """Passes records that did not decode to the coordinator, a bounded sample of each batch."""

    SAMPLE = 200

    def __init__(self, command: msg.Deploy, task: spec.TaskSpec, report: ReportFn) -> None:
        self._job_id, self._attempt, self._task_id = command.job_id, command.attempt, task.task_id
        self._report = report
        self._total = 0

    def __call__(self, source: str, records: Sequence[BadRecord]) -> None:
        self._total += len(records)
        shown = tuple((r.offset, r.payload[:4096], r.reason) for r in records[: self.SAMPLE])
        self._report(msg.BadRecordReport(self._job_id, self._attempt, self._task_id, source, shown, self._total))
