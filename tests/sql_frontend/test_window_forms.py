"""How Flink, Calcite, RisingWave and Arroyo write windows: what is meant, when it shows, and what is refused."""

from __future__ import annotations

import pytest

from planner.logical import Emit, Fill, GapFill, Query, Sessions, Timeline, Window
from planner.tree import unique_nodes
from sabot.errors import SqlError
from sql_frontend.binder import bind_query
from tests.support.memory_catalog import MemoryCatalog

CATALOG = MemoryCatalog("""
CREATE SOURCE clicks (who VARCHAR, n INT, t TIMESTAMP, other TIMESTAMP, WATERMARK FOR t AS t) WITH (connector = 'x');
CREATE SOURCE plain (who VARCHAR, n INT, t TIMESTAMP) WITH (connector = 'x');
CREATE VIEW by_flink AS SELECT window_end, count(*) AS n FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(t),
  INTERVAL '1' MINUTE)) GROUP BY window_start, window_end;
""")
GAP = "INTERVAL '5' SECOND"
FLINK = "TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(t), INTERVAL '1' MINUTE))"
S = 1_000_000


def bind(text: str, *, on_close: bool = False) -> Query:
    return bind_query(text, CATALOG, emit_on_window_close=on_close)


def timeline(text: str) -> Timeline:
    (found,) = [n for n in unique_nodes(bind(text).root) if isinstance(n, Timeline)]
    return found


@pytest.mark.parametrize(
    ("call", "keys"),
    [
        ("SESSION(clicks, t, INTERVAL '5 seconds')", ()),
        ("SESSION(clicks PARTITION BY who, t, INTERVAL '5 seconds')", ("who",)),
        ("SESSION(clicks PARTITION BY (who, n), t, INTERVAL '5 seconds')", ("who", "n")),
        ("SESSION((SELECT * FROM clicks WHERE n > 1) PARTITION BY who, t, INTERVAL '5 seconds')", ("who",)),
        ("TABLE(SESSION(TABLE clicks PARTITION BY `who`, DESCRIPTOR(t), INTERVAL '5' SECOND))", ("who",)),
        ("TABLE(SESSION(TABLE clicks, DESCRIPTOR(t), DESCRIPTOR(who, n), INTERVAL '5' SECOND))", ("who", "n")),
        ("TABLE(SESSION(DATA => TABLE clicks PARTITION BY (who), TIMECOL => DESCRIPTOR(t), GAP => {}))", ("who",)),
        (
            "TABLE(SESSION(DATA => TABLE clicks, TIMECOL => DESCRIPTOR(t), KEY => DESCRIPTOR(who), SIZE => {}))",
            ("who",),
        ),
    ],
)
def test_sessions_are_written_in_many_ways(call: str, keys: tuple[str, ...]) -> None:
    found = timeline(f"SELECT who, n, t, window_start, window_end FROM {call.format(GAP)}")
    assert found.partition == keys
    assert found.time_column == "t"
    assert isinstance(found.work, Sessions)
    assert found.work.gap_us == 5 * S


def test_gaps_are_filled_as_told() -> None:
    found = timeline("SELECT * FROM GAP_FILL(clicks, t, INTERVAL '1 minute', LOCF(who), KEEP(other), PARTITION_BY(n))")
    assert found.partition == ("n",)
    assert found.work == GapFill(60 * S, (("who", Fill.LAST), ("other", Fill.NULL)))


@pytest.mark.parametrize(
    ("text", "emit"),
    [
        ("SELECT count(*) AS n FROM TUMBLE(clicks, t, INTERVAL '1 minute') GROUP BY window_end", Emit.ON_UPDATE),
        (f"SELECT count(*) AS n FROM {FLINK} GROUP BY window_start, window_end", Emit.BY_WINDOW),
        ("SELECT count(*) AS n FROM clicks GROUP BY tumble(INTERVAL '1 minute')", Emit.BY_WINDOW),
        ("SELECT n FROM by_flink", Emit.BY_WINDOW),
    ],
)
def test_who_writes_as_flink_gets_windows_that_close(text: str, emit: Emit) -> None:
    assert bind(text).emit is emit


