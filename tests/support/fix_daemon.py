"""A sabotd as a service manager starts it: a process of its own that a test may stop, kill and start again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest

Start = Callable[..., "Daemon"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--every-kill", action="store_true", help="kill the daemon at every moment on every database")


class Daemon:
    """A sabotd process in the foreground, as a service manager starts it."""

    def __init__(
        self,
        data: Path,
        *arguments: str,
        env: dict[str, str] | None = None,
        program: Sequence[str] = ("-m", "sabotd"),
    ) -> None:
        ready_in, ready_out = os.pipe()
        self.log = data.parent / f"{data.name}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *program, "--data", str(data), "--ready-fd", str(ready_out), *arguments],
                pass_fds=(ready_out,),
                stdin=subprocess.DEVNULL,
                stderr=log,
                env={**os.environ, **(env or {})},
            )
        os.close(ready_out)
        with os.fdopen(ready_in, "rb") as pipe:
            line = pipe.readline()
        self.word = json.loads(line) if line else {}
        self.location: str = self.word.get("location", "")

    def children(self) -> list[psutil.Process]:
        """Return the agents."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def end(self, sig: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end."""
        self.process.send_signal(sig)
        return self.process.wait(30)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Daemon] = []

    def go(*arguments: str, data: str = "data", env: dict[str, str] | None = None) -> Daemon:
        daemon = Daemon(tmp_path / data, "--listen", "grpc://127.0.0.1:0", "--agents", "2", *arguments, env=env)
        started.append(daemon)
        return daemon

    yield go
    for daemon in started:
        if daemon.process.poll() is None:
            daemon.end(signal.SIGKILL)
