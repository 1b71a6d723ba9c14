"""Runs a JobSpec in one thread over the real operators: what a plan means, without agents or transport."""

from __future__ import annotations

import functools
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa

from cython_shuffle.frames import MAX_WATERMARK_US, Barrier
from planner.job_columns import output_schema
from planner.numeric import QUOTIENT_SCALE
from planner.task_spec import (
    Columns,
    EdgeSpec,
    FromOperator,
    JobSpec,
    LogSourceOp,
    MaterializeOp,
    SinkOp,
    SourceOp,
    TaskSpec,
)
from sabot.errors import SabotError
from sabot.ids import ROW_WATERMARK, WEIGHT
from sabot.schema import arrow_type, quote
from sabotd.operators.factory import make_operator
from sabotd.state.duckdb_state import TaskDatabase

Batch = pa.RecordBatch
Row = tuple[Any, ...]


@functools.cache
def _database() -> duckdb.DuckDBPyConnection:
    con = duckdb.connect(config={"threads": 1})
    con.execute("SET GLOBAL TimeZone = 'UTC'")
    return con


def arrow_schema(columns: Columns) -> pa.Schema:
    return pa.schema([pa.field(c.name, arrow_type(c.type)) for c in columns])


class _Task:
    def __init__(self, spec: TaskSpec, edges: dict[str, EdgeSpec]) -> None:
        self.spec = spec
        self.schemas: list[pa.Schema] = []
        self._inputs: list[list[pa.Schema]] = []
        self.operators: list[Any] = []
        self.consumers: dict[int, list[tuple[int, int]]] = defaultdict(list)
        self.from_edges: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for at, node in enumerate(spec.nodes):
            schemas = []
            for port, given in enumerate(node.inputs):
                if isinstance(given, FromOperator):
                    assert given.index < at, "operators of a task are in topological order"
                    self.consumers[given.index].append((at, port))
                    schemas.append(self.schemas[given.index])
                else:
                    self.from_edges[given.edge_id].append((at, port))
                    schemas.append(arrow_schema(edges[given.edge_id].columns))
            self.schemas.append(output_schema(node.op, schemas))
            self._inputs.append(schemas)
        self.db = TaskDatabase(None, 256, spec.task_id)
        try:
            for node, schemas in zip(spec.nodes, self._inputs, strict=True):
                made = not isinstance(node.op, SourceOp | LogSourceOp | MaterializeOp | SinkOp)
                self.operators.append(make_operator(node.op, self.db, schemas) if made else None)
        except SabotError:
            self.close()
            raise

    def close(self) -> None:
        for operator in self.operators:
            if operator is not None:
                operator.close()
        self.db.close()


