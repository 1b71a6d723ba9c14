"""One MQTT connection that a thread of its own keeps up: settings, reconnecting, and calls into it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import ssl
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import aiomqtt
from aiomqtt.exceptions import MqttConnectError
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from sabot.errors import ConnectorError, SqlError
from sabotd.connectors.base import OptionSpec
from sabotd.connectors.options import read_bool, read_int

log = logging.getLogger(__name__)
T = TypeVar("T")

_FIRST_BACKOFF_S: Final = 0.5
_MAX_BACKOFF_S: Final = 30.0
_CLOSE_S: Final = 10.0
# CONNACK codes that no retry mends: those of 3.1.1 (1, 2, 4, 5) and of 5.0
_FINAL_REFUSALS: Final = {
    1: "protocol version not supported",
    2: "client id not accepted",
    4: "user name or password refused",
    5: "not authorised",
    132: "protocol version not supported",
    133: "client id not accepted",
    134: "user name or password refused",
    135: "not authorised",
    138: "banned",
    140: "authentication method refused",
}
_SCHEMES: Final = {"mqtt": 1883, "tcp": 1883, "mqtts": 8883, "ssl": 8883}

LINK_OPTIONS: dict[str, OptionSpec] = {
    "url": OptionSpec("str", doc="mqtt://host[:port], or mqtts:// for TLS"),
    "host": OptionSpec("str", doc="the broker's host, instead of url"),
    "port": OptionSpec("int", doc="the broker's port: 1883, with TLS 8883"),
    "username": OptionSpec("str", doc="user name"),
    "password": OptionSpec("str", doc="password", secret=True),
    "client_id": OptionSpec("str", doc="client id; made up when missing"),
    "clean_session": OptionSpec("bool", "true", doc="false: the broker keeps messages while we are away"),
    "protocol": OptionSpec("enum", "3.1.1", choices=("3.1.1", "5"), doc="version of the protocol"),
    "keepalive": OptionSpec("int", "60", doc="seconds without traffic before a ping"),
    "tls": OptionSpec("bool", "false", doc="encrypt the connection"),
    "tls.ca_file": OptionSpec("str", doc="PEM file of the authorities to trust, instead of the system's"),
    "tls.cert_file": OptionSpec("str", doc="PEM file of the client's certificate"),
    "tls.key_file": OptionSpec("str", doc="PEM file of its key"),
}


@dataclass(frozen=True)
class LinkSettings:
    """Where and how to connect. `in_flight`: how many messages with QoS may be under way."""

    host: str
    port: int
    username: str | None
    password: str | None = field(repr=False)
    client_id: str
    clean_session: bool
    version5: bool
    keepalive_s: int
    tls: ssl.SSLContext | None
    in_flight: int

    @classmethod
    def of(cls, options: Mapping[str, str], relation: str, suffix: str = "") -> LinkSettings:
        """Read the WITH options.

        Parameters
        ----------
        suffix : str
            Tells the client ids of several tasks apart.

        Raises
        ------
        SqlError
        """
        host, port, tls = _address(options)
        clean = read_bool(options, "clean_session", default=True)
        client_id = options.get("client_id") or f"sabot-{relation}"
        if clean and "client_id" not in options:
            # nothing is kept for this id: a new one keeps two views of one source apart
            client_id += f"-{os.urandom(4).hex()}"
        version5 = options.get("protocol", "3.1.1") == "5"
        keepalive_s = read_int(options, "keepalive", 60) or 0
        if not 1 <= keepalive_s <= 65535:
            msg = f"option 'keepalive' cannot be {keepalive_s}"
            raise SqlError(msg, hint="it is in seconds, 1 to 65535")
        return cls(
            host=host,
            port=port,
            username=options.get("username"),
            password=options.get("password"),
            client_id=client_id + suffix,
            clean_session=clean,
            version5=version5,
            keepalive_s=keepalive_s,
            tls=_tls_context(options) if tls else None,
            # brokers cut off whoever has more under way with version 5 or QoS 2 than they like; 20 is the usual
            in_flight=20 if version5 or options.get("qos") == "2" else 256,
        )

    def client(self, queue_type: type[asyncio.Queue[aiomqtt.Message]] | None) -> aiomqtt.Client:
        """Make a client, not yet connected; in the loop's thread."""
        version: dict[str, Any] = {"protocol": aiomqtt.ProtocolVersion.V311, "clean_session": self.clean_session}
        if self.version5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.ReceiveMaximum = self.in_flight
            if not self.clean_session:
                properties.SessionExpiryInterval = 0xFFFFFFFF  # never
            version = {
                "protocol": aiomqtt.ProtocolVersion.V5,
                "clean_start": self.clean_session,
                "properties": properties,
            }
        client = aiomqtt.Client(
            self.host,
            self.port,
            username=self.username,
            password=self.password,
            identifier=self.client_id,
            keepalive=self.keepalive_s,
            tls_context=self.tls,
            max_inflight_messages=self.in_flight,
            queue_type=queue_type,
            logger=log,
            **version,
        )
        client.pending_calls_threshold = 1 << 16
        return client


