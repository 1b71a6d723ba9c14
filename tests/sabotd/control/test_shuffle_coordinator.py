"""Who is told of which edges, in which order, and what the agents' figures add up to."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from planner.task_spec import (
    ColumnSpec,
    EdgeOutput,
    EdgeSpec,
    FromEdge,
    FromOperator,
    JobSpec,
    LogSourceOp,
    OperatorNode,
    SinkOp,
    TaskSpec,
)
from sabot.errors import JobError
from sabotd.agent import messages as msg
from sabotd.control.shuffle_coordinator import ShuffleCoordinator

COLUMNS = (ColumnSpec("k", "INTEGER"),)
UP = OperatorNode(LogSourceOp("t", COLUMNS, weighted=False))
DOWN = OperatorNode(SinkOp("s", "blackhole", {}, None, COLUMNS, weighted=False), (FromEdge("u->d#0"),))
EDGE = EdgeSpec("u->d#0", "HASH", ("k",), COLUMNS, ("u/0",), ("d/0", "d/1"))
ALONE = TaskSpec("a/0", "a", 0, 1, (UP, OperatorNode(DOWN.op, (FromOperator(0),))), ())
SPEC = JobSpec(
    "j",
    (
        TaskSpec("u/0", "u", 0, 1, (UP,), (EdgeOutput(0, "u->d#0"),)),
        *(TaskSpec(f"d/{i}", "d", i, 2, (DOWN,), ()) for i in range(2)),
        ALONE,
    ),
    (EDGE,),
)
PLACEMENT = {"u/0": "a1", "d/0": "a1", "d/1": "a2", "a/0": "a3"}
LOCATIONS = {a: f"grpc+unix:///{a}" for a in ("a1", "a2", "a3", "a4")}


class Told:
    def __init__(self, agent_id: str) -> None:
        self.agent_id = agent_id
        self.commands: list[msg.RegisterShuffles] = []

    def call(self, command: msg.RegisterShuffles) -> None:
        self.commands.append(command)

    def metrics(self) -> list[dict[str, object]]:
        return []


@pytest.fixture
def shuffles() -> ShuffleCoordinator:
    made = ShuffleCoordinator()
    made.initialize(SPEC, 3)
    made.set_task_locations(PLACEMENT, LOCATIONS)
    return made


def test_every_agent_is_told_of_the_edges_it_has_an_end_of(shuffles: ShuffleCoordinator) -> None:
    agents = {a: Told(a) for a in LOCATIONS}
    shuffles.register_shuffles_with_agents(agents)
    where = {t: LOCATIONS[a] for t, a in PLACEMENT.items()}
    assert agents["a1"].commands == agents["a2"].commands == [msg.RegisterShuffles("j", 3, (EDGE,), where)]
    assert agents["a3"].commands == [msg.RegisterShuffles("j", 3, (), where)]
    assert agents["a4"].commands == []
    assert [t.task_id for t in shuffles.tasks_at("a1")] == ["u/0", "d/0"]


def test_who_is_not_there_is_named(shuffles: ShuffleCoordinator) -> None:
    with pytest.raises(JobError, match="agent 'a2' is not there any more"):
        shuffles.register_shuffles_with_agents({"a1": Told("a1")})
    with pytest.raises(JobError, match="task 'd/1' is placed on None"):
        shuffles.set_task_locations({"u/0": "a1", "d/0": "a1"}, LOCATIONS)
    with pytest.raises(JobError, match="task 'u/0' is placed on 'a9'"):
        shuffles.set_task_locations({**PLACEMENT, "u/0": "a9"}, LOCATIONS)


def test_a_new_attempt_begins_anew(shuffles: ShuffleCoordinator) -> None:
    with pytest.raises(JobError, match="attempt 2 has been overtaken by 3"):
        shuffles.reinitialize(2)
    shuffles.reinitialize(4)
    assert shuffles.commands() == {}
    shuffles.set_task_locations({**PLACEMENT, "d/1": "a4"}, LOCATIONS)
    assert sorted(shuffles.commands()) == ["a1", "a3", "a4"]
    assert {c.attempt for c in shuffles.commands().values()} == {4}
    shuffles.reinitialize(5, JobSpec("j", (ALONE,), ()))
    shuffles.set_task_locations({"a/0": "a1"}, LOCATIONS)
    assert shuffles.commands() == {"a1": msg.RegisterShuffles("j", 5, (), {"a/0": LOCATIONS["a1"]})}


def test_figures_are_of_the_present_attempt_over_all_agents(shuffles: ShuffleCoordinator) -> None:
    def said(rows: Mapping[str, int], *, job: str = "j", attempt: int = 3, waited: int = 0) -> dict[str, object]:
        total = sum(rows.values())
        return {
            "job_id": job, "edge_id": "u->d#0", "attempt": attempt, "kind": "HASH", "rows": total, "bytes": 4 * total,
            "batches": 1, "wait_up_ns": waited, "wait_down_ns": 5, "rows_by_task": dict(rows),
        }  # fmt: skip

    found = shuffles.get_shuffle_metrics(
        [
            said({"d/0": 30, "d/1": 10}, waited=7),
            said({"d/0": 0, "d/1": 0}),
            said({"d/0": 99}, attempt=2),
            said({"d/0": 99}, job="other"),
        ]
    )
    assert set(found) == {"u->d#0"}
    metrics = found["u->d#0"]
    assert (metrics.rows, metrics.bytes, metrics.batches) == (40, 160, 2)
    assert (metrics.wait_up_ns, metrics.wait_down_ns) == (7, 10)
    assert metrics.rows_by_task == {"d/0": 30, "d/1": 10}
    assert metrics.skew == 1.5
    assert shuffles.get_shuffle_metrics([])["u->d#0"].skew is None
