"""Where a task that may be taken over stood at its last barriers, on disk: written before a barrier leaves.

Never synced: it outlives the process, not the machine.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from cython_shuffle.hold import WriterPlace
from sabot.errors import JobError
from sabotd.agent.messages import InjectBarrier

_REWRITE_BYTES = 64 << 10


class SourcePlace(msgspec.Struct, frozen=True):
    """Where a reader of a log stands: a byte position in a log of this name."""

    relation: str
    log: str
    position: int


class BarrierPlace(msgspec.Struct, frozen=True):
    """Where a source task stands at a barrier, with the command that brought it; its writers by edge."""

    inject: InjectBarrier
    sources: tuple[SourcePlace, ...]
    writers: dict[str, WriterPlace]

    @property
    def epoch(self) -> int:
        """Of the barrier."""
        return self.inject.epoch


_PLACE = msgspec.json.Decoder(BarrierPlace)  # made at import: see sabotd.agent.messages


class PlaceLog:
    """The places of one source task: a line a barrier, of which the last two are ever needed.

    Parameters
    ----------
    path : Path
        Its folder is there.
    resume : bool
        Read what a killed process left; else begin anew.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        self._path = path
        self.places: list[BarrierPlace] = []
        if resume:
            *whole, _ = path.read_bytes().split(b"\n") if path.exists() else [b""]
            self.places = [_PLACE.decode(line) for line in whole]
        self._rewrite()

    def add(self, place: BarrierPlace) -> None:
        """Write a place down; OSError if it cannot be."""
        self.places.append(place)
        line = msgspec.json.encode(place) + b"\n"
        self._size += len(line)
        os.write(self._file, line)
        if self._size > _REWRITE_BYTES:
            self._rewrite()

    def _rewrite(self) -> None:
        self.places = self.places[-3:]
        lines = b"".join(msgspec.json.encode(p) + b"\n" for p in self.places)
        beside = self._path.with_suffix(".new")
        beside.write_bytes(lines)
        opened = os.open(beside, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        beside.replace(self._path)
        self.close()
        self._file, self._size = opened, len(lines)

    _file = -1
    _size = 0

    def at(self, epoch: int) -> BarrierPlace:
        """Return the place at the barrier of `epoch`; JobError if it is not known."""
        for place in self.places:
            if place.epoch == epoch:
                return place
        text = f"where the task stood at barrier {epoch} is not known"
        raise JobError(text)

    def after(self, epoch: int) -> Sequence[BarrierPlace]:
        """Return the places at barriers after `epoch`, in order."""
        return [p for p in self.places if p.epoch > epoch]

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class EpochFile:
    """The last epoch that a task without outputs has completed, in a file of eight bytes."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def read(self) -> int:
        """Return the epoch; 0 before the first."""
        return int.from_bytes(os.pread(self._file, 8, 0), "little")

    def write(self, epoch: int) -> None:
        """Set the epoch."""
        os.pwrite(self._file, epoch.to_bytes(8, "little"), 0)

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def writers_at(task_id: str, place: BarrierPlace) -> Mapping[tuple[str, str], WriterPlace]:
    """Return a place's writers as `cython_shuffle.hold.Hold` has them."""
    return {(edge_id, task_id): writer for edge_id, writer in place.writers.items()}
