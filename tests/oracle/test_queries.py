"""SQL text, bound and planned, run over random tables in random cuts: at every barrier it is DuckDB's batch answer."""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any

import pyarrow as pa
import pytest

from cython_shuffle.partitioner import Partitioner, RebalancePartitioner
from planner.job_columns import output_schema
from planner.logical import Relation, RelationKind, Watermark
from planner.plan import PlannedJob, plan_view
from planner.task_spec import EdgeSpec, LogSourceOp, SourceOp
from sabot.ids import ROW_WATERMARK, JobId
from sabot.schema import Field, Schema, arrow_schema
from sabotd.state.duckdb_state import TaskDatabase
from sql_frontend.binder import bind_query
from sql_frontend.catalog import ViewDefinition
from tests.oracle.harness import History, Row, batch_answer
from tests.support import job_runner
from tests.support.job_runner import JobRunner

PARALLELISM = (1, 2, 4, 7)
SECOND = 1_000_000
START = dt.datetime(2024, 5, 1, 12, 0, 0)

EVENTS: Schema = (
    Field("id", "BIGINT"),
    Field("k", "INTEGER"),
    Field("name", "VARCHAR"),
    Field("v", "BIGINT"),
    Field("price", "DECIMAL(10,2)"),
    Field("f", "DOUBLE"),
    Field("ok", "BOOLEAN"),
    Field("doc", "JSON"),
    Field("person", "STRUCT(city VARCHAR, age INTEGER)"),
    Field("ts", "TIMESTAMP"),
)
ITEMS: Schema = (
    Field("k", "INTEGER"),
    Field("label", "VARCHAR"),
    Field("rate", "BIGINT"),
    Field("weight", "DOUBLE"),
)


class Catalog:
    """An append-only watermarked source, a table with retractions, and plain views."""

    def __init__(self) -> None:
        watermark = Watermark("ts", "\"ts\" - INTERVAL '2 seconds'")
        self._relations: dict[str, Relation | ViewDefinition] = {
            "events": Relation(
                "events", RelationKind.SOURCE, EVENTS, append_only=True, watermark=watermark, connector="datagen"
            ),
            "items": Relation("items", RelationKind.TABLE, ITEMS, append_only=False),
            "big_events": ViewDefinition("big_events", "SELECT id, k, v FROM events WHERE v > 0"),
            "per_key": ViewDefinition("per_key", "SELECT k, count(*) FROM items GROUP BY k", ("key", "n")),
        }

    def lookup(self, name: str) -> Relation | ViewDefinition | None:
        return self._relations.get(name)

    def names(self) -> Sequence[str]:
        return sorted(self._relations)


@dataclass(frozen=True)
class Query:
    """A streaming query; `batch` is DuckDB's text where the streaming one is not DuckDB's."""

    sql: str
    batch: str = ""
    on_close: str = ""
    """The result column that the watermark must have reached, of EMIT ON WINDOW CLOSE."""


def windows(size: int, slide: int) -> str:
    """DuckDB's text for the rows of TUMBLE and HOP, in seconds."""
    first = f"floor((epoch_us(ts) - {size * SECOND}) / {slide * SECOND}.0)::BIGINT + 1"
    last = f"(epoch_us(ts) // {slide * SECOND})"
    return (
        f"(SELECT *, make_timestamp(w * {slide * SECOND}) AS window_start,"
        f" make_timestamp(w * {slide * SECOND} + {size * SECOND}) AS window_end"
        f" FROM (SELECT *, unnest(range({first}, {last} + 1)) AS w FROM events WHERE ts IS NOT NULL))"
    )


CUMULATED = (
    "(SELECT *, s AS window_start, s + n * INTERVAL '5 seconds' AS window_end FROM (SELECT *,"
    " time_bucket(INTERVAL '15 seconds', ts, TIMESTAMP '1970-01-01') AS s FROM events WHERE ts IS NOT NULL)"
    " CROSS JOIN (VALUES (1), (2), (3)) AS c(n) WHERE s + n * INTERVAL '5 seconds' > ts)"
)
CUMULATE = "CUMULATE(events, ts, INTERVAL '5 seconds', INTERVAL '15 seconds')"
TUMBLE = "TUMBLE(events, ts, INTERVAL '10 seconds')"
HOP = "HOP(events, ts, INTERVAL '5 seconds', INTERVAL '15 seconds')"

