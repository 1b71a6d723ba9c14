"""Aggregates that are written otherwise than DuckDB has them, kept up under retractions: DuckDB's answer throughout."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from planner.plan import plan_view
from sabot.ids import JobId
from sabot.schema import arrow_schema
from sabotd.state.duckdb_state import TaskDatabase
from sql_frontend.binder import bind_query
from tests.oracle.harness import History, batch_answer
from tests.oracle.test_queries import ITEMS, Catalog, OneDatabase, ShufflingRunner, item
from tests.support import job_runner

LENGTH = "to_days(CAST(rate AS INTEGER)) + to_minutes(CAST(k AS INTEGER))"
OBJECT = (
    "'{' || coalesce(string_agg(to_json(label) || ':' || coalesce(CAST(to_json(m) AS VARCHAR), 'null'), ','"
    " ORDER BY length(label), label) FILTER (WHERE label IS NOT NULL), '') || '}'"
)
EQUAL = "CASE WHEN rate > 1 THEN INTERVAL '24 hours' WHEN rate < 0 THEN INTERVAL '1 day' ELSE INTERVAL '1 month' END"
ONE_FORM = "CASE WHEN rate > 1 OR rate < 0 THEN INTERVAL '1 day' ELSE INTERVAL '1 month' END"

QUERIES = {
    "sum of intervals": (
        f"SELECT label, sum({LENGTH}) AS s, min({LENGTH}) AS lo, count(*) AS n FROM items GROUP BY label",
        (
            "SELECT label, to_days(CAST(sum(rate) FILTER (k IS NOT NULL) AS INTEGER)) + to_minutes(CAST(sum(k) FILTER"
            f" (rate IS NOT NULL) AS INTEGER)) AS s, min({LENGTH}) AS lo, count(*) AS n FROM items GROUP BY label"
        ),
    ),
    "sum of intervals by FILTER and HAVING": (
        f"SELECT sum({LENGTH}) FILTER (WHERE rate > 1) AS s FROM items HAVING sum({LENGTH}) > INTERVAL '1 hour'",
        (
            "SELECT to_days(CAST(sum(rate) FILTER (k IS NOT NULL AND rate > 1) AS INTEGER)) + to_minutes(CAST(sum(k)"
            " FILTER (rate > 1) AS INTEGER)) AS s FROM items HAVING to_days(CAST(sum(rate) FILTER (k IS NOT NULL) AS"
            " INTEGER)) + to_minutes(CAST(sum(k) FILTER (rate IS NOT NULL) AS INTEGER)) > INTERVAL '1 hour'"
        ),
    ),
    "sum of different intervals": (
        "SELECT k, sum(DISTINCT to_days(CAST(rate AS INTEGER))) AS s FROM items GROUP BY k",
        "SELECT k, to_days(CAST(sum(DISTINCT rate) AS INTEGER)) AS s FROM items GROUP BY k",
    ),
    "sum of intervals over rows": (
        (
            "SELECT k, label, rate, sum(to_days(CAST(rate AS INTEGER))) OVER (PARTITION BY k ORDER BY rate, label) AS s"
            " FROM items"
        ),
        (
            "SELECT k, label, rate, to_days(CAST(sum(rate) OVER (PARTITION BY k ORDER BY rate, label) AS INTEGER)) AS s"
            " FROM items"
        ),
    ),
    "average of intervals": (f"SELECT k, avg({LENGTH}) AS a FROM items GROUP BY k", ""),
    "groups of equal intervals": (
        f"SELECT {EQUAL} AS i, count(*) AS n FROM items GROUP BY {EQUAL}",
        f"SELECT {ONE_FORM} AS i, count(*) AS n FROM items GROUP BY {ONE_FORM}",
    ),
    "different intervals": (f"SELECT DISTINCT {EQUAL} AS i FROM items", f"SELECT DISTINCT {ONE_FORM} AS i FROM items"),
    "grouping sets of intervals": (
        f"SELECT {EQUAL} AS i, k, count(*) AS n FROM items GROUP BY GROUPING SETS (({EQUAL}), (k), ())",
        f"SELECT {ONE_FORM} AS i, k, count(*) AS n FROM items GROUP BY GROUPING SETS (({ONE_FORM}), (k), ())",
    ),
    "sorted JSON array": (
        (
            "SELECT k, jsonb_agg(label ORDER BY rate DESC, label) AS a, json_agg(rate ORDER BY label, rate) AS b,"
            " jsonb_agg(label ORDER BY label) FILTER (WHERE rate > 1) AS f FROM items GROUP BY k"
        ),
        (
            "SELECT k, CAST(to_json(list(label ORDER BY rate DESC, label)) AS VARCHAR) AS a, CAST(to_json(list(rate"
            " ORDER BY label, rate)) AS VARCHAR) AS b, CAST(to_json(list(label ORDER BY label) FILTER (WHERE rate > 1))"
            " AS VARCHAR) AS f FROM items GROUP BY k"
        ),
    ),
    "JSON array of different values": (
        "SELECT k, jsonb_agg(DISTINCT label ORDER BY label) AS a FROM items GROUP BY k",
        "SELECT k, CAST(to_json(list(DISTINCT label ORDER BY label)) AS VARCHAR) AS a FROM items GROUP BY k",
    ),
    "JSON array of rows": (
        "SELECT jsonb_agg((row(k, label)).* ORDER BY k, label) AS a FROM items",
        "SELECT CAST(to_json(list({'f1': k, 'f2': label} ORDER BY k, label)) AS VARCHAR) AS a FROM items",
    ),
    "JSON object, the last value of each key": (
        "SELECT k, jsonb_object_agg(label, rate) AS o FROM items GROUP BY k",
        f"SELECT k, {OBJECT} AS o FROM (SELECT k, label, max(rate) AS m FROM items GROUP BY k, label) GROUP BY k",
    ),
    "sorted JSON object, the last value of each key": (
        (
            "SELECT k, jsonb_object_agg(label, rate ORDER BY rate DESC NULLS FIRST) FILTER (WHERE rate < 4) AS o"
            " FROM items GROUP BY k"
        ),
        (
            f"SELECT k, CASE WHEN bool_or(r) THEN {OBJECT.replace('label IS NOT', 'r AND label IS NOT')} END AS o"
            " FROM (SELECT k, label, coalesce(rate < 4, false) AS r, min(rate) AS m FROM items GROUP BY ALL) GROUP BY k"
        ),
    ),
    "sorted JSON object with all pairs": (
        "SELECT k, json_object_agg(label, rate ORDER BY label, rate) AS o FROM items GROUP BY k",
        (
            "SELECT k, '{' || coalesce(string_agg(to_json(label) || ':' || coalesce(CAST(rate AS VARCHAR), 'null'), ','"
            " ORDER BY label, rate) FILTER (WHERE label IS NOT NULL), '') || '}' AS o FROM items GROUP BY k"
        ),
    ),
    "percentiles from the end": (
        (
            "SELECT k, percentile_disc(0.3) WITHIN GROUP (ORDER BY rate DESC) AS d, percentile_cont(0.25) WITHIN GROUP"
            " (ORDER BY weight DESC) AS c, percentile_disc(0) WITHIN GROUP (ORDER BY rate DESC) AS hi,"
            " percentile_disc(1) WITHIN GROUP (ORDER BY rate DESC) AS lo FROM items GROUP BY k"
        ),
        (
            "SELECT k, percentile_disc(0.3) WITHIN GROUP (ORDER BY rate DESC) AS d, percentile_cont(0.25) WITHIN GROUP"
            " (ORDER BY weight DESC) AS c, max(rate) AS hi, min(rate) AS lo FROM items GROUP BY k"
        ),
    ),
    "several percentiles": (
        "SELECT percentile_cont(ARRAY[0.1, 0.5, 1]) WITHIN GROUP (ORDER BY rate) AS c FROM items",
        "SELECT quantile_cont(rate, [0.1, 0.5, 1]) AS c FROM items",
    ),
    "percentile of an unknown fraction": (
        (
            "SELECT k, percentile_cont(NULL) WITHIN GROUP (ORDER BY weight) AS c, percentile_disc(0.5 + NULL) WITHIN"
            " GROUP (ORDER BY label) AS d, count(*) AS n FROM items GROUP BY k"
        ),
        "SELECT k, CAST(NULL AS DOUBLE) AS c, CAST(NULL AS VARCHAR) AS d, count(*) AS n FROM items GROUP BY k",
    ),
    "mode, the first of those as frequent": (
        "SELECT mode() WITHIN GROUP (ORDER BY label) AS m, mode() WITHIN GROUP (ORDER BY label DESC) AS d FROM items",
        "SELECT mode(label ORDER BY label) AS m, mode(label ORDER BY label DESC) AS d FROM items",
    ),
}


@pytest.fixture(autouse=True)
def one_database(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    database = TaskDatabase(None, 512, "aggregates")
    monkeypatch.setattr(job_runner, "TaskDatabase", lambda *_: OneDatabase(database))
    yield
    database.close()


def followed(sql: str, batch: str, parallelism: int) -> None:
    """Compare the view of `sql` with DuckDB's answer to `batch` while rows come and go."""
    planned = plan_view(bind_query(sql, Catalog()), job_id=JobId("mv:v"), relation="v", parallelism=parallelism)
    rng = random.Random(f"{sql}{parallelism}")
    items = History(rng, arrow_schema(ITEMS), lambda: item(rng), weighted=True)
    runner = ShufflingRunner(planned.spec, parallelism)
    try:
        for size in (0, 25, 8, 20):
            changes = items.epoch(size)
            half = rng.randint(0, changes.num_rows)
            runner.feed("items", changes.slice(0, half))
            runner.feed("items", changes.slice(half))
            shown = runner.barrier()
            wanted = batch_answer(batch, {"items": items.table()})
            assert shown == wanted, (sql, parallelism, shown - wanted, wanted - shown)
    finally:
        runner.close()


@pytest.mark.parametrize("name", QUERIES)
def test_an_aggregate_is_the_batch_answer_at_every_barrier(name: str) -> None:
    sql, batch = QUERIES[name]
    for parallelism in (1, 2, 4, 7):
        followed(sql, batch or sql, parallelism)
