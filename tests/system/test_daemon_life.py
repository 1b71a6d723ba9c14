"""The daemon as an operator meets it: start, ready, signals, bad settings, restarts, crashes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

import sabot
from tests.support.fix_daemon import Start


def test_sigterm_ends_it_cleanly_with_its_agents(start: Start) -> None:
    daemon = start()
    agents = daemon.children()
    assert len(agents) == 2
    with sabot.connect(daemon.location) as db:
        db.execute("CREATE SOURCE n WITH (connector = 'nexmark', rate = '1000')").close()
        db.execute("CREATE MATERIALIZED VIEW v AS SELECT event_type, count(*) AS n FROM n GROUP BY event_type").close()
        assert daemon.end() == 0
    assert all(not a.is_running() or a.status() == psutil.STATUS_ZOMBIE for a in agents)
    log = daemon.log.read_text()
    assert "ERROR" not in log, log
    assert "stopped" in log


def test_a_stop_while_an_agent_is_being_replaced(start: Start) -> None:
    daemon = start()
    (lost, _) = daemon.children()
    lost.kill()
    while "died with signal SIGKILL" not in daemon.log.read_text():
        pass
    assert daemon.end() == 0
    assert "Timeout" not in daemon.log.read_text()


@pytest.mark.parametrize("folder", ["it's a földer, 100 %", "d" * 120])
def test_any_folder_may_hold_the_data(start: Start, folder: str) -> None:
    daemon = start(data=folder)
    with sabot.connect(daemon.location) as db:
        for statement in (
            "CREATE TABLE t (a INT)",
            "CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM t GROUP BY a",
            "INSERT INTO t VALUES (1)",
            "FLUSH",
        ):
            db.sql(statement)
        assert db.sql("SELECT n FROM v").fetchall() == [(1,)]
    assert daemon.end() == 0


def test_tables_and_views_survive_a_restart_and_a_kill(start: Start, tmp_path: Path) -> None:
    daemon = start()
    with sabot.connect(daemon.location) as db:
        for statement in (
            "CREATE TABLE t (k INT PRIMARY KEY, v INT)",
            "CREATE VIEW big AS SELECT * FROM t WHERE v > 5",
            "CREATE MATERIALIZED VIEW total AS SELECT count(*) AS n, sum(v) AS v FROM big",
            "INSERT INTO t VALUES (1, 10), (2, 1)",
            "FLUSH",
        ):
            db.execute(statement).close()
        assert db.sql("SELECT * FROM total").fetchall() == [(1, 10)]
    assert daemon.end() == 0
    daemon = start()
    with sabot.connect(daemon.location) as db:
        db.execute("FLUSH").close()
        assert db.sql("SELECT * FROM total").fetchall() == [(1, 10)]
        db.execute("INSERT INTO t VALUES (2, 20)").close()
    agents = daemon.children()
    daemon.end(signal.SIGKILL)
    psutil.wait_procs(agents, timeout=20)
    assert not any(a.is_running() and a.status() != psutil.STATUS_ZOMBIE for a in agents), "no orphans"
    daemon = start()
    with sabot.connect(daemon.location) as db:
        db.execute("FLUSH").close()
        assert db.sql("SELECT * FROM total").fetchall() == [(2, 30)]
        assert db.sql("SELECT * FROM big ORDER BY k").fetchall() == [(1, 10), (2, 20)]
    daemon.end()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_jobs_survive_the_loss_of_an_agent(start: Start, how: signal.Signals) -> None:
    daemon = start()
    with sabot.connect(daemon.location) as db:

        def run(*statements: str) -> None:
            for statement in statements:
                db.execute(statement).close()

        run(
            "CREATE TABLE t (k INT, v INT)",
            "INSERT INTO t SELECT i % 10, i FROM range(1000) r(i)",
            "CREATE MATERIALIZED VIEW v AS SELECT k, count(*) AS n, sum(v) AS s FROM t GROUP BY k",
            "CREATE MATERIALIZED VIEW w AS SELECT sum(n) AS n, sum(s) AS s FROM v",
            "FLUSH",
        )
        before = daemon.children()
        before[1].send_signal(how)  # a stopped one is noticed within five seconds, and made dead
        run("INSERT INTO t VALUES (1, 1), (11, 5)")
        psutil.wait_procs([before[1]], timeout=30)
        run("FLUSH")
        assert db.sql("SELECT * FROM w").fetchall() == [(1002, 499506)]
        assert db.sql("SELECT * FROM v WHERE k = 1").fetchall() == [(1, 101, 49601)]
        jobs = db.sql("SELECT state, message FROM sabot_catalog.jobs").fetchall()
        assert jobs == [("RUNNING", ""), ("RUNNING", "")]
        while db.sql("SELECT count(*) FROM sabot_catalog.agents WHERE state = 'UP'").fetchall() != [(3,)]:
            pass
        run("INSERT INTO t VALUES (1, 1)", "FLUSH")
        assert db.sql("SELECT * FROM w").fetchall() == [(1003, 499507)]
    assert daemon.end() == 0
    assert "runs again" in daemon.log.read_text()


def test_what_cannot_be_brought_back_is_shown_and_can_be_dropped(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("k\n1\n")
    daemon = start()
    with sabot.connect(daemon.location) as db:
        for statement in (
            f"""CREATE SOURCE s (k INT) WITH (connector = 'file', path = '{file}', csv.header = 'true')
                FORMAT PLAIN ENCODE CSV""",
            "CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM s",
            "CREATE TABLE t (k INT)",
            "CREATE MATERIALIZED VIEW good AS SELECT count(*) AS n FROM t",
        ):
            db.execute(statement).close()
    assert daemon.end() == 0
    file.unlink()
    daemon = start()
    with sabot.connect(daemon.location) as db:
        db.execute("FLUSH").close()
        assert db.sql("SELECT * FROM good").fetchall() == [(0,)]
        problems = dict(db.sql("SELECT name, problem FROM sabot_catalog.relations").fetchall())
        assert str(file) in problems["s"]
        assert problems["v"]
        assert problems["good"] is None
        db.execute("DROP MATERIALIZED VIEW v").close()
        db.execute("DROP SOURCE s").close()
        db.execute("CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM t").close()
        db.execute("FLUSH").close()
        assert db.sql("SELECT * FROM v").fetchall() == [(0,)]
    assert daemon.end() == 0


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told(start: Start, tmp_path: Path, abstract: bool) -> None:
    path = f"\0sabot-test-{os.getpid()}" if abstract else str(tmp_path / "notify.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(60)
        address = "@" + path[1:] if abstract else path
        daemon = start(env={"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "300000"})
        words = manager.recv(4096).decode()
        assert words.startswith("READY=1\n")
        assert daemon.location in words
        assert manager.recv(4096) == b"WATCHDOG=1"
        daemon.process.terminate()
        while (word := manager.recv(4096)) == b"WATCHDOG=1":
            pass
        assert word.startswith(b"STOPPING=1")
        assert daemon.process.wait(30) == 0


def one_line_and_status_2(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "sabotd", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("sabotd: ")
    return lines[0]


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = one_line_and_status_2("--data", str(tmp_path / "d"), "--listen", f"grpc://127.0.0.1:{port}")
    assert str(port) in said


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = one_line_and_status_2("--data", str(tmp_path / "file" / "d"))
    assert "cannot be written" in said


def test_a_second_daemon_on_the_same_folder_is_refused(start: Start, tmp_path: Path) -> None:
    start()
    said = one_line_and_status_2("--data", str(tmp_path / "data"), "--listen", "grpc://127.0.0.1:0")
    assert "another sabotd" in said


def test_a_typo_in_the_settings_is_one_line(tmp_path: Path) -> None:
    config = tmp_path / "sabotd.toml"
    config.write_text('[server]\nlisten = "grpc://127.0.0.1:0"\n\n[agents]\ncuont = 3\n')
    said = one_line_and_status_2("--config", str(config))
    assert f"{config}, line 5" in said
    assert "'count'" in said
