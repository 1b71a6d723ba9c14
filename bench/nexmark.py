"""Nexmark through a real sabotd, beside DuckDB's one-shot batch over the same file, in one run.

    python bench/nexmark.py [--events 5000000] [--queries q0 q1 ...] [--agents 2] [--runs 1]

Five million events and all queries take some minutes on two quiet cores. Each query is first checked: as a view over a
smaller file it must equal DuckDB's answer. Then it is timed into the blackhole sink over the large file. Input events
are counted once, whatever a query keeps. CPU-seconds are of the whole process tree (daemon and agents), memory is the
highest sum of resident sets seen. "Of DuckDB" is the rate over the batch's, with what is wanted beside it; "by CPU" is
the batch's CPU time over ours, which other work on the machine hardly moves. The figures stay in bench/data.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Self

import psutil

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import sabot  # noqa: E402
from bench import nexmark_queries as queries  # noqa: E402
from sabotd.connectors.nexmark import write_ndjson  # noqa: E402

DATA = ROOT / "bench" / "data"
WANTED = dict.fromkeys(queries.QUERIES, 0.5) | dict.fromkeys(("q9", "q16", "q18", "q19", "q20"), 0.4)
"""The least rate, of DuckDB's one-shot batch over the same file."""


@dataclass
class Figures:
    """One run of one query by one system."""

    query: str
    system: str
    events: int
    wall_s: float
    cpu_s: float
    peak_mb: float

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.wall_s

    @property
    def cpu_per_million(self) -> float:
        """CPU-seconds per million events."""
        return self.cpu_s / self.events * 1e6


class Watch:
    """CPU time and highest memory of a process and its children while it is entered."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._stop = threading.Event()
        self.cpu_s = 0.0
        self.peak_mb = 0.0

    def _all(self) -> list[psutil.Process]:
        return [self._root, *self._root.children(recursive=True)]

    def _cpu(self) -> float:
        total = 0.0
        for process in self._all():
            times = process.cpu_times()
            total += times.user + times.system
        return total

    def _sample(self) -> None:
        while not self._stop.wait(0.1):
            try:
                rss = sum(p.memory_info().rss for p in self._all())
            except psutil.Error:
                continue
            self.peak_mb = max(self.peak_mb, rss / 1e6)

    def __enter__(self) -> Self:
        self._before = self._cpu()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()
        self.cpu_s = self._cpu() - self._before


class Progress:
    """On a terminal: how far a timed query has come, in one line that is wiped at the end."""

    def __init__(self, server: Server, query: str, events: int) -> None:
        self._server, self._query, self._events = server, query, events
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._show)

    def _show(self) -> None:
        with sabot.connect(self._server.connection.url) as second:
            while not self._stop.wait(0.5):
                rows = second.sql("SELECT coalesce(sum(rows_in), 0) FROM sabot_catalog.jobs").fetchall()
                print(f"\r{self._query}: {int(rows[0][0]):,} of {self._events:,} events\x1b[K", end="", file=sys.stderr)
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()


class Server:
    """A private sabotd for the benchmark."""

    def __init__(self, agents: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="sabot-bench-")
        self.connection = sabot.connect(data=self._folder.name, agents=agents)
        self.pid = self.connection.server_pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.connection.close()
        self._folder.cleanup()

    def run(self, *statements: str) -> None:
        """Run statements."""
        for statement in statements:
            self.connection.execute(statement).close()


def make_file(events: int) -> Path:
    """Return the NDJSON file of that many events, made if it is not there."""
    DATA.mkdir(parents=True, exist_ok=True)
    path = DATA / f"nexmark-{events}.ndjson"
    if not path.exists():
        begin = time.perf_counter()
        write_ndjson(path, events)
        size = path.stat().st_size
        print(f"made {path.name}: {size / 1e9:.2f} GB in {time.perf_counter() - begin:.0f} s", file=sys.stderr)
    path.open("rb").close()
    return path


def declare(server: Server, path: Path) -> None:
    """Make the source and the views of person, auction and bid."""
    server.run(*queries.source_ddl(path), *queries.VIEWS)


def sabot_rows(path: Path, query: str, agents: int) -> Counter[tuple[object, ...]]:
    """Return the rows of the query as a view over `path`."""
    with Server(agents) as server:
        declare(server, path)
        server.run(f"CREATE MATERIALIZED VIEW checked AS {queries.QUERIES[query]}", "FLUSH")
        return Counter(map(plain, server.connection.sql("SELECT * FROM checked").fetchall()))


def duckdb_rows(path: Path, query: str) -> Counter[tuple[object, ...]]:
    """Return DuckDB's rows of the query over `path`."""
    import duckdb

    con = duckdb.connect()
    con.execute("SET integer_division = true; SET TimeZone = 'UTC'")
    return Counter(map(plain, con.execute(queries.batch_sql(query, path)).fetchall()))


