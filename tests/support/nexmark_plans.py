"""Logical plans of Nexmark queries as the binder would give them, by hand."""

from __future__ import annotations

from planner.logical import Emit, LogicalNode, Query
from tests.support.plan_builder import group, hop, join, project, scan, source, tumble, where

NEXMARK = source(
    "nexmark",
    "event_type BIGINT, "
    "person STRUCT(id BIGINT, name VARCHAR, state VARCHAR), "
    "auction STRUCT(id BIGINT, seller BIGINT, reserve BIGINT), "
    "bid STRUCT(auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, extra VARCHAR), "
    "date_time TIMESTAMP",
    watermark="date_time",
)


def bid() -> LogicalNode:
    return project(
        where(scan(NEXMARK), "event_type = 2"),
        "auction: BIGINT = bid.auction",
        "bidder: BIGINT = bid.bidder",
        "price: BIGINT = bid.price",
        "channel: VARCHAR = bid.channel",
        "extra: VARCHAR = bid.extra",
        "date_time",
    )


def q1() -> LogicalNode:
    return project(bid(), "auction", "price: DECIMAL(23,3) = 0.908 * price", "date_time")


def q5() -> LogicalNode:
    counts = group(hop(bid(), "date_time", 10, 2), "auction, window_start, window_end", "num = count(*)")
    bids = project(counts, "auction", "num", "window_start", "window_end")
    most = project(
        group(project(counts, "ws = window_start", "we = window_end", "num"), "ws, we", "maxn = max(num)"),
        "maxn",
        "ws",
        "we",
    )
    return project(join(bids, most, "window_start = ws, window_end = we", "num >= maxn"), "auction", "num")


def q7() -> LogicalNode:
    best = project(
        group(tumble(bid(), "date_time", 10), "window_end", "maxprice = max(price)"), "maxprice", "best_at = window_end"
    )
    joined = join(bid(), best, "price = maxprice")
    timed = where(joined, "date_time >= best_at - INTERVAL '10 seconds' AND date_time <= best_at")
    return project(timed, "auction", "price", "bidder", "date_time")


def q8() -> LogicalNode:
    persons = project(
        where(scan(NEXMARK), "event_type = 0"), "id: BIGINT = person.id", "name: VARCHAR = person.name", "date_time"
    )
    auctions = project(where(scan(NEXMARK), "event_type = 1"), "seller: BIGINT = auction.seller", "date_time")
    left = project(
        group(tumble(persons, "date_time", 10), "id, name, window_start, window_end"),
        "id",
        "name",
        "starttime = window_start",
        "endtime = window_end",
    )
    right = project(
        group(tumble(auctions, "date_time", 10), "seller, window_start, window_end"),
        "seller",
        "a_start = window_start",
        "a_end = window_end",
    )
    joined = join(left, right, "id = seller, starttime = a_start, endtime = a_end")
    return project(joined, "id", "name", "starttime")


QUERIES: dict[str, Query] = {
    "q1": Query(q1()),
    "q5": Query(q5()),
    "q5_on_close": Query(q5(), Emit.ON_WINDOW_CLOSE),
    "q7": Query(q7()),
    "q7_on_close": Query(q7(), Emit.ON_WINDOW_CLOSE),
    "q8": Query(q8()),
    "q8_on_close": Query(q8(), Emit.ON_WINDOW_CLOSE),
}
