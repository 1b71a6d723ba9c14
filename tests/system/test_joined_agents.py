"""Agents that join through PostgreSQL: found, given tasks, lost, drained; and those that may not join."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

import sabot
from tests.support.fix_daemon import Daemon
from tests.support.servers import PostgresServer, find_program

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def database(postgres: PostgresServer) -> str:
    """Make a database of the test's own; gives its URL."""
    return postgres.new_database()


@pytest.fixture
def daemon(database: str, tmp_path: Path) -> Iterator[Daemon]:
    config = tmp_path / "sabotd.toml"
    config.write_text(
        f'[control]\ndatabase = "{database}"\n[agents]\ncount = 1\nlisten = "grpc://127.0.0.1:0"\ncompression = "lz4"\n'
    )
    started = Daemon(tmp_path / "data", "--config", str(config), "--listen", "grpc://127.0.0.1:0")
    yield started
    if started.process.poll() is None:
        started.end(signal.SIGKILL)


class Joined:
    """An agent process that joins by itself."""

    def __init__(self, database: str, folder: Path, name: str, *arguments: str) -> None:
        self.log = folder / f"{name}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sabotd", "agent", "--join", database, "--id", name]
                + ["--listen", "grpc://127.0.0.1:0", "--state-dir", str(folder / name), *arguments],
                stdin=subprocess.DEVNULL,
                stderr=log,
            )


@pytest.fixture
def join(database: str, tmp_path: Path) -> Iterator[list[Joined]]:
    started: list[Joined] = []
    yield started
    for agent in started:
        if agent.process.poll() is None:
            agent.process.kill()
        agent.process.wait(30)


def wait_for(db: sabot.Connection, query: str, rows: list[tuple[object, ...]]) -> None:
    """Ask until the answer is as it should be; the test's own time-out ends a wait in vain."""
    while [tuple(r) for r in db.sql(query).fetchall()] != rows:
        pass


UP = "SELECT agent FROM sabot_catalog.agents WHERE state = 'UP' ORDER BY agent"


def test_agents_join_work_are_lost_and_are_drained(
    database: str, daemon: Daemon, join: list[Joined], tmp_path: Path
) -> None:
    join += [
        Joined(database, tmp_path, f"r{i}", "--label", f"rack={i}", "--slots", "3", "--compression", "zstd")
        for i in range(2)
    ]
    with sabot.connect(daemon.location) as db:

        def run(*statements: str) -> None:
            for statement in statements:
                db.execute(statement).close()

        wait_for(db, UP, [("a1",), ("r0",), ("r1",), ("sabotd",)])
        told = db.sql("SELECT slots, labels, version FROM sabot_catalog.agents WHERE agent = 'r1'").fetchall()
        assert told == [(3, "rack=1", sabot.__version__)]
        run(
            "SET parallelism = 3",
            "CREATE TABLE t (k INT, v INT)",
            "INSERT INTO t SELECT i % 10, i FROM range(1000) r(i)",
            "CREATE MATERIALIZED VIEW v AS SELECT k, count(*) AS n, sum(v) AS s FROM t GROUP BY k",
            "FLUSH",
        )
        assert db.sql("SELECT sum(n), sum(s) FROM v").fetchall() == [(1000, 499500)]
        placed = dict(db.sql("SELECT agent, tasks FROM sabot_catalog.agents").fetchall())
        assert placed["r0"] > 0
        assert placed["r1"] > 0

        join[0].process.kill()
        run("INSERT INTO t SELECT i % 10, i FROM range(1000) r(i)", "FLUSH")
        assert db.sql("SELECT sum(n), sum(s) FROM v").fetchall() == [(2000, 999000)]
        wait_for(db, UP, [("a1",), ("r1",), ("sabotd",)])

        run("ALTER SYSTEM DRAIN AGENT r1")
        assert join[1].process.wait(30) == 0, join[1].log.read_text()
        run("INSERT INTO t VALUES (1, 1)", "FLUSH")
        assert db.sql("SELECT sum(n), sum(s) FROM v").fetchall() == [(2001, 999001)]
        with pytest.raises(sabot.Error, match="only one"):
            run("ALTER SYSTEM DRAIN AGENT a1")
        with pytest.raises(sabot.Error, match="does not exist"):
            run("ALTER SYSTEM DRAIN AGENT r7")
        names = db.sql("SELECT DISTINCT name FROM sabot_catalog.workflows WHERE status = 'SUCCESS'").fetchall()
        assert {n for (n,) in names} == {"deploy", "recover", "drain"}
        ((steps,),) = db.sql("SELECT count(*) FROM sabot_catalog.workflow_steps WHERE name = 'place'").fetchall()
        assert steps >= 3
    assert daemon.end() == 0


def test_a_stopped_agent_is_declared_dead_and_ends_itself_when_it_wakes(
    database: str, daemon: Daemon, join: list[Joined], tmp_path: Path
) -> None:
    join.append(Joined(database, tmp_path, "r0"))
    with sabot.connect(daemon.location) as db:
        wait_for(db, UP, [("a1",), ("r0",), ("sabotd",)])
        for statement in (
            "CREATE TABLE t (k INT)",
            "CREATE MATERIALIZED VIEW v AS SELECT k, count(*) AS n FROM t GROUP BY k",
        ):
            db.execute(statement).close()
        join[0].process.send_signal(signal.SIGSTOP)
        db.execute("INSERT INTO t VALUES (1), (2), (3)").close()
        wait_for(db, UP, [("a1",), ("sabotd",)])
        db.execute("FLUSH").close()
        assert db.sql("SELECT sum(n) FROM v").fetchall() == [(3,)]
        join[0].process.send_signal(signal.SIGCONT)
        assert join[0].process.wait(30) == 3, "fenced"
        assert "declared dead" in join[0].log.read_text()
        db.execute("INSERT INTO t VALUES (4)").close()
        db.execute("FLUSH").close()
        assert db.sql("SELECT sum(n) FROM v").fetchall() == [(4,)]
    assert daemon.end() == 0


