import datetime as dt
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest

from cython_shuffle.frames import Barrier
from planner.task_spec import LogSourceOp, SqlOp, UnionOp
from sabot.errors import InternalError, JobError
from sabotd.operators.factory import make_operator
from sabotd.state.duckdb_state import TaskDatabase
from tests.oracle.harness import columns

INPUT = pa.schema([("a", pa.int64()), ("j", pa.string())])


@pytest.fixture
def db() -> Iterator[TaskDatabase]:
    database = TaskDatabase(None, 256, "mv:x/1-sql/0")
    yield database
    database.close()


def batch(*a: int | None) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(a, pa.int64()), pa.array(['{"x": 1}'] * len(a))], schema=INPUT)


def test_columns_that_are_passed_on_are_not_copied(db: TaskDatabase) -> None:
    schema = pa.schema([*INPUT, pa.field("__weight", pa.int32())])
    given = batch(7, None).append_column("__weight", pa.array([1, -1], pa.int32()))
    op = SqlOp("SELECT j AS text, a AS x, a AS y, __weight FROM input", columns(text="VARCHAR", x="BIGINT", y="BIGINT"))
    passing = msgspec.structs.replace(op, passed=("j", "a", "a", "__weight"))
    (stated,) = make_operator(op, db, [schema]).process(0, given)
    (out,) = make_operator(passing, db, [schema]).process(0, given)
    assert out == stated
    assert out.column("text").buffers()[2].address == given.column("j").buffers()[2].address
    assert not list(make_operator(passing, db, [schema]).process(0, given.slice(0, 0)))


def test_columns_of_another_type_go_through_the_statement(db: TaskDatabase) -> None:
    op = SqlOp("SELECT CAST(a AS INTEGER) AS a FROM input", columns(a="INTEGER"), passed=("a",))
    (out,) = make_operator(op, db, [INPUT]).process(0, batch(7, None))
    assert out.column("a").equals(pa.array([7, None], pa.int32()))


def test_sql_gives_exactly_the_planned_types(db: TaskDatabase) -> None:
    sql = """SELECT a // 2 AS half, a / 2 AS ints, j->>'$.x' AS x, [a] AS l, {'y': a} AS s, 1 / 0 AS n,
             TIMESTAMP '2020-01-01' AS t, TIMESTAMPTZ '2020-01-01' AS tz, sum(a) OVER () AS h, 1.5::DECIMAL(9, 2) AS d,
             '00000000-0000-0000-0000-000000000001'::UUID AS u, '[]'::JSON AS js
             FROM input WHERE a > 1 OR a IS NULL"""
    types = columns(
        half="BIGINT",
        ints="BIGINT",
        x="VARCHAR",
        l="BIGINT[]",
        s="STRUCT(y BIGINT)",
        n="INTEGER",
        t="TIMESTAMP",
        tz="TIMESTAMPTZ",
        h="BIGINT",
        d="DECIMAL(12,2)",
        u="UUID",
        js="JSON",
    )
    operator = make_operator(SqlOp(sql, types), db, [INPUT])
    for _ in range(2):
        (out,) = operator.process(0, batch(7, 1, None))
        assert out.schema.names == [c.name for c in types]
        assert out.schema.field("h").type == pa.int64()
        assert out.schema.field("d").type == pa.decimal128(12, 2)
        assert out.schema.field("tz").type == pa.timestamp("us", tz="UTC")
        first = out.slice(0, 1).to_pylist()[0]
        assert (first["half"], first["ints"], first["x"], first["n"], first["h"]) == (3, 3, "1", None, 7)
        assert first["t"] == dt.datetime(2020, 1, 1)
        assert first["u"] == "00000000-0000-0000-0000-000000000001"
    assert not list(operator.process(0, batch(1)))
    assert not list(operator.process(0, batch()))
    assert not list(operator.barrier(Barrier(1)))


def test_operators_of_a_task_do_not_see_each_other(db: TaskDatabase) -> None:
    one = make_operator(SqlOp("SELECT a FROM input", columns(a="BIGINT")), db, [INPUT])
    two = make_operator(
        SqlOp("SELECT count(*) AS n FROM input", columns(n="BIGINT")), db, [pa.schema([("z", pa.int8())])]
    )
    assert [b.to_pydict() for b in one.process(0, batch(1, 2))] == [{"a": [1, 2]}]
    other = pa.RecordBatch.from_pydict({"z": pa.array([1, 2, 3], pa.int8())})
    assert [b.to_pydict() for b in two.process(0, other)] == [{"n": [3]}]


