"""What INSERT, UPDATE and DELETE are made of."""

from __future__ import annotations

import pytest

from sabot.errors import SqlError
from sql_frontend.parse import parse_statement
from sql_frontend.statements import ConflictUpdate, CreateTable, Delete, Insert, Update


def test_update_names_its_columns_and_keeps_expressions() -> None:
    found = parse_statement('UPDATE t AS u SET a = f(1, 2), (b, "C") = (u.a, DEFAULT) WHERE x > (SELECT 1) RETURNING *')
    assert isinstance(found, Update)
    assert (found.table, found.alias) == ("t", "u")
    assert found.assignments == (("a", "f(1, 2)"), ("b", "u.a"), ("C", None))
    assert (found.condition, found.returning) == ("x > (SELECT 1)", "*")


def test_delete_and_truncate() -> None:
    found = parse_statement("delete from public.t where a = 1 returning a, b + 1;")
    assert isinstance(found, Delete)
    assert (found.table, found.alias, found.condition, found.returning) == ("t", "t", "a = 1", "a, b + 1")
    everything = parse_statement("TRUNCATE TABLE t")
    assert isinstance(everything, Delete)
    assert everything.condition is None


def test_insert_ends_where_its_clauses_begin() -> None:
    found = parse_statement("INSERT INTO t (a) VALUES (1), (2) ON CONFLICT (a) DO NOTHING RETURNING a")
    assert isinstance(found, Insert)
    assert (found.query, found.on_conflict, found.returning) == ("VALUES (1), (2)", "ignore", "a")


def test_update_and_delete_read_other_relations() -> None:
    update = parse_statement("UPDATE t AS a SET v = b.v FROM u AS b JOIN w ON b.k = w.k WHERE a.k = b.k RETURNING a.v")
    assert isinstance(update, Update)
    assert (update.source, update.condition, update.returning) == ("u AS b JOIN w ON b.k = w.k", "a.k = b.k", "a.v")
    delete = parse_statement("DELETE FROM t USING u, w WHERE t.k = u.k")
    assert isinstance(delete, Delete)
    assert (delete.alias, delete.source, delete.condition) == ("t", "u, w", "t.k = u.k")


def test_insert_says_what_becomes_of_the_row_that_is_there() -> None:
    text = "INSERT INTO t VALUES (1, 2) ON CONFLICT (k) DO UPDATE SET v = t.v + excluded.v WHERE t.v < 9 RETURNING v"
    found = parse_statement(text)
    assert isinstance(found, Insert)
    assert found.conflict == ConflictUpdate(("k",), (("v", "t.v + excluded.v"),), "t.v < 9")
    assert (found.query, found.on_conflict, found.returning) == ("VALUES (1, 2)", None, "v")


def test_a_table_says_what_a_conflict_does() -> None:
    found = parse_statement("CREATE TABLE t (k INT PRIMARY KEY, a INT) ON CONFLICT DO UPDATE IF NOT NULL")
    assert isinstance(found, CreateTable)
    assert found.on_conflict == "update_if_not_null"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("UPDATE t SET a = 1, a = 2", "column 'a' is set twice"),
        ("UPDATE t SET (a, b) = (1)", "2 columns to set, 1 values given"),
        ("UPDATE t SET a = 1 FROM WHERE u.a = t.a", "expected a relation"),
        ("UPDATE t SET a = 1 WHERE", "expected a condition"),
        ("DELETE FROM t USING", "expected a relation"),
        ("DELETE FROM t RETURNING a UNION SELECT 1", "expected the end of the statement"),
        ("DELETE t", "expected FROM"),
        ("INSERT INTO t VALUES (1) ON CONFLICT DO UPDATE SET a = 1", "needs the columns of the key"),
        ("INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET b = 1, b = 2", "column 'b' is set twice"),
        ("CREATE TABLE t (a INT) ON CONFLICT DO NOTHING", "ON CONFLICT needs a primary key"),
        ("CREATE TABLE t (a INT PRIMARY KEY) APPEND ONLY", "rows of a table with a primary key are replaced"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(SqlError) as info:
        parse_statement(text)
    assert message in info.value.message
    assert info.value.span is not None
