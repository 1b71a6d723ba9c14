"""FLUSH: waits until all that jobs' sources held when it was asked for is visible and written."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from sabot.errors import JobError, SabotError
from sabotd.agent import messages as msg
from sabotd.control.job_state import JobPhase, JobState
from sabotd.control.jobs import Job


class Fences:
    """The fences under way.

    Parameters
    ----------
    lock : threading.Condition
        Guards `jobs` and their states; notified when an epoch completes.
    jobs : mapping of job id to Job
    post : callable
        Sends a command to the agents of a job's sources.
    """

    def __init__(
        self,
        lock: threading.Condition,
        jobs: Mapping[str, Job],
        post: Callable[[Job, JobState, msg.Fence], None],
    ) -> None:
        self._lock = lock
        self._jobs = jobs
        self._post_to_sources = post
        # tasks may still report fences of a daemon before this one
        self.ids = itertools.count(time.time_ns())
        """Numbers of fences, of pauses too."""

    def await_all(self, job_ids: Sequence[str], cancelled: threading.Event) -> None:
        """Wait until all that the jobs' sources held when this was called is visible and written.

        Raises
        ------
        JobError
            A job has failed, or its sources cannot tell.
        SabotError
            `cancelled` was set.
        """
        fences: list[tuple[Job, JobState, int]] = []
        with self._lock:
            try:
                fences += [f for j in job_ids if (f := self._begin(j, cancelled)) is not None]
                while fences:
                    job, state, fence_id = fences[-1]
                    if job.state is not state and self._jobs.get(job.spec.job_id) is job:
                        # recovered meanwhile: what it had read is being read again
                        fences.pop()
                        fences += [f for f in (self._begin(job.spec.job_id, cancelled),) if f is not None]
                    elif state.fence_passed(fence_id) or not self._may_pass(job, state, fence_id):
                        fences.pop()
                        state.drop_fence(fence_id)
                    else:
                        wait(self._lock, cancelled)
            finally:
                for _, state, fence_id in fences:
                    state.drop_fence(fence_id)

    def _begin(self, job_id: str, cancelled: threading.Event) -> tuple[Job, JobState, int] | None:
        job = self._jobs.get(job_id)
        waited = (JobPhase.DEPLOYING, JobPhase.RECOVERING, JobPhase.STOPPED)
        while job is not None and not job.paused:
            if job.state is not None and not job.recovering and job.state.phase not in waited:
                break
            wait(self._lock, cancelled)
            job = self._jobs.get(job_id)
        if job is None or job.state is None or job.paused:
            return None
        state = job.state
        fence_id = next(self.ids)
        state.fence(fence_id)
        if state.phase is JobPhase.RUNNING:
            command = msg.Fence(job_id, state.attempt, fence_id)
            self._post_to_sources(job, state, command)
        return job, state, fence_id

    def _may_pass(self, job: Job, state: JobState, fence_id: int) -> bool:
        """Whether waiting has a point; False when the job was dropped meanwhile."""
        job_id = job.spec.job_id
        if job.recovering:
            return self._jobs.get(job_id) is job
        if state.phase is JobPhase.FAILED:
            text = f"job {job_id!r} failed: {state.error}"
            raise JobError(text, hint="SHOW JOBS tells the state of every job")
        if (unknown := state.fence_error(fence_id)) is not None:
            text = f"job {job_id!r} cannot tell what its source holds: {unknown}"
            raise JobError(text)
        return self._jobs.get(job_id) is job


def wait(lock: threading.Condition, cancelled: threading.Event) -> None:
    """Wait for `lock`, which is held, to be notified; SabotError if `cancelled` was set."""
    lock.wait(0.2)
    if cancelled.is_set():
        text = "canceled by the user"
        raise SabotError(text, sqlstate="57014")
