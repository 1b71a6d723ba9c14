"""The reader of the ``file`` connector: goes through the files, waits for new ones where it watches."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pyarrow as pa

from planner.task_spec import Columns, SourceOp
from sabot.errors import ConnectorError, SqlError
from sabot.schema import arrow_type
from sabotd.connectors.base import Position, SourceBatch, SourceStatus
from sabotd.connectors.file_listing import Found, file_format, is_watched, list_files
from sabotd.connectors.file_units import (
    BLOCK_BYTES,
    CHUNK_BYTES,
    GzipUnit,
    LinesUnit,
    ParquetUnit,
    Share,
    Unit,
)
from sabotd.connectors.options import read_bool, read_duration_s
from sabotd.formats.decode import Decoded, Decoder, make_decoder
from sabotd.formats.rows import csv_decoder, has_header, header_names

SETTLED_S: Final = 1.0
"""A file that nobody has written to for so long is taken as it is: its last line needs no newline."""
_SCAN_S: Final = 0.5
_SCAN_SHARE: Final = 50
_LONG_SCAN_S: Final = 0.05
_LEAST_WAIT_S: Final = 0.001


class FileReader:
    """Reads this task's chunks of all files, file by file in the order of names, in one split ``index/parallelism``.

    A position has an entry for each file this task has a part in: a byte (a row of a Parquet file).

    Parameters
    ----------
    now : callable
        Seconds since 1970, as the files' times are.
    """

    def __init__(
        self,
        op: SourceOp,
        index: int,
        parallelism: int,
        *,
        chunk_bytes: int = CHUNK_BYTES,
        block_bytes: int = BLOCK_BYTES,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._op = op
        self._path = op.options["path"]
        self._watch = is_watched(op.options)
        self._share = Share(index, parallelism)
        self._chunk_bytes, self._block_bytes = chunk_bytes, block_bytes
        self._now = now
        self._scan_s = read_duration_s(op.options, "scan.interval", _SCAN_S)
        self._next_scan = 0.0
        included = {column for _, column in op.include}
        self._columns: Columns = tuple(c for c in op.columns if c.name not in included)
        self._declared: Columns = tuple(c for c in op.declared if c.name not in included)
        self._schema = pa.schema([pa.field(c.name, arrow_type(c.type)) for c in op.columns])
        self._decoders: dict[bytes | None, Decoder] = {}
        self._units: dict[str, Unit] = {}
        self._queue: list[Unit] = []
        self._status = SourceStatus(splits=(f"{index}/{parallelism}",))
        self._seek: Position = {}
        self._woken = threading.Event()
        self._scan()

    def read(self, max_rows: int, timeout_s: float) -> SourceBatch | None:
        deadline = time.monotonic() + timeout_s
        scanned = False
        while not self._woken.is_set():
            while self._queue:
                got = self._read_unit(self._queue[0], max_rows)
                if got is not None:
                    return got
                self._queue.pop(0)
            now = time.monotonic()
            if self._watch and now >= self._next_scan and not (scanned and now >= deadline):
                self._scan()
                scanned = True
                continue
            if now >= deadline:
                return None
            until = min(deadline, self._next_scan) if self._watch else deadline
            self._woken.wait(max(until - now, _LEAST_WAIT_S))
        self._woken.clear()
        return None

    def _read_unit(self, unit: Unit, max_rows: int) -> SourceBatch | None:
        try:
            got = unit.read(max_rows, self._settled(unit.file))
        except FileNotFoundError as problem:
            if not self._watch:
                raise ConnectorError(f"file {unit.file.path!r} has vanished") from problem
            got = None
        except OSError as problem:
            raise ConnectorError(f"file {unit.file.path!r} cannot be read: {problem.strerror}") from problem
        if got is None:
            unit.close()
            return None
        self._status.rows += got.batch.num_rows
        self._status.bad_records += len(got.errors)
        self._status.bytes += got.consumed
        return SourceBatch(self._status.splits[0], self._with_included(unit.file, got), got.errors)

    def _with_included(self, file: Found, got: Decoded) -> pa.RecordBatch:
        if not self._op.include:
            return got.batch
        arrays = {c.name: got.batch.column(i) for i, c in enumerate(self._columns)}
        for _, column in self._op.include:
            arrays[column] = pa.repeat(file.name, got.batch.num_rows)
        return pa.RecordBatch.from_arrays([arrays[c.name] for c in self._op.columns], schema=self._schema)

    def _settled(self, file: Found) -> bool:
        return not self._watch or self._now() - file.mtime >= SETTLED_S

    def _scan(self) -> None:
        """List the files; queue those that have something new."""
        begun = time.monotonic()
        try:
            found = list_files(self._path, self._op.options.get("match.pattern"))
        except OSError as problem:
            if not self._watch:
                raise ConnectorError(f"path {self._path!r} cannot be read: {problem.strerror}") from problem
            self._status.state = f"path {self._path!r} cannot be read: {problem.strerror}"
            found = []
        else:
            self._status.state = ""
        self._queue = [unit for file in found if (unit := self._look(file)) is not None]
        # a folder of very many files is not listed all the time
        took = time.monotonic() - begun
        self._next_scan = begun + max(self._scan_s, took * _SCAN_SHARE if took > _LONG_SCAN_S else 0)

    def _look(self, file: Found) -> Unit | None:
        """Return the unit of a file if there may be something to read in it."""
        unit = self._units.get(file.name)
        if unit is not None:
            if file.inode == unit.file.inode and file.size >= unit.file.size:
                unit.grown(file)
                return unit if unit.position < file.size else None
            # another file stands there now, or it was cut: it begins anew
            unit.close()
        made = self._open(file)
        if made is None:
            return None
        if unit is None:
            made.position = self._seek.get(file.name, 0)
        self._units[file.name] = made
        return made

    def _open(self, file: Found) -> Unit | None:
        """Make the unit of a file; None if this task has no part in it."""
        kind = file_format(self._op.format, file.path)
        if kind == "parquet":
            return ParquetUnit(file, pa.schema([self._schema.field(c.name) for c in self._columns]), self._share)
        header = kind == "csv" and has_header(self._op.options)
        if not file.path.endswith(".gz") and is_cut(kind, self._op):
            return LinesUnit(
                file,
                self._decoder_of,
                has_header=header,
                share=self._share,
                chunk_bytes=self._chunk_bytes,
                block_bytes=self._block_bytes,
            )
        if not self._share.owns(file.name, 0):
            return None
        if file.path.endswith(".gz"):
            return GzipUnit(file, self._decoder_of, has_header=header, block_bytes=self._block_bytes)
        return LinesUnit(file, self._decoder_of, has_header=header, share=None, block_bytes=self._block_bytes)

    def _decoder_of(self, line: bytes | None) -> Decoder:
        if line not in self._decoders:
            self._decoders[line] = decoder_of(self._op, self._columns, self._declared, line, self._path)
        return self._decoders[line]

    def finished(self) -> bool:
        return not self._watch and not self._queue

    def position(self) -> Position:
        return {name: unit.position for name, unit in self._units.items()}

    def seek(self, position: Position) -> None:
        """Go on from a position that `position` gave; before the first `read`."""
        self._seek = position
        for name, unit in self._units.items():
            unit.position = position.get(name, 0)

    def fence(self) -> Position:
        if self._watch:
            self._scan()
        try:
            return {name: unit.end(self._settled(unit.file)) for name, unit in self._units.items()}
        except OSError as problem:
            raise ConnectorError(f"path {self._path!r} cannot be read: {problem.strerror}") from problem

    def status(self) -> SourceStatus:
        return self._status

    def wake(self) -> None:
        self._woken.set()

    def close(self) -> None:
        for unit in self._units.values():
            unit.close()


def is_cut(kind: str, op: SourceOp) -> bool:
    """Whether a file's lines can be told without reading it from its beginning."""
    return kind != "csv" or not read_bool(op.options, "csv.multiline", default=True)


