"""Sessions, gaps and windows over a table that changes and a source: at every barrier DuckDB's batch answer.

The batch texts find sessions in another way than the operators: one begins where no row lies within the gap before.
"""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter
from collections.abc import Iterator

import pytest

from planner.logical import Relation, RelationKind
from planner.plan import plan_view
from planner.task_spec import CloseFilterOp, CloseOverOp, CloseRecomputeOp, CloseSessionsOp, FinalAggOp
from sabot.ids import JobId
from sabot.schema import Field, Schema, arrow_schema
from sabotd.state.duckdb_state import TaskDatabase
from sql_frontend.binder import bind_query
from tests.oracle.harness import History, Row, batch_answer
from tests.oracle.test_queries import (
    EVENTS,
    START,
    Catalog,
    OneDatabase,
    Query,
    ShufflingRunner,
    event,
    microseconds,
    windows,
)
from tests.support import job_runner

READINGS: Schema = (
    Field("k", "INTEGER"),
    Field("s", "VARCHAR"),
    Field("ts", "TIMESTAMP"),
    Field("v", "DOUBLE"),
    Field("n", "INTEGER"),
)


class TimelineCatalog(Catalog):
    """The source of events, and a table of readings with retractions."""

    def __init__(self) -> None:
        super().__init__()
        self._relations["readings"] = Relation("readings", RelationKind.TABLE, READINGS, append_only=False)


def sessions(table: str, time: str, keys: list[str], gap_s: int) -> str:
    def same(a: str, b: str) -> str:
        return " AND ".join(["true", *(f"{a}.{k} IS NOT DISTINCT FROM {b}.{k}" for k in keys)])

    gap = f"INTERVAL '{gap_s} seconds'"
    begins = (
        f"SELECT DISTINCT {', '.join([*keys, time])} FROM {table} x WHERE {time} IS NOT NULL AND NOT EXISTS (FROM "
        f"{table} y WHERE {same('x', 'y')} AND y.{time} < x.{time} AND y.{time} > x.{time} - {gap})"
    )
    rows = (
        f"SELECT x.*, max(b.{time}) AS window_start FROM (SELECT *, row_number() OVER () AS row FROM {table} WHERE"
        f" {time} IS NOT NULL) x JOIN ({begins}) b ON {same('x', 'b')} AND b.{time} <= x.{time} GROUP BY ALL"
    )
    of_one = ", ".join([*keys, "window_start"])
    return f"(SELECT *, max({time}) OVER (PARTITION BY {of_one}) + {gap} AS window_end FROM ({rows}))"


def per_session(source: str) -> str:
    return f"SELECT k, window_start, window_end, count(*) AS n, sum(v) AS s, max(s) AS hi FROM {source} GROUP BY ALL"


