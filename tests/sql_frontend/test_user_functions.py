"""CREATE FUNCTION: its clauses, and calls of what it made."""

from __future__ import annotations

import pytest

from planner.logical import schema_of
from planner.render import render
from sabot.errors import SqlError
from sql_frontend.binder import bind_function, bind_select
from sql_frontend.catalog import FunctionDefinition
from sql_frontend.duck import constant
from sql_frontend.parse import parse_statement
from sql_frontend.statements import CreateFunction, Drop
from tests.support.memory_catalog import MemoryCatalog

PLUS = "CREATE FUNCTION plus(a INT, b INT) RETURNS INT LANGUAGE SQL AS $$SELECT a + b$$"


def made(catalog: MemoryCatalog, sql: str) -> FunctionDefinition:
    statement = parse_statement(sql)
    assert isinstance(statement, CreateFunction)
    definition = bind_function(statement, catalog)
    catalog.known[definition.name] = definition
    return definition


def answer(catalog: MemoryCatalog, expression: str) -> object:
    return constant(f"({bind_select(f'SELECT {expression} AS x', catalog).sql})")


def test_the_clauses() -> None:
    statement = parse_statement(
        "CREATE OR REPLACE FUNCTION f(a INT, TIMESTAMP WITH TIME ZONE, DOUBLE PRECISION) "
        "RETURNS TIMESTAMP WITH TIME ZONE LANGUAGE python STRICT AS $$ return a $$ WITH (vectorized = false)"
    )
    assert isinstance(statement, CreateFunction)
    assert [(p.name, p.type) for p in statement.parameters] == [
        ("a", "INTEGER"),
        ("$2", "TIMESTAMP WITH TIME ZONE"),
        ("$3", "DOUBLE"),
    ]
    assert (statement.returns, statement.language) == ("TIMESTAMP WITH TIME ZONE", "python")
    assert (statement.strict, statement.vectorized, statement.or_replace) == (True, False, True)
    assert statement.body == " return a "
    dropped = parse_statement("DROP FUNCTION IF EXISTS f(INT, INT) CASCADE")
    assert isinstance(dropped, Drop)
    assert (dropped.kind, dropped.names) == ("function", ("f",))


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("CREATE FUNCTION f(a INT) LANGUAGE SQL AS $$SELECT a$$", "no RETURNS"),
        ("CREATE FUNCTION f(a INT) RETURNS INT AS $$SELECT a$$", "no LANGUAGE"),
        ("CREATE FUNCTION f(a INT) RETURNS INT LANGUAGE SQL", "no AS"),
        ("CREATE FUNCTION f(a INT) RETURNS INT LANGUAGE lua AS $$a$$", "language 'lua'"),
        ("CREATE FUNCTION f(a INT, a INT) RETURNS INT LANGUAGE SQL AS $$SELECT a$$", "stands twice"),
        ("CREATE FUNCTION f(a INT) RETURNS INT VOLATILE LANGUAGE SQL AS $$SELECT a$$", "VOLATILE"),
        ("CREATE FUNCTION f(a INT) RETURNS SETOF INT LANGUAGE SQL AS $$SELECT a$$", "returns rows"),
        ("CREATE FUNCTION f(a INT) RETURNS INT LANGUAGE SQL AS $$SELECT a$$ WITH (fast = true)", "unknown option"),
        ("CREATE FUNCTION f(a FOO) RETURNS INT LANGUAGE SQL AS $$SELECT 1$$", "type 'foo' does not exist"),
    ],
)
def test_what_is_missing_or_unknown(sql: str, message: str) -> None:
    with pytest.raises(SqlError, match=message):
        parse_statement(sql)


