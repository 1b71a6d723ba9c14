"""An aggregate that shows each group once, when the watermark has passed its window; its state is then dropped."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from cython_shuffle.frames import MAX_WATERMARK_US, Barrier
from planner.task_spec import FinalAggOp
from sabot.errors import InternalError
from sabot.schema import quote
from sabotd.operators.columns import Batches, arrow_columns, declarations, names, row_count
from sabotd.operators.late import LateRows
from sabotd.operators.partial_agg import merge_sql, partial_columns
from sabotd.state.duckdb_state import TaskDatabase

_COMPACT_ROWS = 262_144


class CloseAgg:
    """Partials by key until the watermark is at or past ``close_column``.

    A partial whose window is closed already comes too late: its source lets it through only when no barrier had told
    the watermark, so it is counted in `late` and dropped: a group is shown once.
    """

    def __init__(self, op: FinalAggOp, db: TaskDatabase, schema: pa.Schema) -> None:
        close = next((k for k in op.keys if k.name == op.close_column), None)
        if close is None:
            msg = f"close column {op.close_column!r} is not a key of the aggregate"
            raise InternalError(msg)
        self.late = (LateRows(()),)
        self._close = close.name
        self._pending: Batches = []
        self._closed_us: int | None = None
        self._next_us: int | None = None
        self._stored = 0
        self._live = 0
        self._session = session = db.session()
        self._columns = partial_columns(op.keys, op.partials)
        self._table = table = session.table("panes")
        session.execute(f"CREATE TABLE {table} ({declarations(self._columns)})")
        self._compacted = merge_sql(op.keys, op.partials, table)
        self._slot = session.slot("input", schema)
        self._append = session.prepare(f"INSERT INTO {table} {merge_sql(op.keys, op.partials, 'input')}")
        out = arrow_columns(op.columns)

        def answer(where: str) -> str:
            return _results_sql(op, merge_sql(op.keys, op.partials, table, where))

        due = f" WHERE {quote(close.name)} <= {watermark_literal(close.type)}"
        self._due = session.prepare(answer(due), out)
        self._all = session.prepare(answer(""), out)
        self._drop_due = session.prepare(f"DELETE FROM {table}{due}")
        self._drop_all = session.prepare(f"DELETE FROM {table}")
        self._earliest = session.prepare(f"SELECT epoch_us(min({quote(close.name)})), count(*) FROM {table}")

    def process(self, port: int, batch: pa.RecordBatch) -> Iterable[pa.RecordBatch]:
        """Gather, without what comes too late; store when much has gathered."""
        batch = self._in_time(batch)
        if batch.num_rows:
            self._pending.append(batch)
            if row_count(self._pending) >= _COMPACT_ROWS:
                self._store()
        return []

    def barrier(self, barrier: Barrier) -> Iterable[pa.RecordBatch]:
        """Store the epoch; return the groups whose window the watermark has passed, and forget them."""
        if self._pending:
            self._store()
        watermark = barrier.watermark_us
        if watermark is None:
            return []
        if self._closed_us is None or watermark > self._closed_us:
            self._closed_us = watermark
        if watermark == MAX_WATERMARK_US:
            out = self._all.batches() if self._stored else []
            self._drop_all.run()
            self._stored = self._live = 0
            self._next_us = None
            return out
        if self._next_us is None or watermark < self._next_us:
            return []
        out = self._due.batches(watermark)
        self._drop_due.run(watermark)
        self._look()
        return out

    def close(self) -> None:
        """Close the connection and let rows go."""
        self._pending = []
        self._session.close()

    def _in_time(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if self._closed_us is None or not batch.num_rows:
            return batch
        late = pc.less_equal(close_us(batch, self._close), self._closed_us)
        count = pc.sum(late).as_py() or 0
        if not count:
            return batch
        self.late[0].count(count)
        return batch.filter(pc.invert(pc.fill_null(late, fill_value=False)))

    def _store(self) -> None:
        for batch in self._pending:
            earliest = pc.min(close_us(batch, self._close)).as_py()
            if earliest is not None and (self._next_us is None or earliest < self._next_us):
                self._next_us = earliest
        self._slot.fill(self._pending)
        try:
            self._append.run()
        finally:
            self._slot.clear()
        self._stored += row_count(self._pending)
        self._pending = []
        if self._stored - self._live > max(_COMPACT_ROWS, 2 * self._live):
            self._compact()

    def _look(self) -> None:
        self._next_us, count = self._earliest.row()
        # what is deleted still lies in the table: count it until the next rewriting
        self._live = min(self._live, count)

    def _compact(self) -> None:
        """Rewrite the state with one row a group, without what was deleted."""
        swap = self._session.table("swap")
        self._session.execute(f"CREATE TABLE {swap} ({declarations(self._columns)})")
        self._session.execute(f"INSERT INTO {swap} {self._compacted}")
        self._session.execute(f"DROP TABLE {self._table}")
        self._session.execute(f"ALTER TABLE {swap} RENAME TO {self._table}")
        self._stored = self._live = self._session.rows(self._table)


def close_us(batch: pa.RecordBatch, column: str) -> pa.Array:
    """Return a timestamp column as int64 microseconds since 1970."""
    array = batch.column(column)
    return array.cast(pa.timestamp("us", tz=array.type.tz)).cast(pa.int64())


def watermark_literal(type_text: str) -> str:
    """Return the SQL of parameter 1 (microseconds) as a timestamp of the close column's type."""
    return f"CAST(make_timestamp(CAST($1 AS BIGINT)) AS {type_text})"


def _results_sql(op: FinalAggOp, source: str) -> str:
    keys = names(op.keys)
    results = op.columns[len(op.keys) :]
    rows = [quote(p.name) for p in op.partials if p.name == "__rows"]
    aliases = [f'"#r{i}"' for i in range(len(results))]
    # the items may or may not carry an alias: named by position
    inner = ", ".join([*keys, *rows, *op.result_sql])
    named = ", ".join([*keys, *(f'"#{name[1:]}' for name in rows), *aliases])
    items = [
        *keys,
        *(f"CAST({alias} AS {c.type}) AS {quote(c.name)}" for alias, c in zip(aliases, results, strict=True)),
    ]
    live = ' WHERE "#__rows" <> 0' if rows else ""
    return f"SELECT {', '.join(items)} FROM (SELECT {inner} FROM ({source})) AS t({named}){live}"
