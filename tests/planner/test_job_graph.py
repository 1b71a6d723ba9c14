from __future__ import annotations

from collections import Counter

import pytest

from planner.chaining import chain_operators
from planner.distribution import AnyDistribution, Broadcast, Hash, Single, renamed, satisfies
from planner.execution_graph import ShuffleEdgeType, detect_shuffle_edge_type
from planner.job_graph import JobGraph, JobInput, OperatorType, StreamOperatorNode
from sabot.errors import PlanError
from sabot.ids import OperatorId


def payments() -> JobGraph:
    graph = JobGraph()
    graph.add_operator("transactions", OperatorType.SOURCE, 10)
    graph.add_operator("enrich", OperatorType.SQL, 10, upstream="transactions")
    graph.add_operator("fraud", OperatorType.FINAL_AGG, 5, upstream="enrich", key_by=("user_id",), stateful=True)
    graph.add_operator("alerts", OperatorType.SINK, 2, upstream="fraud")
    return graph


def test_the_worked_example() -> None:
    graph = payments().to_execution_graph()
    assert len(graph.tasks) == 27
    assert [e.type.value for e in graph.edges] == ["FORWARD", "HASH", "REBALANCE"]
    assert [e.edge_id for e in graph.edges] == ["transactions->enrich#0", "enrich->fraud#0", "fraud->alerts#0"]
    assert graph.edges[1].keys == ("user_id",)
    assert graph.edges[1].upstream_task_ids[0] == "enrich/0"
    assert len(graph.edges[1].downstream_task_ids) == 5
    assert [t.index for t in graph.tasks_of(OperatorId("alerts"))] == [0, 1]
    assert [e.edge_id for e in graph.edges_into(OperatorId("fraud"))] == ["enrich->fraud#0"]


def test_forward_neighbours_become_one_task() -> None:
    chained = chain_operators(payments().to_execution_graph())
    assert [(c.chain_id, c.operators, c.parallelism) for c in chained.chains] == [
        ("transactions", ("transactions", "enrich"), 10),
        ("fraud", ("fraud",), 5),
        ("alerts", ("alerts",), 2),
    ]
    assert [e.type.value for e in chained.edges] == ["HASH", "REBALANCE"]


def _pair(
    up: StreamOperatorNode | None = None, requires: object = None, *, parallelism: int = 4, max_parallelism: int = 128
) -> ShuffleEdgeType:
    up = up or StreamOperatorNode(OperatorId("up"), OperatorType.SQL, 4)
    given = JobInput(OperatorId("up"), requires or AnyDistribution())  # type: ignore[arg-type]
    down = StreamOperatorNode(OperatorId("down"), OperatorType.SQL, parallelism, max_parallelism, inputs=(given,))
    return detect_shuffle_edge_type(up, down)


def _hashed(*keys: str, **more: object) -> StreamOperatorNode:
    return StreamOperatorNode(OperatorId("up"), OperatorType.SQL, 4, distribution=Hash(keys), **more)  # type: ignore[arg-type]


def test_equal_parallelism_alone_is_no_forward_for_a_keyed_input() -> None:
    assert _pair(requires=Hash(("k",))) is ShuffleEdgeType.HASH
    assert _pair(_hashed("k"), Hash(("k",))) is ShuffleEdgeType.FORWARD


def test_a_part_of_the_key_is_enough_but_not_more_than_the_key() -> None:
    assert _pair(_hashed("k"), Hash(("j", "k"))) is ShuffleEdgeType.FORWARD
    assert _pair(_hashed("j", "k"), Hash(("k",))) is ShuffleEdgeType.HASH
    assert _pair(_hashed("k"), Hash(("j", "k"), exact=True)) is ShuffleEdgeType.HASH


def test_another_map_of_key_groups_is_an_exchange() -> None:
    assert _pair(_hashed("k"), Hash(("k",)), max_parallelism=64) is ShuffleEdgeType.HASH
    assert _pair(_hashed("k"), Hash(("k",)), parallelism=3) is ShuffleEdgeType.HASH


def test_tasks_on_the_daemon_are_not_those_of_an_agent() -> None:
    pinned = StreamOperatorNode(OperatorId("up"), OperatorType.LOG_SOURCE, 1, distribution=Single(), pinned=True)
    assert _pair(pinned, parallelism=1) is ShuffleEdgeType.REBALANCE
    assert _pair(pinned, Single(), parallelism=1) is ShuffleEdgeType.HASH


def test_broadcast_and_gather() -> None:
    assert _pair(requires=Broadcast()) is ShuffleEdgeType.BROADCAST
    assert _pair(requires=Single(), parallelism=1) is ShuffleEdgeType.HASH
    one = StreamOperatorNode(OperatorId("up"), OperatorType.SQL, 1, distribution=Single())
    assert _pair(one, Single(), parallelism=1) is ShuffleEdgeType.FORWARD
    assert _pair(one, Hash(("k",)), parallelism=1) is ShuffleEdgeType.FORWARD


