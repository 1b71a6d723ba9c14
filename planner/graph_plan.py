"""From a graph written by hand to streaming operators: one by one, inputs first, each as the planner would make it."""

from __future__ import annotations

from dataclasses import replace

from planner.carried import carried
from planner.chaining import chain_operators
from planner.changelog import Changelog
from planner.distribution import AnyDistribution, Broadcast, Custom, Distribution, Hash, Range, Single, renamed
from planner.execution_graph import ShuffleEdgeType, detect_shuffle_edge_type
from planner.job_graph import JobGraph, JobInput, OperatorType, StreamOperatorNode, is_query, written_distribution
from planner.logical import (
    Aggregate,
    Filter,
    Join,
    LogicalNode,
    Project,
    Query,
    Relation,
    RelationKind,
    Scan,
    Union,
    Window,
    schema_of,
)
from planner.operator_work import PythonWork
from planner.optimizer import optimize
from planner.plan import PlannedJob, build_job_graph, build_spec, operator_type
from planner.sql import select_sql
from planner.stream_node import (
    ORDERLESS_CONNECTORS,
    SinkTarget,
    StreamInput,
    StreamNode,
    column_specs,
    sink_op,
    travelling,
    view_operator,
)
from planner.streaming_plan import StreamPlanner
from planner.task_spec import PythonOp, SqlOp, UnionOp
from planner.tree import unique_nodes
from sabot.errors import PlanError
from sabot.ids import JobId, OperatorId
from sabot.schema import Field, Schema, quote

INPUTS = ("input", "input_1")
_STATELESS = (OperatorType.MAP, OperatorType.FLAT_MAP, OperatorType.FILTER, OperatorType.WINDOW)
_AGGREGATES = (OperatorType.AGGREGATE, OperatorType.GROUP_BY)
_ARITY = {OperatorType.SOURCE: (0, 0), OperatorType.JOIN: (2, 2), OperatorType.UNION: (1, 64)}


