"""What a CREATE statement defines: bound, planned and checked, before anything of it is made."""

from __future__ import annotations

from dataclasses import dataclass, replace

import duckdb

from planner.logical import Query, Relation, RelationKind, schema_of
from planner.plan import PlannedJob, SinkTarget, TableTarget, plan_sink, plan_view
from planner.task_spec import ColumnSpec, SinkOp, SourceOp
from sabot.errors import Span, SqlError
from sabot.ids import JobId
from sabot.schema import Field, Schema, quote
from sabotd.catalog_store import CatalogObject, CatalogStore, RecordingCatalog
from sabotd.connectors import registry
from sabotd.graphs import plan_graph
from sabotd.operators.scalar_function import compiled
from sabotd.select_guard import check_select, relations_of
from sabotd.settings import Settings
from sabotd.state.store import Store
from sabotd.table_targets import check_fits, rereads, target_columns, target_table
from sql_frontend.assign import assigned_to
from sql_frontend.binder import bind_function, bind_query, bind_source, bind_table
from sql_frontend.catalog import FunctionDefinition, ViewDefinition
from sql_frontend.duck import functions as duckdb_functions
from sql_frontend.duck import interval_us
from sql_frontend.pg_library import LIBRARY
from sql_frontend.select_text import for_duckdb
from sql_frontend.statements import (
    CreateFunction,
    CreateJob,
    CreateSink,
    CreateSource,
    CreateTable,
    CreateView,
    FormatClause,
)

CreateStatement = CreateSource | CreateTable | CreateView | CreateSink | CreateJob | CreateFunction


