"""Arrow Flight between agents: the one server of a process, and clients of the others'. Only here is Flight spoken.

Knows streams of batches with headers and named actions, not what they mean.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import msgspec
import pyarrow as pa
from pyarrow import flight

from cython_shuffle.transport_security import PLAIN, TLS, UNIX, CallCheck, Security, tell_distrust
from sabot.errors import InternalError, SabotError, ShuffleError, error_from_wire

__all__ = [
    "PLAIN",
    "UNIX",
    "Chunk",
    "ClientPool",
    "FlightEndpoint",
    "RemoteStream",
    "Security",
    "call_action",
    "close_shared_clients",
]

_SOCKET_PATH_BYTES = 107  # of sockaddr_un, less the closing NUL
_ERROR_TEXT_BYTES = 2000  # gRPC drops trailers beyond 8 KiB
_OK, _FAILED = b"\0", b"\1"

# a peer that comes back is tried again soon (gRPC's own back-off reaches two minutes)
_CHANNEL_OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    # also how long one attempt may take: on a loaded machine a handshake takes its time
    ("grpc.min_reconnect_backoff_ms", 2000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # else processes share one connection per address, and with it its back-off, across clients
    ("grpc.use_local_subchannel_pool", 1),
]

ActionHandler: TypeAlias = Callable[[bytes], bytes]
Chunk: TypeAlias = tuple[pa.RecordBatch, bytes]
StreamHandler: TypeAlias = Callable[[bytes, Callable[[], bool]], tuple[pa.Schema, Iterator[Chunk]]]
"""Answers a ticket: the schema, and chunks of rows with their header; the callable tells whether the reader is gone."""


_COMPRESSIONS = ("none", "lz4", "zstd")
_log = logging.getLogger(__name__)


class FlightEndpoint:
    """The one Flight server of a process: data streams and control actions, and the clients to its peers.

    Parameters
    ----------
    location : str
        ``grpc+unix:///path``, ``grpc://host:port`` or ``grpc+tls://host:port``; port 0 takes a free one.
    actions : mapping of str to callable, optional
        See `register_action`.
    name : str
        For messages.
    security : Security
        Token and TLS, of the server and of its clients.
    compression : {"none", "lz4", "zstd"}
        Of the streams this endpoint gives, for links between machines; a Unix socket never compresses.

    Raises
    ------
    ShuffleError
        There is no such compression.
    """

    def __init__(
        self,
        location: str,
        actions: Mapping[str, ActionHandler] | None = None,
        *,
        name: str = "agent",
        security: Security = PLAIN,
        compression: str = "none",
    ) -> None:
        if compression not in _COMPRESSIONS:
            raise ShuffleError(f"compression {compression!r} is not known", hint="use lz4, zstd or none")
        self.name = name
        self.compression = None if location.startswith(UNIX) or compression == "none" else compression
        self.clients = ClientPool(security)
        self._security = security
        self._asked = location
        self._location = location
        self._actions = dict(actions or {})
        self._stream_handler: StreamHandler | None = None
        self._server: _Server | None = None

    @property
    def location(self) -> str:
        """Where peers reach it; with the real port once it is started."""
        return self._location

    def register_action(self, name: str, handler: ActionHandler) -> None:
        """Answer action `name` with ``handler(body)``, on a thread of the server; at any time.

        A SabotError out of `handler` is raised again at the caller.
        """
        self._actions[name] = handler

    def set_stream_handler(self, handler: StreamHandler | None) -> None:
        """Answer DoGet with `handler`."""
        self._stream_handler = handler

    def start(self) -> None:
        """Listen; calls are answered when this returns.

        Raises
        ------
        ShuffleError
            The location is malformed, taken or cannot be made; or it is off this machine and token or TLS are missing.
        """
        if self._server is not None:
            raise ShuffleError(f"endpoint {self.name!r} has been started already")
        if self._asked.startswith(UNIX):
            _check_socket_path(self._asked.removeprefix(UNIX))
        self._security.check(self._asked)
        if self._asked.startswith(TLS) and not (self._security.certificate and self._security.private_key):
            raise ShuffleError(f"endpoint {self.name!r} has no certificate for {self._asked!r}")
        try:
            self._server = _Server(self, self._asked, self._security)
        except (flight.FlightError, pa.ArrowException, OSError) as error:
            raise ShuffleError(
                f"endpoint {self.name!r} cannot listen at {self._asked!r}: {error}",
                hint="is the address in use, or the folder missing",
            ) from error
        if not self._asked.startswith(UNIX):
            self._location = f"{self._asked.rpartition(':')[0]}:{self._server.port}"

    def stop(self, timeout_s: float = 10.0) -> None:
        """Stop listening, wait for calls under way, remove the socket file. Idempotent.

        Raises
        ------
        ShuffleError
            A call under way did not end within `timeout_s`: its handler hangs, or a peer holds a stream unread.
        """
        server, self._server = self._server, None
        self.clients.close()
        if server is None:
            return
        # the server's shutdown has no deadline of its own
        closing = threading.Thread(target=server.shutdown, name=f"{self.name} shutdown", daemon=True)
        closing.start()
        closing.join(timeout_s)
        if self._asked.startswith(UNIX):
            with contextlib.suppress(FileNotFoundError):
                Path(self._asked.removeprefix(UNIX)).unlink()
        if closing.is_alive():
            raise ShuffleError(f"endpoint {self.name!r} did not stop in {timeout_s:g} s", hint="a peer holds a stream")

    # -- called by the server's threads

    def act(self, name: str, body: bytes) -> bytes:
        """Run an action; the answer's first byte tells whether it is a result or an error."""
        handler = self._actions.get(name)
        try:
            if handler is None:
                raise self._refusal(f"knows no action {name!r}")
            try:
                return _OK + handler(body)
            except msgspec.DecodeError as error:
                text = f"cannot read what action {name!r} was called with: {error}"
                raise self._refusal(text) from error
        except SabotError as error:
            # in the body: an error with a long text does not fit into a gRPC trailer
            return _FAILED + json.dumps(error.to_wire()).encode()

    def refuse(self, call: str) -> flight.FlightError:
        """Return the error of a call of Flight that no endpoint takes."""
        return _to_flight(self._refusal(f"takes no call {call!r}"))

    def _refusal(self, text: str) -> ShuffleError:
        """Log that somebody asked for what he cannot have; return the error for him."""
        _log.warning("endpoint %r %s", self.name, text)
        return ShuffleError(f"endpoint {self.name!r} {text}")

    def open_stream(self, ticket: bytes, is_cancelled: Callable[[], bool]) -> tuple[pa.Schema, Iterator[Chunk]]:
        """Answer a ticket."""
        if self._stream_handler is None:
            raise ShuffleError(f"endpoint {self.name!r} gives no streams", retryable=True)
        return self._stream_handler(ticket, is_cancelled)


