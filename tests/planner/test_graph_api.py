from __future__ import annotations

import pickle
from collections.abc import Sequence

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import planner
from cython_shuffle.partitioner import task_of_group
from planner import ExecutionGraph, JobGraph, OperatorType, ShuffleEdgeType
from planner.distribution import AnyDistribution, Broadcast, Hash, Range, Rebalance, Single, satisfies
from planner.key_groups import key_group_range, moves, task_of_key_group
from planner.operator_work import ConnectorWork, PythonWork, SqlWork
from sabot.errors import PlanError, SqlError


def doubled(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch


def fraud() -> JobGraph:
    graph = JobGraph("fraud")
    transactions = graph.add_operator("transactions", OperatorType.SOURCE, 10, connector="datagen")
    enrich = graph.add_operator("enrich", OperatorType.MAP, 10, sql="*, amount > 900 AS large")
    check = graph.add_operator(
        "fraud check", OperatorType.MAP, 5, function=doubled, columns={"user_id": "BIGINT"}, stateful=True
    )
    alerts = graph.add_operator("alerts", OperatorType.SINK, 2, connector="blackhole")
    graph.connect(transactions, enrich)
    graph.connect(enrich, check, key_by=["user_id"])
    graph.connect(check, alerts)
    return graph


def shape(graph: ExecutionGraph) -> list[tuple[str, str]]:
    return [(e.edge_id, e.type.value) for e in graph.edges]


def test_the_example_has_27_tasks_and_three_kinds_of_edges() -> None:
    graph = fraud().to_execution_graph()
    assert len(graph.tasks) == 27
    assert [e.type for e in graph.edges] == [ShuffleEdgeType.FORWARD, ShuffleEdgeType.HASH, ShuffleEdgeType.REBALANCE]
    around = graph.get_shuffle_edges_for_operator("fraud check")
    assert [e.edge_id for e in around] == ["enrich->fraud check#0", "fraud check->alerts#0"]
    assert graph.detect_shuffle_edge_type("enrich", "fraud check") is ShuffleEdgeType.HASH
    assert [t.key_groups.start for t in graph.tasks_of("fraud check")] == [0, 26, 52, 77, 103]
    with pytest.raises(PlanError, match="'fraud' does not exist"):
        graph.get_shuffle_edges_for_operator("fraud")
    with pytest.raises(PlanError, match="'enrich' has no input 1"):
        graph.detect_shuffle_edge_type("transactions", "enrich", 1)


def test_a_graph_survives_its_text() -> None:
    graph = fraud()
    again = JobGraph.from_json(graph.to_json())
    assert again.operators == graph.operators
    assert (again.name, again.max_parallelism) == ("fraud", 128)
    assert again.to_json() == graph.to_json()
    work = again.operator("fraud check").work
    assert isinstance(work, PythonWork)
    # a module that others cannot import travels with its code
    function, file = pickle.loads(work.pickled)
    assert function is not doubled
    assert function(7) == 7
    assert file == __file__


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "the graph cannot be read"),
        ("{}", "missing required field `operators`"),
        (
            '{"operators":[{"name":"a","type":"sourse"}]}',
            r"invalid enum value 'sourse' - at `\$.operators\[0\]",
        ),
        ('{"operators":[{"name":"a","type":"map","sql":"x"}]}', "unknown field `sql`"),
        ('{"operators":[{"name":"a","type":"map","parallelism":0}]}', "'a' has parallelism 0"),
        ('{"operators":[{"name":"../a","type":"map"}]}', "'../a' is not a word"),
        ('{"operators":[{"name":"a","type":"map","inputs":[{"upstream":"b"}]}]}', "'b' does not exist"),
        ('{"python":"2.7","operators":[]}', r"pickled by Python 2\.7"),
        ('{"max_parallelism":0,"operators":[]}', "max_parallelism 0 is out of range"),
    ],
)
def test_text_that_is_no_graph_is_refused(text: str, message: str) -> None:
    with pytest.raises(PlanError, match=f"(?i){message}"):
        JobGraph.from_json(text)


