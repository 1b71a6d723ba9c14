"""The planner's door: a bound query in, everything that runs it out."""

from __future__ import annotations

from dataclasses import dataclass

from planner.chaining import ChainedGraph, chain_operators
from planner.distribution import Custom, Range
from planner.emit_on_close import closed, rewrite
from planner.execution_graph import ExecutionGraph, task_id
from planner.explain import Counts, explain_job
from planner.interval_joins import bounded_joins
from planner.job_graph import DEFAULT_MAX_PARALLELISM, JobGraph, JobInput, OperatorType, StreamOperatorNode
from planner.logical import Emit, LogicalNode, Query, Relation, RelationKind, Scan, schema_of
from planner.optimizer import optimize
from planner.sink_plan import sink_node
from planner.state_marks import unbounded_notice
from planner.stream_node import SinkTarget, StreamNode, TableTarget, table_sink, view_operator
from planner.streaming_plan import StreamPlanner
from planner.task_spec import (
    EdgeOutput,
    EdgeSpec,
    FromEdge,
    FromOperator,
    FunctionSpec,
    JobSpec,
    OperatorNode,
    TaskSpec,
)
from planner.tree import unique_nodes
from sabot.errors import PlanError
from sabot.ids import ROW_WATERMARK, JobId, OperatorId, TaskId
from sabot.schema import Schema

__all__ = ["PlannedJob", "SinkTarget", "TableTarget", "plan_sink", "plan_view"]


@dataclass(frozen=True)
class PlannedJob:
    """A job at every stage of planning.

    `output` is the job's result as a relation others can read; of a sink it names the rows that are written.
    """

    job_id: JobId
    logical: LogicalNode | None
    """None of a graph written by hand."""
    streaming: StreamNode
    operators: tuple[tuple[OperatorId, StreamNode], ...]
    job_graph: JobGraph
    execution_graph: ExecutionGraph
    chained: ChainedGraph
    spec: JobSpec
    output: Relation

    @property
    def notices(self) -> tuple[str, ...]:
        """What whoever makes the job should know: state that nothing bounds."""
        notice = unbounded_notice(self.operators)
        return () if notice is None else (notice,)

    def explain(self, counts: Counts | None = None) -> str:
        """Return the plan as text: logical plan, job graph, execution graph. The same query gives the same text.

        `counts` maps an edge id to the (rows, bytes) that went over it, of a job that runs.
        """
        return explain_job(self.logical, self.operators, self.execution_graph, self.chained, counts)


def plan_view(
    query: Query,
    *,
    job_id: JobId,
    relation: str,
    parallelism: int,
    max_parallelism: int = DEFAULT_MAX_PARALLELISM,
    state_ttl_us: int | None = None,
) -> PlannedJob:
    """Plan the job of a materialized view.

    Parameters
    ----------
    query : Query
        As bound; not changed.
    job_id : JobId
    relation : str
        The view's name.
    parallelism : int
        Tasks of each operator that can be spread, 1 to `max_parallelism`.
    max_parallelism : int
        Key groups; fixed for the job's life.
    state_ttl_us : int, optional
        How long state is kept that nothing touches, in microseconds; for ever if not given.

    Raises
    ------
    SqlError
        If the query asks for what cannot be planned (EMIT ON WINDOW CLOSE without a window).
    PlanError
        If a rule broke its promise: a bug.
    """
    return _Job(query, job_id, parallelism, max_parallelism, state_ttl_us).finish(relation, None)


def plan_sink(
    query: Query,
    *,
    job_id: JobId,
    sink: SinkTarget | TableTarget,
    parallelism: int,
    max_parallelism: int = DEFAULT_MAX_PARALLELISM,
    state_ttl_us: int | None = None,
) -> PlannedJob:
    """Plan the job of a sink; as :func:`plan_view`, with the rows going to `sink`."""
    return _Job(query, job_id, parallelism, max_parallelism, state_ttl_us).finish(sink.relation, sink)


