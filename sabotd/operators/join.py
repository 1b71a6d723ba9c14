"""Inner equi-join by deltas: new left rows with the right's state, then new right rows with all of the left."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from cython_shuffle.frames import Barrier
from planner.task_spec import Columns, JoinOp
from sabot.ids import WEIGHT
from sabot.schema import quote
from sabotd.operators.columns import (
    Batches,
    arrow_columns,
    consolidated,
    declarations,
    names,
    row_count,
    same_key,
)
from sabotd.state.duckdb_state import Session, Statement, TaskDatabase

_DELTA_ROWS = 262_144
_COMPACT_RETRACTIONS = 65_536


class _Side:
    """One input: the rows of this epoch, and the table of all before. Rows with a NULL key are never kept."""

    def __init__(
        self, session: Session, name: str, columns: Columns, keys: tuple[str, ...], schema: pa.Schema, *, weighted: bool
    ) -> None:
        self.columns, self.keys, self.weighted, self.name = columns, keys, weighted, name
        self.pending: Batches = []
        self.table = session.table(name)
        self.retracted = 0
        self._stored = 0
        self._session = session
        session.execute(f"CREATE TABLE {self.table} ({declarations(columns, weighted=weighted)})")
        self._raw = session.slot(f"{name}_input", schema)
        listed = ", ".join(names(columns))
        present = " AND ".join(f"{quote(k)} IS NOT NULL" for k in keys)
        rows = f"(SELECT * FROM {name}_input WHERE {present})"
        delta = consolidated(columns, rows, weighted=True) if weighted else f"SELECT {listed} FROM {rows}"
        self._take = session.prepare(delta)
        self.delta = session.slot(f"{name}_delta", self._take.result_schema())
        self._append = session.prepare(f"INSERT INTO {self.table} SELECT * FROM {name}_delta")

    def take(self) -> int:
        """Move the pending rows into the delta slot; return how many there are to join."""
        self._raw.fill(self.pending)
        try:
            batches = self._take.batches()
        finally:
            self._raw.clear()
            self.pending = []
        self.delta.fill(batches)
        rows = row_count(batches)
        self._stored += rows
        if self.weighted:
            self.retracted += sum(pc.sum(pc.less(batch.column(WEIGHT), 0)).as_py() for batch in batches)
        return rows

    def store(self) -> None:
        """Append the delta to the state; rewrite the state when retractions have piled up."""
        self._append.run()
        if self.retracted > max(_COMPACT_RETRACTIONS, self._stored // 4):
            swap = self._session.table(f"{self.name}_swap")
            self._session.execute(f"CREATE TABLE {swap} ({declarations(self.columns, weighted=True)})")
            self._session.execute(f"INSERT INTO {swap} {consolidated(self.columns, self.table, weighted=True)}")
            self._session.execute(f"DROP TABLE {self.table}")
            self._session.execute(f"ALTER TABLE {swap} RENAME TO {self.table}")
            self._stored, self.retracted = self._session.rows(self.table), 0


class Join:
    """Weights multiply; NULL joins nothing. The join is linear in each input, so a big epoch is joined in parts."""

    def __init__(self, op: JoinOp, db: TaskDatabase, schemas: list[pa.Schema]) -> None:
        self._session = session = db.session()
        self._left = _Side(session, "left", op.left, op.left_keys, schemas[0], weighted=op.weighted[0])
        self._right = _Side(session, "right", op.right, op.right_keys, schemas[1], weighted=op.weighted[1])
        out = arrow_columns(op.columns, weighted=any(op.weighted))
        # the probed state stands left, the delta right: the built side
        left, right = self._left, self._right
        self._left_delta = session.prepare(_join_sql(op, f"{right.table} r JOIN left_delta l"), out)
        self._right_delta = session.prepare(_join_sql(op, f"{left.table} l JOIN right_delta r"), out)

    def process(self, port: int, batch: pa.RecordBatch) -> Iterable[pa.RecordBatch]:
        """Gather; join at once when much has gathered."""
        if batch.num_rows:
            side = self._right if port else self._left
            side.pending.append(batch)
            if row_count(side.pending) >= _DELTA_ROWS:
                return self._join()
        return []

    def barrier(self, barrier: Barrier) -> Iterable[pa.RecordBatch]:
        """Join what the epoch brought; return the rows."""
        return self._join()

    def close(self) -> None:
        """Close the connection and let rows go."""
        self._left.pending, self._right.pending = [], []
        self._session.close()

    def _join(self) -> Batches:
        out: Batches = []
        for side, statement in ((self._left, self._left_delta), (self._right, self._right_delta)):
            if side.pending:
                out += self._advance(side, statement)
        return out

    @staticmethod
    def _advance(side: _Side, statement: Statement) -> Batches:
        try:
            if not side.take():
                return []
            out = statement.batches()
            side.store()
            return out
        finally:
            side.delta.clear()


def _join_sql(op: JoinOp, source: str) -> str:
    ports = [("l", c) for c in op.left] + [("r", c) for c in op.right]
    items = [f"{side}.{quote(c.name)} AS {quote(o.name)}" for (side, c), o in zip(ports, op.columns, strict=True)]
    factors = [f"{side}.{quote(WEIGHT)}" for side, weighted in zip("lr", op.weighted, strict=True) if weighted]
    if factors:
        items.append(f"CAST({' * '.join(factors)} AS INTEGER) AS {quote(WEIGHT)}")
    left_keys = [f"l.{quote(k)}" for k in op.left_keys]
    right_keys = [f"r.{quote(k)}" for k in op.right_keys]
    sql = f"SELECT {', '.join(items)} FROM {source} ON {same_key(left_keys, right_keys, null_safe=False)}"
    return f"SELECT * FROM ({sql}) WHERE {op.residual_sql}" if op.residual_sql else sql
