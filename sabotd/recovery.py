"""Brings jobs back after the loss of an agent: they begin again from the start of their sources, in order.

A view that begins again takes everything with it that reads its changes. Until there are checkpoints nothing of the
old attempt is kept. The work itself is a durable workflow (`sabotd.control.procedures`), which asks here what to do.
"""

from __future__ import annotations

import logging
import queue
import threading
import time

from sqlalchemy.exc import DBAPIError

from sabot.errors import SabotError
from sabotd.catalog_store import CatalogStore
from sabotd.control.actions import Affected
from sabotd.control.coordinator import Coordinator
from sabotd.control.roster import Roster
from sabotd.control.tables import ControlTables
from sabotd.control.workflows import Workflows
from sabotd.state.store import Store

log = logging.getLogger("sabot.recovery")

_GRACE_S = 0.3
"""How long a broken stream waits for word of its cause: a task that failed by itself is not tried again."""
_MOST_RESTARTS = 5
_WINDOW_S = 60.0


class Recovery:
    """One thread that has jobs recovered, one after the other, and what the workflows do to several jobs or agents.

    Parameters
    ----------
    ddl_lock : threading.RLock
        Held while jobs are stopped and deployed: no CREATE or DROP comes between.
    """

    def __init__(
        self,
        catalog: CatalogStore,
        store: Store,
        roster: Roster,
        tables: ControlTables,
        workflows: Workflows,
        ddl_lock: threading.RLock,
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._roster = roster
        self._tables = tables
        self._workflows = workflows
        self._ddl_lock = ddl_lock
        self._coordinator: Coordinator | None = None
        self._broken: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, coordinator: Coordinator) -> None:
        """Begin to work."""
        self._coordinator = coordinator
        self._thread = threading.Thread(target=self._run, name="recovery", daemon=True)
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

    def drain(self, agent_id: str, incarnation: str) -> bool:
        """Move an agent's tasks to the others and let it go; False if it is gone."""
        with self._ddl_lock:
            return self._workflows.drain(agent_id, incarnation, self._tables.next_change())

    def _run(self) -> None:
        while (job_id := self._broken.get()) is not None:
            if self._stopping.wait(_GRACE_S):
                return
            if not self._await_agent():
                return
            hit = {job_id}
            while not self._broken.empty():
                following = self._broken.get()
                if following is None:
                    return
                hit.add(following)
            try:
                with self._ddl_lock:
                    if self.affected(sorted(hit)):
                        self._workflows.recover(sorted(hit), self._tables.next_change())
            except (SabotError, DBAPIError) as error:  # the control database is away: later
                log.warning("recovery of %s is put off: %s", ", ".join(sorted(hit)), error)
                if self._stopping.wait(1.0):
                    return
                for job in hit:
                    self._broken.put(job)

    def _await_agent(self) -> bool:
        """Wait until an agent takes tasks: without one no job comes back, and none is given up; False to stop."""
        told = False
        while not any(agent.state == "UP" for agent in self._roster.all()):
            if not told:
                log.warning("no agent is up: jobs wait for one to join")
                told = True
            if self._stopping.wait(_GRACE_S):
                return False
        return True

    # -- what the durable workflows do (ClusterActions)

    def affected(self, job_ids: list[str]) -> Affected:
        """Return those of the jobs that wait to be recovered, with all that reads their rows, in order of creation."""
        jobs = {j.spec.job_id: j for j in self._jobs().jobs()}
        # one that failed by itself in the meantime stays failed; one that was deployed anew is well
        hit = {j for j in job_ids if j in jobs and jobs[j].is_broken}
        out: Affected = []
        emptied: set[str] = set()  # relations whose rows begin anew
        for obj in self._catalog.all():
            if obj.job_id not in hit and not obj.reads & emptied:
                continue
            job = jobs.get(obj.job_id) if obj.job_id is not None else None
            if job is not None:
                if job.phase == "FAILED":
                    continue
                # a paused one is stopped, and begins anew when it is to go on: its rows stay to be read until then
                out.append((job.spec.job_id, job.generation, not job.paused))
                if job.paused:
                    continue
            emptied.add(obj.key)
        return out

    def affected_by_drain(self, agent_id: str) -> Affected:
        """Have the jobs with tasks on an agent wait for recovery; return them, with all that reads their rows."""
        coordinator = self._jobs()
        hit = [j.spec.job_id for j in coordinator.jobs() if j.has_tasks and agent_id in j.placement.values()]
        for job_id in hit:
            coordinator.mark_recovering(job_id)
        return self.affected(hit)

    def put_off(self, job_id: str) -> None:
        """Recover a job when there is an agent again."""
        self._jobs().put_off(job_id)
        self.broken(job_id)

    def refusal(self, job_id: str) -> str | None:
        """Return why a job is not to be tried again: it has been recovered too often of late."""
        job = self._jobs().job(job_id)
        if job is None:
            return None
        recent = [t for t in job.restarts if time.monotonic() - t < _WINDOW_S]
        if len(recent) <= _MOST_RESTARTS:
            return None
        why = job.state.error if job.state is not None and job.state.error else "an agent was lost"
        return f"given up after {len(recent)} restarts within a minute: {why}"

    def reset(self, job_id: str) -> None:
        """Empty the view that the job keeps up."""
        for obj in self._catalog.all():
            if obj.job_id == job_id and obj.kind == "materialized view":
                self._store.reset(obj.key)

    def wait(self, seconds: float) -> bool:
        """Wait; False when the daemon stops."""
        return not self._stopping.wait(seconds)

    def stop_placing(self, agent_id: str, incarnation: str) -> bool:
        """Give an agent no more tasks; False if it is gone."""
        return self._roster.stop_placing(agent_id, incarnation)

    def let_go(self, agent_id: str, incarnation: str) -> None:
        """End a drained agent."""
        self._roster.let_go(agent_id, incarnation)

    def _jobs(self) -> Coordinator:
        assert self._coordinator is not None, "start comes first"
        return self._coordinator
