from __future__ import annotations

import pytest

from planner import JobGraph, OperatorType
from planner.logical import Relation, RelationKind
from sabot.errors import SqlError
from sabot.schema import Field, literal
from sabotd.catalog_store import CatalogStore
from sabotd.config import Config, ServerConfig
from sabotd.graphs import plan_graph, python_refusal
from sql_frontend.parse import parse_statement
from sql_frontend.statements import CreateJob, CreateSource


def test_a_server_may_refuse_python() -> None:
    def refusal(listen: str, python_jobs: str = "local") -> str | None:
        return python_refusal(Config(server=ServerConfig(listen=listen, python_jobs=python_jobs)))

    assert refusal("grpc://127.0.0.1:1") is refusal("grpc+unix:///tmp/s") is refusal("grpc://localhost:1") is None
    assert refusal("grpc+tls://[::1]:1") is refusal("grpc+tls://0.0.0.0:1", "always") is None
    assert refusal("grpc://127.0.0.1:1", "never") == "server.python_jobs is 'never'"
    for listen in ("grpc+tls://0.0.0.0:1", "grpc+tls://db.example.com:1", "grpc+tls://[::]:1"):
        assert refusal(listen) == "it listens beyond loopback, and server.python_jobs is 'local'"


def make_source(source: CreateSource) -> Relation:
    return Relation(
        source.name, RelationKind.SOURCE, (Field("n", "BIGINT"),), True, connector="datagen", options=source.options
    )


def test_a_refused_function_is_not_looked_at() -> None:
    graph = JobGraph("g")
    graph.add_operator("s", OperatorType.SOURCE, connector="datagen")
    graph.add_operator("f", OperatorType.MAP, function="os:abort", columns={"n": "BIGINT"}, upstream="s")
    graph.add_operator("out", OperatorType.SINK, connector="blackhole", upstream="f")
    statement = parse_statement(f"CREATE JOB g FROM GRAPH {literal(graph.to_json())}")
    assert isinstance(statement, CreateJob)
    with pytest.raises(SqlError, match="operator 'f' has a Python function, and this server takes none: because"):
        plan_graph(statement, CatalogStore(), make_source, "because")
    made = plan_graph(statement, CatalogStore(), make_source, None)
    assert made.planned.job_id == "sink:g"
    assert not made.is_view
