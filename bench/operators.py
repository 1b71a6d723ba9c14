"""What the operators cost: CPU-seconds per million input rows by size of epoch and of state.

python -m bench.operators [--keys 1000000 10000000] [--only final join recompute sql partial close]
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from cython_shuffle.frames import Barrier
from planner.task_spec import (
    ColumnSpec,
    FinalAggOp,
    JoinOp,
    PartialAggOp,
    PartialColumn,
    RecomputeOp,
    SqlOp,
)
from sabotd.operators.base import Operator
from sabotd.operators.factory import make_operator
from sabotd.state.duckdb_state import TaskDatabase

SECOND = 1_000_000
RNG = np.random.default_rng(42)
PARTIALS = (PartialColumn("__rows", "BIGINT", "sum"), PartialColumn("s", "BIGINT", "sum"))


def columns(**types: str) -> tuple[ColumnSpec, ...]:
    """Return plan columns."""
    return tuple(ColumnSpec(name, kind) for name, kind in types.items())


def batch(**arrays: np.ndarray | pa.Array) -> pa.RecordBatch:
    """Return a record batch of arrays."""
    return pa.RecordBatch.from_pydict({k: pa.array(v) for k, v in arrays.items()})


def spread(keys: np.ndarray) -> np.ndarray:
    """Scatter dense keys over all int64: no order to profit from."""
    return (keys.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)).astype(np.int64)


def epochs(
    name: str, op: object, fill: Sequence[pa.RecordBatch], feed: Iterator[list[tuple[int, pa.RecordBatch]]], reps: int
) -> None:
    """Fill the state with `fill` in one epoch, run `reps` epochs of `feed`, print the cost."""
    db = TaskDatabase(None, 8192, "bench")
    schemas = [
        next(b.schema for p, b in fill_ports(fill) if p == port) for port in sorted({p for p, _ in fill_ports(fill)})
    ]
    operator: Operator = make_operator(op, db, schemas)  # type: ignore[arg-type]
    for port, piece in fill_ports(fill):
        list(operator.process(port, piece))
    list(operator.barrier(Barrier(0)))
    costs, total = [], 0
    for epoch in range(1, reps + 1):
        pieces = next(feed)
        rows = sum(b.num_rows for _, b in pieces)
        begin = time.process_time()
        for port, piece in pieces:
            for start in range(0, piece.num_rows, 50_000):
                list(operator.process(port, piece.slice(start, 50_000)))
        list(operator.barrier(Barrier(epoch, epoch * SECOND)))
        costs.append(time.process_time() - begin)
        total += rows
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{name:44s} epoch {total // reps:>7,d}: {statistics.median(costs) * 1e3:8.2f} ms "
        f"(max {max(costs) * 1e3:7.1f})  {sum(costs) / total * 1e6:7.3f} CPU-s per M rows   peak {peak:6.0f} MiB",
        flush=True,
    )
    operator.close()
    db.close()


def fill_ports(fill: Sequence[object]) -> list[tuple[int, pa.RecordBatch]]:
    """Return (port, batch) pairs."""
    return [item if isinstance(item, tuple) else (0, item) for item in fill]  # type: ignore[misc]


def partial_rows(keys: np.ndarray) -> pa.RecordBatch:
    """Return partials of one row each."""
    return batch(k=keys, __rows=np.ones(len(keys), np.int64), s=RNG.integers(0, 1000, len(keys)))


def final(keys: int, size: int, reps: int, order: str) -> None:
    """Measure the grouped aggregate that shows its changes."""
    op = FinalAggOp(
        columns(k="BIGINT"), PARTIALS, ("__rows", "s / __rows"), columns(k="BIGINT", n="BIGINT", a="BIGINT")
    )
    place = spread if order == "random" else (lambda k: k)
    low = 0 if order != "recent" else keys - keys // 20
    feed = iter(lambda: [(0, partial_rows(place(RNG.integers(low, keys, size))))], None)
    epochs(f"final, {keys:,d} keys, {order}", op, [partial_rows(place(np.arange(keys)))], feed, reps)


def final_text(keys: int, size: int, reps: int) -> None:
    """Measure it with keys of text."""
    op = FinalAggOp(columns(k="VARCHAR"), PARTIALS, ("__rows", "s"), columns(k="VARCHAR", n="BIGINT", s="BIGINT"))

    def rows(ids: np.ndarray) -> pa.RecordBatch:
        made = partial_rows(ids)
        return made.set_column(0, "k", pa.array(np.char.add("user-", ids.astype("U12"))))

    feed = iter(lambda: [(0, rows(RNG.integers(0, keys, size)))], None)
    epochs(f"final, {keys:,d} text keys", op, [rows(np.arange(keys))], feed, reps)


def join(keys: int, size: int, reps: int, order: str) -> None:
    """Measure rows of one side against a state of the other."""
    left, right = columns(a="BIGINT", x="BIGINT"), columns(b="BIGINT", y="BIGINT")
    op = JoinOp(left, right, ("a",), ("b",), (False, False), left + right)
    place = spread if order == "random" else (lambda k: k)
    low = 0 if order != "recent" else keys - keys // 20
    fill = [
        (0, batch(a=place(np.arange(keys)), x=np.arange(keys))),
        (1, batch(b=np.zeros(0, np.int64), y=np.zeros(0, np.int64))),
    ]
    feed = iter(lambda: [(1, batch(b=place(RNG.integers(low, keys, size)), y=RNG.integers(0, 9, size)))], None)
    epochs(f"join against {keys:,d} rows, {order}", op, fill, feed, reps)  # type: ignore[arg-type]


def join_text(keys: int, size: int, reps: int) -> None:
    """Measure it with keys of text."""
    left, right = columns(a="VARCHAR", x="BIGINT"), columns(b="VARCHAR", y="BIGINT")
    op = JoinOp(left, right, ("a",), ("b",), (False, False), left + right)

    def text(ids: np.ndarray) -> pa.Array:
        return pa.array(np.char.add("user-", ids.astype("U12")))

    fill = [
        (0, batch(a=text(np.arange(keys)), x=np.arange(keys))),
        (1, batch(b=text(np.zeros(0, "i8")), y=np.zeros(0, "i8"))),
    ]
    feed = iter(lambda: [(1, batch(b=text(RNG.integers(0, keys, size)), y=RNG.integers(0, 9, size)))], None)
    epochs(f"join against {keys:,d} rows, text keys", op, fill, feed, reps)  # type: ignore[arg-type]


def recompute(keys: int, size: int, reps: int) -> None:
    """Measure the universal operator."""
    cols = columns(k="BIGINT", v="BIGINT")
    op = RecomputeOp(
        (cols,), (("k",),), "SELECT k, median(v) AS m FROM input GROUP BY k", columns(k="BIGINT", m="DOUBLE")
    )

    def rows(ids: np.ndarray) -> pa.RecordBatch:
        return batch(k=spread(ids), v=RNG.integers(0, 1000, len(ids)))

    feed = iter(lambda: [(0, rows(RNG.integers(0, keys, size)))], None)
    epochs(f"recompute median, {keys:,d} keys", op, [rows(np.arange(keys))], feed, reps)


def stateless(size: int, reps: int) -> None:
    """Measure what keeps nothing, and partial aggregates."""
    cols = columns(a="BIGINT", b="BIGINT", c="DOUBLE")
    sql = SqlOp("SELECT k AS a, v * 2 AS b, f * 0.908::DOUBLE AS c FROM input WHERE v % 4 <> 0", cols)

    def rows(n: int) -> pa.RecordBatch:
        return batch(k=np.arange(n), v=RNG.integers(0, 1000, n), f=RNG.random(n))

    epochs("filter and project", sql, [rows(1)], iter(lambda: [(0, rows(size))], None), reps)
    for groups in (1_000, 1_000_000):
        partial = PartialAggOp(
            "SELECT k, count(*) AS __rows, sum(v)::BIGINT AS s FROM input GROUP BY k", columns(k="BIGINT"), PARTIALS
        )
        feed = iter(lambda g=groups: [(0, batch(k=RNG.integers(0, g, size), v=RNG.integers(0, 1000, size)))], None)
        epochs(f"partial, {groups:,d} groups", partial, [batch(k=np.arange(1), v=np.arange(1))], feed, reps)


def close(size: int, reps: int) -> None:
    """Measure windows that close."""
    op = FinalAggOp(
        columns(k="BIGINT", e="TIMESTAMP"), PARTIALS, ("__rows",), columns(k="BIGINT", e="TIMESTAMP", n="BIGINT"), "e"
    )
    clock = iter(range(10**9))

    def rows(n: int) -> pa.RecordBatch:
        ends = (next(clock) + RNG.integers(1, 10, n)) * SECOND
        made = partial_rows(RNG.integers(0, 10_000, n))
        return made.add_column(1, "e", pa.array(ends).cast(pa.timestamp("us")))

    epochs("close, 10 windows of 10,000 keys", op, [rows(1)], iter(lambda: [(0, rows(size))], None), reps)


def main() -> None:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, nargs="+", default=[1_000_000])
    parser.add_argument("--epochs", type=int, nargs="+", default=[200, 10_000, 50_000, 200_000])
    parser.add_argument("--only", nargs="+", default=["sql", "final", "text", "join", "recompute", "close"])
    args = parser.parse_args()
    for size in args.epochs:
        reps = 12 if size >= 10_000 else 30
        if "sql" in args.only:
            stateless(size, reps)
        if "close" in args.only:
            close(size, reps)
        for keys in args.keys:
            if "final" in args.only:
                for order in ("random", "dense", "recent"):
                    final(keys, size, reps, order)
            if "text" in args.only:
                final_text(keys, size, reps)
                join_text(keys, size, reps)
            if "join" in args.only:
                for order in ("random", "recent"):
                    join(keys, size, reps, order)
            if "recompute" in args.only:
                recompute(keys, size, reps)


if __name__ == "__main__":
    main()
