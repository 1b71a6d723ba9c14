"""Temporal join: a left row meets the right side as it stands at the end of its epoch, and keeps what it met.

The right's changes of an epoch go first, so the answer is a function of what the epoch holds, not of the order in which
its rows came. If left rows may be taken back, each is kept with its partners, by the epoch in which it came.
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from cython_shuffle.frames import Barrier
from planner.task_spec import TemporalJoinOp
from sabot.ids import WEIGHT
from sabot.schema import quote
from sabotd.operators.columns import (
    HASH,
    Batches,
    arrow_columns,
    consolidated,
    names,
    repeated,
    row_count,
    same_hashed_key,
    same_key,
)
from sabotd.operators.weighted_rows import WeightedRows
from sabotd.state.duckdb_state import Session, TaskDatabase

_REWRITE_ROWS = 65_536


class TemporalJoin:
    """NULL joins nothing; of equal left rows the first that came goes first."""

    def __init__(self, op: TemporalJoinOp, db: TaskDatabase, schemas: list[pa.Schema]) -> None:
        self._session = session = db.session()
        self._left_pending: Batches = []
        self._right_pending: Batches = []
        self._right_input = session.slot("right_input", schemas[1])
        present = " AND ".join(f"{quote(k)} IS NOT NULL" for k in op.right_keys) or "true"
        self._take_right = session.prepare(
            consolidated(op.right, f"right_input WHERE {present}", weighted=op.weighted[1])
        )
        weighted = self._take_right.result_schema()
        self._right_delta = session.slot("right_delta", weighted)
        self._right = WeightedRows(session, "right", op.right, "right_delta")
        if op.weighted[0]:
            self._left_input = session.slot("left_input", schemas[0])
            self._take_left = session.prepare(consolidated(op.left, "left_input", weighted=True))
            self._left_delta = session.slot("left_delta", self._take_left.result_schema())
        else:
            self._left_delta = session.slot("left_delta", schemas[0])
        self._versions = session.slot("versions", weighted)
        self._look = session.prepare(_versions_sql(op, self._right.table), weighted)
        self._kept = _Kept(op, session) if op.weighted[0] else None
        if self._kept is None:
            self._answer = session.prepare(_append_only_sql(op), arrow_columns(op.columns))

    def process(self, port: int, batch: pa.RecordBatch) -> Iterable[pa.RecordBatch]:
        """Gather."""
        if batch.num_rows:
            (self._right_pending if port else self._left_pending).append(batch)
        return []

    def barrier(self, barrier: Barrier) -> Iterable[pa.RecordBatch]:
        """Bring the right side up to date; return the left rows with what they meet there."""
        try:
            self._advance_right()
            out = self._join_left(barrier) if self._left_pending else []
            if self._kept is not None:
                self._kept.expire(barrier.now_us)
            return out
        finally:
            self._left_pending, self._right_pending = [], []
            for slot in (self._right_input, self._right_delta, self._left_delta, self._versions):
                slot.clear()

    def close(self) -> None:
        """Close the connection and let rows go."""
        self._left_pending, self._right_pending = [], []
        self._session.close()

    def _advance_right(self) -> None:
        if not self._right_pending:
            return
        self._right_input.fill(self._right_pending)
        delta = self._take_right.batches()
        if delta:
            self._right_delta.fill(delta)
            self._right.append(delta)

    def _join_left(self, barrier: Barrier) -> Batches:
        delta = self._left_pending
        if self._kept is not None:
            self._left_input.fill(delta)
            delta = self._take_left.batches()
            self._left_input.clear()
            if not delta:
                return []
        self._left_delta.fill(delta)
        self._versions.fill(self._look.batches())
        return self._answer.batches() if self._kept is None else self._kept.advance(barrier.epoch, barrier.now_us)


class _Kept:
    """Left rows with the partners they met: ``#n`` copies that came in epoch ``#at``, and the list ``#m``."""

    def __init__(self, op: TemporalJoinOp, session: Session) -> None:
        self._session = session
        self._live = self._dropped = 0
        self._ttl_us = op.ttl_us
        self._next_us = 0
        self._table = session.table("kept")
        self._swap = session.table("kept_swap")
        left = ", ".join(names(op.left))
        hashed = f"hash({left})"
        partners = ", ".join(f"{quote(c.name)} := r.{quote(c.name)}" for c in op.right)
        partner = f"struct_pack({partners}, {quote(WEIGHT)} := r.{quote(WEIGHT)})"
        matched = f"list({partner}) FILTER (WHERE r.{quote(WEIGHT)} IS NOT NULL)"
        arrivals = (
            f'SELECT {", ".join(names(op.left, "l."))}, l.{quote(WEIGHT)} AS "#n", {matched} AS "#m"'
            f" FROM (FROM left_delta WHERE {quote(WEIGHT)} > 0) l LEFT JOIN versions r ON {_on(op)} GROUP BY ALL"
        )
        self._arrive = session.prepare(arrivals)
        arrived = self._arrive.result_schema()
        self._arrived = session.slot("arrived", arrived)
        session.execute(
            f'CREATE TABLE {self._table} AS SELECT {left}, "#n", "#m", {hashed} AS {HASH}, 0::BIGINT AS "#at",'
            ' 0::BIGINT AS "#us" FROM arrived LIMIT 0'
        )
        self._keep = session.prepare(
            f'INSERT INTO {self._table} SELECT {left}, "#n", "#m", {hashed}, $1, $2 FROM arrived'
        )
        same = same_key(names(op.left, "k."), names(op.left, "d."), null_safe=True)
        found = (
            f'SELECT k.*, k.rowid AS "#rid", d."#d", d."#k" FROM (SELECT *, rowid FROM {self._table}) k JOIN'
            f' (SELECT *, {hashed} AS {HASH}, row_number() OVER () AS "#d", -{quote(WEIGHT)} AS "#k" FROM left_delta'
            f" WHERE {quote(WEIGHT)} < 0) d ON {same_hashed_key('k', 'd', same)}"
        )
        before = 'sum("#n") OVER (PARTITION BY "#d" ORDER BY "#at" ROWS UNBOUNDED PRECEDING) - "#n"'
        taken = (
            f'SELECT *, CAST(least("#n", "#k" - "#before") AS BIGINT) AS "#t" FROM'
            f' (SELECT *, {before} AS "#before" FROM ({found})) WHERE "#before" < "#k"'
        )
        self._find = session.prepare(f'SELECT {left}, "#rid", "#n", "#m", "#t" FROM ({taken})')
        self._found = session.slot("found", self._find.result_schema())
        self._delete = session.prepare(
            f'DELETE FROM {self._table} WHERE rowid IN (SELECT "#rid" FROM found WHERE "#t" = "#n")'
        )
        self._lessen = session.prepare(
            f'UPDATE {self._table} SET "#n" = found."#n" - "#t" FROM found'
            f' WHERE {self._table}.rowid = "#rid" AND "#t" < found."#n"'
        )
        told = f'(SELECT {left}, "#n" AS "#w", "#m" FROM arrived UNION ALL SELECT {left}, -"#t", "#m" FROM found)'
        self._tell = session.prepare(_told_sql(op, told), arrow_columns(op.columns, weighted=True))

    def advance(self, epoch: int, now_us: int) -> Batches:
        """Keep the epoch's new left rows, forget those that go; return what both say."""
        try:
            found = self._find.batches()
            self._found.fill(found)
            gone = sum(pc.sum(pc.equal(b.column("#t"), b.column("#n"))).as_py() for b in found)
            arrived = self._arrive.batches()
            self._arrived.fill(arrived)
            out = self._tell.batches()
            self._delete.run()
            self._lessen.run()
            if arrived:
                self._keep.run(epoch, now_us)
        finally:
            self._found.clear()
            self._arrived.clear()
        self._live += row_count(arrived) - gone
        self._dropped += gone
        if self._dropped > max(_REWRITE_ROWS, self._live):
            self._rewrite()
        return out

    def expire(self, now_us: int) -> None:
        """Forget the rows that came longer ago than `ttl_us`; now and then, as this copies the others."""
        if self._ttl_us is None or not self._live or now_us < self._next_us:
            return
        self._next_us = now_us + self._ttl_us // 8
        self._rewrite(f' WHERE "#us" >= {now_us - self._ttl_us}')
        self._live = self._session.rows(self._table)

    def _rewrite(self, where: str = "") -> None:
        """Free what was deleted."""
        self._session.execute(f"CREATE TABLE {self._swap} AS FROM {self._table}{where}")
        self._session.execute(f"DROP TABLE {self._table}")
        self._session.execute(f"ALTER TABLE {self._swap} RENAME TO {self._table}")
        self._dropped = 0


