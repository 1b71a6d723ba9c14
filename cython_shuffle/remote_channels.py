"""The two ends of a channel between agents: one keeps frames until they are acknowledged, one takes them in unasked."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import pyarrow as pa

from cython_shuffle.buffer_pool import BufferPool
from cython_shuffle.channel import Channel
from cython_shuffle.frames import Barrier, Frame, FrameKind
from sabot.errors import SabotError, ShuffleError


class OutgoingChannel(Channel):
    """The writer's end: frames stay, and hold their room in the pool, until the reader has booked room for them.

    At most `window_bytes` of data are under way, or one frame that is larger.
    """

    def __init__(self, pool: BufferPool, owner: str, name: str) -> None:
        super().__init__(pool, owner, name)
        self.window_bytes = 0
        self._kept = 0  # the sequence of the oldest frame here
        self._cursor = 0  # the one to send next
        self._sent = 0  # one more than the highest ever sent
        self._under_way_bytes = 0
        self._resumed = False
        self._dropped: list[int] = []  # sizes of frames whose room is to be given back
        self._has_until = 0  # the reader has the frames before this one, though this end never sent them

    def resume_at(self, sequence: int, epoch: int) -> None:
        """Go on for a writer that was killed: the next frame is `sequence`, after the barrier of `epoch`.

        What the reader had got from that writer beyond is written again, and dropped.
        """
        with self._lock:
            self._kept = self._cursor = self._sent = self._next_sequence = sequence
            self._has_until = sequence
            self._epoch = epoch
            self._resumed = True

    @property
    def depth(self) -> int:
        """Frames that wait to be sent."""
        with self._lock:
            return len(self._frames) - (self._cursor - self._kept)

    @property
    def lags(self) -> bool:
        """Whether the reader is behind; a window that waits for an acknowledgement leaves a frame or two."""
        return self.depth >= 4

    @property
    def acknowledged(self) -> bool:
        """Whether the end was written and all has been acknowledged."""
        with self._lock:
            return self._ended and not self._frames

    def next_to_send(self) -> Frame | None:
        """Return the next frame; None if there is none or the window is full. Raises when aborted."""
        with self._lock:
            if self._error is not None:
                self._raise_if_aborted()
            place = self._cursor - self._kept
            if place == len(self._frames):
                return None
            frame, nbytes = self._frames[place]
            if self._under_way_bytes and nbytes and self._under_way_bytes + nbytes > self.window_bytes:
                return None
            self._under_way_bytes += nbytes
            self._cursor += 1
            self._sent = max(self._sent, self._cursor)
            return frame

    def acknowledge(self, count: int) -> None:
        """Let the frames before sequence `count` go. An acknowledgement that was overtaken does nothing.

        Raises
        ------
        ShuffleError
            So many have not been sent.
        """
        with self._lock:
            if self._resumed:  # it may speak of frames that the writer before this one sent
                count = min(count, max(self._sent, self._has_until))
            elif count > self._sent:
                raise ShuffleError(f"{count} frames of channel {self.name!r} acknowledged, {self._sent} sent")
            freed = self._let_go(count)
        self._free(freed)

    def _append(self, kind: FrameKind, batch: pa.RecordBatch | None, barrier: Barrier | None, nbytes: int) -> None:
        super()._append(kind, batch, barrier, nbytes)
        if self._resumed:
            with self._lock:
                freed, self._dropped = self._dropped, []
            self._free(freed)

    def _enqueue(self, kind: FrameKind, batch: pa.RecordBatch | None, barrier: Barrier | None, nbytes: int) -> None:
        super()._enqueue(kind, batch, barrier, nbytes)
        if self._resumed:  # under the same lock: the link must not see a frame that its reader has
            self._dropped += self._let_go(self._has_until)

    def _let_go(self, count: int) -> list[int]:
        """Drop the frames before sequence `count`; return the sizes of those with rows. Under the lock."""
        freed = []
        while self._kept < count and self._frames:
            frame, nbytes = self._frames.popleft()
            if frame.sequence < self._cursor:
                self._under_way_bytes -= nbytes
            if frame.kind is FrameKind.DATA:
                freed.append(nbytes)
            self._kept += 1
        self._cursor = max(self._cursor, self._kept)
        self._sent = max(self._sent, self._cursor)
        return freed

    def _free(self, freed: list[int]) -> None:
        for nbytes in freed:
            self._pool.release(self._lane, nbytes)

    def rewind(self, received: int) -> bool:
        """Send on from sequence `received`, the first that the reader lacks; return whether it has all to the end.

        Raises
        ------
        ShuffleError
            That one is gone, or was never sent.
        """
        freed: list[int] = []
        with self._lock:
            if self._resumed and received > self._sent:
                self._has_until = received
                freed = self._let_go(received)
                ended = self._ended and received == self._next_sequence
            elif not self._kept <= received <= self._sent:
                raise ShuffleError(
                    f"channel {self.name!r} cannot go on at frame {received}; it has {self._kept} to {self._sent}"
                )
            else:
                self._cursor = received
                self._under_way_bytes = sum(nbytes for _, nbytes in list(self._frames)[: received - self._kept])
                ended = self._ended and received == self._next_sequence
        self._free(freed)
        return ended


class IncomingChannel(Channel):
    """The reader's end: takes frames in without waiting; they are seen in order as the pool has room.

    Parameters
    ----------
    on_admitted : callable
        Called with the frames admitted since the beginning and the bytes of these, from any thread and without a lock.
    """

    def __init__(self, pool: BufferPool, owner: str, name: str, on_admitted: Callable[[int, int], None]) -> None:
        super().__init__(pool, owner, name)
        self._on_admitted = on_admitted
        self._parked: deque[tuple[FrameKind, pa.RecordBatch | None, Barrier | None, int]] = deque()

    @property
    def admitted(self) -> int:
        """The frames that there was room for, since the channel began."""
        with self._lock:
            return self._next_sequence

    def resume_at(self, sequence: int, epoch: int) -> None:
        """Go on for a reader that was killed: the next frame to be received is `sequence`, after `epoch`'s barrier."""
        with self._lock:
            self._next_sequence = sequence
            self._epoch = epoch

    def receive(self, kind: FrameKind, batch: pa.RecordBatch | None, barrier: Barrier | None, nbytes: int) -> None:
        """Take a frame; it waits here, not counted by the pool, until there is room. Raises when aborted."""
        with self._lock:
            if self._error is not None:
                self._raise_if_aborted()
            if self._parked or (
                kind is FrameKind.DATA and not self._pool.acquire_later(self._lane, nbytes, self._granted)
            ):
                self._parked.append((kind, batch, barrier, nbytes))
                return
            self._enqueue(kind, batch, barrier, nbytes)
        self._tell(nbytes)

    def abort(self, error: SabotError) -> None:
        super().abort(error)
        with self._lock:
            self._parked.clear()

    def _granted(self) -> None:
        with self._lock:
            if self._error is not None:
                return
            kind, batch, barrier, nbytes = self._parked.popleft()
            self._enqueue(kind, batch, barrier, nbytes)
            admitted_bytes = nbytes + self._admit()
        self._tell(admitted_bytes)

    def _admit(self) -> int:
        """Move what has room from the parked to the frames; return the bytes. Under the lock."""
        moved_bytes = 0
        while self._parked:
            kind, batch, barrier, nbytes = self._parked[0]
            if kind is FrameKind.DATA and not self._pool.acquire_later(self._lane, nbytes, self._granted):
                break
            self._parked.popleft()
            self._enqueue(kind, batch, barrier, nbytes)
            moved_bytes += nbytes
        return moved_bytes

    def _tell(self, admitted_bytes: int) -> None:
        with self._lock:
            listener = self._listener if admitted_bytes else self._on_barrier
            admitted = self._next_sequence
        if listener is not None:
            listener()
        self._on_admitted(admitted, admitted_bytes)
