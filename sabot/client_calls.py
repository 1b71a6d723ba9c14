"""Calls to a Flight SQL server: interruptible, with Sabot's errors; knows commands as bytes."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TypeVar

import pyarrow as pa
from pyarrow import flight

from sabot.errors import ClientError, SabotError, error_from_wire
from sabot.flight_sql import flight_sql_pb2 as pb
from sabot.flight_sql import messages

T = TypeVar("T")

_REUSE_CONNECTION = "arrow-flight-reuse-connection"
_SCHEMES = ("grpc://", "grpc+tcp://", "grpc+tls://", "grpc+unix://")
_AFTER_INTERRUPT_S = 2.0
_INTERRUPT_AGAIN_S = 0.2
_SIGNAL_CHECK_S = 0.1


class _Helper:
    """A thread that waits in gRPC for the main thread, so that Ctrl-C gets through."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="sabot-client", daemon=True)
        self._thread.start()

    def run(self, work: Callable[[], T], interrupt: Callable[[], None]) -> T:
        """Return what `work` returns; on an interrupt call `interrupt`, which must make `work` end soon."""
        done = threading.Event()
        values: list[T] = []
        errors: list[BaseException] = []

        def job() -> None:
            try:
                values.append(work())
            except BaseException as exc:  # noqa: BLE001  raised again below, on the thread that waits
                errors.append(exc)
            done.set()

        self._jobs.put(job)
        try:
            # in turns: a signal that comes on another thread, or just before the wait, wakes nobody
            while not done.wait(_SIGNAL_CHECK_S):
                pass
        except BaseException:
            # more than once: the first may come before there is something to cancel
            deadline = time.monotonic() + _AFTER_INTERRUPT_S
            interrupt()
            while not done.wait(_INTERRUPT_AGAIN_S) and time.monotonic() < deadline:
                interrupt()
            raise
        if errors:
            raise errors[0]
        return values[0]

    def close(self) -> None:
        self._jobs.put(None)
        self._thread.join(_AFTER_INTERRUPT_S)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


