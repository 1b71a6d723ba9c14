"""sabotd killed at every step of every durable workflow: the next one finishes the change, once.

Takes minutes: a start of the daemon for each step. On SQLite it is killed before what a step has done is written down,
on PostgreSQL after; ``--every-kill`` does both on both.
"""

from __future__ import annotations

import faulthandler
import itertools
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

import sabot
from sabotd.control.tables import connect_engine
from tests.support.fix_daemon import Daemon
from tests.support.killed_daemon import __file__ as killed_daemon
from tests.support.servers import PostgresServer

Act = Callable[[sabot.Connection, Daemon], None]

SETUP = (
    "CREATE TABLE t (k INT, v INT)",
    "INSERT INTO t SELECT i % 10, i FROM range(1000) r(i)",
)
VIEW = "CREATE MATERIALIZED VIEW v AS SELECT k, count(*) AS n, sum(v) AS s FROM t GROUP BY k"


def run(*statements: str) -> Act:
    def act(db: sabot.Connection, daemon: Daemon) -> None:
        for statement in statements:
            db.execute(statement).close()

    return act


def lose_an_agent(db: sabot.Connection, daemon: Daemon) -> None:
    daemon.children()[0].kill()
    db.execute("INSERT INTO t VALUES (1, 0)").close()
    db.execute("FLUSH").close()


class Lives:
    """Daemons one after the other on one data folder and one control database."""

    def __init__(self, folder: Path, database: str) -> None:
        self._folder = folder
        self._config = folder / "sabotd.toml"
        self._config.write_text(f'[control]\ndatabase = "{database}"\n')
        self._file = folder / "kill"
        self.engine = connect_engine(database)
        self.daemon: Daemon | None = None
        self.agents = 2

    def start(self) -> Daemon:
        faulthandler.dump_traceback_later(180, exit=True)  # each life has the time that a test has
        arguments = ("--config", str(self._config), "--listen", "grpc://127.0.0.1:0", "--agents", str(self.agents))
        program = (killed_daemon, str(self._file))
        self.daemon = Daemon(self._folder / "data", *arguments, program=program)
        return self.daemon

    def killed(self, daemon: Daemon, workflow: str, number: int, moment: str, act: Act) -> bool:
        """Do something that runs a workflow; whether the daemon came so far in it as to kill itself."""
        self._file.write_text(f"{workflow} {number} {moment}")
        try:
            with sabot.connect(daemon.location) as db:
                act(db, daemon)
        except sabot.Error:
            assert daemon.process.wait(30) == -signal.SIGKILL, daemon.log.read_text()
            return True
        finally:
            self._file.unlink()
        return False

    def attempts(self) -> int:
        """Return how many attempts of jobs were begun so far."""
        with self.engine.begin() as con:
            query = sa.text("SELECT coalesce(max(value), 0) FROM sabot_counters WHERE name = 'generation'")
            return int(con.execute(query).scalar_one())

    def check(self, db: sabot.Connection, jobs: dict[str, str]) -> None:
        """Compare the catalog, the tables and the answers with what should be; `jobs` with their state."""
        db.execute("FLUSH").close()
        assert dict(db.sql("SELECT job, state FROM sabot_catalog.jobs").fetchall()) == jobs
        views = {r[0] for r in db.sql("SHOW MATERIALIZED VIEWS").fetchall()}
        assert {f"mv:{v}" for v in views} == set(jobs)
        ((count, total),) = db.sql("SELECT count(*), sum(v) FROM t").fetchall()
        for view in views:
            if jobs[f"mv:{view}"] == "RUNNING" and jobs["mv:v"] == "RUNNING":
                assert db.sql(f"SELECT sum(n), sum(s) FROM {view}").fetchall() == [(count, total)], view
        bad = db.sql("SELECT workflow_id, status FROM sabot_catalog.workflows WHERE status <> 'SUCCESS'").fetchall()
        assert bad == []
        with self.engine.begin() as con:
            rows = con.execute(sa.text("SELECT job_id, state, generation, desired FROM sabot_jobs")).all()
            tasks = con.execute(sa.text("SELECT DISTINCT job_id, generation FROM sabot_tasks")).all()
        assert {r[0] for r in rows} == set(jobs)
        for job, state, generation, desired in rows:
            assert desired == ("paused" if jobs[job] == "PAUSED" else "running")
            if jobs[job] == "RUNNING":
                assert state == "RUNNING"
                assert [g for j, g in tasks if j == job] == [generation]
        assert {j for j, _ in tasks} <= set(jobs)

    def close(self) -> None:
        if self.daemon is not None and self.daemon.process.poll() is None:
            self.daemon.end(signal.SIGKILL)
        self.engine.dispose()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    ways = [("SQLite", "before"), ("PostgreSQL", "after")]
    if metafunc.config.getoption("--every-kill"):
        ways += [("SQLite", "after"), ("PostgreSQL", "before")]
    metafunc.parametrize(("database", "moment"), ways)


