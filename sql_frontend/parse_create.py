"""CREATE SOURCE, TABLE, VIEW, MATERIALIZED VIEW and SINK: from lexemes to statements."""

from __future__ import annotations

import duckdb
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from sabot.errors import Span, SqlError
from sabot.schema import quote
from sql_frontend.clauses import (
    SINK_FORMATS,
    SOURCE_CHANGES,
    ColumnList,
    column_list,
    format_clause,
    if_not_exists,
    include_clause,
    names_in_parentheses,
    options,
    query_text,
)
from sql_frontend.cursor import Cursor, nearest
from sql_frontend.duck import first_line, try_statement
from sql_frontend.parse_function import parse_function
from sql_frontend.split import LexemeKind
from sql_frontend.statements import (
    CreateFunction,
    CreateJob,
    CreateSchema,
    CreateSink,
    CreateSource,
    CreateTable,
    CreateView,
    FormatClause,
    WatermarkClause,
)

_KINDS = ("SOURCE", "TABLE", "VIEW", "MATERIALIZED VIEW", "SINK", "JOB", "FUNCTION", "SCHEMA")
CreateStatement = CreateSource | CreateTable | CreateView | CreateSink | CreateJob | CreateFunction | CreateSchema
_Options = tuple[tuple[str, str], ...]
_Spans = tuple[tuple[str, Span], ...]


def parse_create(cur: Cursor, span: Span) -> CreateStatement:
    """Read a CREATE statement; CREATE itself is still ahead."""
    cur.expect("CREATE")
    or_replace = cur.accept("OR", "REPLACE")
    here = cur.here()
    if (word := cur.accept_one({"TEMP", "TEMPORARY"})) is not None:
        hint = "leave the word out; what is created stays until it is dropped"
        raise cur.error(f"{word} is not supported", span=here, hint=hint, sqlstate="0A000")
    if cur.accept("MATERIALIZED", "VIEW"):
        if or_replace:
            hint = "DROP MATERIALIZED VIEW, then CREATE it"
            raise cur.error(
                "OR REPLACE of a materialized view is not supported", span=here, hint=hint, sqlstate="0A000"
            )
        return _view(cur, span, materialized=True, or_replace=False)
    if cur.accept("VIEW"):
        return _view(cur, span, materialized=False, or_replace=or_replace)
    if cur.accept("FUNCTION"):
        return parse_function(cur, span, or_replace=or_replace)
    if or_replace:
        raise cur.error("OR REPLACE is for views and functions", span=here, sqlstate="0A000")
    if cur.accept("SOURCE"):
        return _source(cur, span)
    if cur.accept("TABLE"):
        return _table(cur, span)
    if cur.accept("SINK"):
        return _sink(cur, span)
    if cur.accept("JOB"):
        return _job(cur, span)
    if cur.accept("SCHEMA"):
        exists = if_not_exists(cur)
        name = cur.name("the schema's name")
        cur.finish()
        return CreateSchema(name, exists, cur.text, span)
    item = cur.peek()
    if item is None:
        raise cur.unexpected("what to create")
    msg = f"cannot create {cur.text[item.start : item.end]!r}"
    hint = nearest(item.value.upper(), _KINDS) or "one can create " + ", ".join(_KINDS)
    raise cur.error(msg, span=here, hint=hint, sqlstate="0A000")


