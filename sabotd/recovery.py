"""Brings jobs back after the loss of an agent: they begin again from the start of their sources, in order.

A view that begins again takes everything with it that reads its changes. Until there are checkpoints nothing of the
old attempt is kept.
"""

from __future__ import annotations

import logging
import queue
import threading
import time

from sqlalchemy.exc import DBAPIError

from sabot.errors import SabotError
from sabotd.catalog_store import CatalogObject, CatalogStore
from sabotd.control.coordinator import Coordinator
from sabotd.control.job_state import JobPhase
from sabotd.state.store import Store

log = logging.getLogger("sabot.recovery")

_GRACE_S = 0.3
"""How long a broken stream waits for word of its cause: a task that failed by itself is not tried again."""
_MOST_RESTARTS = 5
_WINDOW_S = 60.0


class Recovery:
    """One thread that recovers jobs, one after the other.

    Parameters
    ----------
    ddl_lock : threading.RLock
        Held while jobs are stopped and deployed: no CREATE or DROP comes between.
    """

    def __init__(self, catalog: CatalogStore, store: Store, ddl_lock: threading.RLock) -> None:
        self._catalog = catalog
        self._store = store
        self._ddl_lock = ddl_lock
        self._broken: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, coordinator: Coordinator) -> None:
        """Begin to work."""
        self._thread = threading.Thread(target=self._run, args=(coordinator,), name="recovery", daemon=True)
        self._thread.start()

    def broken(self, job_id: str) -> None:
        """Have a job recovered; from any thread."""
        self._broken.put(job_id)

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._broken.put(None)
        if self._thread is not None:
            self._thread.join()

    def move_from(self, coordinator: Coordinator, agent_id: str) -> None:
        """Have the jobs with tasks on `agent_id` begin again on the other agents.

        Raises
        ------
        JobError
            There is no other agent.
        """
        with self._ddl_lock:
            coordinator.require_agents()
            live = (JobPhase.RUNNING, JobPhase.DEPLOYING, JobPhase.RECOVERING)
            hit = {
                j.spec.job_id
                for j in coordinator.jobs()
                if agent_id in j.placement.values() and j.state is not None and j.state.phase in live
            }
            for job_id in hit:
                coordinator.mark_recovering(job_id)
            self._recover(coordinator, hit)

    def _run(self, coordinator: Coordinator) -> None:
        while (job_id := self._broken.get()) is not None:
            if self._stopping.wait(_GRACE_S):
                return
            hit = {job_id}
            while not self._broken.empty():
                following = self._broken.get()
                if following is None:
                    return
                hit.add(following)
            try:
                with self._ddl_lock:
                    self._recover(coordinator, hit)
            except (SabotError, DBAPIError) as error:  # the control database is away: later
                log.warning("recovery of %s is put off: %s", ", ".join(sorted(hit)), error)
                if self._stopping.wait(1.0):
                    return
                for job in hit:
                    self._broken.put(job)

    def _recover(self, coordinator: Coordinator, hit: set[str]) -> None:
        phases = {j.spec.job_id: j.state.phase for j in coordinator.jobs() if j.state is not None}
        # one that failed by itself in the meantime stays failed; one that was deployed anew is well
        hit = {j for j in hit if phases.get(j) is JobPhase.RECOVERING}
        affected = self._with_dependents(hit, {j for j, phase in phases.items() if phase is JobPhase.FAILED})
        for obj in reversed(affected):
            assert obj.job_id is not None
            coordinator.suspend(obj.job_id)
        for obj in affected:
            assert obj.job_id is not None
            if obj.kind == "materialized view":
                self._store.reset(obj.name)
            self._restart(coordinator, obj.job_id)

    def _with_dependents(self, hit: set[str], failed: set[str]) -> list[CatalogObject]:
        names = {o.name for o in self._catalog.all() if o.job_id in hit}
        for name in list(names):
            names |= {d.name for d in self._catalog.dependents(name)}
        return [o for o in self._catalog.all() if o.name in names and o.job_id is not None and o.job_id not in failed]

    def _restart(self, coordinator: Coordinator, job_id: str) -> None:
        job = coordinator.job(job_id)
        if job is None:
            return
        recent = [t for t in job.restarts if time.monotonic() - t < _WINDOW_S]
        why = job.state.error if job.state is not None and job.state.error else "an agent was lost"
        if len(recent) > _MOST_RESTARTS:
            coordinator.give_up(job_id, f"given up after {len(recent)} restarts within a minute: {why}")
            return
        error: SabotError | None = None
        for pause_s in (0.0, 0.5, 1.0, 2.0, 4.0):  # an agent that comes back takes a second
            if self._stopping.wait(pause_s):
                return
            try:
                coordinator.deploy(job_id)
            except SabotError as problem:
                error = problem
            else:
                log.info("job %s runs again", job_id)
                return
        assert error is not None
        coordinator.give_up(job_id, f"cannot be started again: {error.message}")
