"""Plans of every shape, on append-only and retracting input, give DuckDB's batch answer at every epoch."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from planner.logical import LogicalNode, Query, Relation, Union
from planner.plan import plan_view
from sabot.ids import JobId
from sabot.schema import arrow_schema
from tests.support.batch_meaning import batch_answer
from tests.support.job_runner import JobRunner
from tests.support.plan_builder import group, hop, join, project, scan, source, table, tumble, where

COLUMNS = (
    "k BIGINT, g VARCHAR, i INTEGER, n BIGINT, d DECIMAL(10,2), f DOUBLE, b BOOLEAN, "
    "ts TIMESTAMP, tz TIMESTAMP WITH TIME ZONE, s STRUCT(a BIGINT, b STRUCT(c VARCHAR, d BIGINT)), j JSON, u UUID"
)
SOURCE = source("rows", COLUMNS)
TABLE = table("rows", COLUMNS)

Shape = Callable[[LogicalNode], LogicalNode]


def _second(node: LogicalNode) -> LogicalNode:
    return project(node, "k2 = k", "g2 = g", "i2 = i", "n2 = n", "d2 = d", "f2 = f")


SHAPES: dict[str, Shape] = {
    "everything": lambda r: r,
    "filter and project": lambda r: project(
        where(r, "n > 0 AND g IS NOT NULL"),
        "g",
        "half: BIGINT = n / 2",
        "kind: VARCHAR = CASE WHEN i > 3 THEN 'big' WHEN i IS NULL THEN NULL ELSE 'small' END",
        "inner: BIGINT = s.b.d",
        "tried: INTEGER = TRY(CAST(g AS INTEGER))",
    ),
    "filter over project": lambda r: where(project(r, "g", "m: BIGINT = TRY(n * 2 + i)"), "m > 4"),
    "struct whole and in part": lambda r: project(r, "s", "c: VARCHAR = s.b.c"),
    "count without columns": lambda r: group(r, "", "c = count(*)"),
    "aggregates by key": lambda r: group(
        r,
        "g",
        "c = count(*)",
        "cn = count(n)",
        "si = sum(i)",
        "sn = sum(n)",
        "sd = sum(d)",
        "a = avg(n)",
        "ad = avg(d)",
    ),
    "aggregates with filter": lambda r: group(
        r, "k, g", "c = count(*) filter b", "cn = count(n) filter b", "s = sum(n) filter b", "a = avg(i) filter b"
    ),
    "global aggregates": lambda r: group(
        r, "", "c = count(n)", "s = sum(n)", "a = avg(i)", "sf = sum(f)", "m = max(g)"
    ),
    "extremes": lambda r: group(r, "g", "lo = min(n)", "hi = max(ts)", "best = max(g) filter b"),
    "floating sums": lambda r: group(r, "g", "s = sum(f)", "a = avg(f)"),
    "boolean sum": lambda r: group(r, "g", "s = sum(b)"),
    "distinct aggregates": lambda r: group(r, "g", "c = count(distinct n)", "s = sum(distinct i)", "n = count(*)"),
    "distinct rows": lambda r: group(project(r, "g", "b"), "g, b"),
    "having": lambda r: where(group(r, "g", "c = count(*)", "s = sum(n)"), "c > 2 AND g <> 'a'"),
    "maximum of counts": lambda r: group(group(r, "g, b", "c = count(*)"), "g", "hi = max(c)", "lo = min(c)"),
    "maximum of filtered counts": lambda r: group(where(group(r, "g, b", "c = count(*)"), "c < 4"), "g", "hi = max(c)"),
    "maximum of some keys' counts": lambda r: group(
        where(group(r, "g, b", "c = count(*)", "m = min(n)"), "b"), "g", "hi = max(c)", "lo = min(m)", "c2 = count(*)"
    ),
    "sum of counts": lambda r: group(group(r, "g, b", "c = count(*)"), "", "s = sum(c)", "n = count(*)"),
    "counts by counts": lambda r: group(group(r, "g", "c = count(*)"), "c", "n = count(*)", "m = max(g)"),
    "same keys again": lambda r: group(group(r, "g, b", "c = count(*)"), "g, b, c", "n = count(*)"),
    "tumble": lambda r: group(tumble(r, "ts", 7), "window_start, window_end, g", "c = count(*)", "s = sum(n)"),
    "tumble with offset": lambda r: group(tumble(r, "ts", 7, 2_500_000), "window_end", "c = count(*)"),
    "tumble with zone": lambda r: group(tumble(r, "tz", 7), "window_start", "c = count(*)"),
    "tumble rows": lambda r: project(tumble(r, "ts", 5), "g", "n", "window_start", "window_end"),
    "hop": lambda r: group(hop(r, "ts", 6, 2), "g, window_start", "c = count(*)", "s = sum(n)", "m = avg(i)"),
    "hop with zone": lambda r: group(hop(r, "tz", 6, 2), "window_end", "c = count(g)"),
    "hop rows": lambda r: project(hop(r, "ts", 6, 2), "g", "window_start", "window_end"),
    "hop of no multiple": lambda r: group(hop(r, "ts", 5, 2), "window_start", "c = count(*)"),
    "hop with filters between": lambda r: group(
        where(project(hop(r, "ts", 6, 2), "g", "at = window_end", "m: BIGINT = n + 1"), "m > 1"), "at", "s = sum(m)"
    ),
    "hop filtered by window": lambda r: group(
        where(hop(r, "ts", 6, 2), "window_start >= TIMESTAMP '1970-01-01'"), "g, window_start", "c = count(*)"
    ),
    "hop grouped by time of day": lambda r: group(
        project(hop(r, "ts", 6, 2), "window_start", "age: INTERVAL = window_end - ts"),
        "window_start, age",
        "c = count(*)",
    ),
    "self join": lambda r: join(project(r, "k", "n"), _second(project(r, "k", "g", "i", "n", "d", "f")), "k = k2"),
    "join with residual": lambda r: project(
        join(project(r, "k", "g", "n"), _second(r), "k = k2, g = g2", "n < n2"), "n", "n2"
    ),
    "join of unlike types": lambda r: project(join(project(r, "i", "g"), _second(r), "i = d2"), "g", "g2", "i", "d2"),
    "join of whole and floating": lambda r: project(join(project(r, "n", "g"), _second(r), "n = f2"), "g", "g2"),
    "join of counts": lambda r: join(
        group(r, "g", "c = count(*)"), project(group(_second(r), "g2", "hi = max(n2)"), "g2", "hi"), "g = g2"
    ),
    "join on a part of the groups": lambda r: project(
        join(group(r, "g, b", "c = count(*)"), project(group(r, "g", "all_ = count(*)"), "h = g", "all_"), "g = h"),
        "b",
        "c",
        "all_",
        "g",
    ),
    "grouped join": lambda r: group(
        join(project(r, "k", "n"), project(_second(r), "k2", "i2"), "k = k2"), "k2", "c = count(*)", "s = sum(i2)"
    ),
    "union": lambda r: Union((project(r, "g", "n"), project(where(r, "b"), "g = g", "n"))),
    "grouped union": lambda r: where(
        group(Union((project(r, "g", "n"), project(r, "g", "n: BIGINT = -n"))), "g", "s = sum(n)"), "g <> 'b'"
    ),
    "union of counts": lambda r: Union((group(r, "g", "c = count(*)"), group(where(r, "b"), "g", "c = count(*)"))),
    "json and uuid": lambda r: project(
        where(r, "u > CAST('40000000-0000-0000-0000-000000000000' AS UUID) OR j IS NULL"),
        "u",
        "j",
        "q: BIGINT = TRY(CAST(j ->> 'q' AS BIGINT))",
        "whole: VARCHAR = CAST(to_json(j) AS VARCHAR)",
        "inner: JSON = j -> 'q'",
        "text: VARCHAR = upper(CAST(u AS VARCHAR))",
    ),
    "grouped by json and uuid": lambda r: group(r, "u", "c = count(j)", "hi = max(u)"),
    "the same twice": lambda r: Union((project(r, "g"), project(r, "g"))),
    "nothing read": lambda r: project(r, "one: INTEGER = 1"),
    "join without keys": lambda r: project(
        join(group(r, "", "all_ = count(*)"), group(r, "g", "c = count(*)"), "", "c * 3 > all_"), "g", "c"
    ),
}


def _row(rng: random.Random) -> dict[str, Any]:
    def maybe(value: Any, share: float = 0.15) -> Any:
        return None if rng.random() < share else value

    time = dt.datetime(1970, 1, 1) + dt.timedelta(milliseconds=rng.randint(-20_000, 20_000))
    struct = {"a": rng.randint(0, 3), "b": maybe({"c": rng.choice("xyz"), "d": rng.randint(0, 9)})}
    return {
        "k": maybe(rng.randint(1, 4)),
        "g": maybe(rng.choice(["a", "b", "c", "7"])),
        "i": maybe(rng.randint(-2, 6)),
        "n": maybe(rng.choice([rng.randint(-5, 9), 2**62])),
        "d": maybe(Decimal(rng.randint(-2, 6)) + rng.choice([Decimal(0), Decimal("0.25")])),
        "f": maybe(rng.choice([0.5, 1.0, 2.0, -0.0])),
        "b": maybe(rng.random() < 0.5),
        "ts": maybe(time),
        "tz": maybe(time.replace(tzinfo=dt.UTC)),
        "s": maybe(struct),
        "j": maybe(rng.choice(['{"q": 7}', '{"q": "x"}', "[1, 2]", '"text"'])),
        "u": maybe(f"{rng.choice('0479f')}0000000-0000-0000-0000-000000000001"),
    }


def _epochs(rng: random.Random, relation: Relation, *, retracting: bool) -> list[tuple[pa.RecordBatch, pa.Table]]:
    """Return, per epoch, what comes in and the rows that stand after it."""
    schema = arrow_schema(relation.schema)
    standing: list[dict[str, Any]] = []
    epochs = []
    for _ in range(2):
        changes = []
        for _ in range(28):
            if retracting and standing and rng.random() < 0.4:
                changes.append(standing.pop(rng.randrange(len(standing))) | {"__weight": -1})
            else:
                row = _row(rng)
                copies = rng.choice((1, 1, 2)) if retracting else 1
                standing += [row] * copies
                changes.append(row | {"__weight": copies})
        with_weight = schema.append(pa.field("__weight", pa.int32()))
        batch = pa.RecordBatch.from_pylist(changes, schema=with_weight if retracting else schema)
        epochs.append((batch, pa.Table.from_pylist(standing, schema=schema)))
    return epochs


@pytest.mark.parametrize("retracting", [False, True], ids=["append", "retract"])
@pytest.mark.parametrize("name", list(SHAPES))
def test_a_view_equals_the_batch_query(name: str, retracting: bool) -> None:
    rng = random.Random(f"{name}{retracting}")
    relation = TABLE if retracting else SOURCE
    root = SHAPES[name](scan(relation))
    parallelism = rng.choice([1, 2, 2])
    job = plan_view(Query(root), job_id=JobId("mv:v"), relation="v", parallelism=parallelism)
    runner = JobRunner(job.spec, seed=parallelism)
    try:
        for batch, standing in _epochs(rng, relation, retracting=retracting):
            runner.feed("rows", batch)
            assert runner.barrier() == batch_answer(root, {"rows": standing})
        if job.output.append_only:
            assert sum(runner.result.values()) == len(runner.emitted)
    finally:
        runner.close()
