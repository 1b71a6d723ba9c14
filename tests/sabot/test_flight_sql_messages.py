"""Messages keep to the public protocol's bytes."""

from __future__ import annotations

import pytest
from google.protobuf import any_pb2

from sabot.errors import ClientError
from sabot.flight_sql import flight_sql_pb2 as pb
from sabot.flight_sql import messages


def test_bytes_are_the_protocols() -> None:
    # type URL in field 1, the message in field 2; query is field 1 of it
    packed = messages.pack(pb.CommandStatementQuery(query="SELECT 1"))
    url = b"type.googleapis.com/arrow.flight.protocol.sql.CommandStatementQuery"
    assert packed == b"\n" + bytes([len(url)]) + url + b"\x12\x0a\n\x08SELECT 1"
    tables = pb.CommandGetTables(catalog="c", table_name_filter_pattern="t", table_types=["V"], include_schema=True)
    assert tables.SerializeToString() == b"\n\x01c\x1a\x01t\x22\x01V\x28\x01"
    ingest = pb.CommandStatementIngest(table="t", temporary=True)
    assert ingest.SerializeToString() == b"\x12\x01t\x28\x01"


def test_round_trip() -> None:
    message = pb.CommandGetTables(catalog="c", include_schema=True)
    assert messages.unpack(messages.pack(message)) == message
    assert messages.unpack_as(pb.CommandGetTables, messages.pack(message)) == message


def test_what_is_none() -> None:
    with pytest.raises(ClientError, match="not a Flight SQL message"):
        messages.unpack(b"\xff")
    other = any_pb2.Any(type_url="type.googleapis.com/arrow.flight.protocol.sql.CommandStatementSubstraitPlan")
    with pytest.raises(ClientError, match="'CommandStatementSubstraitPlan' is not supported") as caught:
        messages.unpack(other.SerializeToString())
    assert caught.value.sqlstate == "0A000"
    with pytest.raises(ClientError, match="expected CommandGetTables, got CommandGetCatalogs"):
        messages.unpack_as(pb.CommandGetTables, messages.pack(pb.CommandGetCatalogs()))
