"""A real sabotd with two agents for the tests of the whole system, one a session; each test gets a clean catalog."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import sabot
from sabot.schema import quote


class Server:
    """A private sabotd and a connection to it."""

    def __init__(self, agents: int = 2, data: Path | None = None) -> None:
        self.db = sabot.connect(agents=agents, data=data)

    @property
    def pid(self) -> int:
        """The daemon's process."""
        return self.db.server_pid

    def run(self, *statements: str) -> None:
        """Run statements one after the other."""
        for statement in statements:
            self.db.execute(statement).close()

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """Return a query's rows."""
        return [tuple(row) for row in self.db.sql(query).fetchall()]

    def another(self) -> sabot.Connection:
        """Open another session."""
        return sabot.connect(self.db.url)

    def clean(self) -> None:
        """Drop everything."""
        for kind in ("sinks", "materialized views", "views", "tables", "sources"):
            for row in self.rows(f"SHOW {kind}"):
                self.run(f"DROP {kind.removesuffix('s')} IF EXISTS {quote(str(row[0]))} CASCADE")

    def close(self) -> None:
        """End it."""
        self.db.close()


@pytest.fixture(scope="session")
def shared_server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def server(shared_server: Server) -> Iterator[Server]:
    yield shared_server
    shared_server.clean()
