"""Names: what resolves, what does not and what is suggested, views, clauses that are not there yet."""

from __future__ import annotations

import pytest

from planner.logical import Aggregate, Filter, Join, Project, Scan, schema_of
from sabot.errors import SqlError
from sql_frontend.binder import bind_query
from sql_frontend.catalog import ViewDefinition
from tests.support.memory_catalog import MemoryCatalog

DDL = """
CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, extra STRUCT<auction INT, note VARCHAR>, ts TIMESTAMP);
CREATE TABLE person (id BIGINT, name VARCHAR, "Mixed Case" INT);
CREATE VIEW dear AS SELECT auction, price FROM bid WHERE price > 100;
"""


def refused(query: str, catalog: MemoryCatalog | None = None) -> SqlError:
    with pytest.raises(SqlError) as caught:
        (catalog or MemoryCatalog(DDL)).bind(query)
    return caught.value


@pytest.mark.parametrize(
    ("query", "message", "place", "hint", "sqlstate"),
    [
        (
            "SELECT (SELECT max(id) FROM person WHERE id < b.bidde) FROM bid AS b",
            "column 'bidde' of 'b' does not exist",
            "bidde",
            "did you mean 'bidder'?",
            "42703",
        ),
        ("SELECT auctoin FROM bid", "column 'auctoin' does not exist", "auctoin", "did you mean 'auction'?", "42703"),
        ("SELECT b.prize FROM bid b", "column 'prize' of 'b'", "prize", "did you mean 'price'?", "42703"),
        ("SELECT 1 FROM bids", "relation 'bids' does not exist", "bids", "did you mean 'bid'?", "42P01"),
        ("SELECT c.x FROM bid b", "'c' is neither", "c", None, "42P01"),
        ("SELECT bid.price FROM bid b", "'bid' is neither", "bid", None, "42P01"),
        (
            "SELECT price FROM bid a JOIN bid b ON a.ts = b.ts",
            "'price' is ambiguous",
            "price",
            "a.price or b.price",
            "42702",
        ),
        ("SELECT (extra).noet FROM bid", "field 'noet' does not exist", "noet", "did you mean 'note'?", "42703"),
        ("SELECT price, price FROM bid", "two columns are called 'price'", None, "AS", "42701"),
        ("SELECT price AS __w FROM bid", "reserved", None, "two underscores", "42939"),
        ("SELECT price FROM bid, bid", "'bid' stands twice", "bid", "bid AS b2", "42712"),
        ("SELECT price FROM other.bid", "relation 'other.bid' does not exist", "other.bid", None, "42P01"),
        ("SELECT price FROM db.other.bid", "cannot be read", "db.other.bid", "schema", "42P01"),
        ("SELECT auction, count(*) FROM bid", "'auction' must be in GROUP BY", "auction", "max(auction)", "42803"),
        ("SELECT price FROM bid GROUP BY auction", "'price' must be in GROUP BY", "price", None, "42803"),
        ("SELECT 1 FROM bid HAVING price > 1", "'price' must be in GROUP BY", "price", None, "42803"),
        ("SELECT count(*) FROM bid WHERE count(*) > 1", "not allowed in WHERE", "count(*)", "HAVING", "42803"),
        ("SELECT count(*) FROM bid GROUP BY count(*)", "not allowed in GROUP BY", "count(*)", None, "42803"),
        ("SELECT count(*) AS c FROM bid GROUP BY c", "not allowed in GROUP BY", "c", None, "42803"),
        ("SELECT price FROM bid GROUP BY 2", "GROUP BY 2 is not in", None, "1 columns", "42P10"),
        ("SELECT price FROM bid WHERE price", "must be boolean, this is BIGINT", "price", None, "42804"),
        (
            "SELECT a.price FROM bid a JOIN person p USING (price)",
            "does not exist on the right",
            "price",
            None,
            "42703",
        ),
        ("SELECT x FROM (SELECT price FROM bid) AS q (x, y)", "2 column names for 1", None, None, "42P10"),
        ("SELECT price FROM bid UNION ALL SELECT id, name FROM person", "1 and 2 columns", None, None, "42601"),
        ("SELECT * EXCEPT (foo) FROM bid", "'foo' does not exist", "foo", None, "42703"),
        ("SELECT price FROM bid WHERE price > > 1", "syntax error", None, None, "42601"),
        ("SELECT price FRM bid b", "syntax error at or near 'bid'", "bid", None, "42601"),
        ("SELECT price,, ts FROM bid", "syntax error at or near ','", ",", None, "42601"),
        ("SELECT price, FROM bid", "syntax error at or near 'FROM'", "FROM", None, "42601"),
        ("SELECT FROM bid", "syntax error at or near 'FROM'", "FROM", None, "42601"),
        ("SELECT price FROM bid WHERE", "syntax error at or near 'WHERE'", "WHERE", None, "42601"),
        ("SELECT price FROM bid a JOIN bid b ON", "syntax error at or near 'ON'", "ON", None, "42601"),
        ("SELECT price FROM bid GROUP BY", "syntax error", None, None, "42601"),
        ("SELECT (price FROM bid", "expected ')'", None, None, "42601"),
        ("INSERT INTO bid VALUES (1)", "expected a query", None, "SELECT", "42601"),
    ],
)
def test_errors(query: str, message: str, place: str | None, hint: str | None, sqlstate: str) -> None:
    error = refused(query)
    assert message in error.message
    assert error.sqlstate == sqlstate
    assert error.text == query
    assert error.span is not None
    if place is not None:
        assert query[error.span.start : error.span.end] == place
    if hint is not None:
        assert hint in (error.hint or "")


