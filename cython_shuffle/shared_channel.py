"""The reader's end of a channel that several tasks of one agent read: a broadcast comes once, and is shared."""

from __future__ import annotations

import time
from collections.abc import Callable

import pyarrow as pa

from cython_shuffle.buffer_pool import BufferPool
from cython_shuffle.frames import Barrier, Frame, FrameKind
from cython_shuffle.remote_channels import IncomingChannel


class SharedChannel(IncomingChannel):
    """Every reader takes every frame. A frame gives back its room in the pool when the last has taken it.

    Parameters
    ----------
    n_readers : int
        See `readers`; the other parameters are those of `IncomingChannel`.
    """

    def __init__(
        self, pool: BufferPool, owner: str, name: str, on_admitted: Callable[[int, int], None], n_readers: int
    ) -> None:
        super().__init__(pool, owner, name, on_admitted)
        self._taken = [0] * n_readers
        self._gone = 0  # frames that all have taken
        self._empty_since_ns: list[int | None] = [None] * n_readers
        self._empty_ns = [0] * n_readers
        self._listeners: list[Callable[[], None] | None] = [None] * n_readers
        self._on_barriers: list[Callable[[], None] | None] = [None] * n_readers
        self.readers = tuple(SharedReader(self, i) for i in range(n_readers))
        super().set_listener(lambda: _call(self._listeners), lambda: _call(self._on_barriers))

    def poll_as(self, reader: int) -> Frame | None:
        """Return the next frame that `reader` has not taken; see `Channel.poll`."""
        freed = []
        with self._lock:
            if self._error is not None:
                self._raise_if_aborted()
            place = self._taken[reader] - self._gone
            if place == len(self._frames):
                if self._empty_since_ns[reader] is None and not self._ended:
                    self._empty_since_ns[reader] = time.monotonic_ns()
                return None
            frame = self._frames[place][0]
            self._taken[reader] += 1
            while self._gone < min(self._taken):
                gone, nbytes = self._frames.popleft()
                self._gone += 1
                if gone.kind is FrameKind.DATA:
                    freed.append(nbytes)
        for nbytes in freed:
            self._pool.release(self._lane, nbytes)
        return frame

    def listen_as(
        self, reader: int, listener: Callable[[], None] | None, on_barrier: Callable[[], None] | None
    ) -> None:
        """Have `reader` told; see `Channel.set_listener`."""
        with self._lock:
            self._listeners[reader] = listener
            self._on_barriers[reader] = on_barrier or listener
            waiting = self._taken[reader] - self._gone < len(self._frames) or self._error is not None
        if listener is not None and waiting:
            listener()

    def starved_as(self, reader: int) -> int:
        """Return the nanoseconds that `reader` found nothing, up to now."""
        with self._lock:
            since = self._empty_since_ns[reader]
            return self._empty_ns[reader] + (time.monotonic_ns() - since if since is not None else 0)

    def _enqueue(self, kind: FrameKind, batch: pa.RecordBatch | None, barrier: Barrier | None, nbytes: int) -> None:
        super()._enqueue(kind, batch, barrier, nbytes)
        for reader, since in enumerate(self._empty_since_ns):
            if since is not None:
                self._empty_ns[reader] += time.monotonic_ns() - since
                self._empty_since_ns[reader] = None


class SharedReader:
    """What one task sees of a `SharedChannel`."""

    def __init__(self, channel: SharedChannel, place: int) -> None:
        self._channel = channel
        self._place = place

    @property
    def starved_ns(self) -> int:
        """Nanoseconds that `poll` found nothing, up to now."""
        return self._channel.starved_as(self._place)

    def poll(self) -> Frame | None:
        """Take the next frame, or None if there is none now; raises the error of an aborted channel."""
        return self._channel.poll_as(self._place)

    def set_listener(self, listener: Callable[[], None] | None, on_barrier: Callable[[], None] | None = None) -> None:
        """Have `listener` called when there may be something to poll; see `Channel.set_listener`."""
        self._channel.listen_as(self._place, listener, on_barrier)


def _call(listeners: list[Callable[[], None] | None]) -> None:
    for listener in listeners:
        if listener is not None:
            listener()
