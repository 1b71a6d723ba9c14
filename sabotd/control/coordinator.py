"""The coordinator: carries out what job states instruct, and keeps barriers flowing.

One thread owns all job states; reports and timers reach it through a queue, so that a state is never touched twice
at once and a slow agent never holds up another job.
"""

from __future__ import annotations

import copy
import datetime as dt
import heapq
import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeGuard

import pyarrow as pa

from cython_shuffle.transport import UNIX
from planner.placement import AgentSlots, place_tasks, slots_used
from planner.task_spec import JobSpec, LogSourceOp, SourceOp, TableSinkOp, TaskSpec, TemporalFilterOp
from sabot.errors import JobError, SabotError, ShuffleError
from sabotd.agent import messages as msg
from sabotd.control.actions import NO_AGENT, ForgottenAttemptError
from sabotd.control.agents import REACHED, Agent
from sabotd.control.error_rows import error_rows
from sabotd.control.fences import Fences
from sabotd.control.job_state import Broken, Completed, Failed, Finished, Inject, Instruction, JobPhase, JobState
from sabotd.control.jobs import Job
from sabotd.control.late_rows import LateRowsKept
from sabotd.control.pauses import Pauses
from sabotd.control.shuffle_coordinator import ShuffleCoordinator, ShuffleMetrics
from sabotd.control.tables import ControlTables
from sabotd.control.takeover import find_left, gather
from sabotd.control.workflows import Workflows

log = logging.getLogger("sabot.coordinator")


