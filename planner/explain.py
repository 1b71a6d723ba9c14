"""EXPLAIN: the logical plan, the job graph and the execution graph as stable text."""

from __future__ import annotations

from collections.abc import Mapping

from planner.chaining import ChainedGraph
from planner.execution_graph import ExecutionGraph, ShuffleEdge, ShuffleEdgeType
from planner.logical import (
    NULL_SAFE,
    AggCall,
    Aggregate,
    Filter,
    Join,
    JoinKind,
    LogicalNode,
    Over,
    OverCall,
    Project,
    Scan,
    Sessions,
    Timeline,
    Union,
    Unnest,
    Window,
)
from planner.numeric import readable
from planner.render import duration, render
from planner.state_marks import state_marks
from planner.stream_node import StreamNode
from planner.task_spec import (
    BestRowsOp,
    CloseOverOp,
    CloseRecomputeOp,
    CloseSessionsOp,
    FinalAggOp,
    JoinOp,
    LateOp,
    LogSourceOp,
    MaterializeOp,
    PartialAggOp,
    PythonOp,
    RecomputeOp,
    SinkOp,
    SortKey,
    SourceOp,
    SqlOp,
    TableSinkOp,
    TemporalFilterOp,
    TemporalJoinOp,
    TopNOp,
)
from planner.tree import children, consumer_counts
from sabot.ids import OperatorId

Counts = Mapping[str, tuple[int, int]]
"""Edge id to (rows, bytes) that went over it."""


def explain_job(
    logical: LogicalNode | None,
    operators: tuple[tuple[OperatorId, StreamNode], ...],
    graph: ExecutionGraph,
    chained: ChainedGraph,
    counts: Counts | None = None,
) -> str:
    """Return the three sections; with `counts`, the edges tell what went over them.

    A graph written by hand has no logical plan: its operators, tasks and edges stand there, before any are fused.
    """
    first = [f"Graph: {len(graph.job_graph.operators)} operators, {len(graph.tasks)} tasks"]
    if logical is None:
        first += _indented(_edge_lines(graph.edges, None))
    else:
        first = ["Logical plan", *_indented(explain_logical(logical))]
    sections = [
        *first,
        "",
        "Job graph",
        *_indented(_job_lines(operators)),
        "",
        f"Execution graph: {sum(c.parallelism for c in chained.chains)} tasks, {len(chained.edges)} shuffle edges",
        *_indented(_task_lines(chained)),
        *_indented(_edge_lines(chained.edges, counts)),
    ]
    return "\n".join(map(readable, sections)) + "\n"