def test_columns_of_the_same_name_are_numbered_as_flink_does() -> None:
    query = bind(f"SELECT a.who, b.who, a.n, b.who FROM {FLINK} a JOIN {FLINK} b ON a.window_end = b.window_end")
    assert [e.name for e in query.root.exprs] == ["who", "who0", "n", "who1"]  # type: ignore[union-attr]


def test_a_window_of_intervals_goes_by_the_watermark() -> None:
    root = bind(
        "SELECT hop(INTERVAL '2 seconds', INTERVAL '10 seconds') AS w, count(*) AS n FROM clicks GROUP BY w"
    ).root
    (window,) = [n for n in unique_nodes(root) if isinstance(n, Window)]
    assert (window.time_column, window.slide_us, window.size_us) == ("t", 2 * S, 10 * S)
    assert [f.type for f in root.exprs] == ['STRUCT("start" TIMESTAMP, "end" TIMESTAMP)', "BIGINT"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "message", "place", "hint"),
    [
        ("SELECT * FROM SESSION(clicks, t)", "session needs its gap", "SESSION(clicks, t)", "PARTITION BY"),
        ("SELECT * FROM SESSION(clicks PARTITION BY n + 1, t, INTERVAL '1 s')", "must be a column", None, "subquery"),
        ("SELECT * FROM SESSION(clicks, t, INTERVAL '0 s')", "the gap of a window must be above", None, None),
        ("SELECT * FROM TUMBLE(clicks PARTITION BY n, t, INTERVAL '1 s')", "near", None, None),
        ("SELECT * FROM GAP_FILL(clicks, t, INTERVAL '1 s', INTERPOLATE(who))", "needs a number", None, "LOCF"),
        ("SELECT * FROM GAP_FILL(clicks, t, INTERVAL '1 s', BEST(who))", "does not take", None, "LOCF"),
        ("SELECT count(*) FROM plain GROUP BY tumble(INTERVAL '1 s')", "no column has a watermark", None, "TUMBLE("),
        (
            "SELECT tumble(INTERVAL '1 s') a, tumble(INTERVAL '2 s') b FROM clicks",
            "two windows",
            "tumble(INTERVAL '2 s')",
            None,
        ),
        ("SELECT sum(n) OVER (ORDER BY n SESSION WITH GAP '1 s') FROM clicks", "one column of time", None, None),
    ],
)
def test_what_is_wrong_has_a_place(text: str, message: str, place: str | None, hint: str | None) -> None:
    with pytest.raises(SqlError) as caught:
        bind(text)
    refused(caught.value, text, message, place, hint)


@pytest.mark.parametrize(
    ("text", "message", "place", "hint"),
    [
        (
            "SELECT window_end, count(*) AS n FROM TUMBLE(clicks, other, INTERVAL '1 s') GROUP BY window_end",
            "the window goes by 'other', which has no watermark",
            "other",
            "window by 't'",
        ),
        (
            "SELECT who, window_end FROM SESSION(clicks PARTITION BY who, other, INTERVAL '1 s')",
            "the window goes by 'other', which has no watermark",
            "other",
            "WATERMARK FOR other",
        ),
        (
            "SELECT window_end, count(*) AS n FROM TUMBLE(plain, t, INTERVAL '1 s') GROUP BY window_end",
            "needs a source or table with a watermark",
            None,
            "WATERMARK FOR",
        ),
        ("SELECT who, count(*) AS n FROM clicks GROUP BY who", "needs a window's column in GROUP BY", None, "window"),
        (
            "SELECT t, sum(n) OVER (ORDER BY t ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING) AS s FROM clicks",
            "a frame without an end",
            None,
            "end the frame",
        ),
        ("SELECT t, ntile(2) OVER (ORDER BY t) AS s FROM clicks", "ntile needs all rows", None, None),
        ("SELECT t, lead(n, n) OVER (ORDER BY t) AS s FROM clicks", "constant number of rows", None, None),
    ],
)
def test_what_would_never_close_is_refused(text: str, message: str, place: str | None, hint: str | None) -> None:
    with pytest.raises(SqlError) as caught:
        bind(text, on_close=True)
    refused(caught.value, text, message, place, hint)


def refused(error: SqlError, text: str, message: str, place: str | None, hint: str | None) -> None:
    assert message in error.message
    assert error.span is not None
    if place is not None:
        assert text[error.span.start : error.span.end] == place
    if hint is not None:
        assert hint in (error.hint or "")
