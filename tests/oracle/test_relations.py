"""Views that keep whole rows: at every barrier and parallelism what DuckDB says of the rows so far."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pyarrow as pa
import pytest

from planner.plan import PlannedJob, plan_view
from planner.task_spec import SourceOp
from sabot.ids import JobId
from sabot.schema import arrow_schema
from sabotd.state.duckdb_state import TaskDatabase
from sql_frontend.binder import bind_query
from tests.oracle import dependent_queries, relation_queries
from tests.oracle.harness import History, batch_answer
from tests.oracle.test_queries import EVENTS, ITEMS, Catalog, OneDatabase, ShufflingRunner, event, item
from tests.support import job_runner

BOTH_KINDS = "(SELECT k, v, f, NULL AS rate FROM events UNION ALL SELECT k, NULL, weight, rate FROM items)"
QUERIES = [
    sql.replace("both_kinds", f"{BOTH_KINDS} AS b")
    for text in (
        relation_queries.AGGREGATES,
        relation_queries.JOINS,
        relation_queries.SUBQUERIES,
        relation_queries.ROWS,
        dependent_queries.INEQUALITIES,
        dependent_queries.SELECT_LISTS,
        dependent_queries.AGGREGATES,
        dependent_queries.LATERAL,
        dependent_queries.SETS,
        dependent_queries.LEVELS,
        dependent_queries.JOINS,
        dependent_queries.QUANTIFIED,
        dependent_queries.AROUND,
    )
    for sql in relation_queries.listed(text)
]


@pytest.fixture(autouse=True)
def one_database(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    database = TaskDatabase(None, 512, "relations")
    monkeypatch.setattr(job_runner, "TaskDatabase", lambda *_: OneDatabase(database))
    yield
    database.close()


def plan(sql: str, parallelism: int) -> PlannedJob:
    return plan_view(bind_query(sql, Catalog()), job_id=JobId("mv:v"), relation="v", parallelism=parallelism)


@pytest.mark.parametrize("number", range(len(QUERIES)))
def test_a_view_of_whole_rows_is_the_batch_answer_at_every_barrier(number: int) -> None:
    sql = QUERIES[number]
    compare(sql, sql, (1, (2, 4, 7)[number % 3]))


@pytest.mark.parametrize("both", relation_queries.listed(dependent_queries.IN_OTHER_WORDS))
def test_a_view_is_what_duckdb_says_in_other_words(both: str) -> None:
    sql, in_duckdb = both.split(" == ")
    compare(sql, in_duckdb, (1, 2, 4, 7))


def compare(sql: str, in_duckdb: str, parallelisms: tuple[int, ...]) -> None:
    for parallelism in parallelisms:
        rng = random.Random(f"{sql}{parallelism}")
        numbers = iter(range(10_000))
        events = History(rng, arrow_schema(EVENTS), lambda: event(rng, next(numbers)), weighted=False)  # noqa: B023
        items = History(rng, arrow_schema(ITEMS), lambda: item(rng), weighted=True)  # noqa: B023
        spec = plan(sql, parallelism).spec
        runner = ShufflingRunner(spec, parallelism)
        try:
            for relation in {n.op.relation for t in spec.tasks for n in t.nodes if isinstance(n.op, SourceOp)}:
                if relation.startswith("rows("):
                    runner.feed(relation, pa.record_batch({"row": pa.array(range(int(relation[5:-1])), pa.int64())}))
            for size in (0, 30, 20):
                feeds = [("events", events.epoch(size)), ("items", items.epoch(rng.randint(5, 15)))]
                rng.shuffle(feeds)
                for relation, batch in feeds:
                    half = rng.randint(0, batch.num_rows)
                    runner.feed(relation, batch.slice(0, half))
                    runner.feed(relation, batch.slice(half))
                shown = runner.barrier()
                wanted = batch_answer(
                    f"SELECT * FROM ({in_duckdb})", {"events": events.table(), "items": items.table()}
                )
                assert shown == wanted, (sql, parallelism, shown - wanted, wanted - shown)
        finally:
            runner.close()


def test_of_equally_near_rows_the_least_is_joined() -> None:
    sql = "SELECT a.id, b.label, b.weight FROM events AS a ASOF JOIN items AS b ON a.k = b.k AND a.v >= b.rate"
    nearest = (
        "SELECT a.id, b.label, b.weight FROM events AS a JOIN items AS b ON a.k = b.k AND a.v >= b.rate"
        " QUALIFY row_number() OVER (PARTITION BY a.id ORDER BY b.rate DESC, b.label, b.weight) = 1"
    )
    rng = random.Random("nearest")
    numbers = iter(range(10_000))
    events = History(rng, arrow_schema(EVENTS), lambda: event(rng, next(numbers)), weighted=False)
    items = History(rng, arrow_schema(ITEMS), lambda: item(rng), weighted=True)
    runner = ShufflingRunner(plan(sql, 4).spec, 4)
    try:
        for _ in range(4):
            runner.feed("events", events.epoch(20))
            runner.feed("items", items.epoch(30))
            tables = {"events": events.table(), "items": items.table()}
            assert runner.barrier() == batch_answer(nearest, tables)
    finally:
        runner.close()
