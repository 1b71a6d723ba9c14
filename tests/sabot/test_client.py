"""`sabot.connect` and its connection against a real server."""

from __future__ import annotations

import datetime as dt
import decimal
import os
import signal
import threading
import uuid
from collections.abc import Callable

import pandas as pd
import pyarrow as pa
import pytest

import sabot
from sabot.errors import ClientError, ConfigError, JobError, Span, SqlError
from sabotd.serve.flight_sql import FlightSqlServer
from tests.support.duckdb_engine import DuckdbEngine

CANCELED = "57014"


@pytest.fixture
def db(flight_db: sabot.Connection) -> sabot.Connection:
    flight_db.sql("CREATE TABLE t (a BIGINT, b VARCHAR)")
    flight_db.sql("INSERT INTO t VALUES (1, 'x'), (2, NULL)")
    return flight_db


def test_connection_knows_its_server(db: sabot.Connection) -> None:
    assert (db.server_name, db.server_version) == ("Sabot", sabot.__version__)


def test_rows_in_every_form(db: sabot.Connection) -> None:
    query = "SELECT a, b FROM t ORDER BY a"
    assert db.sql(query).fetchall() == [(1, "x"), (2, None)]
    assert list(db.sql(query)) == [(1, "x"), (2, None)]
    assert db.sql(query).arrow() == pa.table({"a": [1, 2], "b": ["x", None]})
    assert db.sql(query).reader().read_all().num_rows == 2
    assert pa.table(db.sql(query)).num_rows == 2
    pd.testing.assert_frame_equal(db.sql(query).df(), db.sql(query).arrow().to_pandas())
    result = db.sql(query)
    assert result.fetchone() == (1, "x")
    assert result.fetchmany(5) == [(2, None)]
    assert result.fetchone() is None


def test_table_is_kept(db: sabot.Connection) -> None:
    result = db.sql("SELECT a FROM t ORDER BY a")
    assert result.arrow() is result.arrow()
    assert result.fetchall() == [(1,), (2,)]


def test_rows_then_the_rest_as_a_table(db: sabot.Connection) -> None:
    result = db.sql("SELECT * FROM range(250000) r(i)")
    assert result.fetchmany(3) == [(0,), (1,), (2,)]
    assert repr(result) == "<sabot.Result SELECT (i)>"
    assert result.arrow().column("i").to_pylist() == list(range(3, 250_000))
    assert result.fetchone() is None
    assert result.arrow().num_rows == 0


def test_repr_is_a_table(db: sabot.Connection) -> None:
    assert repr(db.sql("SELECT a, b FROM t ORDER BY a")) == "a | b\n--+-----\n1 | x\n2 | NULL\n(2 rows)"
    assert repr(db.sql("INSERT INTO t VALUES (3, 'y')")) == "INSERT 0 1"
    assert repr(db.sql("SELECT * FROM range(100)")).endswith("(100 rows, 40 shown)")
    with db.sql("SUBSCRIBE t") as endless:
        assert repr(endless) == "<sabot.Result SUBSCRIBE (a, b)>"


def test_statement_tells_what_it_did(db: sabot.Connection) -> None:
    result = db.sql("INSERT INTO t VALUES (3, 'y')")
    assert (result.tag, result.rowcount, result.is_query) == ("INSERT 0 1", 1, False)
    assert result.fetchall() == []
    assert result.arrow().num_rows == 0
    assert db.sql("SET speed = high").notices == ("speed is now high",)


def test_settings_are_the_connections_own(db: sabot.Connection, flight_server: FlightSqlServer) -> None:
    db.sql("SET speed = high")
    with sabot.connect(flight_server.location) as other:
        assert other.sql("SHOW speed").fetchall() == [("default",)]
    assert db.sql("SHOW speed").fetchall() == [("high",)]


def test_parameters_keep_their_types(db: sabot.Connection) -> None:
    values = [
        None,
        7,
        1.5,
        "é",
        b"\x00x",
        decimal.Decimal("12.50"),
        dt.date(2024, 2, 29),
        dt.datetime(2024, 2, 29, 1, 2, 3, 4),
        dt.time(1, 2, 3),
        [1, 2],
        {"a": 1},
        True,
    ]
    marks = ", ".join("?" * len(values))
    assert db.sql(f"SELECT {marks}", values).fetchall() == [tuple(values)]
    made = uuid.uuid4()
    assert db.sql("SELECT ?", [made]).fetchall() == [(str(made),)]


def test_parameters_that_have_no_type(db: sabot.Connection) -> None:
    with pytest.raises(SqlError, match="parameter 2 has no Arrow type"):
        db.sql("SELECT ?, ?", [1, object()])
    with pytest.raises(SqlError, match="row 2 has 1 parameters, the first has 2"):
        db.run_many("INSERT INTO t VALUES (?, ?)", [(1, "a"), (2,)])


def test_many_rows_of_parameters(db: sabot.Connection) -> None:
    assert db.run_many("INSERT INTO t VALUES (?, ?)", ((i, None) for i in range(10, 5010))) == 5000
    assert db.run_many("INSERT INTO t VALUES (?, ?)", []) == 0
    assert db.sql("SELECT count(*), sum(a) FROM t WHERE a >= 10").fetchall() == [(5000, sum(range(10, 5010)))]
    with pytest.raises(SqlError, match="a query cannot run for many rows"):
        db.run_many("SELECT ?", [(1,), (2,)])


