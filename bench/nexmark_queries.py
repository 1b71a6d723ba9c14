"""Nexmark's queries: as streaming SQL over the views person, auction and bid, and as DuckDB's batch over a file.

The auction site's events come in one stream with one STRUCT a kind. Files of events have the time inside the
STRUCTs only; the built-in generator gives it as a column too, which can then carry a watermark.
"""

from __future__ import annotations

from pathlib import Path

from sabot.schema import literal

PERSON = (
    "id BIGINT, name VARCHAR, email_address VARCHAR, credit_card VARCHAR, city VARCHAR, state VARCHAR, "
    "date_time TIMESTAMP, extra VARCHAR"
)
AUCTION = (
    "id BIGINT, item_name VARCHAR, description VARCHAR, initial_bid BIGINT, reserve BIGINT, date_time TIMESTAMP, "
    "expires TIMESTAMP, seller BIGINT, category BIGINT, extra VARCHAR"
)
BID = "auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, date_time TIMESTAMP, extra VARCHAR"
_COLUMNS = f"event_type BIGINT, person STRUCT<{PERSON}>, auction STRUCT<{AUCTION}>, bid STRUCT<{BID}>"

GENERATOR_SOURCE = f"""CREATE SOURCE nexmark (
  {_COLUMNS},
  date_time TIMESTAMP,
  WATERMARK FOR date_time AS date_time - INTERVAL '4 seconds'
) WITH (connector = 'nexmark')"""
"""The built-in generator's events; add ``events`` and ``rate`` to its options as needed."""


def _views(time: str) -> tuple[str, ...]:
    def when(kind: str) -> str:
        return time.format(kind=kind)

    return (
        f"""CREATE VIEW person AS
SELECT (person).id, (person).name, (person).email_address, (person).credit_card, (person).city, (person).state,
  {when("person")} AS date_time, (person).extra
FROM nexmark WHERE event_type = 0""",
        f"""CREATE VIEW auction AS
SELECT (auction).id, (auction).item_name, (auction).description, (auction).initial_bid, (auction).reserve,
  {when("auction")} AS date_time, (auction).expires, (auction).seller, (auction).category, (auction).extra
FROM nexmark WHERE event_type = 1""",
        f"""CREATE VIEW bid AS
SELECT (bid).auction, (bid).bidder, (bid).price, (bid).channel, (bid).url, {when("bid")} AS date_time, (bid).extra
FROM nexmark WHERE event_type = 2""",
    )


VIEWS = _views("({kind}).date_time")
"""person, auction and bid over a source with the time inside the STRUCTs."""
GENERATOR_VIEWS = _views("date_time")
"""person, auction and bid over the generator's source: their time is the column with the watermark."""

Q0 = "SELECT auction, bidder, price, date_time, extra FROM bid"

Q1 = "SELECT auction, bidder, 0.908 * price AS price, date_time, extra FROM bid"

Q2 = "SELECT auction, price FROM bid WHERE mod(auction, 123) = 0"

Q5 = """SELECT counted.auction, counted.num
FROM (
  SELECT auction, count(*) AS num, window_start AS starttime
  FROM HOP(bid, date_time, INTERVAL '2' SECOND, INTERVAL '10' SECOND)
  GROUP BY auction, window_start
) AS counted
JOIN (
  SELECT max(num) AS most, starttime
  FROM (
    SELECT count(*) AS num, window_start AS starttime
    FROM HOP(bid, date_time, INTERVAL '2' SECOND, INTERVAL '10' SECOND)
    GROUP BY auction, window_start
  ) AS each_auction
  GROUP BY starttime
) AS hottest
ON counted.starttime = hottest.starttime AND counted.num >= hottest.most"""

Q7 = """SELECT b.auction, b.price, b.bidder, b.date_time, b.extra
FROM bid AS b
JOIN (
  SELECT max(price) AS highest, window_start, window_end
  FROM TUMBLE(bid, date_time, INTERVAL '10' SECOND)
  GROUP BY window_start, window_end
) AS w
ON b.price = w.highest
WHERE b.date_time >= w.window_start AND b.date_time < w.window_end"""

