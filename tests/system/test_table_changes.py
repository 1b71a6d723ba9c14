"""Views over tables that are inserted into, updated and deleted from: DuckDB's batch answer at every flush."""

from __future__ import annotations

import random
from collections import Counter
from decimal import Decimal

import duckdb
import pytest

from sabot.errors import SabotError, SqlError
from tests.support.fix_server import Server

_QUERIES = (
    "SELECT * FROM t WHERE v > 3",
    "SELECT k, count(*) AS n, sum(v) AS s, min(v) AS low, max(name) AS high FROM t GROUP BY k",
    "SELECT a.k, a.v, b.v AS w FROM t a JOIN t b ON a.k = b.v",
)


@pytest.mark.parametrize(
    ("parallelism", "key"), [(1, ""), (2, ", PRIMARY KEY (id)"), (4, ""), (7, ", PRIMARY KEY (id)")]
)
def test_views_follow_every_change(server: Server, parallelism: int, key: str) -> None:
    rng = random.Random(parallelism * 10 + len(key))
    mirror = duckdb.connect()
    mirror.execute("CREATE TABLE t (id INT, k INT, v INT, name VARCHAR)")
    server.run(f"SET parallelism = {parallelism}", f"CREATE TABLE t (id INT, k INT, v INT, name VARCHAR{key})")
    for i, query in enumerate(_QUERIES):
        server.run(f"CREATE MATERIALIZED VIEW v{i} AS {query}")
    server.run("RESET parallelism")
    for turn in range(4):
        values = [(turn * 10 + i, rng.randrange(4), rng.randrange(6), f"n{rng.randrange(3)}") for i in range(8)]
        rows = ", ".join("(" + ", ".join("NULL" if v == 5 else repr(v) for v in row) + ")" for row in values)
        low = rng.randrange(6)
        for statement in (
            f"INSERT INTO t VALUES {rows.replace('(NULL,', '(5,')}",
            f"UPDATE t SET v = coalesce(v, 0) + 1, k = v WHERE v < {low} OR k IS NULL",
            f"DELETE FROM t WHERE id % 7 = {low}",
        ):
            server.run(statement)
            mirror.execute(statement)
        server.run("FLUSH")
        for i, query in enumerate(_QUERIES):
            assert Counter(server.rows(f"SELECT * FROM v{i}")) == Counter(mirror.execute(query).fetchall()), query


def test_rows_change_by_other_relations_and_on_conflict(server: Server) -> None:
    server.run(
        "CREATE TABLE t (k INT PRIMARY KEY, v INT)",
        "CREATE TABLE u (k INT, v INT)",
        "INSERT INTO t VALUES (1, 10), (2, 20), (3, 30)",
        "INSERT INTO u VALUES (2, 5), (3, 7)",
        "CREATE MATERIALIZED VIEW total AS SELECT count(*) AS n, sum(v) AS s FROM t",
        "CREATE MATERIALIZED VIEW most AS SELECT k, max(v) AS v FROM u GROUP BY k",
        "FLUSH",
    )
    assert server.rows("UPDATE t SET v = t.v + most.v FROM most WHERE most.k = t.k RETURNING t.v") == [(25,), (37,)]
    changed = "INSERT INTO t VALUES (1, 1), (4, 4) ON CONFLICT (k) DO UPDATE SET v = t.v + excluded.v RETURNING k, v"
    assert sorted(server.rows(changed)) == [(1, 11), (4, 4)]
    assert server.rows("DELETE FROM t USING u WHERE u.k = t.k AND u.v > 6 RETURNING t.k") == [(3,)]
    server.run("FLUSH")
    assert server.rows("SELECT * FROM total") == [(3, 40)]
    for text, message in (
        ("UPDATE t SET v = 1 FROM read_csv('/etc/passwd') AS f", "read_csv"),
        ("DELETE FROM t USING nowhere WHERE t.k = nowhere.k", "nowhere"),
        ("INSERT INTO t VALUES (1, 1) ON CONFLICT (v) DO UPDATE SET v = 1", "not the primary key"),
        ("INSERT INTO u VALUES (1, 1) ON CONFLICT (k) DO UPDATE SET v = 1", "not the primary key"),
        ("INSERT INTO t VALUES (1, 1) ON CONFLICT (k) DO UPDATE SET v = excluded.z", "z"),
        ("INSERT INTO t VALUES (1, 1), (1, 2) ON CONFLICT (k) DO UPDATE SET v = 1", "a second time"),
    ):
        with pytest.raises(SqlError, match=message):
            server.run(text)
    assert server.rows("SELECT count(*) FROM t") == [(3,)]


