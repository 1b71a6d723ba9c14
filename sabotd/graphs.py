"""CREATE JOB: a graph written by hand, bound to the catalog and planned like any query."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from planner.distribution import Custom
from planner.graph_plan import GraphPlanner
from planner.job_graph import JobGraph, OperatorType, StreamOperatorNode
from planner.logical import Emit, Query, Relation, Scan
from planner.operator_work import ConnectorWork, PythonWork, RelationWork, SqlWork
from planner.plan import PlannedJob
from planner.stream_node import SinkTarget
from planner.task_spec import SinkOp
from sabot.errors import PlanError, Span, SqlError
from sabot.ids import JobId
from sabot.schema import Field, quote
from sabotd.catalog_store import CatalogStore, RecordingCatalog
from sabotd.config import Config
from sabotd.connectors import registry
from sql_frontend.binder import bind_query
from sql_frontend.catalog import ViewDefinition
from sql_frontend.statements import CreateJob, CreateSource, FormatClause


@dataclass(frozen=True)
class PlannedGraph:
    """A job made of a graph: what it reads, and whether it keeps a view under its own name."""

    planned: PlannedJob
    reads: frozenset[str]
    is_view: bool


def python_refusal(config: Config) -> str | None:
    """Return why graphs with Python functions are refused here, None if they are not: they run as sabotd itself."""
    if config.server.python_jobs == "always":
        return None
    if config.server.python_jobs == "never":
        return "server.python_jobs is 'never'"
    url = urlsplit(config.server.listen)
    try:
        local = url.scheme == "grpc+unix" or ipaddress.ip_address(url.hostname or "").is_loopback
    except ValueError:
        local = url.hostname == "localhost"
    return None if local else "it listens beyond loopback, and server.python_jobs is 'local'"


def plan_graph(
    statement: CreateJob,
    catalog: CatalogStore,
    make_source: Callable[[CreateSource], Relation],
    refusal: str | None,
) -> PlannedGraph:
    """Bind and plan the graph of a statement.

    Parameters
    ----------
    statement : CreateJob
    catalog : CatalogStore
        What sources may name.
    make_source : callable
        Checks a source and gives its relation.
    refusal : str, optional
        Why Python functions are refused.

    Raises
    ------
    SqlError
        The graph cannot run; an error in an operator's SQL points into that.
    """
    try:
        graph = JobGraph.from_json(statement.graph)
        is_view = any(op.type is OperatorType.MATERIALIZE for op in graph.operators)
        job_id = JobId(f"{'mv' if is_view else 'sink'}:{statement.name}")
        planner = GraphPlanner(graph, job_id)
        recording = RecordingCatalog(catalog)
        for op in graph.operators:
            has_code = isinstance(op.work, PythonWork) or any(isinstance(i.requires, Custom) for i in op.inputs)
            if has_code and refusal is not None:
                msg = f"operator {op.name!r} has a Python function, and this server takes none: {refusal}"
                raise SqlError(msg, hint="write it in SQL, or set server.python_jobs", sqlstate="42501")
            _add(planner, op, statement.name, recording, make_source)
        planned = planner.finish(statement.name)
        for task in planned.spec.tasks:
            for node in task.nodes:
                if task.index == 0 and isinstance(node.op, SinkOp):
                    registry.check(node.op)
                    registry.connector(node.op.connector).validate(node.op)
    except PlanError as error:
        raise SqlError(error.message, hint=error.hint, sqlstate="42P17", text=statement.text) from error
    return PlannedGraph(planned, frozenset(recording.found), is_view)


def _add(
    planner: GraphPlanner,
    op: StreamOperatorNode,
    job: str,
    catalog: RecordingCatalog,
    make_source: Callable[[CreateSource], Relation],
) -> None:
    match op.type, op.work:
        case OperatorType.SOURCE, RelationWork(relation=name):
            planner.add_source(op, bind_query(f"SELECT * FROM {quote(name)}", catalog))
        case OperatorType.SOURCE, ConnectorWork() as work:
            relation = make_source(_create_source(op, work))
            planner.add_source(op, Query(Scan(relation, relation.schema)))
        case OperatorType.SINK, ConnectorWork() as work:
            target = SinkTarget(f"{job}.{op.name}", work.connector, _options(work), work.format)
            planner.add_sink(op, target)
        case OperatorType.MATERIALIZE, None:
            planner.add_materialize(op, job)
        case ((OperatorType.UNION | OperatorType.KEY_BY), None):
            planner.add_union(op)
        case (
            (
                OperatorType.MAP
                | OperatorType.FILTER
                | OperatorType.FLAT_MAP
                | OperatorType.GROUP_BY
                | OperatorType.AGGREGATE
                | OperatorType.WINDOW
                | OperatorType.JOIN
            ),
            SqlWork(sql=sql),
        ):
            planner.add_query(op, _bind(planner, op, sql))
        case (
            (
                OperatorType.MAP
                | OperatorType.FILTER
                | OperatorType.FLAT_MAP
                | OperatorType.GROUP_BY
                | OperatorType.AGGREGATE
                | OperatorType.WINDOW
            ),
            PythonWork() as work,
        ):
            planner.add_python(op, work)
        case _, work:
            has = type(work).__name__.removesuffix("Work").lower() if work is not None else "nothing"
            msg = f"operator {op.name!r} is a {op.type.value} and has {has} to do"
            raise PlanError(msg, hint=_WANTED.get(op.type, "give it sql, or a function with its columns"))


_WANTED: Mapping[OperatorType, str] = {
    OperatorType.SOURCE: "a source has a connector, or a relation of the catalog",
    OperatorType.SINK: "a sink has a connector",
    OperatorType.MATERIALIZE: "it keeps what it gets, under the job's name",
    OperatorType.UNION: "it passes on what it gets",
    OperatorType.KEY_BY: "it passes on what it gets",
    OperatorType.JOIN: "a join has sql over input and input_1",
}


def _bind(planner: GraphPlanner, op: StreamOperatorNode, sql: str) -> Query:
    text = planner.query_text(op, sql)
    # an error points into what the user wrote
    start = text.find(sql)
    try:
        query = bind_query(text, _Inputs(planner.inputs(op)))
    except SqlError as error:
        span = error.span if error.text == text else None
        if span is not None:
            span = Span(max(0, span.start - start), max(0, min(len(sql), span.end - start)))
        msg = f"operator {op.name!r}: {error.message}"
        raise SqlError(msg, hint=error.hint, sqlstate=error.sqlstate, text=sql, span=span) from error
    return Query(query.root, Emit.ON_UPDATE)


class _Inputs:
    """The catalog of one operator: its inputs."""

    def __init__(self, relations: Mapping[str, Relation]) -> None:
        self._relations = relations

    def lookup(self, name: str) -> Relation | ViewDefinition | None:
        return self._relations.get(name)

    def names(self) -> Sequence[str]:
        return sorted(self._relations)


def _create_source(op: StreamOperatorNode, work: ConnectorWork) -> CreateSource:
    return CreateSource(
        op.name,
        tuple(Field(name, type_text) for name, type_text in work.columns.items()),
        None,
        tuple({**work.options, "connector": work.connector}.items()),
        FormatClause("plain", work.format) if work.format else None,
        (),
        if_not_exists=False,
        text="",
        span=Span(0, 0),
    )


def _options(work: ConnectorWork) -> dict[str, str]:
    options = {**work.options, "connector": work.connector}
    return {"format": "plain", **options} if work.format else options
