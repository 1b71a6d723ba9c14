"""The shuffle of one agent: edges and channels, writers that partition, readers that pull from peers.

Knows tasks by name and where they run; not what they do.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

import pyarrow as pa

from cython_shuffle.buffer_pool import BufferPool, PoolMetrics
from cython_shuffle.channel import Channel, InputChannel
from cython_shuffle.edge import Edge, ShuffleEdgeInfo
from cython_shuffle.frames import FrameKind
from cython_shuffle.metrics import EdgeMetrics
from cython_shuffle.remote_input import RemoteInput
from cython_shuffle.tickets import AbortRequest, FrameHeader, Ticket
from cython_shuffle.transport import Chunk, FlightEndpoint
from cython_shuffle.wire_format import WireFormat
from cython_shuffle.writer import ShuffleWriter
from sabot.errors import ShuffleError

__all__ = ["DEFAULT_TARGET_BYTES", "EdgeMetrics", "InputChannel", "ShuffleEdgeInfo", "ShuffleManager", "ShuffleWriter"]

DEFAULT_TARGET_BYTES = 1 << 20
_LEAST_TARGET_BYTES = 64 << 10
_TARGETS_IN_POOL = 64
_CANCEL_CHECK_S = 1.0
_NOT_YET_S = 0.25
_ABORT_ACTION = "shuffle.abort"
_LET_GO_S = 0.2
_JOIN_S = 2.0
_ABORT_TIMEOUT_S = 2.0


@dataclass(slots=True)
class _Registered:
    """An edge of the present attempt of a job, and what was made for it here."""

    edge: Edge
    locations: Mapping[str, str]
    outgoing: dict[tuple[str, str], Channel] = field(default_factory=dict)
    incoming: dict[tuple[str, str], Channel] = field(default_factory=dict)
    inputs: dict[str, list[InputChannel]] = field(default_factory=dict)
    remote: list[RemoteInput] = field(default_factory=list)
    writers: dict[str, ShuffleWriter] = field(default_factory=dict)
    claimed: set[tuple[str, str]] = field(default_factory=set)
    served: set[tuple[str, str]] = field(default_factory=set)
    """Channels that a stream to a peer is open for."""

    def abort(self, error: ShuffleError) -> None:
        for channel in (*self.outgoing.values(), *self.incoming.values()):
            channel.abort(error)
        for remote in self.remote:
            remote.cancel()


class ShuffleManager:
    """Moves batches between the tasks of this agent and those of its peers.

    Parameters
    ----------
    agent_id : str
        For messages and thread names.
    endpoint : FlightEndpoint
        Serves this agent's channels; may be started before or after this.
    pool_bytes : int
        What all channels here may hold together.
    target_bytes : int
        About what a destination should get at once; less where the pool is small.
    register_wait_s : float
        How long a reader waits for a peer to register the edge.
    """

    def __init__(
        self,
        agent_id: str,
        endpoint: FlightEndpoint,
        pool_bytes: int,
        *,
        target_bytes: int = DEFAULT_TARGET_BYTES,
        register_wait_s: float = 10.0,
    ) -> None:
        self.agent_id = agent_id
        self.pool = BufferPool(pool_bytes)
        self._endpoint = endpoint
        # a small pool is not to be filled by a few large batches
        self._target_bytes = min(target_bytes, max(pool_bytes // _TARGETS_IN_POOL, _LEAST_TARGET_BYTES))
        self._register_wait_s = register_wait_s
        # re-entrant: the collector may end a dropped stream on a thread that holds it
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._attempts: dict[str, int] = {}
        self._edges: dict[str, dict[str, _Registered]] = {}
        self._running = False

    def start(self) -> None:
        """Answer peers."""
        with self._lock:
            self._running = True
        self._endpoint.set_stream_handler(self._serve)
        self._endpoint.register_action(_ABORT_ACTION, self._on_abort)

    def stop(self) -> None:
        """Abort every job, end every thread, free every buffer. Idempotent. The endpoint goes on."""
        with self._lock:
            self._running = False
            jobs = list(self._attempts.items())
            self._changed.notify_all()
        self._endpoint.set_stream_handler(None)
        for job_id, attempt in jobs:
            self.unregister(job_id, attempt)

    # -- control

    def register_shuffle(self, job_id: str, attempt: int, edge: ShuffleEdgeInfo, locations: Mapping[str, str]) -> None:
        """Make `edge` known; on every agent that runs a task of it, before its tasks are opened.

        Parameters
        ----------
        attempt : int
            A higher one than present aborts and replaces the job's present attempt.
        locations : mapping of task id to location
            Where each task of the edge runs; what equals the endpoint's own location is here.

        Raises
        ------
        ShuffleError
            The edge is malformed or known already, the attempt is older than the present one, or this is stopped.
        """
        checked = Edge(edge)
        own = self._endpoint.location
        for task in (*edge.upstream, *edge.downstream):
            if task not in locations:
                raise ShuffleError(f"task {task!r} of edge {edge.edge_id!r} has no location")
        registered = _Registered(checked, dict(locations))
        replaced: list[_Registered] = []
        with self._lock:
            if not self._running:
                raise ShuffleError(f"the shuffle of agent {self.agent_id!r} is not running")
            present = self._attempts.get(job_id)
            if present is not None and present > attempt:
                raise ShuffleError(f"attempt {attempt} of job {job_id!r} is over; {present} runs")
            if present is not None and present < attempt:
                replaced = list(self._edges.pop(job_id).values())
            edges = self._edges.setdefault(job_id, {})
            if edge.edge_id in edges:
                raise ShuffleError(f"edge {edge.edge_id!r} of job {job_id!r} is registered already")
            self._attempts[job_id] = attempt
            for up, down in checked.pairs():
                if locations[up] == own:
                    name = f"{job_id} {edge.edge_id}: {up} to {down}"
                    registered.outgoing[up, down] = Channel(self.pool, job_id, name)
            edges[edge.edge_id] = registered
            self._changed.notify_all()
        if present is not None:
            self._drop(job_id, present, replaced, f"a newer attempt of job {job_id!r} began")

    def unregister(self, job_id: str, attempt: int) -> None:
        """Drop everything of the job if `attempt` is its present one or newer; else do nothing.

        Writers and readers that wait, and any later use of theirs, get ShuffleError.
        """
        with self._lock:
            present = self._attempts.get(job_id)
            if present is None or present > attempt:
                return
            del self._attempts[job_id]
            dropped = list(self._edges.pop(job_id).values())
            self._changed.notify_all()
        self._drop(job_id, present, dropped, f"job {job_id!r} was unregistered at agent {self.agent_id!r}")

    # -- data

    def writer(self, job_id: str, edge_id: str, upstream_task: str) -> ShuffleWriter:
        """Return the writer of `upstream_task`, which must run here; one an attempt, for one thread."""
        with self._lock:
            registered = self._find(job_id, edge_id)
            if upstream_task not in registered.writers:
                channels = {d: c for (u, d), c in registered.outgoing.items() if u == upstream_task}
                if not channels:
                    raise ShuffleError(f"task {upstream_task!r} does not write edge {edge_id!r} at this agent")
                registered.writers[upstream_task] = ShuffleWriter(
                    registered.edge, upstream_task, channels, self._target_bytes
                )
            return registered.writers[upstream_task]

    def write_partition(self, job_id: str, edge_id: str, upstream_task: str, batch: pa.RecordBatch) -> None:
        """Send the rows of `batch` to their downstream tasks; may keep small ones until a barrier, may block."""
        self.writer(job_id, edge_id, upstream_task).write(batch)

    def read_partition(self, job_id: str, edge_id: str, downstream_task: str) -> list[InputChannel]:
        """Return one input per upstream task, in the edge's order; pulls from peers begin now."""
        started: list[RemoteInput] = []
        with self._lock:
            registered = self._find(job_id, edge_id)
            if downstream_task in registered.inputs:
                return registered.inputs[downstream_task]
            attempt = self._attempts[job_id]
            inputs = []
            for up, down in registered.edge.pairs():
                if down != downstream_task:
                    continue
                channel = registered.outgoing.get((up, down))
                if channel is None:
                    channel = Channel(self.pool, job_id, f"{job_id} {edge_id}: {up} to {down}")
                    ticket = Ticket(job_id, attempt, edge_id, up, down)
                    remote = RemoteInput(
                        self._endpoint.clients,
                        registered.locations[up],
                        ticket,
                        registered.edge,
                        channel,
                        self._register_wait_s,
                    )
                    registered.remote.append(remote)
                    started.append(remote)
                registered.incoming[up, down] = channel
                inputs.append(InputChannel(up, channel))
            if not inputs:
                raise ShuffleError(f"task {downstream_task!r} does not read edge {edge_id!r}")
            registered.inputs[downstream_task] = inputs
            for remote in started:
                remote.start()
        return inputs

    def metrics(self) -> list[EdgeMetrics]:
        """Return the figures of every edge registered here."""
        with self._lock:
            everything = [
                (job_id, self._attempts[job_id], registered)
                for job_id, edges in self._edges.items()
                for registered in edges.values()
            ]
            figures = []
            for job_id, attempt, registered in everything:
                writers = list(registered.writers.values())
                rows_by_task = dict.fromkeys(registered.edge.info.downstream, 0)
                for writer in writers:
                    for task, rows in writer.rows_by_task().items():
                        rows_by_task[task] += rows
                figures.append(
                    EdgeMetrics(
                        job_id,
                        registered.edge.info.edge_id,
                        attempt,
                        registered.edge.info.kind,
                        rows=sum(rows_by_task.values()),
                        bytes=sum(w.bytes for w in writers),
                        batches=sum(w.batches for w in writers),
                        wait_up_ns=sum(w.wait_ns for w in writers),
                        wait_down_ns=sum(c.starved_ns for c in registered.incoming.values()),
                        rows_by_task=rows_by_task,
                    )
                )
        return figures

    def pool_metrics(self) -> PoolMetrics:
        """Return the figures of the buffer pool."""
        return self.pool.metrics()

    def _find(self, job_id: str, edge_id: str) -> _Registered:
        registered = self._edges.get(job_id, {}).get(edge_id)
        if registered is None:
            raise ShuffleError(f"edge {edge_id!r} of job {job_id!r} is not registered at agent {self.agent_id!r}")
        return registered

    # -- serving peers: on the endpoint's threads, one a stream

    def _serve(self, data: bytes, is_cancelled: Callable[[], bool]) -> tuple[pa.Schema, Iterator[Chunk]]:
        ticket = Ticket.from_bytes(data)
        registered = self._await_registration(ticket)
        pair = (ticket.upstream, ticket.downstream)
        with self._lock:
            channel = registered.outgoing.get(pair)
            if channel is None:
                raise ShuffleError(f"edge {ticket.edge_id!r} has no channel from {pair[0]!r} to {pair[1]!r} here")
            if pair in registered.claimed:
                raise ShuffleError(f"channel {channel.name!r} is being read already", hint="frames are sent once")
            registered.claimed.add(pair)
            registered.served.add(pair)
        chunks = self._send(registered, pair, channel, is_cancelled)
        wire_schema, _ = next(chunks)
        return wire_schema, cast("Iterator[Chunk]", chunks)

    def _await_registration(self, ticket: Ticket) -> _Registered:
        deadline = time.monotonic() + _NOT_YET_S
        with self._lock:
            while True:
                attempt = self._attempts.get(ticket.job_id)
                if attempt is not None and attempt > ticket.attempt:
                    raise ShuffleError(f"attempt {ticket.attempt} of job {ticket.job_id!r} is over; {attempt} runs")
                if attempt == ticket.attempt and ticket.edge_id in self._edges[ticket.job_id]:
                    return self._edges[ticket.job_id][ticket.edge_id]
                left = deadline - time.monotonic()
                if left <= 0 or not self._running:
                    # the reader asks again: it can give up, this thread could not
                    raise ShuffleError(
                        f"edge {ticket.edge_id!r} of job {ticket.job_id!r}, attempt {ticket.attempt}, is not "
                        f"registered at agent {self.agent_id!r}",
                        retryable=True,
                    )
                self._changed.wait(left)

    def _send(
        self,
        registered: _Registered,
        pair: tuple[str, str],
        channel: Channel,
        is_cancelled: Callable[[], bool],
    ) -> Iterator[tuple[pa.Schema, None] | Chunk]:
        """Give the schema, then the chunks. A generator that has begun always comes to its end, also when dropped."""
        epoch = 0
        ended = False
        edge_id = registered.edge.info.edge_id
        wire = WireFormat(registered.edge.info.schema)
        try:
            yield wire.schema, None
            while not ended:
                frame = channel.take(_CANCEL_CHECK_S)
                if frame is None:
                    if is_cancelled():
                        break
                    continue
                if frame.barrier is not None:
                    epoch = frame.barrier.epoch
                header = FrameHeader(edge_id, frame.kind, frame.sequence, epoch, frame.barrier)
                rows = wire.encode(frame.batch) if frame.batch is not None else wire.empty
                yield rows, header.to_bytes()
                ended = frame.kind is FrameKind.END
        finally:
            if not ended:
                channel.abort(ShuffleError(f"the reader of channel {channel.name!r} is gone"))
            with self._lock:
                registered.served.discard(pair)
                self._changed.notify_all()

    # -- the end of an attempt

    def _drop(self, job_id: str, attempt: int, dropped: list[_Registered], reason: str) -> None:
        error = ShuffleError(reason)
        for registered in dropped:
            registered.abort(error)
        if not self._wait_until_unserved(dropped, _LET_GO_S):
            # a stream whose reader takes nothing is stuck in the socket, where only the reader's side can end it
            self._ask_readers_to_let_go(job_id, attempt, dropped, reason)
            self._wait_until_unserved(dropped, _ABORT_TIMEOUT_S)
        deadline = time.monotonic() + _JOIN_S
        for registered in dropped:
            for remote in registered.remote:
                remote.join(max(0.0, deadline - time.monotonic()))

    def _wait_until_unserved(self, dropped: list[_Registered], timeout_s: float) -> bool:
        with self._lock:
            return self._changed.wait_for(lambda: not any(r.served for r in dropped), timeout_s)

    def _ask_readers_to_let_go(self, job_id: str, attempt: int, dropped: list[_Registered], reason: str) -> None:
        with self._lock:
            by_location: dict[str, list[Ticket]] = {}
            for registered in dropped:
                for up, down in registered.served:
                    ticket = Ticket(job_id, attempt, registered.edge.info.edge_id, up, down)
                    by_location.setdefault(registered.locations[down], []).append(ticket)
        for location, tickets in by_location.items():
            body = AbortRequest(tuple(tickets), reason).to_bytes()
            # a reader that is dead or frozen is the transport's to bury
            with contextlib.suppress(ShuffleError):
                self._endpoint.clients.call_action(location, _ABORT_ACTION, body, _ABORT_TIMEOUT_S)

    def _on_abort(self, body: bytes) -> bytes:
        request = AbortRequest.from_bytes(body)
        error = ShuffleError(request.reason)
        with self._lock:
            remote = [r for edges in self._edges.values() for e in edges.values() for r in e.remote]
        for one in remote:
            if one.ticket in request.tickets:
                one.channel.abort(error)
                one.cancel()
        return b""