@dataclass(frozen=True)
class Defining:
    """Makes the catalog's objects of statements.

    Parameters
    ----------
    catalog : CatalogStore
    store : Store
        Where rows are counted and sampled, and DuckDB is asked about what the front end does not know.
    python_refusal : str or None
        Why functions and jobs in Python are refused; None if they are not.
    """

    catalog: CatalogStore
    store: Store
    python_refusal: str | None = None

    def define(self, statement: CreateStatement, settings: Settings) -> CatalogObject:
        """Bind and plan a statement; nothing is made yet."""
        match statement:
            case CreateSource():
                return self._source(statement)
            case CreateTable():
                relation = bind_table(statement)
                return CatalogObject(statement.name, "table", statement.text, relation, statement.columns)
            case CreateView(materialized=True):
                return self._materialized_view(statement, settings)
            case CreateView():
                return self._view(statement)
            case CreateSink():
                return self._sink(statement, settings)
            case CreateJob():
                return self._graph(statement)
            case CreateFunction():
                return self._function(statement)

    def _source(self, statement: CreateSource) -> CatalogObject:
        options = dict(statement.options)
        with _placed(statement.text, dict(statement.option_spans)):
            own: Schema | None = None
            if not statement.columns:
                default = registry.default_schema(options["connector"], options)
                if default is None:
                    msg = f"a source with connector {options['connector']!r} needs columns"
                    raise SqlError(
                        msg, hint="write CREATE SOURCE name (column TYPE, ...) WITH (...)", text=statement.text
                    )
                own = tuple(Field(c.name, c.type) for c in default)
            relation = bind_source(statement, own)
            columns = relation.schema
            specs = tuple(ColumnSpec(f.name, f.type) for f in columns)
            op = SourceOp(
                statement.name,
                options["connector"],
                _plain_options(statement.options, statement.format),
                statement.format.encode if statement.format else None,
                specs,
                specs,
                include=statement.include,
                changes=relation.changes,
                key=relation.stream_key if relation.changes else (),
            )
            registry.validate_source(op)
            relation = replace(relation, finite=registry.connector(op.connector).is_finite(op.options))
        return CatalogObject(statement.name, "source", statement.text, relation, columns)

    def _view(self, statement: CreateView) -> CatalogObject:
        definition = ViewDefinition(statement.name, statement.query, statement.column_names)
        recording = RecordingCatalog(self.catalog)
        try:
            query = bind_query(statement.query, recording, span_offset=statement.query_span.start, text=statement.text)
            columns = schema_of(query.root)
        except SqlError as error:
            # what cannot be kept up may still be asked: DuckDB has the word where only tables and views are read
            found = _duckdb_columns(self.store, statement.query)
            if found is None:
                raise error from None
            columns, names = found
            recording.found = {o.key for n in names if (o := self.catalog.get(n)) is not None}
        if statement.column_names:
            columns = _renamed(columns, statement)
        return CatalogObject(
            statement.name, "view", statement.text, definition, columns, reads=frozenset(recording.found)
        )

    def _materialized_view(self, statement: CreateView, settings: Settings) -> CatalogObject:
        recording = RecordingCatalog(self.catalog, self._rows)
        query = self._bind(statement.query, statement.query_span, statement, recording, statement.column_names)
        job_id = JobId(f"mv:{statement.name}")
        options = dict(statement.options)
        with _placed(statement.text, dict(statement.option_spans)):
            ttl_us = _state_ttl(options)
            if options:
                msg = f"option {min(options)!r} is not known to a materialized view"
                raise SqlError(msg, hint="its option is state_ttl = '1 day'", sqlstate="HV00D")
        with _placed(statement.text, {}, statement.query_span):
            planned = plan_view(
                query,
                job_id=job_id,
                relation=statement.name,
                parallelism=settings.parallelism,
                max_parallelism=settings.max_parallelism,
                state_ttl_us=ttl_us,
            )
        columns = planned.output.schema
        relation = Relation(
            statement.name,
            RelationKind.MATERIALIZED_VIEW,
            columns,
            append_only=planned.output.append_only,
            stream_key=planned.output.stream_key,
        )
        return CatalogObject(
            statement.name,
            "materialized view",
            statement.text,
            relation,
            columns,
            frozenset(recording.found),
            job_id,
            planned,
            notices=query.notices + planned.notices,
        )

    def _sink(self, statement: CreateSink, settings: Settings) -> CatalogObject:
        recording = RecordingCatalog(self.catalog, self._rows)
        if statement.from_relation is not None:
            query = bind_query(f"SELECT * FROM {quote(statement.from_relation)}", recording)
        else:
            assert statement.query is not None
            assert statement.query_span is not None
            query = self._bind(statement.query, statement.query_span, statement, recording)
        if statement.into is not None:
            return self._table_sink(statement, statement.into, query, recording, settings)
        job_id = JobId(f"sink:{statement.name}")
        options = _plain_options(statement.options, statement.format)
        encode = statement.format.encode if statement.format else None
        with _placed(statement.text, dict(statement.option_spans)):
            ttl_us = _state_ttl(options)
            connector = registry.connector(options["connector"])
            target = SinkTarget(statement.name, options["connector"], options, encode)
            planned = plan_sink(
                query,
                job_id=job_id,
                sink=target,
                parallelism=settings.parallelism,
                max_parallelism=settings.max_parallelism,
                state_ttl_us=ttl_us,
            )
            op = next(n.op for t in planned.spec.tasks for n in t.nodes if isinstance(n.op, SinkOp))
            registry.check(op)
            connector.validate(op)
        return CatalogObject(
            statement.name,
            "sink",
            statement.text,
            None,
            planned.output.schema,
            frozenset(recording.found),
            job_id,
            planned,
            notices=query.notices + planned.notices,
        )

    def _table_sink(
        self, statement: CreateSink, into: str, query: Query, recording: RecordingCatalog, settings: Settings
    ) -> CatalogObject:
        """Plan a sink that writes into table `into`."""
        table = target_table(self.catalog, statement, into, recording.found)
        span = statement.query_span or statement.into_span or statement.span
        query = assigned_to(query, target_columns(table, statement), statement.text, span)
        options = dict(statement.options)
        with _placed(statement.text, dict(statement.option_spans)):
            ttl_us = _state_ttl(options)
            if options:
                msg = f"option {min(options)!r} is not known to a sink into a table"
                raise SqlError(msg, hint="its option is state_ttl = '1 day'", sqlstate="HV00D")
        job_id = JobId(f"sink:{statement.name}")
        planned = plan_sink(
            query,
            job_id=job_id,
            sink=TableTarget(statement.name, table.obj.key, rereads=rereads(self.catalog, recording.found)),
            parallelism=settings.parallelism,
            max_parallelism=settings.max_parallelism,
            state_ttl_us=ttl_us,
        )
        check_fits(table, planned.output, statement)
        return CatalogObject(
            statement.name,
            "sink",
            statement.text,
            None,
            planned.output.schema,
            frozenset(recording.found),
            job_id,
            planned,
            notices=query.notices + planned.notices,
            writes=table.obj.key,
        )

    def _function(self, statement: CreateFunction) -> CatalogObject:
        if statement.name in duckdb_functions() or any(name == statement.name for name, _ in LIBRARY):
            msg = f"function {statement.name!r} is there already"
            raise SqlError(msg, hint="choose another name", sqlstate="42723", text=statement.text)
        recording = RecordingCatalog(self.catalog)
        made = bind_function(statement, recording)
        if made.language == "python":
            self._check_python(statement, made)
        return CatalogObject(
            statement.name, "function", statement.text, made, statement.parameters, reads=frozenset(recording.found)
        )

    def _check_python(self, statement: CreateFunction, made: FunctionDefinition) -> None:
        """Refuse Python where it is not let in, and a source that does not run."""
        if self.python_refusal is not None:
            msg = f"functions in Python are refused: {self.python_refusal}"
            hint = "write it in SQL, or set server.python_jobs"
            raise SqlError(msg, hint=hint, sqlstate="42501", text=statement.text)
        if not made.parameters:
            msg = "a function in Python needs a parameter"
            raise SqlError(msg, hint="write a constant as it is", sqlstate="42P13", text=statement.text)
        try:
            compiled(made.spec)
        except SyntaxError as error:
            msg = f"line {error.lineno} of the function's body: {error.msg}"
            raise SqlError(msg, sqlstate="42601", text=statement.text) from error
        except Exception as error:
            msg = f"the function's body cannot be run: {type(error).__name__}: {error}"
            raise SqlError(msg, hint="its packages must be installed", sqlstate="42P13", text=statement.text) from error

    def _graph(self, statement: CreateJob) -> CatalogObject:
        def make_source(source: CreateSource) -> Relation:
            relation = self._source(source).relation
            assert isinstance(relation, Relation)
            return relation

        made = plan_graph(statement, self.catalog, make_source, self.python_refusal)
        return CatalogObject(
            statement.name,
            "materialized view" if made.is_view else "sink",
            statement.text,
            made.planned.output if made.is_view else None,
            made.planned.output.schema,
            made.reads,
            made.planned.job_id,
            made.planned,
            is_graph=True,
        )

    def _bind(
        self,
        query: str,
        span: Span,
        statement: CreateView | CreateSink,
        catalog: RecordingCatalog,
        columns: tuple[str, ...] = (),
    ) -> Query:
        return bind_query(
            query,
            catalog,
            emit_on_window_close=statement.emit_on_window_close,
            span_offset=span.start,
            text=statement.text,
            columns=columns,
        )

    def plan_query(self, query: str, settings: Settings, *, name: str = "query") -> PlannedJob:
        """Plan a bare query as a view, for EXPLAIN."""
        bound = bind_query(query, RecordingCatalog(self.catalog, self._rows))
        return plan_view(
            bound,
            job_id=JobId(f"mv:{name}"),
            relation=name,
            parallelism=settings.parallelism,
            max_parallelism=settings.max_parallelism,
        )

    def _rows(self, name: str) -> int:
        with self.store.reader() as con:
            (rows,) = con.execute(f"SELECT count(*) FROM {quote(name)}").fetchone() or (0,)
        return int(rows)


