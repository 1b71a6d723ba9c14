"""Rows out of order, one split: what EMIT ON WINDOW CLOSE shows must not depend on batches or barriers.

The plan's operators, the source driver and the job's state machine are the real ones; only who cuts is a test.
"""

from __future__ import annotations

import datetime as dt
import itertools
import random
from collections import Counter, deque
from collections.abc import Iterator

import pyarrow as pa
import pytest

from planner.plan import plan_view
from planner.task_spec import SourceOp
from sabot.ids import JobId
from sabotd.agent.messages import EpochDone, SourceDirty, SourcePassed
from sabotd.agent.source import SourceDriver
from sabotd.connectors.base import Position, SourceBatch, SourceStatus
from sabotd.control.job_state import Inject, JobPhase, JobState
from sabotd.state.duckdb_state import TaskDatabase
from sql_frontend.binder import bind_query
from tests.support.job_runner import JobRunner
from tests.support.memory_catalog import MemoryCatalog

S = 1_000_000
EPOCH = dt.datetime(1970, 1, 1)
DELAY_S = 5
CATALOG = MemoryCatalog(
    f"CREATE SOURCE clicks (who INT, t TIMESTAMP, WATERMARK FOR t AS t - INTERVAL '{DELAY_S}' SECOND) "
    "WITH (connector = 'file', path = 'x') FORMAT PLAIN ENCODE JSON"
)
TUMBLE = (
    "SELECT who, window_end, count(*) AS n, max(t) AS last FROM TUMBLE(clicks, t, INTERVAL '10' SECOND) "
    "GROUP BY who, window_end"
)
HOP = (
    "SELECT window_start, count(*) AS n, max(t) AS last "
    "FROM HOP(clicks, t, INTERVAL '5' SECOND, INTERVAL '15' SECOND) GROUP BY window_start"
)
SESSION = "SELECT who, t, window_start, window_end FROM SESSION(clicks PARTITION BY who, t, INTERVAL '4' SECOND)"


class Given:
    """A finite split whose batches are cut beforehand."""

    def __init__(self, batches: list[pa.RecordBatch]) -> None:
        self._batches = deque(batches)

    def read(self, max_rows: int, timeout_s: float) -> SourceBatch | None:
        return SourceBatch("s0", self._batches.popleft()) if self._batches else None

    def finished(self) -> bool:
        return not self._batches

    def position(self) -> Position:
        return {}

    def fence(self) -> Position:
        return {}

    def status(self) -> SourceStatus:
        return SourceStatus(splits=("s0",))

    def wake(self) -> None:
        """Nobody waits."""

    def close(self) -> None:
        """Nothing is open."""


def cut(rng: random.Random, rows: pa.RecordBatch, pieces: int) -> Iterator[pa.RecordBatch]:
    marks = [0, *sorted(rng.randint(0, rows.num_rows) for _ in range(pieces - 1)), rows.num_rows]
    for a, b in itertools.pairwise(marks):
        yield rows.slice(a, b - a)


def run(sql: str, rows: pa.RecordBatch, seed: int, pieces: int, barriers: float) -> Counter[tuple[object, ...]]:
    """Run the view with the rows in `pieces` batches and a barrier after each with likelihood `barriers`."""
    rng = random.Random(seed)
    query = bind_query(sql, CATALOG, emit_on_window_close=True)
    job = plan_view(query, job_id=JobId("mv:v"), relation="v", parallelism=1)
    (op,) = [n.op for t in job.spec.tasks for n in t.nodes if isinstance(n.op, SourceOp)]
    runner = JobRunner(job.spec, seed)
    db = TaskDatabase(None, 256, "s/0")
    driver = SourceDriver(
        "clicks",
        Given(list(cut(rng, rows.select([c.name for c in op.columns]), pieces))),
        db,
        columns=op.columns,
        watermark_sql=op.watermark_sql,
        judge_lateness=op.judge_lateness,
        idle_timeout_s=1e6,
        on_bad_records=lambda source, records: None,
    )
    state = JobState("mv:v", 1, {"s/0": ["clicks"]}, frozenset({"m/0"}), 0.0)

    def carry(instructions: list[object]) -> None:
        for instruction in instructions:
            if not isinstance(instruction, Inject):
                continue
            inject = instruction.barrier
            watermark = driver.barrier(inject.watermarks_us["clicks"], inject.splits)
            splits = driver.split_watermarks()
            runner.barrier(watermark)
            finished = driver.reader.finished()
            passed = SourcePassed("mv:v", 1, "s/0", inject.epoch, splits, finished, 0, 0, 0)
            state.report(passed, 0.0)
            pending.append(EpochDone("mv:v", 1, "m/0", inject.epoch, 0))

    pending: deque[EpochDone] = deque()
    carry(list(state.begin(0.0)))
    while state.phase is JobPhase.RUNNING:
        batch = driver.read(1000, 0.0)
        if batch is not None:
            marks = batch.column("__wm").to_pylist()
            runner.feed("clicks", batch.drop_columns(["__wm"]), row_watermark=marks)
        while pending:
            carry(list(state.report(pending.popleft(), 0.0)))
        if batch is None or rng.random() < barriers:
            carry(list(state.report(SourceDirty("mv:v", 1, "s/0"), 0.0)))
    assert runner.result == Counter(runner.emitted)
    driver.close()
    runner.close()
    db.close()
    return Counter(runner.emitted)


