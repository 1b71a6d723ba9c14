"""Columns that only DuckDB cannot call so can be called so."""

from __future__ import annotations

from decimal import Decimal

import duckdb
import pytest

from sabot.errors import SqlError
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


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELECT '{{1,2},{3,NULL}}'::INT[][]", [([[1, 2], [3, None]],)]),
        (r"""SELECT '{"a {b}",c}'::varchar[]""", [(["a {b}", "c"],)]),
        (r"SELECT '\xDe ad'::bytea, 'a\101\\'::bytea, 'é'::bytea", [(b"\xde\xad", b"aA\\", "é".encode())]),
        (r"SELECT e'\u003f' || 'x'", [("?x",)]),
        ("SELECT (t.s).* FROM (SELECT {'a': 1, 'b': 2} AS s) t", [(1, 2)]),
        ("SELECT (s).b.* FROM (SELECT {'a': 1, 'b': {'c': 3}} AS s) t", [(3,)]),
        ("SELECT list_transform([1, 2], |x| x * 2)", [([2, 4],)]),
        ("SELECT first_value(v ORDER BY v DESC) FROM (VALUES (1), (2)) t(v)", [(2,)]),
        ("SELECT last_value(v) OVER (ORDER BY v) FROM (VALUES (1)) t(v)", [(1,)]),
        (
            "SELECT 1.123456789::numeric, CAST(2 AS decimal) + numeric '0.5'",
            [(Decimal("1.1234567890"), Decimal("2.5"))],
        ),
        (
            "SELECT epoch(window_start), epoch(window_end) FROM tumble(r, t, interval '10' second) ORDER BY 1",
            [(-10, 0), (10, 20)],
        ),
        (
            (
                "SELECT epoch(w.window_start), n FROM hop((SELECT t, 1 AS n FROM r), t, interval '5' second, "
                "interval '10' second) w ORDER BY 1"
            ),
            [(-10, 1), (-5, 1), (5, 1), (10, 1)],
        ),
    ],
)
def test_other_ways_of_writing(query: str, expected: list[tuple[object, ...]]) -> None:
    with duckdb.connect() as con:
        con.execute("SET integer_division = true")
        con.execute("CREATE TABLE r AS SELECT make_timestamp(s * 1000000) AS t FROM (VALUES (-1), (14), (NULL)) v(s)")
        assert con.sql(for_duckdb(query)).fetchall() == expected


def test_a_window_of_odd_size_and_a_bad_literal_are_refused() -> None:
    with duckdb.connect() as con, pytest.raises(duckdb.Error, match="must be a multiple"):
        con.execute("CREATE TABLE r AS SELECT TIMESTAMP '2020-01-01' AS t")
        con.sql(for_duckdb("SELECT * FROM hop(r, t, interval '3' second, interval '10' second)")).fetchall()
    with pytest.raises(SqlError, match="is not a value of BYTEA"):
        for_duckdb(r"SELECT '\x1'::bytea")
