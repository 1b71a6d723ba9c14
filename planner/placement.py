"""Where tasks run: by the agents' slots, least loaded first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from planner.task_spec import TaskSpec


@dataclass(frozen=True, slots=True)
class AgentSlots:
    """An agent as placement sees it: `used` of its `slots` have tasks of other jobs."""

    agent_id: str
    slots: int
    used: int


def place_tasks(tasks: Sequence[TaskSpec], agents: Sequence[AgentSlots], own: str) -> dict[str, str]:
    """Return an agent's id for each task's id.

    A slot takes one task of each of the job's operators, those of equal index, so that what they send each other
    straight stays in one process. Each slot that the job needs goes to the agent that is least loaded for its size
    then, the first of those that are equal; so no agent gets more than it has slots for while another has a free one,
    and when all are full the rest is shared out in proportion: slots weigh, they do not limit.

    Parameters
    ----------
    tasks : sequence of TaskSpec
        Of one job. A pinned task goes to `own`.
    agents : sequence of AgentSlots
        Those that take tasks, at least one.
    own : str
        The daemon's own agent.
    """
    used = [a.used for a in agents]
    chosen: list[str] = []
    for _ in range(1 + max((t.index for t in tasks if not t.pinned), default=-1)):
        at = min(range(len(agents)), key=lambda i: (used[i] + 1) / agents[i].slots)
        used[at] += 1
        chosen.append(agents[at].agent_id)
    return {t.task_id: own if t.pinned else chosen[t.index] for t in tasks}


def slots_used(tasks: Sequence[TaskSpec], placement: dict[str, str]) -> dict[str, int]:
    """Return how many slots a job that is placed so takes on each agent."""
    slots = {(placement[t.task_id], t.index) for t in tasks if not t.pinned and t.task_id in placement}
    out: dict[str, int] = {}
    for agent_id, _ in slots:
        out[agent_id] = out.get(agent_id, 0) + 1
    return out
