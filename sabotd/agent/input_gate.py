"""Takes frames from a task's input channels and aligns them on barriers; knows no operator."""

from __future__ import annotations

import threading
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

    def set_listener(self, listener: Callable[[], None]) -> None:
        """Have `listener` called, from any thread, when a frame may be there."""
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
        self._ready = set(range(len(self._channels)))  # may have a frame
        self._aligned: dict[int, Barrier] = {}  # at the barrier, held back
        self._ended: set[int] = set()
        self._woken = False
        for i, (_, channel) in enumerate(self._channels):
            channel.set_listener(lambda i=i: self._mark_ready(i))  # type: ignore[misc]

    def _mark_ready(self, index: int) -> None:
        with self._wakeup:
            self._ready.add(index)
            self._wakeup.notify()

    def wake(self) -> None:
        """Make a waiting `next` return None; from any thread."""
        with self._wakeup:
            self._woken = True
            self._wakeup.notify()

    def next(self) -> Data | Barrier | None:
        """Wait for rows, or for a barrier that every channel has reached.

        Returns None when woken, and when every channel has ended.

        Raises
        ------
        ShuffleError
            A channel failed, or channels disagree about the epoch.
        """
        while True:
            index = self._take_ready()
            if index is None:
                return None
            port, channel = self._channels[index]
            frame = channel.poll()
            if frame is None:
                continue
            with self._wakeup:
                self._ready.add(index)
            match frame.kind:
                case FrameKind.DATA:
                    assert frame.batch is not None
                    return Data(port, frame.batch)
                case FrameKind.BARRIER:
                    assert frame.barrier is not None
                    self._aligned[index] = frame.barrier
                    if (barrier := self._complete()) is not None:
                        return barrier
                case FrameKind.END:
                    self._ended.add(index)
                    if (barrier := self._complete()) is not None:
                        return barrier

    def _take_ready(self) -> int | None:
        with self._wakeup:
            while True:
                if self._woken:
                    self._woken = False
                    return None
                if len(self._ended) == len(self._channels):
                    return None
                for index in self._ready:
                    if index not in self._aligned and index not in self._ended:
                        # taken off before polling: a frame that comes in between marks it again
                        self._ready.discard(index)
                        return index
                self._wakeup.wait()

    def _complete(self) -> Barrier | None:
        """Return the merged barrier once every live channel has reached it."""
        if not self._aligned or len(self._aligned) + len(self._ended) < len(self._channels):
            return None
        barriers = list(self._aligned.values())
        epochs = {b.epoch for b in barriers}
        if len(epochs) > 1:
            msg = f"barriers of different epochs met: {sorted(epochs)}"
            raise ShuffleError(msg)
        with self._wakeup:
            self._ready.update(self._aligned)
            self._aligned.clear()
        watermarks = [b.watermark_us for b in barriers]
        least = None if any(w is None for w in watermarks) else min(w for w in watermarks if w is not None)
        first = barriers[0]
        return Barrier(first.epoch, least, final=all(b.final for b in barriers), checkpoint=first.checkpoint)