Q8 = """SELECT p.id, p.name, p.starttime
FROM (
  SELECT id, name, window_start AS starttime, window_end AS endtime
  FROM TUMBLE(person, date_time, INTERVAL '10' SECOND)
  GROUP BY id, name, window_start, window_end
) AS p
JOIN (
  SELECT seller, window_start AS starttime, window_end AS endtime
  FROM TUMBLE(auction, date_time, INTERVAL '10' SECOND)
  GROUP BY seller, window_start, window_end
) AS a
ON p.id = a.seller AND p.starttime = a.starttime AND p.endtime = a.endtime"""

QUERIES = {"q0": Q0, "q1": Q1, "q2": Q2, "q5": Q5, "q7": Q7, "q8": Q8}

# What DuckDB reads per query: only the fields it needs, as the streaming side decodes no others either.
_BATCH = {
    "q0": (
        {"bid": "auction BIGINT, bidder BIGINT, price BIGINT, date_time TIMESTAMP, extra VARCHAR"},
        "SELECT bid.auction, bid.bidder, bid.price, bid.date_time, bid.extra FROM events WHERE event_type = 2",
    ),
    "q1": (
        {"bid": "auction BIGINT, bidder BIGINT, price BIGINT, date_time TIMESTAMP, extra VARCHAR"},
        """
SELECT bid.auction, bid.bidder, 0.908 * bid.price AS price, bid.date_time, bid.extra
FROM events WHERE event_type = 2""",
    ),
    "q2": (
        {"bid": "auction BIGINT, price BIGINT"},
        "SELECT bid.auction, bid.price FROM events WHERE event_type = 2 AND bid.auction % 123 = 0",
    ),
    "q5": (
        {"bid": "auction BIGINT, date_time TIMESTAMP"},
        """, slides AS (
  SELECT bid.auction AS auction, epoch_us(bid.date_time) // 2000000 AS slide, count(*) AS num
  FROM events WHERE event_type = 2 GROUP BY ALL
), counts AS (
  SELECT auction, slide - k AS starts, sum(num)::BIGINT AS num FROM slides, range(5) AS r(k) GROUP BY ALL
), hottest AS (SELECT starts, max(num) AS most FROM counts GROUP BY starts)
SELECT auction, num FROM counts JOIN hottest USING (starts) WHERE num >= most""",
    ),
    "q7": (
        {"bid": "auction BIGINT, bidder BIGINT, price BIGINT, date_time TIMESTAMP, extra VARCHAR"},
        """, bids AS MATERIALIZED (
  SELECT bid.auction, bid.bidder, bid.price, bid.date_time, bid.extra, epoch_us(bid.date_time) // 10000000 AS starts
  FROM events WHERE event_type = 2
), highest AS (SELECT starts, max(price) AS price FROM bids GROUP BY starts)
SELECT auction, price, bidder, date_time, extra FROM bids JOIN highest USING (starts, price)""",
    ),
    "q8": (
        {
            "person": "id BIGINT, name VARCHAR, date_time TIMESTAMP",
            "auction": "seller BIGINT, date_time TIMESTAMP",
        },
        """, kept AS MATERIALIZED (SELECT event_type, person, auction FROM events WHERE event_type < 2),
people AS (
  SELECT DISTINCT person.id AS id, person.name AS name, epoch_us(person.date_time) // 10000000 AS starts
  FROM kept WHERE event_type = 0
), sellers AS (
  SELECT DISTINCT auction.seller AS id, epoch_us(auction.date_time) // 10000000 AS starts
  FROM kept WHERE event_type = 1
)
SELECT id, name, make_timestamp(starts * 10000000) AS starttime FROM people JOIN sellers USING (id, starts)""",
    ),
}


def source_ddl(path: Path) -> tuple[str, ...]:
    """Return the statements that make the source ``nexmark`` over a file of events, read once."""
    options = f"connector = 'file', path = {literal(str(path))}, mode = 'once'"
    return (f"CREATE SOURCE nexmark ({_COLUMNS}) WITH ({options}) FORMAT PLAIN ENCODE JSON",)


def batch_sql(query: str, path: Path) -> str:
    """Return the DuckDB statement that answers `query` (``"q5"``) over the whole file at `path`."""
    structs, rest = _BATCH[query]
    columns = ", ".join(f"{name}: 'STRUCT({fields})'" for name, fields in structs.items())
    columns = "{event_type: 'BIGINT', " + columns + "}"
    source = f"read_json({literal(str(path))}, format = 'newline_delimited', columns = {columns})"
    joint = "" if rest.startswith(",") else "\n"
    return f"WITH events AS (SELECT * FROM {source}){joint}{rest}"
