"""Sinks into tables: a table holds what the sink's query says, by its key, whatever comes, goes, fails and restarts."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from sabot.errors import JobError, SqlError
from tests.support.fix_server import Server

_ROWS = "SELECT k, sum(v) AS s, count(*) AS n FROM src GROUP BY k HAVING count(*) > 1"
"""Rows come, change and go."""


def fill(server: Server, rng: random.Random) -> None:
    values = ", ".join(f"({rng.randrange(8)}, {rng.choice(('NULL', 1, 2, 3))})" for _ in range(6))
    server.run(
        f"INSERT INTO src VALUES {values}",
        f"UPDATE src SET v = coalesce(v, 0) + 1, k = k + {rng.randrange(2)} WHERE k = {rng.randrange(8)}",
        f"DELETE FROM src WHERE k = {rng.randrange(8)}",
    )


def bag(server: Server, query: str) -> Counter[tuple[Any, ...]]:
    return Counter(server.rows(query))


@pytest.mark.parametrize("parallelism", [1, 2, 4, 7])
def test_a_table_follows_a_query_by_its_key(server: Server, parallelism: int) -> None:
    rng = random.Random(parallelism)
    server.run(
        f"SET parallelism = {parallelism}",
        "CREATE TABLE src (k INT, v INT)",
        "CREATE TABLE t (k INT PRIMARY KEY, s NUMERIC(38, 0), n SMALLINT, note VARCHAR DEFAULT 'new')",
    )
    fill(server, rng)
    server.run(
        f"CREATE SINK into_t INTO t (k, s, n) AS {_ROWS}",
        "CREATE MATERIALIZED VIEW over AS SELECT count(*) AS c, sum(s) AS s FROM t",
        "CREATE MATERIALIZED VIEW changes AS WITH c AS CHANGELOG FROM t SELECT k, n, changelog_op AS op FROM c",
        "RESET parallelism",
    )
    for _ in range(5):
        server.run("FLUSH")
        assert bag(server, "SELECT k, s, n FROM t") == bag(server, _ROWS)
        assert bag(server, "SELECT DISTINCT note FROM t").keys() <= {("new",)}
        assert server.rows("SELECT * FROM over") == server.rows("SELECT count(*), sum(s) FROM t")
        standing = "SELECT k, n, sum(CASE WHEN op IN (1, 3) THEN 1 ELSE -1 END) AS x FROM changes GROUP BY k, n"
        assert bag(server, f"SELECT k, n FROM ({standing}) AS c WHERE x > 0") == bag(server, "SELECT k, n FROM t")
        fill(server, rng)
    assert ("into_t",) in [row[:1] for row in server.rows("SHOW SINKS")]
    server.run("FLUSH", "DROP SINK into_t")
    left = bag(server, "SELECT k, s, n FROM t")
    server.run("DELETE FROM src", "FLUSH")
    assert bag(server, "SELECT k, s, n FROM t") == left


def test_of_rows_with_one_key_the_greatest_stands(server: Server) -> None:
    server.run("CREATE TABLE src (k INT, v INT)", "CREATE TABLE t (k INT PRIMARY KEY, v INT)")
    server.run(
        "CREATE SINK s INTO t FROM src", "INSERT INTO src VALUES (1, 5), (1, 7), (1, NULL), (2, 1), (2, 1)", "FLUSH"
    )
    assert sorted(server.rows("SELECT * FROM t")) == [(1, 7), (2, 1)]
    server.run("DELETE FROM src WHERE v = 7", "FLUSH")
    assert sorted(server.rows("SELECT * FROM t")) == [(1, 5), (2, 1)]
    server.run("DELETE FROM src WHERE v = 5", "FLUSH")
    assert sorted(server.rows("SELECT * FROM t")) == [(1, None), (2, 1)]
    server.run("DELETE FROM src WHERE k = 1", "FLUSH")
    assert server.rows("SELECT * FROM t") == [(2, 1)]


def test_what_a_table_does_on_conflict_holds_for_sinks(server: Server) -> None:
    server.run(
        "CREATE TABLE src (k INT, v INT)",
        "CREATE TABLE merged (k INT PRIMARY KEY, a INT, b INT) ON CONFLICT DO UPDATE IF NOT NULL",
        "CREATE TABLE first (k INT PRIMARY KEY, v INT) ON CONFLICT DO NOTHING",
        "INSERT INTO first VALUES (1, 0)",
        "CREATE SINK a INTO merged (k, a) AS SELECT k, v FROM src",
        "CREATE SINK b INTO merged (k, b) AS SELECT k, v * 10 FROM src WHERE v > 1",
        "CREATE SINK f INTO first FROM src",
        "INSERT INTO src VALUES (1, 1), (2, 2)",
        "FLUSH",
    )
    assert sorted(server.rows("SELECT * FROM merged")) == [(1, 1, None), (2, 2, 20)]
    assert sorted(server.rows("SELECT * FROM first")) == [(1, 0), (2, 2)]
    server.run("UPDATE src SET v = v + 1", "FLUSH")
    assert sorted(server.rows("SELECT * FROM merged")) == [(1, 2, 20), (2, 3, 30)]
    # the row that is taken back is the one of the key
    assert sorted(server.rows("SELECT * FROM first")) == [(1, 2), (2, 3)]
    server.run("DELETE FROM src WHERE k = 1", "FLUSH")
    assert sorted(server.rows("SELECT * FROM merged")) == [(2, 3, 30)]


def test_rows_of_a_keyless_table_are_added(server: Server) -> None:
    server.run(
        "CREATE TABLE src (a INT) APPEND ONLY",
        "CREATE TABLE t (a VARCHAR, b INT DEFAULT 3)",
        "INSERT INTO src VALUES (1), (1)",
        "CREATE SINK s INTO t FROM src",
        "INSERT INTO src VALUES (2)",
        "FLUSH",
    )
    assert sorted(server.rows("SELECT * FROM t")) == [("1", 3), ("1", 3), ("2", 3)]


def test_a_key_may_be_null_where_a_sink_writes_it(server: Server) -> None:
    server.run(
        "CREATE TABLE src (k INT)",
        "CREATE TABLE t (k INT PRIMARY KEY, n INT)",
        "CREATE SINK s INTO t AS SELECT max(k), count(*) FROM src",
        "FLUSH",
    )
    assert server.rows("SELECT * FROM t") == [(None, 0)]
    server.run("INSERT INTO src VALUES (NULL)", "FLUSH")
    assert server.rows("SELECT * FROM t") == [(None, 1)]
    server.run("INSERT INTO src VALUES (4)", "FLUSH")
    assert server.rows("SELECT * FROM t") == [(4, 2)]
    for statement in ("INSERT INTO t VALUES (NULL, 1)", "UPDATE t SET k = NULL"):
        with pytest.raises(SqlError, match="NULL in column 'k'"):
            server.run(statement)


def test_sinks_and_their_tables_are_dropped_together(server: Server) -> None:
    server.run(
        "CREATE TABLE src (k INT)",
        "CREATE TABLE t (k INT PRIMARY KEY)",
        "CREATE SINK s INTO t FROM src",
        "CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM t",
        "CREATE TABLE u (n BIGINT PRIMARY KEY)",
        "CREATE SINK s2 INTO u FROM v",
    )
    for name in ("src", "t", "u"):
        with pytest.raises(SqlError, match="used by"):
            server.run(f"DROP TABLE {name}")
    server.run("INSERT INTO src VALUES (1), (2)", "FLUSH")
    assert server.rows("SELECT * FROM u") == [(2,)]
    server.run("DROP TABLE t CASCADE")
    assert server.rows("SHOW SINKS") == []
    assert server.rows("SELECT * FROM u") == [(2,)]


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("INTO nowhere FROM src", "table 'nowhere' does not exist"),
        ("INTO v FROM src", "cannot write into materialized view 'v'"),
        ("INTO t FROM v", "would feed itself"),
        ("INTO t (k, z) FROM src", "column 'z' does not exist"),
        ("INTO t (k, k) FROM src", "stands twice"),
        ("INTO t (w) AS SELECT w FROM src", "of the primary key of 't' is not written"),
        ("INTO t AS SELECT *, 1, 2 FROM src", "2 columns to fill, 4 given"),
        ("INTO plain FROM src", "no primary key"),
        ("INTO added FROM src", "only ever added"),
        ("INTO t FROM src WITH (connector = 'blackhole')", "has no connector"),
        ("INTO t FROM src WITH (colour = 'red')", "option 'colour'"),
    ],
)
def test_what_cannot_be_kept_is_refused(server: Server, statement: str, message: str) -> None:
    server.run(
        "CREATE TABLE src (k INT, w INT)",
        "CREATE TABLE t (k INT PRIMARY KEY, w INT)",
        "CREATE TABLE plain (k INT, w INT)",
        "CREATE TABLE added (k INT PRIMARY KEY, w INT) APPEND ONLY ON CONFLICT DO NOTHING",
        "CREATE MATERIALIZED VIEW v AS SELECT k, w FROM t",
    )
    with pytest.raises(SqlError, match=message):
        server.run(f"CREATE SINK s {statement}")
    assert server.rows("SHOW SINKS") == []


def test_a_table_that_refuses_a_row_fails_the_sink(server: Server) -> None:
    server.run(
        "CREATE TABLE src (k INT, w INT)",
        "CREATE TABLE t (k INT PRIMARY KEY, w INT NOT NULL)",
        "CREATE SINK s INTO t FROM src",
        "INSERT INTO src VALUES (1, NULL)",
    )
    with pytest.raises(JobError, match="NOT NULL"):
        server.run("FLUSH")
    assert server.rows("SELECT * FROM t") == []


@pytest.fixture
def own(tmp_path: Path) -> Iterator[list[Server]]:
    servers: list[Server] = []
    yield servers
    for server in servers:
        server.close()


def restarted(own: list[Server], data: Path, *, kill: bool) -> Server:
    """Start a server on `data`, after the one before has ended."""
    if own:
        before = own.pop()
        process = psutil.Process(before.pid)
        if kill:
            os.kill(before.pid, signal.SIGKILL)
            process.wait(30)
        before.close()
    own.append(Server(data=data))
    return own[0]


@pytest.mark.parametrize("kill", [False, True])
def test_a_restart_changes_nothing_but_what_has_changed(own: list[Server], tmp_path: Path, kill: bool) -> None:
    """Starts a server three times."""
    rng = random.Random(7)
    server = restarted(own, tmp_path / "data", kill=kill)
    server.run(
        "CREATE TABLE src (k INT, v INT)",
        f"CREATE MATERIALIZED VIEW sums AS {_ROWS}",
        "CREATE TABLE t (k INT PRIMARY KEY, s BIGINT, n INT, mine VARCHAR)",
        "CREATE SINK into_t INTO t (k, s, n) FROM sums",
        "CREATE TABLE lines (k INT, v INT)",
        "CREATE TABLE added (k INT, v INT) APPEND ONLY",
        "CREATE SINK into_lines INTO lines FROM added",
        "INSERT INTO added VALUES (1, 1), (1, 1), (2, NULL)",
    )
    fill(server, rng)
    fill(server, rng)
    server.run("FLUSH", "UPDATE t SET mine = 'kept'")
    stood = bag(server, "SELECT * FROM t")
    assert stood
    server = restarted(own, tmp_path / "data", kill=kill)
    # nothing is gone while the view is made anew, and nothing is written again after
    assert bag(server, "SELECT * FROM t") == stood
    server.run("FLUSH")
    assert bag(server, "SELECT * FROM t") == stood
    assert bag(server, "SELECT * FROM lines") == {(1, 1): 2, (2, None): 1}
    # a change that the sink has not written when the daemon ends is written by the next one, as is one after it
    server.run("DELETE FROM src WHERE k % 2 = 0", "INSERT INTO added VALUES (3, 3)")
    server = restarted(own, tmp_path / "data", kill=kill)
    server.run("INSERT INTO src VALUES (100, 1), (100, 2)", "FLUSH")
    assert bag(server, "SELECT k, s, n FROM t") == bag(server, _ROWS)
    assert bag(server, "SELECT * FROM lines") == bag(server, "SELECT * FROM added")
    kept = dict(server.rows("SELECT k, mine FROM t"))
    assert all(kept[row[0]] == "kept" for row in stood if row[0] in kept and row in bag(server, "SELECT * FROM t"))


def test_a_lost_agent_leaves_the_table_as_it_is(server: Server) -> None:
    rng = random.Random(11)
    server.run(
        "SET parallelism = 4",
        "CREATE TABLE src (k INT, v INT)",
        f"CREATE MATERIALIZED VIEW sums AS {_ROWS}",
        "CREATE TABLE t (k INT PRIMARY KEY, s BIGINT, n INT, mine VARCHAR)",
        "CREATE SINK into_t INTO t (k, s, n) FROM sums",
        "RESET parallelism",
    )
    for _ in range(4):
        fill(server, rng)
    server.run("FLUSH")
    server.run("UPDATE t SET mine = 'kept'")
    (pid,) = server.rows("SELECT pid FROM sabot_catalog.agents WHERE agent = 'a1'")[0]
    os.kill(int(str(pid)), signal.SIGKILL)
    server.run("FLUSH")
    # what stands has not been written again
    assert bag(server, "SELECT k, s, n FROM t WHERE mine = 'kept'") == bag(server, _ROWS)
    fill(server, rng)
    server.run("FLUSH")
    assert bag(server, "SELECT k, s, n FROM t") == bag(server, _ROWS)
