"""TUMBLE and HOP, watermarks, EMIT ON WINDOW CLOSE."""

from __future__ import annotations

import pytest

from planner.logical import Emit, LogicalNode, Relation, RelationKind, Watermark, Window, WindowKind, schema_of
from sabot.errors import SqlError
from sabot.schema import Field
from sql_frontend.binder import bind_source
from sql_frontend.parse import parse_statement
from sql_frontend.statements import CreateSource
from tests.support.memory_catalog import MemoryCatalog

DDL = """
CREATE SOURCE e (id INT, at TIMESTAMP, other TIMESTAMP, tz TIMESTAMPTZ, window_start INT,
  WATERMARK FOR at AS at - INTERVAL '5 seconds') WITH (connector = 'x');
CREATE SOURCE plain (id INT, at TIMESTAMP) WITH (connector = 'x');
CREATE VIEW some AS SELECT id, at FROM e WHERE id > 0;
"""


def window_of(query: str) -> Window:
    node: LogicalNode = MemoryCatalog(DDL).bind(query).root
    while not isinstance(node, Window):
        assert hasattr(node, "input")
        node = node.input
    return node


@pytest.mark.parametrize(
    ("call", "size_s", "slide_s", "offset_s"),
    [
        ("TUMBLE(plain, at, INTERVAL '10' SECOND)", 10, 10, 0),
        ("tumble(plain, at, INTERVAL '1 minute', INTERVAL '15 seconds')", 60, 60, 15),
        ("TUMBLE(plain, at, INTERVAL '10' SECOND, INTERVAL '-1' SECOND)", 10, 10, 9),
        ("HOP(plain, at, INTERVAL '2' SECOND, INTERVAL '10' SECOND)", 10, 2, 0),
        ("HOP(plain, at, '2 seconds'::interval, INTERVAL '1 day')", 86_400, 2, 0),
        ("TABLE(HOP(TABLE plain, DESCRIPTOR(at), INTERVAL '5' MINUTE, INTERVAL '10' MINUTE, INTERVAL '2' MINUTE))",
         600, 300, 120),
        ("TABLE(HOP(DATA => TABLE plain, TIMECOL => DESCRIPTOR(at), SLIDE => INTERVAL '5 m', SIZE => INTERVAL '1 h'))",
         3600, 300, 0),
        ("TUMBLE((SELECT * FROM plain WHERE id > 3) AS p, at, INTERVAL '1:30' MINUTE TO SECOND)", 90, 90, 0),
        ("TUMBLE(some, at, INTERVAL '0.5' SECOND)", 0.5, 0.5, 0),
    ],
)  # fmt: skip
def test_windows(call: str, size_s: float, slide_s: float, offset_s: float) -> None:
    window = window_of(f"SELECT * FROM {call} AS w")
    assert window.time_column == "at"
    assert window.kind is (WindowKind.HOP if "HOP" in call else WindowKind.TUMBLE)
    assert (window.size_us, window.slide_us, window.offset_us) == (size_s * 1e6, slide_s * 1e6, offset_s * 1e6)


def test_window_columns_have_the_times_type_and_names_of_their_own() -> None:
    window = window_of("SELECT w.tz, window_end AS e FROM TUMBLE(e, tz, INTERVAL '1 minute') w")
    assert (window.start_name, window.end_name) == ("window_start_1", "window_end")
    assert schema_of(window)[-1] == Field("window_end", "TIMESTAMP WITH TIME ZONE")
    with pytest.raises(SqlError, match="'window_start' is ambiguous"):
        MemoryCatalog(DDL).bind("SELECT window_start FROM TUMBLE(e, at, INTERVAL '1 minute')")


@pytest.mark.parametrize(
    ("call", "message", "place"),
    [
        ("HOP(plain, at, INTERVAL '3' SECOND, INTERVAL '10' SECOND)", "must be a multiple of its slide", None),
        ("HOP(plain, at, INTERVAL '0', INTERVAL '1')", "must be above zero", None),
        ("TUMBLE(plain, at, INTERVAL '-1' SECOND)", "must be above zero", None),
        ("TUMBLE(plain, at, INTERVAL '1 month')", "must have a fixed length", None),
        ("TUMBLE(plain, at, 10)", "must be an interval", None),
        ("TUMBLE(plain, id, INTERVAL '1 s')", "needs a TIMESTAMP column, 'id' is INTEGER", "id"),
        ("TUMBLE(plain, att, INTERVAL '1 s')", "column 'att' does not exist", "att"),
        ("TUMBLE(plian, at, INTERVAL '1 s')", "relation 'plian' does not exist", "plian"),
        ("TUMBLE(plain, at)", "tumble needs its size", None),
        ("TUMBBLE(plain, at, INTERVAL '1 s')", "function 'tumbble' does not exist", None),
        ("HOP(plain, at, INTERVAL '1 s')", "hop needs its size", None),
        ("TUMBLE(plain, at, INTERVAL '1 s', INTERVAL '1 s', 3)", "does not take this argument", None),
        ("TUMBLE(1, at, INTERVAL '1 s')", "must be a relation", None),
        ("TUMBLE(plain, 'at', INTERVAL '1 s')", "must be a column", None),
    ],
)
def test_windows_that_cannot_be(call: str, message: str, place: str | None) -> None:
    query = f"SELECT 1 AS x FROM {call}"
    with pytest.raises(SqlError) as caught:
        MemoryCatalog(DDL).bind(query)
    assert message in caught.value.message
    assert caught.value.span is not None
    if place:
        assert query[caught.value.span.start : caught.value.span.end] == place


