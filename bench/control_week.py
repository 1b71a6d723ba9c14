"""A week of the control plane in some minutes: how large its database gets.

    python bench/control_week.py [--database URL] [--hours 168] [--every 10] [--beats 1800]

Two jobs, one reading the other's view, on three agents. Every `--every` minutes of the week an agent is lost, another
joins, and both jobs are recovered; every day one is paused and goes on, another job is made and dropped, and an agent
is drained; the agents beat `--beats` times in between (1,800 in ten minutes: each once a second). All through the real
workflows, tables and pruner; only the agents are not there. Barriers leave nothing in the database. The pruner's clock
is the week's.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import sqlalchemy as sa

from planner.task_spec import ColumnSpec, FromOperator, JobSpec, LogSourceOp, OperatorNode, SinkOp, TaskSpec
from sabotd.agent import messages as msg
from sabotd.control import durable
from sabotd.control.actions import Affected
from sabotd.control.agents import Command
from sabotd.control.coordinator import Coordinator
from sabotd.control.members import Member, MemberTable
from sabotd.control.tables import ControlTables, ObjectRow, connect_engine, metadata
from sabotd.control.workflows import Workflows

JOBS = ("mv:v", "mv:w")
TASKS = 16
KEEP_S = 3600


class Absent:
    """An agent that takes every command."""

    state = "UP"
    pid = 1
    slots = 8
    outlives = True

    def __init__(self, agent_id: str) -> None:
        self.agent_id = agent_id
        self.location = f"grpc+tls://{agent_id}.example:7300"

    def call(self, command: Command) -> None:
        pass

    post = call

    def metrics(self) -> list[dict[str, object]]:
        return []

    def conditions(self) -> dict[str, list[str]]:
        return {}


def spec(job_id: str) -> JobSpec:
    """Make a job of `TASKS` tasks."""
    columns = (ColumnSpec("k", "INTEGER"),)
    nodes = (
        OperatorNode(LogSourceOp("t", columns, weighted=False)),
        OperatorNode(SinkOp("s", "blackhole", {}, None, columns, weighted=False), (FromOperator(0),)),
    )
    return JobSpec(job_id, tuple(TaskSpec(f"t/{i}", "t", i, TASKS, nodes, ()) for i in range(TASKS)), ())


class Cluster:
    """Control tables, workflows and coordinator; what the steps do to several jobs is done here without a store."""

    def __init__(self, url: str) -> None:
        self.engine = connect_engine(url)
        metadata.create_all(self.engine)
        self.tables = ControlTables(self.engine)
        self.members = MemberTable(self.engine)
        self.workflows = Workflows(self.engine, url)
        self.agents = [Absent(f"blade{i}") for i in range(3)]
        self.coordinator = Coordinator(
            self.tables,
            self.workflows,
            lambda: self.agents,
            Absent("sabotd"),
            left_here=lambda *_: msg.Standing(()),
            hold_s=0.0,
            interval_s=0.1,
            on_bad_records=lambda _: None,
            on_broken=lambda _: None,
        )
        self.incarnations: dict[str, str] = {}
        durable.start(self.engine, url, self.coordinator, self)
        for agent in self.agents:
            self.join(agent)

    def join(self, agent: Absent) -> None:
        incarnation = uuid.uuid4().hex
        labels = {"rack": "7", "room": "cellar"}
        row = Member(incarnation, agent.agent_id, agent.location, agent.agent_id, 4711, 8, 65536, "1.0", labels, "UP")
        self.members.join(row)
        self.incarnations[agent.agent_id] = incarnation

    def create(self, job_id: str) -> None:
        name = job_id.partition(":")[2]
        sql = f"CREATE MATERIALIZED VIEW {name} AS SELECT k, count(*) AS n FROM t GROUP BY k"
        self.tables.add_object(ObjectRow(name, "materialized view", sql, "{}"), job_id)
        self.coordinator.register(spec(job_id))
        durable.deploy(job_id, self.tables.next_generation(job_id))

    def drop(self, job_id: str) -> None:
        self.tables.remove_objects([job_id.partition(":")[2]], [job_id])
        job = self.coordinator.job(job_id)
        assert job is not None
        durable.stop_job(job_id, job.generation, "STOPPED")

    # -- sabotd.control.actions.ClusterActions

    def affected(self, job_ids: list[str]) -> Affected:
        found = [self.coordinator.job(j) for j in JOBS]
        return [(j.spec.job_id, j.generation, True) for j in found if j is not None]

    def affected_by_drain(self, agent_id: str) -> Affected:
        return self.affected(list(JOBS))

    def refusal(self, job_id: str) -> str | None:
        return None

    def reset(self, job_id: str) -> None:
        pass

    def wait(self, seconds: float) -> bool:
        return True

    def stop_placing(self, agent_id: str, incarnation: str) -> bool:
        return self.members.move(incarnation, ("UP",), "DRAINING")

    def let_go(self, agent_id: str, incarnation: str) -> None:
        self.members.move(incarnation, ("DRAINING",), "LEFT")


def size(engine: sa.Engine) -> int:
    """Return what the database takes on disk."""
    if engine.dialect.name == "sqlite":
        file = Path(str(engine.url.database))
        return sum(p.stat().st_size for p in file.parent.glob(f"{file.name}*"))
    with engine.begin() as con:
        return int(con.execute(sa.text("SELECT pg_database_size(current_database())")).scalar_one())


def live(cluster: Cluster, hours: int, step_s: int, beats: int) -> dict[str, int]:
    """Live through the hours; return the figures."""
    largest = pruned = 0
    moments: collections.deque[float] = collections.deque(maxlen=KEEP_S // step_s + 1)  # real time at each step
    for job_id in JOBS:
        cluster.create(job_id)
    for step in range(hours * 3600 // step_s):
        moments.append(time.time())
        lost = cluster.agents[step % 3]
        cluster.members.move(cluster.incarnations[lost.agent_id], ("UP",), "LOST")
        cluster.join(lost)
        durable.recover(list(JOBS), cluster.tables.next_change())
        if step % (86400 // step_s) == 7:
            durable.pause(JOBS[1], cluster.tables.next_change())
            durable.resume(JOBS[1], cluster.tables.next_change())
            cluster.create("mv:x")
            cluster.drop("mv:x")
            durable.drain(lost.agent_id, cluster.incarnations[lost.agent_id], cluster.tables.next_change())
            cluster.join(lost)
        for beat in range(beats):
            cluster.members.beat(cluster.incarnations[cluster.agents[beat % 3].agent_id])
        hour_ago = moments[0]
        pruned += durable.prune(hour_ago - 1.0)  # SQLite has whole seconds, which are much of an hour here
        cluster.members.forget_older(time.time() - hour_ago)
        largest = max(largest, size(cluster.engine))
    workflows, _ = durable.history(limit=100_000)
    assert all(w["status"] == "SUCCESS" for w in workflows)
    return {"kept": len(workflows), "pruned": pruned, "largest_bytes": largest, "bytes": size(cluster.engine)}


def main() -> None:
    """Run and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--database", metavar="URL", help="an empty database; SQLite in a folder of its own if not given"
    )
    parser.add_argument("--hours", type=int, default=168)
    parser.add_argument("--every", type=int, default=10, help="minutes between faults, at most 60")
    parser.add_argument("--beats", type=int, default=1800)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sabot-week-") as folder:
        began = time.monotonic()
        cluster = Cluster(args.database or f"sqlite:///{folder}/control.sqlite")
        figures = live(cluster, args.hours, 60 * args.every, args.beats)
        figures["seconds"] = round(time.monotonic() - began)
        print(json.dumps(figures), flush=True)
    # DBOS leaves threads that no call ends
    sys.stdout.flush()
    threading.excepthook = lambda _: None
    os._exit(0)


if __name__ == "__main__":
    main()
