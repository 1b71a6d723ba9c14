"""One sabotd a control database: two would each run the other's workflows, and jobs would have two masters.

The right is the database's to give: in PostgreSQL an advisory lock that lives as long as one connection, on SQLite a
lock on a file beside the database. Nothing here knows what the daemon does.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import socket
import threading
import time
from collections.abc import Callable

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from sabot.errors import ConfigError

log = logging.getLogger("sabot.control")

_KEY = int.from_bytes(b"sabotd")
"""Of the advisory lock; PostgreSQL keeps those apart by database."""
_WAIT_S = 15.0
"""For a daemon before this one whose host is gone: its connection is given up by then, see `_KEEPALIVE`."""
_KEEPALIVE = "-c tcp_keepalives_idle=4 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3"
_NOTICE = {
    "connect_timeout": 5,
    "keepalives_idle": 4,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # ms
}
"""So that this end notices as soon."""
_LOOK_S = 1.0


class SoleDaemon:
    """Holds the right to be the only sabotd of a control database, from `take` to `release`.

    Parameters
    ----------
    url : sqlalchemy.URL
        Of the control database.
    data_dir : str
        Told to another sabotd that is refused.
    on_lost : callable
        Called once, on a thread of this object's, when another sabotd has taken over: the connection was lost
        (PostgreSQL was started again, the network was down), and the other one was quicker.
    """

    def __init__(self, url: sa.URL, data_dir: str, on_lost: Callable[[], None]) -> None:
        self._url = url
        self._on_lost = on_lost
        self._name = f"sabotd {os.getpid()} at {socket.gethostname()} {data_dir}"[:63]  # as long as PostgreSQL keeps
        self._engine: sa.Engine | None = None
        self._connection: sa.Connection | None = None
        self._file: int | None = None
        self._ending = threading.Event()
        self._watch: threading.Thread | None = None

    def take(self) -> None:
        """Take the lock; waits some seconds for a holder whose connection is about to be found dead.

        Raises
        ------
        ConfigError
            Another sabotd runs on this database, or the database does not answer.
        """
        if self._url.get_backend_name() == "sqlite":
            self._take_file()
            return
        arguments = {**_NOTICE, "options": _KEEPALIVE, "application_name": self._name}
        self._engine = sa.create_engine(
            self._url, poolclass=NullPool, connect_args=arguments, isolation_level="AUTOCOMMIT"
        )
        end = time.monotonic() + _WAIT_S
        told = False
        try:
            while not self._try():
                if time.monotonic() > end:
                    text = f"another sabotd runs on the control database {self._shown()!r}: {self._holder()}"
                    raise ConfigError(text, hint="a cluster has one sabotd; agents join it with sabotd agent --join")
                if not told:
                    log.info("waiting for %s to let go of the control database", self._holder())
                told = True
                self._ending.wait(_LOOK_S / 4)
        except sa.exc.DBAPIError as error:
            text = f"cannot open the control database {self._shown()!r}: {str(error.orig).splitlines()[0]}"
            raise ConfigError(text) from error
        self._watch = threading.Thread(target=self._keep, name="sole daemon", daemon=True)
        self._watch.start()

    def release(self) -> None:
        """Let another sabotd in. Idempotent."""
        self._ending.set()
        if self._watch is not None:
            self._watch.join(_LOOK_S)  # an answer may be outstanding
        self._disconnect()
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _take_file(self) -> None:
        path = self._url.database
        if not path:
            return
        self._file = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            self._file = None
            text = f"another sabotd runs on the control database {path!r}"
            raise ConfigError(text, hint="each needs a control.database of its own") from error

    def _try(self) -> bool:
        """Connect if need be, and ask for the lock; lets ``DBAPIError`` out."""
        if self._connection is None:
            assert self._engine is not None
            self._connection = self._engine.connect()
        return bool(self._connection.execute(sa.text("SELECT pg_try_advisory_lock(:key)"), {"key": _KEY}).scalar_one())

    def _keep(self) -> None:
        """Look whether the connection still stands; take the lock again when it does not."""
        while not self._ending.wait(_LOOK_S):
            try:
                if self._connection is not None:
                    self._connection.execute(sa.text("SELECT 1"))
                elif not self._try():
                    log.critical("another sabotd has taken the control database over: %s", self._holder())
                    self._on_lost()
                    return
            except sa.exc.DBAPIError:  # away: the pools' users say so, this only comes back
                self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sa.exc.DBAPIError):
                connection.close()

    def _holder(self) -> str:
        assert self._connection is not None
        query = (
            "SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
            "WHERE l.locktype = 'advisory' AND l.granted AND (l.classid::bigint << 32) + l.objid::bigint = :key "
            "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        found = self._connection.execute(sa.text(query), {"key": _KEY}).scalar()
        return str(found) if found else "one that has just gone"

    def _shown(self) -> str:
        return self._url.render_as_string()