FILLED = (
    "(SELECT k, ts, v, n, s FROM readings UNION ALL SELECT k, ts + i * INTERVAL '2 seconds', {v}, {n}, NULL FROM"
    " (SELECT *, unnest(range(1, 1 + (epoch_us(next) - epoch_us(ts) - 1) // 2000000)) AS i FROM (SELECT *,"
    " lead(ts) OVER w AS next, lead(v) OVER w AS to_v, last_value(n IGNORE NULLS) OVER (w ROWS UNBOUNDED PRECEDING)"
    " AS last_n FROM readings WHERE ts IS NOT NULL WINDOW w AS (PARTITION BY k ORDER BY ts, {order}))))"
)
READING_WINDOWS = windows(10, 10).replace("events", "readings")
CUBED = (
    "SELECT window_start, window_end, k, grouping(k) AS g, count(*) AS n, count(DISTINCT s) AS d FROM {}"
    " GROUP BY {}(k), window_start, window_end"
)
QUERIES: dict[str, Query] = {
    "sessions by key": Query(
        "SELECT k, ts, v, window_start, window_end FROM SESSION(readings PARTITION BY k, ts, INTERVAL '2 seconds')",
        f"SELECT k, ts, v, window_start, window_end FROM {sessions('readings', 'ts', ['k'], 2)}",
    ),
    "sessions of all": Query(
        "SELECT ts, n, window_start, window_end FROM SESSION(readings, ts, INTERVAL '1 second')",
        f"SELECT ts, n, window_start, window_end FROM {sessions('readings', 'ts', [], 1)}",
    ),
    "sessions by two keys": Query(
        "SELECT k, s, n, window_start FROM SESSION(readings PARTITION BY (k, s), ts, INTERVAL '3 seconds')",
        f"SELECT k, s, n, window_start FROM {sessions('readings', 'ts', ['k', 's'], 3)}",
    ),
    "groups of sessions": Query(
        per_session("SESSION(readings PARTITION BY k, ts, INTERVAL '2 seconds')"),
        per_session(sessions("readings", "ts", ["k"], 2)),
    ),
    "sessions of a source": Query(
        "SELECT k, ts, id, window_end FROM SESSION(events PARTITION BY k, ts, INTERVAL '1 second')",
        f"SELECT k, ts, id, window_end FROM {sessions('events', 'ts', ['k'], 1)}",
    ),
    "sessions on close": Query(
        "SELECT k, ts, id, window_start, window_end FROM SESSION(events PARTITION BY k, ts, INTERVAL '2 seconds')",
        f"SELECT k, ts, id, window_start, window_end FROM {sessions('events', 'ts', ['k'], 2)}",
        on_close="window_end",
    ),
    "groups of sessions on close": Query(
        "SELECT name, window_start, window_end, count(*) AS n, count(DISTINCT v) AS d FROM SESSION(events PARTITION BY"
        " name, ts, INTERVAL '1 second') GROUP BY name, window_start, window_end",
        "SELECT name, window_start, window_end, count(*) AS n, count(DISTINCT v) AS d FROM"
        f" {sessions('events', 'ts', ['name'], 1)} GROUP BY name, window_start, window_end",
        on_close="window_end",
    ),
    "last value filled": Query(
        "SELECT * EXCEPT (s) FROM (SELECT k, ts, v, n, s FROM GAP_FILL(readings, ts, INTERVAL '2 seconds', LOCF(n),"
        " PARTITION_BY(k))) AS t",
        f"SELECT k, ts, v, n FROM {FILLED.format(v='NULL', n='last_n', order='s, v, n')}",
    ),
    "line filled": Query(
        "SELECT k, ts, v FROM GAP_FILL(readings, ts, INTERVAL '2 seconds', INTERPOLATE(v), KEEP(n), PARTITION_BY(k))",
        "SELECT k, ts, v FROM "
        + FILLED.format(
            v="v + (to_v - v) * (i * 2000000 / (epoch_us(next) - epoch_us(ts))::DOUBLE)", n="NULL", order="v"
        ),
    ),
    "frames of sessions": Query(
        "SELECT k, ts, max(v) OVER (PARTITION BY k ORDER BY ts SESSION WITH GAP '2 seconds') AS hi FROM readings"
        " WHERE ts IS NOT NULL",
        f"SELECT k, ts, max(v) OVER (PARTITION BY k, window_start) AS hi FROM {sessions('readings', 'ts', ['k'], 2)}",
    ),
    "rolled up windows of a changing table": Query(
        CUBED.format("TUMBLE(readings, ts, INTERVAL '10 seconds')", "ROLLUP"),
        CUBED.format(READING_WINDOWS, "ROLLUP"),
    ),
    "windows of a changing table, moved back": Query(
        "SELECT window_end, median(v) AS m FROM TUMBLE(readings, ts, INTERVAL '10 seconds', INTERVAL '-3 seconds')"
        " GROUP BY window_end",
        "SELECT time_bucket(INTERVAL '10 seconds', ts, TIMESTAMP '1969-12-31 23:59:57') + INTERVAL '10 seconds' AS"
        " window_end, median(v) AS m FROM readings WHERE ts IS NOT NULL GROUP BY window_end",
    ),
    "cube on close": Query(
        CUBED.replace("DISTINCT s", "DISTINCT name").format(
            "HOP(events, ts, INTERVAL '5 seconds', INTERVAL '15 seconds')", "CUBE"
        ),
        CUBED.replace("DISTINCT s", "DISTINCT name").format(windows(15, 5), "CUBE"),
        on_close="window_end",
    ),
}
BY_FLINK: dict[str, Query] = {
    "groups": Query(
        "SELECT window_end, k, count(DISTINCT name) AS n, max(v) AS hi FROM TABLE(HOP(TABLE events, DESCRIPTOR(ts),"
        " INTERVAL '5' SECOND, INTERVAL '15' SECOND)) GROUP BY window_start, window_end, k",
        "SELECT window_end, k, count(DISTINCT name) AS n, max(v) AS hi FROM"
        f" {windows(15, 5)} GROUP BY window_start, window_end, k",
        on_close="window_end",
    ),
    "first rows": Query(
        "SELECT window_end, id FROM (SELECT *, row_number() OVER (PARTITION BY window_start, window_end, k ORDER BY id"
        " DESC) AS place FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '10' SECOND))) AS t WHERE place = 1",
        "SELECT window_end, id FROM (SELECT *, row_number() OVER (PARTITION BY window_start, window_end, k ORDER BY id"
        f" DESC) AS place FROM {windows(10, 10)}) AS t WHERE place = 1",
        on_close="window_end",
    ),
    "by the start alone": Query(
        "SELECT window_start + INTERVAL '10 seconds' AS e, k, count(*) AS n FROM TABLE(TUMBLE(TABLE events,"
        " DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, k",
        f"SELECT window_end AS e, k, count(*) AS n FROM {windows(10, 10)} GROUP BY window_end, k",
        on_close="e",
    ),
    "rows": Query(
        "SELECT id, window_end FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '10' SECOND))",
        f"SELECT id, window_end FROM {windows(10, 10)}",
    ),
}
BY_FLINK["as Arroyo counts"] = Query(
    "SELECT w.\"end\" AS e, name, n FROM (SELECT hop(INTERVAL '5 seconds', INTERVAL '15 seconds') AS w, name, count(*)"
    " AS n FROM events WHERE v > 0 GROUP BY w, name) AS t",
    f"SELECT window_end AS e, name, count(*) AS n FROM {windows(15, 5)} WHERE v > 0 GROUP BY window_end, name",
    on_close="e",
)
BY_FLINK["as Arroyo has sessions"] = Query(
    "SELECT window.start, window.\"end\" AS e, odd, n FROM (SELECT session(INTERVAL '1 second') AS window, k % 2 AS"
    " odd, count(*) AS n FROM events GROUP BY window, odd) AS t",
    "SELECT window_start AS start, window_end AS e, odd, count(*) AS n FROM "
    + sessions("(SELECT *, k % 2 AS odd FROM events)", "ts", ["odd"], 1)
    + " GROUP BY ALL",
    on_close="e",
)
BY_FLINK["as Arroyo joins windows"] = Query(
    "SELECT a.w.\"end\" AS e, a.n, b.m FROM (SELECT tumble(INTERVAL '10 seconds') AS w, count(*) AS n FROM events GROUP"
    " BY 1) AS a JOIN (SELECT tumble(INTERVAL '10 seconds') AS w, count(*) AS m FROM events WHERE ok GROUP BY 1) AS b"
    " ON a.w = b.w",
    f"SELECT window_end AS e, count(*) AS n, count(*) FILTER (WHERE ok) AS m FROM {windows(10, 10)} GROUP BY window_end"
    " HAVING count(*) FILTER (WHERE ok) > 0",
    on_close="e",
)
for _kind in ("INNER", "LEFT", "RIGHT", "FULL", "SEMI", "ANTI"):
    _columns = "a.window_end AS e, a.id" if _kind in ("SEMI", "ANTI") else "coalesce(a.window_end, b.window_end) AS e,"
    _columns += "" if _kind in ("SEMI", "ANTI") else " a.id, b.id AS other"
    _on = "ON a.window_start = b.window_start AND a.window_end = b.window_end AND a.k = b.k"
    _flink = "TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '10' SECOND))"
    _text = "SELECT {c} FROM (SELECT * FROM {w} WHERE v > 0) AS a {k} JOIN (SELECT * FROM {w} WHERE ok) AS b {on}"
    BY_FLINK[f"{_kind} join"] = Query(
        _text.format(c=_columns, w=_flink, k=_kind, on=_on),
        _text.format(c=_columns, w=windows(10, 10), k=_kind, on=_on),
        on_close="e",
    )


