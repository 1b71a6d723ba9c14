"""INSERT, UPDATE and DELETE: from lexemes to statements; their expressions stay text for DuckDB."""

from __future__ import annotations

from sabot.errors import Span
from sql_frontend.cursor import Cursor, bare_name
from sql_frontend.select_text import rewritten
from sql_frontend.split import LexemeKind
from sql_frontend.statements import ConflictUpdate, Delete, Insert, Update

QUERY_WORDS = frozenset({"SELECT", "WITH", "VALUES", "FROM", "TABLE"})
_RETURNING_HINT = "write RETURNING *, or expressions over the table's columns"


def parse_insert(cur: Cursor, span: Span) -> Insert:
    """Read ``INSERT INTO t [(columns)] query [ON CONFLICT ...] [RETURNING ...]``."""
    cur.expect("INSERT")
    cur.expect("INTO")
    table = cur.relation_name("the table's name")
    columns: list[str] = []
    if cur.at_symbol("(") and not _query_follows(cur):
        cur.at += 1
        columns.append(cur.name("a column name"))
        while cur.accept_symbol(","):
            columns.append(cur.name("a column name"))
        cur.expect_symbol(")")
    starts = cur.peek()
    if starts is None or not (
        cur.at_symbol("(") or (starts.kind is LexemeKind.WORD and starts.value.upper() in {*QUERY_WORDS, "DEFAULT"})
    ):
        raise cur.unexpected("VALUES or a query")
    first = cur.at
    _step_to(cur, ("RETURNING",), ("ON", "CONFLICT"))
    query = rewritten(cur.text, cur.items[first : cur.at])
    written = cur.text[starts.start : cur.items[cur.at - 1].end]
    conflict = _on_conflict(cur) if cur.at_words("ON", "CONFLICT") else None
    returning = _returning(cur)
    cur.finish()
    ignores = "ignore" if conflict == "ignore" else None
    changes = conflict if isinstance(conflict, ConflictUpdate) else None
    return Insert(
        table, tuple(columns), cur.text, cur.text, span, query, starts.start, ignores, returning, changes, written
    )


def parse_update(cur: Cursor, span: Span) -> Update:
    """Read ``UPDATE t [AS a] SET c = expression, ... [FROM ...] [WHERE ...] [RETURNING ...]``."""
    cur.expect("UPDATE")
    table, alias = _target(cur, "SET")
    cur.expect("SET")
    assignments = _assignments(cur)
    source = _source(cur, "FROM")
    condition = _where(cur)
    returning = _returning(cur)
    cur.finish()
    return Update(table, alias, assignments, condition, returning, cur.text, span, source)


def parse_delete(cur: Cursor, span: Span) -> Delete:
    """Read ``DELETE FROM t [AS a] [USING ...] [WHERE ...] [RETURNING ...]``."""
    cur.expect("DELETE")
    cur.expect("FROM")
    table, alias = _target(cur, "WHERE", "RETURNING", "USING")
    source = _source(cur, "USING")
    condition = _where(cur)
    returning = _returning(cur)
    cur.finish()
    return Delete(table, alias, condition, returning, cur.text, span, source)


def parse_truncate(cur: Cursor, span: Span) -> Delete:
    """Read ``TRUNCATE [TABLE] t``."""
    cur.expect("TRUNCATE")
    cur.accept("TABLE")
    table = cur.relation_name("the table's name")
    cur.finish()
    return Delete(table, bare_name(table), None, None, cur.text, span)


def _query_follows(cur: Cursor) -> bool:
    """``INSERT INTO t (SELECT ...)`` names no columns."""
    item = cur.peek(1)
    return item is not None and item.kind is LexemeKind.WORD and item.value.upper() in {"SELECT", "WITH", "VALUES"}


def _target(cur: Cursor, *stop: str) -> tuple[str, str]:
    table = cur.relation_name("the table's name")
    if cur.accept("AS"):
        return table, cur.name("an alias")
    item = cur.peek()
    if item is not None and item.kind in (LexemeKind.WORD, LexemeKind.QUOTED) and item.value.upper() not in stop:
        return table, cur.name("an alias")
    return table, bare_name(table)


