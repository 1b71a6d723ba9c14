"""Joins whose state the watermark clears: at every barrier the batch answer over the rows that came in time."""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from cython_shuffle.frames import MAX_WATERMARK_US
from planner.logical import Relation, RelationKind, Watermark
from planner.plan import PlannedJob, plan_view
from sabot.ids import JobId
from sabot.schema import Field, Schema, arrow_schema
from sabotd.operators import weighted_rows
from sabotd.operators.join import Join
from sabotd.operators.recompute import Recompute
from sabotd.state.duckdb_state import TaskDatabase
from sql_frontend.binder import bind_query
from tests.oracle.harness import Row, batch_answer
from tests.oracle.test_queries import PARALLELISM, START, Catalog, OneDatabase, ShufflingRunner, microseconds
from tests.support import job_runner

CLICKS: Schema = (Field("id", "BIGINT"), Field("k", "INTEGER"), Field("ts", "TIMESTAMP"))
NEAR = "a.ts BETWEEN b.ts - INTERVAL '3 seconds' AND b.ts + INTERVAL '2 seconds'"
WINDOW_A = "TUMBLE(shows, ts, INTERVAL '5 seconds')"
WINDOW_B = "TUMBLE(clicks, ts, INTERVAL '5 seconds')"
SAME = "a.k = b.k AND a.window_start = b.window_start AND a.window_end = b.window_end"

QUERIES = {
    "inner": f"SELECT a.id, b.id AS other FROM shows a JOIN clicks b ON a.k = b.k AND {NEAR}",
    "inner, from WHERE": (
        "SELECT a.id, b.id AS other FROM shows a, clicks b WHERE a.k = b.k AND b.ts >= a.ts"
        " AND b.ts - INTERVAL '4 seconds' < a.ts AND a.id <> b.id"
    ),
    "inner, without a key": f"SELECT a.id, b.id AS other FROM shows a JOIN clicks b ON {NEAR}",
    "left": f"SELECT a.id, b.id AS other FROM shows a LEFT JOIN clicks b ON a.k = b.k AND {NEAR}",
    "right": f"SELECT a.id, b.id AS other FROM shows a RIGHT JOIN clicks b ON a.k = b.k AND {NEAR}",
    "full": f"SELECT a.id, b.id AS other FROM shows a FULL JOIN clicks b ON a.k = b.k AND {NEAR}",
    "semi": f"SELECT a.id FROM shows a SEMI JOIN clicks b ON a.k = b.k AND {NEAR}",
    "anti": f"SELECT a.id FROM shows a ANTI JOIN clicks b ON a.k = b.k AND {NEAR}",
    "of three": (
        f"SELECT a.id, b.id AS other, c.id AS third FROM shows a JOIN clicks b ON a.k = b.k AND {NEAR} JOIN shows c"
        " ON c.k = b.k AND c.ts BETWEEN b.ts AND b.ts + INTERVAL '2 seconds'"
    ),
    "the same time": "SELECT a.id, b.id AS other FROM shows a JOIN clicks b ON a.ts = b.ts",
    "windows": f"SELECT a.id, b.id AS other FROM {WINDOW_A} a JOIN {WINDOW_B} b ON {SAME}",
    "windows, left": f"SELECT a.id, b.id AS other FROM {WINDOW_A} a LEFT JOIN {WINDOW_B} b ON {SAME}",
    "windows, full": f"SELECT a.id, b.id AS other FROM {WINDOW_A} a FULL JOIN {WINDOW_B} b ON {SAME}",
}

