"""The input gate: alignment on barriers, blocking, ends."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

import pyarrow as pa
import pytest

from cython_shuffle.frames import Barrier, Frame, FrameKind
from sabot.errors import ShuffleError
from sabotd.agent.input_gate import Data, InputGate


class Queue:
    """A channel that a test fills."""

    def __init__(self) -> None:
        self.frames: deque[Frame] = deque()
        self.listener: Callable[[], None] = lambda: None
        self.sequence = 0

    def poll(self) -> Frame | None:
        return self.frames.popleft() if self.frames else None

    def set_listener(self, listener: Callable[[], None]) -> None:
        self.listener = listener

    def rows(self, *values: int) -> None:
        self._put(Frame(FrameKind.DATA, self.sequence, pa.record_batch({"v": list(values)})))

    def barrier(self, epoch: int, watermark: int | None = 0, *, final: bool = False) -> None:
        self._put(Frame(FrameKind.BARRIER, self.sequence, barrier=Barrier(epoch, watermark, final)))

    def end(self) -> None:
        self._put(Frame(FrameKind.END, self.sequence))

    def _put(self, frame: Frame) -> None:
        self.sequence += 1
        self.frames.append(frame)
        self.listener()


def take(gate: InputGate, count: int) -> list[object]:
    out: list[object] = []
    for _ in range(count):
        event = gate.next()
        out.append((event.port, event.batch.column(0).to_pylist()) if isinstance(event, Data) else event)
    return out


def test_a_channel_at_the_barrier_is_held_back_until_all_are() -> None:
    a, b = Queue(), Queue()
    gate = InputGate([[a], [b]])
    a.barrier(1, 5)
    a.rows(2)
    b.rows(1)
    b.barrier(1, 3)
    events = take(gate, 3)
    assert events[:2] == [(1, [1]), Barrier(1, 3)]
    assert events[2] == (0, [2])


def test_watermark_is_unknown_while_one_channel_has_none() -> None:
    a, b = Queue(), Queue()
    gate = InputGate([[a, b]])
    a.barrier(1, None)
    b.barrier(1, 9)
    assert take(gate, 1) == [Barrier(1, None)]


def test_final_needs_all() -> None:
    a, b = Queue(), Queue()
    gate = InputGate([[a, b]])
    a.barrier(1, 1, final=True)
    b.barrier(1, 1, final=True)
    assert take(gate, 1) == [Barrier(1, 1, final=True)]
    a.end()
    b.end()
    assert gate.next() is None


def test_epochs_that_differ_are_an_error() -> None:
    a, b = Queue(), Queue()
    gate = InputGate([[a, b]])
    a.barrier(1)
    b.barrier(2)
    with pytest.raises(ShuffleError, match=r"\[1, 2\]"):
        gate.next()


def test_wake_ends_a_wait_and_frames_do_too() -> None:
    a = Queue()
    gate = InputGate([[a]])
    got: list[object] = []
    first = threading.Event()

    def wait() -> None:
        got.append(gate.next())
        first.set()
        got.extend(take(gate, 1))

    thread = threading.Thread(target=wait)
    thread.start()
    gate.wake()
    assert first.wait(10)
    a.rows(4)
    thread.join(10)
    assert got == [None, (0, [4])]
