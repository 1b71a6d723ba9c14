"""SQL text to statements: the first words choose, clauses are read off the lexemes, queries stay text."""

from __future__ import annotations

from sabot.errors import Span, SqlError
from sql_frontend import bulk_values
from sql_frontend.clauses import options
from sql_frontend.cursor import Cursor, nearest
from sql_frontend.parse_alter import parse_alter, parse_pause
from sql_frontend.parse_create import parse_create
from sql_frontend.parse_dml import QUERY_WORDS, parse_delete, parse_insert, parse_truncate, parse_update
from sql_frontend.select_text import rewritten
from sql_frontend.split import LexemeKind, Piece, lexemes_of, split_statements
from sql_frontend.statements import (
    Begin,
    CreateJob,
    CreateSink,
    CreateView,
    Describe,
    Drop,
    End,
    Explain,
    Flush,
    Select,
    SetOption,
    Show,
    Statement,
    Subscribe,
)

_STATEMENT_WORDS = [
    "ALTER",
    "CREATE",
    "DROP",
    "SHOW",
    "DESCRIBE",
    "DESC",
    "EXPLAIN",
    "SET",
    "RESET",
    "FLUSH",
    "INSERT",
    "UPDATE",
    "DELETE",
    "TRUNCATE",
    "SUBSCRIBE",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "SELECT",
    "WITH",
    "VALUES",
    "FROM",
    "TABLE",
]
_SHOWN = (
    "SOURCES",
    "TABLES",
    "VIEWS",
    "MATERIALIZED VIEWS",
    "SINKS",
    "FUNCTIONS",
    "JOBS",
    "AGENTS",
    "SCHEMAS",
    "ALL",
)
_NOT_YET = {
    "MERGE": "INSERT into a table with a primary key replaces the row of that key",
    "COPY": "read files with CREATE SOURCE ... (connector = 'file'), write them with CREATE SINK",
    "GRANT": None,
    "REVOKE": None,
    "PREPARE": "prepare statements through the client's API",
    "EXECUTE": "prepare statements through the client's API",
    "CALL": None,
    "ATTACH": None,
    "DETACH": None,
    "INSTALL": None,
    "LOAD": None,
    "PRAGMA": None,
    "USE": "there is one schema, 'public'",
    "ANALYZE": None,
    "VACUUM": None,
    "PIVOT": "write SELECT * FROM (PIVOT ...)",
    "SUMMARIZE": "write SELECT * FROM (SUMMARIZE ...)",
}


def parse_script(text: str) -> list[Statement]:
    """Return the statements of a script.

    Raises
    ------
    SqlError
        At the first statement that cannot be read; its `text` is the whole script.
    """
    statements = []
    for piece in split_statements(text):
        try:
            statements.append(_parse_piece(piece))
        except SqlError as error:
            raise _moved(error, piece.span.start, text) from error
    return statements


def parse_statement(text: str) -> Statement:
    """Return the one statement of `text`; a semicolon after it is fine.

    Raises
    ------
    SqlError
        If it cannot be read, or there is none, or more than one.
    """
    bulk = bulk_values.read(text, parse_statement)
    if bulk is not None:
        return bulk
    pieces = split_statements(text)
    if not pieces:
        msg = "there is no statement"
        raise SqlError(msg, span=Span(0, len(text)), text=text)
    if len(pieces) > 1:
        msg = "expected one statement, found another after it"
        raise SqlError(msg, span=pieces[1].span, text=text, hint="send them one at a time")
    try:
        return _parse_piece(pieces[0])
    except SqlError as error:
        raise _moved(error, pieces[0].span.start, text) from error


def _moved(error: SqlError, by: int, text: str) -> SqlError:
    span = Span(error.span.start + by, error.span.end + by) if error.span else None
    return SqlError(error.message, span=span, text=text, hint=error.hint, sqlstate=error.sqlstate)


def _parse_piece(piece: Piece) -> Statement:
    items = lexemes_of(piece.text, piece.tokens, piece.span.start)
    return _parse(Cursor(piece.text, items), piece.span)


