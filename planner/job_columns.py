"""The Arrow schemas that flow inside and between tasks, derived from the specs alone."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from planner.task_spec import (
    BestRowsOp,
    CloseFilterOp,
    CloseOverOp,
    CloseRecomputeOp,
    CloseSessionsOp,
    Columns,
    ColumnSpec,
    EdgeSpec,
    FinalAggOp,
    FromOperator,
    JoinOp,
    LateOp,
    LogSourceOp,
    MaterializeOp,
    Operator,
    PartialAggOp,
    PythonOp,
    RecomputeOp,
    SinkOp,
    SourceOp,
    SqlOp,
    TableSinkOp,
    TaskSpec,
    TemporalFilterOp,
    TemporalJoinOp,
    TopNOp,
    UnionOp,
    UpsertOp,
)
from sabot.ids import ROW_WATERMARK, WEIGHT
from sabot.schema import arrow_type

_WEIGHT = pa.field(WEIGHT, pa.int32())


def columns_schema(columns: Columns) -> pa.Schema:
    """Return the Arrow schema of `columns`."""
    return pa.schema([pa.field(c.name, arrow_type(c.type)) for c in columns])


def output_schema(op: Operator, inputs: list[pa.Schema]) -> pa.Schema:
    """Return what `op` emits, ``__weight`` included, given what comes in."""
    match op:
        case SourceOp():
            schema = columns_schema(op.columns)
            schema = schema.append(pa.field(ROW_WATERMARK, pa.timestamp("us"))) if op.judge_lateness else schema
            return schema.append(_WEIGHT) if op.changes else schema
        case LogSourceOp(judge_lateness=True):
            return _weighted((*op.columns, ColumnSpec(ROW_WATERMARK, "TIMESTAMP")), op.weighted)
        case LogSourceOp() | UnionOp() | PythonOp():
            return _weighted(op.columns, op.weighted)
        case LateOp():
            return inputs[0]
        case SqlOp():
            return _weighted(op.columns, WEIGHT in inputs[0].names and not op.drops_weight)
        case PartialAggOp():
            partials = [pa.field(p.name, arrow_type(p.type)) for p in op.partials]
            return pa.schema([*columns_schema(op.keys), *partials])
        case FinalAggOp():
            return _weighted(op.columns, op.close_column is None)
        case RecomputeOp() | TopNOp() | UpsertOp():
            return _weighted(op.columns, weighted=True)
        case JoinOp():
            return _weighted(op.columns, any(op.weighted))
        case TemporalJoinOp():
            return _weighted(op.columns, op.weighted[0])
        case TemporalFilterOp():
            return _weighted(op.columns, op.retracts)
        case CloseFilterOp() | CloseOverOp() | CloseRecomputeOp() | CloseSessionsOp() | BestRowsOp():
            return columns_schema(op.columns)
        case MaterializeOp() | TableSinkOp() | SinkOp():
            return pa.schema([])


def input_schemas(task: TaskSpec, edges: Mapping[str, EdgeSpec]) -> list[list[pa.Schema]]:
    """Return per node of `task` the schemas of its input ports."""
    outputs: list[pa.Schema] = []
    inputs: list[list[pa.Schema]] = []
    for node in task.nodes:
        schemas = [
            outputs[origin.index] if isinstance(origin, FromOperator) else columns_schema(edges[origin.edge_id].columns)
            for origin in node.inputs
        ]
        inputs.append(schemas)
        outputs.append(output_schema(node.op, schemas))
    return inputs


def _weighted(columns: Columns, weighted: bool) -> pa.Schema:
    schema = columns_schema(columns)
    return schema.append(_WEIGHT) if weighted and WEIGHT not in schema.names else schema