class MqttLink:
    """Keeps a connection up from its own thread until `close`.

    Parameters
    ----------
    greet : callable
        Awaited after each connect, before calls get through (subscribes); may raise ConnectorError, which is final.
    queue_type : type, optional
        Takes incoming messages by ``put_nowait``, in the link's thread.
    """

    def __init__(
        self,
        settings: LinkSettings,
        greet: Callable[[aiomqtt.Client], Awaitable[None]] | None = None,
        queue_type: type[asyncio.Queue[aiomqtt.Message]] | None = None,
    ) -> None:
        self.settings = settings
        self.where = f"{settings.host}:{settings.port}"
        self.failure: ConnectorError | None = None
        self.state = f"connecting to {self.where}"
        self.up = threading.Event()
        """Set while connected, and for good after a failure or `close`."""
        self.tried = threading.Event()
        """Set once the first attempt to connect has succeeded or failed."""
        self.closed = False
        self._greet = greet
        self._queue_type = queue_type
        self.client: aiomqtt.Client | None = None
        """The connected client; None while there is none."""
        self._calls: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.new_event_loop()
        # the client may look for a socket that the broker has just closed; the link hears of the loss by itself
        self._loop.set_exception_handler(lambda _, context: log.debug("mqtt %s: %s", self.where, context))
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name=f"mqtt-{settings.client_id}", daemon=True)
        self._thread.start()

    def call(self, what: Callable[[aiomqtt.Client], Awaitable[T]], timeout_s: float = math.inf) -> T:
        """Run `what` with the connected client in the link's thread and wait for its result.

        Raises
        ------
        ConnectorError
            The link failed for good or was closed; retryable: not connected, lost on the way, or no answer in time.
        """
        self.check()
        client = self.client
        if client is None:
            msg = f"mqtt broker unreachable at {self.where}"
            raise ConnectorError(msg, retryable=True, hint="try again when the broker answers")

        async def run() -> T:
            # a client does not tell its callers when the connection breaks: `_keep_up` cancels them
            task = asyncio.current_task()
            assert task is not None
            self._calls.add(task)
            try:
                return await what(client)
            finally:
                self._calls.discard(task)

        coroutine = run()
        try:
            task = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError as problem:  # the loop has ended
            coroutine.close()
            self.check()
            raise self._lost() from problem
        try:
            return task.result(None if timeout_s == math.inf else timeout_s)
        except FutureTimeoutError as problem:
            task.cancel()
            msg = f"no answer from the mqtt broker at {self.where} in {timeout_s:g} s"
            raise ConnectorError(msg, retryable=True) from problem
        except (aiomqtt.MqttError, CancelledError) as problem:
            self.check()
            raise self._lost() from problem

    def check(self) -> None:
        """Raise what made the link end, if it has."""
        if self.failure is not None:
            raise self.failure
        if self.closed:
            msg = f"the connection to {self.where} was closed"
            raise ConnectorError(msg)

    def stop(self) -> None:
        """Begin to disconnect, end waiting calls with an error; from any thread, does not wait."""
        if self.closed:
            return
        self.closed = True
        self.up.set()
        # a loop that has ended after a failure takes nothing any more
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._end)

    def close(self) -> None:
        """Disconnect and end the thread; from any thread, idempotent."""
        self.stop()
        self._thread.join(_CLOSE_S)

    def _lost(self) -> ConnectorError:
        return ConnectorError(f"connection to the mqtt broker at {self.where} lost", retryable=True)

    def _end(self) -> None:
        self._stop.set()
        self._cancel_calls()

    def _cancel_calls(self) -> None:
        for call in self._calls:
            call.cancel()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            try:
                runner.run(self._keep_up())
            except ConnectorError as failure:
                self.failure = failure
                self.state = failure.message
                log.error("mqtt %s: %s", self.settings.client_id, failure.message)  # noqa: TRY400 - it is the reader's
            finally:
                self.up.set()
                self.tried.set()

    async def _keep_up(self) -> None:
        backoff_s = _FIRST_BACKOFF_S
        while not self._stop.is_set():
            try:
                async with self.settings.client(self._queue_type) as client:
                    if self._greet is not None:
                        await self._greet(client)
                    if self.state:
                        log.info("mqtt %s: connected to %s", self.settings.client_id, self.where)
                    backoff_s, self.state, self.client = _FIRST_BACKOFF_S, "", client
                    self.up.set()
                    self.tried.set()
                    await self._until_down(client)
            except MqttConnectError as problem:
                self._refused(problem)
                reason = str(problem)
            except aiomqtt.MqttError as problem:
                reason = str(problem.__cause__ or problem)
            else:
                continue
            finally:
                self.client = None
                self._cancel_calls()
                if not self._stop.is_set():
                    self.up.clear()
            self._down(reason, backoff_s)
            self.tried.set()
            await _either(self._stop.wait(), asyncio.sleep(backoff_s))
            backoff_s = min(backoff_s * 2, _MAX_BACKOFF_S)

    async def _until_down(self, client: aiomqtt.Client) -> None:
        """Wait for the end: `close`, or an MqttError when the connection breaks. No message ever comes this way."""
        await _either(self._stop.wait(), anext(client.messages))

    def _down(self, reason: str, backoff_s: float) -> None:
        if not self.state:
            log.warning("mqtt %s: lost %s: %s", self.settings.client_id, self.where, reason)
        self.state = f"broker unreachable at {self.where} ({reason}), retry in {backoff_s:g} s"

    def _refused(self, problem: MqttConnectError) -> None:
        code = problem.rc if isinstance(problem.rc, int) else getattr(problem.rc, "value", -1)
        why = _FINAL_REFUSALS.get(code)
        if why is not None:
            hint = {1: "try protocol = '3.1.1'", 132: "try protocol = '3.1.1'"}.get(code, "see username and password")
            msg = f"mqtt broker at {self.where} refused the connection: {why}"
            raise ConnectorError(msg, hint=hint, sqlstate="28000") from problem


