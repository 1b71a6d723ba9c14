"""The Flight SQL door: listens, serves an engine, stops without leaving anything behind."""

from __future__ import annotations

import ipaddress
import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa

from sabot.errors import ConfigError
from sabotd.engine import Engine
from sabotd.serve.connections import close_connections
from sabotd.serve.flight_service import FlightService


class FlightSqlServer:
    """Serves `engine` over Arrow Flight SQL.

    Parameters
    ----------
    engine : Engine
        Called from many threads.
    location : str
        ``grpc://HOST:PORT`` (port 0 takes a free one), ``grpc+tls://HOST:PORT`` or ``grpc+unix:///PATH``.
    token : str, optional
        If given, every call must carry it as ``authorization: Bearer TOKEN``.
    tls : (bytes, bytes), optional
        Certificate chain and private key, PEM; needs a ``grpc+tls`` location.

    Raises
    ------
    ConfigError
        When the location is no such URL, or is off loopback without both token and TLS.
    """

    def __init__(
        self, engine: Engine, location: str, *, token: str | None = None, tls: tuple[bytes, bytes] | None = None
    ) -> None:
        self._engine = engine
        self._asked = location
        self._token = token
        self._tls = tls
        self._service: FlightService | None = None
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        _check_location(location, safe=token is not None and tls is not None, tls=tls is not None)

    @property
    def location(self) -> str:
        """Where it listens, with the port it got."""
        url = urlsplit(self._asked)
        if self._service is None or url.port != 0:
            return self._asked
        return f"{url.scheme}://{url.netloc.removesuffix(':0')}:{self._service.port}"

    def start(self) -> None:
        """Listen and serve, on threads of its own.

        Raises
        ------
        ConfigError
            When the location cannot be listened on: in use, not allowed.
        """
        path = _socket_path(self._asked)
        if path is not None:
            _check_socket(path)
        else:
            _check_port(self._asked)
        try:
            self._service = FlightService(
                self._engine,
                self._asked,
                token=self._token,
                tls_certificates=None if self._tls is None else [self._tls],
            )
        except (pa.ArrowException, OSError) as exc:
            msg = f"cannot listen on {self._asked!r}"
            raise ConfigError(msg, hint="is the address in use, or not of this machine?") from exc

    def stop(self, grace_s: float = 1.0) -> None:
        """Cancel every statement, wait for the calls to end, close the sessions; idempotent.

        Clients that do not take what is sent to them lose their connection after `grace_s` seconds.
        """
        with self._lock:
            service, self._service = self._service, None
            if service is not None:
                path = _socket_path(self._asked)
                address = service.port if path is None else str(path)
                ending = threading.Thread(target=service.shut_down, name="flight-sql-stop")
                ending.start()
                while not _ended(ending, grace_s):
                    close_connections(address)
                if path is not None:
                    path.unlink(missing_ok=True)
        self._stopped.set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it was stopped; return whether it was."""
        return self._stopped.wait(timeout_s)


def _ended(thread: threading.Thread, timeout_s: float) -> bool:
    thread.join(timeout_s)
    return not thread.is_alive()


def _check_location(location: str, *, safe: bool, tls: bool) -> None:
    url = urlsplit(location)
    if url.scheme == "grpc+unix" and url.path:
        return
    try:
        host, port = url.hostname, url.port
    except ValueError:
        host, port = None, None
    if url.scheme not in {"grpc", "grpc+tcp", "grpc+tls"} or not host or port is None:
        msg = f"location {location!r} is not understood"
        raise ConfigError(msg, hint="write grpc://HOST:PORT, grpc+tls://HOST:PORT or grpc+unix:///PATH")
    if (url.scheme == "grpc+tls") is not tls:
        msg = f"location {location!r} and the TLS settings do not agree"
        raise ConfigError(msg, hint="a certificate needs a grpc+tls:// location, and the other way round")
    if not safe and not _is_loopback(host):
        msg = f"location {location!r} is off loopback without credentials and TLS"
        raise ConfigError(msg, hint="give a token and a certificate, or listen on 127.0.0.1")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _socket_path(location: str) -> Path | None:
    url = urlsplit(location)
    return Path(url.path) if url.scheme == "grpc+unix" else None


def _check_port(location: str) -> None:
    """Refuse an address that cannot be had: gRPC says so in a log of its own, and no reason to us."""
    url = urlsplit(location)
    try:
        found = socket.getaddrinfo(url.hostname, url.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as exc:
        msg = f"cannot listen on {location!r}: {(exc.strerror or str(exc)).lower()}"
        raise ConfigError(msg, hint="choose another address with --listen") from exc


def _check_socket(path: Path) -> None:
    """Refuse a path on which somebody listens: gRPC would take it away without a word."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return
        except OSError as exc:
            msg = f"cannot listen on {str(path)!r}"
            raise ConfigError(msg, hint=str(exc).lower()) from exc
    msg = f"socket {str(path)!r} is in use"
    raise ConfigError(msg, hint="is another sabotd running?")
