"""Columns that only DuckDB cannot call so can be called so."""

from __future__ import annotations

import duckdb
import pytest

from sql_frontend.select_text import for_duckdb


@pytest.mark.parametrize(
    "query",
    [
        "SELECT min(at), max(AT) FROM t WHERE at > '2019-01-01'",
        "SELECT at FROM t ORDER BY at",
        "SELECT at.at, 'at', \"at\" /* at */ FROM t AS at GROUP BY at",
        "SELECT at AT TIME ZONE 'UTC' AS at FROM t -- at",
        "WITH q AS (SELECT at FROM t) SELECT at, at::DATE FROM q",
    ],
)
def test_at_is_a_name(query: str) -> None:
    with duckdb.connect() as con:
        con.execute("CREATE TABLE t (\"at\" TIMESTAMP); INSERT INTO t VALUES ('2020-01-01')")
        with pytest.raises(duckdb.Error):
            con.sql(query).to_arrow_table()
        assert con.sql(for_duckdb(query)).to_arrow_table().num_rows == 1


@pytest.mark.parametrize("query", ["SELECT 1", "SELECT 'at' -- at", "SELECT x AT TIME ZONE 'UTC' FROM t"])
def test_all_else_stays_as_it_is(query: str) -> None:
    assert for_duckdb(query) == query
