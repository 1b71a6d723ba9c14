"""The shuffle of one agent: edges and channels, writers that partition, readers that pull from peers.

Knows tasks by name and where they run; not what they do.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import cast

import msgspec
import pyarrow as pa

from cython_shuffle.batcher import round_bytes_of
from cython_shuffle.buffer_pool import BufferPool, PoolMetrics
from cython_shuffle.channel import Channel, InputChannel, Readable
from cython_shuffle.edge import Edge, ShuffleEdgeInfo
from cython_shuffle.heavy_keys import HEAVIEST, top
from cython_shuffle.hold import Hold
from cython_shuffle.in_link import ACKNOWLEDGE_ACTION, InLink
from cython_shuffle.link_journal import LinkJournal
from cython_shuffle.metrics import EdgeMetrics
from cython_shuffle.out_link import OutLink
from cython_shuffle.remote_channels import IncomingChannel, OutgoingChannel
from cython_shuffle.shared_channel import SharedChannel
from cython_shuffle.tickets import Abort, Acknowledgement, FrameHeader, Ticket, headers_to_bytes
from cython_shuffle.transport import UNIX, Chunk, FlightEndpoint
from cython_shuffle.wire_format import WireFormat
from cython_shuffle.writer import ShuffleWriter
from sabot.errors import ShuffleError

__all__ = ["DEFAULT_TARGET_BYTES", "EdgeMetrics", "InputChannel", "ShuffleEdgeInfo", "ShuffleManager", "ShuffleWriter"]

DEFAULT_TARGET_BYTES = 1 << 20
_LEAST_TARGET_BYTES = 64 << 10
_TARGETS_IN_POOL = 64
_LEAST_ROUND_BYTES = 256 << 10
_MOST_WINDOW_BYTES = 32 << 20
_STREAMS = 4
_WIDE_CHANNELS = 64
_WINDOWS_IN_POOL = 8
_NOT_YET_S = 0.25
_ABORT_ACTION = "shuffle.abort"
_LET_GO_S = 0.2
_JOIN_S = 2.0
_ABORT_TIMEOUT_S = 2.0


@dataclass(slots=True)
class _Registered:
    """An edge of the present attempt of a job, and what was made for it here."""

    edge: Edge
    locations: dict[str, str]
    hold: Hold | None = None
    outgoing: dict[tuple[str, str], Channel] = field(default_factory=dict)
    incoming: dict[tuple[str, str], Readable] = field(default_factory=dict)
    inputs: dict[str, list[InputChannel]] = field(default_factory=dict)
    read_from: list[InLink] = field(default_factory=list)
    writers: dict[str, ShuffleWriter] = field(default_factory=dict)
    written_to: dict[str, OutLink] = field(default_factory=dict)
    """By the reader's name for the link."""
    claimed: set[str] = field(default_factory=set)
    """Names of the channels that a link reads."""
    reader_at: dict[str, str] = field(default_factory=dict)
    """Where the reader of a link is."""

    def abort(self, error: ShuffleError) -> None:
        for channel in self.outgoing.values():
            channel.abort(error)
        for in_link in self.read_from:
            in_link.abort(error)
            in_link.close_journal()
        for out_link in self.written_to.values():
            out_link.close()


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
    reconnect_s : float
        How long a connection that broke is tried again, and waited for, before it is an error. A Unix socket does not
        break while both ends live: there it is an error at once.
    """

    def __init__(
        self,
        agent_id: str,
        endpoint: FlightEndpoint,
        pool_bytes: int,
        *,
        target_bytes: int = DEFAULT_TARGET_BYTES,
        register_wait_s: float = 10.0,
        reconnect_s: float = 3.0,
    ) -> None:
        self.agent_id = agent_id
        self.pool = BufferPool(pool_bytes)
        self._endpoint = endpoint
        # a small pool is not to be filled by a few large batches
        self._target_bytes = min(target_bytes, max(pool_bytes // _TARGETS_IN_POOL, _LEAST_TARGET_BYTES))
        self._register_wait_s = register_wait_s
        self._reconnect_s = reconnect_s
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
        self._endpoint.register_action(ACKNOWLEDGE_ACTION, self._on_acknowledge)

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

    def register_shuffle(
        self,
        job_id: str,
        attempt: int,
        edge: ShuffleEdgeInfo,
        locations: Mapping[str, str],
        hold: Hold | None = None,
    ) -> None:
        """Make `edge` known; on every agent that runs a task of it, before its tasks are opened.

        Parameters
        ----------
        attempt : int
            A higher one than present aborts and replaces the job's present attempt.
        locations : mapping of task id to location
            Where each task of the edge runs; what equals the endpoint's own location is here.
        hold : Hold, optional
            The edge outlives the process at one of its ends.

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
        registered = _Registered(checked, dict(locations), hold)
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
                    registered.outgoing[up, down] = self._make_channel(job_id, registered, up, down)
            if hold is not None:
                _resume_writers(registered, hold)
            edges[edge.edge_id] = registered
            self._changed.notify_all()
        if present is not None:
            self._drop(replaced, f"a newer attempt of job {job_id!r} began")

    def _make_channel(self, job_id: str, registered: _Registered, up: str, down: str) -> Channel:
        info, where = registered.edge.info, registered.locations
        name = f"{job_id} {info.edge_id}: {up} to {down}"
        if where[down] == self._endpoint.location:
            return Channel(self.pool, job_id, name)
        if info.kind == "BROADCAST":
            for other in info.downstream:
                if where[other] == where[down] and (up, other) in registered.outgoing:
                    return registered.outgoing[up, other]
        return OutgoingChannel(self.pool, job_id, name)

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
        self._drop(dropped, f"job {job_id!r} was unregistered at agent {self.agent_id!r}")

    def complete(self, job_id: str, epoch: int) -> None:
        """Say that the tasks here have taken all of `epoch`: what came with it is not kept any longer."""
        with self._lock:
            links = [link for e in self._edges.get(job_id, {}).values() for link in e.read_from]
        for link in links:
            link.complete(epoch)

    def relocate(self, job_id: str, attempt: int, location: str) -> None:
        """Expect the process that an attempt's edges outlive at another location, where it was started again."""
        with self._lock:
            if self._attempts.get(job_id) != attempt:
                return
            for registered in self._edges[job_id].values():
                if registered.hold is None or registered.hold.location == location:
                    continue
                before = registered.hold.location
                registered.hold = replace(registered.hold, location=location)
                for task, where in registered.locations.items():
                    if where == before:
                        registered.locations[task] = location
                for name, where in registered.reader_at.items():
                    if where == before:
                        registered.reader_at[name] = location
                for link in registered.read_from:
                    if link.location == before:
                        link.relocate(location)

    # -- data

    def writer(self, job_id: str, edge_id: str, upstream_task: str) -> ShuffleWriter:
        """Return the writer of `upstream_task`, which must run here; one an attempt, for one thread."""
        with self._lock:
            registered = self._find(job_id, edge_id)
            if upstream_task not in registered.writers:
                channels = {d: c for (u, d), c in registered.outgoing.items() if u == upstream_task}
                if not channels:
                    raise ShuffleError(f"task {upstream_task!r} does not write edge {edge_id!r} at this agent")
                round_bytes = self._round_bytes(registered, len(set(channels.values())))
                writer = ShuffleWriter(registered.edge, upstream_task, channels, round_bytes)
                registered.writers[upstream_task] = writer
                if registered.hold is not None and (edge_id, upstream_task) in registered.hold.writers:
                    writer.resume(registered.hold.writers[edge_id, upstream_task])
            return registered.writers[upstream_task]

    def write_partition(self, job_id: str, edge_id: str, upstream_task: str, batch: pa.RecordBatch) -> None:
        """Send the rows of `batch` to their downstream tasks; may keep small ones until a barrier, may block."""
        self.writer(job_id, edge_id, upstream_task).write(batch)

    def read_partition(self, job_id: str, edge_id: str, downstream_task: str) -> list[InputChannel]:
        """Return one input per upstream task, in the edge's order; pulls from peers begin now."""
        with self._lock:
            registered = self._find(job_id, edge_id)
            if downstream_task in registered.inputs:
                return registered.inputs[downstream_task]
            inputs = []
            own = self._endpoint.location
            for up, down in registered.edge.pairs():
                if down != downstream_task:
                    continue
                if registered.locations[up] == own:
                    inputs.append(InputChannel(up, registered.outgoing[up, down]))
                    continue
                if (up, down) not in registered.incoming:
                    self._pull(job_id, registered, registered.locations[up])
                inputs.append(InputChannel(up, registered.incoming[up, down]))
            if not inputs:
                raise ShuffleError(f"task {downstream_task!r} does not read edge {edge_id!r}")
            registered.inputs[downstream_task] = inputs
        return inputs

    def _round_bytes(self, registered: _Registered, n_channels: int) -> int:
        # every channel can always hold one part: one round of every writer must fit into half the pool
        writers_here = len({up for up, _ in registered.outgoing})
        fair_bytes = max(self.pool.limit_bytes // (2 * writers_here), _LEAST_ROUND_BYTES)
        return min(round_bytes_of(self._target_bytes, n_channels), fair_bytes)

    def _pull(self, job_id: str, registered: _Registered, location: str) -> None:
        """Begin to pull all channels between the tasks at `location` and those here. Under the lock."""
        info = registered.edge.info
        where = registered.locations
        down_here = [d for d in info.downstream if where[d] == self._endpoint.location]
        up_there = tuple(u for u in info.upstream if where[u] == location)
        pairs = _pairs_between(registered.edge, up_there, down_here)
        n_channels = len(pairs)
        if info.kind == "FORWARD":
            down_here = [down for _, down in pairs]
        # a few streams keep a few cores busy; a wide graph gets by with one
        n_streams = min(_STREAMS, len({down for _, down in pairs})) if n_channels <= _WIDE_CHANNELS else 1
        window_bytes = min(_MOST_WINDOW_BYTES, self.pool.limit_bytes // _WINDOWS_IN_POOL) // n_channels
        for stream in range(n_streams):
            # a broadcast is not cut: its stream has all the tasks here
            down = down_here if info.kind == "BROADCAST" else down_here[stream::n_streams]
            ticket = Ticket(
                job_id=job_id,
                attempt=self._attempts[job_id],
                edge_id=info.edge_id,
                upstream=up_there,
                downstream=tuple(down),
                link=uuid.uuid4().hex,
                window_bytes=window_bytes,
            )
            self._open_link(registered, location, ticket)

    def _open_link(self, registered: _Registered, location: str, ticket: Ticket) -> None:
        pairs = _pairs_between(registered.edge, ticket.upstream, ticket.downstream)
        names = [f"{ticket.job_id} {ticket.edge_id}: {up} to {down}" for up, down in pairs]
        shared = registered.edge.info.kind == "BROADCAST"

        def make(i: int, on_admitted: Callable[[int, int], None]) -> IncomingChannel:
            if shared:
                return SharedChannel(self.pool, ticket.job_id, names[i], on_admitted, len(ticket.downstream))
            return IncomingChannel(self.pool, ticket.job_id, names[i], on_admitted)

        hold = registered.hold
        journal = None
        if hold is not None and hold.folder is not None:
            # the same name in a process that takes this one's place
            ends = f"{ticket.edge_id} {ticket.upstream[0]} {ticket.downstream[0]}"
            ticket = msgspec.structs.replace(ticket, link=f"{ticket.job_id} {ticket.attempt} {ends}")
            folder = hold.folder / _file_name(ends)
            journal = LinkJournal(folder, len(pairs), resume=hold.epoch is not None)
        link = InLink(
            self._endpoint.clients,
            location,
            msgspec.structs.replace(ticket, received=(0,) * len(pairs)),
            registered.edge,
            make,
            self._register_wait_s,
            self._away_s(hold, location),
            journal,
        )
        if hold is not None and hold.epoch is not None and journal is not None:
            link.resume(hold.epoch)
        registered.read_from.append(link)
        for (up, down), channel in zip(pairs, link.channels, strict=True):
            if isinstance(channel, SharedChannel):
                parts = zip(ticket.downstream, channel.readers, strict=True)
                registered.incoming.update(((up, task), part) for task, part in parts)
            else:
                registered.incoming[up, down] = channel
        link.start()

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
                        wait_down_ns=sum(c.starved_ns for inputs in registered.inputs.values() for c in inputs),
                        rows_by_task=rows_by_task,
                        heavy_keys=top(((r, k) for w in writers for k, r in w.heavy_keys().items()), HEAVIEST),
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
        with self._lock:
            link = registered.written_to.get(ticket.link)
            if link is None:
                link = self._claim(registered, ticket)
        connection = link.attach(ticket)
        chunks = self._send(registered, link, connection, is_cancelled)
        wire_schema, _ = next(chunks)
        return wire_schema, cast("Iterator[Chunk]", chunks)

    def _claim(self, registered: _Registered, ticket: Ticket) -> OutLink:
        """Give the channels that `ticket` asks for to its link. Under the lock."""
        pairs = _pairs_between(registered.edge, ticket.upstream, ticket.downstream)
        channels = []
        for pair in pairs:
            channel = registered.outgoing.get(pair)
            if not isinstance(channel, OutgoingChannel):
                raise ShuffleError(f"edge {ticket.edge_id!r} has no channel from {pair[0]!r} to {pair[1]!r} here")
            if channel.name in registered.claimed:
                raise ShuffleError(f"channel {channel.name!r} is being read already", hint="frames are sent once")
            channels.append(channel)
        if not channels:
            raise ShuffleError(f"a ticket for edge {ticket.edge_id!r} names none of its channels")
        if registered.edge.info.kind == "BROADCAST":
            where = registered.locations
            there = [d for d in registered.edge.info.downstream if where[d] == where[pairs[0][1]]]
            if set(ticket.downstream) != set(there):
                raise ShuffleError(
                    f"a ticket for broadcast {ticket.edge_id!r} names {len(ticket.downstream)} of {len(there)} tasks",
                    hint="do both agents know the same edge",
                )
        reader_at = registered.locations[pairs[0][1]]
        link = OutLink(ticket.link, channels, self._away_s(registered.hold, reader_at))
        registered.claimed.update(c.name for c in channels)
        registered.written_to[ticket.link] = link
        registered.reader_at[ticket.link] = reader_at
        return link

    def _away_s(self, hold: Hold | None, peer: str) -> float:
        """Return how long the peer of a link may stay away."""
        if self._endpoint.location.startswith(UNIX):
            return 0.0
        return hold.away_s if hold is not None and peer == hold.location else self._reconnect_s

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
        self, registered: _Registered, link: OutLink, connection: int, is_cancelled: Callable[[], bool]
    ) -> Iterator[tuple[pa.Schema, None] | Chunk]:
        """Give the schema, then the chunks. A generator that has begun always comes to its end, also when dropped."""
        edge_id = registered.edge.info.edge_id
        wire = WireFormat(registered.edge.info.schema)
        frames = link.frames(connection, is_cancelled)
        try:
            yield wire.schema, None
            for group in frames:
                headers = [
                    FrameHeader(edge_id, f.kind, f.sequence, f.epoch, f.barrier, channel) for channel, f in group
                ]
                batch = group[-1][1].batch
                yield wire.encode(batch) if batch is not None else wire.empty, headers_to_bytes(headers)
        finally:
            link.detach(connection)
            with self._lock:
                self._changed.notify_all()

    def _on_acknowledge(self, body: bytes) -> bytes:
        message = Acknowledgement.from_bytes(body)
        with self._lock:
            links = [e.written_to.get(message.link) for edges in self._edges.values() for e in edges.values()]
        # a link that is not there was of an attempt that is over
        for link in links:
            if link is not None:
                link.acknowledge(message.admitted)
                if message.gone is not None:
                    link.fail(message.gone)
        return b""

    # -- the end of an attempt

    def _drop(self, dropped: list[_Registered], reason: str) -> None:
        error = ShuffleError(reason)
        for registered in dropped:
            registered.abort(error)
        if not self._wait_until_unserved(dropped, _LET_GO_S):
            # a stream whose reader takes nothing is stuck in the socket, where only the reader's side can end it
            self._ask_readers_to_let_go(dropped, reason)
            self._wait_until_unserved(dropped, _ABORT_TIMEOUT_S)
        deadline = time.monotonic() + _JOIN_S
        for registered in dropped:
            for link in registered.read_from:
                link.join(max(0.0, deadline - time.monotonic()))

    def _wait_until_unserved(self, dropped: list[_Registered], timeout_s: float) -> bool:
        with self._lock:
            return self._changed.wait_for(
                lambda: not any(link.streaming for r in dropped for link in r.written_to.values()), timeout_s
            )

    def _ask_readers_to_let_go(self, dropped: list[_Registered], reason: str) -> None:
        by_location: dict[str, list[str]] = {}
        for registered in dropped:
            for name, link in registered.written_to.items():
                if link.streaming:
                    by_location.setdefault(registered.reader_at[name], []).append(name)
        for location, links in by_location.items():
            # a reader that is dead or frozen is the transport's to bury
            with contextlib.suppress(ShuffleError):
                body = Abort(tuple(links), reason).to_bytes()
                self._endpoint.clients.call_action(location, _ABORT_ACTION, body, _ABORT_TIMEOUT_S)

    def _on_abort(self, body: bytes) -> bytes:
        request = Abort.from_bytes(body)
        error = ShuffleError(request.reason)
        with self._lock:
            links = [r for edges in self._edges.values() for e in edges.values() for r in e.read_from]
        for link in links:
            if link.link_id in request.links:
                link.abort(error)
        return b""


def _resume_writers(registered: _Registered, hold: Hold) -> None:
    """Let the channels of writers that were killed go on after the barrier of the last epoch that was complete."""
    assert hold.epoch is not None or not hold.writers
    for (edge_id, task), place in hold.writers.items():
        if edge_id != registered.edge.info.edge_id:
            continue
        channels = dict.fromkeys(c for (up, _), c in registered.outgoing.items() if up == task)
        for channel, sequence in zip(channels, place.sequences, strict=True):
            if isinstance(channel, OutgoingChannel):
                channel.resume_at(sequence, hold.epoch or 0)


def _file_name(text: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else f"%{ord(c):x}" for c in text)


def _pairs_between(edge: Edge, upstream: Collection[str], downstream: Collection[str]) -> list[tuple[str, str]]:
    """Return the channels between tasks of two agents. Those of a broadcast have the name of the first that reads."""
    up_names, down_names = set(upstream), set(downstream)
    pairs = [(u, d) for u, d in edge.pairs() if u in up_names and d in down_names]
    if edge.info.kind == "BROADCAST":
        first: dict[str, tuple[str, str]] = {}
        for up, down in pairs:
            first.setdefault(up, (up, down))
        return list(first.values())
    return pairs
