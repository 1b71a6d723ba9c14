"""Two agents against one on a keyed aggregate, and what a barrier costs by the number of tasks.

python bench/agents.py [--events 20000000] [--barriers 100]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import sabot  # noqa: E402

_QUERY = "SELECT bidder, count(*) AS n, sum(price) AS s, max(price) AS m FROM bid GROUP BY bidder"


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process and its children."""
    root = psutil.Process(pid)
    return sum(sum(p.cpu_times()[:2]) for p in [root, *root.children(recursive=True)])


def keyed_aggregate(agents: int, events: int) -> float:
    """Return the seconds that a keyed aggregate over generated bids takes with that many agents, a task each."""
    with sabot.connect(agents=agents) as db:
        db.execute(f"SET parallelism = {agents}").close()
        db.execute(f"""CREATE SOURCE bid WITH (connector = 'nexmark', "table" = 'bid', events = '{events}')""").close()
        begin = time.perf_counter()
        db.execute(f"CREATE SINK thrown AS {_QUERY} WITH (connector = 'blackhole')").close()
        db.execute("FLUSH").close()
        return time.perf_counter() - begin


def barrier(parallelism: int, count: int) -> tuple[int, float, float]:
    """Return a job's tasks, and the seconds and CPU-seconds that each of `count` barriers with one row takes."""
    with sabot.connect(agents=2) as db:
        for statement in (
            f"SET parallelism = {parallelism}",
            "CREATE TABLE t (k INT)",
            "CREATE MATERIALIZED VIEW v AS SELECT k, count(*) AS n FROM t GROUP BY k",
            "FLUSH",
        ):
            db.execute(statement).close()
        ((tasks,),) = db.sql("SELECT tasks FROM sabot_catalog.jobs").fetchall()
        pid = db.server_pid
        assert pid is not None
        begin, cpu = time.perf_counter(), cpu_s(pid)
        for n in range(count):
            db.execute(f"INSERT INTO t VALUES ({n})").close()
            db.execute("FLUSH").close()
        return tasks, (time.perf_counter() - begin) / count, (cpu_s(pid) - cpu) / count


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--barriers", type=int, default=100)
    args = parser.parse_args()
    one, two = keyed_aggregate(1, args.events), keyed_aggregate(2, args.events)
    for agents, seconds in ((1, one), (2, two)):
        print(f"keyed aggregate, {agents} agent(s): {args.events / seconds / 1e6:.2f} M events/s")
    print(f"two agents against one: {one / two:.2f} times")
    for parallelism in (1, 2, 16):
        tasks, seconds, cpu = barrier(parallelism, args.barriers)
        print(f"{tasks:3} tasks: a row and its barrier {seconds * 1e3:6.1f} ms, {cpu * 1e3:6.1f} ms of CPU", flush=True)


if __name__ == "__main__":
    main()
