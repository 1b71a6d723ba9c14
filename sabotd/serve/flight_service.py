"""The calls of Flight, answered in Flight SQL's terms.

A statement runs when its FlightInfo is asked for, so that its errors come at once; the stream of a query waits
for the DoGet with its ticket.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Concatenate, ParamSpec, TypeVar

import pyarrow as pa
from google.protobuf.message import DecodeError, Message
from pyarrow import flight

from sabot.errors import ClientError, SabotError
from sabot.flight_sql import flight_sql_pb2 as pb
from sabot.flight_sql import messages, schemas
from sabotd.engine import Engine
from sabotd.serve import flight_metadata
from sabotd.serve.flight_calls import Calls
from sabotd.serve.flight_errors import flight_error
from sabotd.serve.flight_parameters import Row, insert_text, rows_of
from sabotd.serve.flight_sessions import CallHeadersFactory, Sessions
from sabotd.serve.flight_statements import Outcome, Statements

_ACTIONS = [
    (messages.CREATE_PREPARED, "prepare a statement"),
    (messages.CLOSE_PREPARED, "free a prepared statement"),
    (messages.CANCEL_QUERY, "cancel a query by its FlightInfo"),
    (messages.CANCEL_FLIGHT_INFO, "cancel a query by its FlightInfo"),
    (messages.CLOSE_SESSION, "end the caller's session"),
]

P = ParamSpec("P")
R = TypeVar("R")


def _door(method: Callable[Concatenate[FlightService, P], R]) -> Callable[Concatenate[FlightService, P], R]:
    """Let Sabot's errors out as Flight's."""

    def call(self: FlightService, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(self, *args, **kwargs)
        except SabotError as exc:
            raise flight_error(exc) from exc

    return call


class FlightService(flight.FlightServerBase):  # type: ignore[misc]  # pyarrow has no types
    """Flight SQL over an `Engine`; serves from construction until `shut_down`."""

    def __init__(
        self,
        engine: Engine,
        location: str,
        *,
        token: str | None = None,
        tls_certificates: list[tuple[bytes, bytes]] | None = None,
    ) -> None:
        self._engine = engine
        self._sessions = Sessions(engine)
        self._calls = Calls(self._expire)
        self._statements = Statements(self._sessions, self._calls)
        try:
            super().__init__(
                location, tls_certificates=tls_certificates, middleware={"headers": CallHeadersFactory(token)}
            )
        except BaseException:
            self._calls.close()
            raise

    def shut_down(self) -> None:
        """Cancel what runs, wait for the calls to end, close every session."""
        self._calls.stop()
        self._statements.forget_all()
        self.shutdown()
        self._calls.close()
        self._statements.forget_all()
        self._sessions.close_all()

    @_door
    def get_flight_info(
        self, context: flight.ServerCallContext, descriptor: flight.FlightDescriptor
    ) -> flight.FlightInfo:
        command = _command(descriptor)
        schema = flight_metadata.schema_of(command)
        if schema is not None:
            return _info(schema, descriptor, descriptor.command)
        match command:
            case pb.CommandStatementQuery():
                with self._sessions.of(context) as client:
                    outcome = self._statements.run(context, client, descriptor.command, command.query, [()])
            case pb.CommandPreparedStatementQuery():
                with self._sessions.with_prepared(command.prepared_statement_handle) as (client, prepared):
                    outcome = self._statements.run(context, client, descriptor.command, prepared.sql, prepared.rows)
            case _:
                raise _unsupported(command, "GetFlightInfo")
        return _statement_info(outcome, descriptor)

    @_door
    def get_schema(self, context: flight.ServerCallContext, descriptor: flight.FlightDescriptor) -> flight.SchemaResult:
        # pyarrow lets no Flight error out of here whole: clients see a wrong statement's error at its preparation
        command = _command(descriptor)
        schema = flight_metadata.schema_of(command)
        if schema is not None:
            return flight.SchemaResult(schema)
        match command:
            case pb.CommandStatementQuery():
                with self._sessions.of(context) as client:
                    return flight.SchemaResult(self._statements.prepare(context, client, command.query).schema)
            case pb.CommandPreparedStatementQuery():
                with self._sessions.with_prepared(command.prepared_statement_handle) as (_, prepared):
                    return flight.SchemaResult(prepared.info.schema)
            case _:
                raise _unsupported(command, "GetSchema")

    @_door
    def do_get(self, context: flight.ServerCallContext, ticket: flight.Ticket) -> flight.FlightDataStream:
        command = messages.unpack(ticket.ticket)
        if flight_metadata.schema_of(command) is not None:
            return flight.RecordBatchStream(flight_metadata.answer(command, self._engine.tables))
        if not isinstance(command, pb.TicketStatementQuery):
            raise _unsupported(command, "DoGet")
        if not command.statement_handle:
            return flight.RecordBatchStream(schemas.EMPTY.empty_table())
        return flight.GeneratorStream(*self._statements.stream(context, command.statement_handle))

    @_door
    def do_put(
        self,
        context: flight.ServerCallContext,
        descriptor: flight.FlightDescriptor,
        reader: flight.MetadataRecordBatchReader,
        writer: flight.FlightMetadataWriter,
    ) -> None:
        command = _command(descriptor)
        name = descriptor.command
        match command:
            case pb.CommandStatementUpdate():
                with self._sessions.of(context) as client:
                    count = self._statements.update(context, client, name, command.query, [[()]])
            case pb.CommandPreparedStatementUpdate():
                with self._sessions.with_prepared(command.prepared_statement_handle) as (client, prepared):
                    parts = _parts(reader) if prepared.info.parameters.names else [[()]]
                    count = self._statements.update(context, client, name, prepared.sql, parts)
            case pb.CommandStatementIngest():
                self._check_ingest(command)
                sql = insert_text(command.table, reader.schema.names)
                with self._sessions.of(context) as client:
                    count = self._statements.update(context, client, name, sql, _parts(reader))
            case pb.CommandPreparedStatementQuery():
                with self._sessions.with_prepared(command.prepared_statement_handle) as (_, prepared):
                    prepared.rows = [row for part in _parts(reader) for row in part]
                bound = pb.DoPutPreparedStatementResult(prepared_statement_handle=prepared.handle)
                writer.write(bound.SerializeToString())
                return
            case _:
                raise _unsupported(command, "DoPut")
        writer.write(pb.DoPutUpdateResult(record_count=count).SerializeToString())

    @_door
    def do_action(self, context: flight.ServerCallContext, action: flight.Action) -> Iterator[flight.Result]:
        body = action.body.to_pybytes()
        match action.type:
            case messages.CREATE_PREPARED:
                request = messages.unpack_as(pb.ActionCreatePreparedStatementRequest, body)
                answer = messages.pack(self._prepare(context, request.query))
            case messages.CLOSE_PREPARED:
                closing = messages.unpack_as(pb.ActionClosePreparedStatementRequest, body)
                self._sessions.drop_prepared(closing.prepared_statement_handle)
                return iter(())
            case messages.CANCEL_QUERY:
                self._cancel(context, messages.unpack_as(pb.ActionCancelQueryRequest, body).info)
                cancelled = pb.ActionCancelQueryResult(result=pb.ActionCancelQueryResult.CANCEL_RESULT_CANCELLED)
                answer = messages.pack(cancelled)
            case messages.CANCEL_FLIGHT_INFO:
                self._cancel(context, _parsed(pb.CancelFlightInfoRequest, body).info)
                status = pb.CancelFlightInfoResult.CANCEL_STATUS_CANCELLED
                answer = pb.CancelFlightInfoResult(status=status).SerializeToString()
            case messages.CLOSE_SESSION:
                key = self._sessions.key_of(context)
                if key is not None:
                    self._calls.cancel_owner(key)
                    self._statements.forget_session(key)
                    self._sessions.close(key)
                answer = pb.CloseSessionResult(status=pb.CloseSessionResult.CLOSED).SerializeToString()
            case other:
                msg = f"action {other!r} is not supported"
                raise ClientError(msg, sqlstate="0A000")
        return iter([flight.Result(answer)])

    def list_actions(self, context: flight.ServerCallContext) -> list[tuple[str, str]]:
        return _ACTIONS

    def list_flights(self, context: flight.ServerCallContext, criteria: bytes) -> Iterator[flight.FlightInfo]:
        return iter(())

    def _prepare(self, context: flight.ServerCallContext, sql: str) -> pb.ActionCreatePreparedStatementResult:
        with self._sessions.of(context) as client:
            info = self._statements.prepare(context, client, sql)
            handle = self._sessions.add_prepared(client, sql, info)
        return pb.ActionCreatePreparedStatementResult(
            prepared_statement_handle=handle,
            dataset_schema=_schema_bytes(info.schema) if info.is_query else b"",
            parameter_schema=_schema_bytes(info.parameters) if info.parameters.names else b"",
        )

    def _check_ingest(self, command: pb.CommandStatementIngest) -> None:
        options = command.table_definition_options
        if command.temporary:
            msg = "ingest into a temporary table is not supported"
            raise ClientError(msg, sqlstate="0A000")
        if all(r.name != command.table or r.kind != "TABLE" for r in self._engine.tables()):
            msg = f"table {command.table!r} does not exist"
            raise ClientError(msg, sqlstate="42P01", hint="ingest appends to a table: CREATE TABLE it first")
        if options.if_exists not in {options.TABLE_EXISTS_OPTION_APPEND, options.TABLE_EXISTS_OPTION_UNSPECIFIED}:
            msg = f"table {command.table!r} exists"
            raise ClientError(msg, sqlstate="42P07", hint="ingest in append mode")

    def _cancel(self, context: flight.ServerCallContext, serialized: bytes) -> None:
        """Cancel a query by its FlightInfo: by its tickets, or by its command while it has none yet."""
        try:
            info = flight.FlightInfo.deserialize(serialized)
        except pa.ArrowException as exc:
            msg = "not a FlightInfo"
            raise ClientError(msg, sqlstate="08P01") from exc
        found = False
        if not info.endpoints:
            key = self._sessions.key_of(context)
            found = key is not None and self._calls.cancel(key, info.descriptor.command or b"")
        for endpoint in info.endpoints:
            ticket = messages.unpack(endpoint.ticket.ticket)
            if isinstance(ticket, pb.TicketStatementQuery) and ticket.statement_handle:
                waiting = self._statements.forget(ticket.statement_handle)
                found = self._calls.cancel(None, ticket.statement_handle) or waiting or found
        if not found:
            msg = "no such query is running"
            raise ClientError(msg, sqlstate="34000")

    def _expire(self) -> None:
        self._statements.expire()
        self._sessions.expire()


def _command(descriptor: flight.FlightDescriptor) -> Message:
    if descriptor.descriptor_type is not flight.DescriptorType.CMD:
        msg = "a path names nothing here"
        raise ClientError(msg, sqlstate="0A000", hint="send a Flight SQL command")
    return messages.unpack(descriptor.command)


def _unsupported(command: Message, method: str) -> ClientError:
    return ClientError(f"{command.DESCRIPTOR.name!r} is not supported with {method}", sqlstate="0A000")


def _parsed(cls: type[messages.M], data: bytes) -> messages.M:
    try:
        return cls.FromString(data)
    except DecodeError as exc:
        msg = f"not a {cls.DESCRIPTOR.name}"
        raise ClientError(msg, sqlstate="08P01") from exc


def _parts(reader: flight.MetadataRecordBatchReader) -> Iterator[list[Row]]:
    for chunk in reader:
        if chunk.data is not None:
            yield rows_of(chunk.data)


def _statement_info(outcome: Outcome, descriptor: flight.FlightDescriptor) -> flight.FlightInfo:
    ticket = messages.pack(pb.TicketStatementQuery(statement_handle=outcome.handle))
    # rows affected stand where DB-API drivers look for their rowcount
    records = None if outcome.is_query else outcome.rows_affected
    return _info(outcome.schema, descriptor, ticket, records, outcome.metadata())


def _info(
    schema: pa.Schema,
    descriptor: flight.FlightDescriptor,
    ticket: bytes,
    records: int | None = None,
    metadata: bytes = b"",
) -> flight.FlightInfo:
    # no location: the stream comes over the connection that asked
    endpoint = flight.FlightEndpoint(ticket, [])
    return flight.FlightInfo(schema, descriptor, [endpoint], records, None, app_metadata=metadata)


def _schema_bytes(schema: pa.Schema) -> bytes:
    data: bytes = schema.serialize().to_pybytes()
    return data
