"""The ``blackhole`` connector: a sink that counts rows and forgets them."""

from __future__ import annotations

import threading
import time
from typing import Final

import pyarrow as pa

from planner.task_spec import SinkOp, SourceOp
from sabot.errors import SqlError
from sabotd.connectors.base import Connector, OptionSpec, SourceReader, SourceStatus


class BlackholeWriter:
    """Counts what it is given: `rows` in all, `epochs` ended. Takes `rows_per_second` at most, if given."""

    def __init__(self, rows_per_second: float | None = None) -> None:
        self.rows = 0
        self.epochs = 0
        self._row_s = 1 / rows_per_second if rows_per_second else 0.0
        self._free_at = 0.0
        self._woken = threading.Event()

    def write(self, batch: pa.RecordBatch) -> None:
        """Count the rows of `batch`; blocks as long as a sink of that speed would take for them."""
        self.rows += batch.num_rows
        if self._row_s:
            now = time.monotonic()
            self._free_at = max(now, self._free_at) + batch.num_rows * self._row_s
            self._woken.wait(self._free_at - now)

    def status(self) -> SourceStatus:
        """Nothing to tell: it never waits for anybody."""
        return SourceStatus()

    def wake(self) -> None:
        """End a waiting `write`; from any thread."""
        self._woken.set()

    def flush(self, epoch: int) -> None:
        """Count the epoch."""
        self.epochs += 1

    def close(self) -> None:
        """Do nothing."""


class SinkOnlyConnector(Connector):
    """What connectors without a source share."""

    def validate(self, op: SourceOp | SinkOp) -> None:
        if isinstance(op, SourceOp):
            msg = f"connector {self.name!r} is for sinks only"
            raise SqlError(msg, hint="sources are datagen, file, kafka, mqtt and nexmark", sqlstate="0A000")

    def open_source(self, op: SourceOp, index: int, parallelism: int) -> SourceReader:
        msg = f"connector {self.name!r} is for sinks only"
        raise SqlError(msg, sqlstate="0A000")


_OPTIONS: Final[dict[str, OptionSpec]] = {
    "rows_per_second": OptionSpec(
        "float", doc="take no more than this of each task: a slow sink for trying things out"
    ),
}


class BlackholeConnector(SinkOnlyConnector):
    """Throws rows away."""

    name = "blackhole"
    options = _OPTIONS

    def open_sink(self, op: SinkOp, index: int, parallelism: int) -> BlackholeWriter:
        limit = op.options.get("rows_per_second")
        return BlackholeWriter(float(limit) if limit else None)


CONNECTOR: Final = BlackholeConnector()
