"""PAUSE and RESUME JOB: the sources of a paused job read nothing more, and its tasks keep what they have."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from sabot.errors import JobError, ShuffleError
from sabotd.agent import messages as msg
from sabotd.control.agents import Agent
from sabotd.control.fences import wait
from sabotd.control.job_state import JobPhase, JobState
from sabotd.control.jobs import Job
from sabotd.control.tables import ControlTables

log = logging.getLogger("sabot.coordinator")


class Pauses:
    """Stops and starts the sources of jobs.

    Parameters
    ----------
    lock : threading.Condition
        Guards `jobs` and their states; notified when an epoch completes.
    jobs : mapping of job id to Job
    tables : ControlTables
    fence_ids : iterator of int
        Numbers that no other fence has.
    agents_of_sources : callable
        Returns the agents of a job's source tasks; called with the lock held.
    recovering : callable
        Says that a job is about to be deployed anew; called with the lock held.
    """

    def __init__(
        self,
        lock: threading.Condition,
        jobs: Mapping[str, Job],
        tables: ControlTables,
        fence_ids: Iterator[int],
        agents_of_sources: Callable[[Job, JobState], Sequence[Agent]],
        recovering: Callable[[Job], None],
    ) -> None:
        self._lock = lock
        self._jobs = jobs
        self._tables = tables
        self._fence_ids = fence_ids
        self._agents_of_sources = agents_of_sources
        self._recovering = recovering

    def await_paused(self, job_id: str, cancelled: threading.Event) -> None:
        """Wait until all is visible that a paused job has read.

        Raises
        ------
        SabotError
            `cancelled` was set.
        """
        with self._lock:
            while (job := self._jobs.get(job_id)) is not None and job.paused and (state := job.state) is not None:
                if state.phase is not JobPhase.RUNNING or state.fence_passed(job.pause_fence):
                    return
                wait(self._lock, cancelled)

    def pause_sources(self, job_id: str) -> None:
        """Have the job's sources read nothing more; those out of reach are lost, and their job not restarted."""
        with self._lock:
            job = self._jobs.get(job_id)
            if job is None:
                return
            job.paused = True
            state = job.state
            if state is None or state.phase is not JobPhase.RUNNING:
                return
            job.pause_fence = next(self._fence_ids)
            state.pause(job.pause_fence)
            command = msg.Pause(job_id, state.attempt, True, job.pause_fence)
            agents = self._agents_of_sources(job, state)
            self._lock.notify_all()
        for agent in agents:
            try:
                agent.call(command)
            except (ShuffleError, JobError) as error:
                log.info("agent %s was not told to pause job %s: %s", agent.agent_id, job_id, error.message)
        self._tables.set_state(job_id, state.attempt, "PAUSED")

    def resume_sources(self, job_id: str) -> bool:
        """Have a paused job's sources go on; False if the job has no tasks that could, and is to be deployed anew."""
        with self._lock:
            job = self._jobs.get(job_id)
            if job is None or job.phase in ("FAILED", "FINISHED"):
                return True
            job.paused = False
            state = job.state
            if state is None or state.phase is not JobPhase.RUNNING:
                self._recovering(job)
                return False
            state.unpause()
            state.drop_fence(job.pause_fence)
            agents = self._agents_of_sources(job, state)
        command = msg.Pause(job_id, state.attempt, paused=False)
        try:
            for agent in agents:
                agent.call(command)
        except (ShuffleError, JobError) as error:
            log.warning("job %s has lost tasks and begins anew: %s", job_id, error.message)
            with self._lock:
                self._recovering(job)
            return False
        self._tables.set_state(job_id, state.attempt, "RUNNING")
        return True
