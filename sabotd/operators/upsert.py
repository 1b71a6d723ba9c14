"""Rows by key out of changes that tell a key's new row, or that it is gone; what was there before is known here."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from cython_shuffle.frames import Barrier
from planner.task_spec import UpsertOp
from sabot.ids import ROW_WATERMARK, WEIGHT
from sabot.schema import quote
from sabotd.operators.columns import Batches, arrow_columns, declarations, names, row_count, same_key
from sabotd.state.duckdb_state import TaskDatabase

_AT, _PLACE = '"#at"', '"#place"'
_COMPACT_ROWS = 262_144


class Upsert:
    """Keeps the row of each key; emits, per epoch, the old row with -1 and the new one with +1 where they differ.

    Of an epoch's changes of a key the last counts, in the order in which they came. Where rows carry their watermark
    every change is told, and a row is retracted under the watermark of the change that ends it.
    """

    def __init__(self, op: UpsertOp, db: TaskDatabase, schema: pa.Schema) -> None:
        self._session = session = db.session()
        self._pending: Batches = []
        self._marked = ROW_WATERMARK in schema.names
        self._table = table = session.table("rows")
        self._columns = columns = tuple(c for c in op.columns if c.name != ROW_WATERMARK)
        session.execute(f"CREATE TABLE {table} ({declarations(columns)})")
        numbered = schema.append(pa.field(_AT.strip('"'), pa.int64()))
        self._raw = session.slot("raw", numbered)
        mark = f", {quote(ROW_WATERMARK)}" if self._marked else ""
        keys = [quote(k) for k in op.keys]
        cols = ", ".join(names(columns))
        weight = quote(WEIGHT)
        last = (
            f"SELECT {cols}{mark}, {weight} FROM raw"
            f" QUALIFY row_number() OVER (PARTITION BY {', '.join(keys)} ORDER BY {_AT} DESC) = 1"
        )
        settled = schema
        self._last = session.prepare(last, settled)
        self._new = session.slot("new", settled)
        on = same_key((f"o.{k}" for k in keys), (f"n.{k}" for k in keys), null_safe=True)
        alike = " AND ".join(f"o.{n} IS NOT DISTINCT FROM n.{n}" for n in names(columns))
        old = ", ".join([*names(columns, "o."), *([f"n.{quote(ROW_WATERMARK)}"] if self._marked else [])])
        new = ", ".join([*names(columns, "n."), *([f"n.{quote(ROW_WATERMARK)}"] if self._marked else [])])
        kept = f"n.{weight} > 0 AND {alike}"
        out = arrow_columns(op.columns, weighted=True)
        netted = (
            f"SELECT {old}, CAST(-1 AS INTEGER) AS {weight} FROM {table} o JOIN new n ON {on} WHERE NOT ({kept})"
            f" UNION ALL SELECT {new}, CAST(1 AS INTEGER) AS {weight} FROM new n LEFT JOIN {table} o ON {on}"
            f" WHERE n.{weight} > 0 AND NOT (o.rowid IS NOT NULL AND {alike})"
        )
        # where rows are judged by their watermark each change counts, for windows may close between two of them
        in_turn = (
            f"WITH n AS (SELECT *, row_number() OVER (PARTITION BY {', '.join(keys)} ORDER BY {_AT}) AS {_PLACE}"
            f" FROM raw) SELECT {old}, CAST(-1 AS INTEGER) AS {weight} FROM n AS o JOIN n ON {on}"
            f" AND o.{_PLACE} + 1 = n.{_PLACE} WHERE o.{weight} > 0 UNION ALL SELECT {old}, CAST(-1 AS INTEGER) FROM"
            f" {table} o JOIN n ON {on} WHERE n.{_PLACE} = 1 UNION ALL SELECT {new}, CAST(1 AS INTEGER) FROM n"
            f" WHERE n.{weight} > 0"
        )
        self._changes = session.prepare(in_turn if self._marked else netted, out)
        self._drop = session.prepare(f"DELETE FROM {table} o USING new n WHERE {on}")
        self._keep = session.prepare(f"INSERT INTO {table} SELECT {cols} FROM new WHERE {weight} > 0")
        self._dead = 0
        self._seen = 0

    def process(self, port: int, batch: pa.RecordBatch) -> Iterable[pa.RecordBatch]:
        """Gather the changes in their order."""
        if batch.num_rows:
            at = pa.array(range(self._seen, self._seen + batch.num_rows), pa.int64())
            self._pending.append(batch.append_column(_AT.strip('"'), at))
            self._seen += batch.num_rows
        return []

    def barrier(self, barrier: Barrier) -> Iterable[pa.RecordBatch]:
        """Return what the epoch changed."""
        if not self._pending:
            return []
        self._raw.fill(self._pending)
        try:
            self._new.fill(self._last.batches())
            out = self._changes.batches()
            self._drop.run()
            self._keep.run()
        finally:
            self._raw.clear()
            self._new.clear()
            self._pending, self._seen = [], 0
        self._dead += row_count(out)
        if self._dead > _COMPACT_ROWS:
            self._rewrite()
        return out

    def close(self) -> None:
        """Close the connection and let rows go."""
        self._pending = []
        self._session.close()

    def _rewrite(self) -> None:
        """Free what was deleted, once it is more than what stands."""
        if self._dead < self._session.rows(self._table):
            return
        swap = self._session.table("swap")
        self._session.execute(f"CREATE TABLE {swap} ({declarations(self._columns)})")
        self._session.execute(f"INSERT INTO {swap} SELECT * FROM {self._table}")
        self._session.execute(f"DROP TABLE {self._table}")
        self._session.execute(f"ALTER TABLE {swap} RENAME TO {self._table}")
        self._dead = 0