class Calls:
    """One connection's calls.

    Parameters
    ----------
    url : str
        ``grpc://HOST:PORT``, ``grpc+tls://HOST:PORT`` or ``grpc+unix:///PATH``.
    session : str
        What the server knows the connection's session by.
    token : str, optional
        Sent as a bearer token.
    tls_root_certs : bytes, optional
        PEM of the authorities to trust; the system's by default.

    Raises
    ------
    ClientError
        If `url` is none of these.
    """

    def __init__(self, url: str, session: str, *, token: str | None, tls_root_certs: bytes | None) -> None:
        self.url = url
        self._headers = [(messages.SESSION_HEADER.encode(), session.encode())]
        if token is not None:
            self._headers.append((b"authorization", f"Bearer {token}".encode()))
        self._tls_root_certs = tls_root_certs
        self._options = flight.FlightCallOptions(headers=self._headers)
        self._lock = threading.Lock()
        self._running: list[flight.FlightDescriptor] = []
        self._helper: _Helper | None = None
        self._others: dict[bytes, flight.FlightClient] = {}
        if not url.startswith(_SCHEMES):
            msg = f"url {url!r} is not understood"
            hint = "write grpc://HOST:PORT, grpc+tls://HOST:PORT or grpc+unix:///PATH"
            raise ClientError(msg, sqlstate="08001", hint=hint)
        self._client = self._open(url)

    def info(self, command: bytes, sql: str | None = None, timeout_s: float | None = None) -> flight.FlightInfo:
        """Run a command and return where its rows are; `sql` is the statement that errors point into."""
        descriptor = flight.FlightDescriptor.for_command(command)
        options = self._options
        if timeout_s is not None:
            options = flight.FlightCallOptions(timeout=timeout_s, headers=self._headers)
        with self._lock:
            self._running.append(descriptor)
        try:
            with self.errors(sql):
                return self.wait(
                    lambda: self._client.get_flight_info(descriptor, options), lambda: self._cancel(descriptor)
                )
        finally:
            with self._lock:
                self._running.remove(descriptor)

    def read(self, endpoint: flight.FlightEndpoint, sql: str | None = None) -> flight.FlightStreamReader:
        """Open the stream of an endpoint."""
        with self.errors(sql):
            client = self._client_of(endpoint)
            return self.wait(lambda: client.do_get(endpoint.ticket, self._options), lambda: None)

    def put(self, command: bytes, batch: pa.RecordBatch, sql: str | None = None) -> bytes:
        """Send a batch with a command; return the metadata that the server answered, empty if none."""
        descriptor = flight.FlightDescriptor.for_command(command)

        def work() -> bytes:
            writer, reader = self._client.do_put(descriptor, batch.schema, self._options)
            with writer:
                writer.write_batch(batch)
                writer.done_writing()
                answer = reader.read()
            return b"" if answer is None else answer.to_pybytes()

        with self.errors(sql):
            return self.wait(work, lambda: self._cancel(descriptor))

    def action(self, kind: str, body: bytes, sql: str | None = None, timeout_s: float | None = None) -> list[bytes]:
        """Do an action; return the bodies of its results."""
        options = self._options
        if timeout_s is not None:
            options = flight.FlightCallOptions(timeout=timeout_s, headers=self._headers)
        with self.errors(sql):
            return self.wait(
                lambda: [r.body.to_pybytes() for r in self._client.do_action(flight.Action(kind, body), options)],
                lambda: None,
            )

    def cancel(self) -> None:
        """Cancel the commands that still wait for an answer; from any thread."""
        with self._lock:
            running = list(self._running)
        for descriptor in running:
            self._cancel(descriptor)

    def wait(self, work: Callable[[], T], interrupt: Callable[[], None]) -> T:
        """Run `work`, which blocks in gRPC; on the main thread Ctrl-C calls `interrupt` and gets out."""
        if threading.current_thread() is not threading.main_thread():
            return work()
        if self._helper is None:
            self._helper = _Helper()
        helper = self._helper
        try:
            return helper.run(work, interrupt)
        except BaseException as exc:
            if not isinstance(exc, Exception):  # the call may still hang in there
                self._helper = None
                helper.close()
            raise

    @contextmanager
    def errors(self, sql: str | None) -> Iterator[None]:
        """Let Flight's errors out as Sabot's."""
        try:
            yield
        except (pa.ArrowException, flight.FlightError, OSError) as exc:
            # what the server told is all there is to know; a traceback of the transport would bury it
            raise self._error(exc, sql) from None if getattr(exc, "extra_info", b"") else exc

    def close(self) -> None:
        """Close the connections; calls under way fail."""
        if self._helper is not None:
            self._helper.close()
            self._helper = None
        for client in (self._client, *self._others.values()):
            client.close()

    def _open(self, url: str) -> flight.FlightClient:
        with self.errors(None):
            return flight.connect(url, tls_root_certs=self._tls_root_certs)

    def _client_of(self, endpoint: flight.FlightEndpoint) -> flight.FlightClient:
        uris: Sequence[bytes] = [location.uri for location in endpoint.locations]
        if not uris or any(uri.decode().startswith(_REUSE_CONNECTION) for uri in uris):
            return self._client
        with self._lock:
            if uris[0] not in self._others:
                self._others[uris[0]] = self._open(uris[0].decode())
            return self._others[uris[0]]

    def _cancel(self, descriptor: flight.FlightDescriptor) -> None:
        """Ask to cancel a command that has no ticket yet; one that has ended meanwhile is fine."""
        info = flight.FlightInfo(pa.schema([]), descriptor, [])
        body = pb.CancelFlightInfoRequest(info=info.serialize()).SerializeToString()
        options = flight.FlightCallOptions(timeout=_AFTER_INTERRUPT_S, headers=self._headers)
        with suppress(pa.ArrowException, flight.FlightError):
            list(self._client.do_action(flight.Action(messages.CANCEL_FLIGHT_INFO, body), options))

    def _error(self, error: Exception, sql: str | None) -> SabotError:
        extra = getattr(error, "extra_info", b"")
        if extra.startswith(b"{"):
            wire = json.loads(extra)
            if wire.get("text_is_statement"):
                wire["text"] = sql
            told = error_from_wire(wire)
            # the place and the hint, for tracebacks; `message` and `hint` are for programs
            if more := str(error).partition(". Detail: ")[0].partition("\n")[2]:
                told.add_note(more)
            return told
        match error:
            case flight.FlightCancelledError():
                return ClientError("statement was cancelled", sqlstate="57014")
            case flight.FlightUnavailableError():
                if "failed to connect" in str(error):
                    hint = "is a server running there?"
                    return ClientError(f"cannot reach {self.url!r}", sqlstate="08001", hint=hint, retryable=True)
                return ClientError(f"lost the connection to {self.url!r}", sqlstate="08006", retryable=True)
            case flight.FlightTimedOutError():
                return ClientError(f"no answer from {self.url!r} in time", sqlstate="08001", retryable=True)
            case flight.FlightUnauthenticatedError() | flight.FlightUnauthorizedError():
                hint = "give the server's token"
                return ClientError("the server refuses the credentials", sqlstate="28000", hint=hint)
            case _:
                return ClientError(str(error).partition(". Detail: ")[0])