BEST_OF_WINDOW = (
    "SELECT e.id, e.v, w.window_start AS s FROM events AS e JOIN"
    " (SELECT max(v) AS top, window_start, window_end FROM {} GROUP BY window_start, window_end) AS w"
    " ON e.v = w.top WHERE e.ts >= w.window_start AND e.ts < w.window_end"
)

QUERIES: dict[str, Query] = {
    "rows with their window's maximum": Query(
        BEST_OF_WINDOW.format(TUMBLE), BEST_OF_WINDOW.format(windows(10, 10) + " AS rows")
    ),
    "projection": Query("SELECT id, v * 2 - 1 AS d, v / 2 AS h, v % 3 AS m, -f AS nf, name || '!' AS n FROM events"),
    "filter": Query("SELECT id FROM events WHERE (v > 0 AND NOT ok) OR name IN ('a', 'b') OR f BETWEEN 0 AND 1"),
    "filter of retractions": Query("SELECT label, rate FROM items WHERE rate IS NOT NULL AND label LIKE '%a%'"),
    "case": Query("SELECT id, CASE WHEN v > 2 THEN 'high' WHEN v IS NULL THEN 'none' ELSE 'low' END AS c FROM events"),
    "casts": Query(
        "SELECT CAST(v AS VARCHAR) AS s, CAST(price AS DOUBLE) AS p, CAST(f AS DECIMAL(12, 3)) AS d,"
        " CAST(ts AS DATE) AS day, CAST(v AS SMALLINT) AS sm, coalesce(name, 'x') AS n, nullif(k, 1) AS z FROM events"
    ),
    "functions": Query(
        "SELECT upper(name) AS u, length(name) AS l, abs(v) AS a, greatest(v, k) AS g, round(price, 1) AS r FROM events"
    ),
    "json": Query("SELECT id, doc->>'a' AS a, CAST(doc->>'b' AS BIGINT) AS b FROM events WHERE doc->>'a' <> 'z'"),
    "struct": Query(
        "SELECT (person).city AS city, count(*) AS n FROM events WHERE (person).age > 20 GROUP BY (person).city",
        "SELECT person.city AS city, count(*) AS n FROM events WHERE person.age > 20 GROUP BY person.city",
    ),
    "join by an inequality": Query("SELECT e.id, i.label FROM events e JOIN items i ON e.k < i.k AND e.v > 2"),
    "all with all": Query("SELECT i.k, n.c FROM items i CROSS JOIN (SELECT count(*) AS c FROM events) n"),
    "count": Query("SELECT count(*) AS n, count(v) AS nv FROM events"),
    "count of rows": Query("SELECT count(*) AS n FROM events"),
    "count of rows by nothing kept": Query("SELECT count(*) AS n FROM items GROUP BY k"),
    "unknown": Query(
        "SELECT id, (v > 0) IS UNKNOWN AS u, ok IS NOT UNKNOWN AS k, (v > 0) IS NOT TRUE AS t FROM events"
        " WHERE (k = v) IS NOT FALSE",
        "SELECT id, (v > 0) IS NULL AS u, ok IS NOT NULL AS k, (v > 0) IS NOT TRUE AS t FROM events"
        " WHERE (k = v) IS NOT FALSE",
    ),
    "strings beside numbers and times": Query(
        "SELECT v + '2' AS a, '10' - v AS b, f * '0.5' AS c, ts - '2020-01-01' < '1 day' AS d, name COLLATE \"C\" AS n"
        " FROM events",
        "SELECT v + 2 AS a, 10 - v AS b, f * 0.5 AS c, ts - TIMESTAMP '2020-01-01' < INTERVAL '1 day' AS d, name AS n"
        " FROM events",
    ),
    "rows cast by place": Query(
        "SELECT CAST(ROW(k, name) AS STRUCT<n SMALLINT, s VARCHAR>) AS r,"
        " ARRAY[ROW(id, person)]::STRUCT<i INT, p STRUCT<town VARCHAR, years SMALLINT>>[] AS l FROM events",
        "SELECT {'n': k::SMALLINT, 's': name} AS r, [{'i': id::INT, 'p': CASE WHEN person IS NOT NULL"
        " THEN {'town': person.city, 'years': person.age::SMALLINT} END}] AS l FROM events",
    ),
    "rows as text": Query(
        "SELECT id, ROW(id, name, person)::VARCHAR AS r, person::VARCHAR AS p FROM events",
        "SELECT id, '(' || id || ',' || CASE name WHEN '' THEN '\"\"' ELSE coalesce(name, '') END || ',' ||"
        " CASE WHEN person IS NULL THEN '' ELSE '\"(' || coalesce(person.city, '') || ',' || coalesce("
        "CAST(person.age AS VARCHAR), '') || ')\"' END || ')' AS r, CASE WHEN person IS NOT NULL THEN '(' ||"
        " coalesce(person.city, '') || ',' || coalesce(CAST(person.age AS VARCHAR), '') || ')' END AS p FROM events",
    ),
    "groups by rows": Query(
        "SELECT ROW(k, label)::STRUCT<n BIGINT, s VARCHAR> AS r, count(*) AS n FROM items GROUP BY 1",
        "SELECT {'n': k::BIGINT, 's': label} AS r, count(*) AS n FROM items GROUP BY 1",
    ),
    "maps": Query(
        "SELECT id, MAP {'k': k, 'v': v} AS m, map {coalesce(k, -1): name}[0] AS z, map([id], [f])[id] AS f,"
        " map_keys(MAP {coalesce(name, '-'): 1}) AS ks, cardinality(map_insert(MAP {1: 2}, 3, k)) AS c FROM events",
        "SELECT id, MAP {'k': k, 'v': v} AS m, CASE WHEN k = 0 THEN name END AS z, f,"
        " [coalesce(name, '-')] AS ks, 2::UBIGINT AS c FROM events",
    ),
    "a map that fails is NULL": Query(
        "SELECT id, MAP {k: 1, v: 2} AS m FROM events",
        "SELECT id, TRY(map([k, v], [1, 2])) AS m FROM events",
    ),
    "groups by maps": Query(
        "SELECT MAP {coalesce(label, '-'): k} AS m, count(*) AS n, sum(rate) AS s FROM items GROUP BY 1",
    ),
    "ordinality": Query(
        "SELECT i.label, ordinality, x.x FROM items i, unnest(ARRAY[i.k, i.rate]) WITH ORDINALITY AS x",
        "SELECT label, unnest([1::BIGINT, 2]) AS ordinality, unnest([k, rate]) AS x FROM items",
    ),
    "ordinality of a series": Query(
        "SELECT i.k, s.v, s.n FROM items i LEFT JOIN LATERAL generate_series(1, i.rate) WITH ORDINALITY AS s(v, n)"
        " ON true",
        "SELECT k, CASE WHEN rate > 0 THEN unnest(range(1, rate + 1)) END AS v, v AS n FROM items WHERE rate > 0"
        " UNION ALL SELECT k, NULL, NULL FROM items WHERE coalesce(rate, 0) <= 0",
    ),
    "a series of mixed steps": Query(
        "SELECT id, t FROM events, generate_series(ts, ts - INTERVAL '70 days',"
        " INTERVAL '1 month' - INTERVAL '60 days') AS s(t)",
        "WITH RECURSIVE s AS (SELECT id, ts AS t, ts - INTERVAL '70 days' AS last FROM events WHERE ts IS NOT NULL"
        " UNION ALL SELECT id, t + (INTERVAL '1 month' - INTERVAL '60 days'), last FROM s"
        " WHERE t + (INTERVAL '1 month' - INTERVAL '60 days') >= last) SELECT id, t FROM s",
    ),
    "hours of a zone's clocks": Query(
        "SELECT date_trunc('hour', (ts + id * INTERVAL '17 days') AT TIME ZONE 'UTC', 'Australia/Lord_Howe') AS h,"
        " date_trunc('day', (ts + id * INTERVAL '17 days') AT TIME ZONE 'UTC', 'Australia/Lord_Howe') AS d FROM events",
        "SELECT u - (timezone('Australia/Lord_Howe', u) - date_trunc('hour', timezone('Australia/Lord_Howe', u))) AS h"
        ", timezone('Australia/Lord_Howe', date_trunc('day', timezone('Australia/Lord_Howe', u))) AS d"
        " FROM (SELECT timezone('UTC', ts + id * INTERVAL '17 days') AS u FROM events)",
    ),
    "constants": Query("SELECT 1 AS one, 'x' AS x FROM items"),
    "global aggregates": Query(
        "SELECT sum(v) AS s, min(v) AS lo, max(name) AS hi, avg(v) AS m, sum(f) AS f FROM events"
    ),
    "global over retractions": Query(
        "SELECT count(*) AS n, sum(rate) AS s, min(rate) AS lo, avg(weight) AS w FROM items"
    ),
    "group by": Query(
        "SELECT k, count(*) AS n, sum(v) AS s, min(price) AS lo, max(f) AS hi, avg(v) AS m, sum(price) AS p"
        " FROM events GROUP BY k"
    ),
    "group by expressions": Query("SELECT k % 2 AS even, name, count(*) AS n FROM events GROUP BY k % 2, name"),
    "group over retractions": Query(
        "SELECT k, count(*) AS n, count(label) AS c, sum(rate) AS s, min(label) AS lo, max(rate) AS hi, avg(rate) AS m,"
        " sum(weight) AS w FROM items GROUP BY k"
    ),
    "distinct aggregate": Query("SELECT k, count(DISTINCT label) AS n FROM items GROUP BY k"),
    "filtered aggregate": Query(
        "SELECT k, count(*) FILTER (WHERE ok) AS n, sum(v) FILTER (WHERE v > 0) AS s FROM events GROUP BY k"
    ),
    "having": Query("SELECT k, sum(rate) AS s FROM items GROUP BY k HAVING count(*) > 2 AND sum(rate) > 0"),
    "aggregate of aggregate": Query(
        "SELECT n, count(*) AS groups, max(s) AS s FROM (SELECT k, count(*) AS n, sum(v) AS s FROM events GROUP BY k)"
        " AS g GROUP BY n"
    ),
    "join": Query("SELECT e.id, e.v, i.label FROM events AS e JOIN items AS i ON e.k = i.k"),
    "join with residual": Query(
        "SELECT e.id, i.rate FROM events AS e JOIN items AS i ON e.k = i.k AND e.v < i.rate WHERE i.label IS NOT NULL"
    ),
    "cross join with an aggregate": Query(
        "SELECT i.label, g.top FROM items AS i JOIN (SELECT max(rate) AS top FROM items) AS g ON i.rate = g.top"
    ),
    "join of constants": Query("SELECT i.label FROM items AS i JOIN items AS j ON i.k = j.k WHERE j.rate = 3"),
    "join by two keys": Query(
        "SELECT e.id, i.weight FROM events AS e JOIN items AS i ON e.k = i.k AND e.name = i.label"
    ),
    "self join": Query(
        "SELECT a.id AS one, b.id AS two FROM events AS a JOIN events AS b ON a.k = b.k WHERE a.id < b.id AND a.v = 1"
    ),
    "self join of retractions": Query(
        "SELECT a.label AS one, b.label AS two, a.rate FROM items AS a JOIN items AS b ON a.rate = b.rate"
    ),
    "join of aggregates": Query(
        "SELECT a.k, a.n, b.s FROM (SELECT k, count(*) AS n FROM events GROUP BY k) AS a"
        " JOIN (SELECT k, sum(rate) AS s FROM items GROUP BY k) AS b ON a.k = b.k"
    ),
    "join back to an aggregate": Query(
        "SELECT i.k, i.label, m.top FROM items AS i"
        " JOIN (SELECT k, max(rate) AS top FROM items GROUP BY k) AS m ON i.k = m.k AND i.rate = m.top"
    ),
    "aggregate of join": Query(
        "SELECT i.label, count(*) AS n, sum(e.v * i.rate) AS s FROM events AS e JOIN items AS i ON e.k = i.k"
        " GROUP BY i.label"
    ),
    "three-way join": Query(
        "SELECT e.id, i.label, g.n FROM events AS e JOIN items AS i ON e.k = i.k"
        " JOIN (SELECT k, count(*) AS n FROM events GROUP BY k) AS g ON g.k = e.k WHERE e.v > 2"
    ),
    "union all": Query("SELECT k, name AS t FROM events UNION ALL SELECT k, label FROM items"),
    "union of one source": Query("SELECT id, v FROM events WHERE v > 0 UNION ALL SELECT id, v FROM events WHERE v < 2"),
    "aggregate of union": Query(
        "SELECT k, count(*) AS n FROM (SELECT k FROM events UNION ALL SELECT k FROM items) AS u GROUP BY k"
    ),
    "cte": Query(
        "WITH a AS (SELECT k, v FROM events WHERE v IS NOT NULL), b AS (SELECT k, max(v) AS top FROM a GROUP BY k)"
        " SELECT a.k, a.v, b.top FROM a JOIN b ON a.k = b.k WHERE a.v >= b.top - 1"
    ),
    "view": Query(
        "SELECT b.id, p.n FROM big_events AS b JOIN per_key AS p ON b.k = p.key",
        "SELECT b.id, p.n FROM events AS b JOIN (SELECT k AS key, count(*) AS n FROM items GROUP BY k) AS p"
        " ON b.k = p.key WHERE b.v > 0",
    ),
    "tumble": Query(
        f"SELECT window_start, window_end, k, count(*) AS n, sum(v) AS s FROM {TUMBLE}"
        " GROUP BY window_start, window_end, k",
        f"SELECT window_start, window_end, k, count(*) AS n, sum(v) AS s FROM {windows(10, 10)}"
        " GROUP BY window_start, window_end, k",
    ),
    "tumble rows": Query(
        f"SELECT id, window_start FROM {TUMBLE} WHERE v > 0",
        f"SELECT id, window_start FROM {windows(10, 10)} WHERE v > 0",
    ),
    "hop": Query(
        f"SELECT window_end, name, count(*) AS n, max(v) AS hi, avg(f) AS m FROM {HOP}"
        " GROUP BY window_start, window_end, name",
        f"SELECT window_end, name, count(*) AS n, max(v) AS hi, avg(f) AS m FROM {windows(15, 5)}"
        " GROUP BY window_start, window_end, name",
    ),
    "hottest key per window": Query(
        f"WITH c AS (SELECT window_start AS ws, k, count(*) AS n FROM {HOP} GROUP BY window_start, k),"
        " m AS (SELECT ws, max(n) AS top FROM c GROUP BY ws)"
        " SELECT c.ws, c.k, c.n FROM c JOIN m ON c.ws = m.ws AND c.n = m.top",
        f"WITH c AS (SELECT window_start AS ws, k, count(*) AS n FROM {windows(15, 5)} GROUP BY window_start, k),"
        " m AS (SELECT ws, max(n) AS top FROM c GROUP BY ws)"
        " SELECT c.ws, c.k, c.n FROM c JOIN m ON c.ws = m.ws AND c.n = m.top",
    ),
    "tumble on close": Query(
        f"SELECT window_end, k, count(*) AS n, avg(v) AS m, min(name) AS lo FROM {TUMBLE}"
        " GROUP BY window_start, window_end, k",
        f"SELECT window_end, k, count(*) AS n, avg(v) AS m, min(name) AS lo FROM {windows(10, 10)}"
        " GROUP BY window_start, window_end, k",
        on_close="window_end",
    ),
    "hop on close with having": Query(
        f"SELECT window_end, sum(v) AS s FROM {HOP} GROUP BY window_start, window_end HAVING count(*) > 3",
        f"SELECT window_end, sum(v) AS s FROM {windows(15, 5)} GROUP BY window_start, window_end HAVING count(*) > 3",
        on_close="window_end",
    ),
    "cumulate": Query(
        f"SELECT window_start, window_end, k, count(*) AS n FROM {CUMULATE} GROUP BY window_start, window_end, k",
        f"SELECT window_start, window_end, k, count(*) AS n FROM {CUMULATED} GROUP BY window_start, window_end, k",
    ),
    "cumulate on close": Query(
        f"SELECT window_end, sum(v) AS s FROM {CUMULATE} GROUP BY window_start, window_end",
        f"SELECT window_end, sum(v) AS s FROM {CUMULATED} GROUP BY window_start, window_end",
        on_close="window_end",
    ),
    "first of a window on close": Query(
        f"SELECT window_end, id, v FROM (SELECT window_end, id, v, row_number() OVER"
        f" (PARTITION BY window_start, window_end ORDER BY v DESC, id) AS place FROM {TUMBLE}) AS t WHERE place <= 2",
        f"SELECT window_end, id, v FROM (SELECT window_end, id, v, row_number() OVER"
        f" (PARTITION BY window_start, window_end ORDER BY v DESC, id) AS place FROM {windows(10, 10)}) AS t"
        " WHERE place <= 2",
        on_close="window_end",
    ),
    "rows on close": Query(
        f"SELECT id, window_end FROM {TUMBLE} WHERE v > 0",
        f"SELECT id, window_end FROM {windows(10, 10)} WHERE v > 0",
        on_close="window_end",
    ),
    "join of windows on close": Query(
        f"SELECT a.window_end, a.k, a.n, b.hi FROM"
        f" (SELECT window_end, k, count(*) AS n FROM {TUMBLE} GROUP BY window_end, k) AS a JOIN"
        f" (SELECT window_end, k, max(v) AS hi FROM {TUMBLE} GROUP BY window_end, k) AS b"
        " ON a.window_end = b.window_end AND a.k = b.k",
        f"SELECT a.window_end, a.k, a.n, b.hi FROM"
        f" (SELECT window_end, k, count(*) AS n FROM {windows(10, 10)} GROUP BY window_end, k) AS a JOIN"
        f" (SELECT window_end, k, max(v) AS hi FROM {windows(10, 10)} GROUP BY window_end, k) AS b"
        " ON a.window_end = b.window_end AND a.k = b.k",
        on_close="window_end",
    ),
}