@pytest.fixture(autouse=True)
def one_database(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    database = TaskDatabase(None, 512, "timelines")
    monkeypatch.setattr(job_runner, "TaskDatabase", lambda *_: OneDatabase(database))
    yield
    database.close()


def reading(rng: random.Random, number: int) -> Row:
    at = START + dt.timedelta(seconds=rng.uniform(0, 60), milliseconds=rng.choice((0, 500)))
    return (
        rng.choice((None, 0, 0, 1, 2)),
        rng.choice((None, "a", "b")),
        None if rng.random() < 0.05 else at.replace(microsecond=at.microsecond // 500_000 * 500_000),
        rng.choice((None, 0.5, 2.0, -8.0)),
        rng.choice((None, number % 7)),
    )


@pytest.mark.parametrize("parallelism", [1, 2, 4, 7])
@pytest.mark.parametrize("name", [*QUERIES, *(f"Flink: {n}" for n in BY_FLINK)])
def test_a_view_is_the_batch_answer_at_every_barrier(name: str, parallelism: int) -> None:
    by_flink = name.startswith("Flink: ")
    query = BY_FLINK[name.removeprefix("Flink: ")] if by_flink else QUERIES[name]
    rng = random.Random(f"{name}{parallelism}")
    numbers, more = iter(range(10_000)), iter(range(10_000))
    events = History(rng, arrow_schema(EVENTS), lambda: event(rng, next(numbers)), weighted=False)
    readings = History(rng, arrow_schema(READINGS), lambda: reading(rng, next(more)), weighted=True)
    bound = bind_query(query.sql, TimelineCatalog(), emit_on_window_close=bool(query.on_close) and not by_flink)
    spec = plan_view(bound, job_id=JobId("mv:v"), relation="v", parallelism=parallelism).spec
    runner = ShufflingRunner(spec, parallelism)
    try:
        rows = 0
        for size in (0, 60, 1, 60):
            feeds = [("events", events.epoch(size)), ("readings", readings.epoch(rng.randint(8, 20)))]
            rng.shuffle(feeds)
            for relation, batch in feeds:
                half = rng.randint(0, batch.num_rows)
                runner.feed(relation, batch.slice(0, half))
                runner.feed(relation, batch.slice(half))
            rows += size
            watermark = START + dt.timedelta(seconds=rows / 4 - 2)
            shown = runner.barrier(microseconds(watermark))
            due = f" WHERE {query.on_close} <= TIMESTAMP '{watermark}'" if query.on_close else ""
            assert_same(shown, query, due, events, readings)
        shown = runner.end()
        assert_same(shown, query, "", events, readings)
        if query.on_close:
            assert len(runner.emitted) == sum(shown.values())
    finally:
        runner.close()


def assert_same(shown: Counter[Row], query: Query, due: str, events: History, readings: History) -> None:
    wanted = batch_answer(
        f"SELECT * FROM ({query.batch}){due}", {"events": events.table(), "readings": readings.table()}
    )
    assert shown == wanted, (shown - wanted, wanted - shown)


ORDER = "OVER (PARTITION BY k ORDER BY ts, id"
BEHIND = "ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING"
RANGE = "RANGE BETWEEN INTERVAL '1 second' PRECEDING AND INTERVAL '2 seconds' FOLLOWING"
IN_TURN: dict[str, tuple[str, bool]] = {
    "numbers": (f"row_number() {ORDER}) AS a, lag(v, 2) {ORDER}) AS b, rank() {ORDER}) AS c", True),
    "sums so far": (f"sum(v) {ORDER}) AS a, count(*) {ORDER} ROWS 2 PRECEDING) AS b, max(f) {ORDER}) AS c", True),
    "rows behind": (
        f"lead(v) {ORDER}) AS a, lead(id, 3, -1) {ORDER}) AS b, max(v) {ORDER} {BEHIND} EXCLUDE CURRENT ROW) AS c",
        False,
    ),
    "time behind": (
        f"count(*) OVER (PARTITION BY k ORDER BY ts {RANGE}) AS a",
        False,
    ),
    "all in one": ("sum(v) OVER (ORDER BY ts, id ROWS BETWEEN 3 PRECEDING AND CURRENT ROW) AS a", True),
}


@pytest.mark.parametrize("parallelism", [1, 2, 4, 7])
@pytest.mark.parametrize("name", [*IN_TURN, "sessions"])
def test_rows_are_told_in_turn_once_their_answer_stands(name: str, parallelism: int) -> None:
    calls, at_once = IN_TURN.get(name, ("", False))
    sql = batch = f"SELECT id, k, ts, {calls} FROM events WHERE ts IS NOT NULL"
    if name == "sessions":
        frame = "OVER (PARTITION BY k ORDER BY ts SESSION WITH GAP INTERVAL '1 second')"
        sql = f"SELECT id, k, first_value(ts) {frame} AS a, last_value(ts) {frame} AS b, count(*) {frame} AS n"
        sql += " FROM events WHERE ts IS NOT NULL"
        batch = (
            "SELECT id, k, window_start AS a, window_end - INTERVAL '1 second' AS b, count(*) OVER (PARTITION BY k,"
            f" window_start) AS n FROM {sessions('events', 'ts', ['k'], 1)}"
        )
    rng = random.Random(f"{name}{parallelism}")
    numbers = iter(range(10_000))
    events = History(rng, arrow_schema(EVENTS), lambda: event(rng, next(numbers)), weighted=False)
    bound = bind_query(sql, TimelineCatalog(), emit_on_window_close=True)
    spec = plan_view(bound, job_id=JobId("mv:v"), relation="v", parallelism=parallelism).spec
    assert CloseOverOp in {type(n.op) for t in spec.tasks for n in t.nodes}
    runner = ShufflingRunner(spec, parallelism)
    early: list[tuple[Counter[Row], Counter[Row]]] = []
    try:
        rows = 0
        for size in (0, 50, 1, 40, 30):
            runner.feed("events", events.epoch(size))
            rows += size
            watermark = START + dt.timedelta(seconds=rows / 4 - 2)
            shown = Counter(runner.barrier(microseconds(watermark)))
            passed = f"id IN (SELECT id FROM events WHERE ts < TIMESTAMP '{watermark}')"
            early.append((shown, batch_answer(f"FROM ({batch}) WHERE {passed}", {"events": events.table()})))
        shown = runner.end()
        whole = batch_answer(batch, {"events": events.table()})
        assert shown == whole, (shown - whole, whole - shown)
        assert len(runner.emitted) == sum(whole.values())
        assert sum(early[-1][0].values()) > 60
        for told, older in early:
            assert told <= whole
            assert told == older if at_once else len(told) <= len(older)
    finally:
        runner.close()


@pytest.mark.parametrize(("name", "kind"), [("groups", CloseRecomputeOp), ("LEFT join", CloseRecomputeOp)])
def test_windows_that_flink_would_close_keep_no_more_than_what_is_open(name: str, kind: type) -> None:
    bound = bind_query(BY_FLINK[name].sql, TimelineCatalog())
    spec = plan_view(bound, job_id=JobId("mv:v"), relation="v", parallelism=2).spec
    operators = [type(n.op) for t in spec.tasks for n in t.nodes]
    assert kind in operators
    assert not {CloseFilterOp, FinalAggOp} & set(operators)


def test_sessions_on_close_have_an_operator_of_their_own() -> None:
    bound = bind_query(QUERIES["sessions on close"].sql, TimelineCatalog(), emit_on_window_close=True)
    spec = plan_view(bound, job_id=JobId("mv:v"), relation="v", parallelism=2).spec
    operators = [type(n.op) for t in spec.tasks for n in t.nodes]
    assert CloseSessionsOp in operators
    assert CloseFilterOp not in operators
