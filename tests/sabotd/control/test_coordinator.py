"""The coordinator's steps as workflows call them: late ones, of attempts that a newer has overtaken."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from planner.task_spec import ColumnSpec, FromOperator, JobSpec, LogSourceOp, OperatorNode, SinkOp, TaskSpec
from sabot.errors import JobError
from sabotd.agent import messages as msg
from sabotd.control.actions import ForgottenAttemptError
from sabotd.control.agents import Command
from sabotd.control.coordinator import Coordinator
from sabotd.control.tables import ControlTables, open_engine
from sabotd.control.workflows import Workflows

COLUMNS = (ColumnSpec("k", "INTEGER"),)
NODES = (
    OperatorNode(LogSourceOp("t", COLUMNS, weighted=False)),
    OperatorNode(SinkOp("s", "blackhole", {}, None, COLUMNS, weighted=False), (FromOperator(0),)),
)
SPEC = JobSpec("j", (TaskSpec("t/0", "t", 0, 1, NODES, ()),), ())


class WrittenDown:
    """An agent that keeps what it was told."""

    def __init__(self, agent_id: str) -> None:
        self.agent_id = agent_id
        self.state = "UP"
        self.pid = 1
        self.slots = 1
        self.outlives = False
        self.location = f"grpc+unix:///{agent_id}"
        self.told: list[Command] = []

    def call(self, command: Command) -> None:
        self.told.append(command)

    post = call

    def metrics(self) -> list[dict[str, object]]:
        return []

    def conditions(self) -> dict[str, list[str]]:
        return {}


@pytest.fixture
def agent() -> WrittenDown:
    return WrittenDown("a1")


@pytest.fixture
def coordinator(tmp_path: Path, agent: WrittenDown) -> Coordinator:
    engine, _ = open_engine("", tmp_path)
    made = Coordinator(
        ControlTables(engine),
        cast("Workflows", None),  # the steps are called here
        lambda: [agent],
        WrittenDown("own"),
        left_here=lambda *_: msg.Standing(()),
        hold_s=0.0,
        interval_s=0.1,
        on_bad_records=lambda _: None,
        on_broken=lambda _: None,
    )
    made.register(SPEC)
    return made


def run(coordinator: Coordinator, attempt: int) -> None:
    assert coordinator.place("j", attempt) == {"t/0": "a1"}
    coordinator.start_tasks("j", attempt, "a1")
    coordinator.begin("j", attempt)


def test_what_a_dead_daemon_left_undone_does_not_stop_a_newer_attempt(coordinator: Coordinator) -> None:
    run(coordinator, 6)
    with pytest.raises(JobError, match="overtaken by 6"):
        coordinator.place("j", 5)
    with pytest.raises(JobError, match="overtaken by 6"):
        coordinator.start_tasks("j", 5, "a1")
    # as the workflow goes on after such an error
    coordinator.stop_tasks("j", 5)
    coordinator.record("j", 5, "FAILED", "overtaken")
    coordinator.begin("j", 5)
    (job,) = coordinator.jobs()
    assert (job.phase, job.generation) == ("RUNNING", 6)


def test_a_stop_reaches_every_agent_and_says_so(coordinator: Coordinator, agent: WrittenDown) -> None:
    run(coordinator, 6)
    agent.told.clear()
    coordinator.stop_tasks("j", 6)
    assert agent.told == [msg.Cancel("j", 6, halt=True), msg.Cancel("j", 6)]
    (job,) = coordinator.jobs()
    assert job.phase == "STOPPED"


def test_a_pause_reaches_the_sources_and_is_told_until_the_job_goes_on(
    coordinator: Coordinator, agent: WrittenDown
) -> None:
    run(coordinator, 6)
    agent.told.clear()
    coordinator.pause_sources("j")
    (paused,) = agent.told
    assert isinstance(paused, msg.Pause)
    assert paused.paused
    (job,) = coordinator.jobs()
    assert job.phase == "PAUSED"
    agent.told.clear()
    assert coordinator.resume_sources("j")
    assert agent.told == [msg.Pause("j", 6, paused=False)]
    assert job.phase == "RUNNING"


def test_a_paused_job_without_tasks_begins_anew_when_it_goes_on(coordinator: Coordinator, agent: WrittenDown) -> None:
    run(coordinator, 6)
    coordinator.pause_sources("j")
    coordinator.suspend("j", 6)
    (job,) = coordinator.jobs()
    assert (job.phase, job.has_tasks) == ("PAUSED", False)
    assert not coordinator.resume_sources("j")
    assert job.phase == "RECOVERING", "FLUSH waits"
    run(coordinator, 7)
    assert job.phase == "RUNNING"


def test_an_attempt_of_a_dead_daemon_is_not_taken_for_an_old_one(coordinator: Coordinator) -> None:
    for call in (coordinator.register_shuffles, coordinator.begin):
        with pytest.raises(ForgottenAttemptError, match="another daemon"):
            call("j", 6)
    with pytest.raises(ForgottenAttemptError):
        coordinator.start_tasks("j", 6, "a1")