class ShufflingRunner(JobRunner):
    """Sends rows between tasks as the shuffle does; its sources read Arrow alone."""

    def _as_read(self, op: SourceOp | LogSourceOp, rows: pa.RecordBatch, marks: list[Any] | None) -> pa.RecordBatch:
        schema = output_schema(op, [])
        columns = [
            pa.array(marks if marks is not None else [None] * rows.num_rows, field.type)
            if field.name == ROW_WATERMARK
            else pruned(rows.column(field.name), field.type)
            for field in schema
        ]
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def _send(self, edge: EdgeSpec, index: int, batch: pa.RecordBatch) -> None:
        count = len(edge.downstream)
        match edge.kind:
            case "HASH":
                parts = Partitioner(batch.schema, edge.keys, count, edge.max_parallelism).partition(batch)
            case "REBALANCE":
                parts = RebalancePartitioner(count, self._rng.randrange(count)).partition(batch)
            case "BROADCAST":
                parts = [batch] * count
            case "FORWARD":
                parts = [batch if i == index else None for i in range(count)]
            case other:
                raise AssertionError(other)
        for name, part in zip(edge.downstream, parts, strict=True):
            if part is not None and part.num_rows:
                for at, port in self._tasks[name].from_edges[edge.edge_id]:
                    self._process(self._tasks[name], at, port, part)


