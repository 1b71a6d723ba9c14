from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from planner.changelog import Changelog, Monotone
from planner.logical import LogicalNode, Query, RelationKind, Union
from planner.plan import PlannedJob, SinkTarget, plan_sink, plan_view
from planner.task_spec import (
    EdgeSpec,
    FinalAggOp,
    FromEdge,
    FromOperator,
    JobSpec,
    JoinOp,
    LogSourceOp,
    MaterializeOp,
    RecomputeOp,
    SinkOp,
    SourceOp,
    SqlOp,
)
from sabot.errors import PlanError
from sabot.ids import JobId
from tests.support.nexmark_plans import QUERIES
from tests.support.plan_builder import group, join, project, scan, source, table, where

ROWS = source("rows", "k BIGINT, g VARCHAR, n BIGINT, f DOUBLE")
TABLE = table("facts", "k BIGINT, g VARCHAR, n BIGINT", ("k",))


def view(root: LogicalNode, parallelism: int = 3) -> PlannedJob:
    return plan_view(Query(root), job_id=JobId("mv:v"), relation="v", parallelism=parallelism)


def sink(root: LogicalNode, connector: str = "kafka", parallelism: int = 3) -> PlannedJob:
    target = SinkTarget("out", connector, {"topic": "t"}, "json")
    return plan_sink(Query(root), job_id=JobId("sink:out"), sink=target, parallelism=parallelism)


def kinds(job: PlannedJob) -> list[str]:
    return [type(node.op).__name__ for _, node in job.operators]


def edges(job: PlannedJob) -> list[tuple[str, tuple[str, ...], int, int]]:
    return [(e.kind, e.keys, len(e.upstream), len(e.downstream)) for e in job.spec.edges]


def test_the_spec_is_consistent_and_plain_data() -> None:
    for query in QUERIES.values():
        job = plan_view(query, job_id=JobId("mv:v"), relation="v", parallelism=3)
        check(job.spec)
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(job.spec), type=JobSpec) == job.spec


def check(spec: JobSpec) -> None:
    by_id = {e.edge_id: e for e in spec.edges}
    assert len(by_id) == len(spec.edges)
    tasks = [t.task_id for t in spec.tasks]
    assert len(set(tasks)) == len(tasks)
    written: dict[str, set[str]] = {e: set() for e in by_id}
    read: dict[str, set[str]] = {e: set() for e in by_id}
    for task in spec.tasks:
        for node in task.nodes:
            for given in node.inputs:
                if isinstance(given, FromEdge):
                    read[given.edge_id].add(task.task_id)
                else:
                    assert 0 <= given.index < task.nodes.index(node)
        for output in task.outputs:
            written[output.edge_id].add(task.task_id)
    for edge in spec.edges:
        assert written[edge.edge_id] == set(edge.upstream)
        assert read[edge.edge_id] == set(edge.downstream)
        assert set(edge.keys) <= {c.name for c in edge.columns}
        assert max(map(tasks.index, edge.upstream)) < min(map(tasks.index, edge.downstream))


def test_ids_do_not_depend_on_the_process() -> None:
    program = (
        "from tests.support.nexmark_plans import QUERIES; from planner.plan import plan_view\n"
        "for q in QUERIES.values(): print(plan_view(q, job_id='mv:v', relation='v', parallelism=3).explain())"
    )
    mine = "".join(
        plan_view(q, job_id=JobId("mv:v"), relation="v", parallelism=3).explain() + "\n" for q in QUERIES.values()
    )
    other = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert other.stdout == mine


def test_a_view_ends_in_a_task_of_the_daemon() -> None:
    job = view(project(where(scan(ROWS), "n > 1"), "k", "n"))
    assert kinds(job) == ["SourceOp", "SqlOp", "MaterializeOp"]
    assert [(t.task_id, t.pinned) for t in job.spec.tasks] == [
        ("0-source/0", False),
        ("0-source/1", False),
        ("0-source/2", False),
        ("2-materialize/0", True),
    ]
    assert edges(job) == [("HASH", (), 3, 1)]
    assert job.output.kind is RelationKind.MATERIALIZED_VIEW
    assert job.output.append_only
    assert job.output.stream_key == ()
    op = job.spec.tasks[-1].nodes[0].op
    assert isinstance(op, MaterializeOp)
    assert not op.weighted


