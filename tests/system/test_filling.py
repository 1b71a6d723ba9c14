"""A new view over rows that are there: SHOW JOBS tells how far it is, and it can be stopped."""

from __future__ import annotations

import threading

import pytest

from sabot.errors import SabotError
from tests.support.fix_server import Server

# every row meets every other: nobody waits for the end
LONG = "CREATE MATERIALIZED VIEW endless AS SELECT sum(a.v * b.v) AS s FROM t AS a JOIN t AS b ON a.k = b.k"


@pytest.fixture
def filled(server: Server) -> Server:
    server.run("CREATE TABLE t (k INT, v INT)", "INSERT INTO t SELECT 1, i FROM range(200000) AS r(i)")
    return server


def jobs(server: Server) -> set[object]:
    return {row[0] for row in server.rows("SHOW JOBS")}


def test_drop_stops_a_view_that_is_being_filled(filled: Server) -> None:
    filled.run(LONG)
    assert jobs(filled) == {"mv:endless"}
    filled.run("DROP MATERIALIZED VIEW endless")
    assert not jobs(filled)
    filled.run("CREATE MATERIALIZED VIEW endless AS SELECT count(*) AS n FROM t", "FLUSH")
    assert filled.rows("SELECT * FROM endless") == [(200000,)]


def test_how_far_it_is_is_told_until_the_first_rows_show(filled: Server) -> None:
    filled.run(LONG)
    told: set[object] = set()
    while "working on its first rows" not in told:
        ((epoch, message),) = filled.rows("SELECT epoch, message FROM sabot_catalog.jobs")
        assert epoch == 0
        assert str(message).startswith("filling from 't': ") or message == "working on its first rows"
        told.add(message)
    filled.run("DROP MATERIALIZED VIEW endless", "CREATE MATERIALIZED VIEW n AS SELECT count(*) AS n FROM t", "FLUSH")
    assert filled.rows("SELECT message FROM sabot_catalog.jobs") == [("",)]


def test_a_create_that_was_cancelled_leaves_nothing(filled: Server) -> None:
    told: list[SabotError] = []
    other = filled.another()
    other.execute("SET implicit_flush = true").close()

    def create() -> None:
        try:
            other.execute(LONG).close()
        except SabotError as error:
            told.append(error)

    thread = threading.Thread(target=create)
    thread.start()
    try:
        while "mv:endless" not in jobs(filled) and thread.is_alive():
            pass
        while thread.is_alive():
            # again, for the first may come before there is something to cancel
            other.cancel()
            thread.join(0.1)
    finally:
        thread.join()
        other.close()
    assert [error.sqlstate for error in told] == ["57014"]
    assert not jobs(filled)
    with pytest.raises(SabotError, match="does not exist"):
        filled.rows("SELECT * FROM endless")
