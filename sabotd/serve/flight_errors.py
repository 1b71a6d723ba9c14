"""Errors on their way out: a text for anybody, and the same error as data for our own client."""

from __future__ import annotations

import json

from pyarrow import flight

from sabot.errors import Domain, SabotError, SqlError
from sabotd.serve.flight_calls import QUERY_CANCELED
from sql_frontend.render import render_error

# both travel in gRPC's trailer, which many clients cut off at 8 KiB, the text three times over
_MAX_TEXT_CHARS = 1500
_MAX_SOURCE_CHARS = 1000


def flight_error(error: SabotError, sql: str | None = None) -> flight.FlightError:
    """Return the Flight error that tells `error`.

    Parameters
    ----------
    error : SabotError
    sql : str, optional
        The statement that the client sent: left out of the data where the error points into just that.
    """
    wire = error.to_wire()
    if isinstance(error, SqlError):
        if sql is not None and error.text == sql:
            wire["text"] = None
            wire["text_is_statement"] = True
        elif error.text is not None and len(error.text) > _MAX_SOURCE_CHARS:
            wire["text"] = wire["span"] = None
    wire["message"] = _cut(error.message)
    if error.hint is not None:
        wire["hint"] = _cut(error.hint)
    extra = json.dumps(wire).encode()
    text = _cut(render_error(error))
    if error.sqlstate == QUERY_CANCELED:
        return flight.FlightCancelledError(text, extra)
    if error.sqlstate == "57P01":
        return flight.FlightUnavailableError(text, extra)
    if error.domain is Domain.INTERNAL:
        return flight.FlightInternalError(text, extra)
    return flight.FlightServerError(text, extra)


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TEXT_CHARS else text[: _MAX_TEXT_CHARS - 4] + " ..."
