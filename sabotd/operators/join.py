"""Inner equi-join by deltas: new left rows with the right's state, then new right rows with all of the left."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from cython_shuffle.frames import Barrier
from planner.task_spec import Columns, JoinOp
from sabot.ids import WEIGHT
from sabot.schema import quote
from sabotd.operators.columns import (
    HASH,
    Batches,
    any_null,
    arrow_columns,
    consolidated,
    key_hash,
    row_count,
    same_hashed_key,
    same_key,
)
from sabotd.operators.touched_keys import TouchedKeys
from sabotd.operators.weighted_rows import WeightedRows
from sabotd.state.duckdb_state import Session, Slot, Statement, TaskDatabase

_DELTA_ROWS = 262_144


class _Side:
    """One input: the rows of this epoch, and those of all before. Rows with a NULL that joins nothing are not kept."""

    def __init__(
        self,
        session: Session,
        name: str,
        columns: Columns,
        keys: tuple[str, ...],
        schema: pa.Schema,
        *,
        weighted: bool,
        hashes: bool,
        null_safe: int,
        expires: tuple[str, int] | None,
        touched: TouchedKeys | None,
    ) -> None:
        self.pending: Batches = []
        needed = [*keys[null_safe:], *([expires[0]] if expires is not None else [])]
        present = " WHERE " + (" AND ".join(f"{quote(k)} IS NOT NULL" for k in needed) or "true")
        self._raw: Slot | None = None
        self._take: Statement | None = None
        delta = f"{name}_delta"
        if weighted:
            self._raw = session.slot(f"{name}_input", schema)
            self._take = session.prepare(consolidated(columns, f"{name}_input{present}", weighted=True))
            schema = self._take.result_schema()
        self._delta = session.slot(delta, schema)
        hashed = key_hash(_specs(columns, keys)) if hashes else ""
        self.state = WeightedRows(
            session, name, columns, delta, weighted=weighted, where=present, hashed=hashed, expires=expires
        )
        self.table = self.state.table
        self.keys = keys
        self._touch = touched.statement(delta, keys) if touched is not None else None

    def advance(self, statement: Statement, now_us: int) -> Batches:
        """Join the pending rows by `statement`, then keep them; `now_us` is when their keys were touched."""
        if not self.pending:
            return []
        try:
            delta = self._consolidate()
            self._delta.fill(delta)
            self.pending = []
            if not delta:
                return []
            out = statement.batches()
            self.state.append(delta)
            if self._touch is not None:
                self._touch.run(now_us)
            return out
        finally:
            self._delta.clear()

    def _consolidate(self) -> Batches:
        if self._raw is None or self._take is None:
            return self.pending
        self._raw.fill(self.pending)
        try:
            return self._take.batches()
        finally:
            self._raw.clear()


class Join:
    """Weights multiply; NULL joins nothing, but in keys that are null-safe.

    The join is linear in each input, so a big epoch is joined in parts.
    """

    def __init__(self, op: JoinOp, db: TaskDatabase, schemas: list[pa.Schema]) -> None:
        self._session = session = db.session()
        hashes = _hashes(op)
        self._touched = (
            TouchedKeys(session, _specs(op.left, op.left_keys), op.ttl_us) if op.ttl_us is not None else None
        )
        self._now_us = 0
        sides = (("left", op.left, op.left_keys), ("right", op.right, op.right_keys))
        self._left, self._right = (
            _Side(
                session,
                name,
                columns,
                keys,
                schemas[port],
                weighted=op.weighted[port],
                hashes=hashes,
                null_safe=op.null_safe,
                expires=op.expires[port] if op.expires else None,
                touched=self._touched,
            )
            for port, (name, columns, keys) in enumerate(sides)
        )
        out = arrow_columns(op.columns, weighted=any(op.weighted))
        # the probed state stands left, the delta right: the built side
        left, right = self._left, self._right
        self._left_delta = session.prepare(_join_sql(op, right.table, "r", "left_delta", "l"), out)
        self._right_delta = session.prepare(_join_sql(op, left.table, "l", "right_delta", "r"), out)

    def process(self, port: int, batch: pa.RecordBatch) -> Iterable[pa.RecordBatch]:
        """Gather; join at once when much has gathered."""
        if batch.num_rows:
            side = self._right if port else self._left
            side.pending.append(batch)
            if row_count(side.pending) >= _DELTA_ROWS:
                return self._join()
        return []

    def barrier(self, barrier: Barrier) -> Iterable[pa.RecordBatch]:
        """Join what the epoch brought; return the rows. Then let those go that can have no partner any more."""
        self._now_us = barrier.now_us
        out = self._join()
        for side in (self._left, self._right):
            side.state.expire(barrier.watermark_us)
        if self._touched is not None and self._touched.expire(barrier.now_us):
            for side in (self._left, self._right):
                side.state.keep(self._touched.alive(side.keys))
        return out

    def close(self) -> None:
        """Close the connection and let rows go."""
        self._left.pending, self._right.pending = [], []
        self._session.close()

    def _join(self) -> Batches:
        now_us = self._now_us
        return self._left.advance(self._left_delta, now_us) + self._right.advance(self._right_delta, now_us)


def _join_sql(op: JoinOp, state: str, state_side: str, delta: str, delta_side: str) -> str:
    ports = [("l", c) for c in op.left] + [("r", c) for c in op.right]
    items = [f"{side}.{quote(c.name)} AS {quote(o.name)}" for (side, c), o in zip(ports, op.columns, strict=True)]
    factors = [f"{side}.{quote(WEIGHT)}" for side, weighted in zip("lr", op.weighted, strict=True) if weighted]
    if factors:
        items.append(f"CAST({' * '.join(factors)} AS INTEGER) AS {quote(WEIGHT)}")
    left_keys = [f"l.{quote(k)}" for k in op.left_keys]
    right_keys = [f"r.{quote(k)}" for k in op.right_keys]
    on = same_key(left_keys, right_keys, null_safe=False)
    state_rows, delta_rows = state, delta
    if _hashes(op):
        columns, keys = (op.left, op.left_keys) if delta_side == "l" else (op.right, op.right_keys)
        delta_rows = f"(SELECT *, {key_hash(_specs(columns, keys))} AS {HASH} FROM {delta})"
        on = same_hashed_key(state_side, delta_side, on)
    listed = ", ".join(items)
    sql = f"SELECT {listed} FROM {state_rows} {state_side} JOIN {delta_rows} {delta_side} ON {on}"
    if op.null_safe:
        # keys that hold a NULL apart: comparing so is slow, and prunes nothing
        safe = op.null_safe
        nulls = {"l": any_null(map(quote, op.left_keys[:safe])), "r": any_null(map(quote, op.right_keys[:safe]))}
        state_rows, delta_rows = (
            f"(FROM {state} WHERE {nulls[state_side]})",
            f"(FROM {delta} WHERE {nulls[delta_side]})",
        )
        on = same_key(left_keys[:safe], right_keys[:safe], null_safe=True)
        on += f" AND {same_key(left_keys[safe:], right_keys[safe:], null_safe=False)}"
        sql += f" UNION ALL SELECT {listed} FROM {state_rows} {state_side} JOIN {delta_rows} {delta_side} ON {on}"
    return f"SELECT * FROM ({sql}) WHERE {op.residual_sql}" if op.residual_sql else sql


def _specs(columns: Columns, keys: tuple[str, ...]) -> Columns:
    by_name = {c.name: c for c in columns}
    return tuple(by_name[k] for k in keys)


def _hashes(op: JoinOp) -> bool:
    """Whether keys are compared by hash first: text on both sides, in one type (equal values of two may hash apart)."""
    left, right = _specs(op.left, op.left_keys), _specs(op.right, op.right_keys)
    return bool(key_hash(left)) and [c.type for c in left] == [c.type for c in right]
