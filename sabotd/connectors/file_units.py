"""One file as one task reads it: its own chunks in the order of the file, with an exact position.

A file is cut into chunks that go to the tasks in turn; a chunk owns the records that begin in it.
"""

from __future__ import annotations

import gzip
import os
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from sabot.errors import ConnectorError
from sabotd.connectors.file_listing import Found
from sabotd.formats.decode import Decoded, Decoder
from sabotd.formats.rows import make_batch

CHUNK_BYTES = 16 << 20
BLOCK_BYTES = 8 << 20
_BEHIND = 1 << 16
_LARGEST_RECORD = 1 << 30
DONE = 1 << 62
"""Position and end of a compressed file that has been read: its length is not known before."""


@dataclass(frozen=True, slots=True)
class Share:
    """Which chunks are whose: chunk i of a file belongs to task ``(hash of the name + i) % parallelism``."""

    index: int
    parallelism: int

    def owns(self, name: str, chunk: int) -> bool:
        """Whether chunk number `chunk` of the file is this task's."""
        return (zlib.crc32(name.encode()) + chunk) % self.parallelism == self.index

    def next_own(self, name: str, chunk: int) -> int:
        """Return the first own chunk from `chunk` on."""
        return chunk + (self.index - zlib.crc32(name.encode()) - chunk) % self.parallelism


class Unit(ABC):
    """A file being read. `position` counts as the kind of unit says; it only grows."""

    def __init__(self, file: Found) -> None:
        self.file = file
        self.position = 0

    @abstractmethod
    def end(self, settled: bool) -> int:
        """Return where reading ends for now; `settled`: nobody seems to be writing it."""

    @abstractmethod
    def read(self, max_rows: int, settled: bool) -> Decoded | None:
        """Return the next rows (maybe none of them good), or None if there is nothing to read now."""

    @abstractmethod
    def close(self) -> None:
        """Close the file; `read` opens it again."""

    def grown(self, file: Found) -> None:
        """Take note of how the file looks now."""
        self.file = file


