"""What a SELECT may not do, and where DuckDB's complaints point."""

from __future__ import annotations

import duckdb
import pytest

from sabot.errors import SqlError
from sabotd.results import query_error
from sabotd.select_guard import check_select, sql_error


@pytest.fixture
def con() -> duckdb.DuckDBPyConnection:
    opened = duckdb.connect()
    opened.execute("CREATE TABLE bids (auction BIGINT, price BIGINT)")
    return opened


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM duckdb_settings()",
        "select current_setting('temp_directory')",
        "SELECT * FROM duckdb_databases",
        'SELECT * FROM "pragma_database_list"',
        "SELECT * FROM query('SELECT 1')",
    ],
)
def test_the_server_is_not_told_of(con: duckdb.DuckDBPyConnection, sql: str) -> None:
    with pytest.raises(SqlError, match="is not available") as caught:
        check_select(con, sql)
    assert caught.value.sqlstate == "42501"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT query FROM (SELECT 1 AS query)",
        "SELECT 'duckdb_settings()' -- current_setting('x')",
        "FROM bids",
        "VALUES (1)",
    ],
)
def test_innocent_ones_pass(con: duckdb.DuckDBPyConnection, sql: str) -> None:
    check_select(con, sql)


@pytest.mark.parametrize(
    "sql", ["INSERT INTO bids VALUES (1, 2)", "SET threads = 4", "SELECT 1; SELECT 2", "ATTACH 'x.db'"]
)
def test_only_one_select(con: duckdb.DuckDBPyConnection, sql: str) -> None:
    with pytest.raises(SqlError):
        check_select(con, sql)


@pytest.mark.parametrize(
    ("sql", "word", "hint"),
    [
        ("SELECT auction,\n  prise FROM bids", "prise", "did you mean 'price'?"),
        ("SELECT b.prise FROM bids b", "prise", "did you mean 'price'?"),
        ("SELECT countt(*) FROM bids", "countt", "did you mean 'count'?"),
        ("SELECT * FROM bidz", "bidz", "did you mean 'bids'?"),
        ("SELECT " + "auction + " * 40 + "prise FROM bids", "prise", "did you mean 'price'?"),
        ("SELECT auction FORM bids", "bids", None),
    ],
)
def test_errors_point_at_the_word(con: duckdb.DuckDBPyConnection, sql: str, word: str, hint: str | None) -> None:
    with pytest.raises(duckdb.Error) as caught:
        con.sql(sql).to_arrow_table()
    error = sql_error(caught.value, sql, ["auction", "price", "bids"])
    assert isinstance(error, SqlError)
    assert error.span is not None
    assert sql[error.span.start : error.span.end] == word
    if hint is not None:
        assert error.hint == hint


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT", "SELECT clause without selection list"),
        ("SELECT date 'x'", 'invalid date field format: "x", expected format is (YYYY-MM-DD)'),
        ("SELECT 1 // 0", "division by zero"),
    ],
)
def test_errors_are_worded_as_ours_are(con: duckdb.DuckDBPyConnection, sql: str, message: str) -> None:
    with pytest.raises(duckdb.Error) as caught:
        con.sql(sql).to_arrow_table()
    assert sql_error(caught.value, sql, []).message == message
    assert query_error(caught.value).message == message
