"""A connection: statements, subscriptions and metadata over Flight SQL, as any server speaks it."""

from __future__ import annotations

import json
import re
import threading
import uuid
import weakref
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

import pyarrow as pa
from google.protobuf.message import Message
from pyarrow import flight

from sabot.client_calls import Calls
from sabot.client_parameters import parameter_batch
from sabot.client_result import Result
from sabot.client_subscription import Subscription
from sabot.dbapi import Cursor
from sabot.embedded import Embedded
from sabot.errors import ClientError, SqlError
from sabot.flight_sql import flight_sql_pb2 as pb
from sabot.flight_sql import messages
from sabot.schema import quote

_CLOSE_TIMEOUT_S = 2.0
_PLAIN_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\Z")


@dataclass(frozen=True)
class RelationInfo:
    """A relation. `kind`: TABLE, VIEW, MATERIALIZED VIEW, SOURCE, SINK, SYSTEM TABLE, or another server's word."""

    catalog: str | None
    schema: str | None
    name: str
    kind: str
    columns: pa.Schema | None


class Connection:
    """A session with a server. Threads may share it; each statement is one call.

    Attributes
    ----------
    url : str
    server_name, server_version : str
        What the server calls itself.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        tls_root_certs: bytes | None = None,
        timeout_s: float = 10.0,
        server: Embedded | None = None,
    ) -> None:
        self.url = url
        self._server = server
        self._closed = False
        self._cancels = 0
        self._lock = threading.Lock()
        self._results: weakref.WeakSet[Result] = weakref.WeakSet()
        self._calls = Calls(url, uuid.uuid4().hex, token=token, tls_root_certs=tls_root_certs)
        try:
            names = self._ask(pb.CommandGetSqlInfo(info=[0, 1]), timeout_s).to_pylist()
        except BaseException:
            self._calls.close()
            raise
        found = {row["info_name"]: row["value"] for row in names}
        self.server_name: str = found.get(0, "")
        self.server_version: str = found.get(1, "")

    @property
    def server_pid(self) -> int | None:
        """The process id of the private server; None when the server is not ours."""
        return self._server.pid if self._server is not None else None

    # ---- statements ---------------------------------------------------------------------------------------

    def sql(self, query: str, parameters: Sequence[object] = ()) -> Result:
        """Run one statement and return what it gave.

        Parameters
        ----------
        query : str
        parameters : sequence
            Python values for the ``?`` of the query, in order.

        Raises
        ------
        SabotError
            What the server raised, of the same class; `SqlError` with the span in `query`.
        """
        self._check_open()
        if not parameters:
            return self._result(query, messages.pack(pb.CommandStatementQuery(query=query)))
        prepared = self._prepare(query)
        handle = prepared.prepared_statement_handle
        try:
            command = messages.pack(pb.CommandPreparedStatementQuery(prepared_statement_handle=handle))
            answer = self._calls.put(command, parameter_batch([parameters]), query)
            bound = pb.DoPutPreparedStatementResult.FromString(answer)
            if bound.HasField("prepared_statement_handle"):
                handle = bound.prepared_statement_handle
                command = messages.pack(pb.CommandPreparedStatementQuery(prepared_statement_handle=handle))
            return self._result(query, command, prepared=handle)
        except BaseException:
            self._close_prepared(handle)
            raise

    def run_many(self, query: str, rows: Iterable[Sequence[object]]) -> int:
        """Run one statement, not a query, for every row of parameters; return the rows changed (-1: not known).

        Rows before one that fails stay done.
        """
        self._check_open()
        rows = list(rows)
        if not rows:
            return 0
        prepared = self._prepare(query)
        handle = prepared.prepared_statement_handle
        try:
            if prepared.dataset_schema:
                msg = "a query cannot run for many rows of parameters"
                raise SqlError(msg, text=query, sqlstate="0A000", hint="execute it once for each row")
            command = messages.pack(pb.CommandPreparedStatementUpdate(prepared_statement_handle=handle))
            answer = self._calls.put(command, parameter_batch(rows), query)
            return pb.DoPutUpdateResult.FromString(answer).record_count
        finally:
            self._close_prepared(handle)

    def execute(self, query: str, parameters: Sequence[object] = ()) -> Cursor:
        """Run one statement; return a cursor over its rows."""
        return self.cursor().execute(query, parameters)

    def executemany(self, query: str, rows: Iterable[Sequence[object]]) -> Cursor:
        """Run one statement for every row of parameters; return a cursor with the rowcount."""
        return self.cursor().executemany(query, rows)

    def subscribe(self, view: str, *, snapshot: bool = True) -> Subscription:
        """Return a view's changes as they come: its rows first (unless told otherwise), then what happens to them.

        Parameters
        ----------
        view : str
            Its name; quoted here if it is no plain identifier.

        Returns
        -------
        Subscription
            A ``pyarrow.RecordBatchReader``; closing it ends the subscription on the server.
        """
        name = view if _PLAIN_NAME.match(view) else quote(view)
        return Subscription(self.sql(f"SUBSCRIBE {name}" + ("" if snapshot else " WITH (snapshot = false)")))

    def cursor(self) -> Cursor:
        """Return a DB-API cursor."""
        self._check_open()
        return Cursor(self)

    def cancel(self) -> None:
        """Stop every statement of this connection that runs or streams, from any thread.

        A statement that has not reached the server yet may escape: call again while it goes on.
        """
        self._calls.cancel()
        with self._lock:
            self._cancels += 1
            results = list(self._results)
        for result in results:
            result.cancel()

    # ---- metadata -----------------------------------------------------------------------------------------

    def tables(self, pattern: str | None = None, *, columns: bool = True) -> list[RelationInfo]:
        """List the server's relations, by schema and name.

        Parameters
        ----------
        pattern : str, optional
            Of SQL's LIKE, for the names.
        columns : bool
            Whether to ask for their columns too.
        """
        self._check_open()
        command = pb.CommandGetTables(include_schema=columns)
        if pattern is not None:
            command.table_name_filter_pattern = pattern
        return [
            RelationInfo(
                row["catalog_name"],
                row["db_schema_name"],
                row["table_name"],
                row["table_type"],
                _columns(row["table_schema"]) if columns else None,
            )
            for row in self._ask(command).to_pylist()
        ]

    def columns_of(self, query: str) -> pa.Schema:
        """Return the columns that a statement would give, without running it."""
        self._check_open()
        prepared = self._prepare(query)
        self._close_prepared(prepared.prepared_statement_handle)
        if not prepared.dataset_schema:
            return pa.schema([])
        return pa.ipc.read_schema(pa.py_buffer(prepared.dataset_schema))

    # ---- end ----------------------------------------------------------------------------------------------

    def commit(self) -> None:
        """Do nothing: every statement commits by itself."""
        self._check_open()

    def rollback(self) -> None:
        """Refuse: every statement has committed by itself."""
        msg = "there are no transactions to roll back"
        raise ClientError(msg, sqlstate="0A000")

    def close(self) -> None:
        """Stop what runs, end the session, and the private server if there is one; idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            results = list(self._results)
        for result in results:
            result.close()
        # a server that is gone has no session left to close
        with suppress(ClientError):
            self._calls.action(messages.CLOSE_SESSION, b"", timeout_s=_CLOSE_TIMEOUT_S)
        self._calls.close()
        if self._server is not None:
            self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<sabot.Connection {self.url!r}{' closed' if self._closed else ''}>"

    def _result(self, query: str, command: bytes, prepared: bytes | None = None) -> Result:
        cancels = self._cancels
        info = self._calls.info(command, query)
        told = _told(info)
        result = Result(
            self._calls,
            info,
            sql=query,
            tag=told.get("tag", ""),
            notices=told.get("notices", ()),
            # another server tells nothing: a statement without columns has no rows
            is_query=told.get("is_query", bool(info.schema is None or info.schema.names)),
            on_close=None if prepared is None else lambda: self._close_prepared(prepared),
        )
        with self._lock:
            self._results.add(result)
            late = self._cancels != cancels
        if late:
            result.cancel()
        return result

    def _prepare(self, query: str) -> pb.ActionCreatePreparedStatementResult:
        request = messages.pack(pb.ActionCreatePreparedStatementRequest(query=query))
        answers = self._calls.action(messages.CREATE_PREPARED, request, query)
        if len(answers) != 1:
            msg = "the server's answer to a prepared statement is not understood"
            raise ClientError(msg, sqlstate="08P01")
        return messages.unpack_as(pb.ActionCreatePreparedStatementResult, answers[0])

    def _close_prepared(self, handle: bytes) -> None:
        request = messages.pack(pb.ActionClosePreparedStatementRequest(prepared_statement_handle=handle))
        # what the statement gave is here already; the server forgets it with the session at the latest
        with suppress(ClientError):
            self._calls.action(messages.CLOSE_PREPARED, request, timeout_s=_CLOSE_TIMEOUT_S)

    def _ask(self, command: Message, timeout_s: float | None = None) -> pa.Table:
        info = self._calls.info(messages.pack(command), timeout_s=timeout_s)
        parts = []
        for endpoint in info.endpoints:
            stream = self._calls.read(endpoint)
            with self._calls.errors(None):
                parts.append(self._calls.wait(stream.read_all, stream.cancel))
        return pa.concat_tables(parts)

    def _check_open(self) -> None:
        if self._closed:
            msg = "connection is closed"
            raise ClientError(msg, sqlstate="08003")


def _columns(serialized: bytes) -> pa.Schema:
    return pa.schema([field.remove_metadata() for field in pa.ipc.read_schema(pa.py_buffer(serialized))])


def _told(info: flight.FlightInfo) -> dict[str, Any]:
    """Return what a Sabot server tells beside the schema; nothing from another."""
    if not info.app_metadata.startswith(b"{"):
        return {}
    told = json.loads(info.app_metadata)
    return told if isinstance(told, dict) and "is_query" in told else {}
