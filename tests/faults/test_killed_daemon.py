"""sabotd killed at any moment of CREATE and DROP: when it is back the catalog, jobs and store agree, and work."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

import sabot
from tests.support.fix_daemon import Start

TABLES = ("t0", "t1")
COLUMNS = ("k INT, v INT", "v INT, k INT, x INT DEFAULT 7")
INSERTED = 10


class Expected:
    """What a client was told. None: it was not told how its last statement on the table ended."""

    def __init__(self) -> None:
        self.rows: dict[str, set[int] | None] = dict.fromkeys(TABLES)

    def check(self, db: sabot.Connection) -> set[str]:
        """Compare with what is there; return the tables."""
        db.execute("FLUSH").close()
        there = {kind: {r[0] for r in db.sql(f"SHOW {kind}").fetchall()} for kind in ("tables", "materialized views")}
        sinks = {r[0] for r in db.sql("SHOW SINKS").fetchall()}
        for table, rows in self.rows.items():
            if rows is not None:
                assert (table in there["tables"]) == bool(rows), table
        for table in there["tables"]:
            found = db.sql(f"SELECT count(*), coalesce(sum(v), 0)::INT FROM {table}").fetchall()
            rows = self.rows[table]
            assert rows is None or found[0][0] in rows, (table, found, rows)
            assert found[0][0] in (0, INSERTED)
            if f"m_{table}" in there["materialized views"]:
                assert db.sql(f"SELECT n, coalesce(s, 0)::INT FROM m_{table}").fetchall() == found
        jobs = dict(db.sql("SELECT job, state FROM sabot_catalog.jobs").fetchall())
        objects = {f"mv:{v}" for v in there["materialized views"]} | {f"sink:{s}" for s in sinks}
        assert jobs == dict.fromkeys(objects, "RUNNING")
        return there["tables"]

    def change(self, db: sabot.Connection, rng: random.Random, there: set[str]) -> None:
        """Make or drop a table with all that reads it."""
        table = rng.choice(TABLES)
        before, self.rows[table] = self.rows[table], None
        if table in there:
            db.execute(f"DROP TABLE {table} CASCADE").close()
            there.discard(table)
            self.rows[table] = set()
            return
        assert not before
        db.execute(f"CREATE TABLE {table} ({rng.choice(COLUMNS)})").close()
        there.add(table)
        self.rows[table] = {0, INSERTED}
        db.execute(f"INSERT INTO {table} (k, v) SELECT i, i FROM range({INSERTED}) r(i)").close()
        self.rows[table] = {INSERTED}
        for statement in (
            f"CREATE MATERIALIZED VIEW m_{table} AS SELECT count(*) AS n, sum(v) AS s FROM {table}",
            f"CREATE SINK s_{table} FROM m_{table} WITH (connector = 'blackhole')",
        ):
            db.execute(statement).close()


def test_kills_between_create_and_drop(start: Start) -> None:
    """Takes seconds: a start each round."""
    rng = random.Random(3)
    expected = Expected()
    for _ in range(5):
        daemon = start()
        agents = daemon.children()
        with sabot.connect(daemon.location) as db:
            there = expected.check(db)
            # the moment is what is being varied: a clock is the only thing that knows nothing of the statements
            bomb = threading.Timer(rng.random() * 0.6, daemon.process.send_signal, [signal.SIGKILL])
            bomb.start()
            with pytest.raises(sabot.Error):
                while True:
                    expected.change(db, rng, there)
            bomb.join()
            daemon.process.wait(30)
        _, alive = psutil.wait_procs(agents, timeout=20)
        assert not alive, "agents go with their daemon"
    daemon = start()
    with sabot.connect(daemon.location) as db:
        expected.check(db)
        assert "ERROR   sabotd" not in daemon.log.read_text()


def marked(mark: str) -> list[psutil.Process]:
    """Return the processes that a daemon with this word in its environment has left, it among them."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.environ().get("SABOT_TEST") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def test_kills_during_the_start_leave_no_agent(tmp_path: Path) -> None:
    """Takes seconds: a start each round."""
    rng = random.Random(5)
    command = [sys.executable, "-m", "sabotd", "--data", str(tmp_path / "data"), "--listen", "grpc://127.0.0.1:0"]
    start_s = 0.0
    for _ in range(6):
        faulthandler.dump_traceback_later(180, exit=True)  # each has the time that a test has
        mark = f"{tmp_path}/{rng.random()}"
        ready_in, ready_out = os.pipe()
        began = time.monotonic()
        with (tmp_path / "log").open("ab") as log:
            daemon = subprocess.Popen(
                [*command, "--agents", "2", "--ready-fd", str(ready_out)],
                pass_fds=(ready_out,),
                stdin=subprocess.DEVNULL,
                stderr=log,
                env={**os.environ, "SABOT_TEST": mark},
            )
        os.close(ready_out)
        with os.fdopen(ready_in, "rb") as pipe:
            if not start_s:
                assert pipe.readline()
                start_s = time.monotonic() - began
            else:
                # the moment is what is being varied
                select.select([pipe], [], [], rng.random() * start_s)
            daemon.kill()
            daemon.wait()
        while marked(mark):
            pass