def test_a_plan_that_does_not_bind_is_our_error(db: TaskDatabase) -> None:
    with pytest.raises(InternalError, match="does not bind"):
        make_operator(SqlOp("SELECT nope FROM input", columns(a="BIGINT")), db, [INPUT])
    with pytest.raises(InternalError, match="gives columns"):
        make_operator(SqlOp("SELECT a FROM input", columns(b="BIGINT")), db, [INPUT])
    with pytest.raises(InternalError, match=r"a: double.*int64"):
        make_operator(SqlOp("SELECT a::DOUBLE AS a FROM input", columns(a="BIGINT")), db, [INPUT])
    with pytest.raises(InternalError, match="not made here"):
        make_operator(LogSourceOp("t", (), False), db, [])


def test_data_that_fails_is_the_jobs_error_and_leaves_the_operator_usable(db: TaskDatabase) -> None:
    operator = make_operator(SqlOp("SELECT (a * a)::TINYINT AS a FROM input", columns(a="TINYINT")), db, [INPUT])
    with pytest.raises(JobError, match="out of range"):
        operator.process(0, batch(100))
    assert [b.to_pydict() for b in operator.process(0, batch(3))] == [{"a": [9]}]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM glob('/*')",
        "COPY (SELECT 1) TO '/tmp/x.csv'",
        "ATTACH '/tmp/x.db'",
        "SET lock_configuration = false",
        "SET threads = 8",
        "INSTALL httpfs",
        "SELECT getenv('HOME')",
    ],
)
def test_sql_cannot_leave_the_database(db: TaskDatabase, sql: str) -> None:
    with pytest.raises(JobError):
        db.session().execute(sql)


def test_union_adds_weights_where_they_are_missing(db: TaskDatabase) -> None:
    plain = pa.schema([("a", pa.int64())])
    weighted = plain.append(pa.field("__weight", pa.int32()))
    operator = make_operator(UnionOp(columns(a="BIGINT"), True), db, [plain, weighted])
    (one,) = operator.process(0, pa.RecordBatch.from_pydict({"a": [5]}, schema=plain))
    (two,) = operator.process(1, pa.RecordBatch.from_pydict({"a": [6], "__weight": [-2]}, schema=weighted))
    assert one.to_pylist() == [{"a": 5, "__weight": 1}]
    assert two.to_pylist() == [{"a": 6, "__weight": -2}]
    assert one.schema.equals(two.schema)
    assert not list(operator.process(0, pa.RecordBatch.from_pydict({"a": []}, schema=plain)))
    assert not list(operator.barrier(Barrier(1)))
    with pytest.raises(InternalError, match="union input"):
        make_operator(UnionOp(columns(a="BIGINT"), False), db, [pa.schema([("b", pa.int64())])])


def test_state_beyond_the_limit_spills_into_its_folder_and_is_cleaned_up(tmp_path: Path) -> None:
    left = tmp_path / "state" / "job_1_agg_0"
    left.mkdir(parents=True)
    (left / "left_by_a_killed_process").touch()
    database = TaskDatabase(tmp_path / "state", 64, "job/1-agg/0")
    assert not list(left.iterdir())
    session = database.session()
    session.execute("CREATE TABLE t AS SELECT hash(i) AS h, repeat('x', 200) || i AS s FROM range(500000) r(i)")
    assert [path.parent for path in (tmp_path / "state").glob("*/*")][:1] == [left]
    total = session.prepare("SELECT count(*) AS n, count(DISTINCT h) AS d FROM t").batches()
    assert total[0].to_pylist() == [{"n": 500_000, "d": 500_000}]
    database.close()
    assert not list((tmp_path / "state").iterdir())


def test_too_little_memory_is_an_error_with_a_hint(tmp_path: Path) -> None:
    database = TaskDatabase(tmp_path, 8, "t")
    with pytest.raises(JobError) as caught:
        database.session().execute("SELECT list(repeat('x', 1000) || i) FROM range(100000) r(i)")
    assert caught.value.hint == "raise the task's memory limit"
    database.close()


def test_interrupt_ends_a_running_statement(db: TaskDatabase) -> None:
    session = db.session()
    statement = session.prepare("SELECT sum(a.i * b.i) FROM range(3000000) a(i), range(3000000) b(i)")
    failures: list[JobError] = []
    begun = threading.Event()

    def run() -> None:
        begun.set()
        with pytest.raises(JobError) as caught:
            statement.run()
        failures.append(caught.value)

    thread = threading.Thread(target=run)
    thread.start()
    begun.wait()
    while thread.is_alive():
        db.interrupt()
        thread.join(0.01)
    assert "nterrupt" in failures[0].message
