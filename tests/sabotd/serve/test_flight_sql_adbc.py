"""The stock ADBC driver against our door: what any Flight SQL client may ask."""

from __future__ import annotations

import threading
from typing import Any

import adbc_driver_flightsql.dbapi
import adbc_driver_manager
import pyarrow as pa
import pytest

from sabotd.serve.flight_sql import FlightSqlServer
from tests.support.duckdb_engine import DuckdbEngine


@pytest.fixture
def cursor(flight_adbc: Any) -> Any:
    with flight_adbc.cursor() as made:
        made.execute("CREATE TABLE t (a BIGINT, b VARCHAR)")
        made.execute("INSERT INTO t VALUES (1, 'x'), (2, NULL)")
        yield made


def test_statements_of_every_kind_go_through_execute(cursor: Any) -> None:
    cursor.execute("INSERT INTO t VALUES (3, 'z')")
    assert cursor.rowcount == 1
    assert cursor.fetchall() == []
    cursor.execute("SELECT * FROM t ORDER BY a")
    assert [c[0] for c in cursor.description] == ["a", "b"]
    assert cursor.fetchall() == [(1, "x"), (2, None), (3, "z")]


def test_query_without_rows_has_its_columns(cursor: Any) -> None:
    cursor.execute("SELECT a, b FROM t WHERE a > 100")
    assert cursor.fetch_arrow_table().schema == pa.schema([("a", pa.int64()), ("b", pa.string())])


def test_parameters_of_a_query(cursor: Any) -> None:
    cursor.execute("SELECT b FROM t WHERE a = ?", (1,))
    assert cursor.fetchall() == [("x",)]


def test_prepared_statement_tells_its_parameters(cursor: Any) -> None:
    assert cursor.adbc_prepare("SELECT b FROM t WHERE a = ?").names == ["1"]
    assert cursor.adbc_prepare("SELECT b FROM t") is None or not cursor.adbc_prepare("SELECT b FROM t").names


def test_schema_of_a_query_that_does_not_run(cursor: Any) -> None:
    assert cursor.adbc_execute_schema("SELECT a, 'x' AS c FROM t") == pa.schema([("a", pa.int64()), ("c", pa.string())])


def test_rows_of_parameters(cursor: Any, flight_engine: DuckdbEngine) -> None:
    rows = [(i, str(i)) for i in range(100, 3100)]
    before = len(flight_engine.statements)
    cursor.executemany("INSERT INTO t VALUES (?, ?)", rows)
    assert cursor.rowcount == 3000
    # many rows a statement
    assert len(flight_engine.statements) - before == 1
    cursor.executemany("DELETE FROM t WHERE a = ?", [(100,), (101,), (7,)])
    assert cursor.rowcount == 2
    cursor.execute("SELECT count(*), min(a), max(b) FROM t WHERE a >= 100")
    assert cursor.fetchone() == (2998, 102, "999")


def test_bulk_ingest_appends(cursor: Any) -> None:
    rows = pa.table({"b": ["i", "j"], "a": [10, 11]})
    assert cursor.adbc_ingest("t", rows, mode="append") == 2
    cursor.execute("SELECT a, b FROM t WHERE a >= 10 ORDER BY a")
    assert cursor.fetchall() == [(10, "i"), (11, "j")]
    with pytest.raises(adbc_driver_manager.Error, match="'nope' does not exist"):
        cursor.adbc_ingest("nope", rows, mode="append")
    with pytest.raises(adbc_driver_manager.Error, match="'t' exists"):
        cursor.adbc_ingest("t", rows, mode="create")


def test_server_info(flight_adbc: Any) -> None:
    info = flight_adbc.adbc_get_info()
    assert info["vendor_name"] == "Sabot"
    assert info["vendor_arrow_version"] == pa.__version__


def test_objects(cursor: Any, flight_adbc: Any) -> None:
    found = flight_adbc.adbc_get_objects(depth="all").read_all().to_pylist()
    assert [c["catalog_name"] for c in found] == ["sabot"]
    (schema,) = found[0]["catalog_db_schemas"]
    assert schema["db_schema_name"] == "public"
    (table,) = schema["db_schema_tables"]
    assert (table["table_name"], table["table_type"]) == ("t", "TABLE")
    assert [c["column_name"] for c in table["table_columns"]] == ["a", "b"]
    assert "MATERIALIZED VIEW" in flight_adbc.adbc_get_table_types()
    assert flight_adbc.adbc_get_table_schema("t").names == ["a", "b"]