def test_stateful_work_without_a_key_takes_one_task() -> None:
    graph = JobGraph()
    graph.add_operator("s", OperatorType.SOURCE, 3)
    with pytest.raises(PlanError, match="needs all rows in one task"):
        graph.add_operator("total", OperatorType.FINAL_AGG, 3, upstream="s", stateful=True)
    graph.add_operator("total", OperatorType.FINAL_AGG, 1, upstream="s", stateful=True)
    assert graph.to_execution_graph().edges[0].is_gather


def test_impossible_graphs_are_refused() -> None:
    graph = JobGraph()
    graph.add_operator("s", OperatorType.SOURCE, 2)
    with pytest.raises(PlanError, match="'s' is there already"):
        graph.add_operator("s", OperatorType.SOURCE, 2)
    with pytest.raises(PlanError, match="operator 'x' does not exist"):
        graph.add_operator("m", OperatorType.SQL, 2, upstream="x")
    with pytest.raises(PlanError, match="parallelism 200"):
        graph.add_operator("m", OperatorType.SQL, 200, upstream="s")
    unknown = StreamOperatorNode(OperatorId("m"), OperatorType.SQL, 2, inputs=(JobInput(OperatorId("x")),))
    with pytest.raises(PlanError, match="reads 'x', which does not exist"):
        graph.add(unknown)
    assert [op.operator_id for op in graph.operators] == ["s"]
    assert graph.operator(OperatorId("s")).is_source


def _diamond() -> JobGraph:
    """A join one side of which is there in place, the other comes back to it through an exchange."""
    graph = JobGraph()
    graph.add_operator("source", OperatorType.SOURCE, 2)
    graph.add_operator("counts", OperatorType.FINAL_AGG, 2, upstream="source", key_by=("k",), stateful=True)
    graph.add_operator("most", OperatorType.FINAL_AGG, 2, upstream="counts", key_by=("m",), stateful=True)
    exact = Hash(("k",), exact=True)
    graph.add(
        StreamOperatorNode(
            OperatorId("join"),
            OperatorType.JOIN,
            2,
            stateful=True,
            inputs=(JobInput(OperatorId("counts"), exact), JobInput(OperatorId("most"), exact)),
            distribution=Hash(("k",)),
        )
    )
    return graph


def test_a_task_never_waits_for_its_own_output() -> None:
    graph = _diamond().to_execution_graph()
    assert [e.type.value for e in graph.edges] == ["HASH", "HASH", "FORWARD", "HASH"]
    chained = chain_operators(graph)
    assert [c.operators for c in chained.chains] == [("source",), ("counts",), ("most",), ("join",)]
    assert Counter(e.type.value for e in chained.edges) == {"HASH": 3, "FORWARD": 1}


def test_rows_that_go_round_to_the_next_operator_do_not_stay_in_the_task() -> None:
    graph = JobGraph()
    graph.add_operator("source", OperatorType.SOURCE, 2)
    graph.add_operator("counts", OperatorType.FINAL_AGG, 2, upstream="source", key_by=("k",), stateful=True)
    graph.add_operator("renamed", OperatorType.SQL, 2, upstream="counts")
    graph.add_operator("join", OperatorType.JOIN, 2, stateful=True)
    graph.connect("counts", "join", 0, "k")
    graph.connect("renamed", "join", 1, "c")
    execution = graph.to_execution_graph()
    assert [e.type.value for e in execution.edges] == ["HASH", "FORWARD", "FORWARD", "HASH"]
    chained = chain_operators(execution)
    assert [c.operators for c in chained.chains] == [("source",), ("counts", "renamed"), ("join",)]
    assert [e.edge_id for e in chained.edges] == ["source->counts#0", "counts->join#0", "renamed->join#1"]


def test_a_task_that_reads_a_source_reads_nothing_else() -> None:
    graph = JobGraph()
    graph.add_operator("a", OperatorType.SOURCE, 2)
    graph.add_operator("b", OperatorType.SOURCE, 2)
    both = (JobInput(OperatorId("a")), JobInput(OperatorId("b")))
    graph.add(StreamOperatorNode(OperatorId("union"), OperatorType.UNION, 2, inputs=both))
    chained = chain_operators(graph.to_execution_graph())
    assert [c.operators for c in chained.chains] == [("a",), ("b",), ("union",)]
    assert [(e.edge_id, e.type.value) for e in chained.edges] == [("a->union#0", "FORWARD"), ("b->union#1", "FORWARD")]


def test_distributions() -> None:
    joined = Hash(("a",), also=(("b",),))
    assert satisfies(joined, Hash(("b", "c")))
    assert satisfies(joined, Hash(("b",), exact=True))
    assert not satisfies(joined, Hash(("c",)))
    assert satisfies(Single(), Hash(("c",)))
    assert not satisfies(Broadcast(), AnyDistribution())
    assert renamed(joined, {"b": "x"}) == Hash(("x",))
    assert renamed(joined, {"c": "x"}) == AnyDistribution()
    assert renamed(Single(), {}) == Single()
    assert [str(d) for d in (Single(), joined, Broadcast(), AnyDistribution())] == [
        "single",
        "hash(a)",
        "broadcast",
        "any",
    ]