def _source(cur: Cursor, span: Span) -> CreateSource:
    exists = if_not_exists(cur)
    name = cur.relation_name("the source's name")
    listed = ColumnList()
    begin = cur.here()
    if cur.at_symbol("("):
        listed = column_list(cur)
        for column in listed.columns:
            if column.default is not None:
                raise cur.error("DEFAULT of a source's column is not supported", span=column.span, sqlstate="0A000")
    include: list[tuple[str, str]] = []
    taken = {f.name.lower() for f in listed.fields}
    with_options: tuple[_Options, _Spans] | None = None
    format_: FormatClause | None = None
    while cur.peek() is not None:
        here = cur.here()
        if cur.accept("INCLUDE"):
            pair = include_clause(cur)
            if pair[1].lower() in taken:
                hint = f"name it with INCLUDE {pair[0]} AS another_name"
                raise cur.error(f"column {pair[1]!r} stands twice", span=here, hint=hint, sqlstate="42701")
            taken.add(pair[1].lower())
            include.append(pair)
        elif with_options is None and cur.accept("WITH"):
            with_options = options(cur)
        elif format_ is None and cur.accept("FORMAT"):
            format_ = format_clause(cur, ("plain", *SOURCE_CHANGES))
        else:
            raise cur.unexpected("INCLUDE, WITH (...), FORMAT ... ENCODE ... or the end of the statement")
    pairs, spans = with_options or ((), ())
    _need_connector(cur, pairs)
    changes = format_ is not None and format_.format in SOURCE_CHANGES
    if listed.primary_key and not changes:
        hint = "rows of a source are only ever added, but of FORMAT DEBEZIUM; GROUP BY the key in a materialized view"
        raise cur.error("a source has no primary key", span=begin, hint=hint, sqlstate="0A000")
    if changes and not listed.columns:
        raise cur.error("a source of changes needs columns", span=span, hint="CREATE SOURCE name (column TYPE, ...)")
    return CreateSource(
        name,
        listed.fields,
        listed.watermark,
        pairs,
        format_,
        tuple(include),
        exists,
        cur.text,
        span,
        spans,
        listed.primary_key,
    )


def _need_connector(cur: Cursor, pairs: _Options) -> None:
    if not any(k == "connector" for k, _ in pairs):
        end = len(cur.text)
        raise cur.error("no connector is given", span=Span(end, end), hint="add WITH (connector = 'kafka', ...)")


def _table(cur: Cursor, span: Span) -> CreateTable:
    exists = if_not_exists(cur)
    name = cur.relation_name("the table's name")
    if cur.at_words("AS"):
        hint = "CREATE TABLE with columns, then INSERT INTO ... SELECT"
        raise cur.error("CREATE TABLE AS is not supported", span=cur.here(), hint=hint, sqlstate="0A000")
    begin = cur.here()
    listed = column_list(cur)
    if not listed.columns:
        raise cur.error("a table needs a column", span=begin)
    for column in listed.columns:
        if column.field.name.lower() == "rowid" and listed.primary_key:
            msg = "column name 'rowid' is reserved in a table with a primary key"
            raise cur.error(msg, span=column.span, sqlstate="42939")
    append_only = cur.accept("APPEND", "ONLY")
    here = cur.here()
    on_conflict = _on_conflict(cur)
    if listed.watermark is not None and not append_only:
        raise _no_watermark(cur, listed.watermark)
    if on_conflict is not None and not listed.primary_key:
        raise cur.error("ON CONFLICT needs a primary key", span=here, sqlstate="42P10")
    if append_only and listed.primary_key and on_conflict != "ignore":
        hint = "add ON CONFLICT DO NOTHING, or leave out APPEND ONLY"
        raise cur.error("rows of a table with a primary key are replaced", span=here, hint=hint, sqlstate="0A000")
    if cur.at_words("WITH"):
        hint = "CREATE SOURCE reads a connector; a table is filled by INSERT"
        raise cur.error("WITH of a table is not supported", span=cur.here(), hint=hint, sqlstate="0A000")
    cur.finish()
    ddl = _table_ddl(cur, name, listed)
    try:
        try_statement(ddl)
    except duckdb.Error as error:
        raise cur.error(first_line(error), span=begin, sqlstate="42P16") from error
    return CreateTable(
        name,
        listed.fields,
        listed.primary_key,
        exists,
        ddl,
        cur.text,
        span,
        append_only,
        on_conflict or "overwrite",
        listed.watermark,
    )


def _on_conflict(cur: Cursor) -> str | None:
    if not cur.accept("ON", "CONFLICT"):
        return None
    if cur.accept("DO", "UPDATE", "IF", "NOT", "NULL"):
        return "update_if_not_null"
    if cur.accept("DO", "NOTHING") or cur.accept("IGNORE"):
        return "ignore"
    if cur.accept("OVERWRITE") or cur.accept("DO", "UPDATE", "FULL"):
        return "overwrite"
    raise cur.unexpected("OVERWRITE, DO NOTHING or DO UPDATE IF NOT NULL")


def _no_watermark(cur: Cursor, clause: WatermarkClause) -> SqlError:
    hint = "write APPEND ONLY behind the columns: only of rows that stay as they are can be told when one comes late"
    return cur.error(
        "WATERMARK needs a table whose rows stay as they are", span=clause.span, hint=hint, sqlstate="0A000"
    )


