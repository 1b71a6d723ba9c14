"""Which keys of an edge are the heaviest: a sketch of bounded size, fed with a sample."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from cython_shuffle import _kernels
from cython_shuffle.partitioner import key_columns

CAPACITY = 64
HEAVIEST = 10
SAMPLE_ROWS = 512
_EVERY_LARGE = 16
_ONE_IN = 4
_TEXT_CHARS = 100


class _Seen(NamedTuple):
    """A key's rows; of them `inherited` from the key that it replaced, `guessed` for one row of a sample, at most."""

    rows: int
    inherited: int
    guessed: int
    text: str


class HeavyKeys:
    """Counts the keys of batches by Space-Saving (Metwally, Agrawal and El Abbadi, 2005), over their value hashes.

    Of a larger batch one row in n is counted, as n; of many larger batches one in four, as four. So a key that has a
    share of the rows well above 1 / `CAPACITY` is among the heaviest with about its number of rows. A key of which most
    of the count is a guess (taken over from the one it replaced, or a single row that stands for n) is not told: where
    all keys weigh alike, none is heavy. For one thread; `heaviest` from any.
    """

    def __init__(self, schema: pa.Schema, keys: Sequence[str]) -> None:
        self._columns = key_columns(schema, keys)
        self._seen: dict[int, _Seen] = {}
        self._large = 0
        self._random = np.random.default_rng(0)

    def observe(self, batch: pa.RecordBatch) -> None:
        """Count the keys of `batch`."""
        stride = -(-batch.num_rows // SAMPLE_ROWS)
        weight = stride
        if stride > 1:
            self._large += 1
            if self._large > _EVERY_LARGE:
                if self._large % _ONE_IN:
                    return
                weight *= _ONE_IN
        keys = batch.select(self._columns)
        if stride > 1:
            # any row of each stride, lest a pattern in the rows is met
            starts = np.arange(0, batch.num_rows, stride)
            chosen = starts + self._random.integers(0, stride, len(starts))
            keys = keys.take(pa.array(np.minimum(chosen, batch.num_rows - 1)))
        hashes = np.frombuffer(_kernels.hash_rows(keys, range(len(self._columns))), np.uint64)
        distinct, first, counts = np.unique(hashes, return_index=True, return_counts=True)
        if stride > 1 and len(self._seen) == CAPACITY:
            # no heavy key of this batch is met only once; to let all those in would cost more than the rest
            several = counts > 1
            distinct, first, counts = distinct[several], first[several], counts[several]
        order = np.argsort(counts)[::-1][:CAPACITY]
        for key, row, count in zip(
            distinct[order].tolist(), first[order].tolist(), counts[order].tolist(), strict=True
        ):
            self._add(key, count * weight, weight - 1, keys, row)

    def heaviest(self, n: int) -> dict[str, int]:
        """Return the `n` heaviest keys, as text, with about their rows, heaviest first."""
        return top([(s.rows, s.text) for s in list(self._seen.values()) if s.rows > 2 * (s.inherited + s.guessed)], n)

    def _add(self, key: int, rows: int, guessed: int, batch: pa.RecordBatch, row: int) -> None:
        known = self._seen.get(key)
        if known is None:
            inherited = 0
            if len(self._seen) >= CAPACITY:
                lightest = min(self._seen, key=lambda k: self._seen[k].rows)
                inherited = self._seen.pop(lightest).rows
            known = _Seen(inherited, inherited, 0, _text([column[row].as_py() for column in batch.columns]))
        self._seen[key] = known._replace(rows=known.rows + rows, guessed=max(known.guessed, guessed))


def top(counted: Iterable[tuple[int, str]], n: int) -> dict[str, int]:
    """Add up (rows, key) by key and return the `n` with most rows, most first."""
    sums: dict[str, int] = {}
    for rows, key in counted:
        sums[key] = sums.get(key, 0) + rows
    return dict(sorted(sums.items(), key=lambda item: (-item[1], item[0]))[:n])


def _text(values: list[object]) -> str:
    parts = ["NULL" if value is None else str(value) for value in values]
    text = parts[0] if len(parts) == 1 else f"({', '.join(parts)})"
    return text if len(text) <= _TEXT_CHARS else text[: _TEXT_CHARS - 3] + "..."
