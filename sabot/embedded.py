"""A private sabotd: started for one connection, ended with it; knows no wire.

The daemon writes one line of JSON to the pipe it is given: ``{"ready": true, "location": ...}`` or
``{"error": ...}``. It ends when its standard input does, so nothing of it goes on when this process is killed.
"""

from __future__ import annotations

import fcntl
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import weakref
from collections.abc import Sequence
from pathlib import Path

from sabot.errors import ClientError

_PREFIX = "sabot-embedded-"
_STOP_S = 12.0
_NEW_S = 60.0
_LOG_TAIL_BYTES = 2000


class Embedded:
    """A private daemon with its temporary folder; starts at construction.

    Parameters
    ----------
    data : path, optional
        Where it keeps its data; made if missing. By default in the temporary folder, gone afterwards.
    agents : int, optional
        How many agent processes.
    command : sequence of str
        What starts it; the agreed flags follow.

    Raises
    ------
    ClientError
        When the command cannot be run.
    """

    def __init__(
        self,
        *,
        data: str | Path | None = None,
        agents: int | None = None,
        command: Sequence[str] = (sys.executable, "-m", "sabotd"),
    ) -> None:
        self._location: str | None = None
        # short, since a socket's path has to fit in 107 bytes
        self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._log = self._folder / "log"
        place = self._folder / "data" if data is None else Path(data).absolute()
        arguments = [*command, "--embedded", "--data", str(place)]
        arguments += ["--listen", f"grpc+unix://{self._folder}/sql.sock"]
        if agents is not None:
            arguments += ["--agents", str(agents)]
        self._ready_fd, write_fd = os.pipe()
        # held here and by the daemon: a folder whose lock is free belongs to nobody
        lock_fd = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock_fd, fcntl.LOCK_EX)
        try:
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    [*arguments, "--ready-fd", str(write_fd)],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    pass_fds=[write_fd, lock_fd],
                    # Ctrl-C in the terminal is for the client
                    start_new_session=True,
                    env=_environment(),
                )
        except OSError as exc:
            os.close(self._ready_fd)
            os.close(lock_fd)
            shutil.rmtree(self._folder)
            msg = f"cannot start {command[0]!r}: {exc.strerror}"
            raise ClientError(msg, sqlstate="08001") from exc
        finally:
            os.close(write_fd)
        self._finalizer = weakref.finalize(self, _stop, self._process, self._folder, self._ready_fd, lock_fd)

    @property
    def pid(self) -> int:
        """The daemon's process id."""
        return self._process.pid

    def wait_ready(self, timeout_s: float = 30.0) -> str:
        """Wait until it takes statements; return where: on a Unix socket that only this user can reach.

        Raises
        ------
        ClientError
            When it does not start; nothing is left of it then.
        """
        if self._location is None:
            try:
                self._location = self._read_ready(timeout_s)
            except BaseException:
                self.close()
                raise
            _remove_abandoned(self._folder.parent)
        return self._location

    def close(self) -> None:
        """End the daemon and remove its temporary folder; idempotent."""
        self._finalizer()

    def _read_ready(self, timeout_s: float) -> str:
        deadline = time.monotonic() + timeout_s
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._ready_fd, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    msg = f"private sabotd was not ready within {timeout_s:g} s"
                    raise ClientError(msg, sqlstate="08001", hint=self._log_tail())
                part = os.read(self._ready_fd, 65536)
                if not part:
                    msg = f"private sabotd ended while it started, {self._end()}"
                    raise ClientError(msg, sqlstate="08001", hint=self._log_tail())
                line += part
        answer = json.loads(line)
        if "error" in answer:
            msg = f"private sabotd did not start: {answer['error']}"
            raise ClientError(msg, sqlstate="08001")
        location: str = answer["location"]
        return location

    def _end(self) -> str:
        """Tell how the daemon ended, which has closed its end of the pipe."""
        try:
            status = self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            return "but its process is still there"
        return f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"

    def _log_tail(self) -> str | None:
        text = self._log.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace").strip()
        return f"its log ends with:\n{text}" if text else None


def _environment() -> dict[str, str]:
    """Return our environment, with a checkout that is not installed on the daemon's path."""
    root = str(Path(__file__).resolve().parents[1])
    environment = dict(os.environ)
    if root not in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH")]))
    return environment


def _stop(process: subprocess.Popen[bytes], folder: Path, *fds: int) -> None:
    """End the daemon, first by the end of its input; with force if it does not heed."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        # its session is its own: the agents go with it
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    shutil.rmtree(folder, ignore_errors=True)
    for fd in fds:
        os.close(fd)


def _remove_abandoned(parent: Path) -> None:
    """Remove the folders of killed owners: those of ours whose lock nobody holds."""
    for folder in parent.glob(_PREFIX + "*"):
        try:
            status = folder.stat()
            if status.st_uid != os.getuid() or time.time() - status.st_mtime < _NEW_S:
                continue
            fd = os.open(folder / "lock", os.O_RDWR)
        except OSError:
            continue  # gone meanwhile, or none of ours
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            pass  # in use
        finally:
            os.close(fd)
