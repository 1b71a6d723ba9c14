"""A subscription is a RecordBatchReader that can be closed."""

from __future__ import annotations

import pyarrow as pa
import pytest

import sabot
from sabot.errors import ClientError
from tests.support.duckdb_engine import DuckdbEngine

SCHEMA = pa.schema([("a", pa.int64())])


@pytest.fixture
def db(flight_db: sabot.Connection) -> sabot.Connection:
    flight_db.sql("CREATE TABLE t (a BIGINT)")
    flight_db.sql("INSERT INTO t VALUES (1), (2)")
    return flight_db


def test_snapshot_then_changes(db: sabot.Connection) -> None:
    with db.subscribe("t") as stream:
        assert isinstance(stream, pa.RecordBatchReader)
        assert stream.schema == SCHEMA
        assert stream.read_next_batch().to_pydict() == {"a": [1, 2]}
        db.sql("INSERT INTO t VALUES (3)")
        assert next(stream).to_pydict() == {"a": [3]}


def test_changes_alone(db: sabot.Connection) -> None:
    with db.subscribe("t", snapshot=False) as stream:
        db.sql("INSERT INTO t VALUES (3)")
        assert next(iter(stream)).to_pydict() == {"a": [3]}


def test_name_is_quoted_where_it_has_to_be(db: sabot.Connection, flight_engine: DuckdbEngine) -> None:
    db.subscribe("t").close()
    assert flight_engine.statements[-1] == "SUBSCRIBE t"
    with pytest.raises(sabot.SabotError):
        db.subscribe('a "b"')
    assert flight_engine.statements[-1] == 'SUBSCRIBE "a ""b"""'


def test_close_ends_it_on_the_server(db: sabot.Connection, flight_engine: DuckdbEngine) -> None:
    stream = db.subscribe("t")
    stream.read_next_batch()
    assert flight_engine.open_results == 1
    stream.close()
    stream.close()
    assert flight_engine.wait_idle()
    with pytest.raises(ClientError, match="closed"):
        stream.read_next_batch()


def test_dropping_it_ends_it_too(db: sabot.Connection, flight_engine: DuckdbEngine) -> None:
    stream = db.subscribe("t")
    stream.read_next_batch()
    del stream
    assert flight_engine.wait_idle()


def test_it_goes_through_the_arrow_stream_protocol(db: sabot.Connection, flight_engine: DuckdbEngine) -> None:
    with db.subscribe("t") as stream, pa.RecordBatchReader.from_stream(stream) as reader:
        assert reader.schema == SCHEMA
        assert reader.read_next_batch().num_rows == 2
    assert flight_engine.wait_idle()


def test_cast(db: sabot.Connection) -> None:
    with db.subscribe("t") as stream:
        reader = stream.cast(pa.schema([("a", pa.int32())]))
        assert reader.read_next_batch().schema.field("a").type == pa.int32()


def test_past_its_methods_there_is_an_error_and_no_empty_stream(db: sabot.Connection) -> None:
    with db.subscribe("t") as stream, pytest.raises((pa.ArrowException, OSError)):
        pa.ipc.RecordBatchStreamReader.read_next_batch(stream)