class JobRunner:
    """Feed relations, end epochs, read the result.

    Every batch between operators is checked against its planned schema.
    """

    def __init__(self, spec: JobSpec, seed: int = 0) -> None:
        self._rng = random.Random(seed)
        self._edges = {e.edge_id: e for e in spec.edges}
        self._tasks: dict[str, _Task] = {}
        self._order = [t.task_id for t in spec.tasks]
        try:
            for task in spec.tasks:
                self._tasks[task.task_id] = _Task(task, self._edges)
        except SabotError:
            self.close()
            raise
        self._epoch = 0
        self.result: Counter[Row] = Counter()
        self.emitted: list[Row] = []
        self.rows_over: Counter[str] = Counter()

    def close(self) -> None:
        for task in self._tasks.values():
            task.close()

    def feed(self, relation: str, batch: Batch, row_watermark: Sequence[Any] | None = None) -> None:
        """Give rows of `relation` (all its columns) to its tasks, at random."""
        for name in self._order:
            for at, node in enumerate(self._tasks[name].spec.nodes):
                if isinstance(node.op, SourceOp | LogSourceOp) and node.op.relation == relation:
                    parallelism = self._tasks[name].spec.parallelism
                    mine = [i for i in range(batch.num_rows) if (i * 7919 + i // 3) % parallelism == node_index(name)]
                    rows = batch.take(pa.array(mine, pa.int64()))
                    marks = [row_watermark[i] for i in mine] if row_watermark is not None else None
                    self._emit(self._tasks[name], at, self._as_read(node.op, rows, marks))

    def _as_read(self, op: SourceOp | LogSourceOp, rows: Batch, marks: list[Any] | None) -> Batch:
        with _database().cursor() as con:
            con.register("rows", rows)
            items = [
                _pruned(quote(c.name), rows.schema.field(c.name).type, arrow_type(c.type), c.name) for c in op.columns
            ]
            if isinstance(op, LogSourceOp) and op.weighted:
                items.append(WEIGHT)
            table = con.sql(f"SELECT {', '.join(items)} FROM rows").to_arrow_table()
        if op.judge_lateness:
            column = pa.array(marks if marks is not None else [None] * rows.num_rows, pa.timestamp("us"))
            at = table.num_columns - (WEIGHT in table.column_names)
            table = table.add_column(at, ROW_WATERMARK, column)
        schema = output_schema(op, [])
        batches = table.cast(schema).combine_chunks().to_batches()
        return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=schema)

    def _emit(self, task: _Task, at: int, batch: Batch) -> None:
        assert batch.schema.equals(task.schemas[at]), f"{batch.schema}\nplanned\n{task.schemas[at]}"
        for consumer, port in task.consumers[at]:
            self._process(task, consumer, port, batch)
        for output in task.spec.outputs:
            if output.index == at:
                self._send(self._edges[output.edge_id], task.spec.index, batch)

    def _process(self, task: _Task, at: int, port: int, batch: Batch) -> None:
        op = task.spec.nodes[at].op
        if isinstance(op, MaterializeOp | SinkOp):
            self._take(batch)
            return
        for start, count in self._cut(batch.num_rows):
            # not a slice: DuckDB refuses structs below an offset
            piece = batch.take(pa.array(range(start, start + count), pa.int64()))
            for out in task.operators[at].process(port, piece):
                self._emit(task, at, out)

    def _cut(self, rows: int) -> list[tuple[int, int]]:
        marks = sorted(self._rng.randint(0, rows) for _ in range(self._rng.randint(0, 1)))
        return [(a, b - a) for a, b in zip([0, *marks], [*marks, rows], strict=True)]

    def _send(self, edge: EdgeSpec, index: int, batch: Batch) -> None:
        self.rows_over[edge.edge_id] += batch.num_rows
        count = len(edge.downstream)
        if edge.kind == "FORWARD":
            to = [index] * batch.num_rows
        elif edge.kind == "BROADCAST":
            to = [-1] * batch.num_rows
        elif edge.kind == "REBALANCE":
            to = [self._rng.randrange(count) for _ in range(batch.num_rows)]
        elif edge.keys:
            values = zip(*(batch.column(k).to_pylist() for k in edge.keys), strict=True)
            groups = (hash(freeze(v)) % edge.max_parallelism for v in values)
            to = [g * count // edge.max_parallelism for g in groups]
        else:
            assert count == 1
            to = [0] * batch.num_rows
        for n, name in enumerate(edge.downstream):
            part = batch.take(pa.array([i for i, t in enumerate(to) if t in (n, -1)], pa.int64()))
            if part.num_rows:
                for at, port in self._tasks[name].from_edges[edge.edge_id]:
                    self._process(self._tasks[name], at, port, part)

    def _take(self, batch: Batch) -> None:
        weighted = batch.schema.names[-1:] == [WEIGHT]
        for row in zip(*(c.to_pylist() for c in batch.columns), strict=True):
            values = freeze(row[:-1] if weighted else row)
            self.result[values] += row[-1] if weighted else 1
            self.emitted.append(values)
        for row in [row for row, weight in self.result.items() if not weight]:
            del self.result[row]

    def barrier(self, watermark_us: int | None = None, now_us: int = 0) -> Counter[Row]:
        """End an epoch; return the rows of the result."""
        self._epoch += 1
        barrier = Barrier(self._epoch, watermark_us, now_us=now_us)
        for name in self._order:
            task = self._tasks[name]
            for at, operator in enumerate(task.operators):
                if operator is not None:
                    for out in operator.barrier(barrier):
                        self._emit(task, at, out)
        return self.result

    def end(self) -> Counter[Row]:
        """End all sources: every window closes."""
        return self.barrier(MAX_WATERMARK_US)


def node_index(task_id: str) -> int:
    return int(task_id.rsplit("/", 1)[1])


def freeze(row: Sequence[Any]) -> Row:
    def one(value: Any) -> Any:
        if isinstance(value, Decimal) and value.as_tuple().exponent <= -QUOTIENT_SCALE:  # type: ignore[operator]
            # an exact quotient or average, which DuckDB's batch answer has as DOUBLE
            value = float(value)
        if isinstance(value, float):
            return "nan" if value != value else float(f"{value:.9g}") + 0.0  # noqa: PLR0124
        if isinstance(value, list):
            return tuple(map(one, value))
        if isinstance(value, dict):
            return tuple((k, one(v)) for k, v in value.items())
        return value

    return tuple(map(one, row))


def _pruned(sql: str, have: pa.DataType, want: pa.DataType, name: str) -> str:
    """Return the item that reads a column as a connector would: of structs only the planned fields."""

    def take(sql: str, have: pa.DataType, want: pa.DataType) -> str:
        if not pa.types.is_struct(want) or have.equals(want):
            return sql
        parts = ", ".join(
            f"{quote(f.name)} := {take(f'{sql}.{quote(f.name)}', have.field(f.name).type, f.type)}" for f in want
        )
        return f"CASE WHEN {sql} IS NOT NULL THEN struct_pack({parts}) END"

    return f"{take(sql, have, want)} AS {quote(name)}"
