"""What is left of an attempt when the daemon was killed: which agents still run it, and how its tasks stand."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from planner.task_spec import JobSpec
from sabot.errors import JobError
from sabotd.agent import messages as msg
from sabotd.control.agents import REACHED, Agent
from sabotd.control.tables import ControlTables


@dataclass(frozen=True)
class Left:
    """An attempt whose agents are all there."""

    attempt: int
    placement: dict[str, str]
    agents: Sequence[Agent]
    """Those with tasks of it, but the daemon's own."""


def find_left(spec: JobSpec, tables: ControlTables, agents: Sequence[Agent], own: str) -> Left | None:
    """Return the job's last attempt, if all its tasks were started and none was at an agent that died with the daemon.

    Parameters
    ----------
    own : str
        The id of the daemon's own agent.
    """
    found = tables.running_attempt(spec.job_id)
    if found is None:
        return None
    attempt, placement = found
    reached = {a.agent_id: a for a in agents if a.state in REACHED and a.outlives}
    names = set(placement.values()) - {own}
    if set(placement) != {t.task_id for t in spec.tasks} or not names <= reached.keys():
        return None
    return Left(attempt, placement, [reached[n] for n in sorted(names)])


def gather(
    command: msg.TakeOver, agents: Sequence[Agent], own: msg.Standing, terminals: Collection[str]
) -> tuple[list[msg.TaskStanding], int]:
    """Ask all agents how their tasks stand; return that and the last epoch that is complete everywhere.

    Parameters
    ----------
    own : msg.Standing
        How the daemon's own tasks stood when it was killed.
    terminals : collection of task ids
        Tasks without outputs.

    Raises
    ------
    SabotError
        An agent has nothing of the attempt, a task has failed meanwhile, or what the daemon's own tasks have completed
        is not what the others have.
    """
    tasks = [t for a in agents for t in a.take_over(command).tasks] + list(own.tasks)
    if (failed := next((t for t in tasks if t.error is not None), None)) is not None:
        text = f"task {failed.task_id!r} has failed meanwhile"
        raise JobError(text)
    ends: Mapping[str, int] = {t.task_id: t.completed for t in tasks if t.task_id in terminals}
    completed = min(ends.values())
    if any(ends[t.task_id] != completed for t in own.tasks if t.task_id in ends):
        text = "its outputs are not at one epoch"
        raise JobError(text)
    return tasks, completed
