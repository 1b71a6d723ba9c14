"""What a SELECT may not do, and where DuckDB's complaints point."""

from __future__ import annotations

import re

import duckdb
import pytest

from sabot.errors import SqlError
from sabotd.results import query_error
from sabotd.select_guard import FORBIDDEN, check_select, sql_error


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
        "SELECT * FROM query/* a comment */('SELECT 1')",
        "SELECT * FROM query -- a comment\n ('SELECT 1')",
        "SELECT E'\\'', * FROM duckdb_settings() --'",
        "SELECT a$$, * FROM (SELECT 1 AS a$$), duckdb_settings() WHERE '$$' <> ''",
        "SELECT 1 --\r , current_setting('threads')",
        "SELECT ('threads').current_setting()",
        "SELECT (SELECT max(x) FROM (SELECT x FROM bids WHERE EXISTS (FROM pg_catalog.pg_settings)) t(x))",
        "WITH t AS (FROM duckdb_secrets()) SELECT * FROM bids",
        "SELECT * FROM checkpoint()",
        "SELECT count(*) FILTER (WHERE current_setting('threads') > '1') OVER () FROM bids",
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
        "SELECT checkpoint FROM (SELECT 1 AS checkpoint)",
        "SELECT unnest([1, 2]), sum(price) OVER (PARTITION BY auction) FROM bids QUALIFY row_number() OVER () < 3",
        "FROM (PIVOT bids ON auction IN (1, 2) USING sum(price))",
        "FROM bids a ASOF JOIN bids b ON a.auction = b.auction AND a.price >= b.price",
        "SELECT list_transform([1], x -> x + $1)",
    ],
)
def test_innocent_ones_pass(con: duckdb.DuckDBPyConnection, sql: str) -> None:
    check_select(con, sql)


def test_no_function_over_tables_is_overlooked(con: duckdb.DuckDBPyConnection) -> None:
    """A new DuckDB may bring one that has to be judged: add it here or to FORBIDDEN."""
    harmless = re.compile(
        r"read_\w+|parquet_\w+|sniff_csv|glob"  # refused as access to files
        r"|generate_series|range|repeat|repeat_row|unnest|json_each|json_tree|summary|test_\w+"
        r"|show|histogram|histogram_values|icu_calendar_names|pg_timezone_names"
        r"|pragma_(collations|platform|metadata_info|show|storage_info|table_info|user_agent|version)"
        r"|duckdb_(available_metrics|columns|connection_count|constraints|coordinate_systems|dependencies|dialects"
        r"|eviction_queues|functions|grammar_extensions|indexes|keywords|memory|optimizers|schemas|sequences|table_sample"
        r"|tables|triggers|types|variables|views)"
    )
    names = {
        n
        for (n,) in con.execute(
            "SELECT function_name FROM duckdb_functions() WHERE function_type IN ('table', 'pragma', 'table_macro')"
        ).fetchall()
    }
    told = {n for n in names if n not in FORBIDDEN and not harmless.fullmatch(n)}
    callable_ = {n for n in told if _callable(con, n)}
    assert callable_ == set()


def _callable(con: duckdb.DuckDBPyConnection, name: str) -> bool:
    """Whether a name of DuckDB's list is one that FROM takes; pragmas are not."""
    try:
        con.execute(f"SELECT * FROM {name}()")
    except duckdb.CatalogException:
        return False
    except duckdb.Error:
        pass
    return True


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
