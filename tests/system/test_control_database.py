"""The control database goes away and comes back: rows flow on, statements that need it say so, control resumes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import sabot
from tests.support.fix_daemon import Daemon
from tests.support.servers import PostgresServer


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """Start a PostgreSQL of the test's own, which it may stop."""
    # not below pytest's folder: that is closed to the user that PostgreSQL runs as whenever another run begins
    with tempfile.TemporaryDirectory(prefix="sabot-postgres-") as folder:
        Path(folder).chmod(0o755)
        server = PostgresServer(Path(folder))
        server.start()
        yield server
        server.stop()


def test_rows_flow_while_the_control_database_is_away(own_postgres: PostgresServer, tmp_path: Path) -> None:
    config = tmp_path / "sabotd.toml"
    config.write_text(f'[control]\ndatabase = "{own_postgres.dsn}"\n')
    daemon = Daemon(tmp_path / "data", "--config", str(config), "--listen", "grpc://127.0.0.1:0", "--agents", "2")
    with sabot.connect(daemon.location) as db:

        def run(*statements: str) -> None:
            for statement in statements:
                db.execute(statement).close()

        run(
            "CREATE TABLE t (k INT)",
            "CREATE MATERIALIZED VIEW v AS SELECT k % 10 AS d, count(*) AS n FROM t GROUP BY k % 10",
            "INSERT INTO t SELECT i FROM range(100) r(i)",
            "FLUSH",
        )
        own_postgres.stop()
        run("INSERT INTO t SELECT i FROM range(100) r(i)", "FLUSH")
        assert db.sql("SELECT sum(n) FROM v").fetchall() == [(200,)]
        for statement in (
            "CREATE MATERIALIZED VIEW w AS SELECT count(*) AS n FROM v",
            "CREATE TABLE u (k INT)",
            "DROP MATERIALIZED VIEW v",
            "PAUSE JOB v",
            "SELECT * FROM sabot_catalog.workflows",
        ):
            with pytest.raises(sabot.Error, match="the control database does not answer"):
                run(statement)
        lost = daemon.children()[0]
        lost.kill()
        psutil.wait_procs([lost], timeout=30)
        own_postgres.restart()
        run("INSERT INTO t SELECT i FROM range(100) r(i)", "FLUSH")
        assert db.sql("SELECT sum(n) FROM v").fetchall() == [(300,)], "recovered by itself"
        run("CREATE MATERIALIZED VIEW w AS SELECT sum(n) AS n FROM v", "FLUSH")
        assert db.sql("SELECT n FROM w").fetchall() == [(300,)]
        assert {r[0] for r in db.sql("SHOW MATERIALIZED VIEWS").fetchall()} == {"v", "w"}
    assert daemon.end() == 0