class GraphPlanner:
    """Takes the operators of a graph in their order, and gives the job.

    Parameters
    ----------
    graph : JobGraph
        Checked at once: what each operator is and what feeds it.
    job_id : JobId

    Raises
    ------
    PlanError
        If the graph cannot run: an operator without work, without input, or whose rows nobody takes.
    """

    def __init__(self, graph: JobGraph, job_id: JobId) -> None:
        self._graph = graph
        self._job_id = job_id
        self._nodes: dict[OperatorId, StreamNode] = {}
        self._operators: list[tuple[OperatorId, StreamNode]] = []
        self._known: set[int] = set()
        if not graph.operators:
            msg = "the graph has no operators"
            raise PlanError(msg)
        for op in graph.operators:
            _check(op, feeds=bool(graph.consumers(op.operator_id)))

    def inputs(self, op: StreamOperatorNode) -> dict[str, Relation]:
        """Return what an operator's SQL may read: ``input`` and, of a join, ``input_1``."""
        return {
            name: Relation(
                name,
                RelationKind.INPUT,
                rows.schema,
                append_only=not rows.retracting,
                stream_key=rows.stream_key or (),
            )
            for name, rows in zip(INPUTS, self._inputs(op), strict=False)
        }

    def query_text(self, op: StreamOperatorNode, sql: str) -> str:
        """Return an operator's SQL as a whole query: the short form of its type written out."""
        if is_query(sql):
            return sql
        match op.type:
            case OperatorType.FILTER:
                return f"SELECT * FROM input WHERE {sql}"
            case OperatorType.AGGREGATE | OperatorType.GROUP_BY:
                keys = ", ".join(quote(k) for k in op.inputs[0].key_by)
                return f"SELECT {keys}, {sql} FROM input GROUP BY {keys}" if keys else f"SELECT {sql} FROM input"
            case OperatorType.WINDOW:
                return f"SELECT * FROM {sql}"
            case OperatorType.JOIN:
                return f"SELECT * FROM input JOIN input_1 ON {sql}"
            case _:
                return f"SELECT {sql} FROM input"

    # -- one operator

    def add_source(self, op: StreamOperatorNode, query: Query) -> None:
        """Add a source: what it reads, as a query over the catalog."""
        root = optimize(query.root)
        rows = StreamPlanner(root, parallelism=op.parallelism, watermarks=False).plan_root(root)
        if rows.parallelism != op.parallelism:
            msg = f"source {op.name!r} has parallelism {op.parallelism}, what it reads comes from {rows.parallelism}"
            raise PlanError(msg, hint="a table or view is read by one task; the operators below it may have more")
        self._add(op, rows)

    def add_query(self, op: StreamOperatorNode, query: Query) -> None:
        """Add an operator that is a query over its inputs."""
        root = optimize(query.root)
        _check_query(op, root)
        scans = [n for n in unique_nodes(root) if isinstance(n, Scan)]
        if all(isinstance(n, Project | Filter | Window | Scan) for n in unique_nodes(root)) and len(scans) == 1:
            self._add(op, self._stateless(op, root))
            return
        inputs = dict(zip(INPUTS, self._inputs(op), strict=False))
        sent = next((n for n, i in zip(INPUTS, op.inputs, strict=False) if isinstance(i.requires, Broadcast)), None)
        if op.type is not OperatorType.JOIN:
            sent = None
        planner = StreamPlanner(root, parallelism=op.parallelism, watermarks=False, inputs=inputs, broadcast=sent)
        rows = planner.plan_root(root)
        if rows.parallelism != op.parallelism:
            msg = f"operator {op.name!r} has parallelism {op.parallelism}, its rows come together in {rows.parallelism}"
            raise PlanError(msg, hint="give it a key, or that parallelism")
        self._check_keys(op, rows)
        self._add(op, rows)

    def _stateless(self, op: StreamOperatorNode, root: LogicalNode) -> StreamNode:
        (above,) = self._inputs(op)
        scan = next(n for n in unique_nodes(root) if isinstance(n, Scan))
        requires = self._usable(op, 0, above)
        # the columns that it does not read need not travel; in one task they are just not looked at
        if not above.pinned and not self._is_forward(op, above):
            planner = StreamPlanner(root, parallelism=above.parallelism, watermarks=False, inputs={INPUTS[0]: above})
            kept = {f.name for f in scan.fields} | set(_keys(requires))
            # a function that places rows may look at any column
            if not isinstance(requires, Range | Custom):
                above = planner.project(above, tuple(f for f in above.schema if f.name in kept))
        fields = schema_of(root)
        sql = select_sql(root, lambda n: isinstance(n, Scan), weighted=above.retracting)
        lies = above.distribution if self._is_forward(op, above) else AnyDistribution()
        if isinstance(requires, Hash):
            lies = Hash(requires.keys)
        # the query may read fewer columns than there are
        read = {f.name: f.name for f in scan.fields}
        key = above.stream_key
        if key is not None and (isinstance(requires, Broadcast) or not set(key) <= set(read)):
            key = None
        key, distribution = carried(root, scan, key, renamed(lies, read))
        return StreamNode(
            SqlOp(sql, travelling(fields, weighted=above.retracting)),
            (StreamInput(above, requires),),
            fields,
            above.changelog,
            key,
            Single() if op.parallelism == 1 else distribution,
            op.parallelism,
            stateful=op.stateful,
        )

    def add_python(self, op: StreamOperatorNode, work: PythonWork) -> None:
        """Add an operator that is a user's function."""
        (above,) = self._inputs(op)
        if above.retracting and not work.changes:
            msg = f"function {op.name!r} would read rows that may be taken back"
            raise PlanError(msg, hint="changes=True gives it the column __weight; or let it come before the aggregate")
        schema = tuple(Field(name, type_text) for name, type_text in work.columns.items())
        weighted = above.retracting
        self._add(
            op,
            StreamNode(
                PythonOp(op.name, column_specs(schema), work.path, work.pickled, weighted),
                (StreamInput(above, self._usable(op, 0, above)),),
                schema,
                Changelog.RETRACT if weighted else Changelog.APPEND_ONLY,
                None,
                written_distribution(op),
                op.parallelism,
                stateful=op.stateful,
            ),
        )

    def add_union(self, op: StreamOperatorNode) -> None:
        """Add UNION, or KEY_BY: rows pass on as they are."""
        above = self._inputs(op)
        schema = above[0].schema
        for given, rows in zip(op.inputs, above, strict=True):
            if rows.schema != schema:
                other = f"{_columns(rows.schema)} of {given.upstream!r}"
                msg = f"operator {op.name!r} joins {_columns(schema)} with {other}"
                raise PlanError(msg, hint="the inputs of a union have the same columns")
        weighted = any(rows.retracting for rows in above)
        self._add(
            op,
            StreamNode(
                UnionOp(column_specs(schema), weighted),
                tuple(StreamInput(rows, self._usable(op, port, rows)) for port, rows in enumerate(above)),
                schema,
                Changelog.RETRACT if weighted else Changelog.APPEND_ONLY,
                above[0].stream_key if len(above) == 1 else None,
                written_distribution(op),
                op.parallelism,
            ),
        )

    def add_sink(self, op: StreamOperatorNode, target: SinkTarget) -> None:
        """Add a sink that writes to a connector."""
        (above,) = self._inputs(op)
        requires = self._usable(op, 0, above)
        made = sink_op(above, target)
        if above.retracting and target.connector not in ORDERLESS_CONNECTORS and op.parallelism > 1:
            keys = above.stream_key or ()
            if not keys:
                msg = f"sink {op.name!r} has parallelism {op.parallelism}, but nothing tells its rows apart"
                raise PlanError(msg, hint="rows that may be taken back stay in order in one task: parallelism 1")
            if not _keys(requires) or not set(_keys(requires)) <= set(keys):
                requires = Hash(keys)
        self._add(
            op,
            StreamNode(
                made,
                (StreamInput(above, requires),),
                above.schema,
                above.changelog,
                above.stream_key,
                Single() if op.parallelism == 1 else AnyDistribution(),
                op.parallelism,
            ),
        )

    def add_materialize(self, op: StreamOperatorNode, relation: str) -> None:
        """Add the operator that keeps its input as view `relation`."""
        (above,) = self._inputs(op)
        if op.parallelism != 1:
            msg = f"operator {op.name!r} keeps a view and has one task, not {op.parallelism}"
            raise PlanError(msg)
        self._add(op, view_operator(above, relation))

    def finish(self, relation: str) -> PlannedJob:
        """Return the job; its output is the view's, or what the first sink writes."""
        ends = [op for op in self._graph.operators if op.type in (OperatorType.MATERIALIZE, OperatorType.SINK)]
        views = [op for op in ends if op.type is OperatorType.MATERIALIZE]
        if len(views) > 1:
            msg = f"the graph keeps {len(views)} views, which would all be called {relation!r}"
            raise PlanError(msg, hint="a job keeps one")
        end = self._nodes[(views or ends)[0].operator_id]
        operators = tuple(self._operators)
        job_graph = build_job_graph(operators, self._graph.max_parallelism)
        job_graph.name = self._graph.name
        execution_graph = job_graph.to_execution_graph()
        chained = chain_operators(execution_graph)
        return PlannedJob(
            self._job_id,
            None,
            end,
            operators,
            job_graph,
            execution_graph,
            chained,
            build_spec(self._job_id, operators, chained, self._graph.max_parallelism),
            Relation(
                relation,
                RelationKind.MATERIALIZED_VIEW,
                end.schema,
                append_only=not end.retracting,
                stream_key=end.stream_key or (),
            ),
        )

    # -- helpers

    def _inputs(self, op: StreamOperatorNode) -> list[StreamNode]:
        return [self._nodes[i.upstream] for i in op.inputs]

    def _usable(self, op: StreamOperatorNode, port: int, above: StreamNode) -> Distribution:
        """Return what input `port` requires; its keys are columns."""
        requires = op.inputs[port].requires
        for key in (requires.column,) if isinstance(requires, Range) else _keys(requires):
            if all(f.name != key for f in above.schema):
                msg = f"input {port} of {op.name!r} is keyed by {key!r}, which {op.inputs[port].upstream!r} has not"
                raise PlanError(msg, hint=f"its columns are {_columns(above.schema)}")
        return requires

    def _is_forward(self, op: StreamOperatorNode, above: StreamNode) -> bool:
        up = StreamOperatorNode(
            op.inputs[0].upstream, OperatorType.SQL, above.parallelism, op.max_parallelism,
            distribution=above.distribution, pinned=above.pinned,
        )  # fmt: skip
        down = replace(op, inputs=(JobInput(up.operator_id, op.inputs[0].requires),))
        return detect_shuffle_edge_type(up, down) is ShuffleEdgeType.FORWARD

    def _check_keys(self, op: StreamOperatorNode, rows: StreamNode) -> None:
        """The keys of a query are in its text; what was asked for besides must agree."""
        above = self._inputs(op)
        for port in range(len(op.inputs)):
            asked = self._usable(op, port, above[port])
            if isinstance(asked, Broadcast) and _broadcasts(rows, {id(r) for r in above}):
                continue
            if not isinstance(asked, Hash | AnyDistribution | Single):
                msg = f"input {port} of {op.name!r} cannot be {asked}: its query needs rows by their keys"
                raise PlanError(msg)
            if not isinstance(asked, Hash):
                continue
            needed = _needed(rows, {id(r) for r in above})
            if not any(set(asked.keys) <= set(keys) for keys in needed):
                by = " and ".join(", ".join(keys) for keys in needed) or "no key"
                msg = f"input {port} of {op.name!r} is keyed by {', '.join(asked.keys)}, its query by {by}"
                raise PlanError(msg, hint="key_by may be left out: the query says it")

    def _add(self, op: StreamOperatorNode, rows: StreamNode) -> None:
        """Name the new streaming operators: the last is the operator itself, the others are parts of it."""
        order: list[StreamNode] = []

        def visit(node: StreamNode) -> None:
            if id(node) in self._known:
                return
            self._known.add(id(node))
            for given in node.inputs:
                visit(given.node)
            order.append(node)

        if id(rows) in self._known:
            # a query that changes nothing is still an operator
            rows = StreamNode(
                UnionOp(column_specs(rows.schema), rows.retracting),
                (StreamInput(rows, AnyDistribution()),),
                rows.schema,
                rows.changelog,
                rows.stream_key,
                rows.distribution,
                rows.parallelism,
            )
        visit(rows)
        taken = {str(name) for name, _ in self._operators}
        for node in order[:-1]:
            base = name = f"{op.name}.{operator_type(node).value}"
            count = 1
            while name in taken:
                count += 1
                name = f"{base}{count}"
            taken.add(name)
            self._operators.append((OperatorId(name), node))
        self._operators.append((op.operator_id, rows))
        self._nodes[op.operator_id] = rows