def _parse(cur: Cursor, span: Span) -> Statement:
    first = cur.peek()
    assert first is not None
    word = first.value.upper() if first.kind is LexemeKind.WORD else ""
    match word:
        case "CREATE":
            return parse_create(cur, span)
        case "DROP":
            return _drop(cur, span)
        case "SHOW":
            return _show(cur, span)
        case "DESCRIBE" | "DESC":
            cur.at += 1
            cur.accept_one({"TABLE", "VIEW", "SOURCE", "SINK"})
            schema = "sabot_catalog." if cur.accept("SABOT_CATALOG") else ""
            if schema:
                cur.expect_symbol(".")
            name = schema + cur.relation_name("the name of what to describe")
            cur.finish()
            return Describe(name, cur.text, span)
        case "EXPLAIN":
            return _explain(cur, span)
        case "SET" | "RESET":
            return _set(cur, span)
        case "FLUSH":
            cur.at += 1
            cur.finish()
            return Flush(cur.text, span)
        case "ALTER":
            return parse_alter(cur, span)
        case "PAUSE" | "RESUME":
            return parse_pause(cur, span)
        case "INSERT":
            return parse_insert(cur, span)
        case "UPDATE":
            return parse_update(cur, span)
        case "DELETE":
            return parse_delete(cur, span)
        case "TRUNCATE":
            return parse_truncate(cur, span)
        case "BEGIN" | "START":
            return _begin(cur, span)
        case "COMMIT" | "END" | "ROLLBACK" | "ABORT":
            cur.at += 1
            cur.accept_one({"WORK", "TRANSACTION"})
            cur.finish()
            return End(word in ("COMMIT", "END"), cur.text, span)
        case "SUBSCRIBE":
            return _subscribe(cur, span)
        case _ if word in QUERY_WORDS or cur.at_symbol("("):
            return _select(cur, span)
    here = cur.here()
    written = cur.text[here.start : here.end]
    if word in _NOT_YET:
        raise cur.error(f"{word} is not supported", span=here, hint=_NOT_YET[word], sqlstate="0A000")
    hint = nearest(word, _STATEMENT_WORDS) if word else None
    raise cur.error(f"a statement cannot begin with {written!r}", span=here, hint=hint)


def _select(cur: Cursor, span: Span) -> Select:
    """A query is DuckDB's to read; only data-changing statements behind a WITH are kept out."""
    depth = 0
    while (item := cur.peek()) is not None:
        if item.kind is LexemeKind.SYMBOL and item.value in "()":
            depth += 1 if item.value == "(" else -1
        at_head = depth == 0 and (cur.at == 0 or cur.items[cur.at - 1].value == ")")
        if at_head and (cur.at_words("INSERT", "INTO") or cur.at_words("UPDATE") or cur.at_words("DELETE", "FROM")):
            hint = "write INSERT INTO t WITH ... SELECT"
            raise cur.error("a statement that changes data cannot follow WITH", span=cur.here(), hint=hint)
        cur.at += 1
    return Select(rewritten(cur.text, cur.items), cur.text, span)


def _drop(cur: Cursor, span: Span) -> Drop:
    cur.expect("DROP")
    here = cur.here()
    if cur.accept("MATERIALIZED", "VIEW"):
        kind = "materialized view"
    else:
        word = cur.accept_one({"SOURCE", "TABLE", "VIEW", "SINK", "JOB", "FUNCTION", "SCHEMA"})
        if word is None:
            item = cur.peek()
            if item is None:
                raise cur.unexpected("what to drop")
            known = ("SOURCE", "TABLE", "VIEW", "MATERIALIZED VIEW", "SINK", "JOB", "FUNCTION", "SCHEMA")
            hint = nearest(item.value, known) or "one can drop " + ", ".join(known)
            raise cur.error(f"cannot drop {item.value!r}", span=here, hint=hint)
        kind = word.lower()
    if_exists = cur.accept("IF", "EXISTS")
    names = [_dropped_name(cur, kind)]
    while cur.accept_symbol(","):
        names.append(_dropped_name(cur, kind))
    cascade = cur.accept_one({"CASCADE", "RESTRICT"}) == "CASCADE"
    cur.finish()
    return Drop(kind, tuple(names), if_exists, cascade, cur.text, span)


def _dropped_name(cur: Cursor, kind: str) -> str:
    name = cur.name("the schema's name") if kind == "schema" else cur.relation_name(f"the name of the {kind}")
    if kind == "function" and cur.accept_symbol("("):
        # there is one function of a name, so that its parameters say nothing
        while not cur.at_symbol(")") and cur.peek() is not None:
            cur.at += 1
        cur.expect_symbol(")")
    return name