class _Job:
    def __init__(
        self, query: Query, job_id: JobId, parallelism: int, max_parallelism: int, state_ttl_us: int | None
    ) -> None:
        if not 1 <= parallelism <= max_parallelism:
            msg = f"parallelism {parallelism} is not between 1 and {max_parallelism}"
            raise PlanError(msg, hint="max_parallelism bounds it: the number of key groups")
        self._job_id = job_id
        self._max_parallelism = max_parallelism
        self._functions = query.functions
        self._fields: Schema = schema_of(query.root)
        root, self._close = query.root, None
        if query.emit is not Emit.ON_UPDATE:
            closing = rewrite(query)
            root, self._close = closing.root, closing.close_column
        else:
            root = bounded_joins(root)
        self._forgiving = state_ttl_us is not None
        self._logical = optimize(root)
        on_close = query.emit is Emit.ON_WINDOW_CLOSE or any(closed(n) for n in unique_nodes(self._logical))
        judged = any(f.name == ROW_WATERMARK for n in unique_nodes(root) if isinstance(n, Scan) for f in n.fields)
        self._planner = StreamPlanner(
            self._logical, parallelism=parallelism, watermarks=on_close or judged, ttl_us=state_ttl_us
        )

    def finish(self, relation: str, sink: SinkTarget | TableTarget | None) -> PlannedJob:
        rows = self._planner.plan_root(self._logical)
        if self._close is not None:
            rows = self._planner.hold_back(rows, self._close)
            rows = self._planner.project(rows, self._fields)
        if sink is None:
            end = view_operator(rows, relation, forgiving=self._forgiving)
        elif isinstance(sink, TableTarget):
            end = table_sink(rows, sink, forgiving=self._forgiving)
        else:
            end = sink_node(rows, sink, self._planner.placing)
        operators = number(end)
        job_graph = build_job_graph(operators, self._max_parallelism)
        execution_graph = job_graph.to_execution_graph()
        chained = chain_operators(execution_graph)
        return PlannedJob(
            self._job_id,
            self._logical,
            end,
            operators,
            job_graph,
            execution_graph,
            chained,
            build_spec(self._job_id, operators, chained, self._max_parallelism, self._functions),
            Relation(
                relation,
                RelationKind.MATERIALIZED_VIEW,
                self._fields,
                append_only=not rows.retracting,
                stream_key=rows.stream_key or (),
            ),
        )


def number(end: StreamNode) -> tuple[tuple[OperatorId, StreamNode], ...]:
    """Return the operators below `end` in topological order, with ids that depend on nothing but the plan."""
    order: list[StreamNode] = []

    def visit(node: StreamNode) -> None:
        if any(node is n for n in order):
            return
        for given in node.inputs:
            visit(given.node)
        order.append(node)

    visit(end)
    return tuple((OperatorId(f"{i}-{operator_type(n).value}"), n) for i, n in enumerate(order))


def operator_type(node: StreamNode) -> OperatorType:
    """Return the type of a streaming operator."""
    return OperatorType(type(node.op).__struct_config__.tag)


def build_job_graph(operators: tuple[tuple[OperatorId, StreamNode], ...], max_parallelism: int) -> JobGraph:
    """Return the job graph of numbered streaming operators."""
    graph = JobGraph(max_parallelism=max_parallelism)
    ids = {id(node): name for name, node in operators}
    for name, node in operators:
        graph.add(
            StreamOperatorNode(
                name,
                operator_type(node),
                node.parallelism,
                max_parallelism,
                node.stateful,
                tuple(JobInput(ids[id(given.node)], given.requires) for given in node.inputs),
                node.distribution,
                node.pinned,
            )
        )
    return graph


def build_spec(
    job_id: JobId,
    operators: tuple[tuple[OperatorId, StreamNode], ...],
    chained: ChainedGraph,
    max_parallelism: int,
    functions: tuple[FunctionSpec, ...] = (),
) -> JobSpec:
    """Return the job as plain data: what the agents run."""
    nodes = dict(operators)
    ids = {id(node): name for name, node in operators}
    edges = {(e.downstream, e.port): e for e in chained.edges}
    tasks = []
    for chain in chained.chains:
        index_of = {name: i for i, name in enumerate(chain.operators)}
        fused = []
        for name in chain.operators:
            inputs: list[FromOperator | FromEdge] = []
            for port, given in enumerate(nodes[name].inputs):
                edge = edges.get((name, port))
                upstream = index_of.get(ids[id(given.node)], -1)
                inputs.append(FromEdge(edge.edge_id) if edge is not None else FromOperator(upstream))
            fused.append(OperatorNode(nodes[name].op, tuple(inputs)))
        outputs = tuple(EdgeOutput(index_of[e.upstream], e.edge_id) for e in chained.edges if e.upstream in index_of)
        tasks += [
            TaskSpec(
                task_id(chain.chain_id, i),
                chain.chain_id,
                i,
                chain.parallelism,
                tuple(fused),
                outputs,
                chain.pinned,
                functions,
            )
            for i in range(chain.parallelism)
        ]

    def task_ids(operator: OperatorId) -> tuple[TaskId, ...]:
        chain = chained.chain_of(operator)
        return tuple(task_id(chain.chain_id, i) for i in range(chain.parallelism))

    specs = tuple(
        EdgeSpec(
            e.edge_id,
            e.type.value,
            e.keys,
            nodes[e.upstream].columns,
            task_ids(e.upstream),
            task_ids(e.downstream),
            max_parallelism,
            e.requires.bounds if isinstance(e.requires, Range) else (),
            e.requires.path if isinstance(e.requires, Custom) else "",
            e.requires.pickled if isinstance(e.requires, Custom) else b"",
        )
        for e in chained.edges
    )
    return JobSpec(job_id, tuple(tasks), specs)
