"""A sink connector as the last operator of a task."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import pyarrow as pa

from cython_shuffle.frames import Barrier
from sabotd.connectors.base import SinkWriter


@runtime_checkable
class Conditioned(Protocol):
    """An operator that may have to wait for what is outside of its job."""

    @property
    def condition(self) -> str:
        """What it waits for, in one line; '' when all is well; from any thread."""
        ...


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

    @property
    def condition(self) -> str:
        """What the connector waits for, in one line; '' when all is well."""
        return self._writer.status().state

    def interrupt(self) -> None:
        """End a waiting write or flush; from any thread."""
        self._writer.wake()

    def close(self) -> None:
        """Close the writer."""
        self._writer.close()
