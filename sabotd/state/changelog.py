"""A relation's changes as rows of their own: what was inserted, deleted, and what an update made of what."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from planner.task_spec import ChangelogSpec
from sabot.ids import WEIGHT
from sabot.schema import quote
from sabotd.state.relation import conform
from sabotd.state.store import Store

INSERT, DELETE, UPDATE_NEW, UPDATE_OLD = 1, 2, 3, 4
"""The values of the column, as RisingWave has them."""


class Changelog:
    """Gathers the batches of one change of a relation, and tells what it did.

    What a change puts in and takes away alike is no change. Rows stand as often as they came or went.
    """

    def __init__(self, spec: ChangelogSpec, store: Store, relation: str) -> None:
        stored = store.relation(relation)
        self._spec = spec
        self._schema = stored.arrow.append(pa.field(spec.op, pa.int16()))
        self._connection = store.reader()
        self._pending: list[pa.RecordBatch] = []
        columns = ", ".join(quote(f.name) for f in stored.schema)
        w = quote(WEIGHT)
        if spec.key:
            both = f"OVER (PARTITION BY {', '.join(quote(k) for k in spec.key)})"
        else:
            both = "OVER ()"
        update = f"bool_or({w} < 0) {both} AND bool_or({w} > 0) {both}" if spec.key or spec.by_statement else "false"
        op = (
            f"CASE WHEN {update} THEN CASE WHEN {w} > 0 THEN {UPDATE_NEW} ELSE {UPDATE_OLD} END"
            f" WHEN {w} > 0 THEN {INSERT} ELSE {DELETE} END"
        )
        net = f"SELECT {columns}, sum({w}) AS {w} FROM changes GROUP BY ALL HAVING sum({w}) <> 0"
        told = f"SELECT {columns}, CAST({op} AS SMALLINT) AS {quote(spec.op)}, {w} FROM ({net})"
        self._sql = (
            f"SELECT {columns}, {quote(spec.op)} FROM (SELECT *, unnest(range(CAST(abs({w}) AS BIGINT)))"
            f" FROM ({told})) ORDER BY {quote(spec.op)} IN ({INSERT}, {UPDATE_NEW})"
        )

    def inserted(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows of a snapshot as inserted ones."""
        columns = [c for c, f in zip(batch.columns, batch.schema, strict=True) if f.name != WEIGHT]
        op = pa.repeat(pa.scalar(INSERT, pa.int16()), batch.num_rows)
        return pa.RecordBatch.from_arrays([*columns, op], schema=self._schema)

    def take(self, batch: pa.RecordBatch) -> None:
        """Take a batch of the log, of the change that the last one was of."""
        self._pending.append(batch)

    def told(self, max_rows: int) -> Iterator[pa.RecordBatch]:
        """Give what the change did, in batches of at most `max_rows`; the next begins anew."""
        pending, self._pending = self._pending, []
        if WEIGHT not in pending[0].schema.names:
            yield from (self.inserted(batch) for batch in pending)
            return
        self._connection.register("changes", pa.Table.from_batches(pending))
        try:
            for batch in self._connection.sql(self._sql).to_arrow_reader(max_rows):
                yield conform(batch, self._schema)
        finally:
            self._connection.unregister("changes")

    def close(self) -> None:
        """Close the connection; idempotent."""
        self._connection.close()
