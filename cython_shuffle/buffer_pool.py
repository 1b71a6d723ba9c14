"""The one bound on what an agent's channels hold: bytes, shared by jobs, never a cause of deadlock.

Knows lanes and jobs, not what the bytes are.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

from sabot.errors import SabotError, ShuffleError

_TRIED = 16


@dataclass(frozen=True, slots=True)
class PoolMetrics:
    """Figures of a pool; `waits` counts acquisitions that had to wait, `wait_ns` the time they took."""

    limit_bytes: int
    used_bytes: int
    peak_bytes: int
    waits: int
    wait_ns: int


@dataclass(slots=True)
class _Owner:
    """What all lanes of one job hold."""

    used_bytes: int = 0
    lanes: int = 0


@dataclass(slots=True, eq=False)
class Lane:
    """What one channel holds of a pool. Made by :meth:`BufferPool.lane`; read-only outside."""

    owner: str
    used_bytes: int = 0
    batches: int = 0
    error: SabotError | None = None
    waiting: deque[_Waiter] = field(default_factory=deque)


@dataclass(slots=True, eq=False)
class _Waiter:
    lane: Lane
    nbytes: int
    done: threading.Event = field(default_factory=threading.Event)
    granted: bool = False
    on_grant: Callable[[], None] | None = None


class BufferPool:
    """Bytes that the channels of an agent may hold together.

    A batch is admitted when its lane is empty (so every channel can always hold one batch, whatever the others do:
    with tasks in a graph without cycles nothing can deadlock), or when it fits under `limit_bytes`, under `lane_bytes`
    of its own lane, and under twice what is still free for its job (Choudhury and Hahne, Dynamic queue length
    thresholds, 1998): a stuck job leaves the others their share, a job alone gets two thirds of the pool.

    Parameters
    ----------
    limit_bytes : int
        The bound. Exceeded only by batches admitted to empty lanes.
    lane_bytes : int, optional
        The bound of one lane; by default a quarter of the pool.
    """

    def __init__(self, limit_bytes: int, lane_bytes: int | None = None) -> None:
        if limit_bytes <= 0:
            raise ShuffleError(f"a buffer pool of {limit_bytes!r} bytes", hint="give it some megabytes")
        self.limit_bytes = limit_bytes
        self.lane_bytes = lane_bytes if lane_bytes is not None else max(1, limit_bytes // 4)
        self._lock = threading.Lock()
        self._owners: dict[str, _Owner] = {}
        self._waiting: dict[int, _Waiter] = {}
        self._used_bytes = 0
        self._peak_bytes = 0
        self._waits = 0
        self._wait_ns = 0

    def lane(self, owner: str) -> Lane:
        """Open a lane for a channel of job `owner`; end it with :meth:`close_lane`."""
        with self._lock:
            self._owners.setdefault(owner, _Owner()).lanes += 1
        return Lane(owner)

    def acquire(self, lane: Lane, nbytes: int) -> int:
        """Take `nbytes` for one batch on `lane`; block while there is no room. Return the nanoseconds waited.

        Raises
        ------
        SabotError
            The error the lane was closed with, before or while waiting; nothing is held then.
        """
        with self._lock:
            if lane.error is not None:
                raise _again(lane.error)
            if self._admits(lane, nbytes):
                self._take(lane, nbytes)
                return 0
            waiter = _Waiter(lane, nbytes)
            self._await(waiter)
        started_ns = time.monotonic_ns()
        waiter.done.wait()
        waited_ns = time.monotonic_ns() - started_ns
        with self._lock:
            self._wait_ns += waited_ns
            if waiter.granted:
                return waited_ns
        assert lane.error is not None
        raise _again(lane.error)

    def acquire_later(self, lane: Lane, nbytes: int, on_grant: Callable[[], None]) -> bool:
        """Take `nbytes` for one batch if there is room, and return whether there was.

        If not, `on_grant` is called once they are booked, on the thread that made room and without any lock held;
        never if the lane is closed before. Raises as `acquire`.
        """
        with self._lock:
            if lane.error is not None:
                raise _again(lane.error)
            if self._admits(lane, nbytes):
                self._take(lane, nbytes)
                return True
            self._await(_Waiter(lane, nbytes, on_grant=on_grant))
            return False

    def release(self, lane: Lane, nbytes: int) -> None:
        """Give back one batch of `nbytes`. Does nothing on a closed lane."""
        with self._lock:
            if lane.error is not None:
                return
            lane.used_bytes -= nbytes
            lane.batches -= 1
            self._give(lane, nbytes)
            granted = self._grant(lane)
        _tell(granted)

    def close_lane(self, lane: Lane, error: SabotError) -> None:
        """Give back all that `lane` holds and fail those who wait on it with `error`. Idempotent."""
        with self._lock:
            if lane.error is not None:
                return
            lane.error = error
            for waiter in lane.waiting:
                del self._waiting[id(waiter)]
                waiter.done.set()
            lane.waiting.clear()
            self._give(lane, lane.used_bytes)
            lane.used_bytes = lane.batches = 0
            owner = self._owners[lane.owner]
            owner.lanes -= 1
            if owner.lanes == 0:
                del self._owners[lane.owner]
            granted = self._grant(lane)
        _tell(granted)

    def metrics(self) -> PoolMetrics:
        """Return the figures as of now."""
        with self._lock:
            return PoolMetrics(self.limit_bytes, self._used_bytes, self._peak_bytes, self._waits, self._wait_ns)

    # -- under the lock

    def _admits(self, lane: Lane, nbytes: int) -> bool:
        if lane.batches == 0:
            return True
        free_bytes = self.limit_bytes - self._used_bytes
        return (
            nbytes <= free_bytes
            and lane.used_bytes + nbytes <= self.lane_bytes
            and self._owners[lane.owner].used_bytes + nbytes <= 2 * free_bytes
        )

    def _take(self, lane: Lane, nbytes: int) -> None:
        lane.used_bytes += nbytes
        lane.batches += 1
        self._owners[lane.owner].used_bytes += nbytes
        self._used_bytes += nbytes
        self._peak_bytes = max(self._peak_bytes, self._used_bytes)

    def _give(self, lane: Lane, nbytes: int) -> None:
        self._owners[lane.owner].used_bytes -= nbytes
        self._used_bytes -= nbytes

    def _await(self, waiter: _Waiter) -> None:
        self._waiting[id(waiter)] = waiter
        waiter.lane.waiting.append(waiter)
        self._waits += 1

    def _grant(self, lane: Lane) -> list[_Waiter]:
        """Book for those who wait and fit; no herd is woken to find that one of them does.

        Those on `lane` come first: only they may enter a full pool. Of the others the first few are tried; one that is
        passed over has a batch in its own lane, and is tried when that goes.
        """
        granted = [w for w in list(lane.waiting) if self._book(w)]
        misfits = 0
        for waiter in list(islice(self._waiting.values(), _TRIED + len(granted))):
            if misfits == _TRIED or self._used_bytes >= self.limit_bytes:
                break
            if self._book(waiter):
                granted.append(waiter)
            else:
                misfits += 1
        return granted

    def _book(self, waiter: _Waiter) -> bool:
        # in a lane's own order: a small batch must not pass a large one
        if waiter.lane.waiting[0] is not waiter or not self._admits(waiter.lane, waiter.nbytes):
            return False
        self._take(waiter.lane, waiter.nbytes)
        waiter.lane.waiting.popleft()
        del self._waiting[id(waiter)]
        waiter.granted = True
        return True


def _tell(granted: list[_Waiter]) -> None:
    for waiter in granted:
        if waiter.on_grant is None:
            waiter.done.set()
        else:
            waiter.on_grant()


def _again(error: SabotError) -> SabotError:
    """A fresh copy: an exception object raised twice drags the first traceback along."""
    return type(error)(error.message, hint=error.hint, sqlstate=error.sqlstate, retryable=error.retryable)