class Coordinator:
    """Deploys, drives and stops jobs.

    Parameters
    ----------
    tables : ControlTables
    workflows : Workflows
    agents : callable
        Returns the agents that take tasks now (not the daemon's own).
    own : Agent
        The daemon's own agent, for pinned tasks.
    left_here : callable
        Tells how the daemon's own tasks of a job's attempt stood when the daemon before this one was killed.
    interval_s : float
        Least time between a job's barriers.
    hold_s : float
        How long the tasks of jobs at agents that outlive the daemon wait for it.
    on_bad_records : callable
        Takes the rows of ``sabot_errors``.
    on_broken : callable
        Called with a job's id when streams between its tasks broke; it is to be recovered.
    clock_s : float
        The most time between barriers of a job with now().
    wall_us : callable
        The time of day in microseconds since 1970, what now() means.
    """

    def __init__(
        self,
        tables: ControlTables,
        workflows: Workflows,
        agents: Callable[[], Sequence[Agent]],
        own: Agent,
        *,
        left_here: Callable[[str, int, Sequence[TaskSpec]], msg.Standing],
        interval_s: float,
        hold_s: float,
        on_bad_records: Callable[[pa.Table], None],
        on_broken: Callable[[str], None],
        clock_s: float = 1.0,
        wall_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._tables = tables
        self._workflows = workflows
        self._agents = agents
        self._own = own
        self._left_here = left_here
        self._interval_s = interval_s
        self._hold_s = hold_s
        self._on_bad_records = on_bad_records
        self._on_broken = on_broken
        self.late = LateRowsKept()
        self._clock_s = clock_s
        self._wall_us = wall_us
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Condition()  # guards _jobs and every JobState; notified when an epoch completes
        self._inbox: queue.SimpleQueue[msg.Report | None] = queue.SimpleQueue()
        self.fences = Fences(self._lock, self._jobs, self._post_to_sources)
        self.pauses = Pauses(self._lock, self._jobs, tables, self.fences.ids, self._agents_of_sources, self._recovering)
        self._thread = threading.Thread(target=self._run, name="coordinator", daemon=True)
        self._stopper = ThreadPoolExecutor(4, thread_name_prefix="stop job")

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; jobs are left as they are."""
        self._inbox.put(None)
        if self._thread.ident is not None:
            self._thread.join()
        self._stopper.shutdown(wait=True, cancel_futures=True)

    def alive(self) -> bool:
        """Whether the thread runs and its lock is free within a second."""
        if not self._lock.acquire(timeout=1.0):
            return False
        self._lock.release()
        return self._thread.is_alive()

    # -- jobs

    def register(self, spec: JobSpec, *, paused: bool = False) -> None:
        """Make a job known before it is deployed."""
        with self._lock:
            job = self._jobs[spec.job_id] = Job(spec, paused=paused)
            job.shuffles.initialize(spec, job.generation)

    def deploy(self, job_id: str) -> None:
        """Start the next attempt of a job; returns when all its tasks run.

        Raises
        ------
        SabotError
            A task could not be started; nothing is left running.
        """
        self._workflows.deploy(job_id, self._tables.next_generation(job_id))

    def next_attempt(self, job_id: str) -> int | None:
        """Return a new attempt number; None if the job is not there any more."""
        return self._tables.next_generation(job_id) if self.job(job_id) is not None else None

    def remove(self, job_id: str) -> None:
        """Stop a job and forget it."""
        with self._lock:
            job = self._jobs.get(job_id)
        if job is None:
            return
        if job.generation or job.state is not None:  # else it was never deployed
            self._workflows.stop_job(job_id, job.generation, "STOPPED")
        with self._lock:
            self._jobs.pop(job_id, None)
            self._lock.notify_all()
        self.late.forget(job_id)

    def suspend(self, job_id: str, generation: int) -> None:
        """Stop the tasks of a job that is deployed anew, which FLUSH waits for, or that goes on being paused."""
        with self._lock:
            job = self._jobs.get(job_id)
            paused = job is not None and job.paused
            if job is not None and _is_of(job.state, generation):
                self._recovering(job)
                job.restarts.append(time.monotonic())
        self.stop_tasks(job_id, generation)
        self.record(job_id, generation, "STOPPED" if paused else "RECOVERING", None)

    def mark_recovering(self, job_id: str) -> None:
        """Say that a job is about to be stopped and deployed anew."""
        with self._lock:
            job = self._jobs.get(job_id)
            if job is not None:
                self._recovering(job)

    def put_off(self, job_id: str) -> None:
        """Say that a job is to be recovered later, which has not come to a new attempt: it counts for none."""
        with self._lock:
            job = self._jobs.get(job_id)
            if job is not None:
                self._recovering(job)
                del job.restarts[-1:]

    def _recovering(self, job: Job) -> None:
        job.recovering = not job.paused
        if job.state is not None:
            job.state.phase = JobPhase.RECOVERING
        self._lock.notify_all()

    def require_agents(self) -> list[Agent]:
        """Return the agents that take tasks.

        Raises
        ------
        JobError
            There is none.
        """
        agents = [a for a in self._agents() if a.state == "UP"]
        if not agents:
            text = "no agent is up"
            hint = "start one with sabotd agent --join, or wait for one that is coming back"
            raise JobError(text, hint=hint, sqlstate=NO_AGENT, retryable=True)
        return agents

    def give_up(self, job_id: str, reason: str) -> None:
        """Fail a job that cannot be deployed."""
        with self._lock:
            job = self._jobs.get(job_id)
            if job is None:
                return
            if job.state is None:
                job.state = self._new_state(job, job.generation)
            job.state.phase = JobPhase.FAILED
            job.state.error = reason
            job.recovering = False
            self._lock.notify_all()
        log.error("job %s failed: %s", job_id, reason)
        self.stop_tasks(job_id, job.generation)
        self.record(job_id, job.generation, "FAILED", reason)

    # -- pause

    def pause(self, job_id: str) -> None:
        """Have a job's sources read nothing more."""
        self._workflows.pause(job_id, self._tables.next_change())

    def unpause(self, job_id: str) -> None:
        """Have a paused job go on; one that has lost its tasks meanwhile begins anew."""
        self._workflows.resume(job_id, self._tables.next_change())

    def desire(self, job_id: str, desired: str) -> None:
        """Write down whether a job is to be running or paused."""
        self._tables.desire(job_id, desired)

    def pause_sources(self, job_id: str) -> None:
        """Have the job's sources read nothing more."""
        self.pauses.pause_sources(job_id)

    def resume_sources(self, job_id: str) -> bool:
        """Have a paused job's sources go on; False if the job has no tasks that could."""
        return self.pauses.resume_sources(job_id)

    def jobs(self) -> list[Job]:
        """Return the jobs in the order of their creation."""
        with self._lock:
            return list(self._jobs.values())

    def job(self, job_id: str) -> Job | None:
        """Return one job."""
        with self._lock:
            return self._jobs.get(job_id)

    # -- what the durable workflows do (ClusterActions)

    def place(self, job_id: str, generation: int) -> dict[str, str]:
        """Spread the tasks of each operator over the agents' slots; pinned ones go to the daemon's own agent."""
        job = self._known(job_id)
        agents = self.require_agents()
        taken = self.slots_used(but=job_id)
        slots = [AgentSlots(a.agent_id, a.slots, taken[a.agent_id]) for a in agents]
        placement = place_tasks(job.spec.tasks, slots, self._own.agent_id)
        locations = {a.agent_id: a.location for a in (self._own, *agents)}
        with self._lock:
            if job.generation > generation:
                text = f"attempt {generation} of job {job_id!r} has been overtaken by {job.generation}"
                raise JobError(text)
            job.generation = generation
            job.placement = placement
            job.shuffles.reinitialize(generation)
            job.shuffles.set_task_locations(placement, locations)
            used = [a for a in agents if a.agent_id in set(placement.values())]
            job.shuffles.hold = None if _writes_a_table(job.spec) else self._hold_terms(used)
        self._tables.place(job_id, generation, placement)
        return placement

    def _hold_terms(self, used: Sequence[Agent], resume_epoch: int | None = None) -> msg.HoldTerms | None:
        """Return how an attempt outlives the daemon: not if any of its tasks is at an agent that does not."""
        if self._hold_s <= 0 or self._own.location.startswith(UNIX) or not all(a.outlives for a in used):
            return None
        return msg.HoldTerms(self._own.location, self._hold_s, resume_epoch)

    def resume(self, job_id: str) -> bool:
        """Take over an attempt whose tasks outlived a killed daemon; False if it has to be deployed anew.

        Nothing was lost then and nothing begins again: the daemon's own tasks go on where they were, with what they
        had received, and the others notice only that nobody asked for a barrier for a while.
        """
        job = self._known(job_id)
        left = find_left(job.spec, self._tables, self._agents(), self._own.agent_id)
        if left is None:
            return False
        with self._lock:
            job.generation, job.placement, job.early = left.attempt, left.placement, []
            job.state = self._new_state(job, left.attempt)
        try:
            self._take_over(job, job.state, left.agents)
        except SabotError as error:
            log.info("job %s has to begin again: %s", job_id, error.message)
            self._own.call(msg.Cancel(job_id, left.attempt))
            with self._lock:
                job.early = None
            return False
        log.info("job %s goes on where it was", job_id)
        return True

    def has_finished(self, job_id: str) -> bool:
        """Whether a daemon before this one saw the job's end; then it is known as finished from now on."""
        job = self._known(job_id)
        attempt = self._tables.finished_attempt(job_id)
        if attempt is None:
            return False
        with self._lock:
            job.generation = attempt
            job.state = self._new_state(job, attempt)
            job.state.phase = JobPhase.FINISHED
        return True

    def _take_over(self, job: Job, state: JobState, used: Sequence[Agent]) -> None:
        job_id, attempt = job.spec.job_id, job.generation
        own = [t for t in job.spec.tasks if job.placement[t.task_id] == self._own.agent_id]
        command = msg.TakeOver(job_id, attempt, self._own.location)
        tasks, completed = gather(command, used, self._left_here(job_id, attempt, own), state.terminals)
        with self._lock:
            job.shuffles.reinitialize(attempt)
            job.shuffles.set_task_locations(job.placement, {a.agent_id: a.location for a in (self._own, *used)})
            job.shuffles.hold = self._hold_terms(used, completed)
            commands = job.shuffles.commands()
        if own:
            self._own.call(commands[self._own.agent_id])
            self._own.call(msg.Deploy(job_id, attempt, tuple(own), job.shuffles.edges_at(self._own.agent_id)))
        with self._lock:
            now = time.monotonic()
            job.started = dt.datetime.now(dt.UTC).isoformat(sep=" ", timespec="seconds")
            self._carry_out(job, state.resume(tasks, completed, now))
            early, job.early = job.early or [], None
            for report in early:
                self._take(report, now)
            self._lock.notify_all()
        self._inbox.put(_NUDGE)

    def slots_used(self, *, but: str = "") -> Counter[str]:
        """Return how many slots of each agent are taken, by all jobs but one."""
        used: Counter[str] = Counter()
        with self._lock:
            for job in self._jobs.values():
                if job.spec.job_id != but and (job.has_tasks or job.phase == "DEPLOYING"):
                    used.update(slots_used(job.spec.tasks, job.placement))
        return used

    def register_shuffles(self, job_id: str, generation: int) -> None:
        """Make the job's edges known to every agent that has tasks of it, before the first task starts."""
        shuffles = self._present(job_id, generation)
        shuffles.register_shuffles_with_agents({a.agent_id: a for a in (self._own, *self._agents())})

    def start_tasks(self, job_id: str, generation: int, agent_id: str) -> None:
        """Deploy the tasks placed on `agent_id`."""
        shuffles = self._present(job_id, generation)
        tasks, edges = shuffles.tasks_at(agent_id), shuffles.edges_at(agent_id)
        self._agent(agent_id).call(msg.Deploy(job_id, generation, tasks, edges))

    def _present(self, job_id: str, generation: int) -> ShuffleCoordinator:
        """Return the shuffles of an attempt, and have its state; JobError if it is not the present one."""
        job = self._known(job_id)
        with self._lock:
            if job.generation > generation:
                text = f"attempt {generation} of job {job_id!r} has been overtaken by {job.generation}"
                raise JobError(text)
            if job.generation < generation:
                text = f"attempt {generation} of job {job_id!r} was placed by another daemon"
                raise ForgottenAttemptError(text)
            if job.state is None or job.state.attempt != generation:
                job.state = self._new_state(job, generation)
            return copy.copy(job.shuffles)

    def shuffle_metrics(self) -> list[tuple[str, ShuffleMetrics]]:
        """Return the figures of every edge, with its job's id; without the part of an agent that does not answer."""
        figures: list[dict[str, object]] = []
        for agent in (self._own, *self._agents()):
            try:
                figures += agent.metrics()
            except ShuffleError as error:
                log.info("agent %s tells no figures: %s", agent.agent_id, error.message)
        with self._lock:
            return [
                (job.spec.job_id, metrics)
                for job in self._jobs.values()
                for metrics in job.shuffles.get_shuffle_metrics(figures).values()
            ]

    def begin(self, job_id: str, generation: int) -> None:
        """Let barriers flow."""
        with self._lock:
            job = self._jobs.get(job_id)
            if job is not None and job.generation < generation:
                text = f"attempt {generation} of job {job_id!r} was placed by another daemon"
                raise ForgottenAttemptError(text)
            if job is None or job.state is None or job.state.attempt != generation:
                return
            if job.state.phase is not JobPhase.DEPLOYING:
                return
            job.started = dt.datetime.now(dt.UTC).isoformat(sep=" ", timespec="seconds")
            if job.recovering:
                log.info("job %s runs again", job_id)
            job.recovering = False
            self._carry_out(job, job.state.begin(time.monotonic()))
            self._lock.notify_all()
        self._inbox.put(_NUDGE)

    def stop_tasks(self, job_id: str, generation: int) -> None:
        """Cancel the job everywhere, up to `generation`."""
        with self._lock:
            job = self._jobs.get(job_id)
            live = (JobPhase.RUNNING, JobPhase.DEPLOYING)
            if job is not None and _is_of(job.state, generation) and job.state.phase in live:
                job.state.phase = JobPhase.STOPPED
        for halt in (True, False):
            for agent in [self._own, *self._agents()]:
                self._cancel(agent, msg.Cancel(job_id, generation, halt=halt))

    def _cancel(self, agent: Agent, command: msg.Cancel) -> None:
        """Have an agent stop tasks; one out of reach is dead soon, or hears it when it is back (`reconcile`)."""
        if agent.state not in REACHED:
            return
        try:
            agent.call(command)
        except ShuffleError as error:
            log.info("agent %s was not told to stop job %s: %s", agent.agent_id, command.job_id, error.message)

    def reconcile(self, agent: Agent, running: Mapping[str, int]) -> None:
        """Compare what an agent says it runs with what it should; an attempt that has been overtaken is stopped."""
        with self._lock:
            stale = [
                (job_id, attempt)
                for job_id, attempt in running.items()
                if (job := self._jobs.get(job_id)) is None or attempt < job.generation
            ]
        for job_id, attempt in stale:
            agent.post(msg.Cancel(job_id, attempt))

    def halt(self) -> bool:
        """Have all tasks leave quietly that do not outlive the daemon, which stops; True if there are others."""
        with self._lock:
            live = [j for j in self._jobs.values() if j.has_tasks]
            jobs = [(j.spec.job_id, j.generation) for j in live if j.shuffles.hold is None]
        for agent in [self._own, *self._agents()]:
            for job_id, generation in jobs:
                self._cancel(agent, msg.Cancel(job_id, generation, halt=True))
        return len(live) > len(jobs)

    def record(self, job_id: str, generation: int, state: str, error: str | None) -> None:
        """Write the state down."""
        with self._lock:
            job = self._jobs.get(job_id)
            if job is not None and _is_of(job.state, generation) and state == "FAILED":
                job.state.phase = JobPhase.FAILED
                job.state.error = error
        self._tables.set_state(job_id, generation, state, error)

    def _known(self, job_id: str) -> Job:
        with self._lock:
            job = self._jobs.get(job_id)
        if job is None:
            text = f"job {job_id!r} is not there any more"
            raise JobError(text)
        return job

    def _agent(self, agent_id: str) -> Agent:
        if agent_id == self._own.agent_id:
            return self._own
        for agent in self._agents():
            if agent.agent_id == agent_id:
                return agent
        text = f"agent {agent_id!r} is not there any more"
        raise JobError(text)

    def _post_to_sources(self, job: Job, state: JobState, command: msg.InjectBarrier | msg.Fence) -> None:
        """Send a command to the agents of the job's source tasks."""
        for agent in self._agents_of_sources(job, state):
            agent.post(command)

    def _agents_of_sources(self, job: Job, state: JobState) -> list[Agent]:
        """Return the agents of the job's source tasks; one that is gone is being recovered from."""
        present = {a.agent_id: a for a in (self._own, *self._agents())}
        return [present[a] for a in sorted({job.placement[t] for t in state.sources}) if a in present]

    def _new_state(self, job: Job, generation: int) -> JobState:
        sources: dict[str, list[str]] = {}
        for task in job.spec.tasks:
            relations = [n.op.relation for n in task.nodes if isinstance(n.op, SourceOp | LogSourceOp)]
            if relations:
                sources[task.task_id] = relations
        terminals = frozenset(t.task_id for t in job.spec.tasks if not t.outputs)
        clocked = any(isinstance(n.op, TemporalFilterOp) for task in job.spec.tasks for n in task.nodes)
        return JobState(
            job.spec.job_id,
            generation,
            sources,
            terminals,
            self._interval_s,
            self._wall_us,
            self._clock_s if clocked else None,
            job.state.now_us if job.state is not None else 0,
        )

    # -- reports and timers

    def report(self, reports: Sequence[msg.Report]) -> None:
        """Take reports of an agent, in order; from any thread."""
        for report in reports:
            if isinstance(report, msg.BadRecordReport):
                self._on_bad_records(error_rows(report))  # not on the coordinator's thread, which has no time
            elif isinstance(report, msg.LateReport) and report.rows:
                self.late.add(report.job_id, report.attempt, report.rows)
            self._inbox.put(report)

    def agent_lost(self, agent_id: str, reason: str) -> None:
        """Have the jobs recovered that had tasks on a dead agent."""
        with self._lock:
            hit = [j for j in self._jobs.values() if agent_id in j.placement.values()]
        for job in hit:
            error = ShuffleError(f"agent {agent_id!r} was lost ({reason})")
            task = next(t for t, a in job.placement.items() if a == agent_id)
            self._inbox.put(msg.TaskFailed(job.spec.job_id, job.generation, task, error.to_wire()))

    def _run(self) -> None:
        timers: list[tuple[float, str]] = []
        while True:
            wait_s = max(0.0, timers[0][0] - time.monotonic()) if timers else None
            try:
                report = self._inbox.get(timeout=wait_s)
            except queue.Empty:
                report = _NUDGE
            if report is None:
                return
            now = time.monotonic()
            with self._lock:
                if report is not _NUDGE:
                    self._take(report, now)
                while timers and timers[0][0] <= now:
                    _, job_id = heapq.heappop(timers)
                    job = self._jobs.get(job_id)
                    if job is not None and job.state is not None:
                        self._carry_out(job, job.state.tick(now))
                waiting = {job_id for _, job_id in timers}
                for job_id, job in self._jobs.items():
                    if job_id not in waiting and job.state is not None and (due := job.state.due()) is not None:
                        heapq.heappush(timers, (due, job_id))

    def _take(self, report: msg.Report, now: float) -> None:
        job = self._jobs.get(report.job_id)
        if job is None or job.state is None:
            return
        if job.early is not None:
            job.early.append(report)
            return
        self._carry_out(job, job.state.report(report, now))
        if isinstance(report, msg.FenceReached):
            self._lock.notify_all()

    def _carry_out(self, job: Job, instructions: Sequence[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case Inject(barrier=barrier):
                    assert job.state is not None
                    self._post_to_sources(job, job.state, barrier)
                case Completed():
                    self._lock.notify_all()
                case Finished():
                    log.info("job %s has finished", job.spec.job_id)
                    self._stop_later(job, "FINISHED")
                    self._lock.notify_all()
                case Broken(error=error):
                    log.warning("job %s is to be recovered: %s", job.spec.job_id, error["message"])
                    self._on_broken(job.spec.job_id)
                case Failed(error=error):
                    log.error("job %s failed: %s", job.spec.job_id, error["message"])
                    self._stop_later(job, "FAILED", str(error["message"]))
                    self._lock.notify_all()

    def _stop_later(self, job: Job, state: str, error: str | None = None) -> None:
        """Run the stop workflow beside: this thread never waits for an agent."""
        job_id = job.spec.job_id

        def told(future: Future[None]) -> None:
            if not future.cancelled() and (problem := future.exception()) is not None:
                log.error("job %s is %s, but its tasks could not all be stopped: %s", job_id, state.lower(), problem)

        self._stopper.submit(self._workflows.stop_job, job_id, job.generation, state, error).add_done_callback(told)


_NUDGE = msg.SourceDirty("", -1, "")
"""Wakes the coordinator's thread to look at its timers."""


def _writes_a_table(spec: JobSpec) -> bool:
    """Whether a sink of the job writes into a table: it compares what it wrote rather than go on where it was."""
    return any(isinstance(node.op, TableSinkOp) for task in spec.tasks for node in task.nodes)


def _is_of(state: JobState | None, generation: int) -> TypeGuard[JobState]:
    """Whether the state is of this attempt or an older one: a workflow that comes late says nothing of a newer."""
    return state is not None and state.attempt <= generation