class _Server(flight.FlightServerBase):  # type: ignore[misc]
    def __init__(self, endpoint: FlightEndpoint, location: str, security: Security) -> None:
        certificates = None
        if location.startswith(TLS):
            certificates = [(security.certificate, security.private_key)]
        checks = security.token or location.startswith(TLS)
        middleware = {"check": CallCheck(endpoint.name, security.token)} if checks else None
        self._options = pa.ipc.IpcWriteOptions(compression=endpoint.compression)
        self._endpoint = endpoint
        super().__init__(location, tls_certificates=certificates, middleware=middleware)

    def do_get(self, context: flight.ServerCallContext, ticket: flight.Ticket) -> flight.GeneratorStream:
        try:
            schema, chunks = self._endpoint.open_stream(ticket.ticket, context.is_cancelled)
        except SabotError as error:
            if not error.retryable:
                _log.warning("endpoint %r refused a stream: %s", self._endpoint.name, error.message)
            raise _to_flight(error) from error
        return flight.GeneratorStream(schema, _raise_as_flight(chunks), self._options)

    def do_put(self, context: flight.ServerCallContext, *_: object) -> None:
        raise self._endpoint.refuse("do_put")

    def do_exchange(self, context: flight.ServerCallContext, *_: object) -> None:
        raise self._endpoint.refuse("do_exchange")

    def list_flights(self, context: flight.ServerCallContext, criteria: bytes) -> None:
        raise self._endpoint.refuse("list_flights")

    def list_actions(self, context: flight.ServerCallContext) -> None:
        raise self._endpoint.refuse("list_actions")

    def get_flight_info(self, context: flight.ServerCallContext, descriptor: object) -> None:
        raise self._endpoint.refuse("get_flight_info")

    def get_schema(self, context: flight.ServerCallContext, descriptor: object) -> None:
        raise self._endpoint.refuse("get_schema")

    def do_action(self, context: flight.ServerCallContext, action: flight.Action) -> Iterable[flight.Result]:
        return [flight.Result(pa.py_buffer(self._endpoint.act(action.type, action.body.to_pybytes())))]


