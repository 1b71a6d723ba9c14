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
        self.on_barrier: Callable[[], None] = lambda: None
        self.sequence = 0

    def poll(self) -> Frame | None:
        return self.frames.popleft() if self.frames else None

    def set_listener(self, listener: Callable[[], None], on_barrier: Callable[[], None] | None = None) -> None:
        self.listener = listener
        self.on_barrier = on_barrier or listener

    def rows(self, *values: int) -> None:
        self._put(Frame(FrameKind.DATA, self.sequence, pa.record_batch({"v": list(values)})))

    def barrier(self, epoch: int, watermark: int | None = 0, *, final: bool = False) -> None:
        self._put(Frame(FrameKind.BARRIER, self.sequence, barrier=Barrier(epoch, watermark, final)))

    def end(self) -> None:
        self._put(Frame(FrameKind.END, self.sequence))

    def _put(self, frame: Frame) -> None:
        self.sequence += 1
        self.frames.append(frame)
        if frame.kind is FrameKind.DATA:
            self.listener()
        else:
            self.on_barrier()


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


def test_a_barrier_wakes_the_task_when_it_is_the_last() -> None:
    channels = [Queue() for _ in range(50)]
    gate = InputGate([channels])
    taken: list[object] = []

    def run() -> None:
        while (event := gate.next()) is not None:
            taken.append(event)

    thread = threading.Thread(target=run)
    thread.start()
    for epoch in range(1, 20):
        for n, channel in enumerate(channels):
            if (n + epoch) % 7 == 0:
                channel.rows(n)
            channel.barrier(epoch, n)
    for channel in channels:
        channel.end()
    thread.join(30)
    assert not thread.is_alive()
    assert [b for b in taken if isinstance(b, Barrier)] == [Barrier(epoch, 0) for epoch in range(1, 20)]
    assert sum(isinstance(d, Data) for d in taken) == sum(
        (n + epoch) % 7 == 0 for n in range(50) for epoch in range(1, 20)
    )


def test_channels_with_rows_take_turns() -> None:
    a, b = Queue(), Queue()
    gate = InputGate([[a], [b]])
    for n in range(3):
        a.rows(n)
        b.rows(10 + n)
    assert take(gate, 6) == [(0, [0]), (1, [10]), (0, [1]), (1, [11]), (0, [2]), (1, [12])]
