"""sabotd killed or stopped: tasks of jobs at agents elsewhere keep their state, are found again and go on."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

import sabot
from tests.support.fix_daemon import Daemon
from tests.support.servers import PostgresServer
from tests.system.test_joined_agents import Joined, wait_for


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[str]:
    """Make a database of the test's own; gives its URL."""
    name = f"sabot_{os.urandom(4).hex()}"
    admin = sa.create_engine(postgres.dsn.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT")
    with admin.connect() as con:
        con.execute(sa.text(f"CREATE DATABASE {name}"))
    yield postgres.dsn.rsplit("/", 1)[0] + f"/{name}"
    with admin.connect() as con:
        con.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


class Cluster:
    """A sabotd without agents of its own, and agents that joined it."""

    def __init__(self, database: str, folder: Path, hold: str) -> None:
        self._database, self._folder = database, folder
        self._config = folder / "sabotd.toml"
        self._config.write_text(
            f'[control]\ndatabase = "{database}"\n[agents]\ncount = 0\nlisten = "grpc://127.0.0.1:0"\nhold = "{hold}"\n'
        )
        self.agents: list[Joined] = []
        self.start()

    def start(self) -> None:
        self.daemon = Daemon(self._folder / "data", "--config", str(self._config), "--listen", "grpc://127.0.0.1:0")
        assert self.daemon.location, self.daemon.log.read_text()

    def join(self, count: int) -> None:
        self.agents += [Joined(self._database, self._folder, f"r{i}") for i in range(count)]
        up = [(f"r{i}",) for i in range(count)] + [("sabotd",)]
        with self.connect() as db:
            wait_for(db, "SELECT agent FROM sabot_catalog.agents WHERE state = 'UP' ORDER BY agent", up)

    def connect(self) -> sabot.Connection:
        return sabot.connect(self.daemon.location)

    def run(self, *statements: str) -> None:
        with self.connect() as db:
            for statement in statements:
                db.execute(statement).close()

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with self.connect() as db:
            return [tuple(r) for r in db.sql(query).fetchall()]

    def kill_and_start(self, sig: signal.Signals = signal.SIGKILL) -> None:
        assert self.daemon.end(sig) == (0 if sig == signal.SIGTERM else -sig)
        self.start()

    def attempts(self) -> dict[str, int]:
        """Return the attempt of each job; it grows when a job begins again."""
        engine = sa.create_engine(self._database.replace("postgresql:", "postgresql+psycopg:"))
        with engine.connect() as con:
            rows = con.execute(sa.text("SELECT job_id, generation FROM sabot_jobs")).all()
        engine.dispose()
        return {str(j): int(g) for j, g in rows}


@pytest.fixture
def cluster(database: str, tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(database, tmp_path, "10m")  # a busy machine starts slowly
    yield made
    if made.daemon.process.poll() is None:
        made.daemon.end(signal.SIGKILL)
    for agent in made.agents:
        if agent.process.poll() is None:
            agent.process.kill()
        agent.process.wait(30)


VIEWS = {
    "per_key": "SELECT k, count(*) AS n, sum(v) AS s FROM t GROUP BY k",
    "overall": "SELECT count(*) AS keys, sum(n) AS n, sum(s) AS s FROM per_key",
    "pairs": "SELECT a.k, a.v, d.name FROM t a JOIN d ON a.k = d.k WHERE a.v % 7 = 0",
    "all_rows": "SELECT k + 1 AS k1, v FROM t WHERE v >= 0",
}


def test_tasks_elsewhere_go_on_when_sabotd_was_killed(cluster: Cluster) -> None:
    """The attempts stay the same ones, and no row is lost or doubled, whenever the kill comes."""
    cluster.join(2)
    cluster.run(
        "SET parallelism = 3",
        "CREATE TABLE t (k INT, v INT)",
        "CREATE TABLE d (k INT, name VARCHAR)",
        "INSERT INTO d SELECT i, 'n' || i FROM range(5) r(i)",
        *(f"CREATE MATERIALIZED VIEW {n} AS {q}" for n, q in VIEWS.items()),
        "INSERT INTO t SELECT i % 10, i FROM range(1000) r(i)",
        "FLUSH",
    )
    before = cluster.attempts()
    for round_ in range(4):
        # without a FLUSH: rows are under way when it is killed
        cluster.run(f"INSERT INTO t SELECT i % 10, i FROM range({1000 + round_}) r(i)")
        cluster.kill_and_start(signal.SIGTERM if round_ == 2 else signal.SIGKILL)
        cluster.run(f"INSERT INTO t SELECT i % 10, i FROM range({500 + round_}) r(i)", "DELETE FROM d WHERE k = 4")
        cluster.run("INSERT INTO d VALUES (4, 'again')", "FLUSH")
        for name, query in VIEWS.items():
            want = cluster.rows(f"SELECT * FROM ({query}) q ORDER BY ALL")
            assert cluster.rows(f"SELECT * FROM {name} ORDER BY ALL") == want, name
    assert cluster.attempts() == before, cluster.daemon.log.read_text()
    assert cluster.daemon.end() == 0


def test_sources_and_sinks_elsewhere_go_on_when_sabotd_was_killed(cluster: Cluster, tmp_path: Path) -> None:
    """What the sources had given is not given again: a sink writes each row once."""
    cluster.join(2)
    cluster.run(
        "SET parallelism = 2",
        "CREATE SOURCE g (id BIGINT, w INT) WITH (connector = 'datagen', rows = 60000, rate = 6000, "
        "fields.id.kind = 'sequence', fields.id.start = 1, fields.id.end = 60000)",
        "CREATE MATERIALIZED VIEW seen AS SELECT id % 7 AS k, count(*) AS n, sum(id) AS s FROM g GROUP BY id % 7",
        "CREATE MATERIALIZED VIEW total AS SELECT sum(n) AS n, sum(s) AS s FROM seen",
        f"CREATE SINK out AS SELECT id FROM g WITH (connector = 'file', path = '{tmp_path}/out/') "
        "FORMAT PLAIN ENCODE CSV",
    )
    before = cluster.attempts()
    for sig in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        with cluster.connect() as db:
            ((reached,),) = db.sql("SELECT coalesce(max(n), 0) FROM total").fetchall()
            wait_for(db, f"SELECT n > {reached} OR n = 60000 FROM total", [(True,)])
        cluster.kill_and_start(sig)
    cluster.run("FLUSH")
    assert cluster.rows("SELECT n, s FROM total") == [(60000, 60000 * 60001 // 2)]
    assert cluster.attempts() == before, cluster.daemon.log.read_text()
    written = [int(line) for f in (tmp_path / "out").glob("*.csv") for line in f.read_text().split() if line.isdigit()]
    assert sorted(written) == list(range(1, 60001))
    assert cluster.daemon.end() == 0


def test_agents_that_died_with_sabotd(cluster: Cluster, database: str, tmp_path: Path) -> None:
    """Their rows still say that they are there: jobs wait for that to be noticed, and for an agent if none is left."""
    cluster.join(2)
    cluster.run(
        "SET parallelism = 2",
        "CREATE TABLE t (k INT, v INT)",
        "CREATE MATERIALIZED VIEW v AS SELECT k, count(*) AS n FROM t GROUP BY k",
        "CREATE MATERIALIZED VIEW w AS SELECT sum(n) AS n FROM v",
        "INSERT INTO t SELECT i % 10, i FROM range(1000) r(i)",
        "FLUSH",
    )
    cluster.agents[0].process.kill()
    cluster.kill_and_start()
    cluster.run("INSERT INTO t VALUES (1, 1)", "FLUSH")
    assert cluster.rows("SELECT n FROM w") == [(1001,)], cluster.daemon.log.read_text()

    cluster.agents[1].process.kill()
    cluster.agents[1].process.wait()
    waiting = "SELECT DISTINCT state, message FROM sabot_catalog.jobs"
    told = [("RECOVERING", "no agent is up; it waits for one to join")]
    with cluster.connect() as db:
        wait_for(db, waiting, told)
    cluster.kill_and_start()
    assert cluster.rows(waiting) == told
    cluster.agents.append(Joined(database, tmp_path, "r2"))
    cluster.run("INSERT INTO t VALUES (2, 2)", "FLUSH")
    assert cluster.rows("SELECT n FROM w") == [(1002,)], cluster.daemon.log.read_text()
    assert cluster.daemon.end() == 0


def test_agents_give_up_tasks_that_nobody_comes_back_for(database: str, tmp_path: Path) -> None:
    cluster = Cluster(database, tmp_path, "6s")
    try:
        cluster.join(1)
        cluster.run("CREATE TABLE t (k INT)", "CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM t")
        cluster.run("INSERT INTO t VALUES (1), (2)", "FLUSH")
        before = cluster.attempts()
        cluster.daemon.end(signal.SIGKILL)
        while "given up here" not in cluster.agents[0].log.read_text():
            assert cluster.agents[0].process.poll() is None
        cluster.start()
        cluster.run("INSERT INTO t VALUES (3)", "FLUSH")
        assert cluster.rows("SELECT n FROM v") == [(3,)]
        assert cluster.attempts()["mv:v"] > before["mv:v"]
        assert cluster.daemon.end() == 0
    finally:
        for agent in cluster.agents:
            agent.process.kill()
            agent.process.wait(30)


def test_a_paused_job_elsewhere_stays_paused_with_its_rows(cluster: Cluster) -> None:
    """Its attempt stays the same one too: what it had read is not read again when it goes on."""
    cluster.join(2)
    cluster.run(
        "CREATE TABLE t (k INT)",
        "CREATE MATERIALIZED VIEW v AS SELECT k % 10 AS d, count(*) AS n FROM t GROUP BY k % 10",
        "CREATE MATERIALIZED VIEW w AS SELECT sum(n) AS n FROM v",
        "INSERT INTO t SELECT i FROM range(100) r(i)",
        "FLUSH",
        "PAUSE JOB v",
    )
    before = cluster.attempts()
    cluster.kill_and_start()
    assert dict(cluster.rows("SELECT job, state FROM sabot_catalog.jobs")) == {"mv:v": "PAUSED", "mv:w": "RUNNING"}
    cluster.run("INSERT INTO t SELECT i FROM range(100) r(i)", "FLUSH")
    assert cluster.rows("SELECT sum(n) FROM v") == [(100,)]
    assert cluster.rows("SELECT n FROM w") == [(100,)]
    cluster.run("RESUME JOB v", "FLUSH")
    assert cluster.rows("SELECT sum(n) FROM v") == [(200,)]
    assert cluster.rows("SELECT n FROM w") == [(200,)]
    assert cluster.attempts() == before, cluster.daemon.log.read_text()
    assert cluster.daemon.end() == 0