def _on(op: TemporalJoinOp) -> str:
    left, right = ([f"{side}.{quote(k)}" for k in keys] for side, keys in (("l", op.left_keys), ("r", op.right_keys)))
    on = same_key(left, right, null_safe=False)
    return f"{on} AND ({op.residual_sql})" if op.residual_sql else on


def _versions_sql(op: TemporalJoinOp, table: str) -> str:
    """Return the SELECT of the right rows that the left rows may meet, each once with its weight."""
    if not op.left_keys:
        return consolidated(op.right, table, weighted=True)
    keys = [f'"#k{i}"' for i in range(len(op.left_keys))]
    listed = ", ".join(f"{quote(k)} AS {key}" for k, key in zip(op.left_keys, keys, strict=True))
    on = same_key([f"s.{quote(k)}" for k in op.right_keys], [f"k.{key}" for key in keys], null_safe=False)
    cols = ", ".join([*names(op.right, "s."), f"s.{quote(WEIGHT)}"])
    rows = f"(SELECT {cols} FROM {table} s JOIN (SELECT DISTINCT {listed} FROM left_delta) k ON {on})"
    return consolidated(op.right, rows, weighted=True)


def _append_only_sql(op: TemporalJoinOp) -> str:
    ports = [*names(op.left, "l."), *names(op.right, "r.")]
    items = ", ".join(f"{column} AS {quote(c.name)}" for column, c in zip(ports, op.columns, strict=True))
    kind = "LEFT JOIN" if op.outer else "JOIN"
    return f"SELECT {items} FROM left_delta l {kind} ({repeated(op.right, 'versions')}) r ON {_on(op)}"


def _told_sql(op: TemporalJoinOp, rows: str) -> str:
    """Return the changes that left rows with ``#w`` copies and partners ``#m`` are, consolidated."""
    left = ", ".join(names(op.left))
    right = op.columns[len(op.left) :]
    met = [f"{quote('#p')}.{quote(c.name)} AS {quote(o.name)}" for c, o in zip(op.right, right, strict=True)]
    changes = (
        f'SELECT {", ".join([left, *met])}, "#w" * "#p".{quote(WEIGHT)} AS {quote(WEIGHT)}'
        f' FROM (SELECT {left}, "#w", unnest("#m") AS "#p" FROM {rows})'
    )
    if op.outer:
        alone = [f"CAST(NULL AS {c.type}) AS {quote(c.name)}" for c in right]
        changes += f' UNION ALL SELECT {", ".join([left, *alone])}, "#w" FROM {rows} WHERE "#m" IS NULL'
    listed = ", ".join(names(op.columns))
    net = consolidated(op.columns, f"({changes})", weighted=True)
    return f"SELECT {listed}, CAST({quote(WEIGHT)} AS INTEGER) AS {quote(WEIGHT)} FROM ({net})"
