"""A private daemon: starts, answers, ends with its owner whatever becomes of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

import sabot
from sabot.embedded import Embedded
from sabot.errors import ClientError

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, str(ROOT / "tests/support/mini_daemon.py"))


def test_private_server(tmp_path: Path) -> None:
    server = Embedded(data=tmp_path / "d", command=COMMAND)
    location = server.wait_ready()
    assert server.wait_ready() == location
    socket = Path(location.removeprefix("grpc+unix://"))
    with sabot.connect(location) as db:
        assert db.sql("SELECT 1").fetchall() == [(1,)]
    assert psutil.pid_exists(server.pid)
    server.close()
    server.close()
    assert not psutil.pid_exists(server.pid)
    assert not socket.parent.exists()
    assert (tmp_path / "d").is_dir()


def test_temporary_folder_is_private() -> None:
    server = Embedded(command=COMMAND)
    folder = Path(server.wait_ready().removeprefix("grpc+unix://")).parent
    assert folder.stat().st_mode & 0o077 == 0
    assert (folder / "data").is_dir()
    server.close()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("command", "agents", "text"),
    [
        (COMMAND, 9, "did not start: too many agents"),
        (COMMAND, 8, "ended while it started, with status [1-9]"),
        (("/nonexistent/python",), None, "cannot start '/nonexistent/python'"),
    ],
)
def test_server_that_does_not_start(command: tuple[str, ...], agents: int | None, text: str) -> None:
    with pytest.raises(ClientError, match=text) as caught:
        Embedded(command=command, agents=agents).wait_ready()
    if agents == 8:
        assert "out of luck" in str(caught.value.hint)


def test_server_that_is_slow() -> None:
    with pytest.raises(ClientError, match="not ready within"):
        Embedded(command=(sys.executable, "-c", "import sys; sys.stdin.read()")).wait_ready(0.1)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_owner_leaves_no_orphan(number: signal.Signals) -> None:
    script = f"""if True:
        from sabot.embedded import Embedded
        server = Embedded(command={COMMAND!r})
        server.wait_ready()
        print(server.pid, server._folder, flush=True)
        input()
    """
    owner = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True
    )
    assert owner.stdout is not None
    pid, name = owner.stdout.readline().split()
    daemon, folder = psutil.Process(int(pid)), Path(name)
    owner.send_signal(number)
    owner.communicate()
    daemon.wait(15)
    # the next one sweeps up what was left, once it is old enough not to be just starting
    assert folder.is_dir()
    os.utime(folder, (0, 0))
    server = Embedded(command=COMMAND)
    mine = Path(server.wait_ready().removeprefix("grpc+unix://")).parent
    assert not folder.exists()
    os.utime(mine, (0, 0))
    Embedded(command=COMMAND).wait_ready()
    assert mine.is_dir()
    server.close()


def test_owner_that_forgets_to_close() -> None:
    script = f"""if True:
        from sabot.embedded import Embedded
        server = Embedded(command={COMMAND!r})
        print(server.pid, server.wait_ready())
    """
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, cwd=ROOT, text=True)
    pid, location = done.stdout.split()
    assert not psutil.pid_exists(int(pid))
    assert not Path(location.removeprefix("grpc+unix://")).parent.exists()


def test_import_is_light() -> None:
    script = "import sys, sabot; sabot.SqlError; sys.exit('pyarrow' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