def test_objects_by_pattern(cursor: Any, flight_adbc: Any) -> None:
    def names(pattern: str) -> list[str]:
        found = flight_adbc.adbc_get_objects(depth="tables", table_name_filter=pattern).read_all().to_pylist()
        return [t["table_name"] for s in found[0]["catalog_db_schemas"] for t in s["db_schema_tables"]]

    cursor.execute("CREATE TABLE tab_x (a INT)")
    cursor.execute("CREATE TABLE tabyx (a INT)")
    assert names("t%") == ["t", "tab_x", "tabyx"]
    assert names("tab_x") == ["tab_x", "tabyx"]
    assert names(r"tab\_x") == ["tab_x"]


def test_error_says_where(cursor: Any) -> None:
    with pytest.raises(adbc_driver_manager.Error) as caught:
        cursor.execute("SELECT a,\n       nope FROM t")
    text = str(caught.value)
    assert 'referenced column "nope" not found' in text
    assert "^" in text
    assert "Traceback" not in text


def test_error_of_a_long_statement(cursor: Any) -> None:
    # a statement far longer than what fits beside an error
    with pytest.raises(adbc_driver_manager.Error, match="nope"):
        cursor.execute("SELECT nope FROM t WHERE " + " OR ".join(f"a = {i}" for i in range(5000)))


def test_error_on_the_way(cursor: Any) -> None:
    with pytest.raises(adbc_driver_manager.Error, match="job 'mv:v' failed"):
        cursor.execute("FAIL").fetchall()


def test_cancel_a_stream(cursor: Any, flight_engine: DuckdbEngine) -> None:
    cursor.execute("SUBSCRIBE t")
    assert cursor.fetchone() == (1, "x")
    assert cursor.fetchone() == (2, None)
    timer = threading.Timer(0.05, cursor.adbc_cancel)
    timer.start()
    with pytest.raises(adbc_driver_manager.Error, match=r"(?i)cancel"):
        cursor.fetchone()
    timer.join()
    assert flight_engine.wait_idle()


def test_cancel_a_statement(cursor: Any, flight_engine: DuckdbEngine) -> None:
    def cancel() -> None:
        flight_engine.flushing.wait()
        cursor.adbc_cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(adbc_driver_manager.Error, match=r"(?i)cancel"):
        cursor.execute("FLUSH")
    thread.join()
    # the session is free again
    cursor.execute("SELECT 1")
    assert cursor.fetchone() == (1,)


def test_settings_last_as_long_as_the_connection(flight_server: FlightSqlServer) -> None:
    for options in ({}, {"adbc.flight.sql.rpc.with_cookie_middleware": "true"}):
        with (
            adbc_driver_flightsql.dbapi.connect(flight_server.location, db_kwargs=options, autocommit=True) as one,
            adbc_driver_flightsql.dbapi.connect(flight_server.location, db_kwargs=options, autocommit=True) as other,
            one.cursor() as cursor,
            other.cursor() as elsewhere,
        ):
            cursor.execute("SET speed = high")
            cursor.execute("SHOW speed")
            assert cursor.fetchone() == ("high",)
            elsewhere.execute("SHOW speed")
            assert elsewhere.fetchone() == ("default",)


def test_settings_over_a_socket_need_cookies(flight_engine: DuckdbEngine, tmp_path: Any) -> None:
    server = FlightSqlServer(flight_engine, f"grpc+unix://{tmp_path}/s")
    server.start()
    options = {"adbc.flight.sql.rpc.with_cookie_middleware": "true"}
    with (
        adbc_driver_flightsql.dbapi.connect(server.location, db_kwargs=options, autocommit=True) as one,
        adbc_driver_flightsql.dbapi.connect(server.location, autocommit=True) as other,
        one.cursor() as cursor,
        other.cursor() as elsewhere,
    ):
        cursor.execute("SET speed = high")
        cursor.execute("SHOW speed")
        assert cursor.fetchone() == ("high",)
        elsewhere.execute("SHOW speed")
        assert elsewhere.fetchone() == ("default",)
        elsewhere.execute("SELECT ? + 1", (41,))
        assert elsewhere.fetchone() == (42,)
    server.stop()


def test_message_limit_of_go(cursor: Any) -> None:
    # 100,000 rows of 400 bytes: one batch of the engine, over the driver's 16 MiB
    cursor.execute("SELECT repeat('x', 400) AS s FROM range(100000)")
    assert cursor.fetch_arrow_table().num_rows == 100_000
