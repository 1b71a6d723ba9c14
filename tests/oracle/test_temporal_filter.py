"""Conditions with now(): at every barrier what DuckDB says of the rows so far at the barrier's time."""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest

from planner.logical import Relation, RelationKind
from planner.plan import PlannedJob, plan_view
from sabot.errors import SqlError
from sabot.ids import JobId
from sabot.schema import Field, Schema, arrow_schema
from sabotd.operators import temporal_filter
from sabotd.state.duckdb_state import TaskDatabase
from sql_frontend.binder import bind_query
from tests.oracle.harness import History, Instances, Row, batch_answer, fold
from tests.oracle.test_queries import (
    EVENTS,
    PARALLELISM,
    START,
    Catalog,
    OneDatabase,
    ShufflingRunner,
    event,
    microseconds,
)
from tests.support import job_runner

NOTES: Schema = (
    Field("k", "INTEGER"),
    Field("label", "VARCHAR"),
    Field("seen", "TIMESTAMP WITH TIME ZONE"),
    Field("day", "DATE"),
)

QUERIES = {
    "rows leave": "SELECT id, k FROM events WHERE ts > now() - INTERVAL '10 seconds'",
    "rows come": "SELECT id, v FROM events WHERE ts <= now() - INTERVAL '3 seconds' AND v > 0",
    "rows come and leave": (
        "SELECT k, label FROM notes WHERE seen BETWEEN now() - INTERVAL '20 seconds' AND now() - INTERVAL '3 seconds'"
        " AND k > 0"
    ),
    "the same minute": "SELECT label FROM notes WHERE date_trunc('minute', seen) = date_trunc('minute', now())",
    "the value is computed": (
        "SELECT k, count(*) AS n FROM notes WHERE seen + INTERVAL '15 seconds' >= now() GROUP BY k"
    ),
    "the clock stands left": "SELECT k, label FROM notes WHERE now() - INTERVAL '12 seconds' < seen",
    "below a join": (
        "SELECT n.label, e.id FROM notes n JOIN events e ON n.k = e.k AND e.ts > now() - INTERVAL '8 seconds'"
        " WHERE n.seen < now()"
    ),
    "above an outer join": (
        "SELECT e.id, n.label FROM events e LEFT JOIN notes n ON e.k = n.k WHERE coalesce(n.seen, e.ts::timestamptz) >"
        " now() - INTERVAL '9 seconds'"
    ),
    "of a group": (
        "SELECT * FROM (SELECT k, max(seen) AS last, count(*) AS n FROM notes GROUP BY k) WHERE last >"
        " now() - INTERVAL '6 seconds'"
    ),
    "in milliseconds": "SELECT label, k FROM notes WHERE epoch_ms(seen) > epoch_ms(now()) - 5000",
    "days": "SELECT k, day FROM notes WHERE day >= current_date",
    "a constant": "SELECT k FROM notes WHERE now() > TIMESTAMPTZ '2024-05-01 12:00:20+00'",
    "in a subquery": (
        "SELECT id FROM events WHERE k IN (SELECT k FROM notes WHERE seen > now() - INTERVAL '7 seconds')"
    ),
}


class TimedCatalog(Catalog):
    def __init__(self) -> None:
        super().__init__()
        self._relations["notes"] = Relation("notes", RelationKind.TABLE, NOTES, append_only=False)


