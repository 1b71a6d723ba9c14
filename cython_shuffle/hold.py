"""How edges outlive a process at one of their ends: the daemon's, which may be killed and started again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec


class WriterPlace(msgspec.Struct, frozen=True):
    """Where a writer stands at a barrier: the sequence due next on each channel, and its partitioner's cursor."""

    sequences: tuple[int, ...]
    cursor: int = 0


@dataclass(frozen=True)
class Hold:
    """What an edge with an end in the process at `location` needs to outlive it.

    Parameters
    ----------
    location : str
        Of the process that may be away.
    away_s : float
        How long its peers wait for it.
    folder : Path, optional
        Only in that process: where it keeps what it has received, one folder a link.
    epoch : int, optional
        Only in a process that takes the place of one that was killed: the last epoch that was complete there. Its
        readers go on right after it.
    writers : mapping of (edge id, task id) to WriterPlace
        Likewise: where its writers stood at the barrier of `epoch`.
    """

    location: str
    away_s: float
    folder: Path | None = None
    epoch: int | None = None
    writers: Mapping[tuple[str, str], WriterPlace] = field(default_factory=dict)
