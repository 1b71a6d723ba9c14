"""What the daemon has, as completion wants to know it: kept fresh on a thread, never waited for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sabot.errors import SabotError

if TYPE_CHECKING:
    from sabot.client import Connection

FRESH_S = 5.0
"""How long what is known is good enough."""


@dataclass(frozen=True)
class Relation:
    """A relation that may be named: its kind and its columns."""

    name: str
    kind: str
    columns: tuple[str, ...]


class Objects:
    """The relations of the daemon as of a few seconds ago.

    Parameters
    ----------
    connect : callable
        Opens a connection of its own, when first needed.
    """

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._connection: Connection | None = None
        self._lock = threading.Lock()
        self._known: Mapping[str, Relation] = {}
        self._asked_at = float("-inf")
        self._thread: threading.Thread | None = None
        self._closed = False

    def relations(self) -> Mapping[str, Relation]:
        """Return what is known now, by name; asks for news in the background."""
        self.refresh()
        with self._lock:
            return self._known

    def refresh(self, *, stale: bool = False) -> None:
        """Ask the daemon in the background, if what is known is old or `stale`."""
        with self._lock:
            busy = self._thread is not None and self._thread.is_alive()
            if self._closed or busy or (not stale and time.monotonic() - self._asked_at < FRESH_S):
                return
            self._asked_at = time.monotonic()
            self._thread = threading.Thread(target=self._ask, name="objects", daemon=True)
            self._thread.start()

    def wait(self) -> None:
        """Wait until the asking that is under way is done."""
        thread = self._thread
        if thread is not None:
            thread.join()

    def close(self) -> None:
        """End the connection; idempotent."""
        with self._lock:
            self._closed = True
        self.wait()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self) -> None:
        try:
            if self._connection is None:
                self._connection = self._connect()
            found = read_relations(self._connection)
        except SabotError:
            # completion of names is a help; statements tell what is wrong with the connection
            return
        with self._lock:
            self._known = found


def read_relations(connection: Connection) -> dict[str, Relation]:
    """Return every relation that a client may name; those of other schemas with the schema's name before."""
    found = {}
    for info in connection.tables():
        name = info.name if info.schema in {None, "", "main", "public"} else f"{info.schema}.{info.name}"
        found[name] = Relation(name, info.kind.lower(), tuple(info.columns.names) if info.columns else ())
    return found
