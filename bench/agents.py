"""Two agents against one on keyed aggregates, and what a barrier costs a job by the number of its tasks.

Run as ``python bench/agents.py``. One agent has one core, two have a core each, so that two stand against one of the
same size; "one agent, two cores" has the same tasks as two agents in one process. Rates are slopes between a short and
a long run: start-up is not in them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import duckdb
import psutil
import pyarrow as pa

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import sabot  # noqa: E402
from planner.task_spec import ColumnSpec, SourceOp  # noqa: E402
from sabotd.connectors.nexmark import NexmarkReader  # noqa: E402

_AGGREGATES = "count(*) AS n, sum(price) AS s, max(price) AS m"
QUERIES = {
    "by 10,000 keys": f"SELECT bidder % 10000 AS k, {_AGGREGATES} FROM bid GROUP BY bidder % 10000",
    "by bidder (new keys all the time)": f"SELECT bidder AS k, {_AGGREGATES} FROM bid GROUP BY bidder",
}
_CHECKED_EVENTS = 300_000
_SHARE = 5
"""The short run has so many times fewer events than the long one."""
_CEILING_S = 2.0


@dataclass(frozen=True)
class Setting:
    """How many agents, with how many tasks an operator, on which cores each."""

    name: str
    agents: int
    parallelism: int
    cores: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Run:
    """Seconds, and CPU-seconds of all agents and of the daemon."""

    seconds: float
    agents_cpu_s: float
    daemon_cpu_s: float

    def __sub__(self, other: Run) -> Run:
        return Run(
            self.seconds - other.seconds,
            self.agents_cpu_s - other.agents_cpu_s,
            self.daemon_cpu_s - other.daemon_cpu_s,
        )


def settings() -> list[Setting]:
    """Return what is compared; the first is the reference."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("two agents against one: this needs two cores")
    first, second = cores[:2]
    return [
        Setting("1 agent, one core", 1, 1, ((first,),)),
        Setting("2 agents, a core each", 2, 2, ((first,), (second,))),
        Setting("1 agent, two cores", 1, 2, ((first, second),)),
    ]


def cpu_s(process: psutil.Process) -> float:
    """Return the CPU time of one process."""
    times = process.cpu_times()
    return float(times.user + times.system)


def confine(process: psutil.Process, cores: tuple[int, ...]) -> None:
    """Let all threads of `process`, and those they will start, run on `cores` alone."""
    for thread in process.threads():
        os.sched_setaffinity(thread.id, cores)


def source(events: int) -> str:
    """Return the statement that makes the source of bids."""
    return f"""CREATE SOURCE bid WITH (connector = 'nexmark', "table" = 'bid', events = '{events}')"""


def keyed_aggregate(setting: Setting, query: str, events: int) -> Run:
    """Run `query` over generated bids into a sink that throws its rows away."""
    with sabot.connect(agents=setting.agents) as db:
        assert db.server_pid is not None
        daemon = psutil.Process(db.server_pid)
        agents = sorted(daemon.children(), key=lambda p: p.pid)
        assert len(agents) == setting.agents, agents
        for agent, cores in zip(agents, setting.cores, strict=True):
            confine(agent, cores)
        db.execute(f"SET parallelism = {setting.parallelism}").close()
        db.execute(source(events)).close()
        cpu = sum(cpu_s(a) for a in agents), cpu_s(daemon)
        begin = time.perf_counter()
        db.execute(f"CREATE SINK thrown AS {query} WITH (connector = 'blackhole')").close()
        db.execute("FLUSH").close()
        seconds = time.perf_counter() - begin
        return Run(seconds, sum(cpu_s(a) for a in agents) - cpu[0], cpu_s(daemon) - cpu[1])


def bids(events: int) -> pa.Table:
    """Return the bids among the first `events`, from the source's own reader."""
    columns = (ColumnSpec("bidder", "BIGINT"), ColumnSpec("price", "BIGINT"))
    op = SourceOp("bid", "nexmark", {"table": "bid", "events": str(events)}, None, columns, columns)
    reader = NexmarkReader(op, 0, 1)
    batches = []
    while not reader.finished():
        got = reader.read(131_072, 0.0)
        if got is not None:
            batches.append(got.batch)
    return pa.Table.from_batches(batches)


