"""Whether an epoch's cost follows its rows or the state: a state that grows from 1 M to 20 M rows under constant input.

    python -m bench.growth [--rows 50000] [--to 20000000] [--only aggregate join "top n"] [--keys recent any text]

An aggregate by key, a join that keeps both sides and the best three rows of each key take the same number of rows
every epoch, half of them of keys that were never seen. The others are of the newest 500,000 keys (recent), as ids and
windows go, of any key so far (any), or of the newest but as text (text). Printed is an epoch's median time where the
state begins and where it ends, and the highest memory of the process.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from cython_shuffle.frames import Barrier
from planner.task_spec import FinalAggOp, JoinOp, Operator, SortKey, TopNOp
from sabotd.operators.factory import make_operator
from sabotd.state.duckdb_state import TaskDatabase

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench.operators import PARTIALS, batch, columns, partial_rows, spread

RECENT = 500_000
MEASURED = 20
"""Epochs whose median is taken at the start and at the end."""
OUT = Path(__file__).resolve().parent / "data" / "growth-figures.json"
RNG = np.random.default_rng(42)

Made = list[tuple[int, pa.RecordBatch]]


@dataclass
class Figures:
    """A run: rows of state where it was measured, median seconds of an epoch there, highest resident set."""

    what: str
    keys: str
    epoch_rows: int
    state_rows: tuple[int, int]
    cpu_s: tuple[float, float]
    wall_s: tuple[float, float]
    peak_mb: float


class Keys:
    """Keys of one epoch after the other: as many new ones as old ones."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self.seen = 0

    def next(self, rows: int) -> tuple[np.ndarray, np.ndarray]:
        """Return `rows` new keys and `rows` seen ones, as numbers."""
        new = np.arange(self.seen, self.seen + rows)
        self.seen += rows
        low = 0 if self._kind == "any" else max(0, self.seen - RECENT)
        return new, RNG.integers(low, self.seen, rows)

    def shown(self, numbers: np.ndarray) -> np.ndarray | pa.Array:
        """Return the keys as the operator gets them."""
        if self._kind == "text":
            return pa.array(np.char.add("key-", numbers.astype("U12")))
        return spread(numbers) if self._kind == "any" else numbers

    @property
    def type(self) -> str:
        """Their type."""
        return "VARCHAR" if self._kind == "text" else "BIGINT"


def aggregate(keys: Keys) -> tuple[Operator, Callable[[int], Made], int]:
    """Count and average by key."""
    out = columns(k=keys.type, n="BIGINT", a="BIGINT")
    op = FinalAggOp(columns(k=keys.type), PARTIALS, ("__rows", "s / __rows"), out)

    def make(rows: int) -> Made:
        numbers = np.concatenate(keys.next(rows // 2))
        return [(0, partial_rows(numbers).set_column(0, "k", pa.array(keys.shown(numbers))))]

    return op, make, 2


def join(keys: Keys) -> tuple[Operator, Callable[[int], Made], int]:
    """Join new rows of the left with later rows of the right; both stay, for more may come."""
    left, right = columns(a=keys.type, x="BIGINT", y="BIGINT"), columns(b=keys.type, z="BIGINT")
    op = JoinOp(left, right, ("a",), ("b",), (False, False), left + right)

    def make(rows: int) -> Made:
        new, old = keys.next(rows // 2)
        return [(0, batch(a=keys.shown(new), x=new, y=new * 3)), (1, batch(b=keys.shown(old), z=old))]

    return op, make, 1


def top_n(keys: Keys) -> tuple[Operator, Callable[[int], Made], int]:
    """Keep the three highest of each key."""
    rows_in = columns(k=keys.type, v="BIGINT", w="BIGINT")
    op = TopNOp(rows_in, ("k",), "row_number", (SortKey("v", True), SortKey("w")), 3, rows_in)

    def make(rows: int) -> Made:
        numbers = np.concatenate(keys.next(rows // 2))
        return [(0, batch(k=keys.shown(numbers), v=RNG.integers(0, 1 << 40, rows), w=numbers))]

    # most of the old keys have three rows before long, and every second row of a key finds a place
    return op, make, 1


RUNS = {"aggregate": aggregate, "join": join, "top n": top_n}


def run(what: str, kind: str, epoch_rows: int, begin: int, end: int) -> Figures:
    """Let a state grow from nothing to `end` rows; measure at `begin` and at `end`."""
    keys = Keys(kind)
    op, make, inputs_per_row = RUNS[what](keys)
    first = make(2)
    schemas = [b.schema for _, b in sorted(first, key=lambda pair: pair[0])]
    db = TaskDatabase(None, 16_384, "growth")
    operator = make_operator(op, db, schemas)
    cpu: list[float] = []
    wall: list[float] = []
    at, state = 0, 0
    epoch = 0
    while state < end:
        pieces = make(epoch_rows)
        cpu_begin, wall_begin = time.process_time(), time.perf_counter()
        for port, piece in pieces:
            for out in operator.process(port, piece):
                assert out.num_rows
        for out in operator.barrier(Barrier(epoch)):
            assert out.num_rows
        cpu.append(time.process_time() - cpu_begin)
        wall.append(time.perf_counter() - wall_begin)
        epoch += 1
        state += epoch_rows // inputs_per_row
        if not at and state >= begin:
            at = epoch
        if sys.stderr.isatty():
            print(f"\r{what}, {kind}: {state:,} rows of state\x1b[K", end="", file=sys.stderr)
    operator.close()
    db.close()
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3

    def ends(times: list[float]) -> tuple[float, float]:
        return statistics.median(times[at : at + MEASURED]), statistics.median(times[-MEASURED:])

    return Figures(what, kind, epoch_rows, (begin, state), ends(cpu), ends(wall), peak)


def main() -> None:
    """Run what the arguments ask for, each in a process of its own, and leave the figures in bench/data."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000, help="rows of an epoch")
    parser.add_argument("--begin", type=int, default=1_000_000)
    parser.add_argument("--to", type=int, default=20_000_000)
    parser.add_argument("--only", nargs="+", default=list(RUNS), choices=list(RUNS))
    parser.add_argument("--keys", nargs="+", default=["recent"], choices=["recent", "any", "text"])
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(asdict(run(args.only[0], args.keys[0], args.rows, args.begin, args.to))))
        return
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{args.rows:,} rows an epoch, one thread, state from {args.begin:,} to {args.to:,} rows\n")
    print(f"{'what':10} {'keys':7} {'CPU ms/epoch':>17} {'ratio':>6} {'wall ms/epoch':>17} {'ratio':>6} {'peak MB':>8}")
    results = []
    for kind in args.keys:
        for what in args.only:
            command = [sys.executable, "-m", "bench.growth", "--one", "--only", what, "--keys", kind]
            command += ["--rows", str(args.rows), "--begin", str(args.begin), "--to", str(args.to)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=OUT.parent.parent.parent)
            f = Figures(**json.loads(done.stdout))
            times = [f"{a * 1e3:7.1f} -> {b * 1e3:6.1f} {b / a:6.2f}" for a, b in (f.cpu_s, f.wall_s)]
            print(f"{what:10} {kind:7} {times[0]} {times[1]} {f.peak_mb:8,.0f}", flush=True)
            results.append(asdict(f))
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
