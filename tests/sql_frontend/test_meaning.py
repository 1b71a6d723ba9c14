"""The plan of a query means what the query means: both run by DuckDB over random rows, the plan node by node."""

from __future__ import annotations

import functools
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import duckdb
import pyarrow as pa
import pytest

from planner.logical import schema_of
from sabot.schema import arrow_schema
from tests.support import meaning_queries
from tests.support.batch_meaning import batch_answer
from tests.support.job_runner import freeze
from tests.support.memory_catalog import MemoryCatalog

DDL = """
CREATE TABLE t (
  a INT, b BIGINT, s VARCHAR, d DOUBLE PRECISION, n NUMERIC(10,2), ts TIMESTAMP, flag BOOLEAN, j JSONB,
  st STRUCT<x INT, y VARCHAR, deep STRUCT<z BIGINT>>, arr INT[], day DATE, tz TIMESTAMPTZ
);
CREATE TABLE u (id INT, a INT, s VARCHAR, v BIGINT, ts TIMESTAMP);
CREATE VIEW odd (k, val) AS SELECT a, b FROM t WHERE a % 2 = 1;
CREATE VIEW nested AS SELECT k, val + 1 AS more FROM odd WHERE k IS NOT NULL;
"""
SAME = [q.strip() for q in meaning_queries.SAME.split("\n\n")]
TRANSLATED = [tuple(part.strip() for part in q.split("=>\n")) for q in meaning_queries.TRANSLATED.split("\n\n")]


@functools.cache
def tables() -> dict[str, pa.Table]:
    """Random rows with NULLs and duplicates, times before 1970 among them."""
    rng = random.Random(20)
    start = datetime(1970, 1, 1)

    def maybe(value: object) -> object:
        return None if rng.random() < 0.1 else value

    def at() -> datetime:
        return start + timedelta(microseconds=rng.randrange(-60_000_000, 90_000_000))

    t = [
        {
            "a": maybe(rng.randrange(0, 8)),
            "b": maybe(rng.randrange(-100, 100)),
            "s": maybe(f"k{rng.randrange(4)}"),
            "d": maybe(rng.choice([0.5, -1.25, 3.0, 1e9])),
            "n": maybe(Decimal(rng.randrange(-10_000, 10_000)).scaleb(-2)),
            "ts": maybe(at()),
            "flag": maybe(rng.random() < 0.5),
            "j": maybe(rng.choice(['{"name":"x","in":{"n":3},"list":[1]}', '{"name":null,"in":{"n":"q"}}', "[]"])),
            "st": maybe({"x": maybe(rng.randrange(3)), "y": "v", "deep": maybe({"z": rng.randrange(5)})}),
            "arr": maybe([1, rng.randrange(3)][: rng.randrange(3)]),
            "day": maybe(at().date()),
            "tz": maybe(at().replace(tzinfo=UTC)),
        }
        for _ in range(150)
    ]
    u = [
        {
            "id": i,
            "a": maybe(rng.randrange(0, 8)),
            "s": maybe(f"k{rng.randrange(4)}"),
            "v": rng.randrange(100),
            "ts": maybe(at()),
        }
        for i in range(40)
    ]
    catalog = MemoryCatalog(DDL)
    return {
        name: pa.Table.from_pylist(rows, schema=arrow_schema(catalog.schema(name)))
        for name, rows in (("t", t), ("u", u))
    }


def duckdb_answer(sql: str) -> Counter[tuple[object, ...]]:
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'; SET integer_division = true; SET error_on_division_by_zero = false")
        for name, table in tables().items():
            con.register(name, table)
        con.execute("CREATE VIEW odd AS SELECT a AS k, b AS val FROM t WHERE a % 2 = 1")
        con.execute("CREATE VIEW nested AS SELECT k, val + 1 AS more FROM odd WHERE k IS NOT NULL")
        found = con.sql(sql).to_arrow_table()
        return Counter(freeze(row) for row in zip(*(c.to_pylist() for c in found.columns), strict=True))


@pytest.mark.parametrize(("query", "meant"), [(q, q) for q in SAME] + TRANSLATED)
def test_the_plan_means_the_query(query: str, meant: str) -> None:
    plan = MemoryCatalog(DDL).bind(query)
    expected = duckdb_answer(meant.replace("(j->'in'->>'n')::INT", "TRY_CAST(j->'in'->>'n' AS INT)"))
    assert batch_answer(plan.root, tables()) == expected
    assert sum(expected.values()) > 0 or "1000000" in query
    arrow_schema(schema_of(plan.root))
