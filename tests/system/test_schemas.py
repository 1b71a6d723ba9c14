"""Schemas: relations of one name beside each other, in statements, views, sinks and DuckDB's own SQL, and for good."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sabot.errors import SqlError
from tests.support.fix_server import Server


@pytest.fixture
def own(tmp_path: Path) -> Iterator[list[Server]]:
    servers = [Server(data=tmp_path / "data")]
    yield servers
    for server in servers:
        server.close()


@pytest.fixture
def with_schema(server: Server) -> Iterator[Server]:
    server.run("CREATE SCHEMA a")
    yield server
    server.run("DROP SCHEMA IF EXISTS a CASCADE", "DROP SCHEMA IF EXISTS b CASCADE")


def refused(server: Server, statement: str, message: str) -> None:
    with pytest.raises(SqlError, match=message):
        server.run(statement)


def test_relations_of_one_name_are_apart(with_schema: Server) -> None:
    server = with_schema
    server.run(
        "CREATE TABLE t (k INT PRIMARY KEY, v INT)",
        "CREATE TABLE a.t (k INT PRIMARY KEY, w INT)",
        "INSERT INTO t VALUES (1, 1)",
        "INSERT INTO a.t VALUES (1, 10), (2, 20)",
        "CREATE MATERIALIZED VIEW a.m AS SELECT x.k, w, t.v FROM a.t AS x JOIN t ON x.k = t.k",
        "CREATE MATERIALIZED VIEW m AS WITH c AS CHANGELOG FROM a.t SELECT t.k, changelog_op AS op FROM c AS t",
        "CREATE TABLE a.target (k INT PRIMARY KEY, n BIGINT)",
        "CREATE SINK a.s INTO a.target AS SELECT t.k, count(*) FROM a.t GROUP BY t.k",
        "CREATE VIEW a.plain AS SELECT sum(w) AS s FROM a.t",
        "UPDATE a.t SET w = t.w + 1 WHERE t.k = 2",
        "INSERT INTO a.t VALUES (1, 5) ON CONFLICT (k) DO UPDATE SET w = t.w + excluded.w RETURNING t.w",
        "FLUSH",
    )
    assert server.rows("SELECT * FROM a.m") == [(1, 15, 1)]
    assert sorted(server.rows("SELECT * FROM m")) == [(1, 1), (1, 3), (1, 4), (2, 1), (2, 3), (2, 4)]
    assert sorted(server.rows("SELECT target.k, n FROM a.target")) == [(1, 1), (2, 1)]
    assert server.rows("SELECT * FROM a.plain") == [(36,)]
    assert server.rows("SELECT v FROM public.t WHERE k IN (SELECT k FROM a.t)") == [(1,)]
    # DuckDB's own
    recursive = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 2) SELECT count(*) FROM r, {}"
    assert server.rows(recursive.format("a.t")) == [(4,)]
    server.run("DELETE FROM a.t USING a.m WHERE m.k = t.k", "FLUSH")
    assert server.rows("SELECT * FROM a.target") == [(2, 1)]
    server.run("ALTER TABLE a.target RENAME TO counts")
    assert server.rows("SELECT * FROM a.counts") == [(2, 1)]
    assert [row[0] for row in server.rows("SHOW SCHEMAS")] == ["public", "a"]
    refused(server, "DROP SCHEMA a", "used by")
    server.run("DROP SCHEMA a CASCADE")
    assert [row[0] for row in server.rows("SHOW TABLES")] == ["t"]
    assert server.rows("SHOW MATERIALIZED VIEWS") == []
    refused(server, recursive.format("a.t"), "does not exist")


def test_what_has_no_schema_is_refused(with_schema: Server) -> None:
    server = with_schema
    for statement, message in (
        ("CREATE TABLE b.t (k INT)", "schema 'b' does not exist"),
        ("CREATE TABLE IF NOT EXISTS b.t (k INT)", "schema 'b' does not exist"),
        ("CREATE MATERIALIZED VIEW b.t AS SELECT 1 AS x", "schema 'b' does not exist"),
        ("SELECT * FROM b.t", "does not exist"),
        ("DROP TABLE a.t", "'a.t' does not exist"),
        ("CREATE SCHEMA a", "there already"),
        ("CREATE SCHEMA public", "there already"),
        ('CREATE SCHEMA "A"', "another name"),
        ("CREATE SCHEMA information_schema", "another name"),
        ("DROP SCHEMA b", "does not exist"),
        ("DROP SCHEMA public", "does not exist"),
        ("CREATE FUNCTION a.f(x INT) RETURNS INT RETURN x", "function in a schema"),
        ("CREATE TABLE a.b.c (k INT)", "a schema at most"),
    ):
        refused(server, statement, message)
    server.run("CREATE SCHEMA IF NOT EXISTS a", "DROP SCHEMA IF EXISTS b", "DROP SCHEMA a")


def test_schemas_outlive_a_restart(own: list[Server], tmp_path: Path) -> None:
    """Starts a server twice."""
    server = own[0]
    server.run(
        "CREATE SCHEMA a",
        "CREATE SCHEMA gone",
        "DROP SCHEMA gone",
        "CREATE TABLE a.t (k INT)",
        "INSERT INTO a.t VALUES (1)",
        "CREATE MATERIALIZED VIEW a.m AS SELECT k FROM a.t",
        "ALTER TABLE a.t RENAME TO u",
    )
    own.pop().close()
    own.append(Server(data=tmp_path / "data"))
    server = own[0]
    server.run("INSERT INTO a.u VALUES (2)", "FLUSH")
    assert sorted(server.rows("SELECT * FROM a.m")) == [(1,), (2,)]
    assert [row[0] for row in server.rows("SHOW SCHEMAS")] == ["public", "a"]
    server.run("DROP SCHEMA a CASCADE")
