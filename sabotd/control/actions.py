"""What the durable workflows ask of the rest of the daemon, without DBOS, which takes half a second to import."""

from __future__ import annotations

from typing import Protocol, TypeAlias

from sabot.errors import JobError

Affected: TypeAlias = list[tuple[str, int, bool]]
"""Jobs in the order of their creation: id, attempt, and whether it begins anew (a paused one is only stopped)."""

NO_AGENT = "53000"
"""SQLSTATE (insufficient resources) of a deployment for which there is no agent at all."""


class ForgottenAttemptError(JobError):
    """The attempt was placed by a daemon that is dead; its tasks died with it."""


class JobActions(Protocol):
    """What the steps do to one job; all of it is idempotent by (job, attempt)."""

    def next_attempt(self, job_id: str) -> int | None:
        """Return a new attempt number; None if the job is not there any more."""
        ...

    def place(self, job_id: str, generation: int) -> dict[str, str]:
        """Choose an agent for each task; returns task id to agent id and records it."""
        ...

    def register_shuffles(self, job_id: str, generation: int) -> None:
        """Make the job's edges known to all agents that have tasks of it."""
        ...

    def start_tasks(self, job_id: str, generation: int, agent_id: str) -> None:
        """Start the tasks that are placed on an agent."""
        ...

    def begin(self, job_id: str, generation: int) -> None:
        """All tasks are up: let barriers flow."""
        ...

    def stop_tasks(self, job_id: str, generation: int) -> None:
        """Stop the job's tasks, up to `generation`, wherever they are."""
        ...

    def record(self, job_id: str, generation: int, state: str, error: str | None) -> None:
        """Write the job's state to the tables."""
        ...

    def desire(self, job_id: str, desired: str) -> None:
        """Write down whether the job is to run or to pause."""
        ...

    def pause_sources(self, job_id: str) -> None:
        """Have the job's sources read nothing more."""
        ...

    def resume_sources(self, job_id: str) -> bool:
        """Have them go on; False if the job has no tasks that could."""
        ...

    def suspend(self, job_id: str, generation: int) -> None:
        """Stop the tasks of a job that is to be deployed anew, or goes on being paused."""
        ...

    def give_up(self, job_id: str, reason: str) -> None:
        """Fail a job that is being recovered."""
        ...


class ClusterActions(Protocol):
    """What the steps do to several jobs, and to agents."""

    def affected(self, job_ids: list[str]) -> Affected:
        """Return those of the jobs that are to be recovered, with all that reads their rows."""
        ...

    def affected_by_drain(self, agent_id: str) -> Affected:
        """Return the jobs that have to leave an agent, with all that reads their rows."""
        ...

    def put_off(self, job_id: str) -> None:
        """Recover a job when there is an agent again."""
        ...

    def refusal(self, job_id: str) -> str | None:
        """Return why a job is not to be tried again, if it is not."""
        ...

    def reset(self, job_id: str) -> None:
        """Empty the view that the job keeps up: it is filled again from the start."""
        ...

    def wait(self, seconds: float) -> bool:
        """Wait; False when the daemon stops."""
        ...

    def stop_placing(self, agent_id: str, incarnation: str) -> bool:
        """Give an agent no more tasks; False if it is gone."""
        ...

    def let_go(self, agent_id: str, incarnation: str) -> None:
        """End a drained agent."""
        ...
