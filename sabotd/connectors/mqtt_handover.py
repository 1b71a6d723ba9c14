"""The bounded queue between an MQTT connection's thread and the reader's."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import aiomqtt

LIMIT_BYTES: Final = 16 << 20
MARK_PREFIX: Final = "sabot/fence/"
"""Topics of marks: messages of our own that are noted, not handed over."""
_OVERHEAD_BYTES: Final = 300
"""About what a message costs beside its payload."""
_FENCE_FACTOR: Final = 8
"""How much more may wait while a fence looks for the end of what the broker holds for us."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message as it came; `time_ns` since 1970."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    time_ns: int


class Handover:
    """Holds messages until they are taken; full, it holds up the connection's thread and so the socket.

    Parameters
    ----------
    grace_s : float
        How long one message is held up at most: the connection has to say something to the broker now and then.
    on_held : callable
        Called in the connection's thread when a message was held up for that long.
    """

    def __init__(self, grace_s: float, on_held: Callable[[], None], limit_bytes: int = LIMIT_BYTES) -> None:
        self._grace_s = grace_s
        self._on_held = on_held
        self._limit_bytes = limit_bytes
        self._factor = 1
        self._messages: deque[Received] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._woken = False
        self._closed = False
        self._marks: dict[bytes, int | None] = {}
        self.received = 0
        """Messages that came so far."""

    def put(self, message: Received) -> None:
        """Take a message, waiting while there is no room."""
        if message.topic.startswith(MARK_PREFIX):
            self.note(message.payload)  # a filter such as '#' sees those of other readers too
            return
        with self._changed:
            self.received += 1
            self._messages.append(message)
            self._bytes += len(message.payload) + _OVERHEAD_BYTES
            self._changed.notify_all()
            fits = self._changed.wait_for(self._has_room, self._grace_s)
        if not fits:
            self._on_held()

    def take(self, most: int, deadline_s: float) -> list[Received]:
        """Return up to `most` messages; wait for the first until `deadline_s` (``time.monotonic``) or `wake`."""
        with self._changed:
            self._changed.wait_for(lambda: self._messages or self._woken, max(0.0, deadline_s - time.monotonic()))
            self._woken = False
            taken = [self._messages.popleft() for _ in range(min(most, len(self._messages)))]
            self._bytes -= sum(len(m.payload) for m in taken) + _OVERHEAD_BYTES * len(taken)
            self._changed.notify_all()
            return taken

    @contextmanager
    def expecting(self, mark: bytes) -> Iterator[Callable[[float], int | None]]:
        """Give a function that waits for `mark` and returns what had come before it, or None when it did not come.

        More than usual may wait in the meantime: nobody takes messages.
        """

        def wait(timeout_s: float) -> int | None:
            with self._changed:
                self._changed.wait_for(lambda: self._marks[mark] is not None, timeout_s)
                return self._marks[mark]

        with self._changed:
            self._marks[mark] = None
            self._factor = _FENCE_FACTOR
            self._changed.notify_all()
        try:
            yield wait
        finally:
            with self._changed:
                self._factor = 1
                del self._marks[mark]

    def note(self, mark: bytes) -> None:
        """Take note of what has come up to `mark`, if it is expected."""
        with self._changed:
            if mark in self._marks:
                self._marks[mark] = self.received
                self._changed.notify_all()

    def wake(self) -> None:
        """End a waiting `take`."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def close(self) -> None:
        """Hold nothing up any more, keep nothing."""
        with self._changed:
            self._closed = True
            self._messages.clear()
            self._bytes = 0
            self._changed.notify_all()

    def _has_room(self) -> bool:
        return self._closed or self._bytes <= self._limit_bytes * self._factor


def queue_into(handover: Handover) -> type[asyncio.Queue[aiomqtt.Message]]:
    """Return a queue type for `aiomqtt.Client` that hands every message over at once.

    The client's own way out of its queue makes a task a message; this makes none, and blocks the connection's
    thread (which serves nothing else) where there is no room.
    """

    class HandoverQueue(asyncio.Queue[aiomqtt.Message]):
        def put_nowait(self, item: aiomqtt.Message) -> None:
            handover.put(Received(item.topic.value, item.payload, item.qos, item.retain, time.time_ns()))

    return HandoverQueue
