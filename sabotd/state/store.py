"""The daemon's store: tables (kept on disk), the rows of views (rebuilt by their jobs), and their logs.

One DuckDB instance. What clients may name stands in its in-memory catalog; tables live in an attached file
and show there through views of the same name. Every relation has one writer at a time, its own connection and
lock, so that jobs do not wait for each other; readers see committed epochs only.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
from duckdb.func import ARROW, SPECIAL

from planner.task_spec import FunctionSpec
from sabot.errors import InternalError, SqlError
from sabot.ids import WEIGHT
from sabot.schema import Schema, arrow_schema, literal, quote
from sabotd.operators.scalar_function import ScalarFunction
from sabotd.state import table_writes
from sabotd.state.forgiving import forgiven
from sabotd.state.log_ends import LogEnds
from sabotd.state.relation import StoredRelation, conform, transaction
from sabotd.state.stream_log import LogCursor, StreamLog
from sabotd.state.table_sinks import TableSinks
from sabotd.state.table_writes import OnConflict, Written
from sql_frontend.pg_functions import macros

log = logging.getLogger("sabot.store")

_REBUILD_DEAD_ROWS = 200_000
"""A view's table is rewritten when this many deleted rows, and more than live ones, have piled up:
DuckDB gives their memory back only at a checkpoint, which would stall every relation at once."""


ERRORS_TABLE = "sabot_errors"
RESERVED_NAMES = frozenset({ERRORS_TABLE, "sabot_catalog", "information_schema", "pg_catalog", "durable", "memory"})
"""Names that SELECT already knows, of tables, schemas and databases."""
_ERRORS = """CREATE TABLE sabot_errors (seen_at TIMESTAMP WITH TIME ZONE, job VARCHAR, source VARCHAR,
"offset" VARCHAR, payload VARCHAR, reason VARCHAR)"""


def log_schema(schema: Schema, *, append_only: bool) -> pa.Schema:
    """Return the Arrow schema of a log's batches."""
    arrow = arrow_schema(schema)
    return arrow if append_only else arrow.append(pa.field(WEIGHT, pa.int32()))


