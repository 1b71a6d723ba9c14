"""Rows by key: whatever the cut, what has been told adds up to the last row of each key."""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter

import pyarrow as pa
import pytest

from cython_shuffle.frames import Barrier
from planner.job_columns import columns_schema
from planner.task_spec import ColumnSpec, UpsertOp
from sabotd.operators.factory import make_operator
from sabotd.state.duckdb_state import TaskDatabase
from tests.oracle.harness import Bag, fold

PLAIN = (ColumnSpec("k", "INTEGER"), ColumnSpec("s", "VARCHAR"), ColumnSpec("v", "BIGINT"))
MARKED = (*PLAIN, ColumnSpec("__wm", "TIMESTAMP"))


def changes(rows: list[tuple[object, ...]], columns: tuple[ColumnSpec, ...]) -> pa.RecordBatch:
    schema = columns_schema(columns).append(pa.field("__weight", pa.int32()))
    return pa.RecordBatch.from_pylist([dict(zip(schema.names, r, strict=True)) for r in rows], schema=schema)


@pytest.mark.parametrize("marked", [False, True])
def test_what_is_told_adds_up_to_the_last_row_of_each_key(marked: bool) -> None:
    rng = random.Random(3)
    columns = MARKED if marked else PLAIN
    db = TaskDatabase(None, 256, "t")
    schema = columns_schema(columns).append(pa.field("__weight", pa.int32()))
    operator = make_operator(UpsertOp(columns, ("k", "s")), db, [schema])
    last: dict[tuple[object, object], int | None] = {}
    told: Bag = Counter()
    for epoch in range(30):
        rows: list[tuple[object, ...]] = []
        for _ in range(rng.randint(0, 12)):
            key = (rng.choice((None, 1, 2)), rng.choice((None, "a")))
            value = rng.choice((None, 1, 2, 3))
            mark = (dt.datetime(2024, 1, 1) + dt.timedelta(seconds=epoch),) if marked else ()
            if rng.random() < 0.3:
                rows.append((*key, None, *mark, -1))
                last.pop(key, None)
            else:
                rows.append((*key, value, *mark, 1))
                last[key] = value
        cut = rng.randint(0, len(rows))
        for part in (rows[:cut], rows[cut:]):
            list(operator.process(0, changes(part, columns)))
        out = list(operator.barrier(Barrier(epoch + 1, None)))
        if marked:
            # a retracted row has the watermark of the change that ends it
            assert {m for b in out for m in b.column("__wm").to_pylist()} <= {row[3] for row in rows}
            out = [b.drop_columns(["__wm"]) for b in out]
        fold(told, out)
        assert told == Counter((*key, value) for key, value in last.items())
    operator.close()
    db.close()


def test_every_change_is_told_where_rows_carry_their_watermark() -> None:
    db = TaskDatabase(None, 256, "t")
    schema = columns_schema(MARKED).append(pa.field("__weight", pa.int32()))
    operator = make_operator(UpsertOp(MARKED, ("k",)), db, [schema])
    first, second = dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 2)
    list(operator.process(0, changes([(1, "a", 1, first, 1), (1, "b", 2, second, 1)], MARKED)))
    out = pa.Table.from_batches(operator.barrier(Barrier(1, None)))
    rows = sorted(zip(*(c.to_pylist() for c in out.columns), strict=True), key=str)
    assert rows == [(1, "a", 1, first, 1), (1, "a", 1, second, -1), (1, "b", 2, second, 1)]
    operator.close()
    db.close()
