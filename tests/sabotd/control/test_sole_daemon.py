"""Two sabotd on one control database: the second is told, and one that lost its lock to another knows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from sabot.errors import ConfigError
from sabotd.control import sole_daemon
from sabotd.control.sole_daemon import SoleDaemon
from sabotd.control.tables import connect_engine
from tests.support.servers import PostgresServer

Make = Callable[..., SoleDaemon]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[SoleDaemon] = []

    def new(url: str, on_lost: Callable[[], None] = lambda: pytest.fail("not lost"), name: str = "/data") -> SoleDaemon:
        engine = connect_engine(url)
        made.append(SoleDaemon(engine.url, name, on_lost))
        engine.dispose()
        return made[-1]

    yield new
    for sole in made:
        sole.release()


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "SQLite":
        return f"sqlite:///{tmp_path / 'control.sqlite'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database()


def test_a_second_one_is_told(url: str, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sole_daemon, "_WAIT_S", 0.5)
    first = make(url, name="/first")
    first.take()
    with pytest.raises(ConfigError, match="another sabotd runs on the control database") as caught:
        make(url).take()
    assert "\n" not in caught.value.message
    if url.startswith("postgresql"):
        assert "/first" in caught.value.message
    first.release()
    make(url).take()


def test_other_databases_of_the_server_are_others(postgres: PostgresServer, make: Make) -> None:
    make(postgres.new_database()).take()
    make(postgres.new_database()).take()


def test_it_waits_for_one_that_is_going(postgres: PostgresServer, make: Make) -> None:
    url = postgres.new_database()
    first = make(url)
    first.take()
    going = threading.Timer(0.5, first.release)
    going.start()
    make(url).take()
    going.join()


def drop_connections(postgres: PostgresServer, url: str) -> None:
    engine = connect_engine(url)
    query = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'sabotd %' AND datname = :d"
    )
    with engine.begin() as con:
        assert con.execute(sa.text(query), {"d": engine.url.database}).all()
    engine.dispose()


def test_a_lost_connection_is_made_again(postgres: PostgresServer, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sole_daemon, "_WAIT_S", 0.0)
    url = postgres.new_database()
    first = make(url)
    first.take()
    drop_connections(postgres, url)
    engine = connect_engine(url)
    of_it = "(SELECT oid FROM pg_database WHERE datname = :d)"
    held = f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = {of_it}"
    with engine.connect() as con:
        while con.execute(sa.text(held), {"d": engine.url.database}).scalar_one() == 0:
            con.rollback()
    engine.dispose()
    with pytest.raises(ConfigError, match="another sabotd runs"):
        make(url).take()


def test_one_that_another_has_followed_ends(
    postgres: PostgresServer, make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    url = postgres.new_database()
    lost = threading.Event()
    monkeypatch.setattr(sole_daemon, "_LOOK_S", 0.5)
    first = make(url, lost.set)
    first.take()
    drop_connections(postgres, url)
    make(url, name="/second").take()
    assert lost.wait(20)
    (record,) = [r for r in caplog.records if r.levelname == "CRITICAL"]
    assert "/second" in record.message
