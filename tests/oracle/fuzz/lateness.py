"""What a view has to make of rows that come late: which watermark judges a row, and which sessions it finds open.

Written from the documented rules alone (`docs/decisions/watermark-one-barrier-late.md`), row by row, so that it is
easily seen to be right; the code under test does none of it this way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Judged:
    """A row as a view meets it. Microseconds; `watermark_us` None: it cannot be late."""

    place: int
    split: int
    at_us: int | None
    watermark_us: int | None


@dataclass
class Lateness:
    """The watermarks of one relation as one view meets them. `splits` 0: a table, whose first rows have no order."""

    delay_us: int
    splits: int
    rows: list[Judged] = field(default_factory=list)
    barrier_us: int | None = None

    def __post_init__(self) -> None:
        self._running: dict[int, int | None] = dict.fromkeys(range(max(self.splits, 1)))
        self._reported: dict[int, int | None] = {}
        self._carried: dict[int, int | None] = {}
        self.pass_barrier()

    def add(self, split: int, at_us: int | None, *, ordered: bool = True) -> None:
        """Take the next row."""
        running = self._running[split]
        if at_us is not None:
            running = at_us - self.delay_us if running is None else max(running, at_us - self.delay_us)
        self._running[split] = running
        judged = self._judge(split, running) if ordered else None
        self.rows.append(Judged(len(self.rows), split, at_us, judged))

    def _judge(self, split: int, running: int | None) -> int | None:
        others = [w for s, w in self._carried.items() if s != split]
        least = None if running is None or None in others else min([running, *(w for w in others if w is not None)])
        known = [w for w in (least, self.barrier_us) if w is not None]
        return max(known, default=None)

    def has_news(self) -> bool:
        """Whether the next barrier would carry another watermark."""
        return self._next() != self.barrier_us

    def _next(self) -> int | None:
        """The least of what the splits reported at the barrier before; it never goes back."""
        reported = [w for w in self._reported.values() if w is not None]
        if not reported or len(reported) < len(self._reported):
            return self.barrier_us
        return max(min(reported), self.barrier_us if self.barrier_us is not None else min(reported))

    def pass_barrier(self) -> None:
        """Pass one: it carries what was known at the one before."""
        self.barrier_us = self._next()
        self._carried = dict(self._reported)
        self._reported = dict(self._running)


def pass_barriers(relations: Sequence[Lateness]) -> None:
    """Pass a barrier of a job, and another as long as the one before has news."""
    again = True
    while again:
        for relation in relations:
            relation.pass_barrier()
        again = any(relation.has_news() for relation in relations)


@dataclass(frozen=True)
class InSession:
    """A row, and the session that it belongs to: None if it came too late for every one."""

    place: int
    session: tuple[int, int] | None
    watermark_us: int | None


def sessions(rows: Iterable[Judged], keys: Sequence[object], gap_us: int, barrier_us: int | None) -> list[InSession]:
    """Merge rows into sessions one by one, and return those of closed sessions and the late ones.

    A session closes for a row when the row's watermark has passed its end. `keys` by place.
    """
    open_: dict[object, list[list[Judged]]] = {}
    out: list[InSession] = []

    def close(mine: list[list[Judged]], watermark_us: int | None) -> None:
        for one in list(mine):
            times = [r.at_us for r in one if r.at_us is not None]
            if watermark_us is not None and max(times) + gap_us <= watermark_us:
                mine.remove(one)
                out.extend(InSession(r.place, (min(times), max(times) + gap_us), r.watermark_us) for r in one)

    for row in rows:
        if row.at_us is None:
            continue
        mine = open_.setdefault(keys[row.place], [])
        close(mine, row.watermark_us)
        near = [one for one in mine if any(abs(row.at_us - (r.at_us or 0)) < gap_us for r in one)]
        if row.watermark_us is not None and row.at_us + gap_us <= row.watermark_us and not near:
            out.append(InSession(row.place, None, row.watermark_us))
            continue
        for one in near:
            mine.remove(one)
        mine.append([*(r for one in near for r in one), row])
    for mine in open_.values():
        close(mine, barrier_us)
    return out
