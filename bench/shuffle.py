"""What the shuffle costs: kernels, the hop between processes, barriers, and what a second agent gives.

Beside memcpy, numpy, pyarrow, polars, a raw socket, and two processes that share nothing. Run as ``python
bench/shuffle.py``. Answers are checked first. Figures of one run stand side by side; compare the ratios, not runs.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ["POLARS_MAX_THREADS"] = "1"  # all kernels are compared on one core

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from bench import agents
from cython_shuffle import _fallback, _kernels
from cython_shuffle.frames import Barrier
from cython_shuffle.partitioner import Partitioner
from cython_shuffle.shuffle_manager import InputChannel, ShuffleEdgeInfo, ShuffleManager
from cython_shuffle.transport import FlightEndpoint
from sabotd.agent.input_gate import Data, InputGate

PARTS = 16
POOL_BYTES = 256 << 20
SCHEMA = pa.schema([(name, pa.int64()) for name in "kxyz"])
ROW_BYTES = 32
RAW_CHUNK_BYTES = 1 << 20
BATCH_ROWS = 1 << 16


def best_rate(work: Callable[[], object], rows: int, seconds: float) -> float:
    """Rows a second of the best of many runs of `work`."""
    work()
    best = float("inf")
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return rows / best


def batch_of(rows: int) -> pa.RecordBatch:
    """Four int64 columns with many keys."""
    rng = np.random.default_rng(7)
    return pa.record_batch([pa.array(rng.integers(0, 1 << 40, rows)) for _ in SCHEMA], schema=SCHEMA)


def by_numpy(arrays: list[np.ndarray]) -> list[list[np.ndarray]]:
    """What the partitioner does, as one would in numpy: hash, stable sort by destination, take, cut."""
    keys = arrays[0].view(np.uint64)
    hashes = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    places = ((hashes >> np.uint64(32)) * np.uint64(PARTS) >> np.uint64(32)).astype(np.uint16)
    order = np.argsort(places, kind="stable")
    bounds = np.searchsorted(places[order], np.arange(1, PARTS))
    return [np.split(np.take(a, order), bounds) for a in arrays]


def by_pyarrow(batch: pa.RecordBatch) -> list[pa.RecordBatch]:
    """The same by pyarrow's functions, with a remainder for a hash since it has none."""
    keys = batch.column(0)
    places = pc.subtract(keys, pc.multiply(pc.divide(keys, PARTS), PARTS)).cast(pa.uint16())
    order = pc.array_sort_indices(places)
    counts = {c["values"].as_py(): c["counts"].as_py() for c in pc.value_counts(places)}
    ordered, parts, start = batch.take(order), [], 0
    for place in sorted(counts):
        parts.append(ordered.slice(start, counts[place]))
        start += counts[place]
    return parts


def by_polars(frame: pl.DataFrame) -> list[pl.DataFrame]:
    """The same by polars, with its own hash."""
    placed = frame.with_columns((pl.col("k").hash() % PARTS).alias("place"))
    return placed.partition_by("place", maintain_order=True, include_key=False)


def check_kernels(rows: int) -> None:
    """Stop unless every way keeps all rows and equal keys together, and ours is the plain twin's to the row."""
    batch = pa.record_batch([c if i else pc.bit_wise_and(c, 1023) for i, c in enumerate(batch_of(rows))], schema=SCHEMA)
    ours = Partitioner(SCHEMA, ["k"], PARTS).partition(batch)
    if ours != Partitioner(SCHEMA, ["k"], PARTS, kernels=_fallback).partition(batch):
        raise SystemExit("the kernels and their plain twin differ")
    ways = {
        "ours": [p.to_pydict() for p in ours if p is not None],
        "numpy": [
            dict(zip("kxyz", columns, strict=True))
            for columns in zip(*by_numpy([c.to_numpy() for c in batch.columns]), strict=True)
        ],
        "pyarrow": [p.to_pydict() for p in by_pyarrow(batch)],
        "polars": [p.to_dict(as_series=False) for p in by_polars(pl.DataFrame(batch))],
    }
    wanted = Counter(zip(*batch.to_pydict().values(), strict=True))
    for name, parts in ways.items():
        found = [list(zip(*map(list, (p[c] for c in "kxyz")), strict=True)) for p in parts]
        places = Counter(k for part in found for k in {row[0] for row in part})
        if Counter(row for part in found for row in part) != wanted or max(places.values()) != 1:
            raise SystemExit(f"partitioning by {name} loses rows or parts equal keys")
    print(f"partitions of {rows:,} rows by {', '.join(ways)}: all rows, equal keys together; ours as the plain twin")


