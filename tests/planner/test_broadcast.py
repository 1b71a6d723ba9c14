"""Joins one side of which goes to every task: which, and that the answer is the batch's."""

from __future__ import annotations

import random
from dataclasses import replace

import pyarrow as pa
import pytest

from planner.distribution import Broadcast, Hash, Single
from planner.estimates import BROADCAST_ROWS, broadcast_side, rows_estimate
from planner.logical import Join, LogicalNode, Query, Relation, Union
from planner.plan import PlannedJob, plan_view
from planner.task_spec import JoinOp
from sabot.ids import JobId
from sabot.schema import arrow_schema
from tests.support.batch_meaning import batch_answer
from tests.support.job_runner import JobRunner
from tests.support.plan_builder import group, hop, join, project, scan, source, table, where

LEFT = "k BIGINT, n BIGINT, at TIMESTAMP"
RIGHT = "k2 BIGINT, m BIGINT"
ROWS = source("rows", LEFT)
CHANGES = table("rows", LEFT)
OTHER = table("other", RIGHT)


def sized(relation: Relation, rows: int | None) -> LogicalNode:
    return scan(replace(relation, rows_estimate=rows))


def plan(root: LogicalNode, parallelism: int = 3) -> PlannedJob:
    return plan_view(Query(root), job_id=JobId("mv:v"), relation="v", parallelism=parallelism)


def kinds(job: PlannedJob) -> list[str]:
    """The edges into the join."""
    (name,) = (o for o, node in job.operators if isinstance(node.op, JoinOp))
    return [e.type.value for e in job.execution_graph.edges_into(name)]


def test_estimates_follow_the_plan() -> None:
    assert rows_estimate(sized(OTHER, 7)) == 7
    assert rows_estimate(sized(OTHER, None)) is None
    assert rows_estimate(sized(OTHER, 0)) is None, "an empty table is to be filled yet"
    assert rows_estimate(group(where(project(sized(OTHER, 7), "m"), "m > 1"), "m")) == 7
    assert rows_estimate(hop(sized(CHANGES, 7), "at", 5, 2)) == 21
    assert rows_estimate(Union((sized(OTHER, 7), sized(OTHER, 8)))) == 15
    assert rows_estimate(Union((sized(OTHER, 7), scan(OTHER)))) is None
    assert rows_estimate(join(sized(CHANGES, 7), sized(OTHER, 7), "k = k2")) is None


@pytest.mark.parametrize(
    ("left", "right", "with_keys", "without"),
    [
        (None, None, None, 1),
        (None, 5, 1, 1),
        (5, None, 0, 0),
        (5, 49, None, 0),
        (5, 50, 0, 0),
        (1_000_000, 90, 1, 1),
        (None, BROADCAST_ROWS + 1, None, 1),
    ],
)
def test_the_smaller_side_is_sent(left: int | None, right: int | None, with_keys: int | None, without: int) -> None:
    node = join(sized(CHANGES, left), sized(OTHER, right), "k = k2")
    assert isinstance(node, Join)
    assert broadcast_side(node, keyed=True) == with_keys
    assert broadcast_side(node, keyed=False) == without


def test_a_join_without_keys_broadcasts_and_leaves_the_other_side_in_place() -> None:
    job = plan(join(scan(ROWS), scan(OTHER), "", "n < m"))
    assert kinds(job) == ["FORWARD", "BROADCAST"]
    assert "requires broadcast" in job.explain()
    assert "BROADCAST, tasks 1 x 3" in job.explain()
    assert kinds(plan(join(scan(ROWS), scan(OTHER), "", "n < m"), 1)) == ["FORWARD", "HASH"]


def test_a_small_side_is_broadcast_beside_a_source() -> None:
    assert kinds(plan(join(scan(ROWS), scan(OTHER), "k = k2"))) == ["HASH", "HASH"]
    job = plan(join(scan(ROWS), sized(OTHER, 12), "k = k2"))
    assert kinds(job) == ["FORWARD", "BROADCAST"]
    assert kinds(plan(join(sized(OTHER, 12), scan(ROWS), "k2 = k"))) == ["BROADCAST", "FORWARD"]


def test_what_is_hashed_by_the_key_already_is_not_joined_by_broadcast() -> None:
    counted = group(scan(ROWS), "k", "c = count(*)")
    assert kinds(plan(join(counted, sized(OTHER, 12), "k = k2"))) == ["FORWARD", "HASH"]


