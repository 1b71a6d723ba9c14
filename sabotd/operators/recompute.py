"""The universal operator: keeps its inputs' rows, recomputes the keys an epoch touched, tells the difference.

Right for whatever DuckDB can say about the rows of a key; costs a lookup of the touched keys' rows an epoch.
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from cython_shuffle.frames import Barrier
from planner.task_spec import Columns, ColumnSpec, RecomputeOp
from sabot.ids import WEIGHT
from sabot.schema import quote
from sabotd.operators.columns import (
    Batches,
    arrow_columns,
    consolidated,
    declarations,
    has_null,
    names,
    repeated,
    row_count,
    same_key,
)
from sabotd.state.duckdb_state import Session, Statement, TaskDatabase

_PENDING_ROWS = 524_288


class _Input:
    """One input: its pending rows, its state, and the touched keys' rows of both (tables before and after)."""

    def __init__(self, session: Session, port: int, columns: Columns, keys: tuple[str, ...], schema: pa.Schema) -> None:
        self.keys = keys
        self.columns = columns
        self.pending: Batches = []
        self.slot = session.slot(f"raw_{port}", schema)
        weighted = WEIGHT in schema.names
        rows = consolidated(columns, f"raw_{port}", weighted=weighted)
        self.take = session.prepare(rows)
        self.delta = session.slot(f"delta_{port}", self.take.result_schema())
        self.state = session.table(f"state_{port}")
        self.touched = session.table(f"touched_{port}")
        for table in (self.state, self.touched):
            session.execute(f"CREATE TABLE {table} ({declarations(columns, weighted=True)})")
        view = quote("input" if port == 0 else f"input_{port}")
        session.execute(f"CREATE TEMP VIEW {view} AS {repeated(columns, self.touched)}")

    def gather(self) -> Batches:
        """Return the pending rows consolidated."""
        self.slot.fill(self.pending)
        try:
            return self.take.batches()
        finally:
            self.slot.clear()
            self.pending = []


class Recompute:
    """Emits, per epoch, the answer over the touched keys' rows after minus before."""

    def __init__(self, op: RecomputeOp, db: TaskDatabase, schemas: list[pa.Schema]) -> None:
        self._session = session = db.session()
        ports = range(len(op.inputs))
        self._inputs = [_Input(session, i, op.inputs[i], op.keys[i], schemas[i]) for i in ports]
        self._begun = bool(op.keys[0])
        key_types = {c.name: c.type for c in op.inputs[0]}
        self._keyed = bool(op.keys[0])
        keys = tuple(ColumnSpec(f"#k{i}", key_types[k]) for i, k in enumerate(op.keys[0]))
        self._key_table = session.table("keys")
        self._statements: list[_Epoch] = []
        if keys:
            session.execute(f"CREATE TABLE {self._key_table} ({declarations(keys)})")
            distinct = " UNION ".join(
                f"SELECT DISTINCT {', '.join(quote(k) for k in inp.keys)} FROM delta_{i}"
                for i, inp in enumerate(self._inputs)
            )
            self._collect = session.prepare(f"INSERT INTO {self._key_table} {distinct}")
            self._forget = session.prepare(f"DELETE FROM {self._key_table}")
        self._statements = [_Epoch(session, self._inputs, self._key_table, keys, null_safe=n) for n in (False, True)]
        answer = f"SELECT {', '.join(names(op.columns))} FROM ({op.sql})"
        self._answer = session.prepare(answer, arrow_columns(op.columns))
        out = arrow_columns(op.columns, weighted=True)
        self._before = session.slot("before", arrow_columns(op.columns))
        self._after = session.slot("after", arrow_columns(op.columns))
        listed = ", ".join(names(op.columns))
        weight = quote(WEIGHT)
        self._difference = session.prepare(
            f"SELECT {listed}, CAST(sum({weight}) AS INTEGER) AS {weight} FROM ("
            f"SELECT {listed}, -1 AS {weight} FROM before UNION ALL SELECT {listed}, 1 AS {weight} FROM after"
            f") GROUP BY {listed} HAVING sum({weight}) <> 0",
            out,
        )

    def process(self, port: int, batch: pa.RecordBatch) -> Iterable[pa.RecordBatch]:
        """Gather."""
        if batch.num_rows:
            side = self._inputs[port]
            side.pending.append(batch)
            if len(side.pending) > 1 and row_count(side.pending) > _PENDING_ROWS and WEIGHT in batch.schema.names:
                schema = batch.schema
                side.pending = [b.cast(schema) for b in side.gather()]
        return []

    def barrier(self, barrier: Barrier) -> Iterable[pa.RecordBatch]:
        """Recompute the touched keys; return the difference.

        Without keys the first epoch counts as touched: SQL may have a row to say about nothing.
        """
        deltas = [side.gather() if side.pending else [] for side in self._inputs]
        first, self._begun = not self._begun, True
        if not any(deltas) and not first:
            return []
        for side, delta in zip(self._inputs, deltas, strict=True):
            side.delta.fill(delta)
        null_safe = any(has_null(d, side.keys) for side, d in zip(self._inputs, deltas, strict=True))
        epoch = self._statements[null_safe]
        try:
            if self._keyed:
                self._collect.run()
            for statement in epoch.load:
                statement.run()
            # over nothing at all there was no answer yet
            before = [] if first else self._answer.batches()
            for statement in epoch.apply:
                statement.run()
            after = self._answer.batches()
            for statement in epoch.store:
                statement.run()
            if self._keyed:
                self._forget.run()
            self._before.fill(before)
            self._after.fill(after)
            return self._difference.batches()
        finally:
            for slot in (self._before, self._after, *(side.delta for side in self._inputs)):
                slot.clear()

    def close(self) -> None:
        """Close the connection and let rows go."""
        for side in self._inputs:
            side.pending = []
        self._session.close()


