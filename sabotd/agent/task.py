"""One task on one thread: a small graph of fused operators between an input gate or sources and writers."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from cython_shuffle.frames import Barrier
from cython_shuffle.hold import WriterPlace
from planner.task_spec import FromEdge, FromOperator, TaskSpec
from sabot.errors import ConnectorError, InternalError
from sabotd.agent.input_gate import Channel, Data, InputGate
from sabotd.agent.keeper import Keeper
from sabotd.agent.messages import (
    EpochDone,
    FenceReached,
    InjectBarrier,
    LateReport,
    Report,
    SourceDirty,
    SourcePassed,
    TaskStanding,
)
from sabotd.agent.sink import Conditioned, SinkOperator
from sabotd.agent.source import SourceDriver
from sabotd.connectors.base import Position
from sabotd.operators.base import Operator
from sabotd.operators.late import TellsLate

READ_ROWS = 131_072
"""Rows asked of a source at a time: large enough that a DuckDB statement's fixed cost vanishes."""

IDLE_READ_S = 0.5
"""How long an idle source waits in one read; commands wake it earlier."""


class Writer(Protocol):
    """The sending end of an edge for one task."""

    def write(self, batch: pa.RecordBatch) -> None: ...
    def barrier(self, barrier: Barrier) -> None: ...
    def end(self) -> None: ...
    def abort(self, message: str) -> None: ...
    def place(self) -> WriterPlace: ...


@dataclass(slots=True)
class _PendingFence:
    fence_id: int
    targets: list[Position] | None  # None until asked of the readers