async def _either(*awaitables: Awaitable[Any]) -> None:
    """Wait for the first to end; raise what it raised; cancel the others."""
    tasks = [asyncio.ensure_future(a) for a in awaitables]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _address(options: Mapping[str, str]) -> tuple[str, int, bool]:
    """Return host, port and whether to use TLS."""
    tls = read_bool(options, "tls")
    url, host = options.get("url"), options.get("host")
    if (url is None) == (host is None):
        msg = "option 'url' is missing" if url is None else "options 'url' and 'host' exclude each other"
        raise SqlError(msg, hint="say where the broker is, as in url = 'mqtt://localhost:1883'")
    if url is None:
        return str(host), _port(options, 8883 if tls else 1883), tls
    parts = urlsplit(url if "://" in url else f"mqtt://{url}")
    if parts.scheme not in _SCHEMES or not parts.hostname or parts.path.strip("/") or parts.query:
        msg = f"{parts.scheme}:// address cannot be used as option 'url'"
        raise SqlError(msg, hint="use mqtt://host:port or mqtts://host:port")
    if parts.username is not None or parts.password is not None:
        msg = "option 'url' holds a user name or password, which would show"
        raise SqlError(msg, hint="use the options username and password")
    tls = tls or _SCHEMES[parts.scheme] == 8883
    try:
        port = parts.port
    except ValueError as problem:
        msg = f"option 'url' has a port out of range: {url!r}"
        raise SqlError(msg) from problem
    return parts.hostname, _port(options, port or (8883 if tls else 1883)), tls


def _port(options: Mapping[str, str], default: int) -> int:
    port = read_int(options, "port", default) or 0
    if not 0 < port < 65536:
        msg = f"option 'port' cannot be {port}"
        raise SqlError(msg, hint="ports are 1 to 65535")
    return port


class _TlsSocket(ssl.SSLSocket):
    """Closes itself when the handshake fails, which the client does not."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def _tls_context(options: Mapping[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.get("tls.ca_file"))
        context.sslsocket_class = _TlsSocket
        if cert_file := options.get("tls.cert_file"):
            context.load_cert_chain(cert_file, options.get("tls.key_file"))
    except OSError as problem:  # ssl.SSLError is one
        msg = f"the tls.*_file options cannot be used: {problem.strerror or problem}"
        raise SqlError(msg, hint="they are paths of PEM files on the machine of sabotd") from problem
    return context
