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

Q3 = """SELECT p.name, p.city, p.state, a.id
FROM auction AS a JOIN person AS p ON a.seller = p.id
WHERE a.category = 10 AND p.state IN ('OR', 'ID', 'CA')"""

Q4 = """SELECT category, avg(final) AS mean
FROM (
  SELECT max(b.price) AS final, a.category
  FROM auction AS a JOIN bid AS b ON a.id = b.auction
  WHERE b.date_time BETWEEN a.date_time AND a.expires
  GROUP BY a.id, a.category
) AS q
GROUP BY category"""

Q6 = """SELECT seller, avg(final) OVER (
    PARTITION BY seller ORDER BY date_time, id ROWS BETWEEN 10 PRECEDING AND CURRENT ROW) AS mean
FROM (
  SELECT a.id, a.seller, b.price AS final, b.date_time,
    row_number() OVER (PARTITION BY a.id ORDER BY b.price DESC, b.date_time, b.bidder) AS place
  FROM auction AS a JOIN bid AS b ON a.id = b.auction
  WHERE b.date_time BETWEEN a.date_time AND a.expires
) AS q
WHERE place = 1"""

Q9 = """SELECT id, item_name, seller, category, bidder, price, bid_time
FROM (
  SELECT a.id, a.item_name, a.seller, a.category, b.bidder, b.price, b.date_time AS bid_time,
    row_number() OVER (PARTITION BY a.id ORDER BY b.price DESC, b.date_time, b.bidder) AS place
  FROM auction AS a JOIN bid AS b ON a.id = b.auction
  WHERE b.date_time BETWEEN a.date_time AND a.expires
) AS q
WHERE place = 1"""

Q10 = """SELECT auction, bidder, price, date_time, extra,
  to_char(date_time, 'YYYY-MM-DD') AS day, to_char(date_time, 'HH24:MI') AS minute
FROM bid"""

Q11 = """SELECT bidder, count(*) AS num, window_start AS starttime, window_end AS endtime
FROM SESSION(bid PARTITION BY bidder, date_time, INTERVAL '10' SECOND)
GROUP BY bidder, window_start, window_end"""

# by the bids' own time: by the clock the same bids would not give the same rows
Q12 = """SELECT bidder, count(*) AS num, window_start AS starttime, window_end AS endtime
FROM TUMBLE(bid, date_time, INTERVAL '10' SECOND)
GROUP BY bidder, window_start, window_end"""

Q13 = """SELECT b.auction, b.bidder, b.price, b.date_time, s.value
FROM bid AS b
JOIN (SELECT n AS key, 'side ' || n AS value FROM generate_series(0, 9999) AS g(n)) AS s
ON mod(b.auction, 10000) = s.key"""

Q14 = """SELECT auction, bidder, 0.908 * price AS price,
  CASE WHEN extract(hour FROM date_time) BETWEEN 8 AND 18 THEN 'dayTime'
    WHEN extract(hour FROM date_time) <= 6 OR extract(hour FROM date_time) >= 20 THEN 'nightTime'
    ELSE 'otherTime' END AS kind,
  date_time, extra, length(extra) - length(replace(extra, 'c', '')) AS c_counts
FROM bid
WHERE 0.908 * price > 1000000 AND 0.908 * price < 50000000"""

_RANKS = ("price < 10000", "price >= 10000 AND price < 1000000", "price >= 1000000")


def _ranked(call: str, name: str) -> str:
    return ", ".join(f"{call} FILTER (WHERE {rank}) AS rank{i + 1}_{name}" for i, rank in enumerate(_RANKS))


_COUNTED = f"""count(*) AS total_bids, {_ranked("count(*)", "bids")},
  count(DISTINCT bidder) AS total_bidders, {_ranked("count(DISTINCT bidder)", "bidders")},
  count(DISTINCT auction) AS total_auctions, {_ranked("count(DISTINCT auction)", "auctions")}"""

Q15 = f"""SELECT date_trunc('day', date_time) AS day, {_COUNTED}
FROM bid
GROUP BY date_trunc('day', date_time)"""

Q16 = f"""SELECT channel, date_trunc('day', date_time) AS day, max(date_trunc('minute', date_time)) AS latest,
  {_COUNTED}
FROM bid
GROUP BY channel, date_trunc('day', date_time)"""

Q17 = f"""SELECT auction, date_trunc('day', date_time) AS day, count(*) AS total_bids, {_ranked("count(*)", "bids")},
  min(price) AS min_price, max(price) AS max_price, avg(price) AS avg_price, sum(price) AS sum_price
FROM bid
GROUP BY auction, date_trunc('day', date_time)"""

Q18 = """SELECT auction, bidder, price, channel, url, date_time, extra
FROM (
  SELECT *, row_number() OVER (PARTITION BY bidder, auction ORDER BY date_time DESC, price DESC, extra) AS place
  FROM bid
) AS q
WHERE place <= 1"""

Q19 = """SELECT auction, bidder, price, channel, url, date_time, extra, place
FROM (
  SELECT *, row_number() OVER (PARTITION BY auction ORDER BY price DESC, date_time, bidder, extra) AS place FROM bid
) AS q
WHERE place <= 10"""

Q20 = """SELECT b.auction, b.bidder, b.price, b.channel, b.url, b.date_time, b.extra,
  a.item_name, a.description, a.initial_bid, a.reserve, a.date_time AS opened, a.expires, a.seller, a.category
FROM bid AS b JOIN auction AS a ON b.auction = a.id
WHERE a.category = 10"""

