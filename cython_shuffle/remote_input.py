"""Pulls one channel from a peer: a thread reads its Flight stream, checks every frame and fills a local channel."""

from __future__ import annotations

import logging
import threading
import time

from cython_shuffle.channel import Channel
from cython_shuffle.edge import Edge
from cython_shuffle.frames import FrameKind
from cython_shuffle.tickets import FrameHeader, Ticket
from cython_shuffle.transport import ClientPool, RemoteStream
from cython_shuffle.wire_format import WireFormat
from sabot.errors import SabotError, ShuffleError

_RETRY_S = 0.05
_log = logging.getLogger(__name__)


class RemoteInput:
    """One stream from `location` into `channel`.

    The channel's room in the pool passes back pressure on: while it is full nothing is read, and the peer's writer
    stops when the connection's window is full. Whatever goes wrong aborts the channel.
    """

    def __init__(
        self,
        clients: ClientPool,
        location: str,
        ticket: Ticket,
        edge: Edge,
        channel: Channel,
        register_wait_s: float,
    ) -> None:
        self._clients = clients
        self._location = location
        self.ticket = ticket
        self.channel = channel
        self._wire = WireFormat(edge.info.schema)
        self._register_wait_s = register_wait_s
        self._cancelled = threading.Event()
        self._lock = threading.Lock()
        self._stream: RemoteStream | None = None
        self._next_sequence = 0
        self._epoch = 0
        self._thread = threading.Thread(target=self._run, name=f"pull {channel.name}", daemon=True)

    def start(self) -> None:
        """Begin to pull."""
        self._thread.start()

    def cancel(self) -> None:
        """Stop pulling; the channel must have been aborted. Does not wait."""
        self._cancelled.set()
        with self._lock:
            stream = self._stream
        if stream is not None:
            stream.cancel()

    def join(self, timeout_s: float) -> None:
        """Wait until the thread has ended; it cannot while a frozen peer answers neither yes nor no."""
        if self._thread.ident is None or self._thread is threading.current_thread():
            return
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            _log.warning("peer at %r does not answer; its reader %r waits on", self._location, self.channel.name)

    def _run(self) -> None:
        try:
            stream = self._open()
            while self._read(stream):
                pass
        except SabotError as error:
            self._fail(error.message, error.hint, error.retryable)
        except BaseException as error:
            # a bug of ours; but the task must hear of it, not wait for ever
            self._fail(repr(error), None, False)
            raise
        finally:
            with self._lock:
                self._stream = None

    def _fail(self, reason: str, hint: str | None, retryable: bool) -> None:
        self.channel.abort(ShuffleError(f"channel {self.channel.name!r}: {reason}", hint=hint, retryable=retryable))
        with self._lock:
            stream = self._stream
        if stream is not None:
            # the writer must not go on filling a channel that nobody reads
            stream.cancel()

    def _open(self) -> RemoteStream:
        """Ask until the peer knows the edge."""
        deadline = time.monotonic() + self._register_wait_s
        while True:
            try:
                stream = self._clients.open_stream(self._location, self.ticket.to_bytes())
            except SabotError as error:
                if not error.retryable or time.monotonic() >= deadline or self._cancelled.wait(_RETRY_S):
                    raise
                continue
            with self._lock:
                self._stream = stream
            if self._cancelled.is_set():
                stream.cancel()
                raise ShuffleError(f"channel {self.channel.name!r} was cancelled")
            self._wire.check(stream.schema)
            return stream

    def _read(self, stream: RemoteStream) -> bool:
        """Move one frame; False when the channel has ended."""
        chunk = stream.read()
        if chunk is None:
            raise ShuffleError(f"the stream ended before its end frame, after {self._next_sequence} frames")
        rows, metadata = chunk
        header = FrameHeader.from_bytes(metadata)
        self._check(header)
        match header.kind:
            case FrameKind.DATA:
                batch = self._wire.decode(rows)
                self.channel.put_data(batch, max(batch.nbytes, batch.num_rows))
            case FrameKind.BARRIER:
                assert header.barrier is not None
                self.channel.put_barrier(header.barrier)
            case FrameKind.END:
                self.channel.put_end()
                # let the stream run out, so that the peer sees it taken to its end
                if stream.read() is not None:
                    raise ShuffleError("a frame came after the end")
                return False
        return True

    def _check(self, header: FrameHeader) -> None:
        if header.edge_id != self.ticket.edge_id:
            raise ShuffleError(f"a frame of edge {header.edge_id!r} came on edge {self.ticket.edge_id!r}")
        if header.sequence != self._next_sequence:
            raise ShuffleError(
                f"frame {header.sequence} came where {self._next_sequence} was due",
                hint="frames were lost or reordered",
            )
        self._next_sequence += 1
        if header.kind is FrameKind.BARRIER:
            if header.epoch < self._epoch:
                raise ShuffleError(f"the barrier of epoch {header.epoch} came after that of epoch {self._epoch}")
            self._epoch = header.epoch
        elif header.epoch != self._epoch:
            raise ShuffleError(f"a frame of epoch {header.epoch} came in epoch {self._epoch}")