class _placed:  # noqa: N801  (a context manager used as a verb)
    """Gives errors their place in the statement: about an option there, about a plan where `query` is."""

    def __init__(self, text: str, spans: dict[str, Span], query: Span | None = None) -> None:
        self._text = text
        self._spans = spans
        self._query = query

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, SqlError) and error.text is None:
            named = next((s for k, s in self._spans.items() if repr(k) in error.message), None)
            error.text, error.span = self._text, error.span or named or self._query


def _plain_options(options: tuple[tuple[str, str], ...], clause: FormatClause | None) -> dict[str, str]:
    """Return WITH options and FORMAT's own in one mapping, FORMAT PLAIN | UPSERT | ... as ``format``."""
    out = dict(options)
    if clause is not None:
        out |= dict(clause.options)
        out["format"] = clause.format
    return out


def _state_ttl(options: dict[str, str]) -> int | None:
    """Take ``state_ttl`` out of `options`; return its microseconds."""
    text = options.pop("state_ttl", None)
    if text is None:
        return None
    try:
        ttl_us = interval_us(text)
    except (duckdb.Error, ValueError) as error:
        msg = f"option 'state_ttl' is {text!r}, which is no interval of fixed length"
        raise SqlError(
            msg, hint="write state_ttl = '1 day', in days, hours, minutes or seconds", sqlstate="22023"
        ) from error
    if ttl_us <= 0:
        msg = f"option 'state_ttl' is {text!r}, which is not above zero"
        raise SqlError(msg, hint="leave it out to keep state for ever", sqlstate="22023")
    return ttl_us


def _renamed(columns: Schema, statement: CreateView) -> Schema:
    if len(columns) != len(statement.column_names):
        msg = f"view {statement.name!r} names {len(statement.column_names)} columns, its query has {len(columns)}"
        raise SqlError(msg, text=statement.text, sqlstate="42P16")
    return tuple(Field(n, f.type) for n, f in zip(statement.column_names, columns, strict=True))


def _duckdb_columns(store: Store, query: str) -> tuple[Schema, set[str]] | None:
    query = for_duckdb(query)
    with store.reader() as con:
        try:
            described = con.execute(f"DESCRIBE {query}").fetchall()
        except duckdb.Error:
            return None
        check_select(con, query)
        names = relations_of(con, query)
    return tuple(Field(r[0], r[1]) for r in described), set(names)
