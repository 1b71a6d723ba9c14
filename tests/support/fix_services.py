"""Fixtures ``postgres``, ``mosquitto``, ``kafka``: one server each a session, started side by side when needed."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers import KafkaServer, MosquittoServer, PostgresServer, Server

_KINDS: dict[str, type[PostgresServer | MosquittoServer | KafkaServer]] = {
    "postgres": PostgresServer,
    "mosquitto": MosquittoServer,
    "kafka": KafkaServer,
}


class _Starting:
    """A server that a thread of its own starts and then waits for (a server ends with the thread that started it)."""

    def __init__(self, name: str, folder: Path) -> None:
        self.server = _KINDS[name](folder)
        self.problem: BaseException | None = None
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self._run, name=f"test-{name}", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.server.start()
        except BaseException as problem:  # noqa: BLE001 - handed to the test that asked
            self.problem = problem
        self.ready.set()
        process = self.server.process
        if process is not None:
            process.wait()


class Services:
    """The servers that the collected tests ask for."""

    def __init__(self, folder: Path, wanted: set[str]) -> None:
        self._folder = folder
        self._wanted = wanted
        self._starting: dict[str, _Starting] = {}

    def get(self, name: str) -> Server:
        """Return the running server; the first call starts all that any test wants."""
        for other in {name} | (self._wanted if not self._starting else set()):
            if other not in self._starting:
                folder = self._folder / other
                folder.mkdir()
                self._starting[other] = _Starting(other, folder)
        starting = self._starting[name]
        starting.ready.wait()
        if starting.problem is not None:
            pytest.exit(f"the tests need {name}: {starting.problem}", returncode=1)
        return starting.server

    def stop(self) -> None:
        """Stop them all."""
        for starting in self._starting.values():
            starting.ready.wait()
            starting.server.stop()
            starting.thread.join()


@pytest.fixture(scope="session")
def services(request: pytest.FixtureRequest) -> Iterator[Services]:
    wanted = {name for item in request.session.items for name in getattr(item, "fixturenames", ()) if name in _KINDS}
    # not below pytest's folder: that is closed to the user that PostgreSQL runs as whenever another run begins
    with tempfile.TemporaryDirectory(prefix="sabot-services-") as folder:
        Path(folder).chmod(0o755)
        running = Services(Path(folder), wanted)
        yield running
        running.stop()


@pytest.fixture(scope="session")
def postgres(services: Services) -> PostgresServer:
    server = services.get("postgres")
    assert isinstance(server, PostgresServer)
    return server


@pytest.fixture(scope="session")
def mosquitto(services: Services) -> MosquittoServer:
    server = services.get("mosquitto")
    assert isinstance(server, MosquittoServer)
    return server


@pytest.fixture(scope="session")
def kafka(services: Services) -> KafkaServer:
    server = services.get("kafka")
    assert isinstance(server, KafkaServer)
    return server
