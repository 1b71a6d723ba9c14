"""The control database goes away and comes back: rows flow on, statements that need it say so, control resumes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa

import sabot
from sabotd.control.agents import SILENCE_S
from tests.support.fix_daemon import Daemon
from tests.support.servers import PostgresServer
from tests.system.test_joined_agents import Joined, wait_for


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


SLOW_BEATS = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1.5); RETURN NEW; END';
CREATE TRIGGER slow BEFORE UPDATE ON sabot_agents FOR EACH ROW EXECUTE FUNCTION slow();
"""  # so that sabotd looks at them first when the database is back


def test_agents_elsewhere_outlive_an_outage(own_postgres: PostgresServer, tmp_path: Path) -> None:
    """Their beats are old when the database is back, for longer than an agent may be silent."""
    config = tmp_path / "sabotd.toml"
    database = own_postgres.new_database()
    config.write_text(f'[control]\ndatabase = "{database}"\n[agents]\ncount = 0\nlisten = "grpc://127.0.0.1:0"\n')
    daemon = Daemon(tmp_path / "data", "--config", str(config), "--listen", "grpc://127.0.0.1:0")
    agents = [Joined(database, tmp_path, f"r{i}") for i in range(4)]
    try:
        with sabot.connect(daemon.location) as db:
            up = "SELECT count(*) FROM sabot_catalog.agents WHERE state = 'UP'"
            wait_for(db, up, [(5,)])
            engine = sa.create_engine(database.replace("postgresql:", "postgresql+psycopg:"))
            with engine.begin() as con:
                con.execute(sa.text(SLOW_BEATS))
            engine.dispose()
            own_postgres.stop()
            time.sleep(SILENCE_S + 2)  # this is what it is about
            own_postgres.restart()
            while "the control database answers again" not in daemon.log.read_text():
                assert daemon.process.poll() is None
            lost = agents.pop()
            lost.process.kill()
            lost.process.wait()
            wait_for(db, f"SELECT ({up}) < 5", [(True,)])
        assert daemon.log.read_text().count("is lost") == 1, daemon.log.read_text()
        assert all(agent.process.poll() is None for agent in agents)
    finally:
        for agent in agents:
            agent.process.kill()
            agent.process.wait()
        assert daemon.end() == 0


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