def kernels(rows: int, seconds: float) -> None:
    """Print the table of the kernels for batches of `rows`."""
    batch = batch_of(rows)
    text = pa.array([f"user-{k % 100_003}" for k in range(rows)])
    strings = pa.record_batch([text, text], names=["s", "t"])
    destinations = array("H", [g * PARTS // 128 for g in range(128)])
    assigned = _kernels.assign(batch, [0], destinations)
    _, order, target = _kernels.counting_sort(assigned, PARTS)
    indices = pa.Array.from_buffers(pa.uint32(), rows, [None, order])
    index_array = indices.to_numpy()
    arrays = [column.to_numpy() for column in batch.columns]
    copies = [np.empty_like(a) for a in arrays]
    frame = pl.DataFrame(batch)
    partitioner = Partitioner(SCHEMA, ["k"], PARTS)
    by_text = Partitioner(strings.schema, ["s"], PARTS)
    table: list[tuple[str, Callable[[], object]]] = [
        ("memcpy of the four columns", lambda: [np.copyto(c, a) for c, a in zip(copies, arrays, strict=True)]),
        ("hash one key to a destination", lambda: _kernels.assign(batch, [0], destinations)),
        ("counting sort", lambda: _kernels.counting_sort(assigned, PARTS)),
        ("gather four columns", lambda: _kernels.gather(batch, range(4), order, target)),
        ("pyarrow take of four columns", lambda: batch.take(indices)),
        ("numpy take of four columns", lambda: [np.take(a, index_array) for a in arrays]),
        (f"partition into {PARTS} (all of it)", lambda: partitioner.partition(batch)),
        ("the same by numpy", lambda: by_numpy(arrays)),
        ("the same by pyarrow", lambda: by_pyarrow(batch)),
        ("the same by polars, one thread", lambda: by_polars(frame)),
        ("partition two string columns", lambda: by_text.partition(strings)),
    ]
    print(f"\nkernels, one core, batches of {rows:,} rows, four int64 columns")
    print(f"  {'':36} {'M rows/s':>9} {'of memcpy':>10}")
    reference = 0.0
    for name, work in table:
        rate = best_rate(work, rows, seconds)
        reference = reference or rate
        print(f"  {name:36} {rate / 1e6:9.0f} {rate / reference:10.2f}")


def edge_info(kind: str, tasks: int) -> ShuffleEdgeInfo:
    """An edge between `tasks` tasks on each side."""
    return ShuffleEdgeInfo(
        "edge",
        kind,
        ("k",) if kind == "HASH" else (),
        SCHEMA,
        tuple(f"up/{i}" for i in range(tasks)),
        tuple(f"down/{i}" for i in range(tasks)),
    )


def batches_of(total_bytes: int, tasks: int) -> int:
    """How many batches each writer writes."""
    return total_bytes // (BATCH_ROWS * ROW_BYTES) // tasks


def write_side(where: dict[str, str], kind: str, tasks: int, total_bytes: int, barriers: int) -> None:
    """Write as the upstream process, until the input closes."""
    endpoint, manager, info = start_side(where, "up", kind, tasks)
    batch = batch_of(BATCH_ROWS)
    batches = batches_of(total_bytes, tasks)

    def write(task: str) -> None:
        writer = manager.writer("job", "edge", task)
        for _ in range(batches):
            writer.write(batch)
        for epoch in range(1, barriers + 1):
            writer.barrier(Barrier(epoch))
        writer.end()

    for task in info.upstream:
        threading.Thread(target=write, args=(task,)).start()
    sys.stdin.read()
    manager.stop()
    endpoint.stop()


def start_side(
    where: dict[str, str], side: str, kind: str, tasks: int
) -> tuple[FlightEndpoint, ShuffleManager, ShuffleEdgeInfo]:
    """Start an agent; both sides know the same edge."""
    endpoint = FlightEndpoint(where[side], name=side)
    endpoint.start()
    manager = ShuffleManager(side, endpoint, POOL_BYTES)
    manager.start()
    info = edge_info(kind, tasks)
    locations = dict.fromkeys(info.upstream, where["up"]) | dict.fromkeys(info.downstream, where["down"])
    manager.register_shuffle("job", 1, info, locations)
    return endpoint, manager, info


class Reader(threading.Thread):
    """One downstream task: aligns its channels on barriers, to the end, and knows when the first came."""

    def __init__(self, channels: list[InputChannel]) -> None:
        super().__init__()
        self._gate = InputGate([channels])
        self.rows = self.key_sum = 0
        self.first_s = float("inf")

    def run(self) -> None:
        while (event := self._gate.next()) is not None:
            self.first_s = min(self.first_s, time.perf_counter())
            if isinstance(event, Data):
                self.rows += event.batch.num_rows
                # each key is read once, as any task would
                self.key_sum += pc.sum(event.batch.column(0)).as_py()


def child(*arguments: object) -> subprocess.Popen[bytes]:
    """Start a second process that runs one side."""
    command = [sys.executable, __file__, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE)


def locations(folder: str, tcp: bool) -> dict[str, str]:
    """Where the two sides listen."""
    if not tcp:
        return {name: f"grpc+unix://{folder}/{name}.sock" for name in ("up", "down")}
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        ports = [s.getsockname()[1] for s in (one, two)]
    return {name: f"grpc://127.0.0.1:{port}" for name, port in zip(("up", "down"), ports, strict=True)}


def flight_hop(kind: str, tasks: int, total_bytes: int, barriers: int = 1, *, tcp: bool = False) -> tuple[float, float]:
    """From a second process, through the whole shuffle: bytes a second, and the seconds from first frame to last."""
    with tempfile.TemporaryDirectory(prefix="sabot-") as folder:
        where = locations(folder, tcp)
        writer = child("--write", where["up"], where["down"], kind, tasks, total_bytes, barriers)
        endpoint, manager, info = start_side(where, "down", kind, tasks)
        readers = [Reader(manager.read_partition("job", "edge", task)) for task in info.downstream]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        seconds = time.perf_counter() - min(reader.first_s for reader in readers)
        assert writer.stdin is not None
        writer.stdin.close()
        writer.wait()
        manager.stop()
        endpoint.stop()
    rows = sum(reader.rows for reader in readers)
    batch = batch_of(BATCH_ROWS)
    batches = batches_of(total_bytes, tasks) * tasks
    wanted = batches * BATCH_ROWS, batches * pc.sum(batch.column(0)).as_py()
    if (rows, sum(reader.key_sum for reader in readers)) != wanted:
        raise SystemExit(f"{kind} {tasks} to {tasks}: {rows:,} rows came of {wanted[0]:,}, or others")
    return rows * ROW_BYTES / seconds, seconds


def raw_side(address: str, total_bytes: int) -> None:
    """Send bytes over a plain socket, as the other process."""
    chunk = os.urandom(RAW_CHUNK_BYTES)
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port))) if host else socket.socket(socket.AF_UNIX) as connection:
        if not host:
            connection.connect(address)
        for _ in range(total_bytes // len(chunk)):
            connection.sendall(chunk)


def raw_socket(total_bytes: int, *, tcp: bool) -> float:
    """Bytes a second of a plain socket between two processes, read into one buffer."""
    with tempfile.TemporaryDirectory(prefix="sabot-") as folder:
        if tcp:
            server = socket.create_server(("127.0.0.1", 0))
            address = f"127.0.0.1:{server.getsockname()[1]}"
        else:
            address = f"{folder}/raw.sock"
            server = socket.socket(socket.AF_UNIX)
            server.bind(address)
            server.listen()
        writer = child("--raw", address, total_bytes)
        with server:
            connection, _ = server.accept()
        buffer = bytearray(RAW_CHUNK_BYTES)
        with connection:
            received = connection.recv_into(buffer)
            started = time.perf_counter()
            while n := connection.recv_into(buffer):
                received += n
            seconds = time.perf_counter() - started
        assert writer.stdin is not None
        writer.stdin.close()
        writer.wait()
    return received / seconds


def hop(total_bytes: int) -> None:
    """Print the tables of the hop between two processes."""
    ways = {"a Unix socket": False, "TCP on loopback": True}
    for way, tcp in ways.items():
        print(f"\nhop between two processes over {way}, {total_bytes >> 20:,} MiB, best of three")
        print(f"  {'':36} {'GB/s':>9} {'of raw':>10}")
        raw = max(raw_socket(total_bytes, tcp=tcp) for _ in range(3))
        print(f"  {'raw socket':36} {raw / 1e9:9.2f} {1:10.2f}")
        for kind, tasks in (("FORWARD", 1), ("HASH", 2), ("HASH", 4)):
            rate = max(flight_hop(kind, tasks, total_bytes, tcp=tcp)[0] for _ in range(3))
            name = f"shuffle, {kind} {tasks} to {tasks} tasks"
            print(f"  {name:36} {rate / 1e9:9.2f} {rate / raw:10.2f}", flush=True)


def barriers() -> None:
    """Print what barriers cost that go over all channels of an edge between two processes, one after the other."""
    print("\nbarriers between two processes, aligned at their tasks, best of three")
    print(f"  {'':36} {'ms each':>9} {'us/channel':>10}")
    for tasks, count in ((1, 4000), (8, 400), (64, 40)):
        seconds = min(flight_hop("HASH", tasks, 0, count)[1] for _ in range(3))
        name = f"HASH {tasks} to {tasks} tasks"
        print(f"  {name:36} {seconds / count * 1e3:9.3f} {seconds / count / tasks**2 * 1e6:10.1f}", flush=True)


def main() -> None:
    """Run the tables, or a side of one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", nargs=6, help=argparse.SUPPRESS)
    parser.add_argument("--raw", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=0.3, help="time for each kernel")
    parser.add_argument("--megabytes", type=int, default=512, help="what goes over the hop")
    parser.add_argument("--events", type=int, default=100_000_000, help="what two agents and one aggregate")
    options = parser.parse_args()
    if options.write:
        up, down, kind, tasks, total_bytes, count = options.write
        write_side({"up": up, "down": down}, kind, int(tasks), int(total_bytes), int(count))
    elif options.raw:
        raw_side(options.raw[0], int(options.raw[1]))
    else:
        check_kernels(20_000)
        agents.check_answers()
        for rows in (8_192, 65_536, 1_048_576):
            kernels(rows, options.seconds)
        hop(options.megabytes << 20)
        barriers()
        agents.barriers(20)
        agents.speed_up(options.events)


if __name__ == "__main__":
    main()
