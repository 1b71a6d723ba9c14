"""EMIT ON WINDOW CLOSE: each window once, when the watermark has passed it, without rows that came too late."""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter
from typing import Any

import pytest

from planner.logical import Emit, LogicalNode, Query, Union
from planner.plan import PlannedJob, plan_view
from planner.task_spec import CloseFilterOp, FinalAggOp, SourceOp
from sabot.errors import SqlError
from sabot.ids import JobId
from tests.support.job_runner import JobRunner
from tests.support.nexmark_rows import EPOCH, at, rows_of
from tests.support.plan_builder import group, hop, join, project, scan, source, table, tumble, where

CLICKS = source("clicks", "who VARCHAR, n BIGINT, t TIMESTAMP", watermark="t")
ZONED = source("clicks", "who VARCHAR, n BIGINT, t TIMESTAMP WITH TIME ZONE", watermark="t")
S = 1_000_000


def on_close(root: LogicalNode, parallelism: int = 2) -> PlannedJob:
    return plan_view(Query(root, Emit.ON_WINDOW_CLOSE), job_id=JobId("mv:v"), relation="v", parallelism=parallelism)


def clicks(*rows: tuple[str, int, int | None]) -> Any:
    """Rows of who, n, second."""
    return rows_of(
        CLICKS, [{"who": w, "n": n, "t": None if s is None else EPOCH + dt.timedelta(seconds=s)} for w, n, s in rows]
    )


def test_a_window_is_shown_once_it_has_closed() -> None:
    job = on_close(group(tumble(scan(CLICKS), "t", 10), "who, window_end", "c = count(*)", "s = sum(n)"))
    assert job.output.append_only
    assert job.output.stream_key == ("who", "window_end")
    runner = JobRunner(job.spec)
    runner.feed("clicks", clicks(("a", 1, 3), ("a", 2, 9), ("b", 3, 10), ("a", 4, -4), ("a", 9, None)))
    assert not runner.barrier(-1 * S)
    assert runner.barrier(9 * S) == {("a", at(0), 1, 4): 1}
    assert runner.barrier(10 * S) == {("a", at(0), 1, 4): 1, ("a", at(10 * S), 2, 3): 1}
    runner.end()
    assert runner.emitted == [("a", at(0), 1, 4), ("a", at(10 * S), 2, 3), ("b", at(20 * S), 1, 3)]
    runner.close()


@pytest.mark.parametrize("keys", ["window_start", "window_end", "window_start, window_end"])
@pytest.mark.parametrize("zoned", [False, True])
def test_either_end_of_the_window_closes_it(keys: str, zoned: bool) -> None:
    relation = ZONED if zoned else CLICKS
    job = on_close(project(group(tumble(scan(relation), "t", 10), keys, "c = count(*)"), "c"))
    runner = JobRunner(job.spec)
    zone = dt.UTC if zoned else None
    rows = [{"who": "a", "n": 1, "t": EPOCH.replace(tzinfo=zone) + dt.timedelta(seconds=s)} for s in (1, 2, 11)]
    runner.feed("clicks", rows_of(relation, rows), row_watermark=[None, None, at(9 * S)])
    assert not runner.barrier(10 * S - 1)
    assert runner.barrier(10 * S) == {(2,): 1}
    assert runner.end() == {(2,): 1, (1,): 1}
    runner.close()


@pytest.mark.parametrize("zoned", [False, True])
@pytest.mark.parametrize("shape", ["hop", "tumble", "hop rows"])
def test_a_row_is_late_per_window(shape: str, zoned: bool) -> None:
    relation = ZONED if zoned else CLICKS
    size = 10 if shape == "tumble" else 6
    windowed = tumble(scan(relation), "t", 10) if shape == "tumble" else hop(scan(relation), "t", 6, 2)
    if shape == "hop rows":
        job = on_close(project(windowed, "who", "window_end", "n"))
        assert any(isinstance(n.op, CloseFilterOp) for t in job.spec.tasks for n in t.nodes)
    else:
        job = on_close(group(windowed, "who, window_end", "s = sum(n)"))
    rng = random.Random(shape)
    seconds = [rng.randint(-15, 15) for _ in range(80)]
    marks = [rng.choice([None, rng.randint(-16, 16)]) for _ in seconds]
    zone = dt.UTC if zoned else None
    rows = [
        {"who": rng.choice("ab"), "n": i, "t": EPOCH.replace(tzinfo=zone) + dt.timedelta(seconds=s)}
        for i, s in enumerate(seconds)
    ]
    runner = JobRunner(job.spec)
    runner.feed("clicks", rows_of(relation, rows), row_watermark=[None if m is None else at(m * S) for m in marks])
    shown = runner.end()
    runner.close()
    expected: Counter[tuple[Any, ...]] = Counter()
    slide = size if shape == "tumble" else 2
    for row, second, mark in zip(rows, seconds, marks, strict=True):
        latest = second // slide * slide
        for start in range(latest, latest - size, -slide):
            if mark is None or start + size > mark:
                end = EPOCH.replace(tzinfo=zone) + dt.timedelta(seconds=start + size)
                if shape == "hop rows":
                    expected[row["who"], end, row["n"]] += 1
                else:
                    expected[row["who"], end] += row["n"]
    if shape != "hop rows":
        groups = {(r["who"], e) for r, e in _windows(rows, seconds, marks, size, slide, zone)}
        assert shown == Counter((*g, expected[g]) for g in groups)
    else:
        assert shown == expected