def _show(cur: Cursor, span: Span) -> Show:
    cur.expect("SHOW")
    if cur.accept("MATERIALIZED", "VIEWS"):
        what = "materialized views"
    else:
        what = cur.name("what to show").lower()
        while cur.accept_symbol("."):
            what += "." + cur.name("a setting")
    if cur.peek() is not None:
        hint = nearest(what, _SHOWN)
        raise cur.error(f"expected the end of the statement after SHOW {what.upper()}", span=cur.here(), hint=hint)
    return Show(what, cur.text, span)


def _explain(cur: Cursor, span: Span) -> Explain:
    cur.expect("EXPLAIN")
    analyze = cur.accept("ANALYZE")
    first, second = cur.peek(), cur.peek(1)
    if first is None:
        raise cur.unexpected("a statement, or the name of a view or sink")
    starts = first.kind is LexemeKind.WORD and first.value.upper() in _STATEMENT_WORDS
    if not starts and (second is None or cur.at_symbol(".", 1)):
        name = cur.relation_name("the name of a view or sink")
        cur.finish()
        return Explain(name, analyze, cur.text, span)
    begin = first.start
    inner_text = cur.text[begin:]
    try:
        target = _parse(Cursor(inner_text), Span(span.start + begin, span.end))
    except SqlError as error:
        raise _moved(error, begin, cur.text) from error
    is_view = isinstance(target, CreateView) and target.materialized
    planned = is_view or isinstance(target, (Select, CreateSink, CreateJob))
    if not planned:
        hint = "EXPLAIN a query, CREATE MATERIALIZED VIEW, CREATE SINK, or the name of what runs"
        raise cur.error("there is no plan of this statement", span=Span(begin, first.end), hint=hint)
    return Explain(target, analyze, cur.text, span)


def _set(cur: Cursor, span: Span) -> SetOption:
    reset = cur.accept("RESET")
    if not reset:
        cur.expect("SET")
        cur.accept_one({"SESSION", "LOCAL"})
    if cur.accept("TIME", "ZONE"):
        name = "timezone"
    else:
        name = cur.name("a setting").lower()
        while cur.accept_symbol("."):
            name += "." + cur.name("a setting")
        if not reset and not cur.accept_symbol("=") and not cur.accept("TO"):
            raise cur.unexpected("'=' or TO")
    if reset:
        cur.finish()
        return SetOption(name, None, cur.text, span)
    first = cur.peek()
    if first is None:
        raise cur.unexpected("a value")
    rest = cur.items[cur.at :]
    written = cur.text[first.start : rest[-1].end]
    if len(rest) == 1:
        is_default = first.kind is LexemeKind.WORD and first.value.upper() == "DEFAULT"
        return SetOption(name, None if is_default else first.value, cur.text, span)
    return SetOption(name, written, cur.text, span)


def _begin(cur: Cursor, span: Span) -> Begin:
    if cur.accept("START"):
        cur.expect("TRANSACTION")
    else:
        cur.expect("BEGIN")
        cur.accept_one({"WORK", "TRANSACTION"})
    read_only = False
    while cur.peek() is not None:
        if cur.accept("READ", "ONLY"):
            read_only = True
        elif cur.accept("ISOLATION", "LEVEL"):
            if not cur.accept("SERIALIZABLE") and not cur.accept("REPEATABLE", "READ"):
                cur.expect("READ")
                if cur.accept_one({"COMMITTED", "UNCOMMITTED"}) is None:
                    raise cur.unexpected("an isolation level")
        elif not cur.accept("READ", "WRITE"):
            raise cur.unexpected("READ ONLY, READ WRITE or ISOLATION LEVEL")
        cur.accept_symbol(",")
    return Begin(read_only, cur.text, span)


def _subscribe(cur: Cursor, span: Span) -> Subscribe:
    cur.expect("SUBSCRIBE")
    cur.accept("TO")
    name = cur.relation_name("the name of a view or table")
    snapshot = True
    if cur.accept("WITH"):
        pairs, spans = options(cur)
        for (key, value), (_, at) in zip(pairs, spans, strict=True):
            if key != "snapshot":
                raise cur.error(f"unknown option {key!r}", span=at, hint="the option is snapshot = true | false")
            if value.lower() not in ("true", "false"):
                raise cur.error(f"snapshot cannot be {value!r}", span=at, hint="write true or false")
            snapshot = value.lower() == "true"
    cur.finish()
    return Subscribe(name, snapshot, cur.text, span)
