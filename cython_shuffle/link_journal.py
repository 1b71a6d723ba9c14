"""What the reader of a link has received, on disk, so that a process that takes its place goes on where it was killed.

Written before anything is acknowledged, and never synced: it outlives the process, not the machine.
"""

from __future__ import annotations

import mmap
import os
import shutil
import struct
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pyarrow as pa

from cython_shuffle.frames import FrameKind
from cython_shuffle.tickets import FrameHeader
from sabot.errors import ShuffleError

SEGMENT_BYTES = 4 << 20
_SIZES = struct.Struct("<IQ")  # bytes of the headers, bytes of the rows
_MOST_CONNECTIONS = 1_000_000
"""One process makes fewer than so many of one link."""


class Places(msgspec.Struct):
    """Where each channel of a link stands: the sequence due next, the epoch of its last barrier, whether it ended."""

    sequences: list[int]
    epochs: list[int]
    ended: list[bool]

    @staticmethod
    def first(n_channels: int) -> Places:
        """Return the places before the first frame."""
        return Places([0] * n_channels, [0] * n_channels, [False] * n_channels)


# made at import: msgspec crashes when two threads are the first to decode a type
_PLACES = msgspec.json.Decoder(Places)


@dataclass(slots=True)
class _Segment:
    path: Path
    nbytes: int = 0
    epoch: int = 0
    """The highest epoch that a frame in it belongs to."""


class LinkJournal:
    """One link's. `append` comes from the link's thread, `complete` from any.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    n_channels : int
    resume : bool
        Keep what a killed process left; else the folder is emptied.

    Raises
    ------
    ShuffleError
        What was left is of another link, or not there.
    """

    def __init__(self, folder: Path, n_channels: int, *, resume: bool) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._segments: list[_Segment] = []
        self._current = _Segment(folder)  # the one that frames are noted for
        self._file: int | None = None
        self.places = Places.first(n_channels)
        """Where the channels stand; before `recovered` is read, where they stood at the first frame that is kept."""
        self.first_connection = 0
        """For the ticket: higher than any connection that a process before this one made."""
        if resume:
            self._find()
            if len(self.places.sequences) != n_channels:
                raise ShuffleError(f"journal {str(folder)!r} is of another link than one of {n_channels} channels")
        else:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            self._roll()

    def recovered(self, rows_schema: pa.Schema) -> Iterator[tuple[bytes, pa.RecordBatch]]:
        """Give what was received, in order, as it came: headers and rows. What was cut off by the kill is cut away."""
        for segment in self._segments:
            self._current = segment
            data = _mapped(segment.path)
            at = self._skip_places(data)
            while (entry := _entry(data, at)) is not None:
                headers, rows, at = entry
                yield headers, pa.ipc.read_record_batch(pa.py_buffer(rows), rows_schema)
            segment.nbytes = at
        os.truncate(self._segments[-1].path, self._segments[-1].nbytes)
        self._file = os.open(self._segments[-1].path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def append(self, received: Sequence[FrameHeader], headers: bytes, rows: pa.RecordBatch) -> None:
        """Write frames that came together; raises ShuffleError, and then they must not be acknowledged."""
        body = rows.serialize()
        data = b"".join((_SIZES.pack(len(headers), body.size), headers, memoryview(body)))
        with self._lock:
            try:
                self._write(data)
            except OSError as error:
                text = f"rows from a peer cannot be kept in {str(self._folder)!r}: {error.strerror}"
                raise ShuffleError(text) from error
            self._note(received)

    def noted(self, received: Sequence[FrameHeader]) -> None:
        """Take note of frames out of `recovered`."""
        with self._lock:
            self._note(received)

    def complete(self, epoch: int) -> None:
        """Say that frames up to the barrier of `epoch` will not be asked for again."""
        with self._lock:
            if self._segments[-1].nbytes >= SEGMENT_BYTES and self._file is not None:
                self._roll()
            while len(self._segments) > 1 and self._segments[0].epoch <= epoch:
                self._segments.pop(0).path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file; what is on disk stays."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    # -- under the lock

    def _note(self, received: Sequence[FrameHeader]) -> None:
        for header in received:
            self.places.sequences[header.channel] = header.sequence + 1
            belongs_to = header.epoch if header.kind is FrameKind.BARRIER else header.epoch + 1
            self._current.epoch = max(self._current.epoch, belongs_to)
            if header.kind is FrameKind.BARRIER:
                self.places.epochs[header.channel] = header.epoch
            elif header.kind is FrameKind.END:
                self.places.ended[header.channel] = True

    def _write(self, data: bytes) -> None:
        if self._file is None:
            return  # closed: the attempt is over
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]
        self._segments[-1].nbytes += len(data)

    def _roll(self) -> None:
        number = int(self._segments[-1].path.stem) + 1 if self._segments else 1
        path = self._folder / f"{number:010d}.journal"
        if self._file is not None:
            os.close(self._file)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._current = _Segment(path)
        self._segments.append(self._current)
        places = msgspec.json.encode(self.places)
        self._write(_SIZES.pack(len(places), 0) + places)

    # -- what a killed process left

    def _find(self) -> None:
        self._segments = [_Segment(p) for p in sorted(self._folder.glob("*.journal"))]
        # a process killed while it began a segment leaves one without its first entry
        while self._segments and _entry(_mapped(self._segments[-1].path), 0) is None:
            self._segments.pop().path.unlink()
        if not self._segments:
            raise ShuffleError(f"journal {str(self._folder)!r} is not there")
        before = len(list(self._folder.glob("*.takeover")))
        (self._folder / f"{before}.takeover").touch()
        self.first_connection = (before + 1) * _MOST_CONNECTIONS
        first, _, _ = _entry(_mapped(self._segments[0].path), 0) or (b"", b"", 0)
        self.places = _PLACES.decode(first)

    @staticmethod
    def _skip_places(data: bytes | mmap.mmap) -> int:
        entry = _entry(data, 0)
        return entry[2] if entry is not None else 0


def _entry(data: bytes | mmap.mmap, at: int) -> tuple[bytes, bytes, int] | None:
    """Return an entry's headers and body and where the next begins; None where no whole one stands."""
    if at + _SIZES.size > len(data):
        return None
    headers, body = _SIZES.unpack_from(data, at)
    start = at + _SIZES.size
    end = start + headers + body
    if end > len(data):
        return None
    return data[start : start + headers], data[start + headers : end], end


def _mapped(path: Path) -> bytes | mmap.mmap:
    """Return a file's bytes: an epoch may be larger than is good to have in memory at once."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""
