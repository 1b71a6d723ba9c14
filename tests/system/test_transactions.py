"""READ ONLY transactions see one moment; others only mark statements, and say so."""

from __future__ import annotations

import pytest

from sabot.errors import SqlError
from tests.support.fix_server import Server


def test_a_read_only_transaction_sees_one_moment(server: Server) -> None:
    server.run("CREATE TABLE t (a INT)", "CREATE TABLE u (a INT)", "INSERT INTO t VALUES (1)")
    server.run("CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM t", "FLUSH", "START TRANSACTION READ ONLY")
    try:
        with server.another() as other:
            for table in ("t", "u"):
                other.sql(f"INSERT INTO {table} VALUES (2)").close()
            other.sql("FLUSH").close()
            assert other.sql("SELECT * FROM v").fetchall() == [(2,)]
        assert server.rows("SELECT * FROM t") == [(1,)]
        assert server.rows("SELECT * FROM u") == []
        assert server.rows("SELECT * FROM v") == [(1,)]
        server.run("CREATE TABLE IF NOT EXISTS t (a INT)")
        for text in ("INSERT INTO t VALUES (3)", "CREATE TABLE w (a INT)", "DROP TABLE t", "DELETE FROM t"):
            with pytest.raises(SqlError, match="in a read-only transaction"):
                server.run(text)
        with pytest.raises(SqlError, match="does not exist"):
            server.rows("SELECT * FROM nowhere")
        assert server.rows("SELECT count(*) FROM t") == [(1,)]
    finally:
        server.run("COMMIT")
    assert server.rows("SELECT count(*) FROM t") == [(2,)]


def test_what_was_written_cannot_be_rolled_back(server: Server) -> None:
    server.run("CREATE TABLE t (a INT)", "BEGIN", "INSERT INTO t VALUES (1)")
    with pytest.raises(SqlError, match="cannot be undone"):
        server.run("ROLLBACK")
    assert server.rows("SELECT * FROM t") == [(1,)]
    server.run("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ WRITE", "ROLLBACK")


def test_a_session_has_its_time_zone(server: Server) -> None:
    query = "SELECT '2022-01-01 00:00:00'::timestamptz::varchar"
    server.run("CREATE TABLE t (at TIMESTAMPTZ)", "SET TIME ZONE 'us/pacific'")
    try:
        assert server.rows("SHOW timezone") == [("timezone", "US/Pacific")]
        assert server.rows(query) == [("2022-01-01 00:00:00-08:00",)]
        server.run("INSERT INTO t VALUES ('2022-01-01 00:00:00')")
        with pytest.raises(SqlError, match="time zone to be UTC"):
            server.run("CREATE MATERIALIZED VIEW v AS SELECT * FROM t")
        with pytest.raises(SqlError, match="does not exist"):
            server.run("SET TIME ZONE 'nowhere/else'")
    finally:
        server.run("RESET TIME ZONE")
    assert server.rows(query) == [("2022-01-01 00:00:00+00:00",)]
    assert server.rows("SELECT at::varchar FROM t") == [("2022-01-01 08:00:00+00:00",)]
