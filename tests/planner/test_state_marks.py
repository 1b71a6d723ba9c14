"""What EXPLAIN says of an operator's state, and the notice where nothing bounds it."""

from __future__ import annotations

import pytest

from planner.logical import Relation, RelationKind
from planner.plan import PlannedJob, plan_view
from sabot.ids import JobId
from sql_frontend.binder import bind_query
from tests.oracle.test_queries import EVENTS, TUMBLE, Catalog


class WithFinite(Catalog):
    def __init__(self) -> None:
        super().__init__()
        self._relations["past"] = Relation(
            "past", RelationKind.SOURCE, EVENTS, append_only=True, connector="datagen", finite=True
        )


def plan(sql: str, *, on_close: bool = False) -> PlannedJob:
    query = bind_query(sql, WithFinite(), emit_on_window_close=on_close)
    return plan_view(query, job_id=JobId("mv:v"), relation="v", parallelism=4)


@pytest.mark.parametrize(
    ("sql", "mark", "notice"),
    [
        (
            "SELECT k, count(*) AS n FROM events GROUP BY k",
            "incrementally, state not bounded: a row a group",
            "EMIT ON",
        ),
        ("SELECT e.id, i.k FROM events e JOIN items i ON e.k = i.k", "incrementally, state not bounded", "BETWEEN"),
        (
            "SELECT k, median(v) AS m FROM events GROUP BY k",
            "by affected keys, state not bounded: all rows",
            "state_ttl",
        ),
        ("SELECT count(*) AS n FROM events", "incrementally, state of one row", ""),
        ("SELECT k, count(*) AS n FROM items GROUP BY k", "as large as what it reads: a row a group of items", ""),
        ("SELECT k, count(*) AS n FROM past GROUP BY k", "as large as what it reads: a row a group of past", ""),
        ("SELECT id FROM events WHERE ts > now() - INTERVAL '1 hour'", "incrementally, state bounded by the clock", ""),
        (
            "SELECT k, count(*) AS n FROM events WHERE ts > now() - INTERVAL '1 hour' GROUP BY k",
            "incrementally, state as large as what it reads",
            "",
        ),
        (
            "SELECT e.id, i.label FROM events e JOIN items FOR SYSTEM_TIME AS OF PROCTIME() i ON e.k = i.k",
            "as large as what it reads: all rows of items",
            "",
        ),
        ("SELECT i.k, n.c FROM items i CROSS JOIN (SELECT count(*) AS c FROM events) n", "all rows of items", ""),
        ("SELECT id, v FROM events WHERE v > 1", "", ""),
    ],
)
def test_explain_marks_what_is_kept_and_a_notice_tells_what_grows_for_ever(sql: str, mark: str, notice: str) -> None:
    job = plan(sql)
    assert mark in job.explain()
    assert ("    kept " in job.explain()) == bool(mark)
    assert len(job.notices) == bool(notice)
    assert not notice or notice in job.notices[0]


def test_windows_that_close_are_bounded_by_the_watermark() -> None:
    job = plan(f"SELECT window_end, count(*) AS n FROM {TUMBLE} GROUP BY window_end", on_close=True)
    assert "kept incrementally, state bounded by the watermark, which passes window_end" in job.explain()
    assert not job.notices


def test_one_notice_stands_for_all_operators() -> None:
    (notice,) = plan("SELECT e.k, count(*) AS n FROM events e JOIN events f ON e.id = f.k GROUP BY e.k").notices
    assert notice.startswith("the state of 2-join (and of 1 more) grows for ever with events")
