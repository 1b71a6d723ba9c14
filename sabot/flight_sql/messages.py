"""Commands and actions to bytes and back; knows no transport."""

from __future__ import annotations

from typing import Final, TypeVar

from google.protobuf import any_pb2
from google.protobuf.message import DecodeError, Message

from sabot.errors import ClientError
from sabot.flight_sql import flight_sql_pb2 as pb

CREATE_PREPARED: Final = "CreatePreparedStatement"
CLOSE_PREPARED: Final = "ClosePreparedStatement"
CANCEL_QUERY: Final = "CancelQuery"
CANCEL_FLIGHT_INFO: Final = "CancelFlightInfo"
CLOSE_SESSION: Final = "CloseSession"

SESSION_HEADER: Final = "x-sabot-session"
"""Header of a call: which session it belongs to; a UUID that the client makes up."""
SESSION_COOKIE: Final = "arrow_flight_session_id"
"""The cookie that stands for the header with clients that keep cookies."""

_PACKAGE = "type.googleapis.com/arrow.flight.protocol.sql."
_COMMANDS: dict[str, type[Message]] = {
    _PACKAGE + cls.DESCRIPTOR.name: cls
    for cls in (
        pb.CommandStatementQuery,
        pb.CommandStatementUpdate,
        pb.CommandStatementIngest,
        pb.CommandPreparedStatementQuery,
        pb.CommandPreparedStatementUpdate,
        pb.CommandGetSqlInfo,
        pb.CommandGetXdbcTypeInfo,
        pb.CommandGetCatalogs,
        pb.CommandGetDbSchemas,
        pb.CommandGetTables,
        pb.CommandGetTableTypes,
        pb.CommandGetPrimaryKeys,
        pb.CommandGetExportedKeys,
        pb.CommandGetImportedKeys,
        pb.CommandGetCrossReference,
        pb.TicketStatementQuery,
        pb.ActionCreatePreparedStatementRequest,
        pb.ActionCreatePreparedStatementResult,
        pb.ActionClosePreparedStatementRequest,
        pb.ActionCancelQueryRequest,
        pb.ActionCancelQueryResult,
    )
}

M = TypeVar("M", bound=Message)


def pack(message: Message) -> bytes:
    """Return `message` inside a serialized ``google.protobuf.Any``."""
    wrapped = any_pb2.Any(type_url=_PACKAGE + message.DESCRIPTOR.name, value=message.SerializeToString())
    return wrapped.SerializeToString()


def unpack(data: bytes) -> Message:
    """Return the Flight SQL message inside a serialized ``google.protobuf.Any``.

    Raises
    ------
    ClientError
        If the bytes are no such message, or one that is not known here (SQLSTATE 0A000).
    """
    try:
        wrapped = any_pb2.Any.FromString(data)
        cls = _COMMANDS.get(wrapped.type_url)
        if cls is not None:
            return cls.FromString(wrapped.value)
    except DecodeError as exc:
        msg = "command is not a Flight SQL message"
        raise ClientError(msg, sqlstate="08P01", hint="send commands as google.protobuf.Any") from exc
    msg = f"command {wrapped.type_url.rpartition('.')[2]!r} is not supported"
    raise ClientError(msg, sqlstate="0A000")


def unpack_as(cls: type[M], data: bytes) -> M:
    """Return the message of type `cls` inside a serialized ``google.protobuf.Any``.

    Raises
    ------
    ClientError
        If it is another message.
    """
    message = unpack(data)
    if not isinstance(message, cls):
        msg = f"expected {cls.DESCRIPTOR.name}, got {message.DESCRIPTOR.name}"
        raise ClientError(msg, sqlstate="08P01")
    return message
