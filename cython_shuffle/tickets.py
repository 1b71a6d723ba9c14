"""What is written on the wire beside Arrow: tickets that ask for a channel, and the header of each frame."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import msgspec

from cython_shuffle.frames import Barrier, FrameKind
from sabot.errors import ShuffleError

WIRE_VERSION = 1

# version, kind, flags, sequence, epoch, watermark; the edge id follows in UTF-8
_HEADER = struct.Struct("<BBBQqq")
_FINAL, _CHECKPOINT, _HAS_WATERMARK = 1, 2, 4


class Ticket(msgspec.Struct, frozen=True, array_like=True):
    """Asks the agent of `upstream` for the frames of one channel of one attempt."""

    job_id: str
    attempt: int
    edge_id: str
    upstream: str
    downstream: str

    def to_bytes(self) -> bytes:
        """Return the ticket as it travels."""
        return msgspec.msgpack.encode(self)

    @staticmethod
    def from_bytes(data: bytes) -> Ticket:
        """Read a ticket; raises ShuffleError if it is none."""
        try:
            return msgspec.msgpack.decode(data, type=Ticket)
        except msgspec.MsgspecError as error:
            text = f"a ticket that cannot be read: {error}"
            raise ShuffleError(text, hint="are both agents of one version") from error


class AbortRequest(msgspec.Struct, frozen=True, array_like=True):
    """Asks a reader to give up the channels of `tickets`."""

    tickets: tuple[Ticket, ...]
    reason: str

    def to_bytes(self) -> bytes:
        """Return the request as it travels."""
        return msgspec.msgpack.encode(self)

    @staticmethod
    def from_bytes(data: bytes) -> AbortRequest:
        """Read a request; raises ShuffleError if it is none."""
        try:
            return msgspec.msgpack.decode(data, type=AbortRequest)
        except msgspec.MsgspecError as error:
            raise ShuffleError(f"an abort request that cannot be read: {error}") from error


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """What travels with each frame. `epoch`: of the barrier itself, or of the last one before data or the end."""

    edge_id: str
    kind: FrameKind
    sequence: int
    epoch: int
    barrier: Barrier | None = None

    def to_bytes(self) -> bytes:
        """Return the header as it travels."""
        flags, watermark_us = 0, 0
        if self.barrier is not None:
            flags = _FINAL * self.barrier.final + _CHECKPOINT * self.barrier.checkpoint
            if self.barrier.watermark_us is not None:
                flags |= _HAS_WATERMARK
                watermark_us = self.barrier.watermark_us
        head = _HEADER.pack(WIRE_VERSION, self.kind, flags, self.sequence, self.epoch, watermark_us)
        return head + self.edge_id.encode()

    @staticmethod
    def from_bytes(data: bytes) -> FrameHeader:
        """Read a header; raises ShuffleError if it is none."""
        try:
            version, kind, flags, sequence, epoch, watermark_us = _HEADER.unpack_from(data)
            edge_id = data[_HEADER.size :].decode()
            frame_kind = FrameKind(kind)
        except (struct.error, ValueError) as error:
            raise ShuffleError(f"a frame header that cannot be read: {data!r}") from error
        if version != WIRE_VERSION:
            raise ShuffleError(
                f"a frame of wire version {version!r}, this is version {WIRE_VERSION}", hint="update both agents"
            )
        barrier = None
        if frame_kind is FrameKind.BARRIER:
            barrier = Barrier(
                epoch,
                watermark_us if flags & _HAS_WATERMARK else None,
                final=bool(flags & _FINAL),
                checkpoint=bool(flags & _CHECKPOINT),
            )
        return FrameHeader(edge_id, frame_kind, sequence, epoch, barrier)
