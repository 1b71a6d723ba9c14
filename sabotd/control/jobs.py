"""A job as the daemon knows it."""

from __future__ import annotations

from dataclasses import dataclass, field

from planner.task_spec import JobSpec
from sabotd.agent import messages as msg
from sabotd.control.job_state import JobPhase, JobState
from sabotd.control.shuffle_coordinator import ShuffleCoordinator


@dataclass
class Job:
    """A job the daemon knows: its spec, its current attempt, and where its tasks are."""

    spec: JobSpec
    generation: int = 0
    placement: dict[str, str] = field(default_factory=dict)
    state: JobState | None = None
    started: str = ""
    recovering: bool = False
    """It is being deployed anew; whoever waits for it goes on waiting, whatever its attempts come to."""
    paused: bool = False
    """It is to read nothing; after a restart, or where it has lost tasks meanwhile, it has none until it goes on."""
    pause_fence: int = 0
    restarts: list[float] = field(default_factory=list)
    """When it was recovered, by the monotonic clock."""
    shuffles: ShuffleCoordinator = field(default_factory=ShuffleCoordinator)
    early: list[msg.Report] | None = None
    """What tasks reported while the job is being taken over from a killed daemon."""

    @property
    def phase(self) -> str:
        """The job's phase as SHOW JOBS has it."""
        if self.recovering:
            return JobPhase.RECOVERING.value
        if self.paused and (self.state is None or self.state.phase not in (JobPhase.FAILED, JobPhase.FINISHED)):
            return "PAUSED"
        return self.state.phase.value if self.state is not None else "CREATING"

    @property
    def is_broken(self) -> bool:
        """Whether its tasks were lost, and have not been stopped or deployed anew since."""
        return self.recovering or (self.state is not None and self.state.phase is JobPhase.RECOVERING)

    @property
    def has_tasks(self) -> bool:
        """Whether tasks of it run, or sit paused."""
        return self.state is not None and self.state.phase is JobPhase.RUNNING
