"""Tells systemd how the daemon does (sd_notify(3)), over the socket it names in the environment.

Knows nothing of the daemon; without NOTIFY_SOCKET nothing is sent.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from types import TracebackType
from typing import Self


class Notifier:
    """The service manager's socket, or nothing where there is none.

    Parameters
    ----------
    environ : mapping
        Where ``NOTIFY_SOCKET`` (a path, or ``@name`` of the abstract space) and ``WATCHDOG_USEC`` stand.

    Notes
    -----
    Sending never blocks and never fails the daemon: a service manager that went away is no reason to stop.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        usec = environ.get("WATCHDOG_USEC", "")
        self._watchdog_s = int(usec) / 1e6 if ours and usec.isdecimal() and int(usec) > 0 else None

    @property
    def watchdog_interval_s(self) -> float | None:
        """Seconds between two :meth:`watchdog` calls (a third of what systemd allows), None without a watchdog."""
        return self._watchdog_s / 3 if self._watchdog_s is not None and self._socket is not None else None

    def ready(self, status: str = "taking statements") -> None:
        """Tell that start-up is done."""
        self._send(f"READY=1\nSTATUS={status}")

    def stopping(self, status: str = "stopping") -> None:
        """Tell that the daemon is on its way down."""
        self._send(f"STOPPING=1\nSTATUS={status}")

    def watchdog(self) -> None:
        """Tell that the daemon is alive; call it from the loop that must not hang."""
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """Set the line that ``systemctl status`` shows."""
        self._send("STATUS=" + text.replace("\n", " "))

    def close(self) -> None:
        """Close the socket; idempotent."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, message: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(message.encode(), self._address)
        except OSError:
            return  # the manager is away or its queue is full; the next message may arrive
