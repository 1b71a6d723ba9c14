"""What a SELECT's expressions give, and what is refused: maps, rows, series, times by a zone's clocks, COLLATE."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import duckdb
import pytest

from sabot.errors import SqlError
from sql_frontend.binder import bind_insert, bind_select
from sql_frontend.parse import parse_statement
from tests.support.memory_catalog import MemoryCatalog


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        opened.execute("SET integer_division = true")
        yield opened


def rows(con: duckdb.DuckDBPyConnection, query: str, zone: str = "UTC") -> list[tuple[Any, ...]]:
    con.execute(f"SET TimeZone = '{zone}'")
    return con.execute(bind_select(query, MemoryCatalog()).sql).fetchall()


def value(con: duckdb.DuckDBPyConnection, expression: str, zone: str = "UTC") -> Any:
    ((found,),) = rows(con, f"SELECT {expression}", zone)
    return found


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("MAP {'a': 1, 'b': 2}", {"a": 1, "b": 2}),
        ("map {1: 'x', 2: 'y'}[2]", "y"),
        ("MAP {'a': 1}['b']", None),
        ("MAP {'a': MAP {1: ARRAY[5, 6][2]}}['a'][1]", 6),
        ("MAP {'a': CASE WHEN 1 < 2 THEN {'x': 3} END}['a'].x", 3),
        ("map(['a', 'b'], [1, 2])['b']", 2),
        ("MAP {}::MAP(VARCHAR, INTEGER)", {}),
        ("CAST(map() AS MAP(VARCHAR, INT[]))", {}),
        ("'{a={1=2}}'::MAP(VARCHAR, MAP(INT, INT))['a'][1]", 2),
        ("(ARRAY[MAP {'a': 1}])[1]['a']", 1),
        ("cardinality(ARRAY[MAP {'a': 1, 'b': 2}])", 1),
        ("map_keys(MAP {'a': 1})", ["a"]),
        ("map_values(MAP {'a': 1})", [1]),
        ("cardinality(MAP {'a': 1, 'b': 2})", 2),
        ("map_length(MAP {'a': 1})", 1),
        ("map_access(MAP {'a': 1}, 'a')", 1),
        ("map_contains(MAP {'a': 1}, 'a')", True),
        ("map_from_key_values(ARRAY['a'], ARRAY[1])", {"a": 1}),
        ("map_insert(MAP {'a': 1}, 'b', 2)", {"a": 1, "b": 2}),
        ("map_delete(MAP {'a': 1, 'b': 2}, 'a')", {"b": 2}),
        ("map_cat(MAP {'a': 1}, MAP {'a': 2})", {"a": 2}),
    ],
)
def test_maps(con: duckdb.DuckDBPyConnection, expression: str, expected: object) -> None:
    assert value(con, expression) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("ROW(1, 'a')::STRUCT(n INTEGER, s VARCHAR)", {"n": 1, "s": "a"}),
        ("CAST(ROW('7', NULL) AS STRUCT<n INTEGER, s VARCHAR>)", {"n": 7, "s": None}),
        ("(1, ('t', '\\x61'))::STRUCT<a BIGINT, b STRUCT<c BOOLEAN, d BYTEA>>", {"a": 1, "b": {"c": True, "d": b"a"}}),
        ("ARRAY[ROW(1, 'a'), ROW(2, NULL)]::STRUCT<n INT, s VARCHAR>[]", [{"n": 1, "s": "a"}, {"n": 2, "s": None}]),
        ("{'s': 'a', 'n': '1'}::STRUCT<n INT, s VARCHAR>", {"n": 1, "s": "a"}),
        ("(CASE WHEN 1 > 2 THEN ROW(1, 'a') END)::STRUCT<n INT, s VARCHAR>", None),
        ("(CASE WHEN 1 < 2 THEN ROW(1, 'a') END)::STRUCT<n INT, s VARCHAR>", {"n": 1, "s": "a"}),
        ("(ROW(1, 'a')::STRUCT<n INT, s VARCHAR>).s", "a"),
    ],
)
def test_rows_are_cast_by_place(con: duckdb.DuckDBPyConnection, expression: str, expected: object) -> None:
    assert value(con, expression) == expected


def test_columns_of_rows_are_cast_by_place(con: duckdb.DuckDBPyConnection) -> None:
    source = "(VALUES (ROW(1, 'a'), ARRAY[ROW(2, 'b')]), (NULL, NULL)) AS v(r, l)"
    found = rows(con, f"SELECT r::STRUCT<n BIGINT, s VARCHAR>, l::STRUCT<n BIGINT, s VARCHAR>[] FROM {source}")
    assert found == [({"n": 1, "s": "a"}, [{"n": 2, "s": "b"}]), (None, None)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELECT * FROM unnest(ARRAY[5, 6]) WITH ORDINALITY", [(5, 1), (6, 2)]),
        ("SELECT ordinality, g FROM generate_series(5, 6) WITH ORDINALITY AS g", [(1, 5), (2, 6)]),
        ("SELECT b, a FROM generate_series(5, 6) WITH ORDINALITY AS t(a, b)", [(1, 5), (2, 6)]),
        ("SELECT * FROM (VALUES (2)) v(x), generate_series(1, x) WITH ORDINALITY", [(2, 1, 1), (2, 2, 2)]),
        ("SELECT * FROM (VALUES (2)) v(x), LATERAL generate_series(1, x) WITH ORDINALITY t(a)", [(2, 1, 1), (2, 2, 2)]),
        ("SELECT * FROM (VALUES (2)) v(x), LATERAL unnest(ARRAY[x]) WITH ORDINALITY", [(2, 2, 1)]),
        ("SELECT * FROM (VALUES (2)) v(x) LEFT JOIN LATERAL generate_series(3, x) s ON true", [(2, None)]),
        ("SELECT * FROM (VALUES (-2)) v(x), LATERAL abs(x) AS a", [(-2, 2)]),
        ("SELECT e.value, e.key FROM (SELECT MAP {'a': 1} AS m) t, unnest(map_entries(m)) AS e", [(1, "a")]),
    ],
)
def test_functions_of_from(con: duckdb.DuckDBPyConnection, query: str, expected: list[tuple[object, ...]]) -> None:
    assert rows(con, query) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("date_trunc('hour', TIMESTAMPTZ '2023-11-05 08:40:00Z')", "2023-11-05 01:00:00-07"),
        ("date_trunc('hour', TIMESTAMPTZ '2023-11-05 09:40:00Z')", "2023-11-05 01:00:00-08"),
        ("date_trunc('day', TIMESTAMPTZ '2023-11-05 19:40:00Z')", "2023-11-05 00:00:00-07"),
        ("date_trunc('hour', TIMESTAMPTZ '2023-04-01 15:58:00Z', 'Australia/South')", "2023-04-01 08:30:00-07"),
        ("TIMESTAMPTZ '2023-11-05 08:40:00Z' + INTERVAL '20 minutes'", "2023-11-05 01:00:00-08"),
        ("TIMESTAMPTZ '2023-11-05 08:40:00Z' + INTERVAL '0 days'", "2023-11-05 01:40:00-07"),
        ("TIMESTAMPTZ '2023-11-04 01:40:00-07' + INTERVAL '1 day'", "2023-11-05 01:40:00-08"),
        ("INTERVAL '1 day 1 hour' + TIMESTAMPTZ '2023-11-04 00:40:00-07'", "2023-11-05 01:40:00-07"),
        ("TIMESTAMPTZ '2023-11-06 01:40:00-08' - INTERVAL '1 day'", "2023-11-05 01:40:00-08"),
        ("TIMESTAMPTZ '2023-03-11 02:30:00-08' + INTERVAL '1 day'", "2023-03-12 03:30:00-07"),
        ("TIMESTAMPTZ '2023-10-05 01:40:00-07' + INTERVAL '1 month'", "2023-11-05 01:40:00-08"),
    ],
)
def test_clocks_that_are_set(con: duckdb.DuckDBPyConnection, expression: str, expected: str) -> None:
    assert value(con, f"({expression})::VARCHAR", "US/Pacific") == expected + ":00"


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (
            "range(TIMESTAMP '2021-01-01', '2020-10-01', '1 month'::interval - '60 days')",
            ["2021-01-01 00", "2020-12-03 00", "2020-11-04 00", "2020-10-05 00"],
        ),
        (
            "generate_series(DATE '2020-01-01', DATE '2020-01-02', '1 day'::interval - '12:00:00')",
            ["2020-01-01 00", "2020-01-01 12", "2020-01-02 00"],
        ),
        (
            "generate_series(TIMESTAMP '2020-01-01', '2020-01-01 12:00', '1 day -12 hours')",
            ["2020-01-01 00", "2020-01-01 12"],
        ),
        ("generate_series(TIMESTAMP '2021-01-01', '2021-02-01', '1 month'::interval - '60 days')", []),
        ("range(TIMESTAMP '2020-01-01', '2020-01-03', INTERVAL '1 day')", ["2020-01-01 00", "2020-01-02 00"]),
        ("generate_series(TIMESTAMP '2020-01-01', NULL, '1 month'::interval - '60 days')", []),
        ("generate_series(TIMESTAMP '2020-01-01', '2021-01-01', NULL::interval)", []),
        (
            "generate_series(TIMESTAMPTZ '2020-01-01', '2019-11-01', '1 month'::interval - '60 days')",
            ["2020-01-01 00", "2019-12-03 00", "2019-11-04 00"],
        ),
    ],
)
def test_series_of_times(con: duckdb.DuckDBPyConnection, call: str, expected: list[str]) -> None:
    assert [str(row[0])[:13] for row in rows(con, f"SELECT * FROM {call}")] == expected


def test_a_series_without_a_direction_is_an_error(con: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(duckdb.Error, match="now forwards, now backwards"):
        rows(con, "SELECT * FROM range(TIMESTAMP '2020-01-01', '2021-01-01', '1 month'::interval - '29 days')")


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("(ARRAY[5, 6, 7])['2'::int]", 6),
        ("(ARRAY[5, 6, 7])[1 + 1]", 6),
        ("(ARRAY[5, 6, 7])[length('ab')]", 6),
        ("1 + '2'", 3),
        ("'10' COLLATE \"C\" - 1", 9),
        ("(TIMESTAMP '2020-01-02' - '2020-01-01')::VARCHAR", "1 day"),
        ("1.5 + '2.25' = 3.75", True),
        ("'on' IS TRUE", True),
        ("NULL IS UNKNOWN", True),
        ("(NULL > 1) IS NOT UNKNOWN", False),
        ("('a' COLLATE \"POSIX\") < 'b'", True),
        ("ROW(TRUE, NULL, '', 'a b', 'q\"x', ARRAY[1, 2], ROW(1, 'z'))::text", '(t,,"","a b","q""x","{1,2}","(1,z)")'),
        ("(CASE WHEN 1 < 2 THEN ROW(1, 'a') END)::text", "(1,a)"),
        ("(CASE WHEN 1 > 2 THEN ROW(1, 'a') END)::text", None),
        ("'x' || ROW(1, 2)", "x(1,2)"),
        ("0.5 ^ 2000", 0.0),
        ("'infinity'::float8 ^ -3", 0.0),
        ("extract(millisecond from TIMESTAMP '2020-01-01 00:00:01.123456')", 1123.456),
        ("extract(nanosecond from TIMESTAMP '2020-01-01 00:00:01.123456')", 1_123_456_000),
        ("date_part('second', INTERVAL '1.5 s')", 1.5),
    ],
)
def test_values(con: duckdb.DuckDBPyConnection, expression: str, expected: object) -> None:
    assert value(con, expression) == expected


@pytest.mark.parametrize(
    ("query", "state"),
    [
        ("SELECT MAP {}", "42P18"),
        ("SELECT MAP {'a'}", "42601"),
        ("SELECT ROW(1, 2)::STRUCT<a INT>", "42846"),
        ("SELECT * FROM generate_series(1, 2) WITH ORDINALITY AS t(a, b, c)", "42P10"),
        ("SELECT * FROM unnest(ARRAY[1]) AS t(a, b)", "42P10"),
        ("SELECT 1 IS UNKNOWN", "42804"),
        ("SELECT 'a' IS UNKNOWN", "22P02"),
        ("SELECT NULL + '1'", "42725"),
        ("SELECT '1' - '2'", "42725"),
        ("SELECT 1 + 'x'", "22P02"),
        ("SELECT 1 LIMIT '1'::jsonb", "42804"),
        ("SELECT 1 LIMIT NULL + '1'", "42725"),
        ("SELECT 'a' COLLATE \"c\"", "42704"),
        ('SELECT 1 COLLATE "C"', "42804"),
        ("SELECT varchar 'a' COLLATE \"C\"", "42P22"),
    ],
)
def test_refusals(query: str, state: str) -> None:
    with pytest.raises(SqlError) as caught:
        bind_select(query, MemoryCatalog())
    assert caught.value.sqlstate == state
    assert caught.value.span is not None


def test_names_of_maps() -> None:
    assert bind_select("SELECT MAP {'a': 1}, map(['a'], [1])", MemoryCatalog()).columns == ("map", "map")


def test_double_precision_underflows(con: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(duckdb.Error, match="underflow"):
        value(con, "0.5::float8 ^ 2000")


def test_an_array_of_nulls_is_of_text() -> None:
    with pytest.raises(SqlError, match="an array of NULLs alone is of text") as caught:
        bind_insert("VALUES (ARRAY[NULL])", MemoryCatalog(), ["DOUBLE[]"])
    assert caught.value.hint == "cast it: ARRAY[NULL]::DOUBLE[]"
    for cast in ("ARRAY[NULL]::DOUBLE[]", "ARRAY[NULL::DOUBLE]", "NULL"):
        assert bind_insert(f"VALUES ({cast})", MemoryCatalog(), ["DOUBLE[]"]).startswith("VALUES")
    assert bind_insert("VALUES (ARRAY[NULL])", MemoryCatalog(), ["VARCHAR[]"]).startswith("VALUES")


def test_collations_of_columns() -> None:
    parse_statement('CREATE TABLE t (a TEXT COLLATE "C" NOT NULL, b TEXT[] DEFAULT NULL COLLATE "POSIX")')
    for column, state in (
        ('a TEXT COLLATE "c"', "42704"),
        ("a TEXT COLLATE C", "42704"),
        ('a INT COLLATE "C"', "42804"),
    ):
        with pytest.raises(SqlError) as caught:
            parse_statement(f"CREATE TABLE t ({column})")
        assert caught.value.sqlstate == state
