"""Temporal filter: rows come into view and leave it as the barriers' clock passes what they say.

A condition compares a value of the row with a bound that only rises, so a row that has left never comes back and is
forgotten. Rows that may still come or go are kept with their values; what is due is found by these.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa

from cython_shuffle.frames import Barrier
from planner.task_spec import TemporalFilterOp
from sabot.ids import WEIGHT
from sabot.schema import literal, quote
from sabotd.operators.columns import Batches, arrow_columns, declarations, names
from sabotd.state.duckdb_state import Session, TaskDatabase

_REWRITE_ROWS = 262_144
_NOW = "CAST(make_timestamp(CAST($1 AS BIGINT)) AS TIMESTAMP WITH TIME ZONE)"
_COMES = {"<": "<", "<=": "<=", "=": "<="}
_STAYS = {">": ">", ">=": ">=", "=": ">="}


class TemporalFilter:
    """Rows without a value are never shown. The bounds are the highest so far: months differ in length."""

    def __init__(self, op: TemporalFilterOp, db: TaskDatabase, schema: pa.Schema) -> None:
        self._op = op
        self._pending: Batches = []
        self._stored = self._dropped = 0
        self._session = session = db.session()
        self._input = session.slot("input", schema)
        self._listed = ", ".join(names(op.columns))
        self._types = self._common_types()
        weight = quote(WEIGHT) if op.weighted else "1"
        typed = zip(op.conditions, self._types, strict=True)
        values = ", ".join(f'CAST({c.value_sql} AS {t}) AS "#v{i}"' for i, (c, t) in enumerate(typed))
        self._take = session.prepare(
            f"SELECT {self._listed}, CAST({weight} AS BIGINT) AS {quote(WEIGHT)}, {values} FROM input"
        )
        taken = self._take.result_schema()
        self._taken = session.slot("taken", taken)
        self._table = session.table("rows")
        self._declared = declarations(op.columns, weighted=True) + "".join(
            f', "#v{i}" {t}' for i, t in enumerate(self._types)
        )
        session.execute(f"CREATE TABLE {self._table} ({self._declared})")
        self._bounds = _Bounds(op, session, self._types)
        self._out = arrow_columns(op.columns, weighted=op.retracts)

    def process(self, port: int, batch: pa.RecordBatch) -> Iterable[pa.RecordBatch]:
        """Gather: the barrier tells the time."""
        if batch.num_rows:
            self._pending.append(batch)
        return []

    def barrier(self, barrier: Barrier) -> Iterable[pa.RecordBatch]:
        """Return the new rows that are in view, and those that come into it or leave it."""
        before, now = self._bounds.advance(barrier.now_us)
        out: Batches = []
        if self._stored and before is not None and before != now:
            out += self._move(before, now)
        if self._pending:
            out += self._admit(now)
        return out

    def close(self) -> None:
        """Close the connection and let rows go."""
        self._pending = []
        self._session.close()

    def _common_types(self) -> list[str]:
        """Return in which type DuckDB compares each value with its bound."""
        found = []
        for c in self._op.conditions:
            bound = f'(SELECT {c.bound_sql} FROM (SELECT {_NOW.replace("$1", "0")} AS "__now"))'
            query = f"SELECT typeof(coalesce({c.value_sql}, {bound})) AS t FROM (SELECT NULL) LEFT JOIN input ON true"
            found.append(str(self._session.prepare(query).row()[0]))
        return found

    def _move(self, before: Sequence[str], now: Sequence[str]) -> Batches:
        """Return what has come or gone in the state since `before`; forget what can never change again."""
        stays, came, comes = self._stays(now), self._comes(before), self._comes(now)
        weight = quote(WEIGHT)
        appears = f"NOT ({came}) AND {comes} AND {stays}" if came else ""
        leaves = f"{came or 'true'} AND NOT ({stays})" if stays else ""
        if came and not stays:
            appears = f"NOT ({came}) AND {comes}"
        sign = f"CASE WHEN {stays or 'true'} THEN 1 ELSE -1 END"
        due = " OR ".join(f"({part})" for part in (appears, leaves) if part)
        out = self._rows(f"SELECT {self._listed}, {sign} * {weight} AS {weight} FROM {self._table} WHERE {due}")
        # what shows for good need not be kept either
        self._session.execute(f"DELETE FROM {self._table} WHERE {f'NOT ({stays})' if stays else comes}")
        left = self._session.rows(self._table)
        self._dropped += self._stored - left
        self._stored = left
        if self._dropped > max(_REWRITE_ROWS, left):
            self._rewrite()
        return out

    def _admit(self, now: Sequence[str]) -> Batches:
        """Return the new rows in view; keep those that may come or go."""
        self._input.fill(self._pending)
        try:
            taken = self._take.batches()
        finally:
            self._input.clear()
            self._pending = []
        self._taken.fill(taken)
        stays, comes = self._stays(now), self._comes(now)
        known = " AND ".join(f'"#v{i}" IS NOT NULL' for i in range(len(self._types)))
        shown = " AND ".join(f"({part})" for part in (stays, comes) if part)
        kept = f"{known} AND {stays}" if stays else f"{known} AND NOT ({comes})"
        try:
            out = self._rows(f"SELECT {self._listed}, {quote(WEIGHT)} FROM taken WHERE {shown}")
            self._session.execute(f"INSERT INTO {self._table} FROM taken WHERE {kept}")
        finally:
            self._taken.clear()
        self._stored = self._session.rows(self._table)
        return out

    def _rows(self, changes: str) -> Batches:
        """Return changes as the operator tells them: with ``__weight``, or where none is taken back, without."""
        weight = quote(WEIGHT)
        if self._op.retracts:
            sql = f"SELECT {self._listed}, CAST({weight} AS INTEGER) AS {weight} FROM ({changes})"
        else:
            sql = f"SELECT {self._listed} FROM ({changes})"
        return self._session.query(sql, self._out)

    def _stays(self, bounds: Sequence[str]) -> str:
        return self._compare(_STAYS, bounds)

    def _comes(self, bounds: Sequence[str]) -> str:
        return self._compare(_COMES, bounds)

    def _compare(self, signs: dict[str, str], bounds: Sequence[str]) -> str:
        return " AND ".join(
            f'"#v{i}" {signs[c.sign]} {bound}'
            for i, (c, bound) in enumerate(zip(self._op.conditions, bounds, strict=True))
            if c.sign in signs
        )

    def _rewrite(self) -> None:
        """Free what was deleted."""
        swap = self._session.table("swap")
        self._session.execute(f"CREATE TABLE {swap} ({self._declared})")
        self._session.execute(f"INSERT INTO {swap} FROM {self._table}")
        self._session.execute(f"DROP TABLE {self._table}")
        self._session.execute(f"ALTER TABLE {swap} RENAME TO {self._table}")
        self._dropped = 0


class _Bounds:
    """What the conditions compare with, as SQL constants: these prune what is stored by its range."""

    def __init__(self, op: TemporalFilterOp, session: Session, types: Sequence[str]) -> None:
        self._types = types
        self._literals: list[str] | None = None
        items = [f"CAST({c.bound_sql} AS {t})" for c, t in zip(op.conditions, types, strict=True)]
        plain = ", ".join(f'{item} AS "b{i}"' for i, item in enumerate(items))
        highest = session.prepare(f'SELECT {plain} FROM (SELECT {_NOW.replace("$1", "0")} AS "__now")').result_schema()
        self._highest = session.slot("highest", highest)
        risen = ", ".join(f'greatest({item}, h."b{i}") AS "b{i}"' for i, item in enumerate(items))
        text = ", ".join(f'CAST("b{i}" AS VARCHAR) AS "t{i}"' for i in range(len(items)))
        now = f'(SELECT {_NOW} AS "__now")'
        self._rise = session.prepare(f"SELECT *, {text} FROM (SELECT {risen} FROM {now} LEFT JOIN highest h ON true)")

    def advance(self, now_us: int) -> tuple[list[str] | None, list[str]]:
        """Return the bounds before and at `now_us`."""
        (batch,) = self._rise.batches(now_us)
        count = len(self._types)
        self._highest.fill([batch.select(list(range(count)))])
        before = self._literals
        texts = [batch.column(count + i)[0].as_py() for i in range(count)]
        self._literals = [f"CAST({literal(t)} AS {type_})" for t, type_ in zip(texts, self._types, strict=True)]
        return before, self._literals
