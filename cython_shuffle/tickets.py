"""What is written on the wire beside Arrow: tickets, acknowledgements, and the header of each frame."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Self

import msgspec

from cython_shuffle.frames import Barrier, FrameKind
from sabot.errors import ShuffleError

WIRE_VERSION = 4

# version, kind, flags, bytes of the edge id, frames, epoch, watermark, now; the edge id follows in UTF-8, then each
# frame's channel (uint32), then each frame's sequence (uint64)
_HEADER = struct.Struct("<BBBHIqqq")
_KINDS = tuple(FrameKind)
_FINAL, _CHECKPOINT, _HAS_WATERMARK = 1, 2, 4


class _Message(msgspec.Struct, frozen=True, array_like=True):
    """Travels as MessagePack."""

    def to_bytes(self) -> bytes:
        """Return the message as it travels."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a message; raises ShuffleError if it is none."""
        try:
            return _DECODERS[cls].decode(data)  # type: ignore[no-any-return]
        except msgspec.MsgspecError as error:
            text = f"a message ({cls.__name__.lower()}) that cannot be read: {error}"
            raise ShuffleError(text, hint="are both agents of one version") from error


class Ticket(_Message, frozen=True, array_like=True):
    """Asks the agent of `upstream` for the channels of one attempt between those tasks and `downstream`.

    `link` is the reader's name for the link, `connection` counts its connections from 0, and `received` the frames that
    it has of each channel, in the order of the edge's pairs: with them it goes on after a connection broke.
    `window_bytes`: what may be under way on a channel, beyond one frame.
    """

    job_id: str
    attempt: int
    edge_id: str
    upstream: tuple[str, ...]
    downstream: tuple[str, ...]
    link: str
    window_bytes: int
    connection: int = 0
    received: tuple[int, ...] = ()


class Acknowledgement(_Message, frozen=True, array_like=True):
    """Tells the writer's agent, for channels of `link`, how many frames the reader has booked room for.

    With `gone`, why the reader gives the link up.
    """

    link: str
    admitted: tuple[tuple[int, int], ...]
    gone: str | None = None


class Abort(_Message, frozen=True, array_like=True):
    """Asks a reader to give up `links`."""

    links: tuple[str, ...]
    reason: str


# made at import, on one thread: msgspec crashes when two threads are the first to decode a type
_DECODERS: dict[type, msgspec.msgpack.Decoder[Any]] = {
    kind: msgspec.msgpack.Decoder(kind) for kind in (Ticket, Acknowledgement, Abort)
}


class FrameHeader(msgspec.Struct, frozen=True, gc=False):
    """What travels with each frame.

    `epoch`: of the barrier itself, or of the channel's last one before data or the end. `channel`: its place in the
    ticket.
    """

    edge_id: str
    kind: FrameKind
    sequence: int
    epoch: int
    barrier: Barrier | None = None
    channel: int = 0

    def to_bytes(self) -> bytes:
        """Return the header as it travels."""
        return headers_to_bytes([self])

    @staticmethod
    def from_bytes(data: bytes) -> FrameHeader:
        """Read a header; raises ShuffleError if it is none."""
        headers = headers_from_bytes(data)
        if len(headers) != 1:
            raise ShuffleError(f"{len(headers)} frame headers where one was due")
        return headers[0]


def headers_to_bytes(headers: Sequence[FrameHeader]) -> bytes:
    """Return headers of one edge as they travel together: the edge's id goes with the first.

    A barrier on many channels in a row is told once, with their numbers.
    """
    parts = []
    edge_id = headers[0].edge_id.encode()
    start = 0
    while start < len(headers):
        first = headers[start]
        kind, epoch, barrier = first.kind, first.epoch, first.barrier
        end = start + 1
        while end < len(headers):
            header = headers[end]
            if header.kind is not kind or header.epoch != epoch or header.barrier != barrier:
                break
            end += 1
        flags, watermark_us, now_us = 0, 0, 0
        if barrier is not None:
            flags = _FINAL * barrier.final + _CHECKPOINT * barrier.checkpoint
            now_us = barrier.now_us
            if barrier.watermark_us is not None:
                flags |= _HAS_WATERMARK
                watermark_us = barrier.watermark_us
        count = end - start
        parts.append(_HEADER.pack(WIRE_VERSION, kind, flags, len(edge_id), count, epoch, watermark_us, now_us))
        parts.append(edge_id)
        parts.append(struct.pack(f"<{count}I", *[h.channel for h in headers[start:end]]))
        parts.append(struct.pack(f"<{count}Q", *[h.sequence for h in headers[start:end]]))
        edge_id = b""
        start = end
    return b"".join(parts)


def headers_from_bytes(data: bytes) -> list[FrameHeader]:
    """Read headers that travelled together, one at least; raises ShuffleError if they are none."""
    headers: list[FrameHeader] = []
    edge_id, at = "", 0
    while at < len(data) or not headers:
        try:
            version, kind_number, flags, size, count, epoch, watermark_us, now_us = _HEADER.unpack_from(data, at)
            if version != WIRE_VERSION:
                raise ShuffleError(
                    f"a frame of wire version {version!r}, this is version {WIRE_VERSION}", hint="update both agents"
                )
            at += _HEADER.size
            (name,) = struct.unpack_from(f"{size}s", data, at)
            edge_id = name.decode() if size else edge_id
            at += size
            channels = struct.unpack_from(f"<{count}I", data, at)
            sequences = struct.unpack_from(f"<{count}Q", data, at + 4 * count)
            at += 12 * count
            kind = _KINDS[kind_number]
        except (struct.error, ValueError, IndexError) as error:
            raise ShuffleError(f"a frame header that cannot be read: {data[:100]!r}") from error
        if count == 0:
            raise ShuffleError("a frame header without frames")
        barrier = None
        if kind is FrameKind.BARRIER:
            barrier = Barrier(
                epoch,
                watermark_us if flags & _HAS_WATERMARK else None,
                final=bool(flags & _FINAL),
                checkpoint=bool(flags & _CHECKPOINT),
                now_us=now_us,
            )
        headers += [
            FrameHeader(edge_id, kind, sequence, epoch, barrier, channel)
            for channel, sequence in zip(channels, sequences, strict=True)
        ]
    return headers
