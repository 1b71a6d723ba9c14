import os
import socket
import uuid

import pytest

from sabotd.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    """A service manager's end: its socket and the address in the environment."""
    address = str(tmp_path / "notify") if request.param == "path" else f"@sabot-{uuid.uuid4()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(address.replace("@", "\0", 1) if address[0] == "@" else address)
        server.settimeout(10)
        yield server, address


def test_the_life_of_a_daemon(manager):
    server, address = manager
    with Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000"}) as notifier:
        assert notifier.watchdog_interval_s == 10
        notifier.ready()
        notifier.watchdog()
        notifier.status("3 jobs\nrunning")
        notifier.stopping()
        received = [server.recv(4096).decode() for _ in range(4)]
    assert received == [
        "READY=1\nSTATUS=taking statements",
        "WATCHDOG=1",
        "STATUS=3 jobs running",
        "STOPPING=1\nSTATUS=stopping",
    ]
    notifier.ready()  # closed: nothing is sent, nothing fails


def test_without_a_manager_nothing_happens():
    notifier = Notifier({})
    notifier.ready()
    assert notifier.watchdog_interval_s is None
    notifier.close()


def test_a_watchdog_meant_for_another_process_is_not_ours(manager):
    _, address = manager
    other = str(os.getpid() + 1)
    with Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000", "WATCHDOG_PID": other}) as notifier:
        assert notifier.watchdog_interval_s is None


def test_a_manager_that_went_away_does_not_fail_the_daemon(tmp_path):
    with Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}) as notifier:
        notifier.ready()
        notifier.stopping()