def pruned(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    """A connector reads of a struct only the planned fields."""
    if not pa.types.is_struct(wanted) or array.type.equals(wanted):
        return array
    fields = [pruned(array.field(f.name), f.type) for f in wanted]
    return pa.StructArray.from_arrays(fields, fields=list(wanted), mask=array.is_null())


class OneDatabase:
    """A database that all tasks of a job share: opening one a task would be most of the test's time."""

    def __init__(self, database: TaskDatabase) -> None:
        self.session = database.session
        self.tell_failures = database.tell_failures

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def one_database(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    database = TaskDatabase(None, 512, "queries")
    monkeypatch.setattr(job_runner, "TaskDatabase", lambda *_: OneDatabase(database))
    yield
    database.close()


@cache
def bound(name: str) -> object:
    query = QUERIES[name]
    return bind_query(query.sql, Catalog(), emit_on_window_close=bool(query.on_close))


def plan(name: str, parallelism: int) -> PlannedJob:
    return plan_view(bound(name), job_id=JobId("mv:v"), relation="v", parallelism=parallelism)  # type: ignore[arg-type]


def event(rng: random.Random, number: int) -> Row:
    maybe = [None, *range(-3, 5)]
    at = START + dt.timedelta(seconds=number / 4 + rng.uniform(-1.5, 0), milliseconds=rng.choice((0, 0, 500)))
    return (
        number,
        rng.choice((None, 0, 0, 0, 1, 2, rng.randrange(9))),
        rng.choice((None, "", "a", "b", "aé")),
        rng.choice(maybe),
        None if rng.random() < 0.1 else Decimal(rng.randrange(-5000, 5000)).scaleb(-2),
        rng.choice((None, 0.5, -0.0, 2.25, -8.0)),
        rng.choice((None, True, False)),
        rng.choice((None, '{"a": "x", "b": 3}', '{"a": "z"}', '{"b": null}', '{"a": 1.5, "b": "7"}')),
        None if rng.random() < 0.1 else {"city": rng.choice((None, "Rome", "Oslo")), "age": rng.choice((None, 20, 31))},
        None if rng.random() < 0.05 else at.replace(microsecond=at.microsecond // 1000 * 1000),
    )


def item(rng: random.Random) -> Row:
    return (
        rng.choice((None, 0, 1, 2, rng.randrange(9))),
        rng.choice((None, "", "a", "b", "ba")),
        rng.choice((None, -2, 1, 3, 4)),
        rng.choice((None, 0.5, -1.25, 3.0)),
    )


@pytest.mark.parametrize("parallelism", PARALLELISM)
@pytest.mark.parametrize("name", QUERIES)
def test_a_view_is_the_batch_answer_at_every_barrier(name: str, parallelism: int) -> None:
    query = QUERIES[name]
    rng = random.Random(f"{name}{parallelism}")
    numbers = iter(range(10_000))
    events = History(rng, arrow_schema(EVENTS), lambda: event(rng, next(numbers)), weighted=False)
    items = History(rng, arrow_schema(ITEMS), lambda: item(rng), weighted=True)
    runner = ShufflingRunner(plan(name, parallelism).spec, parallelism)
    try:
        rows = 0
        for size in (0, 60, 1, 60):
            feeds = [("events", events.epoch(size)), ("items", items.epoch(rng.randint(5, 15)))]
            rng.shuffle(feeds)
            for relation, batch in feeds:
                half = rng.randint(0, batch.num_rows)
                runner.feed(relation, batch.slice(0, half))
                runner.feed(relation, batch.slice(half))
            rows += size
            watermark = START + dt.timedelta(seconds=rows / 4 - 2)
            shown = runner.barrier(microseconds(watermark))
            due = f" WHERE {query.on_close} <= TIMESTAMP '{watermark}'" if query.on_close else ""
            assert_same(shown, query, due, events, items)
        shown = runner.end()
        assert_same(shown, query, "", events, items)
        if query.on_close:
            assert len(runner.emitted) == sum(shown.values())
    finally:
        runner.close()


def microseconds(at: dt.datetime) -> int:
    return round((at - dt.datetime(1970, 1, 1)) / dt.timedelta(microseconds=1))


def assert_same(shown: Counter[Row], query: Query, due: str, events: History, items: History) -> None:
    sql = f"SELECT * FROM ({query.batch or query.sql}){due}"
    assert shown == batch_answer(sql, {"events": events.table(), "items": items.table()})