@pytest.mark.parametrize(
    "query",
    [
        "SELECT window_end, count(*) AS c FROM TUMBLE(some, at, INTERVAL '1 s') GROUP BY window_end",
        "SELECT count(*) AS c FROM TUMBLE(some, at, INTERVAL '1 s') GROUP BY window_start",
        "SELECT at, count(*) AS c FROM e GROUP BY at",
        "SELECT id, at FROM some",
        """SELECT max(c) AS m, w
        FROM (SELECT window_end AS w, id, count(*) AS c FROM TUMBLE(some, at, INTERVAL '1 s') GROUP BY window_end, id)
        GROUP BY w""",
        """SELECT a.window_end FROM TUMBLE(some, at, INTERVAL '1 s') a JOIN TUMBLE(some, at, INTERVAL '1 s') b
        ON a.window_end = b.window_end AND a.id = b.id""",
        "SELECT at FROM e UNION ALL SELECT at FROM some",
    ],
)
def test_emit_on_window_close(query: str) -> None:
    assert MemoryCatalog(DDL).bind(query, emit_on_window_close=True).emit is Emit.ON_WINDOW_CLOSE
    assert MemoryCatalog(DDL).bind(query).emit is Emit.ON_UPDATE


@pytest.mark.parametrize(
    ("query", "message", "hint"),
    [
        (
            "SELECT window_end, count(*) AS c FROM TUMBLE(plain, at, INTERVAL '1 s') GROUP BY 1",
            "a watermark",
            "WATERMARK FOR",
        ),
        ("SELECT id, count(*) AS c FROM e GROUP BY id", "a window's column in GROUP BY", "TUMBLE or HOP"),
        ("SELECT count(*) AS c FROM some", "a window's column in GROUP BY", "TUMBLE or HOP"),
        ("SELECT id FROM some", "a window's column in the select list", "TUMBLE or HOP"),
        (
            "SELECT w.window_end, count(*) AS c FROM TUMBLE(e, other, INTERVAL '1 s') w GROUP BY 1",
            "which has no watermark",
            "window by 'at'",
        ),
    ],
)
def test_emit_on_window_close_needs_a_watermark_in_the_group(query: str, message: str, hint: str) -> None:
    with pytest.raises(SqlError) as caught:
        MemoryCatalog(DDL).bind(query, emit_on_window_close=True)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")
    assert caught.value.span is not None


def source(text: str) -> CreateSource:
    found = parse_statement(text)
    assert isinstance(found, CreateSource)
    return found


def test_a_source_becomes_a_relation() -> None:
    found = bind_source(
        source(
            "CREATE SOURCE s (a INT, at TIMESTAMP, WATERMARK FOR at AS at - INTERVAL '1 minute') INCLUDE topic AS t "
            "WITH (connector = 'mqtt', topic = 'x') FORMAT PLAIN ENCODE JSON"
        )
    )
    assert found == Relation(
        "s",
        RelationKind.SOURCE,
        (Field("a", "INTEGER"), Field("at", "TIMESTAMP"), Field("t", "VARCHAR")),
        append_only=True,
        watermark=Watermark("at", "TRY(\"at\" - INTERVAL '1 MINUTE')"),
        connector="mqtt",
        format="json",
        options=(("connector", "mqtt"), ("topic", "x")),
        include=(("topic", "t"),),
    )


def test_a_source_takes_its_connectors_columns() -> None:
    text = "CREATE SOURCE s WITH (connector = 'x')"
    assert bind_source(source(text)).schema == ()
    columns = (Field("a", "INTEGER"),)
    assert bind_source(source(text), columns).schema == columns


@pytest.mark.parametrize(
    ("clause", "message"),
    [
        ("WATERMARK FOR at AS att - INTERVAL '1 s'", "column 'att' does not exist"),
        ("WATERMARK FOR a AS a", "must be a TIMESTAMP, it is INTEGER"),
        ("WATERMARK FOR at AS a", "the watermark is INTEGER"),
        ("WATERMARK FOR at AS at - 5", "no function matches"),
        ("WATERMARK FOR at AS max(at)", "aggregate functions are not allowed in WATERMARK"),
        ("WATERMARK FOR at AS at -", "syntax error"),
        ("WATERMARK FOR at AS now()", "now() is not supported"),
    ],
)
def test_watermarks_that_cannot_be(clause: str, message: str) -> None:
    text = f"CREATE SOURCE s (a INT, at TIMESTAMP, {clause}) WITH (connector = 'x')"
    with pytest.raises(SqlError) as caught:
        bind_source(source(text))
    assert message in caught.value.message
    assert caught.value.text == text
    assert caught.value.span is not None
    assert text.index("WATERMARK") <= caught.value.span.start < text.index(") WITH")