def test_operators_may_be_connected_in_any_order_but_not_in_a_circle() -> None:
    graph = JobGraph()
    for name in "cba":
        graph.add_operator(name, OperatorType.MAP, 2)
    graph.connect("b", "c")
    graph.connect("a", "b", rebalance=True)
    assert [op.name for op in graph.operators] == ["a", "b", "c"]
    assert [op.name for op in graph.consumers("a")] == ["b"]
    for up, down in (("c", "a"), ("a", "a")):
        with pytest.raises(PlanError, match="circle"):
            graph.connect(up, down)
    with pytest.raises(PlanError, match="input 0 of 'b' is fed already"):
        graph.connect("c", "b")
    with pytest.raises(PlanError, match="'b' has no input 2"):
        graph.connect("c", "b", 2)
    with pytest.raises(PlanError, match="input 1 of 'c' is asked for in 2 ways"):
        graph.connect("a", "c", 1, key_by="k", broadcast=True)
    assert shape(graph.to_execution_graph()) == [("a->b#0", "REBALANCE"), ("b->c#0", "FORWARD")]


def test_what_an_operator_does_is_said_once() -> None:
    graph = JobGraph()
    with pytest.raises(PlanError, match="has both sql and function"):
        graph.add_operator("a", OperatorType.MAP, sql="x", function=doubled)
    with pytest.raises(PlanError, match="does not say which columns"):
        graph.add_operator("a", OperatorType.MAP, function=doubled)
    with pytest.raises(PlanError, match="'no path' of operator 'a' is no path"):
        graph.add_operator("a", OperatorType.MAP, function="no path", columns={"x": "INT"})
    with pytest.raises(PlanError, match="neither a function"):
        graph.add_operator("a", OperatorType.MAP, function=7, columns={"x": "INT"})
    with pytest.raises(SqlError, match="type 'NUMBER' is not supported"):
        graph.add_operator("a", OperatorType.MAP, function=doubled, columns={"x": "NUMBER"})
    graph.add_operator("a", OperatorType.SOURCE, connector="datagen", options={"rows": 5, "unbounded": False})
    assert graph.operator("a").work == ConnectorWork("datagen", {"rows": "5", "unbounded": "false"})
    graph.add_operator("b", OperatorType.MAP, sql="x")
    assert graph.operator("b").work == SqlWork("x")


def test_what_cannot_be_pickled_is_told() -> None:
    graph = JobGraph()
    file = pa.BufferReader(b"")

    def reads(batch: pa.RecordBatch) -> object:
        return file

    with pytest.raises(PlanError, match="the function of operator 'a' cannot be pickled"):
        graph.add_operator("a", OperatorType.MAP, function=reads, columns={"x": "INT"})


def test_the_key_of_a_function_is_not_trusted_below_it() -> None:
    graph = JobGraph()
    graph.add_operator("s", OperatorType.SOURCE, 4)
    graph.add_operator("f", OperatorType.MAP, 4, function=doubled, columns={"k": "INT"}, upstream="s", key_by="k")
    graph.add_operator("n", OperatorType.AGGREGATE, 4, sql="count(*) AS n", upstream="f", key_by="k")
    graph.add_operator("m", OperatorType.AGGREGATE, 4, sql="max(n) AS m", upstream="n", key_by="k")
    assert [t for _, t in shape(graph.to_execution_graph())] == ["HASH", "HASH", "FORWARD"]


def test_edges_are_added_as_they_must_be() -> None:
    job = JobGraph()
    for name, parallelism in (("a", 4), ("b", 4), ("c", 2), ("d", 1)):
        job.add_operator(name, OperatorType.MAP, parallelism)
    graph = job.to_execution_graph()
    assert graph.add_shuffle_edge("a", "b").type is ShuffleEdgeType.FORWARD
    assert graph.add_shuffle_edge("a", "b", keys=["k"]).type is ShuffleEdgeType.HASH
    assert graph.add_shuffle_edge("b", "c", ShuffleEdgeType.BROADCAST).edge_id == "b->c#0"
    assert graph.add_shuffle_edge("a", "c", ShuffleEdgeType.REBALANCE, port=1).port == 1
    assert graph.add_shuffle_edge("c", "d", ShuffleEdgeType.HASH).is_gather
    before = shape(graph)
    with pytest.raises(PlanError, match="is REBALANCE, not FORWARD"):
        graph.add_shuffle_edge("a", "d", ShuffleEdgeType.FORWARD)
    with pytest.raises(PlanError, match="of type BROADCAST has no keys"):
        graph.add_shuffle_edge("a", "d", ShuffleEdgeType.BROADCAST, ["k"])
    assert shape(graph) == before
    assert [i.requires for i in graph.job_graph.operator("c").inputs] == [Broadcast(), Rebalance()]
    assert not job.operator("b").inputs, "the graph that it was made from stays as it is"


