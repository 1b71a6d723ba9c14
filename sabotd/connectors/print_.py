"""The ``print`` connector: a sink that writes each change as a line where the daemon logs."""

from __future__ import annotations

import sys
from typing import Final, TextIO

import pyarrow as pa

from planner.task_spec import ColumnSpec, SinkOp
from sabot.ids import WEIGHT
from sabotd.connectors.base import OptionSpec, SourceStatus
from sabotd.connectors.blackhole import SinkOnlyConnector
from sabotd.formats.encode import make_encoder


class PrintWriter:
    """Writes ``name> +{...}`` for a row that came and ``name> -{...}`` for one that went, an epoch at a time."""

    def __init__(self, op: SinkOp, out: TextIO) -> None:
        self._prefix = op.options.get("prefix", op.relation)
        self._columns = tuple(ColumnSpec(c.name, c.type) for c in op.columns if c.name != WEIGHT)
        self._encoder = make_encoder("json", self._columns, {})
        self._out = out
        self._lines: list[str] = []

    def write(self, batch: pa.RecordBatch) -> None:
        """Keep the rows of `batch` as lines."""
        weights = [1] * batch.num_rows
        if WEIGHT in batch.schema.names:
            weights = batch.column(WEIGHT).to_pylist()
        records = self._encoder.encode(batch.select([c.name for c in self._columns])).to_pylist()
        for weight, record in zip(weights, records, strict=True):
            line = f"{self._prefix}> {'+' if weight > 0 else '-'}{record.decode()}\n"
            self._lines += [line] * abs(weight)

    def flush(self, epoch: int) -> None:
        """Write the lines."""
        if self._lines:
            self._out.write("".join(self._lines))
            self._out.flush()
            self._lines.clear()

    def status(self) -> SourceStatus:
        """Nothing to tell: it never waits for anybody."""
        return SourceStatus()

    def wake(self) -> None:
        """Do nothing: it never waits."""

    def close(self) -> None:
        """Drop what was not flushed."""
        self._lines.clear()


_OPTIONS: Final[dict[str, OptionSpec]] = {
    "prefix": OptionSpec("str", doc="what stands before each row; the sink's name by default", of=("sink",)),
    "stream": OptionSpec("enum", "stderr", choices=("stdout", "stderr"), doc="where to", of=("sink",)),
}


class PrintConnector(SinkOnlyConnector):
    """Shows rows where the daemon runs."""

    name = "print"
    options = _OPTIONS

    def open_sink(self, op: SinkOp, index: int, parallelism: int) -> PrintWriter:
        return PrintWriter(op, sys.stdout if op.options.get("stream", "stderr").lower() == "stdout" else sys.stderr)


CONNECTOR: Final = PrintConnector()
