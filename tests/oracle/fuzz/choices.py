"""A stream of small choices from which a case is made; recorded, so that it can be made again and made smaller."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class Choices:
    """Whole numbers, from a list first and then from `rng`; zeros without one.

    Zero always stands for the simplest: no clause, the first column. So a shorter list, and one of smaller numbers,
    make a simpler thing, and what makes it need not know how to simplify.
    """

    def __init__(self, rng: random.Random | None = None, given: Sequence[int] = ()) -> None:
        self._rng, self._given = rng, given
        self.taken: list[int] = []
        self.spans: list[tuple[int, int]] = []

    def below(self, bound: int) -> int:
        """Choose from 0 to `bound` - 1."""
        at = len(self.taken)
        if at < len(self._given):
            value = min(self._given[at], bound - 1)
        else:
            value = self._rng.randrange(bound) if self._rng is not None else 0
        self.taken.append(value)
        return value

    def pick(self, options: Sequence[T]) -> T:
        """Choose one of `options`; the first is the simplest."""
        return options[self.below(len(options))]

    def chance(self, percent: int) -> bool:
        """Say yes with this probability."""
        return self.below(100) >= 100 - percent

    @contextmanager
    def span(self) -> Iterator[None]:
        """Mark what is chosen inside as one part, to be left out as a whole."""
        start = len(self.taken)
        yield
        self.spans.append((start, len(self.taken)))


def simpler(taken: Sequence[int], spans: Sequence[tuple[int, int]]) -> Iterator[list[int]]:
    """Give shorter and smaller lists, the boldest first."""
    numbers = list(taken)
    for start, end in sorted(set(spans), key=lambda s: s[0] - s[1]):
        yield numbers[:start] + numbers[end:]
        if any(numbers[start:end]):
            yield numbers[:start] + [0] * (end - start) + numbers[end:]
    for at in range(len(numbers)):
        yield numbers[:at] + numbers[at + 1 :]
    for at, number in enumerate(numbers):
        for less in dict.fromkeys((0, number // 2, number - 1)):
            if 0 <= less < number:
                yield [*numbers[:at], less, *numbers[at + 1 :]]