def test_a_view_is_gathered() -> None:
    graph = JobGraph()
    graph.add_operator("s", OperatorType.SOURCE, 4)
    graph.add_operator("v", OperatorType.MATERIALIZE, upstream="s")
    (edge,) = graph.to_execution_graph().edges
    assert edge.is_gather
    with pytest.raises(PlanError, match="operator 'v' needs all rows in one task but has parallelism 2"):
        graph.to_execution_graph().rescale_operator("v", 2)


def test_rescaling_tells_which_key_groups_move() -> None:
    graph = fraud().to_execution_graph()
    graph.edges[1].rows = 12
    done = graph.rescale_operator("fraud check", 10)
    assert (len(done.before), len(done.after), len(graph.tasks)) == (5, 10, 32)
    assert [m.source for m in done.moves][:3] == [0, 1, 1]
    assert graph.edges[1].rows == 12
    assert shape(graph)[1] == ("enrich->fraud check#0", "HASH"), "equal parallelism alone is no FORWARD"
    graph.rescale_operator("alerts", 10)
    assert shape(graph)[2][1] == "FORWARD"
    for name, parallelism in (("alerts", 0), ("alerts", 129), ("alerts", 1.5), ("alerts", True), ("nobody", 1)):
        with pytest.raises(PlanError):
            graph.rescale_operator(name, parallelism)
    assert len(graph.tasks) == 40
    assert [len(graph.tasks_of(op.operator_id)) for op in graph.job_graph.operators] == [10, 10, 10, 10]
    for number in (0, 32_769, 2.0, None):
        with pytest.raises(PlanError, match="is out of range"):
            JobGraph(max_parallelism=number)
    with pytest.raises(PlanError, match="has no input -1"):
        graph.detect_shuffle_edge_type("enrich", "alerts", -1)


def test_a_promise_is_not_kept_by_other_tasks() -> None:
    graph = JobGraph()
    graph.add_operator("s", OperatorType.SOURCE, 4)
    graph.add_operator("n", OperatorType.FINAL_AGG, 4, upstream="s", key_by="k", stateful=True)
    graph.add_operator("f", OperatorType.FILTER, 4, upstream="n", key_by="k")
    graph.add_operator("m", OperatorType.FINAL_AGG, 4, upstream="f", key_by="k", stateful=True)
    execution = graph.to_execution_graph()
    assert [t for _, t in shape(execution)] == ["HASH", "FORWARD", "FORWARD"]
    execution.rescale_operator("n", 2)
    assert [t for _, t in shape(execution)] == ["HASH", "HASH", "FORWARD"]
    execution.rescale_operator("f", 1)
    assert execution.job_graph.operator("f").distribution == Single()
    assert [t for _, t in shape(execution)] == ["HASH", "HASH", "HASH"]


@given(st.integers(1, 64), st.integers(1, 64), st.integers(1, 200))
def test_key_group_ranges_are_adjacent_and_cover(before: int, after: int, extra: int) -> None:
    groups = max(before, after) + extra
    ranges = [key_group_range(i, before, groups) for i in range(before)]
    assert [g for r in ranges for g in r] == list(range(groups))
    assert all(ranges)
    assert [task_of_key_group(g, before, groups) for g in range(groups)] == task_of_group(before, groups)
    owner = {g: i for i, r in enumerate(ranges) for g in r}
    for move in moves(before, after, groups):
        for g in move.groups:
            assert owner[g] == move.source
            owner[g] = move.target
    assert [owner[g] for g in range(groups)] == task_of_group(after, groups)


@st.composite
def graphs(draw: st.DrawFn) -> JobGraph:
    graph = JobGraph(max_parallelism=draw(st.sampled_from([8, 128])))
    for i in range(draw(st.integers(2, 7))):
        type_ = draw(st.sampled_from([OperatorType.FILTER, OperatorType.MAP, OperatorType.FINAL_AGG]))
        graph.add_operator(f"o{i}", type_ if i else OperatorType.SOURCE, draw(st.integers(1, 8)))
        for up in draw(st.lists(st.integers(0, i - 1), max_size=2)) if i else []:
            kind = draw(st.sampled_from(["any", "key", "broadcast", "rebalance"]))
            graph.connect(
                f"o{up}",
                f"o{i}",
                len(graph.operator(f"o{i}").inputs),
                draw(st.sampled_from(["a", "b"])) if kind == "key" else (),
                broadcast=kind == "broadcast",
                rebalance=kind == "rebalance",
            )
    return graph


