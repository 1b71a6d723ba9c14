"""Sinks into tables: each keeps on disk, beside the table, the rows that it has brought there.

So an attempt that begins again is compared with what the one before did, and only the difference is written: what is
gone is taken away, what stands is not touched, whoever else writes to the table. Record and table change in one
transaction.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence

import duckdb
import pyarrow as pa

from cython_shuffle.frames import Barrier
from planner.task_spec import TableSinkOp
from sabot.errors import InternalError
from sabot.ids import WEIGHT
from sabot.schema import Schema, quote
from sabotd.state import table_writes
from sabotd.state.duckdb_state import as_job_error
from sabotd.state.relation import StoredRelation

_W = quote(WEIGHT)
_SCHEMA = "durable.sabot"
_PREFIX = "sink "
_NUMBERS = itertools.count()


def _path(sink: str) -> str:
    return f"{_SCHEMA}.{quote(_PREFIX + sink)}"


class TableSink:
    """Writes an epoch's changes into the table at the barrier, by the table's key.

    Of several rows with one key the greatest by its columns stands in the table. Where an attempt finds rows of one
    before it, it only gathers, until it is told that it has been given all that there is (`settle`).
    """

    def __init__(self, op: TableSinkOp, relation: StoredRelation) -> None:
        self.op = op
        self.waiting = False
        self._relation = relation
        self._pending: list[pa.RecordBatch] = []
        self._closed = False
        self._record = _path(op.relation)
        self._wanted = quote(f"__wanted {next(_NUMBERS)}")
        self._columns = [c.name for c in op.columns]
        self._listed = ", ".join(map(quote, self._columns))
        self._keys = relation.primary_key
        with relation.lock:
            con = relation.connection
            if not op.rereads:
                # what the attempt before was given does not come again: what it wrote stays
                con.execute(f"DELETE FROM {self._record}")
            self.waiting = con.execute(f"SELECT 1 FROM {self._record} LIMIT 1").fetchone() is not None
            if self.waiting:
                con.execute(f"CREATE TEMP TABLE {self._wanted} AS SELECT * FROM {self._record} LIMIT 0")

    @property
    def condition(self) -> str:
        """What it waits for, in one line; '' when all is well."""
        return f"gathers until it is where it was before it changes {self.op.table!r}" if self.waiting else ""

    def process(self, port: int, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, ...]:
        """Keep `batch` for the barrier."""
        if batch.num_rows:
            self._pending.append(batch)
        return ()

    def barrier(self, barrier: Barrier) -> tuple[pa.RecordBatch, ...]:
        """Bring the epoch into the table, or put it by."""
        pending, self._pending = self._pending, []
        with self._relation.lock:
            try:
                if pending:
                    self._take(pending)
                if barrier.final and self.waiting:
                    self._settle()
            except duckdb.Error as error:
                raise as_job_error(error) from error
        return ()

    def settle(self) -> None:
        """Write what differs from what the attempts before have written; from now on each epoch is written.

        To be called once the sink has been given all that its inputs held; from any thread.
        """
        with self._relation.lock:
            if self.waiting and not self._closed:
                self._settle()

    def close(self) -> None:
        """Let what was gathered go; idempotent."""
        with self._relation.lock:
            self._pending.clear()
            if not self._closed and self.waiting:
                self._relation.connection.execute(f"DROP TABLE IF EXISTS temp.{self._wanted}")
            self._closed, self.waiting = True, False

    # -- under the relation's lock

    def _take(self, batches: Sequence[pa.RecordBatch]) -> None:
        con = self._relation.connection
        con.register("__sink_rows", pa.Table.from_batches(batches))
        weight = _W if self.op.weighted else "1"
        given = f"SELECT {self._listed}, CAST({weight} AS BIGINT) AS {_W} FROM __sink_rows"
        try:
            if self.waiting:
                con.execute(f"INSERT INTO temp.{self._wanted} {given}")
            else:
                self._write(given)
        finally:
            con.unregister("__sink_rows")

    def _settle(self) -> None:
        rows = (
            f"SELECT {self._listed}, {_W} FROM temp.{self._wanted} "
            f"UNION ALL SELECT {self._listed}, -{_W} FROM {self._record}"
        )
        more = "" if self.op.weighted else f" HAVING sum({_W}) > 0"  # what is only added to stays
        self._write(f"SELECT {self._listed}, sum({_W}) AS {_W} FROM ({rows}) GROUP BY ALL{more}")
        self._relation.connection.execute(f"DROP TABLE temp.{self._wanted}")
        self.waiting = False

    def _write(self, changes: str) -> None:
        """Write `changes`, a SELECT of columns and weight."""
        con, relation = self._relation.connection, self._relation
        empty = f"SELECT {self._listed}, {_W} FROM {self._record} LIMIT 0"
        for name in ("__net", "__before", "__after"):
            con.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {empty}")
        con.execute(f"CREATE OR REPLACE TEMP TABLE __taken AS SELECT * FROM {relation.path} LIMIT 0")
        con.execute(
            f"INSERT INTO __net SELECT {self._listed}, sum({_W}) FROM ({changes}) GROUP BY ALL HAVING sum({_W}) <> 0"
        )
        if con.execute("SELECT 1 FROM __net LIMIT 1").fetchone() is None:
            return
        with table_writes.written(relation):
            if self._keys:
                self._write_keyed()
            else:
                self._add()

    def _add(self) -> None:
        """Add rows to a table without a key."""
        con, relation = self._relation.connection, self._relation
        con.execute(f"INSERT INTO {self._record} SELECT * FROM __net")
        each = f"(SELECT {self._listed} FROM (SELECT *, unnest(range({_W})) FROM __net))"
        table_writes.fill_taken(relation, self._columns, each)
        con.execute(f"INSERT INTO {relation.path} SELECT * FROM __taken")
        table_writes.finish(relation, [], "__taken", None, None)

    def _write_keyed(self) -> None:
        con, relation = self._relation.connection, self._relation
        keys = ", ".join(map(quote, self._keys))
        (nulls,) = con.execute(
            f"SELECT count(*) FROM __net WHERE {' OR '.join(f'{quote(k)} IS NULL' for k in self._keys)}"
        ).fetchone() or (0,)
        touched = f"(SELECT DISTINCT {keys} FROM __net) n"
        same = table_writes.same_key(relation, null_safe=bool(nulls))
        con.execute(f"INSERT INTO __before SELECT t.* FROM {self._record} t JOIN {touched} ON {same}")
        con.execute(
            f"INSERT INTO __after SELECT {self._listed}, sum({_W}) FROM (FROM __before UNION ALL FROM __net) "
            f"GROUP BY ALL HAVING sum({_W}) {'>' if self.op.forgiving else '<>'} 0"
        )
        if con.execute(f"SELECT 1 FROM __after WHERE {_W} < 0 LIMIT 1").fetchone() is not None:
            msg = f"sink {self.op.relation!r}: a row to be taken away is not there"
            raise InternalError(msg)
        con.execute(f"DELETE FROM {self._record} t USING {touched} WHERE {same}")
        con.execute(f"INSERT INTO {self._record} FROM __after")
        changed = (
            f"(SELECT {self._listed} FROM ({self._standing('__after')}) "
            f"EXCEPT SELECT {self._listed} FROM ({self._standing('__before')}))"
        )
        # a key that has a row no more; of a table whose first row stays, the place of a row that changes is freed too
        kept = changed if relation.on_conflict == "ignore" else ""
        gone = (
            f"(SELECT {keys} FROM __before EXCEPT SELECT {keys} FROM __after"
            f"{f' UNION (SELECT {keys} FROM __before INTERSECT SELECT {keys} FROM {kept})' if kept else ''}) n"
        )
        removed = table_writes.fetch(relation, f"SELECT t.* FROM {relation.path} t SEMI JOIN {gone} ON {same}")
        con.execute(f"DELETE FROM {relation.path} t USING {gone} WHERE {same}")
        table_writes.fill_taken(relation, self._columns, changed)
        removed += table_writes.resolve(relation, relation.on_conflict, null_safe=bool(nulls))
        con.execute(f"INSERT INTO {relation.path} SELECT * FROM __taken")
        table_writes.finish(relation, removed, "__taken", None, None)

    def _standing(self, rows: str) -> str:
        """Return a SELECT of the row of each key that is to stand in the table."""
        keys = ", ".join(map(quote, self._keys))
        order = ", ".join(f"{quote(c)} DESC NULLS LAST" for c in self._columns if c not in self._keys)
        sort = f" ORDER BY {order}" if order else ""
        return f"SELECT * FROM {rows} QUALIFY row_number() OVER (PARTITION BY {keys}{sort}) = 1"


class TableSinks:
    """All sinks into tables: what they keep on disk, and the one attempt of each that writes.

    Parameters
    ----------
    db : duckdb.DuckDBPyConnection
        With the durable database attached.
    """

    def __init__(self, db: duckdb.DuckDBPyConnection) -> None:
        self._db = db
        self._lock = threading.Lock()
        self._open: dict[str, TableSink] = {}
        self.waits = threading.Event()
        """Set when a sink waits to be told that it has been given everything."""

    def make(self, sink: str, columns: Schema, *, keep: bool) -> None:
        """Make what sink `sink` keeps, or open what is on the disk (`keep`)."""
        create = "CREATE TABLE IF NOT EXISTS" if keep else "CREATE OR REPLACE TABLE"
        listed = ", ".join(f"{quote(f.name)} {f.type}" for f in columns)
        with self._db.duplicate() as con:
            con.execute(f"{create} {_path(sink)} ({listed}, {_W} BIGINT)")

    def forget(self, sink: str) -> None:
        """Remove what a sink keeps; what it wrote stays in the table."""
        with self._lock:
            self._open.pop(sink, None)
        with self._db.duplicate() as con:
            con.execute(f"DROP TABLE IF EXISTS {_path(sink)}")

    def forget_unknown(self, known: Sequence[str]) -> None:
        """Remove what sinks keep that nobody knows: a daemon was killed while it dropped them."""
        with self._db.duplicate() as con:
            found = con.execute(
                "SELECT table_name FROM duckdb_tables() WHERE database_name = 'durable' AND schema_name = 'sabot' "
                f"AND starts_with(table_name, '{_PREFIX}')"
            ).fetchall()
        for (name,) in found:
            if name.removeprefix(_PREFIX) not in known:
                self.forget(name.removeprefix(_PREFIX))

    def open(self, op: TableSinkOp, relation: StoredRelation) -> TableSink:
        """Begin an attempt of a sink; the one before has ended."""
        sink = TableSink(op, relation)
        with self._lock:
            self._open[op.relation] = sink
        if sink.waiting:
            self.waits.set()
        return sink

    def waiting(self) -> dict[str, TableSink]:
        """Return the sinks that wait, by name; an attempt that begins later is none of them."""
        with self._lock:
            found = {name: sink for name, sink in self._open.items() if sink.waiting}
            if not found:
                self.waits.clear()
            return found