def _check(op: StreamOperatorNode, *, feeds: bool) -> None:
    least, most = _ARITY.get(op.type, (1, 1))
    if not least <= len(op.inputs) <= most:
        wanted = f"{least}" if least == most else f"{least} to {most}"
        msg = f"operator {op.name!r} ({op.type.value}) has {len(op.inputs)} inputs, it needs {wanted}"
        raise PlanError(msg, hint="graph.connect(up, down) feeds it")
    ends = op.type in (OperatorType.SINK, OperatorType.MATERIALIZE)
    if ends and feeds:
        msg = f"operator {op.name!r} is a {op.type.value} and cannot feed another"
        raise PlanError(msg)
    if not ends and not feeds:
        msg = f"nobody takes the rows of operator {op.name!r}"
        raise PlanError(msg, hint="connect it to a SINK, or to MATERIALIZE for a view")
    if op.type is OperatorType.KEY_BY and not op.inputs[0].key_by:
        msg = f"operator {op.name!r} is a key_by without a key"
        raise PlanError(msg, hint="graph.connect(up, down, key_by=[...])")


def _check_query(op: StreamOperatorNode, root: LogicalNode) -> None:
    """An operator does what its type says."""
    kinds = {type(n) for n in unique_nodes(root)}
    if op.type in _STATELESS and kinds & {Aggregate, Join, Union}:
        msg = f"operator {op.name!r} is a {op.type.value}, but its query keeps state"
        raise PlanError(msg, hint="make it an AGGREGATE or a JOIN")
    if op.type in _AGGREGATES and Aggregate not in kinds:
        msg = f"operator {op.name!r} is a {op.type.value}, but its query aggregates nothing"
        raise PlanError(msg, hint="SELECT k, count(*) AS n FROM input GROUP BY k")
    if op.type is OperatorType.JOIN and Join not in kinds:
        msg = f"operator {op.name!r} is a join, but its query joins nothing"
        raise PlanError(msg, hint="SELECT ... FROM input JOIN input_1 ON ...")
    if op.type is OperatorType.WINDOW and Window not in kinds:
        msg = f"operator {op.name!r} is a window, but its query has none"
        raise PlanError(msg, hint="SELECT * FROM TUMBLE(input, at, INTERVAL '1 minute')")


def _needed(rows: StreamNode, ends: set[int]) -> list[tuple[str, ...]]:
    """Return the keys by which the parts of a query require their inputs."""
    if id(rows) in ends:
        return []
    found = [_keys(i.requires) for i in rows.inputs if _keys(i.requires)]
    return found + [keys for i in rows.inputs for keys in _needed(i.node, ends)]


def _broadcasts(rows: StreamNode, ends: set[int]) -> bool:
    return id(rows) not in ends and any(
        isinstance(i.requires, Broadcast) or _broadcasts(i.node, ends) for i in rows.inputs
    )


def _keys(requires: Distribution) -> tuple[str, ...]:
    return requires.keys if isinstance(requires, Hash) else ()


def _columns(schema: Schema) -> str:
    return ", ".join(f"{f.name} {f.type}" for f in schema)
