"""Rows that come too late, on a real daemon: left out per window, counted, and shown by sabot_late."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest

from sabot.errors import SqlError
from tests.support.fix_server import Server

START = dt.datetime(2024, 5, 1, 12)
COLUMNS = "(who VARCHAR, n INT, t TIMESTAMP, WATERMARK FOR t AS t - INTERVAL '1 second')"


def at(second: int) -> dt.datetime:
    return START + dt.timedelta(seconds=second)


def source(server: Server, path: Path, seconds: list[int]) -> None:
    rows = ({"who": "ab"[i % 2], "n": i, "t": str(at(s))} for i, s in enumerate(seconds))
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    server.run(
        f"CREATE SOURCE clicks {COLUMNS} WITH (connector = 'file', path = '{path}', mode = 'once') ENCODE JSON".replace(
            "ENCODE", "FORMAT PLAIN ENCODE"
        )
    )


def late_count(server: Server, view: str) -> int:
    ((count,),) = server.rows(f"SELECT late_rows FROM sabot_catalog.jobs WHERE job = 'mv:{view}'")
    return int(count)


@pytest.mark.parametrize("parallelism", [1, 4])
def test_a_late_row_is_shown_with_each_window_that_had_closed(server: Server, tmp_path: Path, parallelism: int) -> None:
    # the row of second 3 comes when the watermark is 11: two of its three windows have closed
    source(server, tmp_path / "clicks.ndjson", [1, 4, 12, 3, 13])
    server.run(f"SET parallelism = {parallelism}")
    server.run(
        "CREATE MATERIALIZED VIEW v AS SELECT window_end, count(*) AS rows FROM HOP(clicks, t, INTERVAL '5 seconds',"
        " INTERVAL '15 seconds') WHERE n >= 0 GROUP BY window_end EMIT ON WINDOW CLOSE",
        "RESET parallelism",
        "FLUSH",
    )
    late = server.rows("SELECT window_end, watermark FROM sabot_late('v') ORDER BY ALL")
    assert late == [(at(5), at(11)), (at(10), at(11))]
    assert late_count(server, "v") == 2
    assert dict(server.rows("SELECT * FROM v"))[at(15)] == 5
    ((seen,),) = server.rows("SELECT max(seen_at) <= now() FROM sabot_late('v')")
    assert seen


def test_rows_that_no_session_takes_and_rows_behind_others_are_shown_too(server: Server, tmp_path: Path) -> None:
    source(server, tmp_path / "clicks.ndjson", [1, 2, 30, 3, 31, 29])
    server.run(
        "CREATE MATERIALIZED VIEW s AS SELECT who, n, window_end FROM SESSION(clicks PARTITION BY who, t,"
        " INTERVAL '5 seconds') EMIT ON WINDOW CLOSE",
        "CREATE MATERIALIZED VIEW o AS SELECT who, t, row_number() OVER (PARTITION BY who ORDER BY t) AS r FROM clicks"
        " EMIT ON WINDOW CLOSE",
        "CREATE MATERIALIZED VIEW u AS SELECT count(*) AS n FROM clicks",
        "FLUSH",
    )
    assert server.rows("SELECT who, n, t, watermark FROM sabot_late('s')") == [("b", 3, at(3), at(29))]
    assert server.rows("SELECT t, watermark FROM sabot_late('o') ORDER BY t") == [(at(3), at(29)), (at(29), at(30))]
    assert server.rows("SELECT count(*) FROM sabot_late('u')") == [(0,)]
    assert [late_count(server, view) for view in "sou"] == [1, 2, 0]


def test_a_table_judges_what_comes_after_the_view(server: Server) -> None:
    server.run(
        f"CREATE TABLE clicks {COLUMNS} APPEND ONLY",
        f"INSERT INTO clicks VALUES ('a', 1, '{at(20)}'), ('a', 2, '{at(1)}')",
        "CREATE MATERIALIZED VIEW v AS SELECT who, window_end, sum(n) AS s FROM TUMBLE(clicks, t, INTERVAL '5 seconds')"
        " GROUP BY who, window_end EMIT ON WINDOW CLOSE",
        "FLUSH",
    )
    # rows that are there have no order
    assert server.rows("SELECT * FROM v") == [("a", at(5), 2)]
    server.run(f"INSERT INTO clicks VALUES ('a', 4, '{at(2)}'), ('a', 8, '{at(22)}'), ('a', 16, '{at(40)}')", "FLUSH")
    assert sorted(server.rows("SELECT * FROM v")) == [("a", at(5), 2), ("a", at(25), 9)]
    assert server.rows("SELECT who, window_end, watermark FROM sabot_late('v')") == [("a", at(5), at(19))]
    with pytest.raises(SqlError, match="'clicks' is no materialized view or sink"):
        server.rows("SELECT * FROM sabot_late('clicks')")


def test_plain_views_hold_windows_as_flink_and_arroyo_write_them(server: Server) -> None:
    server.run(f"CREATE TABLE clicks {COLUMNS} APPEND ONLY")
    ten = "TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(t), INTERVAL '10' SECOND))"
    server.run(
        f"CREATE VIEW ten AS SELECT who, window_time AS rt, count(*) AS rows FROM {ten}"
        " GROUP BY who, window_start, window_end, window_time",
        "CREATE VIEW of_arroyo AS SELECT tumble(INTERVAL '10 seconds') AS w, count(*) AS rows FROM clicks GROUP BY w",
        # windows over windows that have closed, as Flink's manual has them
        "CREATE MATERIALIZED VIEW twenty AS SELECT window_start, sum(rows) AS rows"
        " FROM TABLE(TUMBLE(TABLE ten, DESCRIPTOR(rt), INTERVAL '20' SECOND)) GROUP BY window_start, window_end",
        f"INSERT INTO clicks VALUES ('a', 1, '{at(1)}'), ('b', 2, '{at(9)}'), ('a', 3, '{at(12)}')",
        f"INSERT INTO clicks VALUES ('a', 4, '{at(20)}')",
        "FLUSH",
    )
    assert server.rows("SELECT who, rt, rows FROM ten ORDER BY ALL") == [
        ("a", at(10) - dt.timedelta(milliseconds=1), 1),
        ("a", at(20) - dt.timedelta(milliseconds=1), 1),
        ("a", at(30) - dt.timedelta(milliseconds=1), 1),
        ("b", at(10) - dt.timedelta(milliseconds=1), 1),
    ]
    assert server.rows("SELECT sum(rows) FROM of_arroyo") == [(4,)]
    # the watermark is 19
    assert server.rows("SELECT * FROM twenty") == []
    server.run(f"INSERT INTO clicks VALUES ('a', 5, '{at(22)}'), ('a', 6, '{at(3)}')", "FLUSH")
    assert server.rows("SELECT * FROM twenty") == [(at(0), 3)]


def test_what_never_closes_is_refused_with_its_place(server: Server) -> None:
    server.run(f"CREATE TABLE clicks {COLUMNS} APPEND ONLY", f"CREATE TABLE shows {COLUMNS} APPEND ONLY")
    query = "SELECT c.n, c.t FROM clicks c JOIN shows s ON c.who = s.who AND c.t > s.t"
    with pytest.raises(SqlError, match="nothing tells when a row of the result is complete") as caught:
        server.run(f"CREATE MATERIALIZED VIEW v AS {query} EMIT ON WINDOW CLOSE")
    assert caught.value.span is not None
    assert (caught.value.text or "")[caught.value.span.start : caught.value.span.end] == query
    assert "BETWEEN" in (caught.value.hint or "")
