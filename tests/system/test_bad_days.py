"""What goes wrong while the system runs: failing jobs, vanishing clients, slow sinks, leaks."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import sabot
from tests.support.fix_server import Server


def tree(server: Server) -> list[psutil.Process]:
    daemon = psutil.Process(server.pid)
    return [daemon, *daemon.children(recursive=True)]


def held(server: Server) -> dict[str, int]:
    """Count what a process tree holds."""
    processes = tree(server)
    return {
        "processes": len(processes),
        "threads": sum(p.num_threads() for p in processes),
        "descriptors": sum(p.num_fds() for p in processes),
        "sockets": sum(len(p.net_connections("all")) for p in processes),
    }


def settle(server: Server, bound: dict[str, int], tries: int = 200) -> dict[str, int]:
    """Return what is held once it is within `bound`, or after many statements' time."""
    now = held(server)
    for _ in range(tries):
        if all(now[k] <= bound[k] for k in bound):
            break
        server.rows("SELECT count(*) FROM range(20000000) t(i) WHERE i % 3 = 0")  # some tens of milliseconds
        now = held(server)
    return now


def test_jobs_that_come_and_go_leave_nothing(server: Server) -> None:
    def cycle(n: int) -> None:
        server.run(
            "CREATE TABLE t (k INT, v INT)",
            "INSERT INTO t SELECT i % 7, i FROM range(1000) r(i)",
            "CREATE MATERIALIZED VIEW a AS SELECT k, sum(v) AS v FROM t GROUP BY k",
            "CREATE MATERIALIZED VIEW b AS SELECT count(*) AS n FROM a",
            "CREATE SINK s FROM a WITH (connector = 'blackhole')",
            "FLUSH",
            "DROP TABLE t CASCADE",
        )
        assert server.rows("SHOW JOBS") == [], n

    for n in range(3):
        cycle(n)
    before = held(server)
    for n in range(8):
        cycle(n)
    slack = {"processes": 0, "threads": 8, "descriptors": 12, "sockets": 8}
    bound = {k: v + slack[k] for k, v in before.items()}
    after = settle(server, bound)
    assert all(after[k] <= bound[k] for k in bound), (before, after)


def test_a_failing_job_says_why_and_leaves_the_others(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "out"
    server.run(
        "CREATE TABLE t (k INT)",
        "CREATE MATERIALIZED VIEW good AS SELECT count(*) AS n FROM t",
        f"CREATE SINK bad FROM t WITH (connector = 'file', path = '{out}') FORMAT PLAIN ENCODE JSON",
        "INSERT INTO t VALUES (1)",
        "FLUSH",
    )
    for file in out.iterdir():
        file.unlink()
    out.rmdir()
    out.write_text("in the way")
    server.run("INSERT INTO t VALUES (2)")
    with pytest.raises(sabot.Error, match="sink:bad"):
        server.run("FLUSH")
    states = {
        job: (state, message)
        for job, state, message in server.rows("SELECT job, state, message FROM sabot_catalog.jobs")
    }
    assert states["sink:bad"][0] == "FAILED"
    assert str(out) in str(states["sink:bad"][1])
    assert states["mv:good"][0] == "RUNNING"
    server.run("DROP SINK bad", "INSERT INTO t VALUES (3)", "FLUSH")
    assert server.rows("SELECT * FROM good") == [(3,)]


def test_a_view_that_stands_still_says_so(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    pq.write_table(pa.table({"k": [1, 2]}), folder / "a.parquet")
    server.run(
        f"CREATE SOURCE s (k BIGINT) WITH (connector = 'file', path = '{folder}/*.parquet')",
        "CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM s",
        "CREATE VIEW double AS SELECT 2 * n AS n FROM v",
        "FLUSH",
    )
    assert server.db.sql("SELECT n FROM v").notices == ()
    (folder / "b.parquet").write_bytes(b"no parquet at all")
    while server.rows("SELECT state FROM sabot_catalog.jobs") != [("FAILED",)]:
        threading.Event().wait(0.05)
    result = server.db.sql("SELECT n FROM v")
    assert result.fetchall() == [(2,)]
    assert result.notices == ("materialized view 'v' stands still: its job failed; SHOW JOBS tells why",)
    assert server.db.sql("SELECT n FROM double").notices == result.notices
    assert server.db.sql("SELECT 'v' AS vv").notices == ()


def test_a_client_that_disappears_is_forgotten(server: Server) -> None:
    server.run("CREATE TABLE t (k INT)", "CREATE MATERIALIZED VIEW v AS SELECT k, count(*) AS n FROM t GROUP BY k")
    server.run("FLUSH")
    before = held(server)
    code = (
        "import sys, sabot\n"
        "db = sabot.connect(sys.argv[1])\n"
        "changes = db.subscribe('v')\n"
        "print('subscribed', flush=True)\n"
        "for _ in changes: pass\n"
    )
    clients = [subprocess.Popen([sys.executable, "-c", code, server.db.url], stdout=subprocess.PIPE) for _ in range(4)]
    for client in clients:
        assert client.stdout is not None
        client.stdout.readline()
        client.kill()
        client.wait()
        client.stdout.close()
    bound = {k: v + 4 for k, v in before.items()}
    after = settle(server, bound)
    assert all(after[k] <= bound[k] for k in bound), (before, after)


def test_a_slow_sink_slows_its_source_and_memory_stays(server: Server) -> None:
    server.run(
        "CREATE SOURCE n WITH (connector = 'nexmark', \"table\" = 'bid')",  # as fast as it goes
        "CREATE SINK slow FROM n WITH (connector = 'blackhole', rows_per_second = '20000')",
    )
    peak = 0
    rows_in: list[int] = []
    for _ in range(25):
        server.rows("SELECT count(*) FROM range(60000000) t(i) WHERE i % 3 = 0")
        peak = max(peak, *(p.memory_info().rss for p in tree(server)[1:]))
        ((rows,),) = server.rows("SELECT rows_in FROM sabot_catalog.jobs WHERE job = 'sink:slow'")
        rows_in.append(int(str(rows)))
    assert peak < 700 << 20, "two agents' buffers are bounded"
    assert rows_in[-1] < 3_000_000, "a source that is not held back gives millions a second"
    server.run("DROP SOURCE n CASCADE")
