"""Which session a call belongs to: the client's header, its cookie, or its connection."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie

from pyarrow import flight

from sabot.errors import ClientError
from sabot.flight_sql.messages import SESSION_COOKIE, SESSION_HEADER
from sabotd.engine import Engine, PreparedInfo, Session
from sabotd.serve.flight_calls import Call

NAMED_IDLE_S = 8 * 3600.0
PEER_IDLE_S = 600.0
ANONYMOUS_IDLE_S = 60.0


class CallHeaders(flight.ServerMiddleware):  # type: ignore[misc]  # pyarrow has no types
    """What the headers of one call say about its session."""

    def __init__(self, header: str | None, cookie: str | None) -> None:
        self.header = header
        self.cookie = cookie


class CallHeadersFactory(flight.ServerMiddlewareFactory):  # type: ignore[misc]  # pyarrow has no types
    """Reads every call's headers; refuses a call without the server's token, where it has one."""

    def __init__(self, token: str | None) -> None:
        self._expected = None if token is None else f"Bearer {token}"

    def start_call(self, info: flight.CallInfo, headers: dict[str, list[str]]) -> CallHeaders:
        if self._expected is not None and self._expected not in headers.get("authorization", []):
            msg = "authorization: a bearer token is needed"
            raise flight.FlightUnauthenticatedError(msg)
        named = headers.get(SESSION_HEADER)
        return CallHeaders(named[0] if named else None, _session_cookie(headers.get("cookie", [])))


def _session_cookie(values: list[str]) -> str | None:
    for value in values:
        try:
            cookie = SimpleCookie(value).get(SESSION_COOKIE)
        except CookieError:
            continue  # another server's, or broken: this call then has none
        if cookie is not None:
            return cookie.value
    return None


@dataclass
class Prepared:
    """A prepared statement and the parameter rows bound to it last."""

    handle: bytes
    sql: str
    info: PreparedInfo
    rows: list[tuple[object, ...]] = field(default_factory=lambda: [()])


class ClientSession:
    """One client's session of the engine with its prepared statements; one statement at a time."""

    def __init__(self, key: str, session: Session, idle_s: float) -> None:
        self.key = key
        self.session = session
        self.prepared: dict[bytes, Prepared] = {}
        self.idle_s = idle_s
        self.users = 0
        self.last_used = time.monotonic()
        self._turn = threading.Lock()

    def take_turn(self, call: Call) -> None:
        """Wait until no other statement of this session runs.

        Raises
        ------
        ClientError
            When the call was cancelled meanwhile.
        """
        while not self._turn.acquire(timeout=0.1):
            call.check()

    def give_turn(self) -> None:
        """Let the next statement run."""
        self._turn.release()

    def close(self) -> None:
        """End the engine's session, after the statement that runs: whoever closes has cancelled it."""
        with self._turn:
            self.session.close()


class Sessions:
    """The open sessions by key."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._sessions: dict[str, ClientSession] = {}
        self._peers: dict[str, str] = {}

    def key_of(self, context: flight.ServerCallContext) -> str | None:
        """Return the key of the caller's session, or None for a caller that has none yet."""
        headers = context.get_middleware("headers")
        if headers.header is not None:
            return f"header:{headers.header}"
        if headers.cookie is not None:
            return f"cookie:{headers.cookie}"
        with self._lock:
            return self._peers.get(context.peer())

    @contextmanager
    def of(self, context: flight.ServerCallContext) -> Iterator[ClientSession]:
        """Give the caller's session, opened at need; it stays open inside the block."""
        client = self._enter(context)
        try:
            yield client
        finally:
            self.leave(client)

    def _enter(self, context: flight.ServerCallContext) -> ClientSession:
        key = self.key_of(context)
        idle_s = NAMED_IDLE_S
        if key is None:
            name = uuid.uuid4().hex
            context.add_header("set-cookie", f"{SESSION_COOKIE}={name}; HttpOnly")
            key = f"cookie:{name}"
            idle_s = ANONYMOUS_IDLE_S
            peer = context.peer()
            # callers on a Unix socket all look the same: without a cookie theirs lasts one call
            if not peer.startswith("unix"):
                idle_s = PEER_IDLE_S
                with self._lock:
                    self._peers[peer] = key
        with self._lock:
            client = self._sessions.get(key)
            if client is None:
                client = ClientSession(key, self._engine.open_session(), idle_s)
                self._sessions[key] = client
            client.users += 1
        return client

    @contextmanager
    def with_prepared(self, handle: bytes) -> Iterator[tuple[ClientSession, Prepared]]:
        """Give the session that holds a prepared statement, and it; the session stays open inside the block.

        Raises
        ------
        ClientError
            When there is no such statement (26000).
        """
        with self._lock:
            client = next((c for c in self._sessions.values() if handle in c.prepared), None)
            if client is None:
                msg = "prepared statement does not exist"
                raise ClientError(msg, sqlstate="26000", hint="its session may have expired: prepare it again")
            prepared = client.prepared[handle]
            client.users += 1
        try:
            yield client, prepared
        finally:
            self.leave(client)

    def add_prepared(self, client: ClientSession, sql: str, info: PreparedInfo) -> bytes:
        """Keep a prepared statement with its session; return its handle."""
        prepared = Prepared(uuid.uuid4().bytes, sql, info)
        with self._lock:
            client.prepared[prepared.handle] = prepared
            client.idle_s = max(client.idle_s, PEER_IDLE_S)
        return prepared.handle

    def drop_prepared(self, handle: bytes) -> None:
        """Forget a prepared statement; one that is gone already is fine."""
        with self._lock:
            for client in self._sessions.values():
                client.prepared.pop(handle, None)

    def hold(self, client: ClientSession) -> None:
        """Keep a session, already entered, open until one more `leave`."""
        with self._lock:
            client.users += 1

    def leave(self, client: ClientSession) -> None:
        """Tell that a call or a stream of this session is over."""
        with self._lock:
            client.users -= 1
            client.last_used = time.monotonic()

    def close(self, key: str) -> None:
        """End a session, used or not."""
        with self._lock:
            client = self._sessions.pop(key, None)
            self._forget_peers({key})
        if client is not None:
            client.close()

    def expire(self) -> None:
        """End the sessions that were idle too long."""
        now = time.monotonic()
        with self._lock:
            old = [c for c in self._sessions.values() if not c.users and now - c.last_used > c.idle_s]
            for client in old:
                del self._sessions[client.key]
            if old:
                self._forget_peers({c.key for c in old})
        for client in old:
            client.close()

    def close_all(self) -> None:
        """End every session."""
        with self._lock:
            clients = list(self._sessions.values())
            self._sessions.clear()
            self._peers.clear()
        for client in clients:
            client.close()

    def _forget_peers(self, keys: set[str]) -> None:
        self._peers = {peer: key for peer, key in self._peers.items() if key not in keys}
