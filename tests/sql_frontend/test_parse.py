"""Statements: what the text says, and where it is wrong."""

import pytest

from sabot.errors import Span, SqlError
from sabot.schema import Field
from sql_frontend.parse import parse_script, parse_statement
from sql_frontend.statements import (
    CreateSink,
    CreateSource,
    CreateTable,
    CreateView,
    Describe,
    DrainAgent,
    Drop,
    Explain,
    Flush,
    FormatClause,
    Insert,
    Pause,
    Rename,
    Select,
    SetOption,
    Show,
    Subscribe,
)

SOURCE = """CREATE SOURCE IF NOT EXISTS sensors (
  id BIGINT NOT NULL,
  reading STRUCT<value DOUBLE PRECISION, "Unit" VARCHAR>,
  tags VARCHAR[],
  ts TIMESTAMP,
  WATERMARK FOR ts AS ts - INTERVAL '5 seconds'
) INCLUDE topic AS from_topic INCLUDE qos
WITH (connector = 'mqtt', topic = 'a/+/b', qos = 1, properties.socket.keepalive.enable = true, 'Quoted Key' = 'x')
FORMAT PLAIN ENCODE JSON (strict = 'true')"""


def test_create_source() -> None:
    found = parse_statement(SOURCE + ";")
    assert isinstance(found, CreateSource)
    assert found.name == "sensors"
    assert found.if_not_exists
    assert found.columns == (
        Field("id", "BIGINT"),
        Field("reading", 'STRUCT("value" DOUBLE, Unit VARCHAR)'),
        Field("tags", "VARCHAR[]"),
        Field("ts", "TIMESTAMP"),
    )
    assert found.watermark is not None
    assert (found.watermark.column, found.watermark.expression) == ("ts", "ts - INTERVAL '5 seconds'")
    assert SOURCE[found.watermark.span.start : found.watermark.span.end].startswith("WATERMARK FOR ts")
    assert found.include == (("topic", "from_topic"), ("qos", "qos"))
    assert dict(found.options) == {
        "connector": "mqtt",
        "topic": "a/+/b",
        "qos": "1",
        "properties.socket.keepalive.enable": "true",
        "Quoted Key": "x",
    }
    assert found.format == FormatClause("plain", "json", (("strict", "true"),))
    spans = dict(found.option_spans)
    assert SOURCE[spans["qos"].start : spans["qos"].end] == "qos = 1"


def test_a_source_may_have_no_columns() -> None:
    found = parse_statement("create source n with (connector = 'nexmark', events = 100)")
    assert isinstance(found, CreateSource)
    assert found.columns == ()
    assert found.format is None


def test_create_table() -> None:
    found = parse_statement(
        "CREATE TABLE public.t (a INT, B text DEFAULT 'x;y' NOT NULL, c numeric, PRIMARY KEY (a, b))"
    )
    assert isinstance(found, CreateTable)
    assert found.name == "t"
    assert found.columns == (Field("a", "INTEGER"), Field("b", "VARCHAR"), Field("c", "DECIMAL(38,10)"))
    assert found.primary_key == ("a", "b")
    assert found.ddl == (
        'CREATE TABLE "t" ("a" INTEGER, "b" VARCHAR NOT NULL DEFAULT (\'x;y\'), "c" DECIMAL(38,10), UNIQUE ("a", "b"))'
    )


def test_create_table_with_the_key_beside_its_column() -> None:
    found = parse_statement("create table t (a int primary key, b int) append only on conflict do nothing")
    assert isinstance(found, CreateTable)
    assert found.primary_key == ("a",)
    assert found.append_only