def decoder_of(op: SourceOp, columns: Columns, declared: Columns, line: bytes | None, path: str) -> Decoder:
    """Return the decoder of a file whose header is `line` (None: no header).

    Raises
    ------
    ConnectorError
        The header lacks a column.
    """
    kind = file_format(op.format, path)
    if line is None:
        return make_decoder(kind, columns, declared, op.options)
    try:
        return csv_decoder(columns, declared, op.options, header_names(line, op.options))
    except SqlError as error:
        raise ConnectorError(error.message, hint=error.hint, sqlstate=error.sqlstate) from error


def check_first_file(op: SourceOp, columns: Columns, declared: Columns) -> None:
    """Look at one file of the path, if there is one, whether it has the columns.

    Raises
    ------
    ConnectorError
        The path cannot be read, or the file lacks a column.
    """
    path = op.options["path"]
    try:
        found = list_files(path, op.options.get("match.pattern"))
        if not found:
            return
        first = found[0]
        kind = file_format(op.format, first.path)
        if kind == "parquet":
            schema = pa.schema([pa.field(c.name, arrow_type(c.type)) for c in declared])
            unit = ParquetUnit(first, schema, Share(0, 1))
            if first.size:
                unit.end(settled=True)
                unit.close()
        elif kind == "csv" and has_header(op.options) and not first.path.endswith(".gz") and first.size:
            with Path(first.path).open("rb") as file:
                decoder_of(op, columns, declared, file.readline(), first.path)
    except OSError as problem:
        raise ConnectorError(f"path {path!r} cannot be read: {problem.strerror}") from problem