class _Epoch:
    """The statements around the two answers.

    `load` moves the touched rows out of the state, `apply` adds the delta to them, `store` moves them back.
    """

    def __init__(
        self, session: Session, inputs: list[_Input], key_table: str, keys: Columns, *, null_safe: bool
    ) -> None:
        self.load: list[Statement] = []
        self.apply: list[Statement] = []
        self.store: list[Statement] = []
        for port, side in enumerate(inputs):
            cols = ", ".join([*names(side.columns), quote(WEIGHT)])
            on = same_key(
                (f"s.{quote(k)}" for k in side.keys), (f"k.{quote(c.name)}" for c in keys), null_safe=null_safe
            )
            # without keys everything is touched: the state stays in the touched table
            if keys:
                listed = ", ".join([*names(side.columns, "s."), f"s.{quote(WEIGHT)}"])
                self.load.append(
                    session.prepare(
                        f"INSERT INTO {side.touched} SELECT {listed} FROM {side.state} s JOIN {key_table} k ON {on}"
                    )
                )
                self.load.append(session.prepare(f"DELETE FROM {side.state} AS s USING {key_table} k WHERE {on}"))
            merged = session.table(f"merged_{port}")
            if not null_safe:
                session.execute(f"CREATE TABLE {merged} ({declarations(side.columns, weighted=True)})")
            both = f"(SELECT {cols} FROM {side.touched} UNION ALL SELECT {cols} FROM delta_{port})"
            self.apply += [
                session.prepare(f"INSERT INTO {merged} {consolidated(side.columns, both, weighted=True)}"),
                session.prepare(f"DELETE FROM {side.touched}"),
                session.prepare(f"INSERT INTO {side.touched} SELECT * FROM {merged}"),
                session.prepare(f"DELETE FROM {merged}"),
            ]
            if keys:
                self.store += [
                    session.prepare(f"INSERT INTO {side.state} SELECT * FROM {side.touched}"),
                    session.prepare(f"DELETE FROM {side.touched}"),
                ]