class Store:
    """Opens or creates the store in `data_dir`.

    Parameters
    ----------
    data_dir : Path
        Holds ``tables.duckdb``.
    scratch_dir : Path
        For logs and spilled blocks; emptied at start by the caller.
    memory_limit_mb, threads : int
        DuckDB's limits for the whole store.
    """

    def __init__(self, data_dir: Path, scratch_dir: Path, *, memory_limit_mb: int, threads: int) -> None:
        self._scratch = scratch_dir
        self._relations: dict[str, StoredRelation] = {}
        self._lock = threading.Lock()
        self._system_lock = threading.Lock()
        self._errors = 0
        # eight threads more for reading remote files stand idle otherwise
        self._db = duckdb.connect(":memory:", config={"async_threads": 1})
        for statement in (
            f"SET threads = {threads}",
            f"SET memory_limit = '{memory_limit_mb}MB'",
            f"SET temp_directory = {literal(str(scratch_dir / 'spill'))}",
            # DuckDB's automatic checkpoints rewrite whole tables while a commit waits
            "SET checkpoint_threshold = '256MB'",
            # for every connection: the plain SET is this one's alone
            "SET GLOBAL integer_division = true",
            "SET GLOBAL error_on_division_by_zero = true",
            "SET GLOBAL TimeZone = 'UTC'",
            f"ATTACH {literal(str(data_dir / 'tables.duckdb'))} AS durable",
            "CREATE SCHEMA sabot_catalog",
            _ERRORS,
            "SET GLOBAL default_null_order = 'nulls_last_on_asc_first_on_desc'",
            *macros(),
            "SET enable_external_access = false",
            # each session has its own
            "SET allowed_configs = ['TimeZone']",
            "SET lock_configuration = true",
        ):
            self._db.execute(statement)
        self._log_ends = LogEnds(self._db, data_dir / "logs")
        self.sinks = TableSinks(self._db)
        """What sinks into tables keep."""

    # -- relations

    def create_table(
        self,
        name: str,
        schema: Schema,
        primary_key: tuple[str, ...],
        ddl_columns: str,
        *,
        append_only: bool = False,
        on_conflict: str = "overwrite",
        keep: bool = False,
        shown: str = "",
    ) -> None:
        """Make table `name` with `ddl_columns` (column definitions), or open the one on the disk (`keep`).

        Clients call it `shown`, if that is given.
        """
        relation = self._open(name, schema, append_only=append_only, primary_key=primary_key, durable=True, keep=keep)
        relation.on_conflict = on_conflict
        relation.shown = shown
        # a daemon killed between its tables and this file may have left an older one of that name
        create = "CREATE TABLE IF NOT EXISTS" if keep else "CREATE OR REPLACE TABLE"
        self._make(
            relation,
            f"{create} {relation.path} ({ddl_columns})",
            f"CREATE OR REPLACE VIEW {relation.public} AS SELECT * FROM {relation.path}",
        )

    def create_rows(self, name: str, schema: Schema, *, append_only: bool, keep: bool = False, shown: str = "") -> None:
        """Open the (empty) rows of a materialized view, or those that a killed daemon left on the disk (`keep`)."""
        durable = keep and self._log_ends.left(name) is not None
        relation = self._open(name, schema, append_only=append_only, primary_key=(), durable=durable, keep=durable)
        relation.shown = shown
        self._make(relation, *_rows_of_a_view(relation))

    def renew(self, name: str, *, durable: bool) -> None:
        """Begin a view's rows anew, for an attempt that outlives a kill of this process (`durable`) or does not.

        On disk each epoch costs a write to DuckDB's log; in memory nothing outlives the process.
        """
        relation = self.relation(name)
        with relation.lock:
            if relation.durable != durable:
                self._drop_rows(relation)
                relation.durable = durable
                for statement in _rows_of_a_view(relation):
                    relation.connection.execute(statement)
            if durable:
                self._log_ends.keep(relation)

    def resumes(self, name: str) -> int | None:
        """Return the epoch at which a killed daemon left a view's rows on the disk; None if they are not there."""
        relation = self.relation(name)
        return relation.epoch if relation.durable else None

    def release_logs(self) -> None:
        """Give up what was kept in the logs for readers that have not come back by now."""
        with self._lock:
            relations = list(self._relations.values())
        for relation in relations:
            relation.log.release()

    def _make(self, relation: StoredRelation, *statements: str) -> None:
        try:
            for statement in statements:  # no transaction: DuckDB has none over two databases
                relation.connection.execute(statement)
        except BaseException:
            relation.connection.close()
            raise
        with self._lock:
            self._relations[relation.name] = relation

    def _open(
        self, name: str, schema: Schema, *, append_only: bool, primary_key: tuple[str, ...], durable: bool, keep: bool
    ) -> StoredRelation:
        left = self._log_ends.left(name) if keep else None
        if left is None:
            log = self._log(name, schema, append_only=append_only)
        else:
            log = StreamLog(left.folder, log_schema(schema, append_only=append_only), left.position)
        relation = StoredRelation(name, schema, append_only, primary_key, durable, log, self._db.duplicate())
        if left is not None:
            relation.epoch = left.epoch
            relation.keeps_place = True
        return relation

    def _log(self, name: str, schema: Schema, *, append_only: bool) -> StreamLog:
        return StreamLog(self._log_ends.new_folder(name), log_schema(schema, append_only=append_only))

    def drop(self, name: str) -> None:
        """Remove a table or a view's rows, and its log; open cursors fail."""
        with self._lock:
            relation = self._relations.pop(name)
        with relation.lock:
            self._drop_rows(relation)
            relation.log.close()
            self._log_ends.forget(relation)
            relation.connection.close()

    @staticmethod
    def _drop_rows(relation: StoredRelation) -> None:
        if relation.durable:
            relation.connection.execute(f"DROP VIEW IF EXISTS {relation.public}")
        relation.connection.execute(f"DROP TABLE IF EXISTS {relation.path}")

    def drop_unknown_tables(self, known: Sequence[str]) -> None:
        """Remove tables from the disk that nobody knows: a daemon was killed while it made or dropped them."""
        with self._db.duplicate() as con:
            found = con.execute(
                "SELECT table_name FROM duckdb_tables() WHERE database_name = 'durable' AND schema_name = 'main'"
            ).fetchall()
        for (name,) in found:
            if name not in known:
                self.forget_table(name)

    def forget_table(self, name: str) -> None:
        """Remove a table from the disk that was never opened."""
        self._db.duplicate().execute(f"DROP TABLE IF EXISTS durable.main.{quote(name)}")

    def reset(self, name: str) -> None:
        """Empty a view's rows, which its job is about to make anew; who reads its changes is told to begin again."""
        relation = self.relation(name)
        with relation.lock:
            relation.connection.execute(f"DELETE FROM {relation.path}")
            relation.live_rows = relation.dead_rows = relation.epoch = 0
            relation.log.close(f"{name!r} is being made anew after the loss of an agent: read it from the start")
            self._log_ends.forget(relation)
            relation.log = self._log(name, relation.schema, append_only=relation.append_only)

    def relation(self, name: str) -> StoredRelation:
        """Return the relation `name`; SqlError if there is none, or none any more."""
        with self._lock:
            found = self._relations.get(name)
        if found is None:
            msg = f"relation {name!r} does not exist"
            raise SqlError(msg, hint="it was dropped", sqlstate="42P01")
        return found

    def rename(self, name: str, shown: str) -> None:
        """Have clients call relation `name` by another name; whoever reads or writes it goes on."""
        with self._locked(name) as relation:
            before, relation.shown = relation.public, shown
            if relation.durable:
                relation.connection.execute(f"DROP VIEW {before}")
                relation.connection.execute(f"CREATE VIEW {relation.public} AS SELECT * FROM {relation.path}")
            else:
                # by way of another: to DuckDB names that differ by case are one
                between = quote(f"__renamed {name}")
                relation.connection.execute(f"ALTER TABLE {before} RENAME TO {between}")
                relation.connection.execute(f"ALTER TABLE memory.main.{between} RENAME TO {quote(shown)}")

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[StoredRelation]:
        """Hold relation `name`; SqlError if it was dropped while this waited."""
        relation = self.relation(name)
        with relation.lock:
            if self.relation(name) is not relation:
                msg = f"relation {name!r} was dropped"
                raise SqlError(msg, sqlstate="42P01")
            yield relation

    def create_plain_view(self, name: str, sql: str, columns: Sequence[str]) -> None:
        """Make a plain view, queryable; raises duckdb.Error as DuckDB says it."""
        # names that stand twice are left to DuckDB
        named = (
            f" ({', '.join(quote(c) for c in columns)})" if len({c.lower() for c in columns}) == len(columns) else ""
        )
        self._db.duplicate().execute(f"CREATE OR REPLACE VIEW memory.main.{quote(name)}{named} AS {sql}")

    def create_schema(self, name: str) -> None:
        """Make a schema for those who write DuckDB's own SQL; its relations are `mirror`ed there."""
        self._db.duplicate().execute(f"CREATE SCHEMA IF NOT EXISTS memory.{quote(name)}")

    def drop_schema(self, name: str) -> None:
        """Remove a schema; its relations have gone."""
        self._db.duplicate().execute(f"DROP SCHEMA IF EXISTS memory.{quote(name)} CASCADE")

    def mirror(self, schema: str, bare: str) -> None:
        """Have ``schema.bare`` stand for the relation that is called ``"schema.bare"``."""
        whole = quote(f"{schema}.{bare}")
        view = f"memory.{quote(schema)}.{quote(bare)}"
        self._db.duplicate().execute(f"CREATE OR REPLACE VIEW {view} AS SELECT * FROM memory.main.{whole}")

    def unmirror(self, schema: str, bare: str) -> None:
        """Undo `mirror`."""
        self._db.duplicate().execute(f"DROP VIEW IF EXISTS memory.{quote(schema)}.{quote(bare)}")

    def drop_plain_view(self, name: str) -> None:
        """Remove a plain view if it is there."""
        self._db.duplicate().execute(f"DROP VIEW IF EXISTS memory.main.{quote(name)}")

    def define_function(self, spec: FunctionSpec | None, macro: str) -> None:
        """Make a function of the user known to SELECT: a Python one by its `spec`, and in any case as a `macro`."""
        if spec is not None:
            self._db.create_function(
                spec.name,
                ScalarFunction(spec),
                list(spec.types),
                spec.returns,
                type=ARROW,
                null_handling=SPECIAL,
            )
        self._db.execute(macro)

    def forget_function(self, name: str, spec: FunctionSpec | None) -> None:
        """Undo `define_function`."""
        self._db.execute(f"DROP MACRO IF EXISTS {quote(name)}")
        if spec is not None:
            self._db.remove_function(spec.name)

    def reader(self, timezone: str = "UTC") -> duckdb.DuckDBPyConnection:
        """Open a connection for queries, with a time zone of its own; the caller closes it."""
        connection = self._db.duplicate()
        if timezone != "UTC":
            connection.execute(f"SET TimeZone = {literal(timezone)}")
        return connection

    # -- writing

    def insert(
        self,
        name: str,
        rows: pa.Table,
        columns: Sequence[str],
        *,
        on_conflict: str | None = None,
        conflict: OnConflict | None = None,
        returning: str | None = None,
        timezone: str = "UTC",
        alias: str | None = None,
    ) -> Written:
        """Insert `rows` for `columns` (others get their defaults) and commit; tell how many.

        A row whose key is there does what `conflict` or `on_conflict` says, or else the table's own. Durable when this
        returns.

        Raises
        ------
        duckdb.Error
            A constraint or a cast fails; nothing was inserted.
        SqlError
            The rows cannot be written to the log; nothing was inserted.
        """
        with self._locked(name) as relation:
            return table_writes.insert(
                relation,
                rows,
                columns,
                on_conflict=on_conflict,
                conflict=conflict,
                returning=returning,
                timezone=timezone,
                alias=alias,
            )

    def update(
        self,
        name: str,
        assignments: Sequence[tuple[str, str | None]],
        *,
        alias: str,
        condition: str | None,
        source: str | None = None,
        returning: str | None = None,
        timezone: str = "UTC",
    ) -> Written:
        """Give columns new values where `condition` holds, and commit; raises as `insert` does."""
        with self._locked(name) as relation:
            return table_writes.update(
                relation,
                assignments,
                alias=alias,
                condition=condition,
                source=source,
                returning=returning,
                timezone=timezone,
            )

    def delete(
        self,
        name: str,
        *,
        alias: str,
        condition: str | None,
        source: str | None = None,
        returning: str | None = None,
        timezone: str = "UTC",
    ) -> Written:
        """Take away the rows where `condition` holds, and commit; raises as `insert` does."""
        with self._locked(name) as relation:
            return table_writes.delete(
                relation, alias=alias, condition=condition, source=source, returning=returning, timezone=timezone
            )

    def apply(
        self,
        name: str,
        epoch: int,
        batches: Sequence[pa.RecordBatch],
        key: tuple[str, ...],
        *,
        forgiving: bool = False,
    ) -> None:
        """Bring a view's rows to `epoch`: all of `batches` at once (with ``__weight`` if the view retracts).

        With `forgiving`, what is not there is not taken away, and a new row takes the place of one with its key.

        Raises
        ------
        InternalError
            A row to be taken away is not there.
        """
        relation = self.relation(name)
        with relation.lock:
            relation.epoch = epoch
            if not batches:
                return
            delta = pa.Table.from_batches(batches)
            con = relation.connection
            con.register("delta", delta)
            try:
                with transaction(relation, epoch):
                    if relation.append_only:
                        con.execute(f"INSERT INTO {relation.path} SELECT * FROM delta")
                        relation.live_rows += delta.num_rows
                    else:
                        if forgiving:
                            batches = forgiven(relation, key)
                            con.register("delta", pa.Table.from_batches(batches, delta.schema))
                        self._apply_weighted(relation, key)
                    relation.log.prepare(epoch, batches)
            finally:
                con.unregister("delta")
            if relation.dead_rows > max(_REBUILD_DEAD_ROWS, relation.live_rows):
                self._rebuild(relation)

    def _apply_weighted(self, relation: StoredRelation, key: tuple[str, ...]) -> None:
        con = relation.connection
        names = [quote(f.name) for f in relation.schema]
        columns = ", ".join(names)
        con.execute(
            f"CREATE OR REPLACE TEMP TABLE net AS SELECT {columns}, sum({WEIGHT})::BIGINT AS {WEIGHT} "
            f"FROM delta GROUP BY ALL HAVING sum({WEIGHT}) <> 0"
        )
        removed, added, most = con.execute(
            f"SELECT coalesce(-sum({WEIGHT}) FILTER ({WEIGHT} < 0), 0)::BIGINT, "
            f"coalesce(sum({WEIGHT}) FILTER ({WEIGHT} > 0), 0)::BIGINT, coalesce(max({WEIGHT}), 0) FROM net"
        ).fetchone() or (0, 0, 0)
        if removed:
            match = [quote(k) for k in key] or names
            same = " AND ".join(f"t.{c} IS NOT DISTINCT FROM n.{c}" for c in match)
            if key:
                sql = f"DELETE FROM {relation.path} t USING net n WHERE n.{WEIGHT} < 0 AND {same}"
            else:
                # rows without a key: as many of the equal ones as the weight says
                sql = (
                    f"DELETE FROM {relation.path} WHERE rowid IN (SELECT r FROM (SELECT t.rowid AS r, n.{WEIGHT} AS w, "
                    f"row_number() OVER (PARTITION BY {', '.join('t.' + c for c in match)}) AS i "
                    f"FROM {relation.path} t JOIN net n ON n.{WEIGHT} < 0 AND {same}) WHERE i <= -w)"
                )
            (gone,) = con.execute(sql).fetchone() or (0,)
            if gone != removed:
                msg = f"view {relation.name!r}: {removed} rows to take away, {gone} found"
                raise InternalError(msg)
        if added:
            con.execute(f"INSERT INTO {relation.path} SELECT {columns} FROM net WHERE {WEIGHT} > 0")
            if most > 1:
                con.execute(
                    f"INSERT INTO {relation.path} SELECT {columns} FROM net, range({most - 1}) r(i) "
                    f"WHERE {WEIGHT} > 1 AND i < {WEIGHT} - 1"
                )
        relation.dead_rows += removed
        relation.live_rows += added - removed

    def _rebuild(self, relation: StoredRelation) -> None:
        relation.connection.execute(f"CREATE OR REPLACE TABLE {relation.path} AS SELECT * FROM {relation.path}")
        relation.dead_rows = 0

    def add_errors(self, rows: pa.Table, *, most: int = 100_000) -> None:
        """Append to ``sabot_errors``, whose older half goes when there are more than `most`.

        Rows that the store has no room for are told in the log alone: the job they come from goes on.
        """
        with self._system_lock, self._db.duplicate() as con:
            try:
                self._add_errors(con, rows, most)
            except duckdb.Error as error:
                log.error("%s records that did not decode cannot be kept: %s", rows.num_rows, error)  # noqa: TRY400

    def _add_errors(self, con: duckdb.DuckDBPyConnection, rows: pa.Table, most: int) -> None:
        con.register("new_errors", rows)
        con.execute(f"INSERT INTO memory.main.{ERRORS_TABLE} BY NAME SELECT * FROM new_errors")
        self._errors += rows.num_rows
        if self._errors > most:
            # written anew: DuckDB keeps the memory of deleted rows
            con.execute(
                f"CREATE OR REPLACE TABLE memory.main.{ERRORS_TABLE} AS SELECT * FROM memory.main.{ERRORS_TABLE} "
                f"QUALIFY row_number() OVER (ORDER BY rowid DESC) <= {most // 2}"
            )
            self._errors = most // 2

    def put_system_table(self, name: str, rows: pa.Table) -> None:
        """Replace ``sabot_catalog.<name>``."""
        with self._system_lock, self._db.duplicate() as con:
            con.register("system_rows", rows)
            con.execute(f"CREATE OR REPLACE TABLE memory.sabot_catalog.{quote(name)} AS SELECT * FROM system_rows")

    # -- reading changes

    def subscribe(self, name: str, *, snapshot: bool = True, keep: bool = False) -> Subscription:
        """Open a relation's rows as they are, and its changes from right after them: nothing missed, nothing twice.

        `keep`: the reader outlives a kill of this process, and goes on with `resume`.
        """
        with self._locked(name) as relation:
            cursor = relation.log.subscribe()
            if keep:
                cursor.kept_from = cursor.position
                self._log_ends.keep(relation)
            rows = 0
            con = self._db.duplicate() if snapshot else None
            if con is not None:
                con.execute("BEGIN")
                # the transaction's view of the relation is fixed by its first read
                ((rows,),) = con.execute(f"SELECT count(*) FROM {relation.path}").fetchall()
            epoch = relation.epoch
        return Subscription(relation, con, cursor, epoch, rows)

    def resume(self, name: str, log_name: str, position: int) -> Subscription:
        """Open a relation's changes from `position` of its log on, without a snapshot.

        Raises
        ------
        SqlError
            The log is another one, or does not reach so far back.
        """
        with self._locked(name) as relation:
            if relation.log.folder.name != log_name or not relation.keeps_place:
                msg = f"relation {name!r} has another log than before"
                raise SqlError(msg, sqlstate="55000")
            cursor = relation.log.subscribe(position)
            cursor.kept_from = position
            return Subscription(relation, None, cursor, relation.epoch, 0)

    def finish(self, name: str) -> None:
        """Say that the job behind view `name` has ended: its readers may end too."""
        self.relation(name).log.finish()

    def close(self) -> None:
        """Close everything; tables are on disk."""
        with self._lock:
            relations = list(self._relations.values())
            self._relations.clear()
        for relation in relations:
            relation.log.close()
            relation.connection.close()
        self._db.close()


