"""Drives operators over random rows cut at random and compares what they said with DuckDB's batch answer."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

import duckdb
import pyarrow as pa

from cython_shuffle.frames import Barrier
from planner.task_spec import ColumnSpec, Operator
from sabotd.operators import base
from sabotd.operators.factory import make_operator
from sabotd.state.duckdb_state import TaskDatabase

Row = tuple[Any, ...]
Bag = Counter[Row]


def columns(**types: str) -> tuple[ColumnSpec, ...]:
    return tuple(ColumnSpec(name, kind) for name, kind in types.items())


def fold(bag: Bag, batches: Iterable[pa.RecordBatch]) -> Bag:
    """Add `batches` to `bag`, by ``__weight`` where there is one; rows of weight 0 vanish."""
    for batch in batches:
        weighted = batch.schema.names[-1:] == ["__weight"]
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            bag[freeze(row[:-1] if weighted else row)] += row[-1] if weighted else 1
    for row in [row for row, weight in bag.items() if not weight]:
        del bag[row]
    return bag


def freeze(row: Sequence[Any]) -> Row:
    """Make a row hashable, floats compared to nine digits."""

    def one(value: Any) -> Any:
        if isinstance(value, float):
            return "nan" if value != value else float(f"{value:.9g}") + 0.0  # noqa: PLR0124
        if isinstance(value, list):
            return tuple(map(one, value))
        if isinstance(value, dict):
            return tuple((k, one(v)) for k, v in value.items())
        return value

    return tuple(map(one, row))


@cache
def _connection() -> duckdb.DuckDBPyConnection:
    # opening a database takes longer than most answers
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'; SET integer_division = true; SET error_on_division_by_zero = false")
    con.execute("SET default_null_order = 'nulls_last_on_asc_first_on_desc'")
    return con


def batch_answer(sql: str, tables: dict[str, pa.Table]) -> Bag:
    """DuckDB's answer to `sql` over `tables`."""
    con = _connection()
    for name, table in tables.items():
        con.register(name, table)
    try:
        return fold(Counter(), con.sql(sql).to_arrow_table().to_batches())
    finally:
        for name in tables:
            con.unregister(name)


def cuts(rng: random.Random, batch: pa.RecordBatch, pieces: int) -> list[pa.RecordBatch]:
    """Cut rows at random places; empty pieces are part of life."""
    marks = sorted(rng.randint(0, batch.num_rows) for _ in range(pieces - 1))
    return [batch.slice(a, b - a) for a, b in zip([0, *marks], [*marks, batch.num_rows], strict=True)]


def split(batch: pa.RecordBatch, keys: Sequence[str], parallelism: int) -> list[pa.RecordBatch]:
    """Partition by a plain hash of the key values (equal values, equal part)."""
    values = [batch.column(k).to_pylist() for k in keys]
    parts = [hash(freeze(key)) % parallelism for key in zip(*values, strict=True)] if keys else [0] * batch.num_rows
    return [batch.take(pa.array([i for i, p in enumerate(parts) if p == n], pa.int64())) for n in range(parallelism)]


class Instances:
    """`parallelism` instances of one operator, fed by key."""

    def __init__(
        self, op: Operator, schemas: Sequence[pa.Schema], keys: Sequence[Sequence[str]], parallelism: int
    ) -> None:
        self._keys = keys
        self._databases = [TaskDatabase(None, 256, f"t{i}") for i in range(parallelism)]
        self._operators: list[base.Operator] = [make_operator(op, db, list(schemas)) for db in self._databases]

    def feed(self, port: int, batch: pa.RecordBatch) -> list[pa.RecordBatch]:
        out: list[pa.RecordBatch] = []
        for operator, part in zip(self._operators, split(batch, self._keys[port], len(self._operators)), strict=True):
            out += operator.process(port, part)
        return out

    def barrier(self, epoch: int, watermark_us: int | None = None, now_us: int = 0) -> list[pa.RecordBatch]:
        out: list[pa.RecordBatch] = []
        for operator in self._operators:
            out += operator.barrier(Barrier(epoch, watermark_us, now_us=now_us))
        return out

    def close(self) -> None:
        for operator in self._operators:
            operator.close()
            operator.close()
        for db in self._databases:
            db.close()
            db.close()


class History:
    """Rows that come and go: random inserts, and retractions of rows that stand."""

    def __init__(self, rng: random.Random, schema: pa.Schema, make: Callable[[], Row], *, weighted: bool) -> None:
        self._rng, self._schema, self._make, self._weighted = rng, schema, make, weighted
        self.schema = schema.append(pa.field("__weight", pa.int32())) if weighted else schema
        self._rows: list[Row] = []

    def epoch(self, rows: int, retract: float = 0.35) -> pa.RecordBatch:
        """Return the changes of one epoch, shuffled, with ``__weight`` if weighted."""
        changes: list[Row] = []
        for _ in range(rows):
            if self._weighted and self._rows and self._rng.random() < retract:
                at = self._rng.randrange(len(self._rows))
                changes.append((*self._rows.pop(at), -1))
            else:
                row = self._make()
                copies = self._rng.choice((1, 1, 1, 2, 3)) if self._weighted else 1
                self._rows += [row] * copies
                changes.append((*row, copies))
        self._rng.shuffle(changes)
        schema = self._schema.append(pa.field("__weight", pa.int32()))
        batch = pa.RecordBatch.from_pylist([dict(zip(schema.names, c, strict=True)) for c in changes], schema=schema)
        return batch if self._weighted else batch.select(self._schema.names)

    def table(self) -> pa.Table:
        return pa.Table.from_pylist(
            [dict(zip(self._schema.names, r, strict=True)) for r in self._rows], schema=self._schema
        )
