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
    Gathered,
    any_null,
    arrow_columns,
    consolidated,
    has_null,
    names,
    repeated,
    same_key,
)
from sabotd.operators.touched_keys import TouchedKeys
from sabotd.operators.weighted_rows import WeightedRows
from sabotd.state.duckdb_state import Session, Slot, TaskDatabase

_PENDING_ROWS = 524_288


class _Input:
    """One input: what the epoch brought, the state, and the touched keys' rows (the SQL's ``input``)."""

    def __init__(
        self,
        session: Session,
        port: int,
        columns: Columns,
        keys: tuple[str, ...],
        schema: pa.Schema,
        by: Columns,
        *,
        ordered: bool,
        expires: tuple[str, int] | None = None,
    ) -> None:
        self.keys = keys
        self.pending: Batches = []
        self.gathered = Gathered(_PENDING_ROWS)
        raw, delta, touched = f"raw_{port}", f"delta_{port}", f"touched_{port}"
        self._raw = session.slot(raw, schema)
        self._take = session.prepare(consolidated(columns, raw, weighted=WEIGHT in schema.names))
        weighted = self._take.result_schema()
        self.delta = session.slot(delta, weighted)
        self.touched = session.slot(touched, weighted)
        self.state = WeightedRows(session, f"state_{port}", columns, delta, expires=expires)
        view = quote("input" if port == 0 else f"input_{port}")
        session.execute(f"CREATE TEMP VIEW {view} AS {repeated(columns, touched)}")
        cols = ", ".join([*names(columns, "s."), f"s.{quote(WEIGHT)}"])

        def touched_rows(where: str, *, null_safe: bool) -> str:
            if not by:
                return f"SELECT {cols} FROM {self.state.table} s"
            on = same_key((f"s.{quote(k)}" for k in keys), (f"k.{quote(c.name)}" for c in by), null_safe=null_safe)
            return f"SELECT {cols} FROM (FROM {self.state.table}{where}) s JOIN touched_keys k ON {on}"

        plain = touched_rows("", null_safe=False)
        nulls = touched_rows(f" WHERE {any_null(map(quote, keys))}", null_safe=True)
        sort = f" ORDER BY {', '.join(names(columns))}" if ordered else ""
        self._loads = [
            session.prepare(consolidated(columns, f"({rows})", weighted=True) + sort, weighted)
            for rows in (plain, f"{plain} UNION ALL {nulls}" if by else plain)
        ]
        both = f"(FROM {touched} UNION ALL FROM {delta})"
        self._merge = session.prepare(consolidated(columns, both, weighted=True) + sort, weighted)

    def gather(self) -> Batches:
        """Return the pending rows, consolidated."""
        if not self.pending:
            return []
        self._raw.fill(self.pending)
        try:
            return self._take.batches()
        finally:
            self._raw.clear()
            self.pending = []

    def load(self, *, nulls: bool) -> None:
        """Show the touched keys' rows as they were before the epoch; `nulls`: some of the keys hold a NULL."""
        self.touched.fill(self._loads[nulls].batches())

    def apply(self, delta: Batches) -> None:
        """Show the touched keys' rows as they are after the epoch, and keep the change."""
        if delta:
            self.touched.fill(self._merge.batches())
            self.state.append(delta)

    def clear(self) -> None:
        """Let the epoch's rows go."""
        self.delta.clear()
        self.touched.clear()


