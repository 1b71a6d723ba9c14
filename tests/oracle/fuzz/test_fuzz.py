"""Random schemas, queries and histories by fixed seeds: every view is DuckDB's answer at every FLUSH."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.oracle.fuzz.campaign import Tally, campaign
from tests.oracle.fuzz.on_daemon import Server

# takes some minutes: a case binds, plans and runs four views over a history, at up to seven tasks an operator
IN_PROCESS = 60
ON_DAEMON = 8
# a view that is refused is checked by nobody
REFUSED_AT_MOST = 0.1


def assert_right(tally: Tally, told: list[str]) -> None:
    assert not tally.failed, "\n\n".join(told)
    assert tally.compared > tally.views
    assert sum(tally.refused.values()) + sum(tally.no_queries.values()) <= REFUSED_AT_MOST * tally.views, tally.report()


@pytest.mark.parametrize("part", range(6))
def test_a_random_view_is_the_batch_answer_at_every_flush(part: int) -> None:
    told: list[str] = []
    each = IN_PROCESS // 6
    assert_right(campaign(range(part * each, (part + 1) * each), None, tell=told.append), told)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def test_a_random_view_on_a_daemon_is_the_batch_answer_at_every_flush(server: Server) -> None:
    told: list[str] = []
    assert_right(campaign(range(5000, 5000 + ON_DAEMON), server, tell=told.append), told)
