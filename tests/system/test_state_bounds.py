"""What bounds state, on a real daemon: the clock, a TTL, the disk; and what is said where nothing does."""

from __future__ import annotations

from pathlib import Path

import pytest

import sabot
from tests.support.fix_daemon import Start
from tests.support.fix_server import Server


def test_rows_leave_a_view_as_time_passes_without_new_input(server: Server) -> None:
    server.run(
        "CREATE TABLE t (k INT, at TIMESTAMPTZ)",
        "CREATE MATERIALIZED VIEW recent AS SELECT k FROM t WHERE at > now() - INTERVAL '1 hour'",
        "CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS n FROM recent",
        "INSERT INTO t SELECT 1, now() - INTERVAL '2 hours'",
        "INSERT INTO t SELECT 2, now()",
        "INSERT INTO t SELECT 3, now() - INTERVAL '59 minutes 57 seconds'",
        "FLUSH",
    )
    assert set(server.rows("SELECT k FROM recent")) - {(3,)} == {(2,)}
    # nothing but the clock brings the next change
    changes = server.db.subscribe("counted")
    while not any(row["n"] == 1 and row["__weight"] == 1 for row in changes.read_next_batch().to_pylist()):
        pass
    changes.close()
    assert server.rows("SELECT k FROM recent") == [(2,)]
    server.run("DELETE FROM t WHERE k = 2", "FLUSH")
    assert server.rows("SELECT n FROM counted") == [(0,)]


def test_a_notice_tells_of_state_that_nothing_bounds(server: Server) -> None:
    server.run("CREATE SOURCE bids WITH (connector = 'nexmark', \"table\" = 'bid', rate = '1000')")
    query = "AS SELECT bidder, count(*) AS n FROM bids GROUP BY bidder"
    (notice,) = server.db.sql(f"CREATE MATERIALIZED VIEW v {query}").notices
    assert "grows for ever with bids" in notice
    assert server.db.sql(f"CREATE MATERIALIZED VIEW w WITH (state_ttl = '1 day') {query}").notices == ()
    plan = [
        line for (line,) in server.rows(f"EXPLAIN CREATE MATERIALIZED VIEW x WITH (state_ttl = '36 hours') {query}")
    ]
    assert any("state bounded by state_ttl 36 h" in str(line) for line in plan)
    with pytest.raises(sabot.Error, match="no interval of fixed length"):
        server.run(f"CREATE MATERIALIZED VIEW x WITH (state_ttl = '1 month') {query}")
    with pytest.raises(sabot.Error, match="option 'ttl' is not known"):
        server.run(f"CREATE MATERIALIZED VIEW x WITH (ttl = '1 day') {query}")


def test_a_view_that_outgrows_the_disk_stops_with_that_reason_and_the_rest_goes_on(
    start: Start, tmp_path: Path
) -> None:
    # 128 MB is the least that a task keeps in memory, so this has some hundred thousand rows to write
    config = tmp_path / "sabotd.toml"
    config.write_text('[agents]\nspill_limit = "1MiB"\nmemory_limit = "128MiB"\n[streaming]\nparallelism = 1\n')
    daemon = start("--config", str(config))
    with sabot.connect(daemon.location) as db:
        for statement in (
            "CREATE TABLE t (k BIGINT)",
            "CREATE MATERIALIZED VIEW good AS SELECT count(*) AS n FROM t",
            (
                "CREATE MATERIALIZED VIEW big AS SELECT a.k, b.k AS other FROM (SELECT k, repeat(k::VARCHAR, 60) AS s"
                " FROM t) AS a LEFT JOIN t AS b ON a.s = b.k::VARCHAR"
            ),
            "INSERT INTO t SELECT 10000000 + i FROM range(600000) AS r(i)",
        ):
            db.sql(statement)
        with pytest.raises(sabot.Error, match="outgrown the disk"):
            db.sql("FLUSH")
        jobs = db.sql("SELECT job, state, message FROM sabot_catalog.jobs").fetchall()
        states = {job: (state, str(why)) for job, state, why in jobs}
        assert states["mv:big"][0] == "FAILED"
        assert "the state has outgrown the disk" in states["mv:big"][1]
        assert states["mv:good"][0] == "RUNNING"
        for statement in ("DROP MATERIALIZED VIEW big", "INSERT INTO t VALUES (1)", "FLUSH"):
            db.sql(statement)
        assert db.sql("SELECT n FROM good").fetchall() == [(600_001,)]