def _windows(rows: Any, seconds: Any, marks: Any, size: int, slide: int, zone: Any) -> Any:
    for row, second, mark in zip(rows, seconds, marks, strict=True):
        latest = second // slide * slide
        for start in range(latest, latest - size, -slide):
            if mark is None or start + size > mark:
                yield row, EPOCH.replace(tzinfo=zone) + dt.timedelta(seconds=start + size)


def test_groups_by_the_watermark_column_itself() -> None:
    job = on_close(group(scan(CLICKS), "t", "s = sum(n)"))
    runner = JobRunner(job.spec)
    rows = clicks(("a", 1, 5), ("a", 2, 5), ("a", 3, 4), ("a", 4, 6))
    runner.feed("clicks", rows, row_watermark=[None, at(5 * S), at(5 * S), None])
    assert not runner.barrier(5 * S)
    assert runner.barrier(5 * S + 1) == {(at(5 * S), 3): 1}
    runner.end()
    assert runner.emitted == [(at(5 * S), 3), (at(6 * S), 4)]
    runner.close()


def test_a_distinct_count_is_held_back_until_its_window_closes() -> None:
    job = on_close(group(tumble(scan(CLICKS), "t", 10), "window_end", "c = count(distinct who)"))
    assert job.output.append_only
    runner = JobRunner(job.spec)
    runner.feed("clicks", clicks(("a", 1, 1), ("b", 1, 2)))
    assert not runner.barrier(0)
    runner.feed("clicks", clicks(("a", 1, 3)))
    assert runner.barrier(10 * S) == {(at(10 * S), 2): 1}
    runner.close()


def test_windows_of_plain_rows_joined_are_held_back() -> None:
    left = tumble(scan(CLICKS), "t", 10)
    right = project(tumble(scan(CLICKS), "t", 10), "who2 = who", "m = n", "ws2 = window_start")
    root = project(join(left, right, "who = who2, window_start = ws2", "n < m"), "who", "n", "m")
    job = on_close(root)
    assert job.output.append_only
    assert [f.name for f in job.output.schema] == ["who", "n", "m"]
    runner = JobRunner(job.spec)
    runner.feed("clicks", clicks(("a", 1, 1), ("a", 2, 3), ("a", 3, 12)))
    assert not runner.barrier(9 * S)
    assert runner.barrier(10 * S) == {("a", 1, 2): 1}
    runner.close()


def test_windows_over_a_union_of_sources() -> None:
    other = source("others", "who VARCHAR, n BIGINT, t TIMESTAMP", watermark="t")
    both = Union((where(scan(CLICKS), "n > 0"), scan(other)))
    job = on_close(group(tumble(both, "t", 10), "window_end", "s = sum(n)"))
    ops = [n.op for t in job.spec.tasks for n in t.nodes]
    assert all(op.judge_lateness for op in ops if isinstance(op, SourceOp))
    runner = JobRunner(job.spec)
    runner.feed("clicks", clicks(("a", 1, 1), ("a", -5, 1), ("a", 7, 2)), row_watermark=[None, None, at(10 * S)])
    runner.feed("others", clicks(("b", 2, 3)), row_watermark=[None])
    assert runner.barrier(10 * S) == {(at(10 * S), 3): 1}
    runner.close()


def test_nothing_to_close_by_is_refused() -> None:
    plain = source("plain", "who VARCHAR, n BIGINT, t TIMESTAMP")
    for root in (
        group(tumble(scan(plain), "t", 10), "window_end", "c = count(*)"),
        group(scan(CLICKS), "who", "c = count(*)"),
        project(scan(table("facts", "a BIGINT")), "a"),
        group(
            tumble(project(scan(CLICKS), "t: TIMESTAMP = date_trunc('day', t)"), "t", 10), "window_end", "c = count(*)"
        ),
    ):
        with pytest.raises(SqlError, match="EMIT ON WINDOW CLOSE") as refused:
            on_close(root)
        assert refused.value.sqlstate == "42P20"
        assert refused.value.hint


def test_the_watermark_is_computed_where_nothing_else_reads_its_column() -> None:
    job = on_close(project(group(tumble(scan(CLICKS), "t", 10), "window_end", "c = count(*)"), "c"))
    (op,) = {id(n.op): n.op for n in job.spec.tasks[0].nodes if isinstance(n.op, SourceOp)}.values()
    assert op.watermark_sql == "\"t\" - INTERVAL '4 seconds'"
    assert [c.name for c in op.columns] == ["t"]
    closing = [n.op for t in job.spec.tasks for n in t.nodes if isinstance(n.op, FinalAggOp)]
    assert {c.close_column for c in closing} == {"window_end"}


def test_a_query_on_update_asks_for_no_watermark() -> None:
    query = Query(group(tumble(scan(CLICKS), "t", 10), "window_end", "c = count(*)"))
    job = plan_view(query, job_id=JobId("mv:v"), relation="v", parallelism=1)
    (op,) = [n.op for t in job.spec.tasks for n in t.nodes if isinstance(n.op, SourceOp)]
    assert op.watermark_sql is None
    assert not op.judge_lateness
