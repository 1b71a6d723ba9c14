"""A sink connector as the last operator of a task."""

from __future__ import annotations

import pyarrow as pa

from cython_shuffle.frames import Barrier
from sabotd.connectors.base import SinkWriter


class SinkOperator:
    """Writes every batch to a `SinkWriter` and flushes it at each barrier."""

    def __init__(self, writer: SinkWriter) -> None:
        self._writer = writer

    def process(self, port: int, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, ...]:
        """Write `batch`."""
        self._writer.write(batch)
        return ()

    def barrier(self, barrier: Barrier) -> tuple[pa.RecordBatch, ...]:
        """Deliver the epoch."""
        self._writer.flush(barrier.epoch)
        return ()

    def close(self) -> None:
        """Close the writer."""
        self._writer.close()
