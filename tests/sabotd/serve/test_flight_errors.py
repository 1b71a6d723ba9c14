"""Errors on the wire: text for anybody, data for our client, within what gRPC lets through."""

from __future__ import annotations

import json

import pytest
from pyarrow import flight

from sabot.errors import ClientError, InternalError, SabotError, Span, SqlError, error_from_wire
from sabotd.serve.flight_errors import flight_error


def test_sql_error_shows_its_place() -> None:
    sql = "SELECT nope\nFROM t"
    error = SqlError("column 'nope' does not exist", span=Span(7, 11), text=sql, hint="did you mean 'rope'?")
    out = flight_error(error, sql)
    assert "line 1, column 8" in str(out)
    assert "^^^^" in str(out)
    wire = json.loads(out.extra_info)
    assert wire["text"] is None
    assert wire["text_is_statement"]
    back = error_from_wire({**wire, "text": sql})
    assert isinstance(back, SqlError)
    assert (back.message, back.span, back.text, back.hint) == (error.message, error.span, sql, error.hint)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ClientError("x", sqlstate="57014"), flight.FlightCancelledError),
        (ClientError("x", sqlstate="57P01"), flight.FlightUnavailableError),
        (InternalError("x"), flight.FlightInternalError),
        (SqlError("x"), flight.FlightServerError),
    ],
)
def test_kinds(error: SabotError, kind: type[flight.FlightError]) -> None:
    assert type(flight_error(error)) is kind


def test_size_is_limited() -> None:
    error = SqlError("é" * 100_000, span=Span(0, 90_000), text="x" * 100_000, hint="h" * 100_000)
    out = flight_error(error, "another statement")
    assert len(out.extra_info) + len(str(out).encode()) < 14_000
    wire = json.loads(out.extra_info)
    assert wire["text"] is None
    assert wire["span"] is None