def check_answers() -> None:
    """Stop unless every query gives DuckDB's answer with each setting."""
    bid = bids(_CHECKED_EVENTS)
    with duckdb.connect() as con:
        con.register("bid", bid)
        wanted = {name: con.execute(f"{query} ORDER BY k").fetchall() for name, query in QUERIES.items()}
    for setting in settings():
        with sabot.connect(agents=setting.agents) as db:
            db.execute(f"SET parallelism = {setting.parallelism}").close()
            db.execute(source(_CHECKED_EVENTS)).close()
            for n, (name, query) in enumerate(QUERIES.items()):
                db.execute(f"CREATE MATERIALIZED VIEW v{n} AS {query}").close()
                db.execute("FLUSH").close()
                if db.sql(f"SELECT * FROM v{n} ORDER BY k").fetchall() != wanted[name]:
                    raise SystemExit(f"the answer {name} with {setting.name} is not DuckDB's")
    print(f"answers over {bid.num_rows:,} bids with each setting: DuckDB's")


def spin(core: int, seconds: float) -> None:
    """Count how often this process, on its core, runs one aggregate in DuckDB in `seconds`; print it."""
    os.sched_setaffinity(0, (core,))
    with duckdb.connect(config={"threads": "1"}) as con:
        con.register("bid", bids(150_000))
        query = QUERIES["by 10,000 keys"]
        con.execute(query).fetchall()
        print("ready", flush=True)
        sys.stdin.readline()
        count, end = 0, time.perf_counter() + seconds
        while time.perf_counter() < end:
            con.execute(query)
            count += 1
        print(count)


def ceiling(cores: tuple[int, ...]) -> int:
    """Return how many aggregates processes that share nothing run together, one on each of `cores`."""
    processes = []
    for core in cores:
        command = [sys.executable, __file__, "--spin", str(core)]
        processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    total = 0
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        total += int(process.communicate()[0])
    return total


def speed_up(events: int) -> None:
    """Print the table of agents."""
    print(f"\nkeyed aggregates over {events:,} generated events; start-up taken off")
    print(f"  {'':36} {'M events/s':>10} {'of one':>7} {'CPU-s/M agents':>15} {'daemon':>7}")
    for name, query in QUERIES.items():
        print(f"  {name}")
        reference = 0.0
        for setting in settings():
            short = keyed_aggregate(setting, query, events // _SHARE)
            run = keyed_aggregate(setting, query, events) - short
            millions = (events - events // _SHARE) / 1e6
            rate = millions / run.seconds
            reference = reference or rate
            cpu = run.agents_cpu_s / millions, run.daemon_cpu_s / millions
            print(
                f"    {setting.name:34} {rate:10.1f} {rate / reference:7.2f} {cpu[0]:15.4f} {cpu[1]:7.4f}", flush=True
            )
    first, second = settings()[1].cores
    one, two = ceiling(first), ceiling((*first, *second))
    print(f"  {'two processes that share nothing (the most there is)':47} {two / one:7.2f}", flush=True)


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
        assert db.server_pid is not None
        daemon = psutil.Process(db.server_pid)
        processes = [daemon, *daemon.children()]
        begin, cpu = time.perf_counter(), sum(map(cpu_s, processes))
        for n in range(count):
            db.execute(f"INSERT INTO t VALUES ({n})").close()
            db.execute("FLUSH").close()
        seconds, used = time.perf_counter() - begin, sum(map(cpu_s, processes)) - cpu
        if db.sql("SELECT sum(n) FROM v").fetchall() != [(count,)]:
            raise SystemExit(f"{count} rows are not in the view of {tasks} tasks")
        return tasks, seconds / count, used / count


def barriers(count: int) -> None:
    """Print the table of barriers."""
    print("\na row into a table, and the barrier that shows it in a grouped view on two agents")
    print(f"  {'tasks an operator':36} {'tasks':>9} {'ms':>10} {'ms of CPU':>10}")
    for parallelism in (1, 8, 64):
        tasks, seconds, cpu = barrier(parallelism, count)
        print(f"  {parallelism:<36} {tasks:9} {seconds * 1e3:10.1f} {cpu * 1e3:10.1f}", flush=True)


def main() -> None:
    """Check the answers, measure and print; or be one of `ceiling`'s processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=200_000_000, help="of the long run")
    parser.add_argument("--barriers", type=int, default=50)
    parser.add_argument("--spin", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.spin is not None:
        spin(args.spin, _CEILING_S)
        return
    check_answers()
    speed_up(args.events)
    barriers(args.barriers)


if __name__ == "__main__":
    main()