def test_a_body_takes_the_place_of_its_call() -> None:
    catalog = MemoryCatalog("CREATE TABLE t (a INT, s VARCHAR)")
    made(catalog, PLUS)
    made(catalog, "CREATE FUNCTION thrice(INT) RETURNS BIGINT LANGUAGE SQL RETURN plus($1, plus($1, $1))")
    assert answer(catalog, "plus(1, 2)") == 3
    assert answer(catalog, "thrice(plus(1, 1))") == 6
    assert answer(catalog, "plus('4', 1)") == 5
    plan = catalog.bind("SELECT thrice(a) AS x FROM t WHERE plus(a, 1) > 0")
    assert schema_of(plan.root)[0].type == "BIGINT"
    assert plan.functions == ()


def test_strict_gives_null_for_null() -> None:
    catalog = MemoryCatalog()
    made(catalog, "CREATE FUNCTION f(a INT) RETURNS INT STRICT LANGUAGE SQL AS $$SELECT coalesce(a, 1)$$")
    made(catalog, "CREATE FUNCTION g(a INT) RETURNS INT LANGUAGE SQL AS $$SELECT coalesce(a, 1)$$")
    assert answer(catalog, "f(NULL)") is None
    assert answer(catalog, "g(NULL)") == 1


@pytest.mark.parametrize(
    ("sql", "message", "place"),
    [
        ("CREATE FUNCTION f(a INT) RETURNS INT LANGUAGE SQL AS $$SELECT a + b$$", "column 'b' does not exist", "b"),
        ("CREATE FUNCTION f(a INT) RETURNS INT LANGUAGE SQL AS $$SELECT f(a)$$", "calls itself", "f(a)"),
        ("CREATE FUNCTION f(a INT) RETURNS INT LANGUAGE SQL AS $$SELECT $2$$", "no parameter", None),
        ("CREATE FUNCTION f(a INT) RETURNS INT LANGUAGE SQL AS $$SELECT a FROM t$$", "reads relations", None),
        ("CREATE FUNCTION f(a INT) RETURNS INT LANGUAGE SQL AS $$SELECT sum(a)$$", "aggregate", None),
        ("CREATE FUNCTION f(a INT) RETURNS DATE LANGUAGE SQL AS $$SELECT a$$", "its body INTEGER", None),
    ],
)
def test_a_body_is_checked_when_it_is_made(sql: str, message: str, place: str | None) -> None:
    with pytest.raises(SqlError, match=message) as raised:
        made(MemoryCatalog(), sql)
    span = raised.value.span
    assert span is not None
    if place is not None:
        assert sql[span.start : span.end] == place


def test_a_replaced_function_must_not_call_itself_through_another() -> None:
    catalog = MemoryCatalog()
    made(catalog, PLUS)
    made(catalog, "CREATE FUNCTION g(a INT) RETURNS INT LANGUAGE SQL AS $$SELECT plus(a, 1)$$")
    with pytest.raises(SqlError, match="calls itself"):
        made(catalog, "CREATE OR REPLACE FUNCTION plus(a INT, b INT) RETURNS INT LANGUAGE SQL AS $$SELECT g(a)$$")


def test_calls_are_checked() -> None:
    catalog = MemoryCatalog()
    made(catalog, PLUS)
    with pytest.raises(SqlError, match="takes 2 arguments, 1 given"):
        catalog.bind("SELECT plus(1) AS x")
    with pytest.raises(SqlError, match="'plus' is a function"):
        catalog.bind("SELECT * FROM plus")


def test_python_is_a_call_and_goes_with_the_plan() -> None:
    catalog = MemoryCatalog("CREATE TABLE t (a INT, s VARCHAR)")
    definition = made(catalog, "CREATE FUNCTION py(x BIGINT) RETURNS DOUBLE PRECISION LANGUAGE PYTHON AS $$return x$$")
    plan = catalog.bind("SELECT py(a) + 1 AS x FROM t")
    assert plan.functions == (definition.spec,)
    assert schema_of(plan.root)[0].type == "DOUBLE"
    assert definition.spec.name in render(plan.root.exprs[0].expr).lower()  # type: ignore[union-attr]
