"""The ``blackhole`` connector: a sink that counts rows and forgets them."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from planner.task_spec import SinkOp, SourceOp
from sabot.errors import SqlError
from sabotd.connectors.base import Connector, OptionSpec, SourceReader


class BlackholeWriter:
    """Counts what it is given: `rows` in all, `epochs` ended."""

    def __init__(self) -> None:
        self.rows = 0
        self.epochs = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Count the rows of `batch`."""
        self.rows += batch.num_rows

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


_OPTIONS: Final[dict[str, OptionSpec]] = {}


class BlackholeConnector(SinkOnlyConnector):
    """Throws rows away."""

    name = "blackhole"
    options = _OPTIONS

    def open_sink(self, op: SinkOp, index: int, parallelism: int) -> BlackholeWriter:
        return BlackholeWriter()


CONNECTOR: Final = BlackholeConnector()
