"""SQL to EXPLAIN's text: a change of a plan shows as a change of a file."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.nexmark_queries import GENERATOR_SOURCE, GENERATOR_VIEWS, QUERIES
from planner.logical import Relation, RelationKind
from planner.plan import PlannedJob, SinkTarget, plan_sink, plan_view
from sabot.ids import JobId
from sabot.schema import Field
from sql_frontend.binder import bind_query, bind_source
from sql_frontend.catalog import ViewDefinition
from sql_frontend.parse import parse_statement
from sql_frontend.statements import CreateSource, CreateView


class Names:
    """A catalog with Nexmark, a table and a materialized view."""

    def __init__(self) -> None:
        source = parse_statement(GENERATOR_SOURCE)
        assert isinstance(source, CreateSource)
        users = (Field("id", "BIGINT"), Field("name", "VARCHAR"), Field("credit", "DECIMAL(12,2)"))
        totals = (Field("bidder", "BIGINT"), Field("bids", "BIGINT"), Field("highest", "BIGINT"))
        view = RelationKind.MATERIALIZED_VIEW
        self._all: dict[str, Relation | ViewDefinition] = {
            "nexmark": bind_source(source),
            "users": Relation("users", RelationKind.TABLE, users, append_only=False, stream_key=("id",)),
            "totals": Relation("totals", view, totals, append_only=False, stream_key=("bidder",)),
        }
        for text in GENERATOR_VIEWS:
            statement = parse_statement(text)
            assert isinstance(statement, CreateView)
            self._all[statement.name] = ViewDefinition(statement.name, statement.query)

    def lookup(self, name: str) -> Relation | ViewDefinition | None:
        return self._all.get(name)

    def names(self) -> list[str]:
        return sorted(self._all)


def view(query: str, *, on_close: bool = False, parallelism: int = 4) -> PlannedJob:
    bound = bind_query(query, Names(), emit_on_window_close=on_close)
    return plan_view(bound, job_id=JobId("mv:v"), relation="v", parallelism=parallelism)


VIEWS = {
    **QUERIES,
    "every_aggregate": "SELECT channel, count(*) AS n, sum(price) AS s, avg(price) AS a, min(price) AS lo, "
    "max(price) AS hi, count(*) FILTER (WHERE price > 100) AS dear FROM bid GROUP BY channel HAVING count(*) > 1",
    "global_aggregate": "SELECT count(*) AS n, avg(price) AS a FROM bid",
    "distinct_bidders": "SELECT auction, count(DISTINCT bidder) AS bidders FROM bid GROUP BY auction",
    "view_over_view": "SELECT bids, count(*) AS bidders, max(highest) AS highest FROM totals GROUP BY bids",
    "stream_with_table": "SELECT b.price, u.name FROM bid AS b JOIN users AS u ON b.bidder = u.id WHERE u.credit > 10",
    "unlike_keys": "SELECT b.auction, u.name FROM bid AS b JOIN users AS u ON b.price = u.credit",
    "subquery_over_its_domain": "SELECT u.id, (SELECT count(*) FROM totals AS t WHERE t.highest > u.credit) AS above "
    "FROM users AS u",
    "lateral_best": "SELECT u.name, t.highest FROM users AS u LEFT JOIN LATERAL (SELECT highest FROM totals AS t "
    "WHERE t.bidder = u.id AND t.highest < u.credit ORDER BY highest DESC LIMIT 1) AS t ON true",
    "union": "SELECT bidder AS who, price FROM bid UNION ALL SELECT seller, initial_bid FROM auction",
    "part_of_the_groups": "WITH c AS (SELECT auction, bidder, count(*) AS n FROM bid GROUP BY auction, bidder) "
    "SELECT auction, max(n) AS most FROM c GROUP BY auction",
}


@pytest.mark.parametrize("name", sorted(VIEWS))
def test_views(name: str, golden: Callable[[str, str], None]) -> None:
    golden(f"plans/{name}.txt", view(VIEWS[name]).explain())


@pytest.mark.parametrize("name", ["q5", "q7", "q8"])
def test_views_on_window_close(name: str, golden: Callable[[str, str], None]) -> None:
    golden(f"plans/{name}_on_close.txt", view(VIEWS[name], on_close=True).explain())


def test_one_task_has_no_exchange_but_to_the_daemon(golden: Callable[[str, str], None]) -> None:
    golden("plans/q8_alone.txt", view(VIEWS["q8"], parallelism=1).explain())


@pytest.mark.parametrize(
    ("name", "query", "connector"),
    [
        ("sink_of_a_source", "SELECT auction, price FROM bid", "kafka"),
        ("sink_of_a_view", "SELECT * FROM totals", "kafka"),
        ("sink_to_a_file", "SELECT auction, price FROM bid", "file"),
        ("sink_without_a_key", "SELECT bids FROM totals", "mqtt"),
    ],
)
def test_sinks(name: str, query: str, connector: str, golden: Callable[[str, str], None]) -> None:
    sink = SinkTarget("out", connector, {}, "json")
    job = plan_sink(bind_query(query, Names()), job_id=JobId("sink:out"), sink=sink, parallelism=4)
    golden(f"plans/{name}.txt", job.explain())
