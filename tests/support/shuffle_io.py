"""Small readers and writers of shuffle channels, for tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pyarrow as pa

from cython_shuffle.frames import Barrier, Frame, FrameKind
from cython_shuffle.shuffle_manager import InputChannel, ShuffleEdgeInfo

SCHEMA = pa.schema([("k", pa.int64()), ("s", pa.string()), ("v", pa.float64())])
TIMEOUT_S = 30.0


def rows(start: int, n: int) -> pa.RecordBatch:
    """Rows whose `k` counts from `start`; NULLs in `s`."""
    ks = range(start, start + n)
    names = [f"s{k % 100}" if k % 7 else None for k in ks]
    columns = [pa.array(ks, pa.int64()), pa.array(names, pa.string()), pa.array([k / 2 for k in ks], pa.float64())]
    return pa.record_batch(columns, schema=SCHEMA)


def edge(
    edge_id: str, kind: str, n_up: int, n_down: int, *, keys: Iterable[str] = ("k",), schema: pa.Schema = SCHEMA
) -> ShuffleEdgeInfo:
    """An edge from tasks ``<edge id>-up/i`` to ``<edge id>-down/i``."""
    return ShuffleEdgeInfo(
        edge_id=edge_id,
        kind=kind,
        keys=tuple(keys) if kind in {"HASH", "RANGE"} else (),
        schema=schema,
        upstream=tuple(f"{edge_id}-up/{i}" for i in range(n_up)),
        downstream=tuple(f"{edge_id}-down/{i}" for i in range(n_down)),
    )


def locations(info: ShuffleEdgeInfo, up: str, down: str) -> dict[str, str]:
    """All upstream tasks at `up`, all downstream tasks at `down`."""
    return dict.fromkeys(info.upstream, up) | dict.fromkeys(info.downstream, down)


@dataclass
class Received:
    """What came on one channel."""

    batches: list[pa.RecordBatch] = field(default_factory=list)
    barriers: list[Barrier] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)

    @property
    def keys(self) -> list[int]:
        return [k for b in self.batches for k in b["k"].to_pylist()]


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread or process brings about."""
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        threading.Event().wait(0.002)


def next_frame(channel: InputChannel) -> Frame:
    """Wait for a frame; raises what `poll` raises."""
    heard = threading.Event()
    channel.set_listener(heard.set)
    while True:
        frame = channel.poll()
        if frame is not None:
            return frame
        if not heard.wait(TIMEOUT_S):
            raise AssertionError(f"nothing came from {channel.upstream_task}")
        heard.clear()


def read_all(channels: list[InputChannel]) -> dict[str, Received]:
    """Read every channel to its end, taking turns as frames come."""
    heard = threading.Event()
    for channel in channels:
        channel.set_listener(heard.set)
    received = {c.upstream_task: Received() for c in channels}
    open_channels = list(channels)
    while open_channels:
        progress = False
        for channel in list(open_channels):
            frame = channel.poll()
            if frame is None:
                continue
            progress = True
            got = received[channel.upstream_task]
            got.frames.append(frame)
            if frame.batch is not None:
                got.batches.append(frame.batch)
            if frame.barrier is not None:
                got.barriers.append(frame.barrier)
            if frame.kind is FrameKind.END:
                open_channels.remove(channel)
        if not progress and open_channels:
            if not heard.wait(TIMEOUT_S):
                raise AssertionError("nothing came")
            heard.clear()
    return received
