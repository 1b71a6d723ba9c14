"""TPC-H's 22 queries as views over tables that change: after each flush what DuckDB says of the rows so far."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from planner.logical import Relation, RelationKind
from planner.plan import plan_view
from sabot.ids import JobId
from sabotd.state.duckdb_state import TaskDatabase
from sql_frontend.binder import bind_query
from tests.oracle.fuzz.mirror import Mirror, columns_of
from tests.oracle.harness import Bag
from tests.oracle.test_queries import OneDatabase, ShufflingRunner
from tests.oracle.tpch import rows
from tests.oracle.tpch.queries import QUERIES
from tests.support import job_runner

Feeds = list[tuple[str, object]]
ORDERS = 400


class Catalog:
    """The eight tables."""

    def lookup(self, name: str) -> Relation | None:
        table = rows.TABLES.get(name)
        if table is None:
            return None
        return Relation(name, RelationKind.TABLE, columns_of(table), append_only=False, stream_key=table.key)

    def names(self) -> list[str]:
        return sorted(rows.TABLES)


@pytest.fixture(autouse=True)
def one_database(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    database = TaskDatabase(None, 512, "tpch")
    monkeypatch.setattr(job_runner, "TaskDatabase", lambda *_: OneDatabase(database))
    yield
    database.close()


@pytest.fixture(scope="module")
def history() -> list[tuple[Feeds, dict[str, Bag]]]:
    """The changes up to each flush, and the answers there."""
    mirror = Mirror(tuple(rows.TABLES.values()))
    for name, sql in QUERIES.items():
        mirror.make_plain_view(name, sql)
    told = []
    for changes in (
        [*rows.first_rows(), *rows.new_orders(0, ORDERS)],
        [*rows.changed_rows(), *rows.gone_orders(0, 60)],
        [*rows.new_orders(ORDERS, 100), *rows.gone_orders(100, 40)],
    ):
        feeds: Feeds = [(change.table.name, mirror.change(change)) for change in changes]
        told.append((feeds, {name: mirror.answer(name) for name in QUERIES}))
    mirror.close()
    return told


@pytest.mark.parametrize("parallelism", [1, 4])
@pytest.mark.parametrize("name", QUERIES)
def test_a_query_over_changing_tables_is_the_batch_answer(
    name: str, parallelism: int, history: list[tuple[Feeds, dict[str, Bag]]]
) -> None:
    query = bind_query(QUERIES[name], Catalog())
    job = plan_view(query, job_id=JobId("mv:v"), relation="v", parallelism=parallelism)
    runner = ShufflingRunner(job.spec, parallelism)
    try:
        for feeds, answers in history:
            for table, batch in feeds:
                runner.feed(table, batch)  # type: ignore[arg-type]
            assert runner.barrier() == answers[name]
            assert answers[name]
    finally:
        runner.close()
