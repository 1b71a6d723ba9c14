"""From an operator of the plan to one that runs."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from planner import task_spec
from sabot.errors import InternalError
from sabotd.operators.base import Operator
from sabotd.operators.best_rows import BestRows
from sabotd.operators.close_agg import CloseAgg
from sabotd.operators.close_filter import CloseFilter
from sabotd.operators.close_over import CloseOver
from sabotd.operators.close_recompute import CloseRecompute
from sabotd.operators.close_sessions import CloseSessions
from sabotd.operators.final_agg import FinalAgg
from sabotd.operators.join import Join
from sabotd.operators.late import Late
from sabotd.operators.partial_agg import PartialAgg
from sabotd.operators.python import Python
from sabotd.operators.recompute import Recompute
from sabotd.operators.sql import Passed, Sql, Union
from sabotd.operators.temporal_filter import TemporalFilter
from sabotd.operators.temporal_join import TemporalJoin
from sabotd.operators.top_n import TopN
from sabotd.operators.upsert import Upsert
from sabotd.state.duckdb_state import TaskDatabase


def make_operator(op: task_spec.Operator, db: TaskDatabase, input_schemas: Sequence[pa.Schema]) -> Operator:
    """Open one operator over the task's database.

    Parameters
    ----------
    op : planner.task_spec.Operator
        Any but sources, materialized views and sinks, which the agent makes.
    db : TaskDatabase
        Shared by the operators of a task; each has its own connection and tables in it.
    input_schemas : sequence of pyarrow.Schema
        The schema of each input port, ``__weight`` included where the stream has it.

    Raises
    ------
    InternalError
        If the plan is wrong: SQL that does not bind, columns that differ.
    """
    schemas = list(input_schemas)
    match op:
        case task_spec.SqlOp():
            return Passed(op, schemas[0]) if Passed.serves(op, schemas[0]) else Sql(op, db, schemas[0])
        case task_spec.UnionOp():
            return Union(op, schemas)
        case task_spec.PartialAggOp():
            return PartialAgg(op, db, schemas[0])
        case task_spec.FinalAggOp(close_column=None):
            return FinalAgg(op, db, schemas[0])
        case task_spec.FinalAggOp():
            return CloseAgg(op, db, schemas[0])
        case task_spec.RecomputeOp():
            return Recompute(op, db, schemas)
        case task_spec.TopNOp():
            return TopN(op, db, schemas[0])
        case task_spec.BestRowsOp():
            return BestRows(op, db, schemas[0])
        case task_spec.JoinOp():
            return Join(op, db, schemas)
        case task_spec.TemporalJoinOp():
            return TemporalJoin(op, db, schemas)
        case task_spec.TemporalFilterOp():
            return TemporalFilter(op, db, schemas[0])
        case task_spec.CloseFilterOp():
            return CloseFilter(op, db, schemas[0])
        case task_spec.CloseRecomputeOp():
            return CloseRecompute(op, db, schemas)
        case task_spec.CloseOverOp():
            return CloseOver(op, db, schemas[0])
        case task_spec.CloseSessionsOp():
            return CloseSessions(op, db, schemas[0])
        case task_spec.LateOp():
            return Late(op, db, schemas[0])
        case task_spec.UpsertOp():
            return Upsert(op, db, schemas[0])
        case task_spec.PythonOp():
            return Python(op)
        case _:
            msg = f"operator {type(op).__name__!r} is not made here"
            raise InternalError(msg)
