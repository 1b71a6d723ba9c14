"""The running system in one object: store, catalog, agents, coordinator. Sessions stand on it."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb
import psutil

from cython_shuffle.transport import ClientPool, FlightEndpoint
from sabot import __version__
from sabot.errors import ClientError, ConfigError, JobError, SabotError, ShuffleError
from sabotd.agent import messages as msg
from sabotd.agent.runtime import AgentRuntime
from sabotd.catalog_store import CatalogObject, CatalogStore
from sabotd.config import Config
from sabotd.control.agents import Agent, AgentSettings, ChildAgents, LocalAgent
from sabotd.control.coordinator import Coordinator
from sabotd.control.jobs import Job
from sabotd.control.members import Member, MemberTable
from sabotd.control.remote_agents import RemoteAgents
from sabotd.control.roster import Roster
from sabotd.control.sole_daemon import SoleDaemon
from sabotd.control.tables import ControlTables, open_engine
from sabotd.control.workflows import Workflows
from sabotd.ddl import Definitions
from sabotd.defining import Defining
from sabotd.graphs import python_refusal
from sabotd.recovery import Recovery
from sabotd.security import load_security, require_for
from sabotd.state.pinned import StorePinned
from sabotd.state.store import Store

log = logging.getLogger("sabot.cluster")

OWN_AGENT = "sabotd"
_CALL_BACK_S = 5.0
_SETTLE_S = 0.5
"""How often it is looked whether a sink into a table can go on."""
_SOCKET_FOLDER = re.compile(r"[\w/.~-]{1,80}", re.ASCII)
"""Sockets have a length limit of about a hundred characters, and stand in addresses; a data folder may be anything."""


class Cluster:
    """Opens the data folder, starts the agents and brings back what the tables hold.

    Parameters
    ----------
    config : Config
    data_dir : Path
        Made if it is not there.

    Raises
    ------
    ConfigError
        The folder cannot be written, or another sabotd runs on it.
    """

    def __init__(self, config: Config, data_dir: Path) -> None:
        self.config = config
        self._data_dir = data_dir
        self._lock_file = _lock(data_dir)
        scratch = data_dir / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        self._scratch = scratch
        state_dir = Path(config.agents.state_dir).absolute() / "sabot-state" if config.agents.state_dir else scratch
        if state_dir != scratch:
            shutil.rmtree(state_dir, ignore_errors=True)
            state_dir.mkdir(parents=True)
        self._state_dir = state_dir
        fits = _SOCKET_FOLDER.fullmatch(str(scratch)) is not None
        self._run_dir = scratch if fits else Path(tempfile.mkdtemp(prefix="sabot-"))
        count = config.agents.resolved_count()
        machine_mb = psutil.virtual_memory().total >> 20
        agent_mb = (config.agents.memory_limit_bytes >> 20) or max(512, machine_mb // 2 // max(1, count))
        self.store = Store(
            data_dir, scratch, memory_limit_mb=max(512, machine_mb // 4), threads=len(os.sched_getaffinity(0))
        )
        self.catalog = CatalogStore()
        engine, url = open_engine(config.control.database, data_dir)
        self._engine = engine
        self._sole = SoleDaemon(engine.url, str(data_dir), _end_at_once)
        self._sole.take()
        self._workflows = Workflows(engine, url)
        self._tables = ControlTables(engine)
        agents = config.agents
        security = load_security(agents.token_file, agents.certificate_file, agents.key_file, agents.ca_file)
        require_for(agents.listen or "grpc+unix:", security)
        listen = agents.listen or f"grpc+unix://{self._run_dir / 'sabotd.sock'}"
        self._endpoint = FlightEndpoint(listen, name=OWN_AGENT, security=security, compression=agents.compression)
        self._clients = ClientPool(security)
        self._runtime = AgentRuntime(
            OWN_AGENT,
            self._endpoint,
            pool_bytes=config.agents.pool_bytes,
            state_dir=state_dir / "own.state",
            memory_mb=agent_mb,
            spill_bytes=config.agents.spill_limit_bytes,
            idle_timeout_s=config.streaming.idle_timeout_s,
            report=self._report,
            pinned=StorePinned(self.store),
            held_dir=data_dir / "held",
        )
        self.own_agent: Agent = LocalAgent(self._runtime)
        self._children = ChildAgents(
            self._run_dir,
            state_dir,
            lambda: self._endpoint.location,
            AgentSettings(
                config.agents.pool_bytes,
                config.agents.resolved_slots(),
                agent_mb,
                config.streaming.idle_timeout_s,
                config.log.level,
                config.log.format,
                agents,
            ),
            self._clients,
            on_lost=self._on_lost,
            on_running=self._on_running,
        )
        self._member_table = MemberTable(engine)
        self._remote = RemoteAgents(self._member_table, self._clients, self._on_lost, self._on_running)
        self._roster = Roster(self._children, self._remote)
        self._ddl_lock = threading.RLock()
        self._recovery = Recovery(self.catalog, self.store, self._roster, self._tables, self._workflows, self._ddl_lock)
        self.coordinator = Coordinator(
            self._tables,
            self._workflows,
            self.agents,
            self.own_agent,
            left_here=self._runtime.left_here,
            hold_s=agents.hold_s,
            interval_s=config.streaming.barrier_interval_s,
            clock_s=config.streaming.clock_interval_s,
            on_bad_records=self.store.add_errors,
            on_broken=self._recovery.broken,
        )
        self.definitions = Definitions(
            self.catalog,
            self.store,
            self._tables,
            self.coordinator,
            self._ddl_lock,
            Defining(self.catalog, self.store, python_refusal(config)),
        )
        self._count = count
        self._opened = threading.Event()
        self._closing = False
        self._stopping = threading.Event()
        self._settling = threading.Thread(target=self._settle_sinks, name="settle sinks", daemon=True)

    def start(self) -> None:
        """Start agents, resume what a dead daemon left, redeploy the jobs."""
        self._endpoint.register_action("report", self._take_reports)
        self._endpoint.register_action("hello", self._greet)
        self._endpoint.start()
        self._runtime.start()
        self._children.start(self._count)
        self._member_table.announce(__version__, self._endpoint.location)
        self._remote.start()
        self.coordinator.start()
        self._recovery.start(self.coordinator)
        with self._ddl_lock:
            self._restore()
            self._workflows.start(self.coordinator, self._recovery)
            self._workflows.await_start()
            self._go_on()
        self.store.release_logs()
        self._runtime.sweep()
        self._opened.set()
        self._settling.start()

    def _go_on(self) -> None:
        """Have every job run that is to; what a dead daemon had begun has been finished by now."""
        jobs = {j.spec.job_id: j for j in self.coordinator.jobs()}
        emptied: set[str] = set()  # relations whose rows begin anew
        anew = []
        for obj in self.catalog.all():  # in order of creation
            rereads = bool(obj.reads & emptied)
            job = jobs.get(obj.job_id) if obj.job_id is not None else None
            if job is not None and not self._goes_on(job, rereads=rereads):
                anew.append(job)
                rereads = True
            if rereads:
                emptied.add(obj.key)
        # readers stop before what they read is emptied: one that a finished workflow deployed would fail by it
        for job in reversed(anew):
            if job.has_tasks:
                self.coordinator.suspend(job.spec.job_id, job.generation)
        for job in anew:
            if not job.paused:
                self._begin_again(job.spec.job_id)

    def _goes_on(self, job: Job, *, rereads: bool) -> bool:
        """Whether a job needs no new attempt: it is over, runs already, or its tasks outlived the daemon before.

        Parameters
        ----------
        rereads : bool
            What it reads begins again, and so it has to, unless it is over.
        """
        if job.phase == "FINISHED" or self._is_over(job.spec.job_id):
            return True
        if rereads:
            return False
        if job.has_tasks:
            return True
        if not self.coordinator.resume(job.spec.job_id):
            return False
        if job.paused:
            self.coordinator.pause_sources(job.spec.job_id)
        return True

    def _is_over(self, job_id: str) -> bool:
        """Whether a job has finished and its result is there: a sink's always, a view's if its rows are on disk."""
        views = [o.key for o in self.catalog.all() if o.job_id == job_id and o.kind == "materialized view"]
        if any(self.store.resumes(name) is None for name in views) or not self.coordinator.has_finished(job_id):
            return False
        for name in views:
            self.store.finish(name)
        return True

    def _begin_again(self, job_id: str) -> None:
        for obj in self.catalog.all():
            if obj.job_id == job_id and obj.kind == "materialized view":
                self.store.reset(obj.key)
        try:
            self.coordinator.deploy(job_id)
        except (ShuffleError, JobError) as error:
            if not error.retryable:
                self.coordinator.give_up(job_id, f"cannot be started again: {error.message}")
                return
            # an agent that died with the daemon before counts as there until its silence is noticed; or none is there
            log.warning("job %s is to be recovered: %s", job_id, error.message)
            self.coordinator.mark_recovering(job_id)
            self._recovery.broken(job_id)
        except SabotError as error:
            self.coordinator.give_up(job_id, f"cannot be started again: {error.message}")

    def await_start(self) -> None:
        """Wait until the catalog is back; statements before that would see half of it.

        Raises
        ------
        ClientError
            The daemon stops before it has started.
        """
        self._opened.wait()
        if self._closing:
            text = "the server is shutting down"
            raise ClientError(text, sqlstate="57P01")

    def _restore(self) -> None:
        rows = self._tables.all_objects()
        self.store.drop_unknown_tables([r.name for r in rows if r.kind in ("table", "materialized view")])
        self.store.sinks.forget_unknown([r.name for r in rows if r.kind == "sink"])
        paused = self._tables.paused_jobs()
        for row in rows:
            try:
                self.definitions.restore(row, paused)
            except SabotError as error:
                # one object that does not come back (a topic that is gone) must not keep the rest down
                log.error("%s %s cannot be restored: %s", row.kind, row.name, error.message)  # noqa: TRY400
                self.definitions.keep_broken(row, error.message)

    def _on_lost(self, agent_id: str, reason: str) -> None:
        self.coordinator.agent_lost(agent_id, reason)

    def _on_running(self, agent: Agent, running: Mapping[str, int]) -> None:
        if self._opened.is_set():  # before that, what outlived the daemon before this one is still to be taken over
            self.coordinator.reconcile(agent, running)

    def _report(self, report: msg.Report) -> None:
        self.coordinator.report((report,))

    def _take_reports(self, body: bytes) -> bytes:
        self.coordinator.report(msg.REPORTS.decode(body).reports)
        return b""

    def _greet(self, body: bytes) -> bytes:
        """Call an agent back that wants to join, where it says that it is."""
        location = body.decode()
        try:
            self._clients.call_action(location, "ping", b"", _CALL_BACK_S)
        except ShuffleError as error:
            if error.retryable:  # perhaps only not yet: where one died at this address, the channel waits to try again
                log.warning("an agent that joins does not answer yet: %s", error.message)
                return b""
            text = f"sabotd cannot call the agent at {location!r} back: {error.message}"
            raise ConfigError(text, hint=error.hint) from error
        return b""

    def stop(self, timeout_s: float = 8.0) -> None:
        """Stop everything; tables and the catalog are on disk.

        Jobs whose tasks elsewhere wait for the next daemon are left as they are: the process has to end then, for they
        notice no more of it than of a kill. An orderly end would be told to their peers as the end of the job.
        """
        self._closing = True
        self._stopping.set()
        self._opened.set()
        left = False
        try:
            left = self.coordinator.halt()
        except SabotError as error:  # an agent that hangs is killed below
            log.warning("an agent does not answer: %s", error.message)
        self._recovery.stop()
        if self._settling.is_alive():
            self._settling.join()
        self.coordinator.stop()
        self._workflows.stop()
        self._children.stop(timeout_s)
        self._remote.stop()
        if left:
            log.info("jobs at agents elsewhere wait %g s for the next sabotd", self.config.agents.hold_s)
            self._sole.release()
            return
        self._runtime.stop()
        self._endpoint.stop()
        self._clients.close()
        self.store.close()
        self._engine.dispose()
        self._sole.release()
        for folder in (self._run_dir, self._state_dir, self._scratch):
            shutil.rmtree(folder, ignore_errors=True)
        os.close(self._lock_file)

    def agents(self) -> Sequence[Agent]:
        """Return the agents that take tasks."""
        return self._roster.all()

    def member(self, agent_id: str) -> Member | None:
        """Return what an agent that joined from elsewhere said of itself."""
        return self._roster.member(agent_id)

    def workflows(self) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
        """Return the durable workflows that are kept, and their steps."""
        return self._workflows.history()

    def drain(self, agent_id: str) -> bool:
        """Move an agent's tasks to the others and let it go; False if there is no such agent.

        Raises
        ------
        JobError
            There is no other agent to take the tasks.
        """
        agents = {a.agent_id: a for a in self.agents()}
        if agent_id in agents and not any(a.state == "UP" for i, a in agents.items() if i != agent_id):
            text = f"agent {agent_id!r} is the only one that takes tasks"
            raise JobError(text, hint="start another with sabotd agent --join first")
        incarnation = self._roster.incarnation(agent_id)
        return incarnation is not None and self._recovery.drain(agent_id, incarnation)

    def alive(self) -> bool:
        """Whether the coordinator and the store answer: what the watchdog stands for."""
        with self.store.reader() as con:
            con.execute("SELECT 1").fetchall()
        return self.coordinator.alive()

    def flush(self, cancelled: threading.Event) -> list[str]:
        """Wait until all that tables and sources held when this was called is visible in every view and sink.

        Jobs are fenced in the order of their creation: one that reads another's view comes after it. Those that are
        paused are not waited for, and returned.

        Raises
        ------
        JobError
            A job that it waits for has failed.
        """
        self._flush(self.catalog.all(), cancelled)
        return [j.spec.job_id for j in self.coordinator.jobs() if j.phase == "PAUSED"]

    def _flush(self, objects: Sequence[CatalogObject], cancelled: threading.Event) -> None:
        """Fence the jobs of `objects`, and have the sinks among them settle that have now been given everything."""
        waiting = self.store.sinks.waiting()
        for level in self.catalog.levels(objects):
            self.coordinator.fences.await_all([o.job_id for o in level if o.job_id is not None], cancelled)
            for obj in level:
                sink = waiting.get(obj.key)
                if sink is not None and not self._is_held_up(obj):
                    sink.settle()

    def _is_held_up(self, sink: CatalogObject) -> bool:
        """Whether a job that `sink` gets rows from has not been waited for."""
        upstream = {o.job_id for o in self.catalog.upstream([sink.key])}
        return any(j.phase == "PAUSED" for j in self.coordinator.jobs() if j.spec.job_id in upstream)

    def _settle_sinks(self) -> None:
        """Let sinks into tables go on once they are where they were before a restart, or the loss of an agent."""
        self._opened.wait()
        while not self._closing:
            if not self.store.sinks.waits.wait(_SETTLE_S):
                continue
            try:
                self._flush(self.catalog.upstream(list(self.store.sinks.waiting())), self._stopping)
            except (SabotError, duckdb.Error) as error:
                log.warning("sinks into tables go on later: %s", error)
            self._stopping.wait(_SETTLE_S if self.store.sinks.waiting() else 0)


def _end_at_once() -> None:
    """End as a kill would: another sabotd goes on with what this one has begun."""
    logging.shutdown()
    os._exit(1)


def _lock(data_dir: Path) -> int:
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        file = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        text = f"data folder {str(data_dir)!r} cannot be written: {error.strerror}"
        raise ConfigError(text) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(file)
        text = f"another sabotd runs on data folder {str(data_dir)!r}"
        raise ConfigError(text) from error
    return file
