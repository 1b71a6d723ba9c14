"""Keeps a task's place on disk, so that a process that takes this one's place can take the task over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from cython_shuffle.hold import WriterPlace
from sabotd.agent.messages import InjectBarrier
from sabotd.agent.places import BarrierPlace, EpochFile, PlaceLog, SourcePlace


class PlacedSource(Protocol):
    """A source whose place can be kept."""

    def place(self) -> SourcePlace:
        """Return where it stands."""
        ...

    def keep_from(self, place: SourcePlace) -> None:
        """Keep what stands from `place` on, though it has been read."""
        ...


class PlacedWriter(Protocol):
    """A writer whose place can be kept."""

    def place(self) -> WriterPlace:
        """Send what waits, and return where it will stand after the next barrier."""
        ...


class Keeper:
    """One task's.

    Parameters
    ----------
    folder : Path
        Of the attempt.
    name : str
        The task's, fit for a file.
    has_sources : bool
    resume_epoch : int, optional
        The last epoch that was complete, when the task is taken over.
    on_completed : callable
        Called with each epoch that the task, which has no outputs, has completed.

    Raises
    ------
    JobError
        The place at the barrier of `resume_epoch` is not known.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        has_sources: bool,
        resume_epoch: int | None,
        on_completed: Callable[[int], None],
    ) -> None:
        self._on_completed = on_completed
        self._epochs = EpochFile(folder / f"{name}.epoch")
        resume = resume_epoch is not None
        self.resumes = resume
        """Whether the task is taken over."""
        self.completed = self._epochs.read() if resume else 0
        self.replay: Sequence[BarrierPlace] = ()
        """Barriers that had left already when the task was killed."""
        self.resumed_at: InjectBarrier | None = None
        self.start: tuple[SourcePlace, ...] = ()
        """Where the sources go on."""
        self._places: PlaceLog | None = None
        if has_sources:
            self._places = PlaceLog(folder / f"{name}.places", resume=resume)
            if resume_epoch is not None:
                first = self._places.at(resume_epoch)
                self.start = first.sources
                self.replay = self._places.after(resume_epoch)
                self.resumed_at = (self.replay[-1] if self.replay else first).inject
        self._replayed = {p.epoch for p in self.replay}
        self._in_snapshot = resume_epoch is None

    def at_barrier(
        self, inject: InjectBarrier, sources: Sequence[PlacedSource], writers: Mapping[str, PlacedWriter]
    ) -> None:
        """Write down where the task stands, before the barrier leaves; the epoch before is complete everywhere."""
        assert self._places is not None
        placed = {edge_id: writer.place() for edge_id, writer in writers.items()}  # also sends what waits
        if inject.epoch in self._replayed:
            return
        here = BarrierPlace(inject, tuple(s.place() for s in sources), placed)
        before = [p for p in self._places.places if p.epoch == inject.epoch - 1]
        self._places.add(here)
        for place in before:
            for source, kept in zip(sources, place.sources, strict=True):
                source.keep_from(kept)

    def wants_barrier(self, sources: Sequence[PlacedSource]) -> bool:
        """Whether a snapshot has been read since the last barrier: only after one more is there a place to go on at."""
        if not self._in_snapshot or any(s.place().position < 0 for s in sources):
            return False
        self._in_snapshot = False
        return True

    def has_completed(self, epoch: int) -> None:
        """Write down that all of `epoch` has been taken."""
        self._epochs.write(epoch)
        self._on_completed(epoch)

    def close(self) -> None:
        """Close the files."""
        self._epochs.close()
        if self._places is not None:
            self._places.close()
