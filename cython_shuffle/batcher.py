"""Gathers small batches until a round of them is worth partitioning and sending; cuts what is too large."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

MAX_ROUND_ROWS = 1 << 20
_MAX_FAN_OUT = 8


def round_bytes_of(target_bytes: int, n_partitions: int) -> int:
    """Bytes of a round that gives `n_partitions` destinations about `target_bytes` each; eight targets at most."""
    return target_bytes * min(n_partitions, _MAX_FAN_OUT)


class Batcher:
    """Rows of one writer that wait for more.

    Batches are put together *before* they are partitioned: each row is then moved once by the gather, and no small part
    keeps a large parent alive while it waits for its neighbours.

    Parameters
    ----------
    round_bytes : int
        What is worth a round. A round has between half and twice of it, but before a barrier.
    """

    def __init__(self, round_bytes: int) -> None:
        self._round_bytes = max(1, round_bytes)
        self._pending: list[pa.RecordBatch] = []
        self._pending_bytes = 0
        self._pending_rows = 0

    @property
    def pending_bytes(self) -> int:
        """Bytes that wait for more."""
        return self._pending_bytes

    def add(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Take `batch`; give the rounds that are full, in order. Rows of a large batch are not copied."""
        if batch.num_rows == 0:
            return
        nbytes = batch.nbytes
        if 2 * nbytes >= self._round_bytes or batch.num_rows > MAX_ROUND_ROWS:
            yield from self.flush()
            yield from self._cut(batch, nbytes)
            return
        self._pending.append(batch)
        self._pending_bytes += nbytes
        self._pending_rows += batch.num_rows
        if self._pending_bytes >= self._round_bytes or self._pending_rows >= MAX_ROUND_ROWS:
            yield from self.flush()

    def flush(self) -> Iterator[pa.RecordBatch]:
        """Give what waits, if anything does."""
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        self._pending_bytes = self._pending_rows = 0
        yield pending[0] if len(pending) == 1 else pa.concat_batches(pending)

    def _cut(self, batch: pa.RecordBatch, nbytes: int) -> Iterator[pa.RecordBatch]:
        pieces = max(nbytes // self._round_bytes, -(-batch.num_rows // MAX_ROUND_ROWS), 1)
        rows = -(-batch.num_rows // pieces)
        for start in range(0, batch.num_rows, rows):
            yield batch.slice(start, rows)
