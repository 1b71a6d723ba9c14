"""Graphs written by hand as jobs: every type of operator, run without agents."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pytest

from planner import JobGraph, OperatorType
from planner.logical import Relation, RelationKind
from planner.plan import PlannedJob
from sabot.errors import SqlError
from sabot.schema import Field, arrow_schema, literal
from sabotd.catalog_store import CatalogStore
from sabotd.graphs import plan_graph
from sql_frontend.parse import parse_statement
from sql_frontend.statements import CreateJob, CreateSource
from tests.support.job_runner import JobRunner

FIELDS = (Field("k", "BIGINT"), Field("n", "BIGINT"), Field("at", "TIMESTAMP"), Field("doc", "JSON"))
ROWS = [(i % 3, i, i * 1_000_000, f'{{"v": {i}}}') for i in range(30)]


def make_source(source: CreateSource) -> Relation:
    return Relation(source.name, RelationKind.SOURCE, FIELDS, True, connector="datagen", options=source.options)


def planned(graph: JobGraph) -> PlannedJob:
    statement = parse_statement(f"CREATE JOB j FROM GRAPH {literal(graph.to_json())}")
    assert isinstance(statement, CreateJob)
    return plan_graph(statement, CatalogStore(), make_source, None).planned


def answer(graph: JobGraph) -> Counter[tuple[object, ...]]:
    job = planned(graph)
    runner = JobRunner(job.spec, seed=3)
    schema = arrow_schema(FIELDS)
    try:
        for part in (ROWS[:17], ROWS[17:]):
            columns = [pa.array(c, t) for c, t in zip(zip(*part, strict=True), schema.types, strict=True)]
            runner.feed("rows", pa.RecordBatch.from_arrays(columns, schema=schema))
            runner.barrier()
        return +runner.result
    finally:
        runner.close()


@pytest.fixture
def graph() -> JobGraph:
    made = JobGraph()
    made.add_operator("rows", OperatorType.SOURCE, 2, connector="datagen")
    return made


def to_view(graph: JobGraph, last: str) -> Counter[tuple[object, ...]]:
    graph.add_operator("view", OperatorType.MATERIALIZE, upstream=last)
    return answer(graph)


def test_flat_map_and_json(graph: JobGraph) -> None:
    graph.add_operator(
        "exploded", OperatorType.FLAT_MAP, 3, sql="n, CAST(doc->>'v' AS BIGINT) * 2 AS twice", upstream="rows"
    )
    assert to_view(graph, "exploded") == Counter((i, 2 * i) for i in range(30))


def test_windows(graph: JobGraph) -> None:
    graph.add_operator("w", OperatorType.WINDOW, 2, sql="TUMBLE(input, at, INTERVAL '10 seconds')", upstream="rows")
    graph.add_operator("n", OperatorType.GROUP_BY, 2, sql="count(*) AS c, sum(n) AS s", upstream="w", key_by="k")
    graph.add_operator("ends", OperatorType.MAP, 1, sql="k, c, s", upstream="n")
    assert to_view(graph, "ends") == Counter((k, 10, sum(range(k, 30, 3))) for k in range(3))


def test_key_by_brings_equal_keys_together_and_stays_so(graph: JobGraph) -> None:
    graph.add_operator("keyed", OperatorType.KEY_BY, 4, upstream="rows", key_by=["k"])
    graph.add_operator("n", OperatorType.AGGREGATE, 4, sql="max(n) AS m", upstream="keyed", key_by=["k"])
    graph.add_operator("view", OperatorType.MATERIALIZE, upstream="n")
    types = {e.edge_id: e.type.value for e in planned(graph).execution_graph.edges}
    assert types["rows->keyed#0"] == "HASH"
    assert types["n.partial_agg->n#0"] == "FORWARD"
    assert answer(graph) == Counter({(0, 27): 1, (1, 28): 1, (2, 29): 1})


def test_union_joins_several(graph: JobGraph) -> None:
    graph.add_operator("low", OperatorType.FILTER, 2, sql="n < 5", upstream="rows")
    graph.add_operator("high", OperatorType.FILTER, 3, sql="n >= 25", upstream="rows")
    graph.add_operator("both", OperatorType.UNION, 2)
    for port, up in enumerate(("low", "high", "low")):
        graph.connect(up, "both", port)
    graph.add_operator("n", OperatorType.MAP, 2, sql="n", upstream="both")
    assert to_view(graph, "n") == Counter(
        {**dict.fromkeys([(i,) for i in range(5)], 2), **{(i,): 1 for i in range(25, 30)}}
    )


def test_a_join_of_two_operators(graph: JobGraph) -> None:
    graph.add_operator("sums", OperatorType.AGGREGATE, 2, sql="sum(n) AS s", upstream="rows", key_by="k")
    graph.add_operator(
        "j", OperatorType.JOIN, 3, sql="SELECT n, s FROM input JOIN input_1 ON input.k = input_1.k AND n > 25"
    )
    graph.connect("rows", "j", key_by="k")
    graph.connect("sums", "j", 1)
    assert to_view(graph, "j") == Counter((n, sum(range(n % 3, 30, 3))) for n in range(26, 30))


def test_only_needed_columns_travel(graph: JobGraph) -> None:
    graph.add_operator("m", OperatorType.MAP, 3, sql="n + 1 AS n1", upstream="rows", key_by="k")
    graph.add_operator("out", OperatorType.SINK, 3, connector="blackhole", upstream="m")
    job = planned(graph)
    (edge,) = job.spec.edges
    assert [c.name for c in edge.columns] == ["k", "n"]
    assert edge.keys == ("k",)


def test_a_function_reads_changes_if_it_says_so(graph: JobGraph) -> None:
    def flipped(batch: pa.RecordBatch) -> pa.RecordBatch:
        return batch.select(["m", "__weight"])

    graph.add_operator("n", OperatorType.AGGREGATE, 2, sql="max(n) AS m", upstream="rows", key_by=["k"])
    graph.add_operator("f", OperatorType.MAP, 2, function=flipped, columns={"m": "BIGINT"}, upstream="n")
    graph.add_operator("view", OperatorType.MATERIALIZE, upstream="f")
    with pytest.raises(SqlError, match="function 'f' would read rows that may be taken back"):
        planned(graph)
    again = JobGraph.from_json(graph.to_json().replace('"changes":false', '"changes":true'))
    assert answer(again) == Counter({(27,): 1, (28,): 1, (29,): 1})


def test_rows_that_may_be_taken_back_reach_one_writer_a_key(graph: JobGraph) -> None:
    graph.add_operator("n", OperatorType.AGGREGATE, 2, sql="max(n) AS m", upstream="rows", key_by=["k"])
    graph.add_operator("out", OperatorType.SINK, 3, connector="print", upstream="n")
    assert {e.edge_id: e.type.value for e in planned(graph).execution_graph.edges}["n->out#0"] == "HASH"
    graph.add_operator("m", OperatorType.MAP, 2, sql="m", upstream="n")
    graph.add_operator("out2", OperatorType.SINK, 3, connector="print", upstream="m")
    with pytest.raises(SqlError, match="sink 'out2' has parallelism 3, but nothing tells its rows apart"):
        planned(graph)


@pytest.mark.parametrize(
    ("type_", "sql", "message"),
    [
        (OperatorType.AGGREGATE, "SELECT n FROM input", "'x' is a aggregate, but its query aggregates nothing"),
        (OperatorType.WINDOW, "input", "'x' is a window, but its query has none"),
        (OperatorType.MAP, "SELECT n FROM input UNION ALL SELECT k FROM input", "'x' is a map, but its query keeps"),
        (OperatorType.MAP, "nothing", "operator 'x': column 'nothing' does not exist"),
        (OperatorType.MAP, "SELECT n FROM rows", "operator 'x': relation 'rows' does not exist"),
        (
            OperatorType.AGGREGATE,
            "SELECT count(*) AS c FROM input",
            "'x' has parallelism 2, its rows come together in 1",
        ),
    ],
)
def test_an_operator_is_what_its_type_says(graph: JobGraph, type_: OperatorType, sql: str, message: str) -> None:
    graph.add_operator("x", type_, 2, sql=sql, upstream="rows")
    graph.add_operator("out", OperatorType.SINK, 2, connector="blackhole", upstream="x")
    with pytest.raises(SqlError, match=message):
        planned(graph)


def test_keys_that_do_not_agree_with_the_query_are_refused(graph: JobGraph) -> None:
    graph.add_operator("x", OperatorType.AGGREGATE, 2, sql="SELECT k, count(*) AS c FROM input GROUP BY k")
    graph.connect("rows", "x", key_by="n")
    graph.add_operator("out", OperatorType.SINK, 2, connector="blackhole", upstream="x")
    with pytest.raises(SqlError, match="input 0 of 'x' is keyed by n, its query by k"):
        planned(graph)
