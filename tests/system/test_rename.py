"""Relations get other names while they run: what reads them goes on, under the new name alone, and after a restart."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from sabot.errors import SqlError
from tests.support.fix_server import Server

RECURSIVE = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 2) SELECT count(*) FROM r, {}"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[list[Server]]:
    servers = [Server(data=tmp_path / "data")]
    yield servers
    for server in servers:
        server.close()


def restarted(own: list[Server], data: Path, *, kill: bool) -> Server:
    before = own.pop()
    if kill:
        process = psutil.Process(before.pid)
        os.kill(before.pid, signal.SIGKILL)
        process.wait(30)
    before.close()
    own.append(Server(data=data))
    return own[0]


def refused(server: Server, statement: str, message: str) -> None:
    with pytest.raises(SqlError, match=message):
        server.run(statement)


def test_a_renamed_relation_goes_on(server: Server) -> None:
    server.run(
        "CREATE TABLE t (k INT PRIMARY KEY, v INT)",
        "CREATE MATERIALIZED VIEW m AS SELECT v, count(*) AS n FROM t GROUP BY v",
        "CREATE MATERIALIZED VIEW over AS SELECT sum(n) AS s FROM m",
        "CREATE MATERIALIZED VIEW log AS WITH c AS CHANGELOG FROM t SELECT * FROM c",
        "INSERT INTO t VALUES (1, 1), (2, 1)",
        "FLUSH",
        "ALTER TABLE t RENAME TO tt",
        "ALTER MATERIALIZED VIEW m RENAME TO mm",
        "INSERT INTO tt VALUES (3, 1), (1, 2) ON CONFLICT (k) DO UPDATE SET v = tt.v + excluded.v RETURNING tt.k",
        "UPDATE tt SET v = tt.v + 1 WHERE tt.k = 2",
        "FLUSH",
    )
    assert sorted(server.rows("SELECT * FROM tt")) == [(1, 3), (2, 2), (3, 1)]
    assert sorted(server.rows("SELECT mm.v, n FROM mm")) == [(1, 1), (2, 1), (3, 1)]
    assert server.rows("SELECT * FROM over") == [(3,)]
    assert sorted(server.rows("SELECT k, changelog_op FROM log")) == [
        *[(1, 1), (1, 3), (1, 4)],
        *[(2, 1), (2, 3), (2, 4)],
        (3, 1),
    ]
    # DuckDB's own SQL finds them too, and nobody finds the old names
    assert server.rows(RECURSIVE.format("tt")) == [(6,)]
    for query in ("SELECT * FROM t", "SELECT * FROM m", RECURSIVE.format("t")):
        refused(server, query, "does not exist")
    assert [row[0] for row in server.rows("SHOW TABLES")] == ["tt"]
    assert {row[0] for row in server.rows("SHOW MATERIALIZED VIEWS")} == {"mm", "over", "log"}
    assert server.rows("DESCRIBE tt") == [("k", "INTEGER"), ("v", "INTEGER")]
    refused(server, "DROP TABLE tt", "used by materialized view 'mm'")
    refused(server, "DROP TABLE t", "does not exist")
    server.run("ALTER MATERIALIZED VIEW mm PAUSE", "ALTER MATERIALIZED VIEW mm RESUME", "DROP TABLE tt CASCADE")
    assert server.rows("SHOW TABLES") == []


def test_the_old_name_is_free(server: Server) -> None:
    server.run(
        "CREATE TABLE t (a INT)",
        "INSERT INTO t VALUES (1)",
        "CREATE MATERIALIZED VIEW m AS SELECT a FROM t",
        "ALTER TABLE t RENAME TO old_t",
        "ALTER MATERIALIZED VIEW m RENAME TO old_m",
        "CREATE TABLE t (b VARCHAR)",
        "CREATE MATERIALIZED VIEW m AS SELECT b FROM t",
        "CREATE TABLE target (b VARCHAR)",
        "INSERT INTO t VALUES ('x')",
        "INSERT INTO old_t VALUES (2)",
        "FLUSH",
    )
    assert server.rows("SELECT * FROM m") == [("x",)]
    assert sorted(server.rows("SELECT * FROM old_m")) == [(1,), (2,)]
    server.run("DROP TABLE t CASCADE", "INSERT INTO old_t VALUES (3)", "FLUSH")
    assert sorted(server.rows("SELECT * FROM old_m")) == [(1,), (2,), (3,)]


def test_a_sink_and_its_table_may_be_renamed(server: Server) -> None:
    server.run(
        "CREATE TABLE src (k INT)",
        "CREATE TABLE t (k INT PRIMARY KEY)",
        "CREATE SINK s INTO t FROM src",
        "ALTER SINK s RENAME TO ss",
        "ALTER TABLE t RENAME TO tt",
        "ALTER TABLE src RENAME TO source",
        "INSERT INTO source VALUES (1), (2)",
        "FLUSH",
    )
    assert sorted(server.rows("SELECT * FROM tt")) == [(1,), (2,)]
    assert [row[0] for row in server.rows("SHOW SINKS")] == ["ss"]
    server.run("DROP SINK ss", "DROP TABLE tt")


def test_what_cannot_be_renamed_is_refused(server: Server) -> None:
    server.run(
        "CREATE TABLE t (a INT)",
        "CREATE TABLE u (a INT)",
        "CREATE TABLE w (a INT)",
        "CREATE VIEW plain AS SELECT a FROM t",
        "CREATE SOURCE s (a INT) WITH (connector = 'datagen', rows = 1)",
    )
    refused(server, "ALTER TABLE nowhere RENAME TO x", "does not exist")
    refused(server, "ALTER TABLE u RENAME TO w", "there already")
    refused(server, 'ALTER TABLE u RENAME TO "W"', "only by upper and lower case")
    refused(server, "ALTER TABLE u RENAME TO sabot_errors", "meaning of its own")
    refused(server, "ALTER TABLE t RENAME TO x", "in the text of view 'plain'")
    refused(server, "ALTER MATERIALIZED VIEW u RENAME TO x", "is a table")
    refused(server, "ALTER SOURCE s RENAME TO x", "not supported")
    refused(server, "ALTER TABLE u RENAME COLUMN a TO b", "not supported")
    server.run('ALTER TABLE u RENAME TO "U"')


@pytest.mark.parametrize("kill", [False, True])
def test_a_restart_keeps_the_names(own: list[Server], tmp_path: Path, kill: bool) -> None:
    """Starts a server three times."""
    server = own[0]
    server.run(
        "CREATE TABLE t (a INT)",
        "INSERT INTO t VALUES (1)",
        "CREATE MATERIALIZED VIEW m AS SELECT a FROM t",
        "ALTER TABLE t RENAME TO old_t",
        "CREATE MATERIALIZED VIEW between AS SELECT a FROM old_t",
        "ALTER MATERIALIZED VIEW m RENAME TO old_m",
        "CREATE TABLE t (b VARCHAR)",
        "CREATE MATERIALIZED VIEW m AS SELECT b FROM t",
        "ALTER TABLE t RENAME TO newer",
        "INSERT INTO newer VALUES ('x')",
        "CREATE TABLE gone (b VARCHAR)",
        "ALTER TABLE gone RENAME TO gone_too",
        "DROP TABLE gone_too",
    )
    for _ in range(2):
        server = restarted(own, tmp_path / "data", kill=kill)
        server.run("FLUSH")
        assert sorted(row[0] for row in server.rows("SHOW TABLES")) == ["newer", "old_t"]
        assert sorted(row[0] for row in server.rows("SHOW MATERIALIZED VIEWS")) == ["between", "m", "old_m"]
        assert server.rows("SELECT * FROM old_m") == server.rows("SELECT * FROM between") == [(1,)]
        assert server.rows("SELECT * FROM m") == [("x",)]
    server.run("INSERT INTO old_t VALUES (2)", "INSERT INTO newer VALUES ('y')", "FLUSH")
    assert sorted(server.rows("SELECT * FROM old_m")) == [(1,), (2,)]
    assert sorted(server.rows("SELECT * FROM m")) == [("x",), ("y",)]
