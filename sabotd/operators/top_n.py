"""Keeps the best rows of each key of input that only grows, and tells who comes and who goes.

What a better row has pushed out never comes back, so state is bounded by the keys, not by the rows. Rows are ranked by
their narrow columns alone (`top_n_sql`): sorting whole rows with their texts costs three times as much.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cython_shuffle.frames import Barrier
from planner.task_spec import TopNOp
from sabotd.operators import top_n_sql as sql
from sabotd.operators.columns import (
    HASH,
    Batches,
    Gathered,
    arrow_columns,
    declarations,
    has_null,
    key_hash,
    names,
    row_count,
)
from sabotd.state.duckdb_state import TaskDatabase

_PENDING_ROWS = 262_144
_COMPACT_ROWS = 65_536
# Where rows are equal in their narrow columns the whole rows are sorted, and for so many epochs nothing else is tried.
_TIED_EPOCHS = 16


class TopN:
    """The first places of each key, by row_number, rank or dense_rank, changed at every barrier.

    An epoch is one statement that ranks the touched keys' best rows together with the new ones, one for what goes or
    moves, and up to two writes.
    """

    def __init__(self, op: TopNOp, db: TaskDatabase, schema: pa.Schema) -> None:
        self._op = op
        self._schema = schema
        self._pending: Batches = []
        self._gathered = Gathered(_PENDING_ROWS)
        self._stored = self._dropped = self._tied = 0
        self._session = session = db.session()
        hashed = key_hash(sql.key_columns(op))
        self._declared = declarations(op.inputs) + (f", {HASH} UBIGINT" if hashed else "")
        self._table = table = session.table("best")
        self._swap = session.table("swap")
        session.execute(f"CREATE TABLE {table} ({self._declared})")
        self._raw = session.slot("raw", schema)
        self._reduce = session.prepare(sql.kept_sql(op), arrow_columns(op.inputs))
        self._slot = session.slot("input", schema.append(pa.field("#pos", pa.int64())))
        self._narrow = sql.narrow_order(op)
        # whether places by the narrow columns are right even where rows are equal in these
        self._settled = len(self._narrow) in (0, len(op.order))
        orders = [op.order] if self._settled else [self._narrow, op.order]
        self._rankings = [
            [session.prepare(sql.ranked_sql(op, table, order, nulls=nulls)) for nulls in (False, True)]
            for order in orders
        ]
        ranked = self._rankings[0][0].result_schema()
        self._ranked = session.slot("ranked", ranked)
        changed = arrow_columns(op.columns, weighted=True)
        self._leave = session.prepare(sql.leaving_sql(op, table), changed)
        self._come = session.slot("come", schema.append(pa.field("#new", pa.int64())))
        self._enter = session.prepare(sql.coming_sql(op), changed) if op.condition_sql else None
        self._changed = changed
        self._delete = session.prepare(sql.delete_sql(op, table))
        items = ", ".join([*names(op.inputs), *([hashed] if hashed else [])])
        self._insert = session.prepare(f"INSERT INTO {table} SELECT {items} FROM come")

    def process(self, port: int, batch: pa.RecordBatch) -> Iterable[pa.RecordBatch]:
        """Gather; keep the best when much has gathered."""
        if batch.num_rows:
            self._pending.append(batch)
            if self._gathered.are_enough(self._pending):
                self._raw.fill(self._pending)
                self._pending = self._gathered.merged(self._reduce.batches())
                self._raw.clear()
        return []

    def barrier(self, barrier: Barrier) -> Iterable[pa.RecordBatch]:
        """Rank what the epoch brought; return the changes: first -1 the rows that go, then +1 those that come."""
        if not self._pending:
            return []
        rows, self._pending = self._pending, []
        try:
            ranked = self._rank(rows)
            self._ranked.fill(ranked)
            coming = _coming(rows, ranked)
            self._come.fill(coming)
            return self._change(ranked, coming)
        finally:
            for slot in (self._slot, self._ranked, self._come):
                slot.clear()

    def close(self) -> None:
        """Close the connection and let rows go."""
        self._pending = []
        self._session.close()

    def _rank(self, rows: Batches) -> Batches:
        """Return the touched rows of the state and the new ones within the limit, with their places."""
        nulls = has_null(rows, self._op.keys)
        self._slot.fill(_numbered(rows))
        if self._settled:
            return self._rankings[0][nulls].batches()
        if not self._tied:
            ranked = self._rankings[0][nulls].batches()
            if not any(_any_tie(batch) for batch in ranked):
                return ranked
            self._tied = _TIED_EPOCHS
        self._tied -= 1
        return self._rankings[1][nulls].batches()

    def _change(self, ranked: Batches, coming: Batches) -> Batches:
        """Tell the changes and write them."""
        lost = sum(pc.sum(pc.greater(batch.column("#new"), self._op.limit)).as_py() for batch in ranked)
        new = sum(batch.column("#rid").null_count for batch in ranked)
        moved = self._op.place is not None and new + lost < row_count(ranked)
        changes = self._leave.batches() if lost or moved else []
        changes += self._enter.batches() if self._enter is not None and new else self._told(coming)
        if lost and new:
            self._session.begin()
        if lost:
            self._delete.run()
        if new:
            self._insert.run()
        if lost and new:
            self._session.commit()
        self._stored += new - lost
        self._dropped += lost
        if self._dropped > max(_COMPACT_ROWS, self._stored // 2):
            self._compact()
        return changes

    def _told(self, coming: Batches) -> Batches:
        """Return the rows that come as changes."""
        out = []
        for batch in coming:
            arrays = [batch.column("#new" if c.name == self._op.place else c.name) for c in self._op.columns]
            arrays.append(pa.repeat(pa.scalar(1, pa.int32()), batch.num_rows))
            out.append(pa.RecordBatch.from_arrays(arrays, schema=self._changed))
        return out

    def _compact(self) -> None:
        """Rewrite the state without what was deleted, in its order: rows of keys of one time lie together."""
        session = self._session
        session.execute(f"CREATE TABLE {self._swap} ({self._declared})")
        session.execute(f"INSERT INTO {self._swap} SELECT * FROM {self._table}")
        session.execute(f"DROP TABLE {self._table}")
        session.execute(f"ALTER TABLE {self._swap} RENAME TO {self._table}")
        self._dropped = 0


def _numbered(batches: Batches) -> Batches:
    """Return the rows with their numbers, ``#pos``."""
    out, start = [], 0
    for batch in batches:
        out.append(batch.append_column("#pos", pa.array(np.arange(start, start + batch.num_rows))))
        start += batch.num_rows
    return out


def _coming(batches: Batches, ranked: Batches) -> Batches:
    """Return the new rows that have a place, with it as ``#new``."""
    new = [batch.filter(pc.is_null(batch.column("#rid"))) for batch in ranked]
    if not any(batch.num_rows for batch in new):
        return []
    positions = np.concatenate([batch.column("#pos").to_numpy() for batch in new])
    places = np.concatenate([batch.column("#new").to_numpy() for batch in new])
    order = np.argsort(positions)
    positions, places = positions[order], places[order]
    out, start = [], 0
    for batch in batches:
        low, high = np.searchsorted(positions, (start, start + batch.num_rows))
        if high > low:
            taken = batch if high - low == batch.num_rows else batch.take(pa.array(positions[low:high] - start))
            out.append(taken.append_column("#new", pa.array(places[low:high])))
        start += batch.num_rows
    return out


def _any_tie(batch: pa.RecordBatch) -> bool:
    return bool(pc.any(pc.not_equal(batch.column("#row"), batch.column("#rank"))).as_py())
