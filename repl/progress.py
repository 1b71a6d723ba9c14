"""Tells on the terminal what the jobs do while a statement takes long, by asking over a connection of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from repl.terminal import Block, size
from sabot.errors import SabotError

if TYPE_CHECKING:
    from sabot.client import Connection

AFTER_S = 1.0
"""A statement that takes less shows nothing."""
EVERY_S = 0.5
JOBS = "SELECT job, state, rows_in, rows_out, watermark, message FROM sabot_catalog.jobs WHERE state = 'RUNNING'"


class Progress:
    """The lines below a running statement. Make one a statement; `tick` while it runs, then `close`.

    Parameters
    ----------
    connect : callable
        Opens another connection to the same daemon.
    out : text file
        A terminal.
    """

    def __init__(self, connect: Callable[[], Connection], out: TextIO) -> None:
        self._connect = connect
        self._block = Block(out)
        self._started = time.monotonic()
        self._lock = threading.Lock()
        self._jobs: list[str] | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._shown = 0.0

    def tick(self) -> None:
        """Draw, if it is time."""
        now = time.monotonic()
        if now - self._started < AFTER_S or now - self._shown < EVERY_S:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._poll, name="progress", daemon=True)
            self._thread.start()
        with self._lock:
            jobs = self._jobs
        self._shown = now
        spent = f"{now - self._started:.0f} s  Ctrl-C stops"
        self._block.draw([spent, *(jobs or [])][: max(size()[1] - 2, 1)])

    def close(self) -> None:
        """Take the lines away."""
        self._stop.set()
        if self._shown:
            self._block.clear()

    def _poll(self) -> None:
        try:
            with self._connect() as connection:
                while not self._stop.is_set():
                    table = connection.sql(JOBS).arrow()
                    lines = job_lines(table.to_pylist())
                    with self._lock:
                        self._jobs = lines
                    self._stop.wait(EVERY_S)
        except SabotError as error:
            with self._lock:
                self._jobs = [f"no progress to see: {error}"]


def job_lines(jobs: list[dict[str, object]]) -> list[str]:
    """Return a line for each job: what it has done, and what it waits for."""
    lines = []
    for job in jobs:
        parts = [f"{job['job']}  {job['rows_in'] or 0:,} rows in, {job['rows_out'] or 0:,} out"]
        if job["watermark"]:
            parts.append(f"watermark {job['watermark']}")
        if job["message"]:
            parts.append(str(job["message"]))
        lines.append("  ".join(parts))
    return lines