def test_a_group_is_merged_where_its_key_hashes_to() -> None:
    job = view(group(scan(ROWS), "g", "s = sum(n)"))
    assert kinds(job) == ["SourceOp", "PartialAggOp", "FinalAggOp", "MaterializeOp"]
    assert edges(job) == [("HASH", ("g",), 3, 3), ("HASH", (), 3, 1)]
    assert job.output.stream_key == ("g",)
    assert not job.output.append_only
    assert [c.name for c in job.spec.edges[0].columns] == ["g", "__p0", "__p1"]
    assert [c.name for c in job.spec.edges[1].columns] == ["g", "s", "__weight"]


def test_a_global_aggregate_gathers_partials() -> None:
    job = view(group(scan(ROWS), "", "s = sum(n)"))
    assert edges(job) == [("HASH", (), 3, 1), ("HASH", (), 1, 1)]
    assert [t.pinned for t in job.spec.tasks] == [False, False, False, False, True]


def test_what_is_partitioned_by_a_part_of_the_key_stays_where_it_is() -> None:
    once = group(scan(ROWS), "g", "c = count(*)")
    again = group(project(once, "h = g", "c"), "h, c", "n = count(*)")
    job = view(again)
    assert edges(job) == [("HASH", ("g",), 3, 3), ("HASH", (), 3, 1)]
    by_count = view(group(once, "c", "n = count(*)"))
    assert edges(by_count) == [("HASH", ("g",), 3, 3), ("HASH", ("c",), 3, 3), ("HASH", (), 3, 1)]


def test_a_rewritten_key_is_shuffled_again() -> None:
    once = group(scan(ROWS), "g", "c = count(*)")
    upper = group(project(once, "g: VARCHAR = upper(g)", "c"), "g", "s = sum(c)")
    assert edges(view(upper))[:2] == [("HASH", ("g",), 3, 3), ("HASH", ("g",), 3, 3)]


def test_a_join_follows_the_side_that_is_partitioned_already() -> None:
    counts = group(scan(ROWS), "g", "c = count(*)")
    facts = project(scan(TABLE), "fg = g", "fn = n")
    job = view(join(counts, facts, "g = fg, c = fn"))
    join_inputs = [e for e in job.spec.edges if "join#" in e.edge_id]
    assert [(e.kind, e.keys) for e in join_inputs] == [("HASH", ("fg",))]
    assert ("HASH", ("g",), 3, 3) in edges(job)
    reverse = view(join(facts, counts, "fn = c, fg = g"))
    assert [e.keys for e in reverse.spec.edges if "join#" in e.edge_id] == [("fg",)]


def test_shared_work_is_done_once() -> None:
    job = plan_view(QUERIES["q5"], job_id=JobId("mv:v"), relation="v", parallelism=2)
    assert kinds(job).count("SourceOp") == 1
    assert kinds(job).count("FinalAggOp") == 2
    q8 = plan_view(QUERIES["q8"], job_id=JobId("mv:v"), relation="v", parallelism=2)
    assert kinds(q8).count("SourceOp") == 1
    (source_op,) = (n.op for _, n in q8.operators if isinstance(n.op, SourceOp))
    assert [c.type for c in source_op.columns] == [
        "BIGINT",
        "STRUCT(id BIGINT, name VARCHAR)",
        "STRUCT(seller BIGINT)",
        "TIMESTAMP",
    ]
    assert [c.name for c in source_op.declared] == ["event_type", "person", "auction", "bid", "date_time"]


def test_tables_are_read_in_the_daemon_and_spread_from_there() -> None:
    job = view(project(where(scan(TABLE), "n > 1"), "k", "n"))
    assert edges(job) == [("REBALANCE", (), 1, 3), ("HASH", (), 3, 1)]
    op = job.spec.tasks[0].nodes[0].op
    assert isinstance(op, LogSourceOp)
    assert op.weighted
    assert [c.name for c in op.columns] == ["k", "n"]
    assert job.spec.edges[0].columns[-1].name == "__weight"
    assert job.output.stream_key == ("k",)
    keyed = view(join(scan(TABLE), project(scan(ROWS), "rk = k"), "k = rk"))
    assert ("HASH", ("k",), 1, 3) in edges(keyed)