def _table_ddl(cur: Cursor, name: str, listed: ColumnList) -> str:
    items = []
    for column in listed.columns:
        item = f"{quote(column.field.name)} {column.field.type}"
        if column.not_null:
            item += " NOT NULL"
        if column.default is not None:
            item += f" DEFAULT {_default(cur, *column.default)}"
        items.append(item)
    if listed.primary_key:
        # sinks may write a row without a key (a maximum of nothing); INSERT and UPDATE refuse it
        items.append(f"UNIQUE ({', '.join(quote(k) for k in listed.primary_key)})")
    return f"CREATE TABLE {quote(name)} ({', '.join(items)})"


def _default(cur: Cursor, written: str, start: int) -> str:
    span = Span(start, start + len(written))
    try:
        tree = sqlglot.parse_one(f"SELECT {written}", read="risingwave")
    except SqlglotError as error:
        raise cur.error(f"cannot read the default {written!r}", span=span) from error
    if not isinstance(tree, exp.Select) or len(tree.expressions) != 1 or tree.find(exp.Column):
        raise cur.error(f"the default {written!r} must be an expression of its own", span=span)
    return f"({tree.expressions[0].sql('duckdb')})"


def _view(cur: Cursor, span: Span, *, materialized: bool, or_replace: bool) -> CreateView:
    exists = if_not_exists(cur)
    name = cur.relation_name("the view's name")
    names = names_in_parentheses(cur, "a column name") if cur.at_symbol("(") else ()
    pairs: _Options = ()
    spans: _Spans = ()
    here = cur.here()
    if cur.accept("WITH"):
        pairs, spans = options(cur)
        if not materialized:
            raise cur.error("a plain view has no options", span=here, sqlstate="0A000")
    cur.expect("AS")
    query, query_span, on_close = query_text(cur, before_with=False)
    if on_close and not materialized:
        hint = "write it where the view is materialized"
        raise cur.error("EMIT ON WINDOW CLOSE is for materialized views and sinks", span=query_span, hint=hint)
    cur.finish()
    return CreateView(
        name, materialized, names, query, query_span, on_close, pairs, exists, or_replace, cur.text, span, spans
    )


def _sink(cur: Cursor, span: Span) -> CreateSink:
    exists = if_not_exists(cur)
    name = cur.relation_name("the sink's name")
    source: str | None = None
    query: str | None = None
    query_span: Span | None = None
    on_close = False
    into: str | None = None
    columns: tuple[str, ...] = ()
    into_span: Span | None = None
    if cur.accept("INTO"):
        into_span = cur.here()
        into = cur.relation_name("the table's name")
        columns = names_in_parentheses(cur, "a column name") if cur.at_symbol("(") else ()
    if cur.accept("FROM"):
        source = cur.relation_name("the name of what to write")
    elif cur.accept("AS"):
        query, query_span, on_close = query_text(cur, before_with=True)
    else:
        raise cur.unexpected("FROM view or AS query")
    if into is None and not cur.at_words("WITH"):
        raise cur.unexpected("WITH (connector = ...)")
    pairs: _Options = ()
    spans: _Spans = ()
    if cur.accept("WITH"):
        pairs, spans = options(cur)
    format_: FormatClause | None = None
    if into is None:
        _need_connector(cur, pairs)
        format_ = format_clause(cur, SINK_FORMATS) if cur.accept("FORMAT") else None
    elif (at := next((at for key, at in spans if key == "connector"), None)) is not None:
        raise cur.error("a sink into a table has no connector", span=at, hint="leave out INTO, or the connector")
    cur.finish()
    return CreateSink(
        name,
        source,
        query,
        query_span,
        on_close,
        pairs,
        format_,
        exists,
        cur.text,
        span,
        spans,
        into,
        columns,
        into_span,
    )


def _job(cur: Cursor, span: Span) -> CreateJob:
    exists = if_not_exists(cur)
    name = cur.relation_name("the job's name")
    cur.expect("FROM")
    cur.expect("GRAPH")
    item = cur.peek()
    if item is None or item.kind is not LexemeKind.STRING:
        raise cur.unexpected("the graph's text, as JobGraph.to_json() gives it")
    cur.at += 1
    cur.finish()
    return CreateJob(name, item.value, exists, cur.text, span)