def _raise_as_flight(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    try:
        yield from chunks
    except SabotError as error:
        raise _to_flight(error) from error


class RemoteStream:
    """The reading end of a stream. One thread reads; any may cancel."""

    def __init__(self, reader: flight.FlightStreamReader, location: str) -> None:
        self._reader = reader
        self._location = location
        self.schema: pa.Schema = reader.schema
        self.broken = False
        """Whether `read` failed because the connection broke, rather than by a word of the peer."""

    def read(self) -> Chunk | None:
        """Wait for the next chunk; None at the end of the stream.

        Raises
        ------
        SabotError
            What the writer raised, or ShuffleError when the connection broke or `cancel` was called.
        """
        try:
            chunk = self._reader.read_chunk()
        except StopIteration:
            return None
        except (flight.FlightError, pa.ArrowException, OSError) as error:
            self.broken = isinstance(error, flight.FlightUnavailableError) and not error.extra_info
            raise _from_flight(error, self._location) from error
        header = chunk.app_metadata
        return chunk.data, header.to_pybytes() if header is not None else b""

    def cancel(self) -> None:
        """End a waiting `read`; from any thread."""
        self._reader.cancel()


class ClientPool:
    """One Flight client a location, made at first use, shared by all threads."""

    def __init__(self, security: Security = PLAIN) -> None:
        self._security = security
        self._lock = threading.Lock()
        self._clients: dict[str, flight.FlightClient] = {}
        self._distrusted: set[str] = set()

    def call_action(self, location: str, name: str, body: bytes, timeout_s: float = 10.0) -> bytes:
        """Run action `name` at `location` and return its answer.

        Raises
        ------
        SabotError
            What the handler raised; ShuffleError (retryable) when the peer cannot be reached or does not answer within
            `timeout_s`, and then the action may or may not have run.
        """
        action = flight.Action(name, pa.py_buffer(body))
        try:
            results = list(self._client(location).do_action(action, self._security.call_options(timeout_s)))
        except (flight.FlightError, pa.ArrowException, OSError) as error:
            raise _from_flight(error, location) from error
        answer = b"".join(r.body.to_pybytes() for r in results)
        if answer[:1] == _OK:
            return answer[1:]
        raise error_from_wire(json.loads(answer[1:]))

    def open_stream(self, location: str, ticket: bytes) -> RemoteStream:
        """Ask for the stream of `ticket`; raises as `RemoteStream.read`."""
        try:
            reader = self._client(location).do_get(flight.Ticket(ticket), self._security.call_options())
            return RemoteStream(reader, location)
        except (flight.FlightError, pa.ArrowException, OSError) as error:
            self._say_if_distrusted(error, location)
            raise _from_flight(error, location) from error

    def close(self) -> None:
        """Disconnect from all; a later call connects again."""
        with self._lock:
            clients, self._clients = self._clients, {}
        for client in clients.values():
            client.close()

    def _say_if_distrusted(self, error: Exception, location: str) -> None:
        """Tell the peer why there is no TLS, once; where an action is refused, the tables tell both sides."""
        if (why := _why_no_tls(error)) is None:
            return
        with self._lock:
            first = location not in self._distrusted
            self._distrusted.add(location)
        if first:  # not at each of the tries that follow
            tell_distrust(location, why)

    def _client(self, location: str) -> flight.FlightClient:
        with self._lock:
            client = self._clients.get(location)
            if client is None:
                self._security.check(location)
                client = flight.FlightClient(
                    location, tls_root_certs=self._security.root_certificates, generic_options=_CHANNEL_OPTIONS
                )
                self._clients[location] = client
            return client


_shared = ClientPool()


def call_action(location: str, name: str, body: bytes, timeout_s: float = 10.0) -> bytes:
    """Run an action over the process's shared clients; see :meth:`ClientPool.call_action`."""
    return _shared.call_action(location, name, body, timeout_s)


def close_shared_clients() -> None:
    """Disconnect the clients behind :func:`call_action`."""
    _shared.close()


def _to_flight(error: SabotError) -> flight.FlightError:
    wire = error.to_wire()
    wire["message"] = wire["message"][:_ERROR_TEXT_BYTES]
    wire.pop("text", None)
    cls = flight.FlightUnavailableError if error.retryable else flight.FlightServerError
    return cls(wire["message"][:200], json.dumps(wire).encode())


def _from_flight(error: Exception, location: str) -> SabotError:
    details = getattr(error, "extra_info", b"")
    if details:
        return error_from_wire(json.loads(details))
    text = _text(error)
    text, was_bug, _ = text.partition(". Detail: Python exception")
    if was_bug:
        return InternalError(f"peer at {location!r} failed: {text}")
    text = text.partition(". Detail: ")[0].rpartition(", with message: ")[2]
    if isinstance(error, flight.FlightUnauthenticatedError):
        return ShuffleError(f"peer at {location!r} refused: {text}", hint="both sides need one token")
    if (why := _why_no_tls(error)) is not None:
        return ShuffleError(
            f"no TLS with peer at {location!r}: {why}", hint="do both speak TLS, and is its certificate one of ours"
        )
    if isinstance(error, flight.FlightUnavailableError):
        return ShuffleError(
            f"peer at {location!r} cannot be reached: {text}",
            hint="has it stopped, or does it speak TLS",
            retryable=True,
        )
    if isinstance(error, flight.FlightTimedOutError):
        return ShuffleError(f"peer at {location!r} did not answer in time", retryable=True)
    if isinstance(error, flight.FlightCancelledError):
        return ShuffleError(f"call to {location!r} was cancelled")
    return ShuffleError(f"call to {location!r} failed: {text}")


def _text(error: Exception) -> str:
    return str(error).partition(". gRPC client debug context")[0]


def _why_no_tls(error: Exception) -> str | None:
    """Return why no TLS came about; None if that is not what `error` says."""
    text = _text(error).partition(". Detail: ")[0]
    _, found, why = text.partition("Ssl handshake failed")
    return why.rpartition(":")[2].strip() if found else None


def _check_socket_path(path: str) -> None:
    if len(os.fsencode(path)) > _SOCKET_PATH_BYTES:
        raise ShuffleError(
            f"socket path {path!r} is longer than {_SOCKET_PATH_BYTES} bytes", hint="use a shorter folder"
        )
    if not Path(path).parent.is_dir():
        raise ShuffleError(f"the folder of socket {path!r} is not there", hint="create it first")