def test_a_view_of_a_whole_table_is_one_task_of_the_daemon() -> None:
    job = view(scan(TABLE))
    assert [(t.task_id, t.pinned, len(t.nodes)) for t in job.spec.tasks] == [("0-log_source/0", True, 2)]
    assert job.spec.edges == ()


def test_minimum_over_rows_that_may_go_is_recomputed() -> None:
    assert "RecomputeOp" in kinds(view(group(scan(TABLE), "g", "lo = min(n)")))
    assert "RecomputeOp" not in kinds(view(group(scan(ROWS), "g", "lo = min(n)")))
    floats = table("floats", "g VARCHAR, f DOUBLE")
    assert "RecomputeOp" in kinds(view(group(scan(floats), "g", "s = sum(f)")))
    assert "RecomputeOp" in kinds(view(group(scan(ROWS), "g", "s = sum(distinct f)")))
    job = view(group(scan(TABLE), "g", "lo = min(n)"))
    (op,) = (n.op for _, n in job.operators if isinstance(n.op, RecomputeOp))
    assert op.keys == (("g",),)
    assert [c.name for c in op.inputs[0]] == ["g", "n"]


def test_a_maximum_of_what_only_grows_is_not() -> None:
    counts = group(scan(ROWS), "g, k", "c = count(*)", "lo = min(n)")
    assert "RecomputeOp" not in kinds(view(group(counts, "g", "hi = max(c)", "l = min(lo)")))
    assert "RecomputeOp" in kinds(view(group(counts, "g", "l = min(c)")))
    assert "RecomputeOp" in kinds(view(group(counts, "lo", "hi = max(c)")))
    assert "RecomputeOp" in kinds(view(group(where(counts, "c < 5"), "g", "hi = max(c)")))
    assert "RecomputeOp" not in kinds(view(group(where(counts, "k > 5"), "g", "hi = max(c)")))
    sums = group(scan(ROWS), "g, k", "s = sum(n)")
    assert "RecomputeOp" in kinds(view(group(sums, "g", "hi = max(s)")))
    renamed = Monotone(frozenset("ab"), frozenset("c")).renamed({"a": "x", "c": "y"})
    assert renamed == Monotone(frozenset("x"), frozenset("y"))


def test_distinct_rows_are_append_only() -> None:
    job = view(group(scan(ROWS), "g"))
    assert kinds(job) == ["SourceOp", "PartialAggOp", "FinalAggOp", "SqlOp", "MaterializeOp"]
    assert job.output.append_only
    assert job.output.stream_key == ("g",)
    assert not view(group(scan(TABLE), "g")).output.append_only


def test_values_of_distinct_calls_are_kept_by_group_and_value() -> None:
    flagged = project(scan(ROWS), "g", "k", "n", "f", "big: BOOLEAN = n > 3")
    calls = ("c = count(*)", "d = count(distinct k)", "e = count(distinct k) filter big", "s = sum(distinct n)")
    job = view(group(flagged, "g", *calls))
    assert "RecomputeOp" not in kinds(job)
    finals = [node.op for _, node in job.operators if isinstance(node.op, FinalAggOp)]
    assert [tuple(k.name for k in op.keys) for op in finals] == [("g", "k"), ("g", "n"), ("g",)]
    assert [len(op.partials) for op in finals[:2]] == [2, 1], "a flag for each filter"
    assert [e[:2] for e in edges(job) if len(e[1]) == 2] == [("HASH", ("g", "k")), ("HASH", ("g", "n"))]


def test_what_only_renames_says_which_columns_it_passes_on() -> None:
    def passed(root: LogicalNode) -> tuple[str, ...]:
        (op,) = (node.op for _, node in view(root).operators if isinstance(node.op, SqlOp))
        return op.passed

    assert passed(project(project(scan(TABLE), "key = k", "g"), "g", "one = key", "two = key")) == (
        "g",
        "k",
        "k",
        "__weight",
    )
    assert passed(project(scan(ROWS), "g", "k")) == ("g", "k")
    assert passed(project(scan(ROWS), "g", "m: BIGINT = k + 1")) == ()
    assert passed(project(where(scan(ROWS), "k > 1"), "g", "n")) == ()