def _indented(lines: list[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def explain_logical(root: LogicalNode) -> list[str]:
    """Return the tree, one node a line, inputs indented; a node with several consumers is written out once."""
    consumers = consumer_counts(root)
    numbers: dict[LogicalNode, int] = {}
    lines: list[str] = []

    def write(node: LogicalNode, depth: int) -> None:
        mark = ""
        if consumers[node] > 1:
            if node in numbers:
                lines.append(f"{'  ' * depth}= #{numbers[node]}")
                return
            numbers[node] = len(numbers) + 1
            mark = f"#{numbers[node]} "
        lines.append(f"{'  ' * depth}{mark}{_logical_line(node)}")
        for kid in children(node):
            write(kid, depth + 1)

    write(root, 0)
    return lines


def _logical_line(node: LogicalNode) -> str:
    match node:
        case Scan(relation=relation, fields=fields):
            columns = ", ".join(f"{f.name} {f.type}" for f in fields)
            of = "changelog of " if relation.changelog else ""
            return f"Scan {of}{relation.kind.value} {relation.name} ({columns})"
        case Project(exprs=exprs):
            return "Project " + ", ".join(_named(e.name, render(e.expr)) for e in exprs)
        case Filter(predicate=predicate):
            return f"Filter {render(predicate)}"
        case Window():
            slide = f", slide {duration(node.slide_us)}" if node.slide_us != node.size_us else ""
            offset = f", offset {duration(node.offset_us)}" if node.offset_us else ""
            names = f" as {node.start_name}, {node.end_name}"
            return f"Window {node.kind.value} {node.time_column}, size {duration(node.size_us)}{slide}{offset}{names}"
        case Timeline(partition=partition, work=work):
            by = f" by {', '.join(partition)}" if partition else ""
            close = " closed by the watermark" if node.closing else ""
            if isinstance(work, Sessions):
                names = f" as {work.start_name}, {work.end_name}"
                return f"Sessions of {node.time_column}, gap {duration(work.gap_us)}{by}{names}{close}"
            fills = "".join(f", {field} {how.value}" for field, how in work.fills)
            return f"Fill gaps of {node.time_column}, step {duration(work.step_us)}{fills}{by}"
        case Aggregate(keys=keys, calls=calls):
            close = f" closed by {node.close_column}" if node.close_column else ""
            what = ", ".join(_call(c) for c in calls) or "distinct"
            return f"Aggregate {what}" + (f" by {', '.join(keys)}" if keys else "") + close
        case Join():
            pairs = ", ".join(f"{a} {sign.lower()} {b}" for a, sign, b in node.key_pairs)
            residual = f" and {render(node.residual)}" if node.residual is not None else ""
            kind = "Join" if node.kind is JoinKind.INNER else f"{node.kind.value.capitalize()} join"
            if node.asof is not None:
                residual = f" and {node.asof.left} {node.asof.sign} {node.asof.right}"
            how = " as of arrival" if node.temporal else " as of the nearest" if node.asof is not None else ""
            close = f" closed by {node.close_columns[0]}" if node.close_columns else ""
            return f"{kind}{how} on {pairs or 'true'}{residual}{close}"
        case Over(partition=partition, calls=over_calls):
            by = f" by {', '.join(partition)}" if partition else ""
            where = f" where {render(node.condition)}" if node.condition is not None else ""
            close = f" closed by {node.close_column}" if node.close_column else ""
            close = f" told in the order of {node.close_order}" if node.close_order else close
            return f"Over {', '.join(_over(c) for c in over_calls)}{by}{where}{close}"
        case Unnest(lists=lists):
            return "Unnest " + ", ".join(f"{field} as {name}" for field, name, _ in lists)
        case Union():
            return "Union all"


def _named(name: str, sql: str) -> str:
    return name if sql.strip('"') == name else f"{sql} as {name}"


def _over(over: OverCall) -> str:
    call = over.call
    arguments = ", ".join(([call.argument] if call.argument else []) + [*call.more, *call.constants])
    nulls = " ignore nulls" if over.ignore_nulls else ""
    order = f" order by {_order(call)}" if call.order else ""
    frame = f" {over.frame}" if over.frame else ""
    return f"{call.name} = {call.function}({'distinct ' if call.distinct else ''}{arguments}{nulls}){order}{frame}"


def _order(call: AggCall) -> str:
    return ", ".join(f"{o.field}{' desc' if o.descending else ''}" for o in call.order)


def _call(call: AggCall) -> str:
    argument = ", ".join((call.argument or "*", *call.more, *call.constants))
    if call.order:
        argument += f" order by {_order(call)}"
    where = f" filter {call.filter}" if call.filter else ""
    return f"{call.name} = {call.function}({'distinct ' if call.distinct else ''}{argument}){where}"


def _job_lines(operators: tuple[tuple[OperatorId, StreamNode], ...]) -> list[str]:
    ids = {id(node): name for name, node in operators}
    marks = state_marks(operators)
    lines = []
    for name, node in operators:
        key = "unknown" if node.stream_key is None else f"({', '.join(node.stream_key)})"
        state = ", stateful" if node.stateful else ""
        pinned = ", on the daemon" if node.pinned else ""
        lines.append(f"{name}{_subject(node)}: parallelism {node.parallelism}{state}{pinned}")
        lines += [f"    reads {ids[id(given.node)]}, requires {given.requires}" for given in node.inputs]
        lines.append(f"    {node.changelog.value}, stream key {key}, distribution {node.distribution}")
        if name in marks:
            lines.append(f"    {marks[name]}")
        lines += [f"    {detail}" for detail in _details(node)]
    return lines


def _subject(node: StreamNode) -> str:
    match node.op:
        case SourceOp(relation=relation, connector=connector) | SinkOp(relation=relation, connector=connector):
            return f" {relation} ({connector})"
        case PythonOp(path=path):
            return f" {path}" if path else " (pickled)"
        case LogSourceOp(relation=relation, changelog=changelog) if changelog is not None:
            return f" changelog of {relation}"
        case TableSinkOp(relation=relation, table=table):
            return f" {relation} (table {table})"
        case LogSourceOp(relation=relation) | MaterializeOp(relation=relation):
            return f" {relation}"
        case _:
            return ""


def _details(node: StreamNode) -> list[str]:
    match node.op:
        case (
            SourceOp(watermark_sql=watermark, judge_lateness=judged)
            | LogSourceOp(watermark_sql=watermark, judge_lateness=judged)
        ) if watermark is not None:
            return [f"watermark {watermark}" + (", judges late rows" if judged else "")]
        case (
            SqlOp(sql=sql)
            | LateOp(sql=sql)
            | PartialAggOp(sql=sql)
            | RecomputeOp(sql=sql)
            | CloseOverOp(sql=sql)
            | CloseSessionsOp(sql=sql)
        ):
            return [sql]
        case CloseRecomputeOp(sql=sql, close_columns=closes):
            return [sql, f"closed by {' and '.join(closes)}"]
        case TopNOp(keys=keys, function=function, limit=limit, order=order, condition_sql=condition):
            by = f" by {_sorted(order)}" if order else ""
            return [f"{function} <= {limit}{by}{_of(keys)}" + (f" and {condition}" if condition else "")]
        case BestRowsOp(keys=keys, lead=lead, limit=limit):
            return [f"best {limit} by {_sorted((lead,))}{_of(keys)}"]
        case TemporalFilterOp(conditions=conditions):
            return [" and ".join(f"{c.value_sql} {c.sign} {c.bound_sql}" for c in conditions)]
        case FinalAggOp(result_sql=results, close_column=close):
            shown = [f"result {', '.join(results)}"] if results else []
            return shown + ([f"closed by {close}"] if close else [])
        case (
            JoinOp(left_keys=left, right_keys=right, residual_sql=residual)
            | TemporalJoinOp(left_keys=left, right_keys=right, residual_sql=residual)
        ):
            null_safe = node.op.null_safe if isinstance(node.op, JoinOp) else 0
            signs = [NULL_SAFE.lower() if i < null_safe else "=" for i in range(len(left))]
            pairs = ", ".join(f"{a} {sign} {b}" for a, sign, b in zip(left, signs, right, strict=True))
            return [f"on {pairs or 'true'}" + (f" and {residual}" if residual else "")]
        case _:
            return []


def _sorted(order: tuple[SortKey, ...]) -> str:
    return ", ".join(f"{key.name}{' desc' if key.descending else ''}" for key in order)


def _of(keys: tuple[str, ...]) -> str:
    return f" of each {', '.join(keys)}" if keys else ""


def _task_lines(chained: ChainedGraph) -> list[str]:
    lines = []
    for chain in chained.chains:
        pinned = " on the daemon" if chain.pinned else ""
        lines.append(f"tasks {chain.chain_id} x {chain.parallelism}{pinned}: {' + '.join(chain.operators)}")
    return lines


def _edge_lines(edges: tuple[ShuffleEdge, ...], counts: Counts | None) -> list[str]:
    lines = []
    for edge in edges:
        size = f"{len(edge.upstream_task_ids)} x {len(edge.downstream_task_ids)}"
        line = f"edge {edge.edge_id}: {_edge_type(edge)}, tasks {size}"
        if counts is not None:
            rows, size_bytes = counts.get(edge.edge_id, (0, 0))
            line += f", {rows} rows, {size_bytes} bytes"
        lines.append(line)
    return lines


def _edge_type(edge: ShuffleEdge) -> str:
    if edge.type in (ShuffleEdgeType.RANGE, ShuffleEdgeType.CUSTOM):
        return f"{edge.type.value} by {str(edge.requires).partition('(')[2].removesuffix(')')}"
    if edge.type is not ShuffleEdgeType.HASH:
        return str(edge.type.value)
    return f"HASH by {', '.join(edge.keys)}" if edge.keys else "HASH without keys (gather)"
