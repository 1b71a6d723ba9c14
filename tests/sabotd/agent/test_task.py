"""A task over a table's log: what is written at once is in one epoch, wherever barriers fall."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from cython_shuffle.frames import Barrier
from planner.task_spec import ColumnSpec, FromOperator, LogSourceOp, OperatorNode, SinkOp, TaskSpec
from sabot.schema import Field
from sabotd.agent import messages as msg
from sabotd.agent.source import SourceDriver
from sabotd.agent.task import Task
from sabotd.state.duckdb_state import TaskDatabase
from sabotd.state.pinned import LogSourceReader
from sabotd.state.store import Store

COLUMNS = (ColumnSpec("k", "INTEGER"), ColumnSpec("v", "INTEGER"))
NODES = (
    OperatorNode(LogSourceOp("t", COLUMNS, weighted=True)),
    OperatorNode(SinkOp("s", "blackhole", {}, None, COLUMNS, weighted=True), (FromOperator(0),)),
)


class Impatient:
    """A sink that has the next barrier sent at every batch it gets."""

    def __init__(self) -> None:
        self.task: Task | None = None
        self.epochs: list[list[tuple[int, int, int]]] = [[]]
        self.injected = 0

    def process(self, port: int, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, ...]:
        self.epochs[-1] += [(r["k"], r["v"], r["__weight"]) for r in batch.to_pylist()]
        self.inject()
        return ()

    def inject(self, *, final: bool = False) -> None:
        assert self.task is not None
        self.injected += 1
        self.task.inject(msg.InjectBarrier("j", 1, self.injected, {"t": None}, (), final=final))

    def barrier(self, barrier: Barrier) -> tuple[pa.RecordBatch, ...]:
        self.epochs.append([])
        if barrier.epoch == 2:
            self.inject(final=True)
        return ()

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    opened = Store(tmp_path, scratch, memory_limit_mb=512, threads=1)
    yield opened
    opened.close()


def test_a_barrier_does_not_cut_a_change_in_two(store: Store) -> None:
    store.create_table("t", (Field("k", "INTEGER"), Field("v", "INTEGER")), ("k",), "k INTEGER, v INTEGER")
    reader = LogSourceReader(LogSourceOp("t", COLUMNS, weighted=True), store)
    for v in (10, 20):
        store.insert("t", pa.table({"k": [1, 2], "v": [v, v]}), ["k", "v"])
    db = TaskDatabase(None, 256, "t/0")
    driver = SourceDriver(
        "t", reader, db, columns=COLUMNS, idle_timeout_s=10.0, on_bad_records=lambda source, records: None
    )
    sink = Impatient()
    sink.task = Task("j", 1, TaskSpec("t/0", "t", 0, 1, NODES, (), pinned=True), [driver, sink], {}, {}, [].append)
    sink.task.run()
    sink.task.close()
    db.close()
    first, second, *rest = [sorted(e) for e in sink.epochs if e]
    assert first == [(1, 10, 1), (2, 10, 1)]
    assert second == [(1, 10, -1), (1, 20, 1), (2, 10, -1), (2, 20, 1)]
    assert rest == []


def test_a_reader_tells_how_much_of_the_snapshot_it_has_read(store: Store) -> None:
    store.create_table("t", (Field("k", "INTEGER"), Field("v", "INTEGER")), (), "k INTEGER, v INTEGER")
    store.insert("t", pa.table({"k": range(5000), "v": range(5000)}), ["k", "v"])
    reader = LogSourceReader(LogSourceOp("t", COLUMNS, weighted=True), store)
    store.insert("t", pa.table({"k": [1], "v": [1]}), ["k", "v"])
    assert reader.status().state == "filling from 't': 0 of 5000 rows"
    got = reader.read(2048, 0.0)
    assert got is not None
    assert reader.status().state == f"filling from 't': {got.batch.num_rows} of 5000 rows"
    while reader.status().state:
        assert reader.read(2048, 0.0) is not None
    assert reader.status().rows == 5001
    reader.close()
