"""What travels on a channel: data, barriers and the end, as one immutable frame each."""

from __future__ import annotations

import enum

import msgspec
import pyarrow as pa


class FrameKind(enum.IntEnum):
    """The kinds of frame; the numbers are on the wire."""

    DATA = 0
    BARRIER = 1
    END = 2


# structs: one is made for each channel and barrier, and a dataclass takes ten times as long
class Barrier(msgspec.Struct, frozen=True, gc=False):
    """The end of `epoch`. `watermark_us`: microseconds since 1970, None while there is none.

    `MAX_WATERMARK_US` closes everything. `final`: the last barrier of a job whose sources have ended. `now_us`: the
    coordinator's clock, microseconds since 1970, the same in all tasks and never going back within an attempt.
    """

    epoch: int
    watermark_us: int | None = None
    final: bool = False
    checkpoint: bool = False
    now_us: int = 0


MAX_WATERMARK_US = 2**63 - 1


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One unit on a channel (upstream task to downstream task). `sequence` counts from 0 per channel.

    `epoch`: of the barrier itself, or of the channel's last one before data or the end; 0 before the first.
    """

    kind: FrameKind
    sequence: int
    batch: pa.RecordBatch | None = None
    barrier: Barrier | None = None
    epoch: int = 0
