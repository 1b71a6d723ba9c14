"""What an operator is to the task that runs it; knows neither channels nor agents."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import pyarrow as pa

from cython_shuffle.frames import Barrier


class Operator(Protocol):
    """One operator instance of one task. Called by that task's thread only.

    Output batches are owned by the caller and never mutated. Outputs of an epoch depend only on the state before it
    and the epoch's input as a multiset, not on how it was cut into batches.
    """

    def process(self, port: int, batch: pa.RecordBatch) -> Iterable[pa.RecordBatch]:
        """Take a batch of input `port`; return what can be said already (stateful operators: mostly nothing)."""
        ...

    def barrier(self, barrier: Barrier) -> Iterable[pa.RecordBatch]:
        """End an epoch, all inputs aligned; return the epoch's (remaining) output.

        ``barrier.watermark_us`` is the least over the inputs.
        """
        ...

    def close(self) -> None:
        """Free everything; may be called after a failure and in any state, more than once."""
        ...