@pytest.fixture(autouse=True)
def one_database(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    database = TaskDatabase(None, 512, "timed")
    monkeypatch.setattr(job_runner, "TaskDatabase", lambda *_: OneDatabase(database))
    yield
    database.close()


def plan(sql: str, parallelism: int) -> PlannedJob:
    return plan_view(bind_query(sql, TimedCatalog()), job_id=JobId("mv:v"), relation="v", parallelism=parallelism)


def note(rng: random.Random, now: Sequence[dt.datetime]) -> Row:
    at = now[-1] + dt.timedelta(seconds=rng.randint(-25, 12), milliseconds=rng.choice((0, 0, 500)))
    stamp = None if rng.random() < 0.1 else at.replace(tzinfo=dt.UTC)
    day = rng.choice((None, START.date(), START.date() + dt.timedelta(days=1), START.date() - dt.timedelta(days=1)))
    return rng.choice((None, 0, 1, 2)), rng.choice((None, "a", "b")), stamp, day


@pytest.mark.parametrize("parallelism", PARALLELISM)
@pytest.mark.parametrize("name", QUERIES)
def test_a_view_is_the_batch_answer_at_the_time_of_every_barrier(
    name: str, parallelism: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(temporal_filter, "_REWRITE_ROWS", 4)
    sql = QUERIES[name]
    rng = random.Random(f"{name}{parallelism}")
    numbers = iter(range(10_000))
    clock = [START]
    events = History(rng, arrow_schema(EVENTS), lambda: event(rng, next(numbers)), weighted=False)
    notes = History(rng, arrow_schema(NOTES), lambda: note(rng, clock), weighted=True)
    runner = ShufflingRunner(plan(sql, parallelism).spec, parallelism)
    try:
        for size, step in ((0, 0), (30, 2), (0, 5), (10, 0), (25, 7), (0, 40), (20, 1), (0, 90_000)):
            clock.append(clock[-1] + dt.timedelta(seconds=step, milliseconds=rng.choice((0, 250))))
            feeds = [("events", events.epoch(size)), ("notes", notes.epoch(rng.randint(0, size)))]
            for relation, batch in rng.sample(feeds, 2):
                half = rng.randint(0, batch.num_rows)
                runner.feed(relation, batch.slice(0, half))
                runner.feed(relation, batch.slice(half))
            shown = runner.barrier(now_us=microseconds(clock[-1]))
            batch_sql = sql.replace("now()", f"TIMESTAMPTZ '{clock[-1]}+00'")
            batch_sql = batch_sql.replace("current_date", f"DATE '{clock[-1].date()}'")
            wanted = batch_answer(batch_sql, {"events": events.table(), "notes": notes.table()})
            assert shown == wanted, (shown - wanted, wanted - shown)
    finally:
        runner.close()


def test_rows_that_only_come_are_never_taken_back() -> None:
    assert plan(QUERIES["rows come"], 4).output.append_only
    assert not plan(QUERIES["rows leave"], 4).output.append_only


def test_what_has_left_is_forgotten() -> None:
    job = plan(QUERIES["rows come and leave"], 1)
    op = next(n.op for t in job.spec.tasks for n in t.nodes if type(n.op).__name__ == "TemporalFilterOp")
    rng = random.Random(1)
    clock = [START]
    notes = History(rng, arrow_schema(NOTES).remove(3), lambda: note(rng, clock)[:3], weighted=True)
    filters = Instances(op, [notes.schema], [()], 1)
    (instance,) = filters._operators
    try:
        filters.feed(0, notes.epoch(50))
        shown = fold(Counter(), filters.barrier(1, now_us=microseconds(START)))
        assert instance._stored > sum(shown.values()) > 0  # type: ignore[attr-defined]
        fold(shown, filters.barrier(2, now_us=microseconds(START) + 60_000_000))
        assert not shown
        assert instance._stored == 0  # type: ignore[attr-defined]
    finally:
        filters.close()


@pytest.mark.parametrize(
    ("condition", "hint"),
    [
        ("now() - ts < INTERVAL '1 hour'", "t > now() - INTERVAL"),
        ("ts > now() OR v > 1", "compared with a column"),
        ("NOT ts < now()", "compared with a column"),
        ("ts <> now()", "compared with a column"),
        ("v > extract(hour FROM now())", "date_trunc"),
        ("ts > now() - INTERVAL '1 hour' * v", "columns on the other"),
    ],
)
def test_other_conditions_with_the_clock_are_refused_with_what_works(condition: str, hint: str) -> None:
    sql = f"SELECT id FROM events WHERE k = 1 AND ({condition})"
    with pytest.raises(SqlError) as refused:
        bind_query(sql, Catalog())
    assert refused.value.sqlstate == "0A000"
    assert refused.value.span is not None
    assert refused.value.span.start >= sql.index("AND")
    assert hint in (refused.value.hint or "")


@pytest.mark.parametrize(
    "sql", ["SELECT now() AS t FROM events", "SELECT k FROM events GROUP BY k HAVING max(ts) > now()"]
)
def test_the_clock_elsewhere_is_refused(sql: str) -> None:
    with pytest.raises(SqlError, match=r"now\(\) is not supported") as refused:
        bind_query(sql, Catalog())
    assert "WHERE" in (refused.value.hint or "")