class Subscription:
    """A snapshot and the cursor that goes on from it. `close` frees both."""

    def __init__(
        self, relation: StoredRelation, con: duckdb.DuckDBPyConnection | None, cursor: LogCursor, epoch: int, rows: int
    ) -> None:
        self.relation = relation
        self._con = con
        self.cursor = cursor
        self.epoch = epoch
        self.rows = rows
        """How many the snapshot has."""

    def snapshot(self, batch_rows: int = 131_072) -> Iterator[pa.RecordBatch]:
        """Give the rows of the snapshot, in the log's schema (weight 1)."""
        if self._con is None:
            return
        reader = self._con.sql(f"SELECT * FROM {self.relation.path}").to_arrow_reader(batch_rows)
        for batch in reader:
            rows = conform(batch, self.relation.arrow)
            yield rows if self.relation.append_only else _weigh(rows, 1)
        del reader
        self._con.execute("COMMIT")
        self._con.close()
        self._con = None

    def close(self) -> None:
        """Free the snapshot's transaction and the cursor; idempotent."""
        self.cursor.close()
        if self._con is not None:
            self._con.close()
            self._con = None


def _rows_of_a_view(relation: StoredRelation) -> tuple[str, ...]:
    columns = ", ".join(f"{quote(f.name)} {f.type}" for f in relation.schema)
    if not relation.durable:
        return (f"CREATE TABLE {relation.path} ({columns})",)
    return (
        f"CREATE TABLE IF NOT EXISTS {relation.path} ({columns})",
        f"CREATE OR REPLACE VIEW {relation.public} AS SELECT * FROM {relation.path}",
    )


def _weigh(batch: pa.RecordBatch, weight: int) -> pa.RecordBatch:
    return batch.append_column(WEIGHT, pa.repeat(pa.scalar(weight, pa.int32()), batch.num_rows))