def test_returning_and_refusals(server: Server) -> None:
    server.run("CREATE TABLE t (a INT, b INT DEFAULT 3)", "CREATE TABLE log (a INT) APPEND ONLY")
    assert server.rows("INSERT INTO t (a) VALUES (1), (2) RETURNING a + b AS c") == [(4,), (5,)]
    assert server.rows("UPDATE t SET b = a WHERE a = 2 RETURNING *") == [(2, 2)]
    assert server.rows("DELETE FROM t WHERE b = 3 RETURNING a") == [(1,)]
    for text, message in (
        ("UPDATE log SET a = 1", "only ever added"),
        ("DELETE FROM nowhere", "does not exist"),
        ("UPDATE t SET z = 1", "column 'z' does not exist"),
        ("UPDATE t SET a = getenv('HOME')", "getenv"),
        ("DELETE FROM t WHERE z = 1", "column 'z' does not exist"),
    ):
        with pytest.raises(SqlError, match=message):
            server.run(text)
    for text, misspelt, hint in (
        ("UPDATE t SET bb = 1", "bb", "did you mean 'b'?"),
        ("UPDATE t SET a = 1 WHERE a = 2 AND aa = 1", "aa", "did you mean 'a'?"),
        ("DELETE FROM t WHERE a = 1 AND bb < 3 RETURNING b", "bb", "did you mean 'b'?"),
        ("DELETE FROM t RETURNING a + aa", "aa", "did you mean 'a'?"),
        ("INSERT INTO t (a, bb) VALUES (1, 2)", "bb", "did you mean 'b'?"),
    ):
        with pytest.raises(SqlError) as caught:
            server.run(text)
        assert (caught.value.sqlstate, caught.value.hint) == ("42703", hint)
        assert caught.value.span is not None
        assert (caught.value.text or "")[caught.value.span.start : caught.value.span.end] == misspelt


def test_expressions_of_update_and_delete_mean_what_they_mean_in_a_query(server: Server) -> None:
    """PostgreSQL's answers, where DuckDB knows no such function or has another."""
    server.run(
        "CREATE TABLE t (k INT, v INT, d DOUBLE PRECISION, s VARCHAR, j JSONB, at TIMESTAMP, n NUMERIC(10, 2))",
        """INSERT INTO t VALUES (1, 7, 2.5, 'ab c', '{"a": {"b": 1}}', '2026-01-02 10:00:00', 2.5)""",
    )
    for assignment, column, wanted in (
        ("v = v / 2", "v", 3),
        ("v = round(d)", "v", 2),
        ("s = initcap(s)", "s", "Ab C"),
        ("s = to_char(at, 'DD Mon YYYY')", "s", "02 Jan 2026"),
        ("s = j #>> '{a,b}'", "s", "1"),
        ("v = (SELECT max(v) FROM t)", "v", 7),
        ("v = DEFAULT", "v", None),
        ("n = '1.75'", "n", Decimal("1.75")),
    ):
        server.run(f"UPDATE t AS x SET {assignment} WHERE to_char(x.at, 'YYYY') = '2026'")
        assert server.rows(f"SELECT {column} FROM t") == [(wanted,)], assignment
        server.run("UPDATE t SET v = 7, s = 'ab c'")
    with pytest.raises(SabotError, match="division by zero"):
        server.run("UPDATE t SET v = v / 0")
    with pytest.raises(SqlError, match="'nope' does not exist") as caught:
        server.run("UPDATE t SET v = nope + 1")
    assert caught.value.span is not None
    server.run("DELETE FROM t WHERE initcap(s) = 'Other'")
    assert server.rows("SELECT k FROM t") == [(1,)]
    server.run("DELETE FROM t WHERE initcap(s) = 'Ab C'")
    assert server.rows("SELECT k FROM t") == []
