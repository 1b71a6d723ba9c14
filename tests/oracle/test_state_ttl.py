"""WITH (state_ttl = ...): nothing changes for keys touched in time; others are forgotten, by the barriers' clock."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pyarrow as pa
import pytest

from planner.plan import PlannedJob, plan_view
from sabot.ids import JobId
from sabot.schema import arrow_schema
from sabotd.state.duckdb_state import TaskDatabase
from sql_frontend.binder import bind_query
from tests.oracle.harness import History, batch_answer
from tests.oracle.test_queries import EVENTS, ITEMS, PARALLELISM, Catalog, OneDatabase, ShufflingRunner, event, item
from tests.support import job_runner

SECOND = 1_000_000
QUERIES = {
    "counts": "SELECT k, count(*) AS n, sum(rate) AS s FROM items GROUP BY k",
    "by text": "SELECT label, count(*) AS n FROM items GROUP BY label",
    "medians": "SELECT k, median(rate) AS m FROM items GROUP BY k",
    "a join": "SELECT i.label, e.id FROM items i JOIN events e ON i.k = e.k",
    "an outer join": "SELECT i.label, e.id FROM items i LEFT JOIN events e ON i.k = e.k",
    "all with all": "SELECT i.k, n.c FROM items i CROSS JOIN (SELECT count(*) AS c FROM events) n",
    "ranks": (
        "SELECT * FROM (SELECT k, label, row_number() OVER (PARTITION BY k ORDER BY rate, label) AS r FROM items)"
        " WHERE r <= 2"
    ),
}


@pytest.fixture(autouse=True)
def one_database(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    database = TaskDatabase(None, 512, "ttl")
    monkeypatch.setattr(job_runner, "TaskDatabase", lambda *_: OneDatabase(database))
    yield
    database.close()


def plan(sql: str, parallelism: int, ttl_us: int) -> PlannedJob:
    query = bind_query(sql, Catalog())
    return plan_view(query, job_id=JobId("mv:v"), relation="v", parallelism=parallelism, state_ttl_us=ttl_us)


@pytest.mark.parametrize("parallelism", PARALLELISM)
@pytest.mark.parametrize("name", QUERIES)
def test_within_the_ttl_a_view_is_the_batch_answer(name: str, parallelism: int) -> None:
    sql = QUERIES[name]
    rng = random.Random(f"{name}{parallelism}")
    numbers = iter(range(10_000))
    events = History(rng, arrow_schema(EVENTS), lambda: event(rng, next(numbers)), weighted=False)
    items = History(rng, arrow_schema(ITEMS), lambda: item(rng), weighted=True)
    # checks come every second, nothing is old enough to go
    runner = ShufflingRunner(plan(sql, parallelism, 8 * SECOND).spec, parallelism)
    try:
        for second in range(5):
            for relation, history in (("events", events), ("items", items)):
                runner.feed(relation, history.epoch(rng.randint(0, 20)))
            shown = runner.barrier(now_us=second * SECOND)
            assert shown == batch_answer(sql, {"events": events.table(), "items": items.table()})
    finally:
        runner.close()


class Table:
    """Feeds rows (k, label, rate, weight) of items with a sign."""

    def __init__(self, sql: str) -> None:
        self._job = plan(sql, 1, 8 * SECOND)
        self.runner = ShufflingRunner(self._job.spec, 1)

    def at(self, second: int, *rows: tuple[int, str, int]) -> list[tuple[object, ...]]:
        """Insert (or with a negative rate take away) rows; return the changes that the epoch told."""
        schema = arrow_schema(ITEMS).append(pa.field("__weight", pa.int32()))
        if rows:
            changes = [
                {"k": k, "label": label, "rate": abs(rate), "weight": None, "__weight": 1 if rate > 0 else -1}
                for k, label, rate in rows
            ]
            self.runner.feed("items", pa.RecordBatch.from_pylist(changes, schema=schema))
        before = Counter(self.runner.result)
        after = Counter(self.runner.barrier(now_us=second * SECOND))
        after.subtract(before)
        return sorted((*row, weight) for row, weight in after.items() if weight)


def test_a_group_that_nothing_touches_is_forgotten_and_begins_anew() -> None:
    table = Table("SELECT k, count(*) AS n FROM items GROUP BY k")
    try:
        assert table.at(0, (1, "a", 1), (1, "b", 1), (2, "a", 1)) == [(1, 2, 1), (2, 1, 1)]
        assert table.at(5, (2, "b", 1)) == [(2, 1, -1), (2, 2, 1)]
        assert table.at(9) == []
        # 1 was touched nine seconds ago, 2 four
        assert table.at(10, (1, "c", 1), (2, "c", 1)) == [(1, 1, 1), (2, 2, -1), (2, 3, 1)]
    finally:
        table.runner.close()


def test_rows_taken_from_a_group_that_was_forgotten_say_nothing() -> None:
    table = Table("SELECT k, count(*) AS n FROM items GROUP BY k")
    try:
        table.at(0, (1, "a", 1), (1, "b", 1))
        table.at(9)
        assert table.at(10, (1, "a", -1)) == []
        assert table.at(11, (1, "c", 1)) == [(1, 1, 1)]
    finally:
        table.runner.close()


def test_recomputed_keys_are_forgotten_with_all_their_rows() -> None:
    table = Table("SELECT k, median(rate) AS m FROM items GROUP BY k")
    try:
        assert table.at(0, (1, "a", 10), (1, "b", 20)) == [(1, 15.0, 1)]
        table.at(9)
        assert table.at(10, (1, "c", 30)) == [(1, 30.0, 1)]
    finally:
        table.runner.close()


def test_a_join_forgets_keys_that_neither_side_touches() -> None:
    table = Table("SELECT a.label, b.label AS other FROM items a JOIN items b ON a.k = b.rate")
    try:
        assert table.at(0, (7, "a", 1), (8, "c", 1)) == []
        assert table.at(5, (7, "d", 1)) == []  # 7 again, and 1 as a rate
        table.at(9)
        assert table.at(10, (3, "x", 7), (3, "y", 8)) == [("a", "x", 1), ("d", "x", 1)]
    finally:
        table.runner.close()


def test_a_temporal_join_forgets_what_left_rows_met() -> None:
    table = Table("SELECT a.label, b.rate FROM items a JOIN items FOR SYSTEM_TIME AS OF PROCTIME() b ON a.k = b.k")
    try:
        assert table.at(0, (1, "a", 5)) == [("a", 5, 1)]
        table.at(9)
        assert table.at(10, (1, "a", -5)) == []
    finally:
        table.runner.close()


def test_explain_tells_the_ttl_and_there_is_no_notice() -> None:
    job = plan("SELECT e.k, count(*) AS n FROM events e JOIN items i ON e.k = i.k GROUP BY e.k", 4, 86_400 * SECOND)
    assert job.explain().count("kept incrementally, state bounded by state_ttl 1 d") == 2
    assert not job.notices