def check(graph: ExecutionGraph) -> None:
    """All that is always true of an execution graph."""
    by_id = {op.operator_id: op for op in graph.job_graph.operators}
    assert len({t.task_id for t in graph.tasks}) == len(graph.tasks) == sum(op.parallelism for op in by_id.values())
    assert len({e.edge_id for e in graph.edges}) == len(graph.edges) == sum(len(op.inputs) for op in by_id.values())
    for op in by_id.values():
        tasks = graph.tasks_of(op.operator_id)
        assert [t.index for t in tasks] == list(range(op.parallelism))
        assert [g for t in tasks for g in t.key_groups] == list(range(op.max_parallelism))
        assert (op.parallelism == 1) == (op.distribution == Single())
    for edge in graph.edges:
        up, down = by_id[edge.upstream], by_id[edge.downstream]
        assert edge.upstream_task_ids == tuple(t.task_id for t in graph.tasks_of(up.operator_id))
        assert edge.downstream_task_ids == tuple(t.task_id for t in graph.tasks_of(down.operator_id))
        requires = down.inputs[edge.port].requires
        if edge.type is ShuffleEdgeType.FORWARD:
            assert up.parallelism == down.parallelism
            assert down.parallelism == 1 or satisfies(up.distribution, requires)
        elif isinstance(requires, Hash):
            assert (edge.type, edge.keys) == (ShuffleEdgeType.HASH, requires.keys)
        elif isinstance(requires, AnyDistribution | Rebalance):
            assert edge.type is ShuffleEdgeType.REBALANCE


@settings(max_examples=60, deadline=None)
@given(graphs(), st.lists(st.tuples(st.integers(0, 6), st.integers(1, 8)), max_size=6))
def test_a_rescaled_graph_is_as_consistent_as_one_written_so(job: JobGraph, changes: Sequence[tuple[int, int]]) -> None:
    graph = job.to_execution_graph()
    check(graph)
    first = job.to_json()
    for at, parallelism in changes:
        name = f"o{at % len(job.operators)}"
        before = graph.job_graph.operator(name).parallelism
        done = graph.rescale_operator(name, parallelism)
        check(graph)
        assert (len(done.before), len(done.after)) == (before, parallelism)
        assert bool(done.moves) == (before != parallelism)
    assert job.to_json() == first
    # the same graph, written down with these numbers
    written = JobGraph.from_json(graph.job_graph.to_json()).to_execution_graph()
    assert shape(written) == shape(graph)
    assert written.tasks == graph.tasks


def test_the_package_names_the_graph() -> None:
    for name in planner.__all__:
        assert getattr(planner, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'Graph'"):
        _ = planner.Graph


def test_ranges_and_functions_place_rows() -> None:
    graph = JobGraph("placed")
    graph.add_operator("a", OperatorType.SOURCE, 2)
    graph.add_operator("b", OperatorType.MAP, 3, sql="*")
    graph.add_operator("c", OperatorType.MAP, 3, sql="*")
    graph.connect("a", "b", range_by="n", bounds=[10, 20.5])
    graph.connect("b", "c", partition=doubled)
    assert graph.operator("b").inputs[0].requires == Range("n", ("10", "20.5"))
    execution = JobGraph.from_json(graph.to_json()).to_execution_graph()
    assert shape(execution) == [("a->b#0", "RANGE"), ("b->c#0", "CUSTOM")]
    assert execution.edges[0].keys == ("n",)
    with pytest.raises(PlanError, match="'b' has parallelism 4, its range 2 bounds"):
        execution.rescale_operator("b", 4)
    execution.rescale_operator("c", 5)
    assert shape(execution) == [("a->b#0", "RANGE"), ("b->c#0", "CUSTOM")]
    graph.add_operator("d", OperatorType.MAP, 2)
    with pytest.raises(PlanError, match="'no path' before operator 'd' is no path"):
        graph.connect("c", "d", partition="no path")
    more = graph.to_execution_graph()
    with pytest.raises(PlanError, match="of type RANGE needs to know how it cuts"):
        more.add_shuffle_edge("c", "d", ShuffleEdgeType.RANGE)
    assert more.add_shuffle_edge("c", "d", requires=Range("n", ("5",))).type is ShuffleEdgeType.RANGE