THREE = "INTERVAL '3 seconds'"
TWO = "INTERVAL '2 seconds'"
BOTH = "a.id, a.ts, b.id AS other, b.ts AS other_ts"
EARLY = f"(SELECT a.ts, b.id AS other FROM shows a LEFT JOIN clicks b ON a.k = b.k AND {NEAR})"
EARLY_WINDOWS = f"TUMBLE({EARLY}, ts, INTERVAL '5 seconds')"
CLOSING = {
    "inner": (f"SELECT {BOTH} FROM shows a JOIN clicks b ON a.k = b.k AND {NEAR}", f"other_ts + {TWO}"),
    "inner, by the left": (f"SELECT a.id, a.ts FROM shows a JOIN clicks b ON a.k = b.k AND {NEAR}", f"ts + {THREE}"),
    "left": (f"SELECT {BOTH} FROM shows a LEFT JOIN clicks b ON a.k = b.k AND {NEAR}", f"ts + {THREE}"),
    "left, far ahead": (
        f"SELECT {BOTH} FROM shows a LEFT JOIN clicks b ON a.k = b.k AND b.ts BETWEEN a.ts + {TWO} AND a.ts + {THREE}",
        f"ts + {THREE}",
    ),
    "left, long ago": (
        f"SELECT {BOTH} FROM shows a LEFT JOIN clicks b ON a.k = b.k AND b.ts BETWEEN a.ts - {THREE} AND a.ts - {TWO}",
        "ts",
    ),
    "right": (f"SELECT {BOTH} FROM shows a RIGHT JOIN clicks b ON a.k = b.k AND {NEAR}", f"other_ts + {TWO}"),
    "full": (
        f"SELECT {BOTH} FROM shows a FULL JOIN clicks b ON a.k = b.k AND {NEAR}",
        f"coalesce(ts + {THREE}, other_ts + {TWO})",
    ),
    "semi": (f"SELECT a.id, a.ts FROM shows a SEMI JOIN clicks b ON a.k = b.k AND {NEAR}", f"ts + {THREE}"),
    "anti": (f"SELECT a.id, a.ts FROM shows a ANTI JOIN clicks b ON a.k = b.k AND {NEAR}", f"ts + {THREE}"),
    "without a key": (f"SELECT {BOTH} FROM shows a LEFT JOIN clicks b ON {NEAR}", f"ts + {THREE}"),
    "a window over it": (
        f"SELECT window_end AS ts, count(*) AS n, count(other) AS others FROM {EARLY_WINDOWS} GROUP BY window_end",
        f"ts + {THREE} - INTERVAL '1 microsecond'",
    ),
    "its times as groups": (
        f"SELECT ts, count(*) AS n, count(other) AS others FROM {EARLY} GROUP BY ts",
        f"ts + {THREE}",
    ),
}


class Timed(Catalog):
    def __init__(self) -> None:
        super().__init__()
        for name in ("shows", "clicks"):
            self._relations[name] = Relation(
                name,
                RelationKind.SOURCE,
                CLICKS,
                append_only=True,
                watermark=Watermark("ts", '"ts"'),
                connector="datagen",
            )


