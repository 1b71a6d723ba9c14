"""PAUSE and RESUME: nothing read meanwhile, nothing lost or twice after, whatever happens in between."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import psutil
import pytest

import sabot
from planner import JobGraph, OperatorType
from tests.support.fix_daemon import Start
from tests.support.fix_server import Server


def states(db: sabot.Connection) -> dict[str, str]:
    return dict(db.sql("SELECT job, state FROM sabot_catalog.jobs").fetchall())


def run(db: sabot.Connection, *statements: str) -> None:
    for statement in statements:
        db.execute(statement).close()


VIEWS = (
    "CREATE TABLE t (k INT, v INT)",
    "CREATE MATERIALIZED VIEW v AS SELECT k, count(*) AS n, sum(v) AS s FROM t GROUP BY k",
    "CREATE MATERIALIZED VIEW w AS SELECT sum(n) AS n, sum(s) AS s FROM v",
    "INSERT INTO t SELECT i % 10, i FROM range(1000) r(i)",
)


def test_a_paused_view_stands_still_and_goes_on(server: Server) -> None:
    server.run(*VIEWS, "ALTER MATERIALIZED VIEW v PAUSE")
    before = server.rows("SELECT * FROM v ORDER BY k")
    assert sum(int(str(n)) for _, n, _ in before) in (0, 1000), "an INSERT is there as a whole or not at all"
    server.run("INSERT INTO t VALUES (1, 1), (77, 5)")
    flushed = server.db.sql("FLUSH")
    assert flushed.notices == ("job 'mv:v' is paused: it is not waited for",)
    assert server.rows("SELECT * FROM v ORDER BY k") == before
    assert states(server.db) == {"mv:v": "PAUSED", "mv:w": "RUNNING"}
    asked = server.db.sql("SELECT * FROM w")
    assert asked.notices == ("materialized view 'v' is paused; ALTER MATERIALIZED VIEW 'v' RESUME has it go on",)
    asked.close()
    assert server.db.sql("PAUSE JOB v").notices == ("materialized view 'v' is paused already",)
    server.run("ALTER JOB v RESUME", "FLUSH")
    assert server.rows("SELECT * FROM w") == [(1002, 499506)]
    assert states(server.db) == {"mv:v": "RUNNING", "mv:w": "RUNNING"}
    assert server.db.sql("RESUME MATERIALIZED VIEW v").notices == ("materialized view 'v' is running already",)
    names = {n for (n,) in server.rows("SELECT name FROM sabot_catalog.workflows WHERE status = 'SUCCESS'")}
    assert {"pause", "resume"} <= names


def test_what_was_read_is_visible_when_pause_returns(server: Server) -> None:
    server.run(
        "CREATE SOURCE g (id BIGINT, k BIGINT) WITH (connector = 'datagen', rows = 400000, rate = 200000, "
        "fields.id.kind = 'sequence')",
        "CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n, count(DISTINCT id) AS d FROM g",
        "CREATE MATERIALIZED VIEW w AS SELECT n FROM v",
    )
    counts = []
    for _ in range(4):
        server.run("ALTER MATERIALIZED VIEW v PAUSE")
        ((n, d),) = server.rows("SELECT n, d FROM v")
        assert n == d
        ((rows_in,),) = server.rows("SELECT rows_in FROM sabot_catalog.jobs WHERE job = 'mv:v'")
        assert n == rows_in, "all that was read, and nothing else"
        server.rows("SELECT count(*) FROM range(30000000) t(i) WHERE i % 3 = 0")
        assert server.rows("SELECT n, d FROM v") == [(n, d)]
        counts.append(n)
        server.run("ALTER MATERIALIZED VIEW v RESUME")
    server.run("FLUSH")
    assert server.rows("SELECT n, d FROM v") == [(400000, 400000)]
    assert server.rows("SELECT n FROM w") == [(400000,)]
    assert counts == sorted(counts)


def test_a_paused_sink_writes_nothing_and_can_be_dropped(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def written() -> list[int]:
        return sorted(json.loads(line)["k"] for f in out.glob("*") for line in f.read_text().splitlines())

    server.run(
        "CREATE TABLE t (k INT)",
        f"CREATE SINK s FROM t WITH (connector = 'file', path = '{out}') FORMAT PLAIN ENCODE JSON",
        "INSERT INTO t VALUES (1), (2)",
        "FLUSH",
        "ALTER SINK s PAUSE",
        "INSERT INTO t VALUES (3)",
        "FLUSH",
    )
    assert written() == [1, 2]
    server.run("ALTER SINK s RESUME", "FLUSH")
    assert written() == [1, 2, 3]
    server.run("ALTER SINK s PAUSE", "DROP SINK s", "INSERT INTO t VALUES (4)", "FLUSH")
    assert written() == [1, 2, 3]
    assert states(server.db) == {}


def test_what_cannot_be_paused_is_told(server: Server) -> None:
    server.run(*VIEWS, "CREATE VIEW plain AS SELECT * FROM t")
    for statement, words in (
        ("ALTER MATERIALIZED VIEW nothing PAUSE", "does not exist"),
        ("ALTER SINK v PAUSE", "'v' is a materialized view, not a sink"),
        ("ALTER JOB t PAUSE", "'t' is a table, not a job"),
        ("PAUSE MATERIALIZED VIEW plain", "'plain' is a view, not a materialized view"),
        ("ALTER TABLE t ADD COLUMN x INT", "ALTER of this is not supported"),
        ("ALTER MATERIALIZED VIEW v", "PAUSE, RESUME or RENAME TO"),
        ("PAUSE v", "MATERIALIZED VIEW, SINK or JOB"),
    ):
        with pytest.raises(sabot.Error, match=words):
            server.run(statement)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_pause_survives_the_daemon(start: Start, how: signal.Signals) -> None:
    daemon = start()
    with sabot.connect(daemon.location) as db:
        run(db, *VIEWS, "FLUSH", "ALTER MATERIALIZED VIEW v PAUSE")
    daemon.end(how)
    daemon = start()
    with sabot.connect(daemon.location) as db:
        assert states(db) == {"mv:v": "PAUSED", "mv:w": "RUNNING"}
        run(db, "INSERT INTO t VALUES (1, 1)", "FLUSH")
        assert db.sql("SELECT * FROM v").fetchall() == [], (
            "views begin anew with a daemon, a paused one when it goes on"
        )
        run(db, "RESUME JOB v", "FLUSH")
        assert db.sql("SELECT * FROM w").fetchall() == [(1001, 499501)]
        assert states(db) == {"mv:v": "RUNNING", "mv:w": "RUNNING"}
    assert daemon.end() == 0
    daemon = start()
    with sabot.connect(daemon.location) as db:
        run(db, "FLUSH")
        assert db.sql("SELECT * FROM w").fetchall() == [(1001, 499501)], "and so does a resume"
    assert daemon.end() == 0


def test_a_paused_view_keeps_its_rows_when_its_tasks_are_lost(start: Start) -> None:
    daemon = start()
    with sabot.connect(daemon.location) as db:
        run(db, *VIEWS, "FLUSH", "ALTER MATERIALIZED VIEW v PAUSE")
        before = db.sql("SELECT * FROM v ORDER BY k").fetchall()
        agent = daemon.children()[0]
        agent.kill()
        psutil.wait_procs([agent], timeout=30)
        run(db, "INSERT INTO t VALUES (1, 1)", "FLUSH")
        assert db.sql("SELECT * FROM v ORDER BY k").fetchall() == before
        while db.sql("SELECT count(*) FROM sabot_catalog.workflows WHERE name = 'recover'").fetchall() == [(0,)]:
            pass
        assert states(db) == {"mv:v": "PAUSED", "mv:w": "RUNNING"}
        run(db, "RESUME JOB v", "FLUSH")
        assert db.sql("SELECT * FROM w").fetchall() == [(1001, 499501)]
    assert daemon.end() == 0


def test_a_job_written_as_a_graph_pauses_too(server: Server) -> None:
    server.run("CREATE TABLE t (k INT)", "INSERT INTO t VALUES (1), (2)")
    graph = JobGraph("doubled")
    rows = graph.add_operator("rows", OperatorType.SOURCE, relation="t")
    double = graph.add_operator("double", OperatorType.MAP, sql="2 * k AS k")
    view = graph.add_operator("view", OperatorType.MATERIALIZE)
    graph.connect(rows, double)
    graph.connect(double, view)
    with sabot.App("app", server=server.db.url) as app:
        job = app.submit(graph)
        job.wait()
        job.pause()
        assert job.status()["state"] == "PAUSED"
        server.run("INSERT INTO t VALUES (3)", "FLUSH")
        assert server.rows("SELECT k FROM doubled ORDER BY k") == [(2,), (4,)]
        job.resume()
        job.wait()
        assert server.rows("SELECT k FROM doubled ORDER BY k") == [(2,), (4,), (6,)]
        job.drop()
