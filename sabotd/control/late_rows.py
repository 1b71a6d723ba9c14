"""The newest rows of each job that came too late: what ``sabot_late`` shows. Kept in memory, as long as the attempt."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterable

import pyarrow as pa

from planner.task_spec import (
    CloseOverOp,
    CloseRecomputeOp,
    CloseSessionsOp,
    Columns,
    ColumnSpec,
    JobSpec,
    LateOp,
    Operator,
)
from sabot.schema import arrow_type

LATE_ROWS_KEPT = 1000
"""Of each job; all are counted."""
WATERMARK, SEEN_AT = "watermark", "seen_at"


class LateRowsKept:
    """Takes late rows from any thread; a new attempt of a job begins anew."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[str, tuple[int, list[pa.Table]]] = {}

    def add(self, job_id: str, attempt: int, rows: bytes) -> None:
        """Take rows, an Arrow IPC stream, of an attempt of a job; those of an older attempt are left out."""
        with pa.ipc.open_stream(rows) as stream:
            table = stream.read_all()
        seen = pa.repeat(pa.scalar(dt.datetime.now(dt.UTC), pa.timestamp("us", tz="UTC")), table.num_rows)
        if SEEN_AT not in table.column_names:
            table = table.append_column(SEEN_AT, seen)
        with self._lock:
            of, kept = self._rows.get(job_id, (attempt, []))
            if attempt < of:
                return
            kept = [*kept, table] if attempt == of else [table]
            while sum(t.num_rows for t in kept[1:]) >= LATE_ROWS_KEPT:
                kept = kept[1:]
            self._rows[job_id] = (attempt, kept)

    def forget(self, job_id: str) -> None:
        """Let the rows of a job go."""
        with self._lock:
            self._rows.pop(job_id, None)

    def table(self, spec: JobSpec) -> pa.Table:
        """Return the newest late rows of a job, with every column that one of them may have, newest last."""
        schema = _schema(spec)
        with self._lock:
            _, kept = self._rows.get(spec.job_id, (0, []))
        tables = [_conformed(t, schema) for t in kept]
        found = pa.concat_tables(tables) if tables else schema.empty_table()
        return found.slice(max(0, found.num_rows - LATE_ROWS_KEPT))


def _late_columns(op: Operator) -> Iterable[Columns]:
    match op:
        case LateOp():
            yield op.late
        case CloseSessionsOp() | CloseOverOp():
            yield op.rows
        case CloseRecomputeOp():
            yield from op.inputs


def _schema(spec: JobSpec) -> pa.Schema:
    """Every column that a late row of the job may have; one that has two types is text."""
    fields: dict[str, pa.DataType] = {}
    columns: list[ColumnSpec] = [
        c for t in spec.tasks for n in t.nodes for cs in _late_columns(n.op) for c in cs if not c.name.startswith("__")
    ]
    for column in columns:
        kind = arrow_type(column.type)
        fields[column.name] = kind if fields.get(column.name, kind) == kind else pa.string()
    fields.setdefault(WATERMARK, pa.timestamp("us"))
    fields.setdefault(SEEN_AT, pa.timestamp("us", tz="UTC"))
    return pa.schema(list(fields.items()))


def _conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = [
        table.column(f.name).cast(f.type) if f.name in table.column_names else pa.nulls(table.num_rows, f.type)
        for f in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)
