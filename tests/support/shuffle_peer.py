"""An agent process for shuffle tests: answers `register`, `write`, `relay`, `forget`, `figures` till its input closes.

Run as ``python -m tests.support.shuffle_peer LOCATION POOL_BYTES``; prints ``ready`` when it answers.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from cython_shuffle.frames import Barrier, FrameKind
from cython_shuffle.shuffle_manager import ShuffleManager
from cython_shuffle.transport import FlightEndpoint
from sabot.errors import ShuffleError
from tests.support.shuffle_io import edge, read_all, rows

JOB = "mv:j"


class Peer:
    def __init__(self, location: str, pool_bytes: int) -> None:
        self.endpoint = FlightEndpoint(location, name="peer")
        self.manager = ShuffleManager("peer", self.endpoint, pool_bytes)
        self.errors: list[str] = []
        for action in (self.register, self.write, self.relay, self.forget, self.figures):
            self.endpoint.register_action(action.__name__, self._json(action))

    @staticmethod
    def _json(action: Callable[..., Any]) -> Callable[[bytes], bytes]:
        return lambda body: json.dumps(action(**json.loads(body))).encode()

    def _background(self, work: Callable[[], None]) -> None:
        def run() -> None:
            try:
                work()
            except ShuffleError as error:
                self.errors.append(error.message)

        threading.Thread(target=run, daemon=True).start()

    def register(self, name: str, kind: str, n_up: int, n_down: int, locations: dict[str, str]) -> None:
        self.manager.register_shuffle(JOB, 1, edge(name, kind, n_up, n_down), locations)

    def write(self, name: str, task: str, start: int, batches: int, size: int, key: int | None = None) -> None:
        """Write `batches` of `size` rows, a barrier after each, then the end; 0 batches: for ever.

        With `key` all rows but a twentieth have it.
        """

        def work() -> None:
            writer = self.manager.writer(JOB, name, task)
            epoch = 0
            while batches == 0 or epoch < batches:
                batch = rows(start + epoch * size, size)
                if key is not None:
                    ks = batch["k"].to_pylist()
                    skewed = pa.array([k if k % 20 == 0 else key for k in ks], pa.int64())
                    batch = pa.RecordBatch.from_arrays([skewed, *batch.columns[1:]], schema=batch.schema)
                writer.write(batch)
                epoch += 1
                writer.barrier(Barrier(epoch))
            writer.end()

        self._background(work)

    def relay(self, source: str, task: str, target: str, target_task: str) -> None:
        """A task that hands everything on, and a barrier when all inputs have given it."""
        channels = self.manager.read_partition(JOB, source, task)

        def work() -> None:
            writer = self.manager.writer(JOB, target, target_task)
            received = list(read_all(channels).values())
            for epoch in range(1, 1 + len(received[0].barriers)):
                for channel in received:
                    at = [i for i, f in enumerate(channel.frames) if f.kind is FrameKind.BARRIER]
                    first = at[epoch - 2] + 1 if epoch > 1 else 0
                    for frame in channel.frames[first : at[epoch - 1]]:
                        assert frame.batch is not None
                        writer.write(frame.batch)
                writer.barrier(Barrier(epoch))
            writer.end()

        self._background(work)

    def forget(self) -> None:
        self.manager.unregister(JOB, 1)

    def figures(self) -> dict[str, Any]:
        pool = self.manager.pool_metrics()
        return {
            "waits": pool.waits,
            "peak_bytes": pool.peak_bytes,
            "used_bytes": pool.used_bytes,
            "errors": self.errors,
            "rows": sum(m.rows for m in self.manager.metrics()),
        }


def main() -> None:
    peer = Peer(sys.argv[1], int(sys.argv[2]))
    peer.endpoint.start()
    peer.manager.start()
    print("ready", flush=True)
    sys.stdin.read()
    peer.manager.stop()
    peer.endpoint.stop()


if __name__ == "__main__":
    main()