@pytest.mark.parametrize(
    ("query", "what"),
    [
        ("SELECT price FROM bid TABLESAMPLE BERNOULLI (10)", "TABLESAMPLE"),
        ("SELECT price FROM bid FOR UPDATE", "FOR UPDATE"),
        ("SELECT price FROM bid b, unnest([b.price]) AS u(x) FULL JOIN person ON id = x", "FULL JOIN behind a comma"),
        ("SELECT price FROM bid GROUP BY price LIMIT 10 PERCENT", "PERCENT"),
        (
            "SELECT 1 AS a FROM bid WHERE (SELECT max(bidder) FROM person) > 1",
            "an aggregate of the query around inside its subquery",
        ),
        (
            "SELECT (WITH p AS (SELECT id FROM person WHERE id < bidder) SELECT (SELECT max(id) FROM p)) FROM bid",
            "a WITH query that reads the query around it",
        ),
        ("WITH RECURSIVE q AS (SELECT price FROM bid) SELECT * FROM q", "WITH RECURSIVE"),
        ("SELECT * FROM bid FOR SYSTEM_TIME AS OF PROCTIME()", "FOR SYSTEM_TIME AS OF"),
    ],
)
def test_what_is_not_there_yet_is_refused_by_name(query: str, what: str) -> None:
    error = refused(query)
    assert error.sqlstate == "0A000"
    assert what.lower() in error.message.lower()
    assert error.span is not None


def test_errors_point_into_the_whole_statement() -> None:
    text = "CREATE MATERIALIZED VIEW v AS SELECT auctoin FROM bid"
    start = text.index("SELECT")
    with pytest.raises(SqlError) as caught:
        bind_query(text[start:], MemoryCatalog(DDL), span_offset=start, text=text)
    assert caught.value.text == text
    assert caught.value.span is not None
    assert text[caught.value.span.start : caught.value.span.end] == "auctoin"


def test_an_error_inside_a_view_points_at_the_views_name() -> None:
    catalog = MemoryCatalog(DDL)
    catalog.known["broken"] = ViewDefinition("broken", "SELECT gone FROM bid")
    error = refused("SELECT 1 AS x FROM bid JOIN broken ON true", catalog)
    assert error.message == "in view 'broken': column 'gone' does not exist"
    assert error.span is not None
    assert (error.text or "")[error.span.start : error.span.end] == "broken"


def test_a_view_that_reads_itself_is_refused() -> None:
    catalog = MemoryCatalog(DDL)
    catalog.known["a"] = ViewDefinition("a", "SELECT * FROM b")
    catalog.known["b"] = ViewDefinition("b", "SELECT * FROM a")
    assert "reads itself: a -> b -> a" in refused("SELECT * FROM a", catalog).message