def test_a_stopped_agent_that_reads_sources_holds_nobody_up(
    database: str, daemon: Daemon, join: list[Joined], tmp_path: Path
) -> None:
    """Barriers are on their way to it, which it never answers: nobody may wait for that."""
    join.append(Joined(database, tmp_path, "r0"))
    with sabot.connect(daemon.location) as db:
        wait_for(db, UP, [("a1",), ("r0",), ("sabotd",)])
        for statement in (
            "SET parallelism = 2",
            "CREATE SOURCE s (k BIGINT) WITH (connector = 'datagen', rate = 1000)",
            "CREATE MATERIALIZED VIEW v AS SELECT k % 10 AS d, count(*) AS n FROM s GROUP BY k % 10",
            "FLUSH",
        ):
            db.execute(statement).close()
        join[0].process.send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        wait_for(db, UP, [("a1",), ("sabotd",)])
        wait_for(db, "SELECT state, epoch > 1 FROM sabot_catalog.jobs WHERE tasks = 5", [("RUNNING", True)])
        db.execute("FLUSH").close()
        assert time.monotonic() - stopped < 20, "less than a call's time-out"
        join[0].process.send_signal(signal.SIGCONT)
        assert join[0].process.wait(30) == 3, "fenced"
    assert daemon.end() == 0


def refused(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "sabotd", "agent", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()
    return line


def in_log(daemon: Daemon, words: str) -> bool:
    """Wait until the daemon has logged `words`, once; it looks at the tables every second."""
    while words not in daemon.log.read_text():
        assert daemon.process.poll() is None
    return daemon.log.read_text().count(words) == 1


def test_who_may_not_join_is_told_in_one_line(database: str, daemon: Daemon, tmp_path: Path) -> None:
    here = ("--listen", "grpc://127.0.0.1:0", "--state-dir", str(tmp_path / "r"))
    assert "does not answer" in refused("--join", "postgresql://x@127.0.0.1:1/x", *here)
    assert "no URL" in refused("--join", "postgres//x", *here)
    assert "token and TLS" in refused("--join", database, "--listen", "grpc://192.0.2.1:7000")
    empty = database.rpartition("/")[0] + "/postgres"
    assert "no sabotd has set up" in refused("--join", empty, *here)
    engine = sa.create_engine(database.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as con:
        con.execute(sa.text("UPDATE sabot_cluster SET version = '99.0'"))
    engine.dispose()
    said = refused("--join", database, "--id", "old", *here)
    assert sabot.__version__ in said
    assert "99.0" in said
    assert in_log(daemon, f"it is Sabot {sabot.__version__}, the cluster runs 99.0")
    assert daemon.end() == 0


TLS = Path(__file__).parents[1] / "support" / "tls"


def test_who_does_not_belong_to_the_cluster_is_told_on_both_sides(database: str, tmp_path: Path) -> None:
    for name, token in (("right", "s3cret"), ("wrong", "guess")):
        (tmp_path / name).write_text(token)
    secrets = {"certificate": TLS / "certificate.pem", "key": TLS / "key.pem", "ca": TLS / "certificate.pem"}
    other = {"certificate": tmp_path / "other.pem", "key": tmp_path / "other.key"}
    make = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    make += ["-subj", "/CN=other", "-addext", "subjectAltName=IP:127.0.0.1"]
    make += ["-out", str(other["certificate"]), "-keyout", str(other["key"])]
    subprocess.run([find_program("openssl"), *make], check=True, capture_output=True)
    config = tmp_path / "sabotd.toml"
    lines = [f'[control]\ndatabase = "{database}"\n[agents]\ncount = 1\nlisten = "grpc+tls://127.0.0.1:0"']
    lines += [f'token_file = "{tmp_path / "right"}"', *(f'{k}_file = "{v}"' for k, v in secrets.items())]
    config.write_text("\n".join(lines) + "\n")
    daemon = Daemon(tmp_path / "data", "--config", str(config), "--listen", "grpc://127.0.0.1:0")

    def arguments(token: str, **other: Path) -> list[str]:
        files = {**secrets, "token": tmp_path / token, **other}
        common = ["--join", database, "--listen", "grpc+tls://127.0.0.1:0", "--state-dir", str(tmp_path / "r")]
        return [*common, *(f"--{k}-file={v}" for k, v in files.items())]

    try:
        with sabot.connect(daemon.location) as db:
            wait_for(db, UP, [("a1",), ("sabotd",)])
            assert "the agent's token is missing or wrong" in refused(*arguments("wrong"), "--id", "w")
            assert in_log(daemon, "the agent's token is missing or wrong")
            # it does not trust sabotd
            assert "no TLS with peer" in refused(*arguments("right", ca=other["certificate"]), "--id", "x")
            assert in_log(daemon, "agent x at")
            # sabotd does not trust it
            assert "cannot call the agent" in refused(*arguments("right", **other), "--id", "y")
            assert in_log(daemon, "agent y at")
            wait_for(db, UP, [("a1",), ("sabotd",)])
    finally:
        assert daemon.end() == 0