def test_sinks_write_where_the_rows_are() -> None:
    plain = sink(project(scan(ROWS), "k"))
    assert len(plain.spec.tasks) == 3
    assert plain.spec.edges == ()
    op = plain.spec.tasks[0].nodes[-1].op
    assert isinstance(op, SinkOp)
    assert (op.options, op.weighted) == ({"topic": "t"}, False)
    assert edges(sink(project(scan(ROWS), "k"), "file")) == [("HASH", (), 3, 1)]


def test_changes_of_a_row_reach_one_writer() -> None:
    assert edges(sink(scan(TABLE))) == [("HASH", ("k",), 1, 3)]
    assert edges(sink(project(scan(TABLE), "g"))) == [("HASH", (), 1, 1)]
    assert edges(sink(project(scan(TABLE), "g"), "blackhole")) == [("REBALANCE", (), 1, 3)]
    counted = sink(group(scan(ROWS), "g", "c = count(*)"))
    assert edges(counted) == [("HASH", ("g",), 3, 3)]
    assert counted.streaming.changelog is Changelog.RETRACT


def test_a_union_takes_rows_as_they_come() -> None:
    job = view(Union((project(scan(ROWS), "k"), project(scan(TABLE), "k"))))
    # the task of the source reads nothing else, so its way to the union is an edge
    assert edges(job) == [("FORWARD", (), 3, 3), ("REBALANCE", (), 1, 3), ("HASH", (), 3, 1)]
    assert not job.output.append_only
    counts = group(scan(ROWS), "g", "c = count(*)")
    both = Union((counts, group(where(scan(ROWS), "n > 1"), "g", "c = count(*)")))
    again = view(group(both, "g", "s = sum(c)"))
    assert [e[1] for e in edges(again)] == [("g",), ("g",), ()] or [e[1] for e in edges(again)] == [
        ("g",),
        ("g",),
        (),
        (),
    ]


def test_parallelism_is_bounded_by_the_key_groups() -> None:
    for parallelism in (0, 129):
        with pytest.raises(PlanError, match=f"parallelism {parallelism} is not between 1 and 128"):
            view(scan(ROWS), parallelism)
    job = plan_view(
        Query(group(scan(ROWS), "g")), job_id=JobId("mv:v"), relation="v", parallelism=4, max_parallelism=16
    )
    assert {e.max_parallelism for e in job.spec.edges} == {16}


def test_explain_counts_what_went_over_the_edges() -> None:
    job = view(project(where(scan(ROWS), "n > 1"), "k", "n"))
    (edge,) = job.spec.edges
    assert isinstance(edge, EdgeSpec)
    text = job.explain({edge.edge_id: (12, 340)})
    assert f"edge {edge.edge_id}: HASH without keys (gather), tasks 3 x 1, 12 rows, 340 bytes" in text
    assert "12 rows" not in job.explain()


def test_operators_of_a_task_read_each_other_by_index() -> None:
    job = view(group(scan(ROWS), "g", "c = count(*)"))
    first = job.spec.tasks[0]
    assert [type(n.op).__name__ for n in first.nodes] == ["SourceOp", "PartialAggOp"]
    assert first.nodes[1].inputs == (FromOperator(0),)
    assert first.outputs[0].index == 1
    final = job.spec.tasks[3].nodes[0]
    assert isinstance(final.op, FinalAggOp)
    assert isinstance(final.inputs[0], FromEdge)


def test_joins_tell_which_input_retracts() -> None:
    job = view(join(project(scan(ROWS), "k", "n"), project(scan(TABLE), "k2 = k", "g"), "k = k2"))
    (op,) = (n.op for _, n in job.operators if isinstance(n.op, JoinOp))
    assert op.weighted == (False, True)
    assert [c.name for c in job.streaming.inputs[0].node.columns][-1] == "__weight"