@pytest.fixture
def lives(request: pytest.FixtureRequest, tmp_path: Path, database: str) -> Iterator[Lives]:
    url = f"sqlite:///{tmp_path / 'control.sqlite'}"
    if database == "PostgreSQL":
        server: PostgresServer = request.getfixturevalue("postgres")
        url = server.new_database()
    made = Lives(tmp_path, url)
    yield made
    made.close()


RUNNING = {"mv:v": "RUNNING"}
CASES: dict[str, tuple[tuple[str, ...], str, tuple[Act, Act], dict[str, str]]] = {
    # what there is, the workflow, (how to get there, what runs it), the jobs afterwards
    "create": (SETUP, "deploy", (run("DROP MATERIALIZED VIEW IF EXISTS v"), run(VIEW)), RUNNING),
    # the view that it reads begins again meanwhile
    "create a reader": (
        (*SETUP, VIEW),
        "deploy",
        (
            run("DROP MATERIALIZED VIEW IF EXISTS w"),
            run("CREATE MATERIALIZED VIEW w AS SELECT n, s FROM v WHERE k >= 0"),
        ),
        {**RUNNING, "mv:w": "RUNNING"},
    ),
    "drop": (SETUP, "stop", (run("FLUSH", VIEW), run("DROP MATERIALIZED VIEW v")), {}),
    "pause": ((*SETUP, VIEW), "pause", (run("RESUME JOB v"), run("PAUSE JOB v")), {"mv:v": "PAUSED"}),
    "resume": ((*SETUP, VIEW), "resume", (run("PAUSE JOB v"), run("RESUME JOB v")), RUNNING),
    "recover": ((*SETUP, VIEW), "recover", (run("FLUSH"), lose_an_agent), RUNNING),
    "drain": ((*SETUP, VIEW), "drain", (run("FLUSH"), run("ALTER SYSTEM DRAIN AGENT a2")), RUNNING),
}


@pytest.mark.parametrize("case", CASES)
def test_a_killed_daemon_finishes_what_it_had_begun(lives: Lives, case: str, moment: str) -> None:
    setup, workflow, (prepare, act), jobs = CASES[case]
    lives.agents = 2 if case in ("recover", "drain") else 1
    daemon = lives.start()
    with sabot.connect(daemon.location) as db:
        run(*setup)(db, daemon)
    for number in itertools.count():
        with sabot.connect(daemon.location) as db:
            prepare(db, daemon)
        begun = lives.attempts()
        if not lives.killed(daemon, workflow, number, moment, act):
            break
        daemon = lives.start()
        with sabot.connect(daemon.location) as db:
            lives.check(db, jobs)
        assert lives.attempts() - begun <= 2 * max(len(jobs), 1), "the attempt that was cut off, and one more"
    assert number >= 3
    with sabot.connect(daemon.location) as db:
        lives.check(db, jobs)
    assert "ERROR   sabotd sabot.coordinator" not in daemon.log.read_text(), "no job fails by a kill"