def plain(row: tuple[object, ...]) -> tuple[object, ...]:
    """Return a row whose averages, exact here and DOUBLE in DuckDB, are told with twelve digits."""
    return tuple(float(f"{v:.12g}") if isinstance(v, Decimal | float) else v for v in row)


def check(events: int, names: list[str], agents: int) -> None:
    """Compare every query's answer with DuckDB's; ends the run when one differs."""
    path = make_file(events)
    for query in names:
        ours, theirs = sabot_rows(path, query, agents), duckdb_rows(path, query)
        if ours != theirs:
            missing, extra = theirs - ours, ours - theirs
            print(f"{query}: WRONG: {len(missing)} rows missing, {len(extra)} too many", file=sys.stderr)
            print(f"  missing {list(missing)[:3]}\n  extra {list(extra)[:3]}", file=sys.stderr)
            sys.exit(1)
        print(f"{query}: {sum(ours.values()):,} rows of {events:,} events, equal to DuckDB's", file=sys.stderr)


def time_sabot(path: Path, events: int, query: str, agents: int) -> Figures:
    """Time a query into the blackhole, from CREATE SINK until all is written."""
    with Server(agents) as server:
        declare(server, path)
        with Watch(server.pid) as watch, Progress(server, query, events):
            begin = time.perf_counter()
            server.run(
                f"CREATE SINK timed AS {queries.QUERIES[query]} WITH (connector = 'blackhole')",
                "FLUSH",
            )
            wall = time.perf_counter() - begin
        return Figures(query, "sabot", events, wall, watch.cpu_s, watch.peak_mb)


_DUCKDB = """
import resource, sys, time, duckdb
con = duckdb.connect()
con.execute("SET integer_division = true; SET TimeZone = 'UTC'; SET preserve_insertion_order = false")
con.execute("SET enable_progress_bar = false")
con.execute(f"SET threads = {sys.argv[1]}")
begin, cpu = time.perf_counter(), time.process_time()
con.execute("CREATE TEMP TABLE thrown AS SELECT 1 WHERE false")
reader = con.sql(sys.stdin.read()).to_arrow_reader(131072)
rows = sum(b.num_rows for b in reader)
print(time.perf_counter() - begin, time.process_time() - cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)
"""


def time_duckdb(path: Path, events: int, query: str) -> Figures:
    """Time DuckDB's batch in a process of its own, its rows read and thrown away."""
    done = subprocess.run(
        [sys.executable, "-c", _DUCKDB, str(len(os.sched_getaffinity(0)))],
        input=queries.batch_sql(query, path),
        capture_output=True,
        text=True,
        check=True,
    )
    wall, cpu, peak = map(float, done.stdout.split())
    return Figures(query, "duckdb batch", events, wall, cpu, peak)


def main() -> None:
    """Check, time, print, and leave the raw figures in bench/data."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--check-events", type=int, default=200_000)
    parser.add_argument("--queries", nargs="+", default=list(queries.QUERIES), choices=list(queries.QUERIES))
    parser.add_argument("--agents", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--runs", type=int, default=1)
    args = parser.parse_args()
    check(args.check_events, args.queries, args.agents)
    path = make_file(args.events)
    print(f"\n{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{args.events:,} events, {path.stat().st_size / 1e9:.2f} GB of NDJSON, {args.agents} agents\n")
    print(f"{'query':6} {'events/s':>11} {'CPU-s/M':>8} {'peak MB':>8}", end="")
    print(f" {'batch/s':>11} {'CPU-s/M':>8} {'peak MB':>8} {'of DuckDB':>10} {'wanted':>7} {'by CPU':>7}")
    results: list[Figures] = []
    for query in args.queries:
        for _ in range(args.runs):
            batch = time_duckdb(path, args.events, query)
            ours = time_sabot(path, args.events, query, args.agents)
            figures = (f"{f.rate:11,.0f} {f.cpu_per_million:8.3f} {f.peak_mb:8,.0f}" for f in (ours, batch))
            print(f"{query:6}", *figures, f"{ours.rate / batch.rate:10.2f} {WANTED[query]:7.1f}", end="")
            print(f" {batch.cpu_s / ours.cpu_s:7.2f}", flush=True)
            results += [ours, batch]
    out = DATA / "nexmark-figures.json"
    out.write_text(json.dumps([asdict(r) for r in results], indent=1))


if __name__ == "__main__":
    main()