class Recompute:
    """Emits, per epoch, the answer over the touched keys' rows after minus before."""

    def __init__(self, op: RecomputeOp, db: TaskDatabase, schemas: list[pa.Schema]) -> None:
        self._session = session = db.session()
        types = {c.name: c.type for c in op.inputs[0]}
        by = tuple(ColumnSpec(f"#k{i}", types[k]) for i, k in enumerate(op.keys[0]))
        # a first epoch without keys counts as touched: SQL may have a row to say about nothing
        self._begun = bool(by)
        self._touched_keys: Slot | None = session.slot("touched_keys", arrow_columns(by)) if by else None
        ports = zip(op.inputs, op.keys, schemas, strict=True)
        self._inputs = [
            _Input(
                session,
                i,
                columns,
                keys,
                schema,
                by,
                ordered=op.ordered,
                expires=op.expires[i] if op.expires else None,
            )
            for i, (columns, keys, schema) in enumerate(ports)
        ]
        self._touched = TouchedKeys(session, by, op.ttl_us) if op.ttl_us is not None else None
        if self._touched is not None:
            self._touch = self._touched.statement("touched_keys" if by else "", [c.name for c in by])
        distinct = " UNION ".join(
            f"SELECT DISTINCT {', '.join(f'{quote(k)} AS {quote(c.name)}' for k, c in zip(side.keys, by, strict=True))}"
            f" FROM delta_{i}"
            for i, side in enumerate(self._inputs)
        )
        self._keys = session.prepare(distinct, arrow_columns(by)) if by else None
        plain = arrow_columns(op.columns)
        listed, weight = ", ".join(names(op.columns)), quote(WEIGHT)
        self._answer = session.prepare(f"SELECT {listed} FROM ({op.sql})", plain)
        self._before, self._after = session.slot("before", plain), session.slot("after", plain)
        both = f"(SELECT {listed}, -1 AS {weight} FROM before UNION ALL SELECT {listed}, 1 AS {weight} FROM after)"
        self._difference = session.prepare(
            f"SELECT {listed}, CAST({weight} AS INTEGER) AS {weight} FROM"
            f" ({consolidated(op.columns, both, weighted=True)})",
            arrow_columns(op.columns, weighted=True),
        )

    def process(self, port: int, batch: pa.RecordBatch) -> Iterable[pa.RecordBatch]:
        """Gather; consolidate when much has gathered."""
        if batch.num_rows:
            side = self._inputs[port]
            side.pending.append(batch)
            if WEIGHT in batch.schema.names and side.gathered.are_enough(side.pending):
                side.pending = side.gathered.merged([b.cast(batch.schema) for b in side.gather()])
        return []

    def barrier(self, barrier: Barrier) -> Iterable[pa.RecordBatch]:
        """Recompute the touched keys; return the difference."""
        deltas = [side.gather() for side in self._inputs]
        first, self._begun = not self._begun, True
        out: Batches = []
        try:
            if any(deltas) or first:
                out = self._epoch(deltas, first=first)
                if self._touched is not None:
                    self._touch.run(barrier.now_us)
            self._expire(barrier)
            return out
        finally:
            for side in self._inputs:
                side.clear()
            for slot in (self._before, self._after, self._touched_keys):
                if slot is not None:
                    slot.clear()

    def close(self) -> None:
        """Close the connection and let rows go."""
        for side in self._inputs:
            side.pending = []
        self._session.close()

    def _expire(self, barrier: Barrier) -> None:
        """Let rows go that the watermark has passed, and those of keys that nothing has touched for long."""
        for side in self._inputs:
            side.state.expire(barrier.watermark_us)
        if self._touched is not None and self._touched.expire(barrier.now_us):
            for side in self._inputs:
                side.state.keep(self._touched.alive(side.keys))

    def _epoch(self, deltas: list[Batches], *, first: bool) -> Batches:
        nulls = any(has_null(delta, side.keys) for side, delta in zip(self._inputs, deltas, strict=True))
        for side, delta in zip(self._inputs, deltas, strict=True):
            side.delta.fill(delta)
        if self._touched_keys is not None and self._keys is not None:
            self._touched_keys.fill(self._keys.batches())
        for side in self._inputs:
            side.load(nulls=nulls)
        if not first:
            self._before.fill(self._answer.batches())
        for side, delta in zip(self._inputs, deltas, strict=True):
            side.apply(delta)
        self._after.fill(self._answer.batches())
        return self._difference.batches()