Q21 = """SELECT auction, bidder, price, channel,
  CASE WHEN lower(channel) = 'apple' THEN '0' WHEN lower(channel) = 'google' THEN '1'
    WHEN lower(channel) = 'facebook' THEN '2' WHEN lower(channel) = 'baidu' THEN '3'
    ELSE regexp_extract(url, '(&|^)channel_id=([^&]*)', 2) END AS channel_id
FROM bid
WHERE regexp_extract(url, '(&|^)channel_id=([^&]*)', 2) <> ''
  OR lower(channel) IN ('apple', 'google', 'facebook', 'baidu')"""

Q22 = """SELECT auction, bidder, price, channel,
  split_part(url, '/', 4) AS dir1, split_part(url, '/', 5) AS dir2, split_part(url, '/', 6) AS dir3
FROM bid"""

QUERIES = {
    "q0": Q0,
    "q1": Q1,
    "q2": Q2,
    "q3": Q3,
    "q4": Q4,
    "q5": Q5,
    "q6": Q6,
    "q7": Q7,
    "q8": Q8,
    "q9": Q9,
    "q10": Q10,
    "q11": Q11,
    "q12": Q12,
    "q13": Q13,
    "q14": Q14,
    "q15": Q15,
    "q16": Q16,
    "q17": Q17,
    "q18": Q18,
    "q19": Q19,
    "q20": Q20,
    "q21": Q21,
    "q22": Q22,
}

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

_BID_FIELDS = {
    "all": BID,
    "counted": "auction BIGINT, bidder BIGINT, price BIGINT, date_time TIMESTAMP",
    "counted by channel": "auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, date_time TIMESTAMP",
    "priced": "auction BIGINT, price BIGINT, date_time TIMESTAMP",
    "timed": "auction BIGINT, bidder BIGINT, price BIGINT, date_time TIMESTAMP, extra VARCHAR",
    "linked": "auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR",
}
_SHORT_AUCTION = "id BIGINT, date_time TIMESTAMP, expires TIMESTAMP, category BIGINT"
_WON_AUCTION = f"{_SHORT_AUCTION}, item_name VARCHAR, seller BIGINT"
_WHOLE_AUCTION = f"{_WON_AUCTION}, description VARCHAR, initial_bid BIGINT, reserve BIGINT"


def _as_written(query: str, **structs: str) -> tuple[dict[str, str], str]:
    """DuckDB reads the query itself; the kinds of events are told apart once."""
    numbers = {"person": 0, "auction": 1, "bid": 2}
    kinds = "".join(
        f", {kind} AS (SELECT unnest({kind}) FROM events WHERE event_type = {numbers[kind]})" for kind in structs
    )
    return structs, f"{kinds} {query}"


_BATCH |= {
    "q3": _as_written(
        Q3,
        person="id BIGINT, name VARCHAR, city VARCHAR, state VARCHAR",
        auction="id BIGINT, seller BIGINT, category BIGINT",
    ),
    "q4": _as_written(Q4, auction=_SHORT_AUCTION, bid=_BID_FIELDS["priced"]),
    "q6": _as_written(
        Q6, auction="id BIGINT, date_time TIMESTAMP, expires TIMESTAMP, seller BIGINT", bid=_BID_FIELDS["counted"]
    ),
    "q10": (
        {"bid": _BID_FIELDS["timed"]},
        """
SELECT bid.auction, bid.bidder, bid.price, bid.date_time, bid.extra,
  strftime(bid.date_time, '%Y-%m-%d') AS day, strftime(bid.date_time, '%H:%M') AS minute
FROM events WHERE event_type = 2""",
    ),
    "q11": (
        {"bid": "bidder BIGINT, date_time TIMESTAMP"},
        """, told AS (
  SELECT bid.bidder, bid.date_time,
    bid.date_time >= lag(bid.date_time) OVER (PARTITION BY bid.bidder ORDER BY bid.date_time) + INTERVAL '10 seconds'
      AS begins
  FROM events WHERE event_type = 2
), numbered AS (
  SELECT bidder, date_time,
    count_if(coalesce(begins, false)) OVER (PARTITION BY bidder ORDER BY date_time RANGE UNBOUNDED PRECEDING) AS n
  FROM told
)
SELECT bidder, count(*) AS num, min(date_time) AS starttime, max(date_time) + INTERVAL '10 seconds' AS endtime
FROM numbered GROUP BY bidder, n""",
    ),
    "q12": (
        {"bid": "bidder BIGINT, date_time TIMESTAMP"},
        """
SELECT bid.bidder, count(*) AS num, make_timestamp(epoch_us(bid.date_time) // 10000000 * 10000000) AS starttime,
  make_timestamp((epoch_us(bid.date_time) // 10000000 + 1) * 10000000) AS endtime
FROM events WHERE event_type = 2 GROUP BY ALL""",
    ),
    "q9": _as_written(Q9, auction=_WON_AUCTION, bid=_BID_FIELDS["counted"]),
    "q13": _as_written(Q13, bid=_BID_FIELDS["counted"]),
    "q14": _as_written(Q14, bid=_BID_FIELDS["timed"]),
    "q15": _as_written(Q15, bid=_BID_FIELDS["counted"]),
    "q16": _as_written(Q16, bid=_BID_FIELDS["counted by channel"]),
    "q17": _as_written(Q17, bid=_BID_FIELDS["priced"]),
    "q18": _as_written(Q18, bid=_BID_FIELDS["all"]),
    "q19": _as_written(Q19, bid=_BID_FIELDS["all"]),
    "q20": _as_written(Q20, auction=_WHOLE_AUCTION, bid=_BID_FIELDS["all"]),
    "q21": _as_written(Q21, bid=_BID_FIELDS["linked"]),
    "q22": _as_written(Q22, bid=_BID_FIELDS["linked"]),
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