def test_columns_may_be_renamed_by_the_view() -> None:
    plan = bind_query("SELECT auction, price FROM bid", MemoryCatalog(DDL), columns=("a",))
    assert [f.name for f in schema_of(plan.root)] == ["a", "price"]
    with pytest.raises(SqlError, match="3 column names for 2"):
        bind_query("SELECT auction, price FROM bid", MemoryCatalog(DDL), columns=("a", "b", "c"))


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("SELECT count(*), sum(price), count(price) FROM bid", ["count", "sum", "count_1"]),
        ("SELECT price + 1, price + 2 FROM bid", ["?column?", "?column?_1"]),
        ("SELECT upper('x'), price::int, CASE WHEN true THEN 1 END, (extra).note FROM bid",
         ["upper", "price", "case", "note"]),
        ('SELECT "Mixed Case", ID FROM person', ["Mixed Case", "id"]),
        ("SELECT * FROM bid b JOIN person p ON b.bidder = p.id",
         ["auction", "bidder", "price", "extra", "ts", "id", "name", "Mixed Case"]),
        ("SELECT (extra).* FROM bid", ["auction", "note"]),
        ("SELECT extra.* FROM bid", ["auction", "note"]),
        ("SELECT price FROM public.bid", ["price"]),
    ],
)  # fmt: skip
def test_names_of_columns(query: str, names: list[str]) -> None:
    assert [f.name for f in schema_of(MemoryCatalog(DDL).bind(query).root)] == names


def test_a_relation_goes_before_a_struct_of_the_same_name() -> None:
    plan = MemoryCatalog(DDL).bind("SELECT extra.auction AS x FROM bid AS extra")
    assert schema_of(plan.root)[0].type == "BIGINT"


def test_a_plain_select_is_the_scan_alone() -> None:
    assert isinstance(MemoryCatalog(DDL).bind("SELECT * FROM bid").root, Scan)


def test_join_keys_come_from_every_equality_between_the_sides() -> None:
    plan = MemoryCatalog(DDL).bind(
        "SELECT a.price FROM bid a, bid b "
        "WHERE a.auction = b.auction AND b.bidder = a.bidder AND a.price < b.price AND a.price > 5"
    )
    assert isinstance(plan.root, Project)
    above = plan.root.input
    assert isinstance(above, Filter)
    join = above.input
    assert isinstance(join, Join)
    assert join.left_keys == ("auction", "bidder")
    assert join.right_keys == ("auction_1", "bidder_1")
    assert join.residual is not None
    names = [f.name.lower() for f in schema_of(join)]
    assert len(set(names)) == len(names)


def test_the_same_aggregate_is_computed_once() -> None:
    plan = MemoryCatalog(DDL).bind("SELECT auction, sum(price) AS s, sum(price) * 2 AS t FROM bid GROUP BY auction")
    assert isinstance(plan.root, Project)
    aggregate = plan.root.input
    assert isinstance(aggregate, Aggregate)
    assert [c.name for c in aggregate.calls] == ["s"]


def test_a_cte_read_twice_is_one_plan() -> None:
    plan = MemoryCatalog(DDL).bind(
        "WITH q AS (SELECT auction, count(*) AS c FROM bid GROUP BY auction) "
        "SELECT x.c FROM q x JOIN q y ON x.auction = y.auction"
    )
    found: list[object] = []

    def walk(node: object) -> None:
        if isinstance(node, Aggregate):
            found.append(node)
        for name in ("input", "left", "right"):
            if hasattr(node, name):
                walk(getattr(node, name))

    walk(plan.root)
    assert len(found) == 2
    assert found[0] is found[1]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("SELECT price FROM bid ORDER BY price", True),
        ("SELECT price FROM bid UNION ALL SELECT id FROM person ORDER BY 1", True),
        ("SELECT price FROM bid ORDER BY price LIMIT 2", False),
        ("SELECT DISTINCT ON (auction) price FROM bid ORDER BY auction, price", False),
        ("SELECT price FROM bid", False),
    ],
)
def test_an_order_that_has_no_effect_is_told(query: str, told: bool) -> None:
    assert bool(MemoryCatalog(DDL).bind(query).notices) is told
