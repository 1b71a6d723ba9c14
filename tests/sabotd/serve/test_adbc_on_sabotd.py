"""The stock ADBC driver on a real sabotd with agents: what the wire promises, end to end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import adbc_driver_flightsql.dbapi
import adbc_driver_manager
import pyarrow as pa
import pytest

from sabot.errors import ClientError, Span, SqlError
from tests.support.fix_server import Server


@pytest.fixture
def connection(server: Server) -> Iterator[Any]:
    options = {"adbc.flight.sql.rpc.with_cookie_middleware": "true"}
    with adbc_driver_flightsql.dbapi.connect(server.db.url, db_kwargs=options, autocommit=True) as made:
        yield made


@pytest.fixture
def cursor(connection: Any) -> Iterator[Any]:
    with connection.cursor() as made:
        made.execute("CREATE TABLE t (a BIGINT, b VARCHAR)")
        yield made


def _rows(cursor: Any, *call: Any) -> list[tuple[Any, ...]]:
    cursor.execute(*call)
    return cursor.fetchall()


def test_from_table_to_view(cursor: Any) -> None:
    cursor.execute("INSERT INTO t VALUES (1, 'x'), (2, 'y')")
    assert cursor.rowcount == 2
    cursor.execute("INSERT INTO t VALUES (?, ?)", (3, "x"))
    cursor.executemany("INSERT INTO t VALUES (?, ?)", [(i, "z") for i in range(10, 3010)])
    assert cursor.rowcount == 3000
    cursor.adbc_ingest("t", pa.table({"b": ["i"], "a": [5000]}), mode="append")
    cursor.execute("CREATE MATERIALIZED VIEW v AS SELECT b, count(*) AS n FROM t GROUP BY b")
    cursor.execute("FLUSH")
    assert _rows(cursor, "SELECT b, n FROM v ORDER BY b") == [("i", 1), ("x", 2), ("y", 1), ("z", 3000)]
    assert _rows(cursor, "SELECT n FROM v WHERE b = ?", ("x",)) == [(2,)]
    assert [row[0] for row in _rows(cursor, "SHOW JOBS")] == ["mv:v"]


def test_metadata(cursor: Any, connection: Any) -> None:
    cursor.execute("CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM t")
    (catalog,) = connection.adbc_get_objects(depth="all").read_all().to_pylist()
    found = {t["table_name"]: t for s in catalog["catalog_db_schemas"] for t in s["db_schema_tables"]}
    assert found["t"]["table_type"] == "TABLE"
    assert found["v"]["table_type"] == "MATERIALIZED VIEW"
    assert [c["column_name"] for c in found["t"]["table_columns"]] == ["a", "b"]
    assert connection.adbc_get_table_schema("t").names == ["a", "b"]
    assert connection.adbc_get_info()["vendor_name"] == "Sabot"
    assert cursor.adbc_execute_schema("SELECT a FROM t").names == ["a"]
    assert cursor.adbc_prepare("SELECT b FROM t WHERE a = ?").names == ["1"]


def test_errors(cursor: Any, server: Server) -> None:
    with pytest.raises(adbc_driver_manager.Error, match=r"line 1, column 1\n +selec a FROM t\n +\^\^\^\^\^"):
        cursor.execute("selec a FROM t")
    with pytest.raises(SqlError) as caught:
        server.db.sql("selec a FROM t")
    assert (caught.value.span, caught.value.text) == (Span(0, 5), "selec a FROM t")


def test_subscription(cursor: Any, server: Server) -> None:
    cursor.execute("CREATE MATERIALIZED VIEW v AS SELECT count(*) AS n FROM t")
    cursor.execute("INSERT INTO t VALUES (1, 'x')")
    cursor.execute("FLUSH")
    with server.db.subscribe("v") as changes:
        assert changes.read_next_batch().column("n").to_pylist() == [1]
        cursor.execute("INSERT INTO t VALUES (2, 'y')")
        batch = changes.read_next_batch()
        assert set(zip(batch["n"].to_pylist(), batch["__weight"].to_pylist(), strict=True)) == {(1, -1), (2, 1)}
    with pytest.raises(ClientError, match="closed"):
        changes.read_next_batch()
    cursor.execute("SUBSCRIBE v")
    assert cursor.fetchone()[1] == 2
    cursor.adbc_cancel()
    with pytest.raises(adbc_driver_manager.Error, match=r"(?i)cancel"):
        cursor.fetchone()