def test_create_views() -> None:
    text = "CREATE MATERIALIZED VIEW mv (x, y) AS WITH q AS (SELECT 1) SELECT * FROM q EMIT ON WINDOW CLOSE"
    found = parse_statement(text)
    assert isinstance(found, CreateView)
    assert found.materialized
    assert found.emit_on_window_close
    assert found.column_names == ("x", "y")
    assert found.query == "WITH q AS (SELECT 1) SELECT * FROM q"
    assert text[found.query_span.start : found.query_span.end] == found.query
    plain = parse_statement("create or replace view v as select 1 as emit")
    assert isinstance(plain, CreateView)
    assert plain.or_replace
    assert not plain.materialized
    assert plain.query == "select 1 as emit"


def test_create_sinks() -> None:
    text = (
        "create sink s as with q as (select 1 a) select a from q emit on window close "
        "with (connector = 'kafka', topic = 't') format plain encode json"
    )
    found = parse_statement(text)
    assert isinstance(found, CreateSink)
    assert found.query == "with q as (select 1 a) select a from q"
    assert found.emit_on_window_close
    assert dict(found.options) == {"connector": "kafka", "topic": "t"}
    assert found.format == FormatClause("plain", "json")
    plain = parse_statement("create sink if not exists s from mv with (connector = 'print')")
    assert isinstance(plain, CreateSink)
    assert (plain.from_relation, plain.query, plain.if_not_exists) == ("mv", None, True)


def test_spans_of_a_script_are_the_scripts() -> None:
    script = "FLUSH;\n  SHOW materialized views ;DROP VIEW a"
    flush, show, drop = parse_script(script)
    assert [script[s.span.start : s.span.end] for s in (flush, show, drop)] == [
        "FLUSH",
        "SHOW materialized views",
        "DROP VIEW a",
    ]
    assert isinstance(flush, Flush)
    assert isinstance(show, Show)
    assert show.what == "materialized views"


def test_small_statements() -> None:
    drop = parse_statement('drop materialized view if exists a, "B" cascade')
    assert isinstance(drop, Drop)
    assert (drop.kind, drop.names, drop.if_exists, drop.cascade) == ("materialized view", ("a", "B"), True, True)
    describe = parse_statement("DESC T")
    assert isinstance(describe, Describe)
    assert describe.name == "t"
    subscribe = parse_statement("SUBSCRIBE TO mv WITH (snapshot = false)")
    assert isinstance(subscribe, Subscribe)
    assert (subscribe.name, subscribe.snapshot) == ("mv", False)
    assert parse_statement("subscribe mv") == Subscribe("mv", True, "subscribe mv", Span(0, 12))
    show = parse_statement("show a.b")
    assert isinstance(show, Show)
    assert show.what == "a.b"


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("SET parallelism = 4", "parallelism", "4"),
        ("set session x.y to 'a b'", "x.y", "a b"),
        ("SET x = DEFAULT", "x", None),
        ("RESET x", "x", None),
        ("set x to true", "x", "true"),
        ("set x = -1.5", "x", "-1.5"),
        ("set x = '100 ms'", "x", "100 ms"),
        ("set search_path to a, b", "search_path", "a, b"),
        ("set time zone 'UTC'", "timezone", "UTC"),
    ],
)
def test_set(text: str, name: str, value: str | None) -> None:
    found = parse_statement(text)
    assert isinstance(found, SetOption)
    assert (found.name, found.value) == (name, value)


@pytest.mark.parametrize(
    "text",
    [
        "select 1",
        "with a as (select 1) select * from a",
        "values (1)",
        "from t",
        "table t",
        "(select 1) union select 2",
    ],
)
def test_queries_stay_text(text: str) -> None:
    found = parse_statement(text)
    assert isinstance(found, Select)
    assert found.sql == text


def test_inserts_name_their_table_and_columns() -> None:
    found = parse_statement('insert into T (a, "B") values (1, 2)')
    assert isinstance(found, Insert)
    assert (found.table, found.columns) == ("t", ("a", "B"))
    found = parse_statement("insert into t (select 1)")
    assert isinstance(found, Insert)
    assert found.columns == ()


