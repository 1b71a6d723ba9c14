"""Takes frames from a task's input channels and aligns them on barriers; knows no operator."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from cython_shuffle.frames import Barrier, Frame, FrameKind
from sabot.errors import ShuffleError


class Channel(Protocol):
    """The receiving end of one upstream task's rows."""

    def poll(self) -> Frame | None:
        """Return the next frame, or None."""
        ...

    def set_listener(self, listener: Callable[[], None], on_barrier: Callable[[], None] | None = None) -> None:
        """Have `listener` called, from any thread, when a frame may be there; `on_barrier` if it has no rows."""
        ...


@dataclass(frozen=True, slots=True)
class Data:
    """Rows for input `port` of the task."""

    port: int
    batch: pa.RecordBatch


class InputGate:
    """Merges channels; holds back a channel that has reached the barrier until all have.

    Parameters
    ----------
    ports : sequence of sequences of Channel
        Per input port of the task, one channel an upstream task.
    """

    def __init__(self, ports: Sequence[Sequence[Channel]]) -> None:
        self._channels = [(port, ch) for port, channels in enumerate(ports) for ch in channels]
        self._wakeup = threading.Condition()
        # under its lock: channels that may have a frame, and those that were found to have none
        self._ready = dict.fromkeys(range(len(self._channels)))
        self._empty: set[int] = set()
        self._woken = False
        # the thread's own: channels to poll now and in the next round, at the barrier, at their end
        self._turn: deque[int] = deque()
        self._again: list[int] = []
        self._aligned: dict[int, Barrier] = {}
        self._ended: set[int] = set()
        self._held = [False] * len(self._channels)
        for i, (_, channel) in enumerate(self._channels):
            channel.set_listener(lambda i=i: self._mark(i, wake=True), lambda i=i: self._mark(i, wake=False))  # type: ignore[misc]

    def _mark(self, index: int, *, wake: bool) -> None:
        with self._wakeup:
            self._empty.discard(index)
            self._ready[index] = None
            # a barrier is of no use before the last one: so many channels cost one wake-up
            if wake or not self._empty:
                self._wakeup.notify()

    def wake(self) -> None:
        """Make a waiting `next` return None; from any thread."""
        with self._wakeup:
            self._woken = True
            self._wakeup.notify()

    def next(self) -> Data | Barrier | None:
        """Wait for rows, or for a barrier that every channel has reached.

        Returns None when woken, and when every channel has ended. Channels with rows take turns.

        Raises
        ------
        ShuffleError
            A channel failed, or channels disagree about the epoch.
        """
        while self._turn or self._begin_round():
            if self._woken:
                self._woken = False
                return None
            index = self._turn.popleft()
            if self._held[index]:
                continue
            port, channel = self._channels[index]
            frame = channel.poll()
            if frame is None:
                with self._wakeup:
                    if index not in self._ready:
                        self._empty.add(index)
                continue
            match frame.kind:
                case FrameKind.DATA:
                    assert frame.batch is not None
                    self._again.append(index)
                    return Data(port, frame.batch)
                case FrameKind.BARRIER:
                    assert frame.barrier is not None
                    self._aligned[index] = frame.barrier
                case FrameKind.END:
                    self._ended.add(index)
            self._held[index] = True
            if len(self._aligned) + len(self._ended) == len(self._channels) and self._aligned:
                return self._complete()
        return None

    def _begin_round(self) -> bool:
        """Wait for channels that may have a frame; False when woken, and when all have ended."""
        with self._wakeup:
            while not self._ready and not self._again:
                if self._woken or len(self._ended) == len(self._channels):
                    self._woken = False
                    return False
                self._wakeup.wait()
            # taken off before polling: a frame that comes in between marks its channel again
            self._turn.extend(dict.fromkeys([*self._again, *self._ready]))
            self._ready.clear()
        self._again.clear()
        return True

    def _complete(self) -> Barrier:
        """Return the merged barrier, once every live channel has reached it, and let the channels go on."""
        barriers = list(self._aligned.values())
        epochs = {b.epoch for b in barriers}
        if len(epochs) > 1:
            msg = f"barriers of different epochs met: {sorted(epochs)}"
            raise ShuffleError(msg)
        for index in self._aligned:
            self._held[index] = False
        self._again += self._aligned
        self._aligned.clear()
        watermarks = [b.watermark_us for b in barriers]
        least = None if any(w is None for w in watermarks) else min(w for w in watermarks if w is not None)
        first = barriers[0]
        final = all(b.final for b in barriers)
        return Barrier(first.epoch, least, final=final, checkpoint=first.checkpoint, now_us=first.now_us)
