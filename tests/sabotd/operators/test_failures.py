"""Rows on which an expression of a view fails: NULL there, and told of."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pytest

from cython_shuffle.frames import Barrier
from planner.plan import plan_view
from planner.task_spec import PartialAggOp, SqlOp
from sabot.ids import WEIGHT, JobId
from sabot.schema import arrow_schema
from sabotd.operators.factory import make_operator
from sabotd.operators.scalar_function import SHOWN, Failure
from sabotd.state.duckdb_state import TaskDatabase
from tests.support.memory_catalog import MemoryCatalog

DDL = "CREATE TABLE t (s VARCHAR, a INT, b INT, n NUMERIC(10, 2))"


class Told:
    def __init__(self) -> None:
        self.found: list[tuple[str, Failure, int]] = []

    def __call__(self, source: str, failures: Sequence[Failure], count: int) -> None:
        self.found += [(source, f, count) for f in failures]

    @property
    def said(self) -> dict[str, list[tuple[dict[str, Any], str]]]:
        """By column: what the rows held, and why they failed."""
        out: dict[str, list[tuple[dict[str, Any], str]]] = {}
        for source, (_, payload, reason), _ in self.found:
            out.setdefault(source, []).append((json.loads(payload), reason))
        return out


@pytest.fixture
def db() -> Iterator[TaskDatabase]:
    database = TaskDatabase(None, 256, "mv:x/1-sql/0")
    database.tell_failures = Told()
    yield database
    database.close()


def run(db: TaskDatabase, select: str, *rows: tuple[Any, ...], weights: Sequence[int] | None = None) -> list[Any]:
    """Run the first operator of a view that computes; return its rows."""
    return run_batches(db, f"SELECT {select} FROM t", rows, weights=weights)[0]


def run_batches(
    db: TaskDatabase, query: str, *batches: Sequence[tuple[Any, ...]], weights: Sequence[int] | None = None
) -> list[list[Any]]:
    """Run the first operator of a view that computes over batches, a barrier after each; return the rows of each."""
    catalog = MemoryCatalog(DDL)
    planned = plan_view(catalog.bind(query), job_id=JobId("mv:x"), relation="x", parallelism=1)
    op = next(n.op for t in planned.spec.tasks for n in t.nodes if isinstance(n.op, (SqlOp, PartialAggOp)))
    fields = [f for f in catalog.schema("t") if f'"{f.name}"' in op.sql]
    names = [f.name for f in catalog.schema("t")]
    schema = arrow_schema(tuple(fields)).append(pa.field(WEIGHT, pa.int32()))
    operator = make_operator(op, db, [schema])
    out = []
    for epoch, rows in enumerate(batches, start=1):
        arrays = [pa.array([row[names.index(f.name)] for row in rows], schema.field(f.name).type) for f in fields]
        arrays.append(pa.array(weights or [1] * len(rows), pa.int32()))
        found = [*operator.process(0, pa.RecordBatch.from_arrays(arrays, schema=schema))]
        found += operator.barrier(Barrier(epoch))
        out.append([tuple(row.values())[:-1] for batch in found for row in batch.to_pylist()])
    return out


def test_each_failure_is_told_with_its_row_and_reason(db: TaskDatabase) -> None:
    rows = [("1", 1, 0, 1), ("x", 5000, 2, 1), (None, None, None, None), ("y", 1, 1, 1)]
    assert run(db, "s::int AS i, a / b AS q, a * 1000000 AS p, ln(b) AS l", *rows)[:2] == [
        (1, None, 1000000, None),
        (None, 2500, None, pytest.approx(0.6931471805599453)),
    ]
    assert isinstance(db.tell_failures, Told)
    said = db.tell_failures.said
    assert [row for row, _ in said["column i"]] == [{"s": "x"}, {"s": "y"}]
    assert "'x'" in said["column i"][0][1]
    assert "'y'" in said["column i"][1][1]
    assert said["column q"] == [({"a": "1", "b": "0"}, '"a" / "b": division by zero')]
    assert [row for row, _ in said["column p"]] == [{"a": "5000"}]
    assert said["column l"][0][1].endswith("cannot take logarithm of a negative number or zero")


@pytest.mark.parametrize(
    "select",
    [
        "nullif(a, 1) AS x",
        "CASE WHEN a > 1 THEN s::int END AS x",
        "coalesce(NULL, a + b) AS x",
        "s::int AS x, a + b AS y",
    ],
)
def test_null_is_no_failure(db: TaskDatabase, select: str) -> None:
    run(db, select, ("1", 1, 0, 1), (None, None, None, None))
    assert isinstance(db.tell_failures, Told)
    assert db.tell_failures.found == []


def test_a_failure_inside_of_a_case_is_told(db: TaskDatabase) -> None:
    run(db, "CASE WHEN a > 1 THEN s::int END AS x", ("x", 1, 0, 1), ("y", 2, 0, 1))
    assert isinstance(db.tell_failures, Told)
    assert [row for row, _ in db.tell_failures.said["column x"]] == [{"a": "2", "s": "y"}]


def test_what_is_taken_back_is_not_told_again(db: TaskDatabase) -> None:
    run(db, "s::int AS x", ("x", 1, 1, 1), ("z", 1, 1, 1), weights=[-1, 1])
    assert isinstance(db.tell_failures, Told)
    assert [row for row, _ in db.tell_failures.said["column x"]] == [{"s": "z"}]


def test_some_are_shown_and_all_are_counted(db: TaskDatabase) -> None:
    run(db, "s::int AS x", *[("bad", i, i, 1) for i in range(100)])
    assert isinstance(db.tell_failures, Told)
    assert len(db.tell_failures.found) == SHOWN
    assert {count for _, _, count in db.tell_failures.found} == {100}


BAD = ("bad", 5, 0, 1)
GOOD = ("7", 1, 1, 1)


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("SELECT a FROM t WHERE s::int > 1", "condition"),
        ("SELECT a + 0 AS a FROM t WHERE s::int > 1 AND a > 0", "condition"),
        ("SELECT a FROM (SELECT s::int AS x, a FROM t) q WHERE x > 1", "column"),
        ("SELECT b, sum(s::int) AS n FROM t GROUP BY b", "column"),
        ("SELECT count(*) AS n FROM t WHERE s::int > 1", "condition"),
        ("SELECT b, count(*) FILTER (WHERE s::int > 1) AS n FROM t GROUP BY b", "column"),
    ],
)
def test_conditions_and_arguments_are_told(db: TaskDatabase, query: str, where: str) -> None:
    run_batches(db, query, [GOOD, GOOD], [GOOD, BAD, (None, 1, 1, 1)], [BAD], [GOOD])
    assert isinstance(db.tell_failures, Told)
    ((source, found),) = db.tell_failures.said.items()
    assert source.startswith(where)
    assert [row["s"] for row, _ in found] == ["bad", "bad"]
    assert all("'bad'" in reason for _, reason in found)


def test_a_condition_of_a_division(db: TaskDatabase) -> None:
    ((first, second),) = [run_batches(db, "SELECT s FROM t WHERE a / b > 2", [GOOD, BAD], [("x", 9, 2, 1)])]
    assert first == []
    assert second == [("x",)]
    assert isinstance(db.tell_failures, Told)
    assert db.tell_failures.said["condition"] == [({"a": "5", "b": "0"}, '"a" / "b" > 2: division by zero')]


def test_rows_that_another_condition_leaves_out_do_not_matter(db: TaskDatabase) -> None:
    run_batches(db, "SELECT a FROM t WHERE a = 1 AND s::int > 1", [GOOD, BAD])
    assert isinstance(db.tell_failures, Told)
    assert db.tell_failures.found == []


def test_what_stays_the_same_where_rows_fail(db: TaskDatabase) -> None:
    """The answer does not depend on which of its statements an operator runs."""
    query = "SELECT a, s::int AS x FROM t WHERE s::int + a > 3"
    good = [("3", 1, 1, 1), ("1", 1, 1, 1), (None, 9, 1, 1)]
    before, mixed, after = run_batches(db, query, good, [BAD, *good], good)
    assert before == mixed == after == [(1, 3)]


def test_a_condition_on_what_is_taken_back(db: TaskDatabase) -> None:
    run_batches(db, "SELECT a FROM t WHERE s::int > 1", [BAD, GOOD], weights=[-1, 1])
    assert isinstance(db.tell_failures, Told)
    assert db.tell_failures.found == []
