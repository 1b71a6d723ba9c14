"""The shuffles of one job over all agents: who runs which end, made known before any task starts, and their figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from cython_shuffle.heavy_keys import HEAVIEST, top
from planner.task_spec import EdgeSpec, FromEdge, JobSpec, TaskSpec
from sabot.errors import JobError
from sabotd.agent import messages as msg


class ShuffleAgent(Protocol):
    """What is asked of an agent here."""

    agent_id: str

    def call(self, command: msg.RegisterShuffles) -> None:
        """Have a command carried out; raises what it raised."""
        ...

    def metrics(self) -> list[dict[str, object]]:
        """Return the figures of every edge end in the agent's process."""
        ...


@dataclass
class ShuffleMetrics:
    """What went over one edge in the present attempt, over all agents.

    `wait_up_ns`: upstream tasks blocked for room; `wait_down_ns`: downstream tasks had nothing to read, added over
    channels. `rows_by_task`: rows written to each downstream task. `heavy_keys`: of a HASH edge, the heaviest keys as
    text with about their rows, heaviest first.
    """

    edge: EdgeSpec
    rows: int = 0
    bytes: int = 0
    batches: int = 0
    wait_up_ns: int = 0
    wait_down_ns: int = 0
    rows_by_task: dict[str, int] = field(default_factory=dict)
    heavy_keys: dict[str, int] = field(default_factory=dict)

    @property
    def skew(self) -> float | None:
        """The rows of the task that got most, over the mean of all; None before the first row."""
        total = sum(self.rows_by_task.values())
        if not total:
            return None
        return max(self.rows_by_task.values()) * len(self.edge.downstream) / total


class ShuffleCoordinator:
    """One job's; for one thread at a time.

    `initialize`, `set_task_locations`, `register_shuffles_with_agents`, then the tasks may start; for a new attempt
    `reinitialize` and the same again.
    """

    def __init__(self) -> None:
        self._spec: JobSpec | None = None
        self.attempt = -1
        self._placement: dict[str, str] = {}
        self._locations: dict[str, str] = {}
        self.hold: msg.HoldTerms | None = None
        """Of the present attempt: how it outlives the daemon, if it does."""

    def initialize(self, spec: JobSpec, attempt: int) -> None:
        """Take the edges of an attempt; nothing is placed yet."""
        self._spec = spec
        self.reinitialize(attempt)

    def reinitialize(self, attempt: int, spec: JobSpec | None = None) -> None:
        """Begin a new attempt, perhaps with other tasks and edges (after a rescale); locations are set anew.

        Raises
        ------
        JobError
            `attempt` is older than the present one.
        """
        if attempt < self.attempt:
            text = f"attempt {attempt} has been overtaken by {self.attempt}"
            raise JobError(text)
        self._spec = spec or self._spec
        self.attempt = attempt
        self._placement = {}
        self._locations = {}

    def set_task_locations(self, placement: Mapping[str, str], locations: Mapping[str, str]) -> None:
        """Say where every task runs.

        Parameters
        ----------
        placement : mapping of task id to agent id
        locations : mapping of agent id to location
            Where others pull from.

        Raises
        ------
        JobError
            A task is not placed, or its agent has no location.
        """
        for task in self._known().tasks:
            agent_id = placement.get(task.task_id)
            if agent_id is None or agent_id not in locations:
                text = f"task {task.task_id!r} is placed on {agent_id!r}, which is not there"
                raise JobError(text)
        self._placement = dict(placement)
        self._locations = {t: locations[a] for t, a in placement.items()}

    def tasks_at(self, agent_id: str) -> tuple[TaskSpec, ...]:
        """Return the tasks placed on an agent."""
        return tuple(t for t in self._known().tasks if self._placement.get(t.task_id) == agent_id)

    def edges_at(self, agent_id: str) -> tuple[EdgeSpec, ...]:
        """Return the edges that begin or end on an agent."""
        tasks = self.tasks_at(agent_id)
        used = {o.edge_id for t in tasks for o in t.outputs} | {
            i.edge_id for t in tasks for n in t.nodes for i in n.inputs if isinstance(i, FromEdge)
        }
        return tuple(e for e in self._known().edges if e.edge_id in used)

    def commands(self) -> dict[str, msg.RegisterShuffles]:
        """Return what each agent that has tasks is to be told."""
        spec = self._known()
        return {
            agent_id: msg.RegisterShuffles(
                spec.job_id, self.attempt, self.edges_at(agent_id), dict(self._locations), self.hold
            )
            for agent_id in sorted(set(self._placement.values()))
        }

    def register_shuffles_with_agents(self, agents: Mapping[str, ShuffleAgent]) -> None:
        """Make every edge known on every agent that has an end of it, before any task is started. Idempotent.

        Raises
        ------
        SabotError
            An agent is not there or refused; others may have taken theirs, until the attempt is cancelled.
        """
        for agent_id, command in self.commands().items():
            if agent_id not in agents:
                text = f"agent {agent_id!r} is not there any more"
                raise JobError(text)
            agents[agent_id].call(command)

    def get_shuffle_metrics(self, figures: Iterable[Mapping[str, object]]) -> dict[str, ShuffleMetrics]:
        """Return the figures of each edge by its id, of the present attempt.

        Parameters
        ----------
        figures : iterable of mapping
            What the agents said (`ShuffleAgent.metrics`), of any jobs.
        """
        spec = self._known()
        found = {e.edge_id: ShuffleMetrics(e) for e in spec.edges}
        for said in figures:
            into = found.get(str(said["edge_id"]))
            if into is None or said["job_id"] != spec.job_id or said["attempt"] != self.attempt:
                continue
            for name in ("rows", "bytes", "batches", "wait_up_ns", "wait_down_ns"):
                setattr(into, name, getattr(into, name) + said[name])
            by_task = said["rows_by_task"]
            assert isinstance(by_task, dict)
            for task, rows in by_task.items():
                into.rows_by_task[task] = into.rows_by_task.get(task, 0) + rows
            heavy = said.get("heavy_keys", {})
            assert isinstance(heavy, dict)
            counted = [*into.heavy_keys.items(), *heavy.items()]
            into.heavy_keys = top(((rows, key) for key, rows in counted), HEAVIEST)
        return found

    def _known(self) -> JobSpec:
        assert self._spec is not None, "initialize comes first"
        return self._spec
