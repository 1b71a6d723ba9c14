"""A bounded queue of frames from one upstream task to one downstream task (or to the wire between them)."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

import pyarrow as pa

from cython_shuffle.buffer_pool import BufferPool
from cython_shuffle.frames import Barrier, Frame, FrameKind
from sabot.errors import SabotError, ShuffleError


class Channel:
    """Frames in order, numbered from 0. One thread puts, one takes; any may abort.

    Data frames take room in the pool and wait for it; barriers and the end never wait.
    """

    def __init__(self, pool: BufferPool, owner: str, name: str) -> None:
        self.name = name
        self._pool = pool
        self._lane = pool.lane(owner)
        self._lock = threading.Lock()
        self._frames: deque[tuple[Frame, int]] = deque()
        self._next_sequence = 0
        self._epoch = 0
        self._listener: Callable[[], None] | None = None
        self._on_barrier: Callable[[], None] | None = None
        self._error: SabotError | None = None
        self._ended = False
        self._starved_since_ns: int | None = None
        self._starved_ns = 0

    @property
    def depth(self) -> int:
        """Frames that wait to be taken."""
        return len(self._frames)

    @property
    def next_sequence(self) -> int:
        """The sequence of the frame that is put next."""
        with self._lock:
            return self._next_sequence

    @property
    def lags(self) -> bool:
        """Whether the taker is behind, so that what waits should hold no more memory than its own."""
        return len(self._frames) >= 2

    @property
    def starved_ns(self) -> int:
        """Nanoseconds that the taker found nothing, up to now."""
        with self._lock:
            since = self._starved_since_ns
            return self._starved_ns + (time.monotonic_ns() - since if since is not None else 0)

    def put_data(self, batch: pa.RecordBatch, nbytes: int) -> int:
        """Append rows; block while the pool has no room. Return the nanoseconds waited.

        Raises
        ------
        SabotError
            The channel was aborted, before or while waiting.
        """
        waited_ns = self._pool.acquire(self._lane, nbytes)
        self._append(FrameKind.DATA, batch, None, nbytes)
        return waited_ns

    def put_barrier(self, barrier: Barrier) -> None:
        """Append a barrier; raises as `put_data`."""
        self._append(FrameKind.BARRIER, None, barrier, 0)

    def put_end(self) -> None:
        """Append the end; nothing may follow. Raises as `put_data`."""
        self._append(FrameKind.END, None, None, 0)

    def _append(self, kind: FrameKind, batch: pa.RecordBatch | None, barrier: Barrier | None, nbytes: int) -> None:
        with self._lock:
            if self._error is not None:
                self._raise_if_aborted()
            self._enqueue(kind, batch, barrier, nbytes)
            listener = self._listener if kind is FrameKind.DATA else self._on_barrier
        if listener is not None:
            listener()

    def _enqueue(self, kind: FrameKind, batch: pa.RecordBatch | None, barrier: Barrier | None, nbytes: int) -> None:
        """Append; under the lock."""
        if self._ended:
            raise ShuffleError(f"channel {self.name!r} has ended", hint="nothing follows the end")
        self._ended = kind is FrameKind.END
        if barrier is not None:
            self._epoch = barrier.epoch
        self._frames.append((Frame(kind, self._next_sequence, batch, barrier, self._epoch), nbytes))
        self._next_sequence += 1
        if self._starved_since_ns is not None:
            self._starved_ns += time.monotonic_ns() - self._starved_since_ns
            self._starved_since_ns = None

    def poll(self) -> Frame | None:
        """Take the next frame, or None if there is none now; raises the error of an aborted channel."""
        with self._lock:
            if self._error is not None:
                self._raise_if_aborted()
            if not self._frames:
                if self._starved_since_ns is None and not self._ended:
                    self._starved_since_ns = time.monotonic_ns()
                return None
            frame, nbytes = self._frames.popleft()
        if frame.kind is FrameKind.DATA:
            self._pool.release(self._lane, nbytes)
        return frame

    def set_listener(self, listener: Callable[[], None] | None, on_barrier: Callable[[], None] | None = None) -> None:
        """Have `listener` called, from any thread, when there may be something to poll; at once if there is now.

        With `on_barrier`, that is called instead where no rows came, but barriers or the end.
        """
        with self._lock:
            self._listener = listener
            self._on_barrier = on_barrier or listener
            waiting = bool(self._frames) or self._error is not None
        if listener is not None and waiting:
            listener()

    def abort(self, error: SabotError) -> None:
        """Drop all frames; from now on `put_*` and `poll` raise `error`. The first abort counts."""
        with self._lock:
            if self._error is not None:
                return
            self._error = error
            self._frames.clear()
            listener = self._listener
        self._pool.close_lane(self._lane, error)
        if listener is not None:
            listener()

    def _raise_if_aborted(self) -> None:
        error = self._error
        if error is not None:
            raise type(error)(error.message, hint=error.hint, sqlstate=error.sqlstate, retryable=error.retryable)


class Readable(Protocol):
    """A channel, or one task's part in a channel that is shared."""

    @property
    def starved_ns(self) -> int: ...
    def poll(self) -> Frame | None: ...
    def set_listener(
        self, listener: Callable[[], None] | None, on_barrier: Callable[[], None] | None = None
    ) -> None: ...


class InputChannel:
    """The reading end of a channel, as a task's input gate sees it."""

    def __init__(self, upstream_task: str, channel: Readable) -> None:
        self.upstream_task = upstream_task
        self._channel = channel

    @property
    def starved_ns(self) -> int:
        """Nanoseconds that `poll` found nothing, up to now."""
        return self._channel.starved_ns

    def poll(self) -> Frame | None:
        """Return the next frame, or None if there is none yet. Frees its room in the pool.

        Raises
        ------
        ShuffleError
            The peer died or gave up, a frame was lost or of another schema, or the job was unregistered. Frames that
            had come before are dropped: the attempt is over.
        """
        return self._channel.poll()

    def set_listener(self, listener: Callable[[], None] | None, on_barrier: Callable[[], None] | None = None) -> None:
        """Have `listener` called, from any thread, when `poll` may have something (a frame or an error).

        With `on_barrier`, that is called instead where no rows came, but barriers or the end.
        """
        self._channel.set_listener(listener, on_barrier)
