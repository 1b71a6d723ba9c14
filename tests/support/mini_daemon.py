"""A daemon as `sabot.embedded` expects one, over the small DuckDB engine; `--agents 9` makes it refuse, 8 crash."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from sabotd.serve.flight_sql import FlightSqlServer
from tests.support.duckdb_engine import DuckdbEngine


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--embedded", action="store_true", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--listen", required=True)
    parser.add_argument("--ready-fd", type=int, required=True)
    parser.add_argument("--agents", type=int, default=2)
    args = parser.parse_args()
    Path(args.data).mkdir(parents=True, exist_ok=True)
    if args.agents == 8:
        sys.exit("out of luck")
    server = FlightSqlServer(DuckdbEngine(), args.listen)
    answer: dict[str, object] = {"error": "too many agents"}
    if args.agents != 9:
        server.start()
        answer = {"ready": True, "location": server.location}
    os.write(args.ready_fd, json.dumps(answer).encode() + b"\n")
    os.close(args.ready_fd)
    sys.stdin.buffer.read()
    server.stop()


if __name__ == "__main__":
    main()
