"""The reader's end of a link: a thread reads its stream, checks frames and fills channels; another acknowledges.

A connection that breaks is made again, and goes on at the first frame that is missing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

import msgspec
import pyarrow as pa

from cython_shuffle.edge import Edge
from cython_shuffle.frames import FrameKind
from cython_shuffle.link_journal import LinkJournal
from cython_shuffle.remote_channels import IncomingChannel
from cython_shuffle.tickets import Acknowledgement, FrameHeader, Ticket, headers_from_bytes
from cython_shuffle.transport import ClientPool, RemoteStream
from cython_shuffle.wire_format import WireFormat
from sabot.errors import SabotError, ShuffleError

ACKNOWLEDGE_ACTION = "shuffle.acknowledge"
_RETRY_S = 0.05
_GATHER_S = 0.004
_ACKNOWLEDGE_TIMEOUT_S = 2.0
_BARRIERS_KEPT = 64
_log = logging.getLogger(__name__)


class InLink:
    """All channels of one edge from the tasks of one other agent.

    The stream is always read: what may come is bounded by the windows, which open as the agent's pool has room for
    what came. Whatever goes wrong aborts all the channels.

    Parameters
    ----------
    ticket : Ticket
        Of the first connection.
    register_wait_s : float
        How long the peer may not know the edge yet.
    reconnect_s : float
        How long it is tried to reach a peer again; 0: a broken connection is an error at once.
    journal : LinkJournal, optional
        Takes every frame before it is acknowledged; what it holds from a process before this one comes first.
    """

    def __init__(
        self,
        clients: ClientPool,
        location: str,
        ticket: Ticket,
        edge: Edge,
        make_channel: Callable[[int, Callable[[int, int], None]], IncomingChannel],
        register_wait_s: float,
        reconnect_s: float,
        journal: LinkJournal | None = None,
    ) -> None:
        self._clients = clients
        self._location = location
        self._ticket = ticket
        self.name = f"{ticket.job_id} {ticket.edge_id} from {location}"
        n_channels = len(ticket.received)
        self.channels: Sequence[IncomingChannel] = [
            make_channel(i, lambda count, nbytes, i=i: self._admitted(i, count, nbytes))  # type: ignore[misc]
            for i in range(n_channels)
        ]
        self._wire = WireFormat(edge.info.schema)
        self._journal = journal
        self._register_wait_s = register_wait_s
        self._reconnect_s = reconnect_s
        self._cancelled = threading.Event()
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._stream: RemoteStream | None = None
        self._next_sequence = [0] * n_channels
        self._epochs = [0] * n_channels
        self._left = n_channels
        self._ended = [False] * n_channels
        self._counts = [0] * n_channels
        self._dirty: set[int] = set()
        self._dirty_bytes = 0
        self._dirty_barriers = 0
        self._gathering = False
        self._gone: str | None = None
        self._threads = [
            threading.Thread(target=self._run, name=f"pull {self.name}", daemon=True),
            threading.Thread(target=self._acknowledge, name=f"acknowledge {self.name}", daemon=True),
        ]

    @property
    def link_id(self) -> str:
        """What tickets call it."""
        return self._ticket.link

    @property
    def location(self) -> str:
        """Where the writer is."""
        return self._location

    def relocate(self, location: str) -> None:
        """Reach the writer at `location` from the next connection on."""
        self._location = location

    def complete(self, epoch: int) -> None:
        """Say that frames up to the barrier of `epoch` need not be kept for a process that takes this one's place."""
        if self._journal is not None:
            self._journal.complete(epoch)

    def close_journal(self) -> None:
        """Write nothing more; the channels must have been aborted."""
        if self._journal is not None:
            self._journal.close()

    def resume(self, epoch: int) -> None:
        """Before `start`: take in what the journal has beyond `epoch`, and go on from there with the peer."""
        assert self._journal is not None
        places = self._journal.places
        self._next_sequence, self._epochs = list(places.sequences), list(places.epochs)
        self._ended = list(places.ended)
        self._left = self._ended.count(False)
        for i, channel in enumerate(self.channels):
            channel.resume_at(places.sequences[i], places.epochs[i])
        for metadata, rows in self._journal.recovered(self._wire.schema):
            headers = headers_from_bytes(metadata)
            self._journal.noted(headers)
            for header in headers:
                self._check(header)
                done = header.epoch <= epoch if header.kind is FrameKind.BARRIER else header.epoch < epoch
                if done and header.kind is not FrameKind.END:
                    self.channels[header.channel].resume_at(header.sequence + 1, self._epochs[header.channel])
                else:
                    self._receive(header, rows)
        with self._lock:
            self._counts = [c.admitted for c in self.channels]
            self._dirty = set(range(len(self.channels)))
            self._dirty_bytes += 1
        self._ticket = msgspec.structs.replace(
            self._ticket, connection=self._journal.first_connection, received=tuple(self._next_sequence)
        )

    def start(self) -> None:
        """Begin to pull."""
        for thread in self._threads:
            thread.start()

    def cancel(self) -> None:
        """Stop pulling; the channels must have been aborted. Does not wait."""
        self._cancelled.set()
        with self._lock:
            stream = self._stream
            self._changed.notify_all()
        if stream is not None:
            stream.cancel()

    def abort(self, error: SabotError) -> None:
        """Fail all channels with `error` and stop."""
        for channel in self.channels:
            channel.abort(error)
        self.cancel()

    def join(self, timeout_s: float) -> None:
        """Wait until the threads have ended; they cannot while a frozen peer answers neither yes nor no."""
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            if thread.ident is None or thread is threading.current_thread():
                continue
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                _log.warning("peer at %r does not answer; thread %r waits on", self._location, thread.name)

    # -- reading

    def _run(self) -> None:
        try:
            stream = self._open(self._register_wait_s)
            while self._read(stream):
                if stream.broken:
                    stream = self._reopen()
        except SabotError as error:
            self._fail(error.message, error.hint, error.retryable)
        except BaseException as error:
            # a bug of ours; but the tasks must hear of it, not wait for ever
            self._fail(repr(error), None, False)
            raise
        finally:
            with self._lock:
                self._stream = None

    def _fail(self, reason: str, hint: str | None, retryable: bool) -> None:
        for channel in self.channels:
            channel.abort(ShuffleError(f"channel {channel.name!r}: {reason}", hint=hint, retryable=retryable))
        with self._lock:
            self._gone = reason
            stream = self._stream
            self._changed.notify_all()
        if stream is not None:
            # the writer must not go on filling channels that nobody reads
            stream.cancel()

    def _open(self, wait_s: float) -> RemoteStream:
        """Ask until the peer knows the edge."""
        deadline = time.monotonic() + wait_s
        while True:
            try:
                stream = self._clients.open_stream(self._location, self._ticket.to_bytes())
            except SabotError as error:
                if not error.retryable or time.monotonic() >= deadline or self._cancelled.wait(_RETRY_S):
                    raise
                # the refused one may have got as far as to take the link over
                self._ticket = msgspec.structs.replace(self._ticket, connection=self._ticket.connection + 1)
                continue
            with self._lock:
                self._stream = stream
            if self._cancelled.is_set():
                stream.cancel()
                raise ShuffleError(f"link {self.name!r} was cancelled")
            self._wire.check(stream.schema)
            return stream

    def _reopen(self) -> RemoteStream:
        _log.info("the connection of link %r broke; going on", self.name)
        self._ticket = msgspec.structs.replace(
            self._ticket, connection=self._ticket.connection + 1, received=tuple(self._next_sequence)
        )
        return self._open(self._reconnect_s)

    def _read(self, stream: RemoteStream) -> bool:
        """Move one chunk, or none if the stream broke and may be made again; False when all channels have ended."""
        try:
            chunk = stream.read()
        except SabotError:
            if stream.broken and self._left == 0:
                return False
            if stream.broken and self._reconnect_s > 0 and not self._cancelled.is_set():
                return True
            raise
        if chunk is None:
            if self._left == 0:
                return False
            raise ShuffleError(f"the stream ended before its end frame, after {sum(self._next_sequence)} frames")
        rows, metadata = chunk
        headers = headers_from_bytes(metadata)
        *without_rows, last = headers
        for header in without_rows:
            if header.kind is FrameKind.DATA:
                raise ShuffleError(f"frame {header.sequence} of channel {header.channel} came without its rows")
        for header in headers:
            self._check(header)
        if self._journal is not None:
            # before anything of it can be acknowledged
            self._journal.append(headers, metadata, rows)
        for header in without_rows:
            self._receive(header, None)
        self._receive(last, rows)
        return True

    def _receive(self, header: FrameHeader, rows: pa.RecordBatch | None) -> None:
        batch, nbytes = None, 0
        if header.kind is FrameKind.DATA:
            assert rows is not None
            batch = self._wire.decode(rows)
            nbytes = max(batch.nbytes, batch.num_rows)
        elif header.kind is FrameKind.END:
            self._ended[header.channel] = True
            self._left -= 1
        self.channels[header.channel].receive(header.kind, batch, header.barrier, nbytes)

    def _check(self, header: FrameHeader) -> None:
        if header.edge_id != self._ticket.edge_id:
            raise ShuffleError(f"a frame of edge {header.edge_id!r} came on edge {self._ticket.edge_id!r}")
        if not header.channel < len(self.channels):
            raise ShuffleError(f"a frame came on channel {header.channel} of {len(self.channels)}")
        if self._ended[header.channel]:
            raise ShuffleError("a frame came after the end")
        due = self._next_sequence[header.channel]
        if header.sequence != due:
            raise ShuffleError(
                f"frame {header.sequence} came where {due} was due", hint="frames were lost or reordered"
            )
        self._next_sequence[header.channel] += 1
        epoch = self._epochs[header.channel]
        if header.kind is FrameKind.BARRIER:
            if header.epoch < epoch:
                raise ShuffleError(f"the barrier of epoch {header.epoch} came after that of epoch {epoch}")
            self._epochs[header.channel] = header.epoch
        elif header.epoch != epoch:
            raise ShuffleError(f"a frame of epoch {header.epoch} came in epoch {epoch}")

    # -- acknowledging

    def _admitted(self, i: int, count: int, nbytes: int) -> None:
        with self._lock:
            self._counts[i] = max(self._counts[i], count)
            self._dirty.add(i)
            if nbytes:
                self._dirty_bytes += nbytes
            else:
                self._dirty_barriers += 1
                if self._left and self._dirty_barriers < _BARRIERS_KEPT * len(self.channels):
                    return
            if self._is_urgent() if self._gathering else self._is_due():
                self._changed.notify()

    def _is_due(self) -> bool:
        # barriers hold no room: they go along with data
        return self._dirty_bytes > 0 or self._dirty_barriers >= _BARRIERS_KEPT * len(self.channels) or self._is_over()

    def _is_urgent(self) -> bool:
        return self._dirty_bytes * 2 >= self._ticket.window_bytes * len(self.channels) or self._is_over()

    def _is_over(self) -> bool:
        return self._cancelled.is_set() or self._gone is not None or self._is_complete()

    def _is_complete(self) -> bool:
        return self._left == 0 and self._counts == self._next_sequence

    def _acknowledge(self) -> None:
        failing_since: float | None = None
        over = False
        while not over:
            with self._lock:
                self._changed.wait_for(self._is_due)
                # what comes in the next moment saves a call
                self._gathering = True
                self._changed.wait_for(self._is_urgent, _GATHER_S)
                self._gathering = False
                over = self._is_over()
                gone = None if self._is_complete() else self._gone or ("it was stopped" if over else None)
                admitted = tuple((i, self._counts[i]) for i in self._dirty)
                self._dirty.clear()
                self._dirty_bytes = self._dirty_barriers = 0
            if gone is not None and self._reconnect_s == 0:
                return  # the closed stream says it
            message = Acknowledgement(self._ticket.link, admitted, gone).to_bytes()
            try:
                self._clients.call_action(self._location, ACKNOWLEDGE_ACTION, message, _ACKNOWLEDGE_TIMEOUT_S)
                failing_since = None
            except SabotError as error:
                if gone is not None:
                    return
                if not error.retryable:
                    self._fail(error.message, error.hint, retryable=False)
                    return
                # the stream's thread decides when a peer is lost; for the last word there is only this one
                failing_since = failing_since or time.monotonic()
                if over and time.monotonic() - failing_since >= self._reconnect_s:
                    return
                over = self._cancelled.wait(_RETRY_S)
                with self._lock:
                    self._dirty.update(i for i, _ in admitted)
                    self._dirty_bytes += 1
