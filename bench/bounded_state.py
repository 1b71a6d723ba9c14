"""How the time of an epoch goes as rows come: a join that the watermark clears, one that keeps all, a filter by now().

Run with ``python -m bench.bounded_state``: milliseconds of the thread's CPU time an epoch of 20,000 rows a side, each
epoch one second later than the one before.
"""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa

from cython_shuffle.frames import Barrier
from planner.task_spec import ClockCondition, ColumnSpec, JoinOp, Operator, TemporalFilterOp
from sabotd.operators.factory import make_operator
from sabotd.state.duckdb_state import TaskDatabase

ROWS = 20_000
EPOCHS = 120
SECOND_US = 1_000_000
LEFT = (ColumnSpec("a", "BIGINT"), ColumnSpec("at", "TIMESTAMP"))
RIGHT = (ColumnSpec("b", "BIGINT"), ColumnSpec("seen", "TIMESTAMP"))


def schema(columns: tuple[ColumnSpec, ...]) -> pa.Schema:
    """Return the Arrow schema of a side."""
    return pa.schema([(columns[0].name, pa.int64()), (columns[1].name, pa.timestamp("us"))])


def join_op(*, expires: bool) -> JoinOp:
    """Return a join of rows at most five seconds apart."""
    return JoinOp(
        LEFT,
        RIGHT,
        ("a",),
        ("b",),
        (False, False),
        LEFT + RIGHT,
        residual_sql='"at" BETWEEN "seen" - INTERVAL \'5 seconds\' AND "seen" + INTERVAL \'5 seconds\'',
        expires=(("at", 5 * SECOND_US), ("seen", 5 * SECOND_US)) if expires else (),
    )


def measure(name: str, op: Operator, sides: list[pa.Schema]) -> None:
    """Run the epochs and print the mean of three stretches of twenty."""
    rng = np.random.default_rng(1)
    database = TaskDatabase(None, 2048, "bench")
    operator = make_operator(op, database, sides)
    spent: list[float] = []
    for epoch in range(EPOCHS):
        at = np.sort(epoch * SECOND_US + rng.integers(0, SECOND_US, ROWS)).astype("datetime64[us]")
        batches = [
            pa.record_batch([pa.array(rng.integers(0, 1_000_000, ROWS)), pa.array(at)], schema=side) for side in sides
        ]
        begun = time.thread_time()
        for port, batch in enumerate(batches):
            operator.process(port, batch)
        operator.barrier(Barrier(epoch, (epoch - 1) * SECOND_US, now_us=(epoch + 1) * SECOND_US))
        spent.append(time.thread_time() - begun)
    operator.close()
    database.close()
    means = [1000 * sum(spent[a : a + 20]) / 20 for a in (20, 60, 100)]
    print(f"{name:28}" + "".join(f"{mean:8.1f}" for mean in means))


def main() -> None:
    """Print the table."""
    print(f"{'ms an epoch':28}{'20-40':>8}{'60-80':>8}{'100-120':>8}")
    measure("join, 5 s apart, cleared", join_op(expires=True), [schema(LEFT), schema(RIGHT)])
    measure("join, 5 s apart, all kept", join_op(expires=False), [schema(LEFT), schema(RIGHT)])
    minute = ClockCondition('"at"', ">", "\"__now\" - INTERVAL '30 seconds'")
    measure("at > now() - 30 s", TemporalFilterOp(LEFT, (minute,), weighted=False), [schema(LEFT)])


if __name__ == "__main__":
    main()
