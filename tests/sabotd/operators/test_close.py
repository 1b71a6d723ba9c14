import random
from collections import Counter

import pyarrow as pa
import pytest

from cython_shuffle.frames import MAX_WATERMARK_US, Barrier
from planner.task_spec import CloseFilterOp, FinalAggOp, PartialColumn
from sabot.errors import InternalError
from sabotd.operators.close_agg import CloseAgg
from sabotd.operators.factory import make_operator
from sabotd.state.duckdb_state import TaskDatabase
from tests.oracle.harness import Bag, Instances, batch_answer, columns, cuts, fold

SECOND = 1_000_000
TIMES = {"TIMESTAMP": pa.timestamp("us"), "TIMESTAMP WITH TIME ZONE": pa.timestamp("us", tz="UTC")}


def close_op(kind: str) -> FinalAggOp:
    return FinalAggOp(
        columns(k="VARCHAR", e=kind),
        (PartialColumn("__rows", "BIGINT", "sum"), PartialColumn("sv", "HUGEINT", "sum")),
        ("__rows AS n", "sv"),
        columns(k="VARCHAR", e=kind, n="BIGINT", total="HUGEINT"),
        close_column="e",
    )


def partials(rng: random.Random, kind: str, n: int, low: int) -> pa.RecordBatch:
    ends = [(low + rng.randrange(6)) * SECOND for _ in range(n)]
    return pa.RecordBatch.from_arrays(
        [
            pa.array([rng.choice((None, "a", "b", "c")) for _ in ends], pa.string()),
            pa.array(ends, pa.int64()).cast(TIMES[kind]),
            pa.array([rng.randint(1, 3) for _ in ends], pa.int64()),
            pa.array([rng.choice((None, 1, 5)) for _ in ends], pa.decimal128(38, 0)),
        ],
        names=["k", "e", "__rows", "sv"],
    )


@pytest.mark.parametrize("parallelism", [1, 4])
@pytest.mark.parametrize("kind", TIMES)
def test_each_window_is_shown_once_when_the_watermark_passes(kind: str, parallelism: int) -> None:
    rng = random.Random(kind)
    instances = Instances(close_op(kind), [partials(rng, kind, 0, 0).schema], [("k",)], parallelism)
    shown: Bag = Counter()
    fed: list[pa.RecordBatch] = []
    for epoch in range(12):
        batch = partials(rng, kind, 30, epoch + 1)
        fed.append(batch)
        for piece in cuts(rng, batch, 3):
            assert not instances.feed(0, piece)
        watermark = (epoch + 1) * SECOND if epoch < 11 else MAX_WATERMARK_US
        out = instances.barrier(epoch, watermark)
        fold(shown, out)
        due = f" WHERE epoch_us(e) <= {watermark}"
        sql = f"SELECT k, e, sum(__rows)::BIGINT, sum(sv::HUGEINT) FROM t{due} GROUP BY k, e"
        assert shown == batch_answer(sql, {"t": pa.Table.from_batches(fed)})
        assert all(weight == 1 for weight in shown.values())
    assert not instances.barrier(12, MAX_WATERMARK_US)
    instances.close()


def test_a_partial_for_a_closed_window_is_counted_not_shown() -> None:
    rng = random.Random(1)
    with_db = TaskDatabase(None, 256, "t")
    operator = make_operator(close_op("TIMESTAMP"), with_db, [partials(rng, "TIMESTAMP", 0, 0).schema])
    assert isinstance(operator, CloseAgg)
    operator.process(0, partials(rng, "TIMESTAMP", 5, 1))
    assert operator.barrier(Barrier(1, 10 * SECOND))
    operator.process(0, partials(rng, "TIMESTAMP", 4, 3))
    assert not operator.barrier(Barrier(2, 20 * SECOND))
    assert operator.late[0].total == 4
    operator.close()
    with_db.close()


def test_state_of_many_small_epochs_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sabotd.operators.close_agg._COMPACT_ROWS", 50)
    rng = random.Random(2)
    with_db = TaskDatabase(None, 256, "t")
    operator = make_operator(close_op("TIMESTAMP"), with_db, [partials(rng, "TIMESTAMP", 0, 0).schema])
    assert isinstance(operator, CloseAgg)
    shown: Bag = Counter()
    fed = []
    for epoch in range(20):
        batch = partials(rng, "TIMESTAMP", 20, 1 + epoch // 4)
        fed.append(batch)
        operator.process(0, batch)
        fold(shown, operator.barrier(Barrier(epoch, epoch // 4 * SECOND)))
        assert operator._session.rows(operator._table) <= 100
    fold(shown, operator.barrier(Barrier(21, MAX_WATERMARK_US)))
    sql = "SELECT k, e, sum(__rows)::BIGINT, sum(sv::HUGEINT) FROM t GROUP BY k, e"
    assert shown == batch_answer(sql, {"t": pa.Table.from_batches(fed)})
    operator.close()
    with_db.close()


def test_close_column_must_be_a_key() -> None:
    op = FinalAggOp(columns(k="VARCHAR"), (), (), columns(k="VARCHAR"), close_column="e")
    db = TaskDatabase(None, 256, "t")
    with pytest.raises(InternalError, match="close column 'e' is not a key"):
        make_operator(op, db, [pa.schema([("k", pa.string())])])
    db.close()


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("kind", TIMES)
def test_held_rows_leave_once_in_their_final_form(weighted: bool, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sabotd.operators.close_filter._REWRITE_ROWS", 20)
    rng = random.Random(weighted)
    schema = pa.schema([("e", TIMES[kind]), ("v", pa.int64())])
    if weighted:
        schema = schema.append(pa.field("__weight", pa.int32()))
    op = CloseFilterOp(columns(e=kind, v="BIGINT"), "e", weighted)
    instances = Instances(op, [schema], [("v",)], 2)
    standing: Counter[tuple[int, int | None]] = Counter()
    shown: Bag = Counter()
    for epoch in range(8):
        changes = []
        for _ in range(20):
            open_rows = [row for row, n in standing.items() if n and row[0] > epoch * SECOND]
            if weighted and open_rows and rng.random() < 0.4:
                row, weight = rng.choice(open_rows), -1
            else:
                row, weight = ((epoch + 1 + rng.randrange(4)) * SECOND, rng.choice((None, 1, 2))), rng.choice((1, 2))
                weight = weight if weighted else 1
            standing[row] += weight
            changes.append((*row, weight))
        arrays = [pa.array(column) for column in zip(*changes, strict=True)]
        batch = pa.RecordBatch.from_arrays(
            [a.cast(f.type) for a, f in zip(arrays, schema, strict=False)], schema=schema
        )
        for piece in cuts(rng, batch, 3):
            instances.feed(0, piece)
        watermark = (epoch + 1) * SECOND if epoch < 7 else MAX_WATERMARK_US
        out = instances.barrier(epoch, watermark)
        assert all(b.schema.names == ["e", "v"] for b in out)
        got = fold(Counter(), [b.set_column(0, "e", b.column("e").cast(pa.int64())) for b in out])
        shown.update(got)
        assert shown == {row: n for row, n in standing.items() if n and row[0] <= watermark}
    instances.close()
