"""A Flight SQL server over the small DuckDB engine, and clients of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import adbc_driver_flightsql.dbapi
import pytest

import sabot
from sabotd.serve.flight_sql import FlightSqlServer
from tests.support.duckdb_engine import DuckdbEngine


@pytest.fixture
def flight_engine() -> Iterator[DuckdbEngine]:
    made = DuckdbEngine()
    yield made
    made.con.close()


@pytest.fixture
def flight_server(flight_engine: DuckdbEngine) -> Iterator[FlightSqlServer]:
    made = FlightSqlServer(flight_engine, "grpc://127.0.0.1:0")
    made.start()
    yield made
    made.stop()
    assert flight_engine.open_results == 0
    assert flight_engine.open_sessions == 0


@pytest.fixture
def flight_db(flight_server: FlightSqlServer) -> Iterator[sabot.Connection]:
    with sabot.connect(flight_server.location) as connection:
        yield connection


@pytest.fixture
def flight_adbc(flight_server: FlightSqlServer) -> Iterator[Any]:
    with adbc_driver_flightsql.dbapi.connect(flight_server.location, autocommit=True) as connection:
        yield connection