def test_explain_holds_a_statement_or_a_name() -> None:
    text = "EXPLAIN CREATE MATERIALIZED VIEW v AS SELECT 1"
    found = parse_statement(text)
    assert isinstance(found, Explain)
    assert isinstance(found.target, CreateView)
    assert text[found.target.span.start : found.target.span.end] == found.target.text
    assert found.target.text[found.target.query_span.start :] == "SELECT 1"
    named = parse_statement("explain analyze mv")
    assert isinstance(named, Explain)
    assert (named.target, named.analyze) == ("mv", True)


@pytest.mark.parametrize(
    ("text", "message", "place", "hint"),
    [
        ("CRATE TABLE t (a INT)", "cannot begin with 'CRATE'", "CRATE", "did you mean 'CREATE'?"),
        ("foo", "cannot begin with 'foo'", "foo", None),
        ("MERGE INTO t", "MERGE is not supported", "MERGE", "primary key"),
        ("CREATE TEMP TABLE t (a INT)", "TEMP is not supported", "TEMP", "leave the word out"),
        ("FLUSH now", "found 'now'", "now", None),
        ("CREATE INDEX i ON t (a)", "cannot create 'INDEX'", "INDEX", "SOURCE, TABLE"),
        ("CREATE TABLE t (a INT, b FOO)", "type 'foo' does not exist", "FOO", None),
        ("CREATE TABLE t (a INT, b NUMERIC(40,2))", "out of range", "NUMERIC(40,2)", "38 digits"),
        ("CREATE TABLE t (a INT, a INT)", "'a' stands twice", None, None),
        ("CREATE TABLE t (a INT, PRIMARY KEY (b))", "'b' of the key does not exist", "PRIMARY", None),
        ("CREATE TABLE t (a INT", "expected ')'", "", None),
        ("CREATE TABLE t (__w INT)", "reserved", "__w", "two underscores"),
        ("CREATE TABLE t AS SELECT 1", "CREATE TABLE AS", "AS", "INSERT INTO"),
        ("CREATE TABLE t (a INT DEFAULT b)", "the default 'b'", "b", None),
        ("CREATE TABLE t (ts TIMESTAMP, WATERMARK FOR ts AS ts)", "WATERMARK needs a table", None, "APPEND ONLY"),
        ("CREATE SOURCE s (a INT)", "no connector", "", "WITH (connector"),
        ("CREATE SOURCE s (a INT, WATERMARK FOR b AS b) WITH (connector = 'x')", "'b' of the watermark", None, None),
        ("CREATE SOURCE s (a INT) WITH (connector = 'x') FORMAT PLAIN ENCODE AVRO", "ENCODE AVRO", "AVRO", "JSON, CSV"),
        ("CREATE SOURCE s (a INT) WITH (connector = 'x') FORMAT MAXWELL ENCODE JSON", "MAXWELL", "MAXWELL", "PLAIN"),
        ("CREATE SOURCE s (a INT) WITH (a = 1, a = 2)", "'a' stands twice", "a = 2", None),
        ("CREATE SOURCE s (a INT) INCLUDE foo WITH (connector = 'x')", "INCLUDE 'foo'", "foo", "topic"),
        (
            "CREATE SOURCE s (topic INT) INCLUDE topic WITH (connector = 'x')",
            "'topic' stands twice",
            None,
            "AS another",
        ),
        ("CREATE SINK s WITH (connector = 'x')", "FROM view or AS query", "WITH", None),
        ("CREATE VIEW v AS SELECT 1 EMIT ON WINDOW CLOSE", "materialized", None, "materialized"),
        ("CREATE MATERIALIZED VIEW v AS SELECT 1 EMIT ON SUNDAY", "unknown EMIT", "EMIT ON SUNDAY", "WINDOW CLOSE"),
        ("DROP TABEL t", "cannot drop 'TABEL'", "TABEL", "did you mean 'TABLE'?"),
        ("EXPLAIN DROP TABLE t", "no plan", "DROP", None),
        ("WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a", "cannot follow WITH", "INSERT", None),
        ("SUBSCRIBE TO v WITH (snapshot = maybe)", "snapshot cannot be 'maybe'", "snapshot = maybe", None),
        ("SELECT 1; SELECT 2", "another after it", "SELECT 2", None),
        ("create table db.other.t (a int)", "a schema at most", "db.other.", "schema.name"),
        (
            "CREATE SEQUENCE s START 1",
            "cannot create 'SEQUENCE'",
            "SEQUENCE",
            None,
        ),
    ],
)
def test_errors_have_a_place(text: str, message: str, place: str | None, hint: str | None) -> None:
    with pytest.raises(SqlError) as caught:
        parse_statement(text)
    error = caught.value
    assert message in error.message
    assert error.text == text
    assert error.span is not None
    if place is not None:
        assert text[error.span.start : error.span.end] == place
    if hint is not None:
        assert hint in (error.hint or "")