@pytest.fixture(autouse=True)
def one_database(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    database = TaskDatabase(None, 512, "intervals")
    monkeypatch.setattr(job_runner, "TaskDatabase", lambda *_: OneDatabase(database))
    yield
    database.close()


def plan(sql: str, parallelism: int, *, on_close: bool = False) -> PlannedJob:
    query = bind_query(sql, Timed(), emit_on_window_close=on_close)
    return plan_view(query, job_id=JobId("mv:v"), relation="v", parallelism=parallelism)


def window_end(at: dt.datetime) -> dt.datetime:
    return at - dt.timedelta(seconds=at.second % 5, microseconds=at.microsecond) + dt.timedelta(seconds=5)


def windowed(relation: str) -> str:
    return (
        f"(SELECT *, time_bucket(INTERVAL '5 seconds', ts) AS window_start, window_start + INTERVAL '5 seconds' AS"
        f" window_end FROM {relation} WHERE ts IS NOT NULL)"
    )


def kept_rows(runner: ShufflingRunner) -> int:
    count = 0
    for task in runner._tasks.values():
        for operator in task.operators:
            states = []
            if isinstance(operator, Join):
                states = [operator._left.state, operator._right.state]
            elif isinstance(operator, Recompute):
                states = [side.state for side in operator._inputs]
            count += sum(operator._session.rows(state.table) for state in states)
    return count


@pytest.mark.parametrize("parallelism", PARALLELISM)
@pytest.mark.parametrize("name", QUERIES)
def test_the_answer_is_that_of_the_rows_in_time_and_the_state_stays_small(
    name: str, parallelism: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weighted_rows, "_EXPIRE_ROWS", 1)
    monkeypatch.setattr(weighted_rows, "_LEAST_BUCKET_US", 10_000)
    sql = QUERIES[name]
    rng = random.Random(f"{name}{parallelism}")
    runner = ShufflingRunner(plan(sql, parallelism).spec, parallelism)
    in_time: dict[str, list[Row]] = {"shows": [], "clicks": []}
    watermark: dt.datetime | None = None
    number, most = 0, 0
    try:
        for epoch in range(9):
            for relation in rng.sample(("shows", "clicks"), 2):
                rows: list[Row] = []
                for _ in range(rng.randint(0, 12)):
                    number += 1
                    at = START + dt.timedelta(seconds=4 * epoch + rng.randint(-8, 4), milliseconds=rng.choice((0, 500)))
                    rows.append((number, rng.choice((None, 1, 1, 2)), None if rng.random() < 0.05 else at))
                feed(runner, relation, rows, watermark)
                in_time[relation] += [row for row in rows if not late(row[2], watermark, "windows" in name)]
            watermark = START + dt.timedelta(seconds=4 * epoch - rng.randint(0, 3))
            shown = runner.barrier(microseconds(watermark))
            wanted = answer(sql, in_time)
            assert shown == wanted, (shown - wanted, wanted - shown)
            most = max(most, kept_rows(runner))
        assert runner.barrier(MAX_WATERMARK_US) == wanted
        assert kept_rows(runner) == 0
        broadcast = parallelism if "without a key" in name else 1
        assert most < (number if name != "of three" else 2 * number) * broadcast
    finally:
        runner.close()


@pytest.mark.parametrize("parallelism", PARALLELISM)
@pytest.mark.parametrize("name", CLOSING)
def test_on_close_a_row_is_shown_once_no_partner_can_come(
    name: str, parallelism: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weighted_rows, "_EXPIRE_ROWS", 1)
    monkeypatch.setattr(weighted_rows, "_LEAST_BUCKET_US", 10_000)
    sql, closes = CLOSING[name]
    rng = random.Random(f"close {name}{parallelism}")
    job = plan(sql, parallelism, on_close=True)
    assert job.output.append_only
    runner = ShufflingRunner(job.spec, parallelism)
    in_time: dict[str, list[Row]] = {"shows": [], "clicks": []}
    watermark: dt.datetime | None = None
    number, most = 0, 0
    try:
        for epoch in range(9):
            for relation in rng.sample(("shows", "clicks"), 2):
                rows: list[Row] = []
                for _ in range(rng.randint(0, 12)):
                    number += 1
                    at = START + dt.timedelta(seconds=4 * epoch + rng.randint(-8, 4), milliseconds=rng.choice((0, 500)))
                    rows.append((number, rng.choice((None, 1, 1, 2)), None if rng.random() < 0.05 else at))
                feed(runner, relation, rows, watermark)
                in_time[relation] += [r for r in rows if watermark is None or (r[2] is not None and r[2] >= watermark)]
            watermark = START + dt.timedelta(seconds=4 * epoch - rng.randint(0, 3))
            shown = runner.barrier(microseconds(watermark))
            wanted = answer(f"SELECT * FROM ({sql}) WHERE {closes} < TIMESTAMP '{watermark}'", in_time)
            assert shown == wanted, (shown - wanted, wanted - shown)
            most = max(most, kept_rows(runner))
        assert runner.barrier(MAX_WATERMARK_US) == answer(sql, in_time)
        assert kept_rows(runner) == 0
        assert most < number * (parallelism if name == "without a key" else 1)
    finally:
        runner.close()


def late(at: dt.datetime | None, watermark: dt.datetime | None, by_window: bool) -> bool:
    if at is None or watermark is None:
        return False
    return window_end(at) <= watermark if by_window else at < watermark


def feed(runner: ShufflingRunner, relation: str, rows: list[Row], watermark: dt.datetime | None) -> None:
    names = [f.name for f in CLICKS]
    schema = arrow_schema(CLICKS)
    batch = pa.RecordBatch.from_pylist([dict(zip(names, r, strict=True)) for r in rows], schema=schema)
    runner.feed(relation, batch, [watermark] * len(rows))


def answer(sql: str, rows: dict[str, list[Row]]) -> Counter[Row]:
    names = [f.name for f in CLICKS]
    tables: dict[str, Any] = {
        relation: pa.Table.from_pylist([dict(zip(names, r, strict=True)) for r in found], schema=arrow_schema(CLICKS))
        for relation, found in rows.items()
    }
    early = f"(SELECT *, time_bucket(INTERVAL '5 seconds', ts) + INTERVAL '5 seconds' AS window_end FROM {EARLY})"
    sql = sql.replace(EARLY_WINDOWS, f"{early} WHERE ts IS NOT NULL")
    batch = sql.replace(WINDOW_A, windowed("shows")).replace(WINDOW_B, windowed("clicks"))
    return batch_answer(batch, tables)


@pytest.mark.parametrize("name", QUERIES)
def test_explain_tells_that_the_watermark_bounds_the_state(name: str) -> None:
    job = plan(QUERIES[name], 4)
    assert "state bounded by the watermark, which passes " in job.explain()
    assert not job.notices


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT a.id FROM shows a JOIN clicks b ON a.k = b.k",
        "SELECT a.id FROM shows a JOIN clicks b ON a.k = b.k AND a.ts >= b.ts",
        "SELECT a.id FROM shows a JOIN clicks b ON a.k = b.k AND a.ts BETWEEN b.ts AND b.ts + INTERVAL '1 month'",
        "SELECT a.id FROM shows a JOIN (SELECT k, max(ts) AS t FROM clicks GROUP BY k) b ON a.k = b.k AND a.ts = b.t",
    ],
)
def test_without_bounds_both_ways_the_state_stays_and_no_row_is_late(sql: str) -> None:
    job = plan(sql, 4)
    assert "__wm" not in job.explain()
    assert job.notices