class LinesUnit(Unit):
    """A file of records that end with a newline. `position` is a byte.

    Parameters
    ----------
    open_decoder : callable
        Takes the first line (None without a header); returns the decoder.
    has_header : bool
        The first line is no record.
    share : Share or None
        Whose chunks to read; None: the whole file is this task's.
    """

    def __init__(
        self,
        file: Found,
        open_decoder: Callable[[bytes | None], Decoder],
        *,
        has_header: bool,
        share: Share | None,
        chunk_bytes: int = CHUNK_BYTES,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        super().__init__(file)
        self._open_decoder = open_decoder
        self._has_header = has_header
        self._share = share
        self._chunk = chunk_bytes
        self._decoder: Decoder | None = None
        self._fd = -1
        self._block = block_bytes
        self._room = bytearray()
        self._start = 0
        self._length = 0

    def end(self, settled: bool) -> int:
        if settled or self.file.size == 0:
            return self.file.size
        return self._last_newline()

    def read(self, max_rows: int, settled: bool) -> Decoded | None:
        size = self.file.size
        while self.position < size:
            if self._fd < 0:
                self._fd = os.open(self.file.path, os.O_RDONLY | os.O_CLOEXEC)
            if self._decoder is None and not self._read_header(settled):
                return None
            limit = self._enter_chunk(settled)
            if limit is None:
                return None
            if self.position >= size:
                break
            got = self._decode(max_rows, limit, settled)
            if got is None:
                return None
            if got.batch.num_rows or got.errors:
                return got
        return None

    def _read_header(self, settled: bool) -> bool:
        """Find the decoder, past the first line where that is a header; False if the line has no end yet."""
        if not self._has_header:
            self._decoder = self._open_decoder(None)
            return True
        found = self._find_newline(0)
        if found < 0:
            if not settled:
                return False
            found = self.file.size - 1
        line = os.pread(self._fd, found + 1, 0)
        self._decoder = self._open_decoder(line)
        self.position = max(self.position, found + 1)
        return True

    def _enter_chunk(self, settled: bool) -> int | None:
        """Go to the next own record; returns where the chunk ends, None if that cannot be told yet."""
        if self._share is None:
            return self.file.size
        while True:
            chunk, inside = divmod(self.position, self._chunk)
            own = self._share.next_own(self.file.name, chunk)
            if own == chunk and (inside or chunk == 0):
                return (chunk + 1) * self._chunk
            begin = own * self._chunk
            if begin >= self.file.size:
                self.position = self.file.size
                return begin
            # the record that begins before the chunk is its neighbour's
            found = self._find_newline(begin - 1)
            if found < 0:
                if not settled:
                    return None
                self.position = self.file.size
                return begin
            self.position = found + 1
            if self.position == begin:
                return begin + self._chunk

    def _find_newline(self, offset: int) -> int:
        """Return the byte of the first newline at or after `offset`, -1 if there is none."""
        while offset < self.file.size:
            piece = os.pread(self._fd, min(1 << 16, self.file.size - offset), offset)
            if not piece:
                return -1
            found = piece.find(b"\n")
            if found >= 0:
                return offset + found
            offset += len(piece)
        return -1

    def _last_newline(self) -> int:
        """Return the byte after the last newline."""
        with open(self.file.path, "rb") as file:  # noqa: PTH123 - a str path
            stop = self.file.size
            while stop > 0:
                start = max(0, stop - (1 << 16))
                found = os.pread(file.fileno(), stop - start, start).rfind(b"\n")
                if found >= 0:
                    return start + found + 1
                stop = start
        return 0

    def _decode(self, max_rows: int, limit: int, settled: bool) -> Decoded | None:
        assert self._decoder is not None
        more = False
        while True:
            at_end = self._fill(limit, more)
            inside = self.position - self._start
            view = memoryview(self._room)[inside : self._length]
            got = self._decoder.decode_buffer(
                view,
                self.position,
                prefix=f"{self.file.name}:",
                max_records=max_rows,
                limit=limit - self.position,
                final=at_end and settled,
            )
            view.release()
            if got.consumed:
                self.position += got.consumed
                return got
            if at_end:
                return None
            if more and self._length - inside == len(self._room):
                if len(self._room) >= _LARGEST_RECORD:
                    msg = f"the record at {self.file.name}:{self.position} is over {_LARGEST_RECORD >> 20} MiB"
                    raise ConnectorError(msg, hint="is this a file of newline-separated records?")
                self._room += bytearray(len(self._room))
            more = True

    def _fill(self, limit: int, more: bool) -> bool:
        """Have bytes from `position` on in the buffer; returns whether what is there to read ends with them.

        `more`: those that are there are not enough for a record.
        """
        inside = self.position - self._start
        if not 0 <= inside <= self._length:
            inside = self._length = 0
            self._start = self.position
        have = self._length - inside
        # what is left of a block is decoded before more is read
        if (more or have < len(self._room) // 4 or not self._room) and not self._ends_at(self._start + self._length):
            if not self._room:
                self._room = bytearray(self._first_room())
            self._room[:have] = self._room[inside : self._length]
            self._start, self._length = self.position, have
            # the chunk's last record ends a little behind it
            stop = len(self._room) if more else min(len(self._room), limit - self._start + _BEHIND)
            with memoryview(self._room) as view:
                while self._length < stop:
                    with view[self._length : stop] as rest:
                        got = self._read_into(rest, self._start + self._length)
                    if not got:
                        break
                    self._length += got
        return self._ends_at(self._start + self._length)

    def _first_room(self) -> int:
        return min(self._block, self.file.size - self.position + 1)

    def _ends_at(self, offset: int) -> bool:
        """Whether there is nothing to read from `offset` on; also what came after the file was looked at is left."""
        if offset > self.file.size:
            self._length = self.file.size - self._start
        return offset >= self.file.size

    def _read_into(self, room: memoryview, offset: int) -> int:
        return os.preadv(self._fd, [room], offset)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._room = bytearray()
        self._length = 0


class GzipUnit(LinesUnit):
    """A compressed file of records, read whole. `position` is a byte of what it holds, `DONE` at its end."""

    def __init__(
        self,
        file: Found,
        open_decoder: Callable[[bytes | None], Decoder],
        *,
        has_header: bool,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        super().__init__(file, open_decoder, has_header=has_header, share=None, block_bytes=block_bytes)
        self._stream: gzip.GzipFile | None = None
        self._ended = False

    def end(self, settled: bool) -> int:
        return DONE if settled else self.position

    def read(self, max_rows: int, settled: bool) -> Decoded | None:
        if not settled or self.position == DONE:
            return None
        try:
            if self._stream is None:
                self._stream = gzip.GzipFile(self.file.path, "rb")
                line = self._stream.readline() if self._has_header else None
                self._decoder = self._open_decoder(line)
                self.position = max(self.position, len(line or b""))
                self._stream.seek(self.position)
                self._start, self._length = self.position, 0
            while True:
                got = self._decode(max_rows, DONE, settled=True)
                if got is None:
                    self.position = DONE
                    self.close()
                    return None
                if got.batch.num_rows or got.errors:
                    return got
        except (gzip.BadGzipFile, EOFError, zlib.error) as problem:
            msg = f"file {self.file.path!r} is not whole gzip: {problem}"
            raise ConnectorError(msg) from problem

    def _read_into(self, room: memoryview, offset: int) -> int:
        assert self._stream is not None
        got = self._stream.readinto(room)
        self._ended = got == 0
        return got

    def _first_room(self) -> int:
        return self._block

    def _ends_at(self, offset: int) -> bool:
        return self._ended

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        self._ended = False
        self._room = bytearray()
        self._length = 0


class ParquetUnit(Unit):
    """A Parquet file; its row groups are the chunks. `position` is a row of the file."""

    def __init__(self, file: Found, schema: pa.Schema, share: Share) -> None:
        super().__init__(file)
        self._schema = schema
        self._share = share
        self._file: pq.ParquetFile | None = None
        self._bounds = [0]
        self._group = -1
        self._batches: list[pa.RecordBatch] = []

    def end(self, settled: bool) -> int:
        if not settled:
            return self.position
        self._open()
        return self._bounds[-1]

    def _open(self) -> pq.ParquetFile:
        if self._file is None:
            try:
                self._file = pq.ParquetFile(self.file.path)
            except (pa.ArrowInvalid, OSError) as problem:
                raise ConnectorError(f"file {self.file.path!r} is not Parquet: {problem}") from problem
            missing = [n for n in self._schema.names if n not in self._file.schema_arrow.names]
            if missing:
                msg = f"file {self.file.path!r} has no column {missing[0]!r}"
                raise ConnectorError(msg, hint=f"its columns are {', '.join(self._file.schema_arrow.names)}")
            metadata = self._file.metadata
            self._bounds = [0]
            for i in range(metadata.num_row_groups):
                self._bounds.append(self._bounds[-1] + metadata.row_group(i).num_rows)
        return self._file

    def read(self, max_rows: int, settled: bool) -> Decoded | None:
        if not settled:
            return None
        file = self._open()
        while self.position < self._bounds[-1]:
            group = next(i for i, stop in enumerate(self._bounds[1:]) if self.position < stop)
            if not self._share.owns(self.file.name, group):
                self.position = self._bounds[group + 1]
                continue
            if group != self._group or not self._batches:
                self._read_group(file, group)
            batch = self._batches.pop()
            if batch.num_rows > max_rows:
                self._batches.append(batch.slice(max_rows))
                batch = batch.slice(0, max_rows)
            self.position += batch.num_rows
            if batch.num_rows:
                return Decoded(batch, (), batch.num_rows)
        self.close()
        return None

    def _read_group(self, file: pq.ParquetFile, group: int) -> None:
        rows = self._bounds[group + 1] - self._bounds[group]
        if self._schema.names:
            table = file.read_row_group(group, columns=_leaves(self._schema), use_threads=False)
            columns = [_conform(table.column(f.name).combine_chunks(), f.type, self.file.path) for f in self._schema]
            batch = make_batch(self._schema, rows, columns)
        else:
            batch = make_batch(self._schema, rows, ())
        self._group = group
        self._batches = [batch.slice(self.position - self._bounds[group])]

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        self._batches = []


def _leaves(schema: pa.Schema) -> list[str]:
    """Return the dotted names of the columns to read, fields of STRUCTs by themselves."""
    names: list[str] = []

    def gather(path: str, type: pa.DataType) -> None:
        if pa.types.is_struct(type) and type.num_fields:
            for field in type:
                gather(f"{path}.{field.name}", field.type)
        else:
            names.append(path)

    for field in schema:
        gather(field.name, field.type)
    return names


def _conform(array: pa.Array, wanted: pa.DataType, path: str) -> pa.Array:
    """Return `array` as `wanted`: STRUCT fields by name, other types by a cast that loses nothing."""
    if array.type == wanted:
        return array
    if pa.types.is_struct(wanted) and pa.types.is_struct(array.type):
        fields = []
        for field in wanted:
            if array.type.get_field_index(field.name) < 0:
                raise ConnectorError(f"file {path!r} has no field {field.name!r} in a STRUCT")
            fields.append(_conform(array.field(field.name), field.type, path))
        mask = array.is_null() if array.null_count else None
        return pa.StructArray.from_arrays(fields, fields=list(wanted), mask=mask)
    try:
        return array.cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as problem:
        msg = f"file {path!r}: {array.type} is not a {wanted}: {problem}"
        raise ConnectorError(msg, hint="declare the column with the file's type") from problem
