"""Expressions have PostgreSQL's values; what fails on a row is NULL there and nowhere else."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from planner.logical import schema_of
from sabot.errors import SqlError
from sabot.schema import arrow_schema
from tests.support.batch_meaning import batch_answer
from tests.support.memory_catalog import MemoryCatalog

DDL = """CREATE TABLE r (i INT, big BIGINT, s VARCHAR, d DOUBLE PRECISION, n NUMERIC, ts TIMESTAMP, tz TIMESTAMPTZ,
  j JSONB, st STRUCT<a INT>, day DATE)"""
ROW = {
    "i": 7,
    "big": 2**62,
    "s": "a/b/c",
    "d": 2.5,
    "n": Decimal("12.34"),
    "ts": datetime(2024, 2, 29, 13, 5, 9, 250_000),
    "tz": datetime(2024, 2, 29, 13, 5, 9, tzinfo=UTC),
    "j": '{"a.b": 1, "k": {"x": "y", "1": [10, 20]}, "n": null, "q\\"r": 3}',
    "st": {"a": 1},
    "day": date(2024, 2, 29),
}


def value(expression: str) -> object:
    catalog = MemoryCatalog(DDL)
    plan = catalog.bind(f"SELECT {expression} AS x FROM r")
    table = pa.Table.from_pylist([ROW], schema=arrow_schema(catalog.schema("r")))
    (row,) = batch_answer(plan.root, {"r": table})
    return row[0]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("i / 2", 3),
        ("-i / 2", -3),
        ("i % 4", 3),
        ("-i % 4", -3),
        ("mod(-i, 4)", -3),
        ("i / 2.0", 3.5),
        ("i::numeric / 2", 3.5),
        ("d / 2", 1.25),
        ("big / 3", 2**62 // 3),
        ("0.5 * n", Decimal("6.17")),
        ("round(d)", 2.0),
        ("round(3.5::double precision)", 4.0),
        ("round(2.5)", Decimal(3)),
        ("round(n, 1)", Decimal("12.3")),
        ("substring(s from 3 for 1)", "b"),
        ("substring(s, 0, 3)", "a/"),
        ("substring(s from -1 for 3)", "a"),
        ("substr(s, -5)", "a/b/c"),
        ("split_part(s, '/', 2)", "b"),
        ("length('ü')", 1),
        ("octet_length('ü')", 2),
        ("length(s::bytea)", 5),
        ("octet_length(s::bytea)", 5),
        ("position('b' in s)", 3),
        ("strpos(s, 'z')", 0),
        ("left(s, -1)", "a/b/"),
        ("lpad('7', 3)", "  7"),
        ("lpad('7', 3, '0')", "007"),
        ("btrim('xxax', 'x')", "a"),
        ("concat(s, NULL, 1)", "a/b/c1"),
        ("concat_ws('-', 'a', NULL, 'b')", "a-b"),
        ("'a' || NULL", None),
        ("replace(s, '/', '')", "abc"),
        ("regexp_replace(s, '[ab]', 'X')", "X/b/c"),
        ("regexp_replace(s, '[ab]', 'X', 'g')", "X/X/c"),
        ("s ~ '^a'", True),
        ("s !~ 'A'", True),
        ("s ~* '^A'", True),
        ("s LIKE 'a%c'", True),
        ("s ILIKE 'A%'", True),
        ("s LIKE ANY (ARRAY['x', 'a%'])", True),
        ("s NOT LIKE ALL (ARRAY['x', 'a%'])", False),
        ("s LIKE ALL (ARRAY['a%', NULL])", None),
        ("NOT s ILIKE ANY (ARRAY['x', 'Y%'])", True),
        ("3 > ALL (ARRAY[1, 2])", True),
        ("2 = ANY (ARRAY[1, NULL])", None),
        ("2 <> ALL (ARRAY[1, NULL])", None),
        ("2 <= SOME ('{1,2}')", True),
        ("2 < ANY (NULL::int[])", None),
        ("coalesce(NULL, NULL, i)", 7),
        ("greatest(1, NULL, 3)", 3),
        ("nullif(i, 7)", None),
        ("abs(-i)", 7),
        ("sqrt(-1)", None),
        ("ln(0)", None),
        ("log(100)", 2.0),
        ("div(i, 2)", 3),
        ("div(i, 0)", None),
        ("power(2, 10)", 1024.0),
        ("2 ^ 3", 8.0),
        ("date_trunc('month', ts)", datetime(2024, 2, 1)),
        ("date_trunc('week', ts)", datetime(2024, 2, 26)),
        ("extract(second from ts)", 9.25),
        ("extract(epoch from TIMESTAMP '1970-01-01 00:00:01.25')", 1.25),
        ("date_part('dow', ts)", 4),
        ("extract(doy from day)", 60),
        ("to_char(ts, 'YYYY-MM-DD')", "2024-02-29"),
        ("to_char(ts, 'HH:mm')", "01:02"),
        ("to_char(ts, 'yyyy/mm/dd HH24:MI:SS.MS')", "2024/02/29 13:05:09.250"),
        ("to_char(ts, 'Dy DD Mon, HH12:MI AM')", "Thu 29 Feb, 01:05 PM"),
        ('to_char(ts, \'"at" HH24"h" 100%\')', "at 13h 100%"),
        ("to_char(ts, 'FMMonth IYYY-IW')", "February 2024-09"),
        ("to_char(ts, 'J SSSSS Y,YYY')", "2460370 47109 2,024"),
        # as PostgreSQL 15 says
        ("to_char(1234567.895::numeric, '9,999,999.99')", " 1,234,567.90"),
        ("to_char(-1234.5::numeric, '9999')", "-1235"),
        ("to_char(2.5::float8, '9')", " 2"),
        ("to_char(123456789012345678.25::numeric, 'FM999,999,999,999,999,999.99')", "123,456,789,012,345,678.25"),
        ("to_char(-12345, '999')", "-###"),
        ("to_char(12345, 'FM9.99')", "#.##"),
        ("to_char(-0.001::numeric, '9.99')", "  .00"),
        ("to_char(0, 'FM9.99')", "0."),
        ("regexp_match('abc123', '([a-z]+)(\\d+)')", ("abc", "123")),
        ("regexp_match('a(1)', '[a(]\\((?:x)?(\\d)')", ("1",)),
        ("regexp_instr(nullif('a', 'a'), 'b')", None),
        ("scale(nullif(1.5, 1.5))", None),
        ("j#>>'{k,1,1}'", "20"),
        ("j#>>'{k,\"1\",-1}'", "20"),
        ("j#>'{k,1}'", "[10,20]"),
        ("NULL::int[] || NULL::int[]", None),
        ("array_cat(NULL::int[], ARRAY[i])", (7,)),
        ("(i, NULL) = (7, 'a')", None),
        ("(i, NULL) = (8, 'a')", False),
        ("(i, s) = (7, 'a/b/c')", True),
        ("ROW(i, NULL) <> ROW(7, 'a')", None),
        ("(i, NULL) <> (8, 'a')", True),
        ("(i, 1) < (7, 2)", True),
        ("(NULL, 1) < (7, 2)", None),
        ("(i, NULL, 3) > (6, 2, 1)", True),
        ("(i, NULL, 3) >= (7, 2, 1)", None),
        ("(i, 2, 3) >= (7, 2, 3)", True),
        ("to_timestamp('2024-03-01 10:20', 'YYYY-MM-DD HH24:MI')", datetime(2024, 3, 1, 10, 20, tzinfo=UTC)),
        ("to_timestamp('never', 'YYYY-MM-DD')", None),
        ("to_timestamp(0.5)", datetime(1970, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)),
        ("to_timestamp('2020-10-10 00:00:01')", datetime(2020, 10, 10, 0, 0, 1)),
        ("to_date('01.02.2024', 'DD.MM.YYYY')", date(2024, 2, 1)),
        ("ts - INTERVAL '1 hour 30 minutes'", datetime(2024, 2, 29, 11, 35, 9, 250_000)),
        ("ts + INTERVAL '1:30' HOUR TO MINUTE", datetime(2024, 2, 29, 14, 35, 9, 250_000)),
        ("ts AT TIME ZONE 'UTC'", datetime(2024, 2, 29, 13, 5, 9, 250_000, tzinfo=UTC)),
        ("tz AT TIME ZONE 'UTC'", datetime(2024, 2, 29, 13, 5, 9)),
        ("day + 1", date(2024, 3, 1)),
        ("day - DATE '2024-02-01'", 28),
        ("TIMESTAMP '2020-01-01 00:00:01'", datetime(2020, 1, 1, 0, 0, 1)),
        ("j->'k'->>'x'", "y"),
        ("j->'k'->'x'", '"y"'),
        ("j->>'a.b'", "1"),
        ("j->>'q\"r'", "3"),
        ("j->'k'->>'1'", "[10,20]"),
        ("j->'k'->'1'->1", "20"),
        ("j->'k'->'1'->>-1", "20"),
        ("j#>>'{k,x}'", "y"),
        ("j->>'n'", None),
        ("j->>'missing'", None),
        ("(j->>'a.b')::int + 1", 2),
        ("coalesce(j->>'n', j->'k'->>'x')", "y"),
        ("jsonb_array_length(j->'k'->'1')", 2),
        ("(st).a", 1),
        ("r.st.a", 1),
        ("ARRAY[1, i][2]", 7),
        ("ARRAY[1, i]['2'::int]", 7),
        ("MAP {'a': i, s: 2}['a']", 7),
        ("(i > NULL) IS UNKNOWN", True),
        ("(ROW(i, s)::STRUCT<n BIGINT, t VARCHAR>).t", "a/b/c"),
        ("date_trunc('hour', TIMESTAMPTZ '2023-11-05 08:40Z', 'US/Pacific')", datetime(2023, 11, 5, 8, tzinfo=UTC)),
        ("date_trunc('hour', TIMESTAMPTZ '2023-11-05 09:40Z', 'US/Pacific')", datetime(2023, 11, 5, 9, tzinfo=UTC)),
        ("date_trunc('day', TIMESTAMPTZ '2023-11-05 20:00Z', 'US/Pacific')", datetime(2023, 11, 5, 7, tzinfo=UTC)),
        ("i = ANY(ARRAY[1, 7])", True),
        ("CASE WHEN i > 5 THEN 'x' END", "x"),
        ("'5'::int", 5),
        ("n::int", 12),
        ("i::boolean", True),
        ("'t'::varchar(10)", "t"),
        ("NULL", None),
        ("1e3", 1000.0),
        ("1.10", Decimal("1.10")),
    ],
)
def test_values(expression: str, expected: object) -> None:
    found = value(expression)
    assert found == expected
    assert (found is None) == (expected is None)


@pytest.mark.parametrize(
    "expression",
    [
        "i / (i - 7)",
        "i % (i - 7)",
        "d / (i - 7)",
        "n / (i - 7)",
        "s::int",
        "s::timestamp",
        "big * 4",
        "big + big",
        "(big * 4)::varchar",
        "2147483647::int + i",
        "j->'k'->>'x' || (big * 4)::text",
        "chr(-i)",
        "MAP {i: 1, 7: 2}",
        "make_date(2024, 13, i)",
        "1 / 0",
        "(s || '{')::jsonb->>'a'",
    ],
)
def test_what_fails_is_null(expression: str) -> None:
    assert value(expression) is None


def test_a_failing_row_leaves_the_others_alone() -> None:
    catalog = MemoryCatalog("CREATE TABLE f (s VARCHAR, x BIGINT, y BIGINT)")
    plan = catalog.bind("SELECT s::int AS i, x / y AS q, x * y AS p FROM f WHERE x * y > 0 OR y = 0")
    rows = [{"s": "1", "x": 6, "y": 3}, {"s": "bad", "x": 2**62, "y": 0}, {"s": "3", "x": 2**62, "y": 2**62}]
    table = pa.Table.from_pylist(rows, schema=arrow_schema(catalog.schema("f")))
    # the product of the last row overflows: neither true nor false, so the row is not kept
    assert set(batch_answer(plan.root, {"f": table})) == {(1, 2, 18), (None, None, 0)}


@pytest.mark.parametrize(
    ("expression", "type_"),
    [
        ("i + 1", "INTEGER"),
        ("big * 2", "BIGINT"),
        ("i / 2", "INTEGER"),
        ("n * 2", "DECIMAL(38,10)"),
        ("0.908 * big", "DECIMAL(23,3)"),
        ("99999999999999999999", "DECIMAL(38,0)"),
        ("ts - INTERVAL '1 s'", "TIMESTAMP"),
        ("ts - ts", "INTERVAL"),
        ("j->'k'", "JSON"),
        ("st", "STRUCT(a INTEGER)"),
        ("NULL", "VARCHAR"),
        ("ARRAY[i]", "INTEGER[]"),
    ],
)
def test_types_are_duckdbs(expression: str, type_: str) -> None:
    plan = MemoryCatalog(DDL).bind(f"SELECT {expression} AS x FROM r")
    assert schema_of(plan.root)[0].type == type_


@pytest.mark.parametrize(
    ("call", "type_"),
    [
        ("count(*)", "BIGINT"),
        ("sum(i)", "BIGINT"),
        ("sum(big)", "DECIMAL(38,0)"),
        ("sum(n)", "DECIMAL(38,10)"),
        ("sum(d)", "DOUBLE"),
        ("avg(i)", "DECIMAL(38,16)"),
        ("avg(n)", "DECIMAL(38,16)"),
        ("avg(d)", "DOUBLE"),
        ("min(ts)", "TIMESTAMP"),
        ("max(s)", "VARCHAR"),
        ("max(day)", "DATE"),
    ],
)
def test_types_of_aggregates(call: str, type_: str) -> None:
    plan = MemoryCatalog(DDL).bind(f"SELECT {call} AS x FROM r")
    assert schema_of(plan.root)[0].type == type_


@pytest.mark.parametrize(
    ("expression", "message", "place"),
    [
        ("now()", "now() is not supported", "now()"),
        ("current_timestamp", "the clock is not supported", None),
        ("random()", "'random' is not supported", "random()"),
        ("gen_random_uuid()", "is not supported", None),
        ("current_setting('x')", "is not supported", None),
        ("getenv('HOME')", None, None),
        ("upperr(s)", "function 'upperr' does not exist", "upperr(s)"),
        ("read_text('/etc/passwd')", "is not supported", None),
        ("to_char(ts, 'XX')", "the format 'XX'", None),
        ("to_char(ts, s)", "a format that is not a string", None),
        ("to_char(i, 'RN')", "the format 'RN'", None),
        ("i IN ()", "IN needs a value", None),
        ("$1", "a parameter is not supported", None),
        ("sum(s)", "sum cannot take VARCHAR", "sum(s)"),
        ("sum(sum(i))", "cannot be nested", None),
        ("reservoir_quantile(i, 0.5)", "aggregate 'reservoir_quantile' is not supported", None),
        ("row_number()", "needs OVER", "row_number()"),
        ("sum(i) OVER (ORDER BY i ROWS BETWEEN CURRENT ROW AND 1 PRECEDING)", "cannot end at 1 PRECEDING", None),
        ("sum(i) OVER (ORDER BY i ROWS 2 FOLLOWING)", "cannot end at CURRENT ROW", None),
        ("sum(i) OVER (ORDER BY lag(i) OVER ())", "window functions are not allowed in", None),
        ("upper(s) OVER ()", "OVER needs an aggregate", None),
        ("sum(*)", "sum needs an argument", None),
        ("count(DISTINCT i, s)", "of several arguments", None),
        ("i + st", "no function matches", "i + st"),
        ("upper(s) + lower(ts)", "no function matches", "lower(ts)"),
        ("i::foo", "type 'foo' does not exist", None),
        ("'x'::int", "could not convert string 'x'", None),
        ("(st).b", "field 'b' does not exist", "b"),
        ("i.x", "a value of type INTEGER has no field 'x'", "x"),
        ("INTERVAL 'soon'", None, None),
    ],
)
def test_refusals_have_a_place(expression: str, message: str | None, place: str | None) -> None:
    text = f"SELECT i,\n  {expression} AS x\nFROM r"
    with pytest.raises(SqlError) as caught:
        MemoryCatalog(DDL).bind(text)
    error = caught.value
    assert message is None or message in error.message
    assert error.text == text
    assert error.span is not None
    marked = text[error.span.start : error.span.end]
    assert marked == place if place is not None else marked


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        # PostgreSQL's answers
        ("""jsonb_path_query_first('{"a": {"b": 1}}', '$.a.b')::text""", "1"),
        ("""jsonb_path_query_first('{"a": [{"b": 1}, {"b": 2}]}', '$.a.b')::text""", "1"),
        ("""jsonb_path_query_array('{"a": [{"b": 1}, {"b": null}, {}]}', 'lax $.a[*].b')::text""", "[1,null]"),
        ("""jsonb_path_query_array('[1, 2, 3]', '$[last]')::text""", "[3]"),
        ("""jsonb_path_query_array('7', '$[0]')::text""", "[7]"),
        ("""jsonb_path_query_array('7', '$[1]')::text""", "[]"),
        ("""jsonb_path_query_array('{"x y": {"z": 1}}', '$."x y".*')::text""", "[1]"),
        ("""jsonb_path_exists('{"a": 1}', '$.b')""", False),
        ("""jsonb_extract_path_text('{"a": [{"b": "x"}]}', 'a', '0', 'b')""", "x"),
        ("""jsonb_extract_path('{"a": {"b": 1}}', 'a')::text""", '{"b":1}'),
        ("num_nulls(1, NULL, 2)", 1),
        ("num_nonnulls(i, NULL, s)", 2),
        ("(TIME '10:00' - TIME '11:00:00.5')::text", "-01:00:00.5"),
        ("""jsonb_path_exists(NULL::jsonb, '$.b')""", None),
        ("justify_interval(INTERVAL '1 mon -1 hour')::text", "29 days 23:00:00"),
        ("justify_interval(INTERVAL '35 days 30 hours')::text", "1 mon 6 days 06:00:00"),
    ],
)
def test_json_paths_and_intervals(expression: str, expected: object) -> None:
    assert value(expression) == expected


@pytest.mark.parametrize("path", ["$.a ? (@ > 1)", "$.a.size()", "strict $.a", "a"])
def test_paths_that_are_not_understood_are_refused(path: str) -> None:
    with pytest.raises(SqlError, match="a path with"):
        value(f"jsonb_path_exists(j, '{path}')")


def test_null_does_not_tell_which_array_it_is() -> None:
    with pytest.raises(SqlError, match="polymorphic type") as caught:
        value("array_to_string(NULL, ',')")
    assert caught.value.sqlstate == "42P38"
    assert value("array_to_string(NULL::text[], ',')") is None