def test_an_error_in_a_script_points_into_the_script() -> None:
    script = "SHOW jobs;\n\nDROP TABEL t;"
    with pytest.raises(SqlError) as caught:
        parse_script(script)
    assert caught.value.text == script
    assert caught.value.span == Span(script.index("TABEL"), script.index("TABEL") + 5)


@pytest.mark.parametrize(
    ("text", "kind", "name", "paused"),
    [
        ("ALTER MATERIALIZED VIEW V PAUSE", "materialized view", "v", True),
        ('alter sink "S" resume;', "sink", "S", False),
        ("ALTER JOB public.j RESUME", "job", "j", False),
        ("PAUSE JOB pause", "job", "pause", True),
        ("RESUME MATERIALIZED VIEW v", "materialized view", "v", False),
    ],
)
def test_pause_and_resume(text: str, kind: str, name: str, paused: bool) -> None:
    found = parse_statement(text)
    assert isinstance(found, Pause)
    assert (found.kind, found.name, found.paused) == (kind, name, paused)


def test_drain() -> None:
    found = parse_statement("ALTER SYSTEM DRAIN AGENT Blade2")
    assert isinstance(found, DrainAgent)
    assert found.agent == "blade2"


@pytest.mark.parametrize(
    ("text", "message", "at"),
    [
        ("ALTER TABLE t ADD COLUMN x INT", "ALTER of this is not supported", "ALTER"),
        ("ALTER JOB j STOP", "expected PAUSE or RESUME, found 'STOP'", "STOP"),
        ("PAUSE v", "expected MATERIALIZED VIEW, SINK or JOB, found 'v'", "v"),
        ("RESUME JOB j now", "expected the end of the statement, found 'now'", "now"),
    ],
)
def test_what_alter_does_not_take(text: str, message: str, at: str) -> None:
    with pytest.raises(SqlError) as caught:
        parse_statement(text)
    assert caught.value.message == message
    assert caught.value.span is not None
    assert text[caught.value.span.start : caught.value.span.end] == at


@pytest.mark.parametrize(
    ("kind", "word"), [("table", "TABLE"), ("materialized view", "MATERIALIZED VIEW"), ("sink", "SINK")]
)
def test_rename(kind: str, word: str) -> None:
    found = parse_statement(f'ALTER {word} public.A RENAME TO "B"')
    assert isinstance(found, Rename)
    assert (found.kind, found.name, found.new_name) == (kind, "a", "B")


def test_a_sink_into_a_table() -> None:
    found = parse_statement("CREATE SINK s INTO public.T (a, \"B\") AS SELECT 1, 2 WITH (state_ttl = '1 day')")
    assert isinstance(found, CreateSink)
    assert (found.into, found.into_columns, found.query) == ("t", ("a", "B"), "SELECT 1, 2")
    assert found.options == (("state_ttl", "1 day"),)
    whole = parse_statement("CREATE SINK s INTO t FROM v")
    assert isinstance(whole, CreateSink)
    assert (whole.into, whole.into_columns, whole.from_relation) == ("t", (), "v")