def test_errors_come_back_as_they_were(db: sabot.Connection) -> None:
    sql = "SELECT a,\n  nope FROM t"
    with pytest.raises(SqlError, match="nope") as caught:
        db.sql(sql)
    assert caught.value.span == Span(sql.index("nope"), sql.index("nope") + 4)
    assert caught.value.text == sql
    with pytest.raises(SqlError, match="nope"):
        db.sql(sql + " WHERE a = ?", [1])
    result = db.sql("FAIL")
    assert result.fetchone() == (1,)
    with pytest.raises(JobError, match="job 'mv:v' failed") as failed:
        result.fetchall()
    assert failed.value.hint == "see SHOW JOBS"
    assert failed.value.__notes__ == ["hint: see SHOW JOBS"]
    assert failed.value.__suppress_context__


def test_unread_results_are_freed(db: sabot.Connection, flight_engine: DuckdbEngine) -> None:
    result = db.sql("SELECT * FROM range(10000000)")
    result.fetchone()
    result.close()
    assert flight_engine.wait_idle()
    with pytest.raises(ClientError, match="result is closed"):
        result.fetchall()
    db.sql("SELECT * FROM range(10000000)").fetchone()  # dropped
    assert flight_engine.wait_idle()
    with db.sql("SUBSCRIBE t") as stream:
        assert stream.fetchone() == (1, "x")
    assert flight_engine.wait_idle()


def test_tables(db: sabot.Connection) -> None:
    db.sql("CREATE VIEW v AS SELECT a FROM t")
    found = db.tables()
    assert [(r.name, r.kind) for r in found] == [("t", "TABLE"), ("v", "VIEW")]
    assert found[0].columns == pa.schema([("a", pa.int64()), ("b", pa.string())])
    assert [r.columns for r in db.tables("v%", columns=False)] == [None]


def test_columns_of_a_query_that_does_not_run(db: sabot.Connection) -> None:
    assert db.columns_of("SELECT a FROM t") == pa.schema([("a", pa.int64())])
    with pytest.raises(SqlError, match="nope"):
        db.columns_of("SELECT nope FROM t")


def _later(work: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(0.1, work)
    timer.start()
    return timer


def _interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_cancel_a_statement(db: sabot.Connection, flight_engine: DuckdbEngine) -> None:
    def cancel() -> None:
        flight_engine.flushing.wait()
        db.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(ClientError) as caught:
        db.sql("FLUSH")
    thread.join()
    assert caught.value.sqlstate == CANCELED
    assert db.sql("SELECT 1").fetchall() == [(1,)]


def test_cancel_leaves_other_connections_alone(
    db: sabot.Connection, flight_server: FlightSqlServer, flight_engine: DuckdbEngine
) -> None:
    db.sql("SELECT 1").fetchall()
    with sabot.connect(flight_server.location) as other:
        stream = other.subscribe("t")
        stream.read_next_batch()
        db.cancel()
        db.sql("INSERT INTO t VALUES (3, 'new')")
        assert stream.read_next_batch().to_pylist() == [{"a": 3, "b": "new"}]


def test_interrupt_stops_a_statement(db: sabot.Connection, flight_engine: DuckdbEngine) -> None:
    def interrupt() -> None:
        flight_engine.flushing.wait()
        _interrupt()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        db.sql("FLUSH")
    thread.join()
    assert flight_engine.cancelled_flushes == 1
    assert db.sql("SELECT 1").fetchall() == [(1,)]


def test_interrupt_stops_a_stream(db: sabot.Connection, flight_engine: DuckdbEngine) -> None:
    stream = db.subscribe("t")
    stream.read_next_batch()
    timer = _later(_interrupt)
    with pytest.raises(KeyboardInterrupt):
        stream.read_next_batch()
    timer.join()
    assert flight_engine.wait_idle()


def test_server_that_goes_away(flight_engine: DuckdbEngine) -> None:
    server = FlightSqlServer(flight_engine, "grpc://127.0.0.1:0")
    server.start()
    db = sabot.connect(server.location)
    server.stop()
    with pytest.raises(ClientError, match="cannot reach"):
        db.sql("SELECT 1")
    db.close()


def test_no_server() -> None:
    with pytest.raises(ClientError, match=r"cannot reach 'grpc://127\.0\.0\.1:1'") as caught:
        sabot.connect("grpc://127.0.0.1:1")
    assert caught.value.retryable
    with pytest.raises(ClientError, match="'localhost:1' is not understood"):
        sabot.connect("localhost:1")
    with pytest.raises(ConfigError, match="private server"):
        sabot.connect("grpc://127.0.0.1:1", data="x")


def test_closed_connection(flight_server: FlightSqlServer, flight_engine: DuckdbEngine) -> None:
    db = sabot.connect(flight_server.location)
    db.sql("CREATE TABLE t (a INT)")
    stream = db.subscribe("t")
    db.close()
    db.close()
    assert flight_engine.wait_idle()
    assert flight_engine.open_sessions == 0
    for use in (lambda: db.sql("SELECT 1"), db.cursor, db.tables, stream.read_next_batch):
        with pytest.raises(ClientError, match="closed"):
            use()