def out_of_order(seed: int, count: int) -> pa.RecordBatch:
    """Rows that wander forward, some of them later than the watermark allows."""
    rng = random.Random(seed)
    now, times = 0.0, []
    for _ in range(count):
        now += rng.expovariate(1 / 0.4)
        behind = rng.choice([0, 0, 0, 1, 3, 6, 12, 25])
        times.append(int((now - behind * rng.random()) * S))
    return pa.record_batch(
        {"who": pa.array([rng.randrange(3) for _ in times], pa.int32()), "t": pa.array(times, pa.timestamp("us"))}
    )


def by_hand(rows: pa.RecordBatch, size_s: int, slide_s: int) -> tuple[dict[tuple[int, int], int], int]:
    """Count rows by (window start, who), each late by the watermark that stood at it; and how many were."""
    counts: Counter[tuple[int, int]] = Counter()
    watermark, late = -(10**18), 0
    for who, t in zip(rows["who"].to_pylist(), rows["t"].cast(pa.int64()).to_pylist(), strict=True):
        watermark = max(watermark, t - DELAY_S * S)
        start = t // (slide_s * S) * slide_s * S
        while start > t - size_s * S:
            if start + size_s * S > watermark:
                counts[start, who] += 1
            else:
                late += 1
            start -= slide_s * S
    return counts, late


def sessions_by_hand(rows: pa.RecordBatch, gap_s: int) -> tuple[Counter[tuple[object, ...]], int]:
    """Merge rows into sessions one by one; a session closes when the watermark has passed its end."""
    gap, watermark, late = gap_s * S, -(10**18), 0
    open_: dict[int, list[list[int]]] = {}
    told: Counter[tuple[object, ...]] = Counter()

    def tell(who: int, times: list[int]) -> None:
        start, end = (EPOCH + dt.timedelta(microseconds=m) for m in (min(times), max(times) + gap))
        told.update((who, EPOCH + dt.timedelta(microseconds=t), start, end) for t in times)

    for who, t in zip(rows["who"].to_pylist(), rows["t"].cast(pa.int64()).to_pylist(), strict=True):
        watermark = max(watermark, t - DELAY_S * S)
        mine = open_.setdefault(who, [])
        for times in [x for x in mine if max(x) + gap <= watermark]:
            mine.remove(times)
            tell(who, times)
        near = [x for x in mine if any(abs(t - u) < gap for u in x)]
        if t + gap <= watermark and not near:
            late += 1
            continue
        for times in near:
            mine.remove(times)
        mine.append([t, *(u for x in near for u in x)])
    for who, mine in open_.items():
        for times in mine:
            tell(who, times)
    return told, late


def test_sessions_close_one_by_one_whatever_the_cut() -> None:
    rows = out_of_order(13, 400)
    whole, late = sessions_by_hand(rows, 4)
    assert late > 5
    assert whole != sessions_by_hand(rows.sort_by("t"), 4)[0]
    for seed, (pieces, barriers) in enumerate([(1, 0.0), (1, 1.0), (150, 1.0), (60, 0.3), (120, 0.02)]):
        assert run(SESSION, rows, seed, pieces, barriers) == whole, (pieces, barriers)


@pytest.mark.parametrize("sql", [TUMBLE, HOP])
def test_the_rows_shown_depend_on_the_split_alone(sql: str) -> None:
    rows = out_of_order(7, 250)
    whole = run(sql, rows, 0, 1, 0.0)
    for seed, (pieces, barriers) in enumerate([(1, 1.0), (150, 1.0), (60, 0.3), (20, 0.9), (120, 0.02)]):
        assert run(sql, rows, seed, pieces, barriers) == whole, (pieces, barriers)


def test_a_row_is_late_by_the_watermark_that_stood_at_it() -> None:
    rows = out_of_order(11, 500)
    counts, late = by_hand(rows, 10, 10)
    assert late > 10
    shown = run(TUMBLE, rows, 3, 60, 0.4)
    assert {(row[1], row[0]): row[2] for row in shown} == {
        (dt.datetime.fromtimestamp(start / S + 10, dt.UTC).replace(tzinfo=None), who): n
        for (start, who), n in counts.items()
    }
    counts, late = by_hand(rows, 15, 5)
    assert late > 10
    by_window: Counter[int] = Counter()
    for (start, _), n in counts.items():
        by_window[start] += n
    assert sorted(row[1] for row in run(HOP, rows, 4, 80, 0.4)) == sorted(by_window.values())
