"""Stateless operators: one SELECT a batch, columns passed on, and the union of inputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa

from cython_shuffle.frames import Barrier
from planner.job_columns import output_schema
from planner.task_spec import SqlOp, UnionOp
from sabot.errors import InternalError
from sabot.ids import WEIGHT
from sabotd.operators.failures import Watched
from sabotd.state.duckdb_state import TaskDatabase


class Sql:
    """Runs a statement over each batch; nothing is kept."""

    def __init__(self, op: SqlOp, db: TaskDatabase, schema: pa.Schema) -> None:
        self._session = db.session()
        self._slot = self._session.slot("input", schema)
        self._statement = Watched(
            self._session, op.sql, op.strict, op.checks, output_schema(op, [schema]), db.tell_failures
        )

    def process(self, port: int, batch: pa.RecordBatch) -> Iterable[pa.RecordBatch]:
        """Return the statement's rows over `batch`; rows on which an expression failed are told of."""
        if not batch.num_rows:
            return []
        self._slot.fill([batch])
        try:
            return self._statement.batches()
        finally:
            self._slot.clear()

    def barrier(self, barrier: Barrier) -> Iterable[pa.RecordBatch]:
        """Return nothing: all is said."""
        return []

    def close(self) -> None:
        """Close the connection."""
        self._session.close()


class Passed:
    """Gives the columns of each batch other names and another order, or leaves some out; nothing is copied."""

    def __init__(self, op: SqlOp, schema: pa.Schema) -> None:
        self._fields = op.passed
        self._schema = output_schema(op, [schema])

    @staticmethod
    def serves(op: SqlOp, schema: pa.Schema) -> bool:
        """Whether the statement of `op` does no more: it passes columns on, and in their types."""
        wanted = output_schema(op, [schema])
        return bool(op.passed) and all(
            schema.field(name).type.equals(field.type) for name, field in zip(op.passed, wanted, strict=True)
        )

    def process(self, port: int, batch: pa.RecordBatch) -> Iterable[pa.RecordBatch]:
        """Return the columns that are passed on."""
        if not batch.num_rows:
            return []
        return [pa.RecordBatch.from_arrays([batch.column(name) for name in self._fields], schema=self._schema)]

    def barrier(self, barrier: Barrier) -> Iterable[pa.RecordBatch]:
        """Return nothing: all is said."""
        return []

    def close(self) -> None:
        """Do nothing: nothing is held."""


class Union:
    """Passes the rows of every input on under one schema."""

    def __init__(self, op: UnionOp, schemas: Sequence[pa.Schema]) -> None:
        self._schema = output_schema(op, list(schemas))
        plain = [name for name in self._schema.names if name != WEIGHT]
        for schema in schemas:
            got = [name for name in schema.names if name != WEIGHT]
            if got != plain:
                msg = f"union input has columns {got!r} where {plain!r} are planned"
                raise InternalError(msg)

    def process(self, port: int, batch: pa.RecordBatch) -> Iterable[pa.RecordBatch]:
        """Return `batch` under the union's schema, with weight 1 where it has none and needs one."""
        if not batch.num_rows:
            return []
        if batch.schema.equals(self._schema):
            return [batch]
        arrays = list(batch.columns)
        if len(arrays) < len(self._schema):
            arrays.append(pa.repeat(pa.scalar(1, pa.int32()), batch.num_rows))
        cast = [
            array if array.type.equals(field.type) else array.cast(field.type)
            for array, field in zip(arrays, self._schema, strict=True)
        ]
        return [pa.RecordBatch.from_arrays(cast, schema=self._schema)]

    def barrier(self, barrier: Barrier) -> Iterable[pa.RecordBatch]:
        """Return nothing: all is said."""
        return []

    def close(self) -> None:
        """Do nothing: nothing is held."""