def _assignments(cur: Cursor) -> tuple[tuple[str, str | None], ...]:
    found: list[tuple[str, str | None]] = []
    while True:
        found += _assignment(cur)
        if not cur.accept_symbol(","):
            break
    names = [name for name, _ in found]
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice is not None:
        raise cur.error(f"column {twice!r} is set twice", span=Span(0, len(cur.text)), sqlstate="42601")
    return tuple(found)


def _source(cur: Cursor, word: str) -> str | None:
    if not cur.accept(word):
        return None
    first = cur.at
    _step_to(cur, ("WHERE",), ("RETURNING",))
    if cur.at == first:
        raise cur.unexpected("a relation")
    return rewritten(cur.text, cur.items[first : cur.at])


def _assignment(cur: Cursor) -> list[tuple[str, str | None]]:
    if not cur.at_symbol("("):
        name = cur.name("a column name")
        cur.expect_symbol("=")
        return [(name, _value(cur))]
    here = cur.here()
    cur.expect_symbol("(")
    names = [cur.name("a column name")]
    while cur.accept_symbol(","):
        names.append(cur.name("a column name"))
    cur.expect_symbol(")")
    cur.expect_symbol("=")
    cur.accept("ROW")
    if cur.at_symbol("(") and _query_follows(cur):
        hint = "write a subquery for each column"
        raise cur.error("a subquery for several columns is not supported", span=here, hint=hint, sqlstate="0A000")
    cur.expect_symbol("(")
    values = [_value(cur)]
    while cur.accept_symbol(","):
        values.append(_value(cur))
    cur.expect_symbol(")")
    if len(values) != len(names):
        msg = f"{len(names)} columns to set, {len(values)} values given"
        raise cur.error(msg, span=here, sqlstate="42601")
    return list(zip(names, values, strict=True))


def _value(cur: Cursor) -> str | None:
    if cur.accept("DEFAULT"):
        return None
    first = cur.at
    cur.skip_balanced({"WHERE", "RETURNING", "FROM"})
    return rewritten(cur.text, cur.items[first : cur.at])


def _where(cur: Cursor) -> str | None:
    if not cur.accept("WHERE"):
        return None
    first = cur.at
    _step_to(cur, ("RETURNING",))
    if cur.at == first:
        raise cur.unexpected("a condition")
    return rewritten(cur.text, cur.items[first : cur.at])


def _returning(cur: Cursor) -> str | None:
    if not cur.accept("RETURNING"):
        return None
    first = cur.at
    _step_to(cur, ("FROM",), ("UNION",), ("WHERE",), ("ORDER", "BY"), ("LIMIT",), ("GROUP", "BY"))
    if cur.peek() is not None:
        raise cur.error("expected the end of the statement", span=cur.here(), hint=_RETURNING_HINT)
    if cur.at == first:
        raise cur.unexpected("what to return")
    return rewritten(cur.text, cur.items[first : cur.at])


def _on_conflict(cur: Cursor) -> ConflictUpdate | str:
    """Read ``ON CONFLICT [(columns)] DO NOTHING | DO UPDATE SET ... [WHERE ...]``; the first gives ``ignore``."""
    cur.expect("ON", "CONFLICT")
    here = cur.here()
    target: list[str] = []
    if cur.accept_symbol("("):
        target.append(cur.name("a column of the key"))
        while cur.accept_symbol(","):
            target.append(cur.name("a column of the key"))
        cur.expect_symbol(")")
    cur.expect("DO")
    if cur.accept("NOTHING"):
        return "ignore"
    cur.expect("UPDATE", "SET")
    if not target:
        hint = "name the key: ON CONFLICT (key) DO UPDATE SET ..."
        raise cur.error("ON CONFLICT DO UPDATE needs the columns of the key", span=here, hint=hint, sqlstate="42601")
    return ConflictUpdate(tuple(target), _assignments(cur), _where(cur))


def _step_to(cur: Cursor, *stops: tuple[str, ...]) -> None:
    """Step over lexemes up to one of the word sequences outside brackets, or the end."""
    depth = 0
    while (item := cur.peek()) is not None:
        if item.kind is LexemeKind.SYMBOL and item.value in ("(", "[", "{", ")", "]", "}"):
            depth += 1 if item.value in "([{" else -1
        elif depth == 0 and any(cur.at_words(*words) for words in stops):
            return
        cur.at += 1