def test_rows_that_may_be_taken_back_meet_their_retractions() -> None:
    job = plan(join(scan(CHANGES), sized(OTHER, 12), "k = k2"))
    assert kinds(job) == ["HASH", "BROADCAST"]
    (node,) = (n for _, n in job.operators if isinstance(n.op, JoinOp))
    assert [type(i.requires) for i in node.inputs] == [Hash, Broadcast]
    assert node.distribution == Hash(("k", "n", "at"))
    counted = group(scan(ROWS), "k", "c = count(*)")
    job = plan(join(counted, scan(OTHER), "", "c > m"))
    assert kinds(job) == ["FORWARD", "BROADCAST"], "they lie by their key already"
    again = plan(group(join(counted, scan(OTHER), "", "c > m"), "k", "best = count(m)"))
    (last,) = (n for o, n in again.operators if o.endswith("final_agg") and n.schema[-1].name == "best")
    assert isinstance(last.distribution, Hash)
    assert last.distribution.keys == ("k",)
    total = group(scan(ROWS), "", "c = count(*)")
    job = plan(join(total, scan(OTHER), "", "c > m"))
    (node,) = (n for _, n in job.operators if isinstance(n.op, JoinOp))
    assert node.distribution == Single()


SHAPES = {
    "inequality": lambda left, right: join(left, right, "", "n < m AND k <> k2"),
    "cross": lambda left, right: project(join(left, right, ""), "k", "m"),
    "keyed": lambda left, right: join(left, right, "k = k2"),
    "keyed with residual": lambda left, right: join(right, left, "k2 = k", "n < m"),
    "grouped": lambda left, right: group(join(left, right, "", "n < m"), "k", "c = count(*)", "s = sum(m)"),
    "of groups": lambda left, right: join(
        group(left, "k", "c = count(*)"), project(group(right, "k2", "hi = max(m)"), "hi"), "", "c <= hi"
    ),
    "self": lambda left, right: join(left, project(left, "k3 = k", "n3 = n"), "", "n < n3"),
    "counts with counts": lambda left, right: join(
        group(left, "k", "c = count(*)"),
        project(group(left, "k", "c = count(*)"), "k4 = k", "c4 = c"),
        "k = c4",
    ),
    "of joins": lambda left, right: join(
        project(join(left, right, "k = k2"), "k", "n", "m"), project(right, "m3 = m"), "", "n + m > m3"
    ),
}


@pytest.mark.parametrize("small", [12, None], ids=["small", "unknown"])
@pytest.mark.parametrize("retracting", [False, True], ids=["append", "retract"])
@pytest.mark.parametrize("shape", list(SHAPES))
def test_a_broadcast_join_equals_the_batch_query(shape: str, retracting: bool, small: int | None) -> None:
    rng = random.Random(f"{shape}{retracting}{small}")
    left = CHANGES if retracting else ROWS
    root = SHAPES[shape](scan(left), sized(OTHER, small))
    job = plan(root, rng.choice([2, 3]))
    if shape != "counts with counts":
        assert any(e.type.value == "BROADCAST" for e in job.execution_graph.edges) or small is None
    runner = JobRunner(job.spec, seed=rng.randrange(100))
    standing: dict[str, list[dict[str, object]]] = {"rows": [], "other": []}
    try:
        for _ in range(2):
            for relation, changing in ((left, retracting), (OTHER, True)):
                runner.feed(relation.name, changes(rng, relation, standing[relation.name], retracting=changing))
            tables = {
                r.name: pa.Table.from_pylist(standing[r.name], schema=arrow_schema(r.schema)) for r in (left, OTHER)
            }
            assert runner.barrier() == batch_answer(root, tables)
    finally:
        runner.close()


def changes(
    rng: random.Random, relation: Relation, standing: list[dict[str, object]], *, retracting: bool
) -> pa.RecordBatch:
    rows = []
    for _ in range(12):
        if retracting and standing and rng.random() < 0.4:
            rows.append(standing.pop(rng.randrange(len(standing))) | {"__weight": -1})
            continue
        row: dict[str, object] = {f.name: rng.choice([None, *range(6)]) for f in relation.schema if f.type == "BIGINT"}
        standing.append(row)
        rows.append(row | {"__weight": 1})
    schema = arrow_schema(relation.schema)
    if retracting:
        schema = schema.append(pa.field("__weight", pa.int32()))
    return pa.RecordBatch.from_pylist(rows, schema=schema)
