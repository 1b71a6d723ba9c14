"""Graphs written by hand, as jobs of a real sabotd."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

import sabot
from planner import JobGraph, OperatorType
from sabot.schema import literal
from tests.support.fix_server import Server

EXAMPLE = Path(__file__).parents[2] / "examples" / "fraud_detection.py"
NUMBERS = {"rows": 1000, "fields.n.kind": "sequence", "fields.n.start": 0, "fields.n.end": 999}


class Adder:
    """Adds up by key; told at the end of an epoch."""

    def __init__(self) -> None:
        self.sums: Counter[int] = Counter()
        self.changed: set[int] = set()

    def process(self, batch: pa.RecordBatch) -> None:
        for row in batch.to_pylist():
            self.sums[row["k"]] += row["n"]
            self.changed.add(row["k"])

    def barrier(self) -> pa.RecordBatch | None:
        told = sorted(self.changed)
        self.changed.clear()
        if not told:
            return None
        return pa.record_batch({"k": told, "total": [self.sums[k] for k in told], "task": [id(self)] * len(told)})


def numbers(name: str = "numbers_job", parallelism: int = 3) -> JobGraph:
    graph = JobGraph(name)
    graph.add_operator(
        "numbers", OperatorType.SOURCE, parallelism, connector="datagen", options=NUMBERS, columns={"n": "BIGINT"}
    )
    return graph


def submit(server: Server, graph: JobGraph, name: str = "") -> None:
    server.run(f"CREATE JOB {name or graph.name} FROM GRAPH {literal(graph.to_json())}")


def test_the_example_tells_that_it_is_right(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), str(tmp_path / "alerts")],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(EXAMPLE.parents[1])},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("27 tasks, edges FORWARD, HASH, REBALANCE\nGraph: 4 operators, 27 tasks\n")
    assert "HASH by user_id, tasks 10 x 5, 20000 rows" in done.stdout
    assert done.stdout.endswith(": right\n")


def test_sql_operators_keep_a_view_under_the_jobs_name(server: Server) -> None:
    graph = numbers()
    graph.add_operator("odd", OperatorType.FILTER, 3, sql="n % 2 = 1", upstream="numbers")
    graph.add_operator("keyed", OperatorType.MAP, 2, sql="n % 10 AS k, n", upstream="odd")
    graph.add_operator(
        "sums", OperatorType.AGGREGATE, 4, sql="sum(n) AS total, count(*) AS c", upstream="keyed", key_by="k"
    )
    graph.add_operator("view", OperatorType.MATERIALIZE, upstream="sums")
    submit(server, graph)
    server.run("FLUSH", "CREATE MATERIALIZED VIEW above AS SELECT count(*) AS c FROM numbers_job WHERE total > 50000")
    server.run("FLUSH")
    odd = range(1, 1000, 2)
    wanted = sorted((k, sum(n for n in odd if n % 10 == k), 100) for k in range(1, 10, 2))
    assert sorted(server.rows("SELECT k, total, c FROM numbers_job")) == wanted
    assert server.rows("SELECT c FROM above") == [(sum(total > 50000 for _, total, _ in wanted),)]
    assert server.rows("SHOW MATERIALIZED VIEWS")[0][0] == "numbers_job"
    text = "\n".join(str(r[0]) for r in server.rows("EXPLAIN numbers_job"))
    assert "edge sums.partial_agg->sums#0: HASH by k, tasks 2 x 4" in text
    assert "odd->keyed#0: REBALANCE, tasks 3 x 2" in text
    with pytest.raises(sabot.SqlError, match="used by materialized view 'above'"):
        server.run("DROP JOB numbers_job")
    server.run("DROP JOB numbers_job CASCADE")
    assert server.rows("SHOW JOBS") == []


def test_a_stateful_object_has_its_keys_in_one_task(server: Server) -> None:
    graph = numbers()
    graph.add_operator("keyed", OperatorType.MAP, 3, sql="n % 10 AS k, n", upstream="numbers")
    graph.add_operator(
        "adder", OperatorType.MAP, 4, function=Adder, columns={"k": "BIGINT", "total": "BIGINT", "task": "BIGINT"},
        stateful=True, upstream="keyed", key_by=["k"],
    )  # fmt: skip
    graph.add_operator(
        "last", OperatorType.AGGREGATE, 2, upstream="adder",
        sql="SELECT k, max(total) AS total, count(DISTINCT task) AS tasks FROM input GROUP BY k",
    )  # fmt: skip
    graph.add_operator("view", OperatorType.MATERIALIZE, upstream="last")
    submit(server, graph)
    server.run("FLUSH")
    assert sorted(server.rows("SELECT * FROM numbers_job")) == [
        (k, sum(n for n in range(1000) if n % 10 == k), 1) for k in range(10)
    ]


def test_a_function_that_fails_fails_its_job_with_reason_and_line(server: Server) -> None:
    def careless(batch: pa.RecordBatch) -> pa.RecordBatch:
        raise KeyError("no such user")  # the line that is told

    graph = numbers("careless_job")
    graph.add_operator("careless", OperatorType.MAP, 3, function=careless, columns={"n": "BIGINT"}, upstream="numbers")
    graph.add_operator("out", OperatorType.SINK, 3, connector="blackhole", upstream="careless")
    submit(server, graph)
    with pytest.raises(sabot.JobError, match="KeyError") as failed:
        server.run("FLUSH")
    assert "operator 'careless' failed: KeyError: 'no such user' (line " in failed.value.message
    ((state, message),) = server.rows("SELECT state, message FROM sabot_catalog.jobs")
    assert state == "FAILED"
    assert "test_graph_jobs.py, in careless" in str(message)
    server.run("DROP SINK careless_job")


def test_what_a_function_returns_is_checked(server: Server) -> None:
    graph = numbers("wrong_type")
    graph.add_operator(
        "wrong", OperatorType.MAP, 3, upstream="numbers", columns={"n": "INT"}, function=lambda batch: batch
    )
    graph.add_operator("out", OperatorType.SINK, 3, connector="blackhole", upstream="wrong")
    submit(server, graph)
    with pytest.raises(sabot.JobError, match="returned column 'n' as int64 where int32 is declared"):
        server.run("FLUSH")


def test_a_path_that_leads_nowhere_is_told_at_once(server: Server) -> None:
    graph = numbers("nowhere")
    graph.add_operator(
        "f", OperatorType.MAP, 3, upstream="numbers", columns={"n": "BIGINT"}, function="nobody.has_this:f"
    )
    graph.add_operator("out", OperatorType.SINK, 3, connector="blackhole", upstream="f")
    with pytest.raises(sabot.JobError, match="ModuleNotFoundError: No module named 'nobody'"):
        submit(server, graph)
    assert server.rows("SHOW JOBS") == []
    assert server.rows("SHOW SINKS") == []


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("m > 1", "operator 'f': column 'm' does not exist"),
        ("n > ", "operator 'f': "),
        ("n IN (SELECT k FROM t)", "'f'"),
    ],
)
def test_an_error_points_into_the_operators_sql(server: Server, sql: str, message: str) -> None:
    graph = numbers()
    graph.add_operator("f", OperatorType.FILTER, 3, sql=sql, upstream="numbers")
    graph.add_operator("out", OperatorType.SINK, 3, connector="blackhole", upstream="f")
    with pytest.raises(sabot.SqlError, match=message) as refused:
        submit(server, graph)
    assert refused.value.text == sql
    assert refused.value.span is not None
    assert 0 <= refused.value.span.start <= refused.value.span.end <= len(sql)


def test_graphs_that_cannot_run_are_refused(server: Server) -> None:
    def refuse(graph: JobGraph, message: str) -> None:
        with pytest.raises(sabot.SqlError, match=message):
            submit(server, graph, "refused")

    refuse(JobGraph(), "the graph has no operators")
    refuse(numbers(), "nobody takes the rows of operator 'numbers'")
    graph = numbers()
    graph.add_operator("out", OperatorType.SINK, 3, upstream="numbers")
    refuse(graph, "operator 'out' is a sink and has nothing to do")
    graph = numbers()
    graph.add_operator("out", OperatorType.SINK, 3, connector="kafaka", upstream="numbers")
    refuse(graph, "connector 'kafaka' is not known")
    graph = numbers()
    graph.add_operator("f", OperatorType.MAP, 2, sql="SELECT count(*) AS c FROM input", upstream="numbers")
    graph.add_operator("out", OperatorType.SINK, 2, connector="blackhole", upstream="f")
    refuse(graph, "'f' is a map, but its query keeps state")
    graph = numbers()
    graph.add_operator("f", OperatorType.AGGREGATE, 2, sql="SELECT n, count(*) AS c FROM input GROUP BY n")
    graph.connect("numbers", "f", key_by="m")
    graph.add_operator("out", OperatorType.SINK, 2, connector="blackhole", upstream="f")
    refuse(graph, "input 0 of 'f' is keyed by 'm', which 'numbers' has not")
    assert server.rows("SHOW JOBS") == []


def test_a_graph_reads_what_the_catalog_has(server: Server) -> None:
    server.run("CREATE TABLE t (k INT, v INT)", "INSERT INTO t VALUES (1, 10), (2, 20)")
    graph = JobGraph("over_table")
    graph.add_operator("t", OperatorType.SOURCE, relation="t")
    graph.add_operator("n", OperatorType.SOURCE, 2, connector="datagen", options=NUMBERS, columns={"n": "BIGINT"})
    graph.add_operator(
        "both", OperatorType.JOIN, 2, sql="SELECT k, v, count(*) AS c FROM input JOIN input_1 ON k = n GROUP BY k, v"
    )
    graph.connect("t", "both")
    graph.connect("n", "both", 1)
    graph.add_operator("view", OperatorType.MATERIALIZE, upstream="both")
    submit(server, graph)
    server.run("FLUSH", "INSERT INTO t VALUES (3, 30)", "FLUSH")
    assert sorted(server.rows("SELECT * FROM over_table")) == [(1, 10, 1), (2, 20, 1), (3, 30, 1)]
    with pytest.raises(sabot.SqlError, match="used by materialized view 'over_table'"):
        server.run("DROP TABLE t")


def test_jobs_come_back_with_the_daemon(tmp_path: Path) -> None:
    graph = numbers("kept")
    graph.add_operator("keyed", OperatorType.MAP, 3, sql="n % 10 AS k, n", upstream="numbers")
    graph.add_operator(
        "adder", OperatorType.MAP, 2, function=Adder, columns={"k": "BIGINT", "total": "BIGINT", "task": "BIGINT"},
        stateful=True, upstream="keyed", key_by="k",
    )  # fmt: skip
    graph.add_operator("top", OperatorType.AGGREGATE, sql="max(total) AS top", upstream="adder")
    graph.add_operator("view", OperatorType.MATERIALIZE, upstream="top")
    with sabot.App("app", data=tmp_path / "data", agents=2) as app:
        job = app.submit(graph)
        job.wait()
        assert job.status()["state"] == "FINISHED"
        assert "adder (pickled): parallelism 2" in job.explain()
        os.kill(app.connection.server_pid, signal.SIGKILL)
    with sabot.App("app", data=tmp_path / "data", agents=2) as app:
        app.connection.execute("FLUSH").close()
        assert app.connection.sql("SELECT top FROM kept").fetchall() == [(sum(range(9, 1000, 10)),)]
        sabot.Job(app.connection, "kept").drop()
        assert app.connection.sql("SHOW JOBS").fetchall() == []


def test_rows_are_cut_by_ranges_and_placed_by_a_function(server: Server, tmp_path: Path) -> None:
    def by_last_digit(batch: pa.RecordBatch) -> pa.Array:
        return pa.array([n % 10 // 5 for n in batch.column("n").to_pylist()], pa.int32())

    graph = numbers("placed")
    graph.add_operator("ranged", OperatorType.SINK, 3, connector="file", options={"path": tmp_path / "r"}, format="csv")
    graph.connect("numbers", "ranged", range_by="n", bounds=[100, 900])
    graph.add_operator("sides", OperatorType.SINK, 2, connector="file", options={"path": tmp_path / "s"}, format="csv")
    graph.connect("numbers", "sides", partition=by_last_digit)
    submit(server, graph)
    server.run("FLUSH")

    def written(folder: Path, task: int) -> set[int]:
        lines = [line for f in folder.glob(f"*-{task}.csv") for line in f.read_text().split()]
        return {int(line) for line in lines if line != "n"}

    assert [written(tmp_path / "r", i) for i in range(3)] == [{*range(100)}, {*range(100, 900)}, {*range(900, 1000)}]
    assert [written(tmp_path / "s", i) for i in range(2)] == [
        {n for n in range(1000) if n % 10 // 5 == i} for i in (0, 1)
    ]
    text = "\n".join(str(r[0]) for r in server.rows("EXPLAIN placed"))
    assert "numbers->ranged#0: RANGE by n: 100, 900, tasks 3 x 3" in text
    assert "numbers->sides#0: CUSTOM by pickled, tasks 3 x 2" in text
    server.run("DROP JOB placed")


def test_bounds_that_are_no_numbers_and_places_that_are_not_there_are_told(server: Server) -> None:
    graph = numbers("wrong_bounds")
    graph.add_operator("out", OperatorType.SINK, 2, connector="blackhole")
    graph.connect("numbers", "out", range_by="n", bounds=["x"])
    with pytest.raises(sabot.SabotError, match="column 'n' of type int64 cannot be cut at the bounds given"):
        submit(server, graph)
    assert server.rows("SHOW JOBS") == []
    graph = numbers("wrong_place")
    graph.add_operator("out", OperatorType.SINK, 2, connector="blackhole")
    graph.connect("numbers", "out", partition=lambda batch: pa.repeat(pa.scalar(7), batch.num_rows))
    submit(server, graph)
    with pytest.raises(sabot.JobError, match="failed: the partition function of edge 'numbers->out#0' gave 7"):
        server.run("FLUSH")


def test_a_join_broadcasts_the_side_that_it_is_told_to(server: Server) -> None:
    graph = numbers("joined")
    graph.add_operator("few", OperatorType.FILTER, 3, sql="n < 10", upstream="numbers")
    graph.add_operator(
        "pairs",
        OperatorType.JOIN,
        4,
        sql="SELECT input.n AS a, input_1.n AS b FROM input JOIN input_1 ON input.n = 2 * input_1.n",
    )
    graph.connect("numbers", "pairs")
    graph.connect("few", "pairs", 1, broadcast=True)
    graph.add_operator("view", OperatorType.MATERIALIZE, upstream="pairs")
    submit(server, graph)
    server.run("FLUSH")
    assert sorted(server.rows("SELECT a, b FROM joined")) == [(2 * n, n) for n in range(10)]
    types = dict(server.rows("SELECT edge, type FROM sabot_catalog.shuffle_edges"))
    assert "BROADCAST" in types.values()
    assert len([t for t in types.values() if t == "HASH"]) == 1, types


def test_the_page_of_the_api_does_what_it_says() -> None:
    page = (EXAMPLE.parents[1] / "docs" / "graph-api.md").read_text()
    script = page.split("```python\n", 1)[1].split("```", 1)[0]
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(EXAMPLE.parents[1])},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Graph: 5 operators, 15 tasks" in done.stdout, "with the partial aggregate"
    assert "edge sums.partial_agg->sums#0: HASH by user_id, tasks 4 x 2" in done.stdout


def test_an_application_on_a_server_leaves_its_job_there(server: Server) -> None:
    graph = numbers("")
    graph.add_operator("odd", OperatorType.FILTER, 3, sql="n % 2 = 1", upstream="numbers")
    graph.add_operator("view", OperatorType.MATERIALIZE, upstream="odd")
    with sabot.App("mine", server=server.db.url) as app:
        job = app.submit(graph)
        assert job.name == "mine", "the application's, for the graph has none"
        with pytest.raises(sabot.SqlError, match="materialized view 'mine' is there already"):
            app.submit(graph)
        job.wait()
    assert server.rows("SELECT count(*) FROM mine") == [(500,)]
    server.run(f"CREATE JOB IF NOT EXISTS mine FROM GRAPH {literal(graph.to_json())}")
    text = "\n".join(str(r[0]) for r in server.rows(f"EXPLAIN CREATE JOB other FROM GRAPH {literal(graph.to_json())}"))
    assert text.startswith("Graph: 3 operators, 7 tasks\n")
    server.run("CREATE MATERIALIZED VIEW sql_made AS SELECT count(*) AS c FROM mine")
    with pytest.raises(sabot.SqlError, match="'sql_made' is a materialized view, not a job"):
        server.run("DROP JOB sql_made")
    with pytest.raises(sabot.SqlError, match="job 'nobody' does not exist"):
        server.run("DROP JOB nobody")
    server.run("DROP JOB IF EXISTS nobody", "DROP JOB mine CASCADE")
    assert server.rows("SHOW JOBS") == []


@pytest.mark.parametrize("sql", ["CREATE JOB j FROM GRAPH", "CREATE JOB j FROM '{}'", "CREATE JOB j FROM GRAPH '{'"])
def test_a_statement_that_is_none_is_told_with_its_place(server: Server, sql: str) -> None:
    with pytest.raises(sabot.SqlError) as refused:
        server.run(sql)
    assert refused.value.text == sql
