"""Deploys and cancels that cross: whatever the order, nothing is left running and nothing older replaces a newer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cython_shuffle.transport import FlightEndpoint
from planner.task_spec import ColumnSpec, FromOperator, LogSourceOp, MaterializeOp, OperatorNode, SinkOp, TaskSpec
from sabot.errors import JobError
from sabot.schema import Field
from sabotd.agent import messages as msg
from sabotd.agent.places import SourcePlace
from sabotd.agent.runtime import AgentRuntime
from sabotd.state.pinned import LogSourceReader, MaterializeOperator, StorePinned
from sabotd.state.store import Store

COLUMNS = (ColumnSpec("k", "INTEGER"),)


class Gate(StorePinned):
    """Opens log sources; the one of relation ``slow`` not before `release`."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.reached = threading.Event()
        self.release = threading.Event()

    def log_source(self, op: LogSourceOp, *, keep: bool, place: SourcePlace | None) -> LogSourceReader:
        if op.relation == "slow":
            self.reached.set()
            assert self.release.wait(30)
        return super().log_source(op, keep=keep, place=place)

    def materialize(self, op: MaterializeOp, *, keep: bool, resume: bool) -> MaterializeOperator:
        raise AssertionError


class Agent:
    """An agent's runtime on a store with tables."""

    def __init__(self, folder: Path) -> None:
        scratch = folder / "scratch"
        scratch.mkdir()
        self.store = Store(folder, scratch, memory_limit_mb=512, threads=1)
        for name in ("fast", "slow"):
            self.store.create_table(name, (Field("k", "INTEGER"),), (), "k INTEGER")
        self.gate = Gate(self.store)
        self.reports: list[msg.Report] = []
        self.state_dir = folder / "state"
        self.endpoint = FlightEndpoint(f"grpc+unix://{folder / 'a.sock'}", name="a")
        self.runtime = AgentRuntime(
            "a",
            self.endpoint,
            pool_bytes=1 << 20,
            state_dir=self.state_dir,
            memory_mb=512,
            idle_timeout_s=10.0,
            report=self.reports.append,
            pinned=self.gate,
        )
        self.endpoint.start()
        self.runtime.start()

    def deploy(self, attempt: int, *relations: str) -> None:
        tasks = tuple(task(i, relation) for i, relation in enumerate(relations))
        self.runtime.register_shuffles(msg.RegisterShuffles("j", attempt, (), {t.task_id: "a" for t in tasks}))
        self.runtime.deploy(msg.Deploy("j", attempt, tasks, ()))

    def held(self) -> tuple[dict[str, int], list[str], list[Path]]:
        """What is left: attempts, threads of tasks, files."""
        threads = [t.name for t in threading.enumerate() if t.name.startswith("task j ")]
        files = list(self.state_dir.rglob("*")) if self.state_dir.exists() else []
        return self.runtime.running(), threads, files

    def close(self) -> None:
        self.gate.release.set()
        self.runtime.stop()
        self.endpoint.stop()
        self.store.close()


def task(index: int, relation: str) -> TaskSpec:
    nodes = (
        OperatorNode(LogSourceOp(relation, COLUMNS, weighted=False)),
        OperatorNode(SinkOp("s", "blackhole", {}, None, COLUMNS, weighted=False), (FromOperator(0),)),
    )
    return TaskSpec(f"t/{index}", "t", index, 1, nodes, (), pinned=True)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    made = Agent(tmp_path)
    yield made
    made.close()


NOTHING: tuple[dict[str, int], list[str], list[Path]] = ({}, [], [])


def test_a_cancel_in_the_middle_of_a_deploy_leaves_nothing(agent: Agent) -> None:
    with ThreadPoolExecutor(2) as pool:
        deploying = pool.submit(agent.deploy, 1, "fast", "slow", "fast")
        assert agent.gate.reached.wait(30)
        cancelling = pool.submit(agent.runtime.cancel, msg.Cancel("j", 1))
        while not agent.runtime._fenced:
            pass
        agent.gate.release.set()
        with pytest.raises(JobError, match="has been cancelled"):
            deploying.result(30)
        cancelling.result(30)
    assert agent.held() == NOTHING
    agent.deploy(2, "fast")
    assert agent.runtime.running() == {"j": 2}


def test_an_attempt_that_comes_late_does_not_replace_a_newer(agent: Agent) -> None:
    agent.deploy(2, "fast")
    with pytest.raises(JobError, match="overtaken by 2"):
        agent.deploy(1, "fast", "fast")
    assert agent.runtime.running() == {"j": 2}
    agent.runtime.cancel(msg.Cancel("j", 1))
    assert agent.runtime.running() == {"j": 2}


def test_a_newer_attempt_replaces_an_older_and_the_same_again_does_nothing(agent: Agent) -> None:
    agent.deploy(1, "fast", "fast")
    agent.deploy(2, "fast")
    agent.deploy(2, "fast")
    running, threads, _ = agent.held()
    assert running == {"j": 2}
    assert threads == ["task j t/0"]
    agent.runtime.cancel(msg.Cancel("j", 2))
    assert agent.held() == NOTHING


def test_a_deploy_that_fails_leaves_nothing(agent: Agent) -> None:
    with pytest.raises(Exception, match="nowhere"):
        agent.deploy(1, "fast", "nowhere")
    assert agent.held() == NOTHING
    agent.deploy(2, "fast")
    assert agent.runtime.running() == {"j": 2}
