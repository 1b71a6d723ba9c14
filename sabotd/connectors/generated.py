"""Readers of rows that are computed: numbered, striped over splits, in time with a rate or as fast as they are read."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from sabotd.connectors.base import Position, SourceBatch, SourceStatus

_TICK_S = 0.01
"""The least time between two batches at a rate: small steps, but not a wake-up a row."""
_MOST_ROWS = 131_072


@dataclass(slots=True)
class _Split:
    """A split: its name, its place among the stripes, and the next of its own numbers."""

    name: str
    place: int
    next: int = 0


@dataclass(frozen=True, slots=True)
class Stripes:
    """Numbers 0, 1, 2, ... cut into blocks that go to `splits` splits in turn."""

    block: int
    splits: int

    def count(self, place: int, numbers: int) -> int:
        """Return how many of the first `numbers` belong to the split at `place`."""
        blocks, rest = divmod(numbers, self.block)
        own = max(0, (blocks - place + self.splits - 1) // self.splits)
        return own * self.block + (rest if blocks % self.splits == place else 0)

    def numbers(self, place: int, first: int, last: int, within: range | None = None) -> np.ndarray:
        """Return the numbers (int64) of the split's own `first` to `last` - 1; of them those `within` their block."""
        if self.block == 1:
            return np.arange(first * self.splits + place, last * self.splits + place, self.splits, dtype=np.int64)
        within = within or range(self.block)
        begin, end = first // self.block, -(-last // self.block)
        blocks = np.arange(begin, end, dtype=np.int64)
        starts = (blocks * self.splits + place) * self.block
        # no division a number: that would cost more than to make rows of them
        grid = (starts[:, None] + np.arange(within.start, within.stop, dtype=np.int64)).ravel()
        before = min(max(first - begin * self.block - within.start, 0), len(within))
        after = min(max(end * self.block - last - (self.block - within.stop), 0), len(within))
        return grid[before : len(grid) - after]

    def number(self, place: int, own: int) -> int:
        """Return the number of the split's own number `own`."""
        return (own // self.block * self.splits + place) * self.block + own % self.block


class GeneratedReader(ABC):
    """Reads the splits ``index``, ``index + parallelism``, ... of a numbered sequence.

    A split's name is ``place/splits``, its position counts its own numbers.

    Parameters
    ----------
    total : int or None
        How many numbers there are over all splits; None: no end.
    rate : float or None
        Numbers a second over all splits, from when the reader is opened; None: as fast as it is read.
    clock : callable
        Seconds, monotonic.
    """

    def __init__(
        self,
        stripes: Stripes,
        index: int,
        parallelism: int,
        *,
        total: int | None,
        rate: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stripes = stripes
        self._splits = [_Split(f"{k}/{stripes.splits}", k) for k in range(index, stripes.splits, parallelism)]
        self._total = total
        self._rate = rate
        self._clock = clock
        self._within: range | None = None
        self._opened = clock()
        self._next_tick = self._opened
        self._woken = threading.Event()
        self._status = SourceStatus(splits=tuple(s.name for s in self._splits))

    @abstractmethod
    def make(self, numbers: np.ndarray) -> pa.RecordBatch:
        """Return the rows of `numbers`, ascending; a number may have no row."""

    def numbers_for(self, rows: int) -> int:
        """Return how many numbers give at most about `rows` rows."""
        return rows

    def read(self, max_rows: int, timeout_s: float) -> SourceBatch | None:
        deadline = self._clock() + timeout_s
        while not self._woken.is_set():
            split = min(self._splits, key=lambda s: s.next, default=None)
            if split is None or self.finished():
                wait = deadline - self._clock()
            else:
                split, first, last = self._due(self.numbers_for(min(max_rows, _MOST_ROWS)))
                if last > first:
                    split.next = last
                    batch = self.make(self._stripes.numbers(split.place, first, last, self._within))
                    self._status.rows += batch.num_rows
                    self._status.bytes += batch.nbytes
                    if batch.num_rows:
                        return SourceBatch(split.name, batch)
                    continue
                wait = min(deadline, self._next_due()) - self._clock()
            if self._clock() >= deadline:
                return None
            self._woken.wait(max(wait, 0))
        self._woken.clear()
        return None

    def _due(self, most: int) -> tuple[_Split, int, int]:
        """Return the split that is furthest behind and the range of its numbers that may be given now."""
        if self._rate is None:
            split = min((s for s in self._splits if not self._ended(s)), key=lambda s: s.next)
            last = split.next + most
            end = self._end(split)
            return split, split.next, last if end is None else min(last, end)
        now = self._clock()
        best, first, last = self._splits[0], 0, 0
        if now < self._next_tick:
            return best, 0, 0
        numbers = int((now - self._opened) * self._rate) + 1
        for split in self._splits:
            until = self._stripes.count(split.place, numbers if self._total is None else min(numbers, self._total))
            if until - split.next > last - first:
                best, first, last = split, split.next, until
        if last - first > most:
            return best, first, first + most
        if len(self._splits) == 1 or last == first:
            self._next_tick = now + _TICK_S
        return best, first, last

    def _next_due(self) -> float:
        """Return when the next number is due."""
        assert self._rate is not None
        coming = min(self._stripes.number(s.place, s.next) for s in self._splits if not self._ended(s))
        return max(self._opened + coming / self._rate, self._next_tick)

    def _end(self, split: _Split) -> int | None:
        return None if self._total is None else self._stripes.count(split.place, self._total)

    def _ended(self, split: _Split) -> bool:
        end = self._end(split)
        return end is not None and split.next >= end

    def finished(self) -> bool:
        return self._total is not None and all(self._ended(s) for s in self._splits)

    def position(self) -> Position:
        return {s.name: s.next for s in self._splits}

    def seek(self, position: Position) -> None:
        """Go on from a position that `position` gave; before the first `read`."""
        for split in self._splits:
            split.next = position.get(split.name, split.next)

    def fence(self) -> Position:
        """Return the end if there is one, else what is due now (all that was read, without a rate)."""
        if self._total is not None:
            return {s.name: self._stripes.count(s.place, self._total) for s in self._splits}
        if self._rate is None:
            return self.position()
        numbers = int((self._clock() - self._opened) * self._rate)
        return {s.name: self._stripes.count(s.place, numbers) for s in self._splits}

    def status(self) -> SourceStatus:
        return self._status

    def wake(self) -> None:
        self._woken.set()

    def close(self) -> None:
        self._woken.set()
