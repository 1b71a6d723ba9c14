"""Calls under way and their cancelling: by request, by a client that went away, by the end of the server.

gRPC tells a handler that its client has gone only when asked, so one thread asks for all of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from sabot.errors import ClientError

_PERIOD_S = 0.2
QUERY_CANCELED = "57014"


class Context(Protocol):
    """What this needs of Flight's call context; valid until the call has returned."""

    def is_cancelled(self) -> bool:
        """Whether the client gave up or disappeared."""
        ...


class Call:
    """One call that may have to be stopped. `owner` is its session's key, `name` what a cancel request calls it."""

    def __init__(self, context: Context, owner: str, name: bytes, stop: Callable[[], None] | None) -> None:
        self.owner = owner
        self.name = name
        self.cancelled = False
        self._context = context
        self._stop = stop

    def cancel(self) -> None:
        """Mark as cancelled and stop what runs; only by `Calls`, under its lock."""
        self.cancelled = True
        if self._stop is not None:
            self._stop()

    def gone(self) -> bool:
        """Whether the client has gone; only by `Calls`, under its lock."""
        return self._context.is_cancelled()

    def check(self) -> None:
        """Raise `ClientError` (57014) if the call was cancelled."""
        if self.cancelled:
            msg = "statement was cancelled"
            raise ClientError(msg, sqlstate=QUERY_CANCELED)


class Calls:
    """All calls under way, and the thread that looks after them.

    Parameters
    ----------
    housekeeping : callable
        Runs on that thread about every 0.2 s.
    """

    def __init__(self, housekeeping: Callable[[], None]) -> None:
        self._housekeeping = housekeeping
        # re-entrant: the collector may end a stream of ours on a thread that holds it
        self._lock = threading.RLock()
        self._calls: set[Call] = set()
        self._done = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._watch, name="flight-sql-watch", daemon=True)
        self._thread.start()

    def add(self, call: Call) -> None:
        """Take `call` in; it must be removed before its handler returns.

        Raises
        ------
        ClientError
            When the server is stopping (57P01).
        """
        with self._lock:
            if self._stopping:
                msg = "server is shutting down"
                raise ClientError(msg, sqlstate="57P01", retryable=True)
            self._calls.add(call)

    def remove(self, call: Call) -> None:
        """Forget `call`: from here on nothing touches its context."""
        with self._lock:
            self._calls.discard(call)

    @contextmanager
    def running(self, call: Call, stop: Callable[[], None]) -> Iterator[None]:
        """Let `call` be stopped by `stop` inside the block, and not one step after it."""
        with self._lock:
            call.check()
            call._stop = stop  # noqa: SLF001
        try:
            yield
        finally:
            with self._lock:
                call._stop = None  # noqa: SLF001

    def cancel(self, owner: str | None, name: bytes) -> bool:
        """Cancel the calls of that name (and owner, if given); whether there was one."""
        with self._lock:
            found = [c for c in self._calls if c.name == name and owner in {None, c.owner}]
            for call in found:
                call.cancel()
        return bool(found)

    def cancel_owner(self, owner: str) -> None:
        """Cancel every call of a session."""
        with self._lock:
            for call in list(self._calls):
                if call.owner == owner:
                    call.cancel()

    def stop(self) -> None:
        """Cancel everything, and whatever still comes, until `close`."""
        with self._lock:
            self._stopping = True
            for call in list(self._calls):
                call.cancel()

    def close(self) -> None:
        """End the thread."""
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(_PERIOD_S):
            with self._lock:
                for call in list(self._calls):
                    # again at each turn: the first word may have come before there was anything to stop
                    if call.cancelled or call.gone():
                        call.cancel()
            self._housekeeping()
