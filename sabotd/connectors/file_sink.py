"""The writer of the ``file`` connector: a file an epoch and task in a folder, renamed into place when it is whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from planner.task_spec import Columns, ColumnSpec, SinkOp
from sabot.errors import ConnectorError
from sabot.ids import WEIGHT
from sabot.schema import arrow_type
from sabotd.connectors.base import SourceStatus
from sabotd.connectors.file_listing import file_format
from sabotd.formats.encode import make_encoder

CHANGE_COLUMN = "op"
"""The column that tells a row that came (``+``) from one that went (``-``), first in a stream with retractions."""


def sink_columns(op: SinkOp) -> Columns:
    """Return the columns of the files: those of the sink, `CHANGE_COLUMN` before them in a weighted stream."""
    columns = tuple(c for c in op.columns if c.name != WEIGHT)
    return (ColumnSpec(CHANGE_COLUMN, "VARCHAR"), *columns) if op.weighted else columns


def with_changes(batch: pa.RecordBatch, columns: Columns) -> pa.RecordBatch:
    """Return a weighted batch with `CHANGE_COLUMN` for its weight, each row as often as its weight says."""
    weights = batch.column(WEIGHT).to_numpy()
    repeats = abs(weights)
    rows = pa.array([i for i, n in enumerate(repeats) for _ in range(n)]) if (repeats != 1).any() else None
    signs = pc.if_else(pc.greater(batch.column(WEIGHT), 0), "+", "-")
    arrays = [signs, *(batch.column(c.name) for c in columns[1:])]
    out = pa.RecordBatch.from_arrays(arrays, names=[c.name for c in columns])
    return out if rows is None else out.take(rows)


class FileWriter:
    """Writes an epoch's rows to ``<path>/<epoch>-<task>.<format>``; nobody sees it before the epoch has ended.

    An epoch without rows gives no file. A file of the same epoch and task that a former attempt left is replaced.
    """

    def __init__(self, op: SinkOp, index: int) -> None:
        self._folder = Path(op.options["path"])
        self._kind = file_format(op.format, op.options["path"])
        self._columns = sink_columns(op)
        self._weighted = op.weighted
        self._index = index
        self._schema = pa.schema([pa.field(c.name, arrow_type(c.type)) for c in self._columns])
        self._encoder = None if self._kind == "parquet" else make_encoder(self._kind, self._columns, op.options)
        self._temporary = self._folder / f".{os.getpid()}-{index}.tmp"
        self._file: BinaryIO | None = None
        self._parquet: pq.ParquetWriter | None = None
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise _refused(self._folder, problem) from problem

    def write(self, batch: pa.RecordBatch) -> None:
        """Append `batch` to the epoch's file.

        Raises
        ------
        ConnectorError
            The disk is full, or the folder is gone.
        """
        if not batch.num_rows:
            return
        batch = with_changes(batch, self._columns) if self._weighted else batch.select(self._schema.names)
        try:
            if self._file is None:
                self._open()
            assert self._file is not None
            if self._parquet is not None:
                self._parquet.write_batch(batch.cast(self._schema))
            else:
                self._file.write(self._lines(batch))
        except OSError as problem:
            raise _refused(self._folder, problem) from problem

    def _open(self) -> None:
        self._file = self._temporary.open("wb")
        if self._encoder is None:
            self._parquet = pq.ParquetWriter(self._file, self._schema, compression="zstd")
        elif self._encoder.header is not None:
            self._file.write(self._encoder.header + b"\n")

    def _lines(self, batch: pa.RecordBatch) -> pa.Buffer:
        assert self._encoder is not None
        return join_lines(self._encoder.encode(batch))

    def flush(self, epoch: int) -> None:
        """Bring the epoch's file to the disk and give it its name."""
        if self._file is None:
            return
        try:
            self._end_file()
            final = self._folder / f"{epoch:012d}-{self._index}.{'jsonl' if self._kind == 'json' else self._kind}"
            self._temporary.rename(final)
            _sync_folder(self._folder)
        except OSError as problem:
            raise _refused(self._folder, problem) from problem

    def _end_file(self) -> None:
        assert self._file is not None
        if self._parquet is not None:
            self._parquet.close()
            self._parquet = None
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._file = None

    def status(self) -> SourceStatus:
        """Nothing to tell: it never waits for anybody."""
        return SourceStatus()

    def wake(self) -> None:
        """Do nothing: it never waits."""

    def close(self) -> None:
        """Drop the file of an epoch that has not ended."""
        if self._parquet is not None:
            self._parquet.close()
            self._parquet = None
        if self._file is not None:
            self._file.close()
            self._file = None
            self._temporary.unlink(missing_ok=True)


class AppendWriter:
    """Appends each epoch's lines to one file when the epoch ends."""

    def __init__(self, op: SinkOp) -> None:
        self._path = Path(op.options["path"])
        self._columns = sink_columns(op)
        self._weighted = op.weighted
        self._names = [c.name for c in self._columns]
        self._encoder = make_encoder(file_format(op.format, op.options["path"]), self._columns, op.options)
        self._lines: list[pa.Buffer] = []
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("ab")
        except OSError as problem:
            raise _refused(self._path, problem) from problem
        if self._file.tell() == 0 and self._encoder.header is not None:
            self._lines.append(pa.py_buffer(self._encoder.header + b"\n"))

    def write(self, batch: pa.RecordBatch) -> None:
        """Keep the rows of `batch` as lines."""
        if batch.num_rows:
            batch = with_changes(batch, self._columns) if self._weighted else batch.select(self._names)
            self._lines.append(join_lines(self._encoder.encode(batch)))

    def flush(self, epoch: int) -> None:
        """Append the lines and bring them to the disk."""
        if not self._lines:
            return
        try:
            for lines in self._lines:
                self._file.write(lines)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as problem:
            raise _refused(self._path, problem) from problem
        self._lines.clear()

    def status(self) -> SourceStatus:
        """Nothing to tell: it never waits for anybody."""
        return SourceStatus()

    def wake(self) -> None:
        """Do nothing: it never waits."""

    def close(self) -> None:
        """Drop what was not flushed."""
        self._lines.clear()
        self._file.close()


def join_lines(records: pa.BinaryArray) -> pa.Buffer:
    """Return the records, each with a newline after it, in one buffer."""
    lists = pa.ListArray.from_arrays(pa.array([0, len(records)], pa.int32()), records)
    joined = pc.binary_join(lists, b"\n")
    return pa.py_buffer(joined[0].as_py() + b"\n")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refused(path: Path, problem: OSError) -> ConnectorError:
    return ConnectorError(f"path {str(path)!r} cannot be written: {problem.strerror}")
