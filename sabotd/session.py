"""One client's session: takes a statement, has it carried out, gives a result."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Sequence

import duckdb
import pyarrow as pa
from sqlalchemy.exc import InterfaceError, OperationalError

from sabot.errors import SabotError, SqlError
from sabotd import show, system_tables
from sabotd.catalog_store import CatalogObject
from sabotd.cluster import Cluster
from sabotd.defining import CreateStatement
from sabotd.dml import TableStatements
from sabotd.engine import PreparedInfo, StatementResult
from sabotd.results import Done, QueryResult, SubscribeResult, query_error
from sabotd.select_guard import check_select, sql_error
from sabotd.settings import Settings, canonical, change
from sabotd.transaction import Transaction
from sql_frontend.binder import DUCKDB_KNOWS, bind_select
from sql_frontend.parse import parse_statement
from sql_frontend.statements import (
    Begin,
    CreateFunction,
    CreateJob,
    CreateSchema,
    CreateSink,
    CreateSource,
    CreateTable,
    CreateView,
    Delete,
    Describe,
    DrainAgent,
    Drop,
    End,
    Explain,
    Flush,
    Insert,
    Pause,
    Rename,
    Select,
    SetOption,
    Show,
    Subscribe,
    Update,
)


class SqlSession:
    """A `sabotd.engine.Session` on the cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._defaults = Settings.defaults(cluster.config)
        self.settings = self._defaults
        self._cancelled = threading.Event()
        self._running: QueryResult | None = None
        self._transaction: Transaction | None = None

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> StatementResult:
        """Run one statement; see `sabotd.engine.Session.execute`."""
        try:
            return self._execute(sql, parameters)
        except (OperationalError, InterfaceError) as error:
            msg = f"the control database does not answer: {str(error.orig).splitlines()[0]}"
            hint = "rows flow on; definitions can be changed when it is back"
            raise SabotError(msg, hint=hint, sqlstate="57P03", retryable=True) from error

    def _execute(self, sql: str, parameters: Sequence[object]) -> StatementResult:
        self._cancelled.clear()
        statement = parse_statement(sql)
        if parameters and not isinstance(statement, Select | Insert):
            msg = "only queries and INSERT take parameters"
            raise SqlError(msg, sqlstate="0A000", text=sql)
        if self._transaction is not None:
            self._transaction.admit(statement, self._cluster.catalog)
        match statement:
            case Select():
                return self._select(statement, parameters)
            case Insert() | Update() | Delete():
                done = self._tables().run(statement, parameters)
                self._flush_implicitly()
                return done
            case CreateSource() | CreateTable() | CreateView() | CreateSink() | CreateJob() | CreateFunction():
                if self.settings.timezone != "UTC" and isinstance(statement, CreateView | CreateSink):
                    msg = "views and sinks take the time zone to be UTC"
                    hint = "SET TIME ZONE 'UTC' before, and write AT TIME ZONE where another is meant"
                    raise SqlError(msg, hint=hint, sqlstate="0A000", text=sql)
                was_there = self._cluster.catalog.get(statement.name) is not None
                notices = self._cluster.definitions.create(statement, self.settings)
                if _fills(statement) and not was_there:
                    self._await_filling(statement)
                return Done(_created(statement), notices=notices)
            case Drop():
                notices = self._cluster.definitions.drop(statement)
                return Done(f"DROP {statement.kind.upper()}", notices=notices)
            case Show():
                return self._show(statement)
            case Describe():
                system = system_tables.describe(self._cluster, statement.name)
                rows = system if system is not None else show.describe(self._object(statement.name, statement.text))
                return Done("DESCRIBE", rows=rows)
            case Explain():
                return Done("EXPLAIN", rows=self._explain(statement))
            case SetOption():
                self.settings = change(self.settings, statement, self._defaults)
                return Done("RESET" if statement.value is None else "SET")
            case Flush():
                paused = self._cluster.flush(self._cancelled)
                return Done("FLUSH", notices=[f"job {j!r} is paused: it is not waited for" for j in paused])
            case Subscribe():
                return self._subscribe(statement)
            case Begin():
                return self._begin(statement)
            case End():
                return self._end(statement)
            case DrainAgent():
                return self._drain(statement)
            case CreateSchema():
                return Done("CREATE SCHEMA", notices=self._cluster.definitions.create_schema(statement, self.settings))
            case Rename():
                self._cluster.definitions.rename(statement)
                return Done(f"ALTER {statement.kind.upper()}")
            case Pause():
                notices = self._cluster.definitions.pause(statement, self._cancelled)
                return Done("PAUSE" if statement.paused else "RESUME", notices=notices)

    def _begin(self, statement: Begin) -> Done:
        if self._transaction is not None:
            return Done("BEGIN", notices=["there is already a transaction in progress"])
        connection = self._cluster.store.reader(self.settings.timezone) if statement.read_only else None
        self._transaction, notices = Transaction.begin(connection)
        return Done("BEGIN", notices=notices)

    def _end(self, statement: End) -> Done:
        tag = "COMMIT" if statement.commit else "ROLLBACK"
        if self._transaction is None:
            return Done(tag, notices=["there is no transaction in progress"])
        transaction, self._transaction = self._transaction, None
        transaction.end(commit=statement.commit, text=statement.text)
        return Done(tag)

    def _tables(self) -> TableStatements:
        return TableStatements(self._cluster, self._object, self._query_problem, self.settings.timezone)

    def _flush_implicitly(self) -> None:
        if self.settings.implicit_flush:
            self._cluster.flush(self._cancelled)

    def _await_filling(self, statement: CreateStatement) -> None:
        """Wait for a new view's rows, if the session wants that; a cancelled CREATE leaves nothing behind.

        So with a new sink into a table, but that what it has written by then stays.
        """
        try:
            self._flush_implicitly()
        except SabotError:
            if self._cancelled.is_set():
                kind = "materialized view" if isinstance(statement, CreateView) else "sink"
                drop = Drop(kind, (statement.name,), True, False, statement.text, statement.span)
                self._cluster.definitions.drop(drop)
            raise

    # -- statements

    def _select(self, statement: Select, parameters: Sequence[object]) -> QueryResult:
        snapshot = self._transaction.snapshot if self._transaction is not None else None
        connection = self._cluster.store.reader(self.settings.timezone) if snapshot is None else snapshot
        try:
            sql = self._meant(connection, statement)
            system_tables.refresh(self._cluster, statement.sql)
            result = QueryResult(connection, sql, parameters, keep=snapshot is not None)
            result.notices = show.standing_still(self._cluster, statement.sql)
        except BaseException as error:
            if snapshot is None:
                connection.close()
            if isinstance(error, duckdb.Error):
                raise self._query_problem(error, statement.sql) from error
            raise
        self._running = result
        return result

    def _meant(self, connection: duckdb.DuckDBPyConnection, statement: Select) -> str:
        """Return what DuckDB is to run for a SELECT: its meaning as a view's, or else its own text.

        That text is DuckDB's to read where the front end does not know a construct, or a relation (of the system).
        """
        try:
            bound = bind_select(statement.text, self._cluster.catalog)
        except SqlError as error:
            if error.sqlstate not in DUCKDB_KNOWS:
                raise
            check_select(connection, statement.sql)
            return statement.sql
        check_select(connection, bound.sql)
        return bound.sql

    def _query_problem(self, error: duckdb.Error, sql: str) -> SabotError:
        names = [o.name for o in self._cluster.catalog.all()]
        sources = {o.name for o in self._cluster.catalog.all() if o.kind in ("source", "sink")}
        columns = sorted({c.name for o in self._cluster.catalog.all() if o.name in sql for c in o.columns})
        told = sql_error(error, sql, columns + names)
        for name in sources:
            if told.message == f"table {name!r} does not exist":
                told.message = f"{name!r} is a source: it has no rows of its own to select"
                told.hint = f"CREATE MATERIALIZED VIEW v AS SELECT ... FROM {name}, then SELECT from v"
        if "Python exception" in str(error) or isinstance(
            error, duckdb.ConversionException | duckdb.OutOfRangeException | duckdb.DataError
        ):
            return query_error(error)
        return told

    def _show(self, statement: Show) -> Done:
        rows = show.show(self._cluster, statement.what)
        if rows is None and statement.what == "all":
            rows = show.settings_table(self.settings.rows())
        if rows is None:
            name = canonical(statement.what)
            rows = show.settings_table([r for r in self.settings.rows() if r[0] == name])
        return Done("SHOW", rows=rows)

    def _explain(self, statement: Explain) -> pa.Table:
        definitions = self._cluster.definitions
        target = statement.target
        if isinstance(target, str):
            obj = self._object(target, statement.text)
            if obj.planned is None:
                msg = f"{obj.kind} {target!r} has no plan"
                raise SqlError(msg, hint="EXPLAIN a query, or a materialized view or sink by name", text=statement.text)
            if statement.analyze:
                edges = [e for e in show.shuffle_edges(self._cluster).to_pylist() if e["job"] == obj.job_id]
                text = obj.planned.explain({e["edge"]: (e["rows"], e["bytes"]) for e in edges})
                text += show.edge_report(edges) if edges else ""
            else:
                text = obj.planned.explain()
        elif isinstance(target, Select):
            text = definitions.defining.plan_query(target.text, self.settings).explain()
        else:
            assert isinstance(target, CreateView | CreateSink | CreateJob)
            planned = definitions.defining.define(target, self.settings).planned
            assert planned is not None
            text = planned.explain()
        return pa.table({"plan": text.rstrip("\n").split("\n")})

    def _drain(self, statement: DrainAgent) -> Done:
        if not self._cluster.drain(statement.agent):
            known = [a.agent_id for a in self._cluster.agents()]
            near = difflib.get_close_matches(statement.agent, known, n=1)
            msg = f"agent {statement.agent!r} does not exist"
            hint = f"did you mean {near[0]!r}?" if near else f"agents are {', '.join(known)}"
            raise SqlError(msg, hint=hint, sqlstate="42704", text=statement.text)
        return Done("ALTER SYSTEM")

    def _subscribe(self, statement: Subscribe) -> SubscribeResult:
        obj = self._object(statement.name, statement.text)
        if obj.kind not in ("table", "materialized view"):
            msg = f"cannot subscribe to {obj.kind} {obj.name!r}"
            raise SqlError(msg, hint="SUBSCRIBE is for tables and materialized views", text=statement.text)
        return SubscribeResult(self._cluster.store.subscribe(obj.key, snapshot=statement.snapshot))

    def _object(self, name: str, text: str) -> CatalogObject:
        obj = self._cluster.catalog.get(name)
        if obj is None:
            raise self._cluster.definitions.unknown(name, "relation", text)
        return obj

    # -- prepare, cancel, close

    def prepare(self, sql: str) -> PreparedInfo:
        """Tell a statement's columns and parameters; see `sabotd.engine.Session.prepare`."""
        statement = parse_statement(sql)
        none = pa.schema([])
        if isinstance(statement, Insert | Update | Delete) and statement.returning is not None:
            return self._tables().prepare(statement)
        if isinstance(statement, Update | Delete):
            return PreparedInfo(none, none, is_query=False)
        if isinstance(statement, Insert | Select):
            query = statement.query if isinstance(statement, Insert) else statement.sql
            with self._cluster.store.reader(self.settings.timezone) as connection:
                check_select(connection, query)
                system_tables.refresh(self._cluster, query)
                (extracted,) = connection.extract_statements(query)
                names = sorted(extracted.named_parameters, key=lambda n: (len(n), n))
                parameters = pa.schema([pa.field(n, pa.null()) for n in names])
                if isinstance(statement, Insert):
                    return PreparedInfo(none, parameters, is_query=False)
                if names:
                    # their types are known when values come
                    return PreparedInfo(none, parameters, is_query=True)
                try:
                    result = QueryResult(connection, f"SELECT * FROM ({query.rstrip().rstrip(';')}) LIMIT 0", ())
                except duckdb.Error as error:
                    raise self._query_problem(error, query) from error
                return PreparedInfo(result.schema, parameters, is_query=True)
        if isinstance(statement, Show | Describe | Explain | Subscribe):
            told = self.execute(sql)  # cheap, and changes nothing
            told.close()
            return PreparedInfo(told.schema, none, is_query=True)
        return PreparedInfo(none, none, is_query=False)

    def cancel(self) -> None:
        """Stop what runs, from any thread."""
        self._cancelled.set()
        if self._running is not None:
            self._running.cancel()

    def close(self) -> None:
        """End the session."""
        self.cancel()
        if self._transaction is not None:
            self._transaction.end(commit=True, text="")
            self._transaction = None


def _fills(statement: CreateStatement) -> bool:
    """Whether a statement makes what first has to be given the rows that are there."""
    if isinstance(statement, CreateSink):
        return statement.into is not None
    return isinstance(statement, CreateView) and statement.materialized


def _created(statement: CreateStatement) -> str:
    match statement:
        case CreateSource():
            return "CREATE SOURCE"
        case CreateTable():
            return "CREATE TABLE"
        case CreateView(materialized=True):
            return "CREATE MATERIALIZED VIEW"
        case CreateView():
            return "CREATE VIEW"
        case CreateSink():
            return "CREATE SINK"
        case CreateJob():
            return "CREATE JOB"
        case CreateFunction():
            return "CREATE FUNCTION"