class Task:
    """Runs a `TaskSpec`. `run` is the thread's body; everything else may be called from any thread.

    Parameters
    ----------
    operators : sequence of Operator or SourceDriver
        One for each node of the spec, in its order.
    channels, writers : dict of edge id
        Input channels and output writers.
    report : callable
        Takes what the coordinator is to know; must not block for long.
    keeper : Keeper, optional
        Writes down where the task stands, for a process that takes this one's place.
    """

    def __init__(
        self,
        job_id: str,
        attempt: int,
        spec: TaskSpec,
        operators: Sequence[Operator | SourceDriver],
        channels: Mapping[str, Sequence[Channel]],
        writers: Mapping[str, Writer],
        report: Callable[[Report], None],
        *,
        keeper: Keeper | None = None,
    ) -> None:
        self.job_id = job_id
        self.attempt = attempt
        self.spec = spec
        self._operators = operators
        self._writers = writers
        self._report = report
        self._sources = [op for op in operators if isinstance(op, SourceDriver)]
        self._late = [late for op in operators if isinstance(op, TellsLate) for late in op.late]
        self._consumers: list[list[tuple[int, int]]] = [[] for _ in operators]
        self._outputs: list[list[Writer]] = [[] for _ in operators]
        ports: list[tuple[int, int]] = []
        gate_ports: list[Sequence[Channel]] = []
        for index, node in enumerate(spec.nodes):
            for port, origin in enumerate(node.inputs):
                match origin:
                    case FromOperator(index=parent):
                        self._consumers[parent].append((index, port))
                    case FromEdge(edge_id=edge_id):
                        ports.append((index, port))
                        gate_ports.append(channels[edge_id])
        for output in spec.outputs:
            self._outputs[output.index].append(writers[output.edge_id])
        self._ports = ports
        if self._sources and ports:
            msg = f"task {spec.task_id!r} has both sources and edges as input"
            raise InternalError(msg)
        self._gate = InputGate(gate_ports) if ports else None
        self._lock = threading.Lock()
        self._injected: collections.deque[InjectBarrier] = collections.deque()
        self._fences: list[_PendingFence] = []
        self._pause_asked: tuple[bool, int] | None = None  # whether, and the fence to answer
        self._paused = False
        self._stopping = threading.Event()
        self._command = threading.Event()
        self._terminal_rows = 0
        self._keeper = keeper
        self._replay = collections.deque(keeper.replay if keeper is not None else ())
        self._last_injected: InjectBarrier | None = keeper.resumed_at if keeper is not None else None
        if (last := self._last_injected) is not None:
            for source in self._sources:
                source.resume(last.watermarks_us.get(source.relation), last.splits)
        self._last_passed: SourcePassed | None = None
        self._completed = keeper.completed if keeper is not None else 0
        self._failed: dict[str, object] | None = None

    def standing(self) -> TaskStanding:
        """Return how the task stands; from any thread."""
        with self._lock:
            return TaskStanding(
                self.spec.task_id, self._last_injected, self._last_passed, self._completed, self._failed
            )

    def has_failed(self, error: dict[str, object]) -> None:
        """Remember why `run` has failed, for `standing`."""
        with self._lock:
            self._failed = error

    @property
    def is_source(self) -> bool:
        """Whether this task reads sources and takes barriers from the coordinator."""
        return bool(self._sources)

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()

    # -- commands, from other threads

    def inject(self, barrier: InjectBarrier) -> None:
        """End the epoch at this task's sources; a barrier that it was told of before says nothing new."""
        with self._lock:
            if self._last_injected is not None and barrier.epoch <= self._last_injected.epoch:
                return
            self._last_injected = barrier
            self._injected.append(barrier)
        self._wake()

    def fence(self, fence_id: int) -> None:
        """Report `FenceReached` once all that the sources hold now has been read."""
        with self._lock:
            self._fences.append(_PendingFence(fence_id, None))
        self._wake()

    def pause(self, fence_id: int, *, paused: bool) -> None:
        """Read nothing more of the sources, and report `FenceReached`; or go on."""
        with self._lock:
            self._pause_asked = (paused, fence_id)
        self._wake()

    def stop(self) -> None:
        """Have `run` return soon, without an end to its outputs."""
        self._stopping.set()
        self._wake()
        for op in self._operators:
            if isinstance(op, SinkOperator):
                op.interrupt()

    @property
    def conditions(self) -> list[str]:
        """What the task's sources and sinks wait for."""
        states = [op.condition for op in self._operators if isinstance(op, Conditioned)]
        return [s for s in [*states, *(s.status().state for s in self._sources)] if s]

    def _wake(self) -> None:
        self._command.set()
        if self._gate is not None:
            self._gate.wake()
        for source in self._sources:
            source.reader.wake()

    # -- the thread

    def run(self) -> None:
        """Work until the job's final barrier, or `stop`. Raises what the operators raise."""
        if self._sources:
            self._run_sources()
        else:
            self._run_gate()

    def close(self) -> None:
        """Close all operators; after `run` has returned or raised."""
        for op in self._operators:
            op.close()

    def abort(self, message: str) -> None:
        """Tell downstream that this task will never finish."""
        for writer in self._writers.values():
            writer.abort(message)

    def _run_gate(self) -> None:
        assert self._gate is not None
        while not self._stopping.is_set():
            event = self._gate.next()
            match event:
                case Data(port=port, batch=batch):
                    node, node_port = self._ports[port]
                    if not self._consumers[node] and not self._outputs[node]:
                        self._terminal_rows += batch.num_rows
                    self._push(node, self._operators[node].process(node_port, batch))  # type: ignore[union-attr]
                case Barrier():
                    self._pass_barrier(event)
                    if event.final:
                        return
                case None:
                    continue

    def _run_sources(self) -> None:
        dirty = False
        epoch = self._last_injected.epoch + 1 if self._last_injected is not None else 1
        told_finished = False
        wait_s = 0.0
        self._run_again()
        while not self._stopping.is_set():
            whole = not any(s.within_change() for s in self._sources)
            with self._lock:
                barrier = self._injected.popleft() if self._injected and whole else None
            if barrier is not None:
                self._source_barrier(barrier)
                if barrier.final:
                    return
                dirty, epoch = False, barrier.epoch + 1
            self._check_fences(epoch)
            if whole:
                self._check_pause(epoch)
            if self._paused:
                self._await_command()
                continue
            busy = False
            for index, op in enumerate(self._operators):
                if not isinstance(op, SourceDriver) or op.reader.finished():
                    continue
                batch = op.read(READ_ROWS, wait_s)
                if batch is not None:
                    busy = True
                    if not dirty:
                        dirty = True
                        self._report(SourceDirty(self.job_id, self.attempt, self.spec.task_id))
                    self._push(index, (batch,))
                elif op.became_idle() and not dirty:
                    dirty = True
                    self._report(SourceDirty(self.job_id, self.attempt, self.spec.task_id))
            if self._keeper is not None and not dirty and self._keeper.wants_barrier(self._sources):
                dirty = True
                self._report(SourceDirty(self.job_id, self.attempt, self.spec.task_id))
            finished = all(s.reader.finished() for s in self._sources)
            if finished and not told_finished:
                told_finished = True
                self._report(SourceDirty(self.job_id, self.attempt, self.spec.task_id))
            if finished:
                self._await_command()
            # an idle task sleeps in its reader; several readers share the wait
            wait_s = 0.0 if busy else (IDLE_READ_S if len(self._sources) == 1 else 0.02)

    def _run_again(self) -> None:
        """Read what the task before this one, which was killed, had read, and end the epochs where it did."""
        while self._replay and not self._stopping.is_set():
            place = self._replay[0]
            if all(s.stands_at(p) for s, p in zip(self._sources, place.sources, strict=True)):
                self._replay.popleft()
                self._source_barrier(place.inject)
                continue
            for index, op in enumerate(self._operators):
                if not isinstance(op, SourceDriver) or op.stands_at(place.sources[self._sources.index(op)]):
                    continue
                batch = op.read(READ_ROWS, 0.0)
                if batch is not None:
                    self._push(index, (batch,))

    def _await_command(self) -> None:
        """Sleep until a command comes; a finished or paused source has nothing else to wait for."""
        while not self._stopping.is_set():
            self._command.clear()
            with self._lock:
                asked = self._pause_asked is not None or any(f.targets is None for f in self._fences)
                if self._injected or asked:
                    return
            self._command.wait()

    def _check_pause(self, epoch: int) -> None:
        with self._lock:
            asked, self._pause_asked = self._pause_asked, None
        if asked is None:
            return
        paused, fence_id = asked
        if paused != self._paused:
            self._paused = paused
            for source in self._sources:
                source.pause(paused=paused)
        if paused:
            self._report(FenceReached(self.job_id, self.attempt, self.spec.task_id, fence_id, epoch))

    def _check_fences(self, epoch: int) -> None:
        with self._lock:
            fences = list(self._fences)
        for fence in fences:
            error = None
            if fence.targets is None:
                try:
                    fence.targets = [s.reader.fence() for s in self._sources]
                except ConnectorError as unknown:  # the broker cannot be asked: FLUSH is told, the job goes on
                    error = unknown.message
            if fence.targets is None or all(s.reached(t) for s, t in zip(self._sources, fence.targets, strict=True)):
                self._report(FenceReached(self.job_id, self.attempt, self.spec.task_id, fence.fence_id, epoch, error))
                with self._lock:
                    self._fences.remove(fence)

    def _source_barrier(self, inject: InjectBarrier) -> None:
        watermarks = [s.barrier(inject.watermarks_us.get(s.relation), inject.splits) for s in self._sources]
        least = None if any(w is None for w in watermarks) else min(w for w in watermarks if w is not None)
        statuses = [s.status() for s in self._sources]
        # the splits' watermarks are read before the barrier leaves: rows that follow it are judged by them
        splits = tuple(w for s in self._sources for w in s.split_watermarks())
        passed = SourcePassed(
            self.job_id,
            self.attempt,
            self.spec.task_id,
            inject.epoch,
            splits,
            finished=all(s.reader.finished() for s in self._sources),
            rows=sum(s.rows for s in self._sources),
            bytes=sum(s.bytes for s in statuses),
            bad_records=sum(s.bad_records for s in statuses),
        )
        self._pass_barrier(Barrier(inject.epoch, least, final=inject.final, now_us=inject.now_us), inject)
        with self._lock:
            self._last_passed = passed
        self._report(passed)

    # -- rows and barriers through the graph

    def _push(self, index: int, batches: Iterable[pa.RecordBatch]) -> None:
        """Hand node `index`'s output to its consumers and writers, depth first."""
        consumers, outputs = self._consumers[index], self._outputs[index]
        for batch in batches:
            if batch.num_rows == 0:
                continue
            for writer in outputs:
                writer.write(batch)
            for node, port in consumers:
                if not self._consumers[node] and not self._outputs[node]:
                    self._terminal_rows += batch.num_rows
                self._push(node, self._operators[node].process(port, batch))  # type: ignore[union-attr]

    def _tell_late(self) -> None:
        """Report what has come too late since the last barrier."""
        for place, late in enumerate(self._late):
            told = late.drain()
            if told is not None:
                total, rows = told
                sink = pa.BufferOutputStream()
                if rows is not None:
                    with pa.ipc.new_stream(sink, rows.schema) as stream:
                        stream.write_table(rows)
                shown = sink.getvalue().to_pybytes() if rows is not None else b""
                self._report(LateReport(self.job_id, self.attempt, self.spec.task_id, place, total, shown))

    def _pass_barrier(self, barrier: Barrier, inject: InjectBarrier | None = None) -> None:
        keeper = self._keeper
        if keeper is not None and inject is not None and not self._writers:
            keeper.at_barrier(inject, self._sources, self._writers)  # before anybody can see the epoch
        for index, op in enumerate(self._operators):
            if not isinstance(op, SourceDriver):
                self._push(index, op.barrier(barrier))
        self._tell_late()
        if keeper is not None and inject is not None and self._writers:
            keeper.at_barrier(inject, self._sources, self._writers)
        for writer in self._writers.values():
            writer.barrier(barrier)
            if barrier.final:
                writer.end()
        if not self._writers:
            with self._lock:
                self._completed = barrier.epoch
            if keeper is not None:
                keeper.has_completed(barrier.epoch)
            self._report(EpochDone(self.job_id, self.attempt, self.spec.task_id, barrier.epoch, self._terminal_rows))
