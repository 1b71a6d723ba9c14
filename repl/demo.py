"""The main job in ten seconds: a private sabotd with two agents, a generated stream, a keyed window aggregate, live.

python -m repl.demo [--seconds 10] [--rate 100000]
"""

from __future__ import annotations

import argparse
import sys
import time

import sabot

STATEMENTS = (
    """CREATE SOURCE bids WITH (connector = 'nexmark', "table" = 'bid', rate = '{rate}', event_rate = '{rate}')""",
    """CREATE MATERIALIZED VIEW hot_auctions AS
  SELECT window_start, auction, count(*) AS bids, max(price) AS highest, avg(price) AS average
  FROM TUMBLE(bids, date_time, INTERVAL '2 seconds')
  GROUP BY window_start, auction""",
)
SHOWN = """SELECT strftime(window_start, '%H:%M:%S') AS "window", auction, bids, highest, round(average, 1) AS average
FROM hot_auctions WHERE window_start = (SELECT max(window_start) FROM hot_auctions)
ORDER BY bids DESC, auction LIMIT 8"""
TOTALS = "SELECT count(*) AS groups, coalesce(sum(bids), 0) AS bids FROM hot_auctions"


def main() -> int:
    """Run the demo; returns the exit status."""
    parser = argparse.ArgumentParser(prog="sabot demo", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rate", type=int, default=100_000, help="events a second")
    args = parser.parse_args()
    live = sys.stdout.isatty()
    begin = time.perf_counter()
    with sabot.connect(agents=2) as db:
        print(f"a private sabotd with two agents is up after {time.perf_counter() - begin:.1f} s\n")
        for statement in STATEMENTS:
            text = statement.format(rate=args.rate)
            print(f"sabot> {text};")
            db.execute(text).close()
        print()
        height = 0
        end = time.perf_counter() + args.seconds
        while (left := end - time.perf_counter()) > 0:
            table = repr(db.sql(SHOWN)).splitlines()
            (totals,) = db.sql(TOTALS).fetchall()
            lines = [*table, f"{totals[0]:,} groups from {totals[1]:,} bids, {left:.0f} s to go"]
            if live and height:
                sys.stdout.write(f"\x1b[{height}A\x1b[J")
            if live or height == 0 or left < 1:
                print("\n".join(lines), flush=True)
                height = len(lines)
            time.sleep(min(0.2 if live else 1.0, max(0.0, left)))
        print("\nsabot> EXPLAIN ANALYZE hot_auctions;")
        for (line,) in db.sql("EXPLAIN ANALYZE hot_auctions").fetchall():
            print(line)
        print("\nsabot> SELECT edge, type, keys, rows, bytes FROM sabot_catalog.shuffle_edges;")
        print(repr(db.sql("SELECT edge, type, keys, rows, bytes FROM sabot_catalog.shuffle_edges")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
