"""The agents as the daemon sees them: its own runtime, and child processes that it starts and watches."""

from __future__ import annotations

import itertools
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from cython_shuffle.transport import ClientPool
from sabot.errors import JobError, SabotError, ShuffleError
from sabotd.agent import messages as msg
from sabotd.agent.runtime import AgentRuntime
from sabotd.config import AgentsConfig

log = logging.getLogger("sabot.agents")

Command = msg.RegisterShuffles | msg.Deploy | msg.Cancel | msg.InjectBarrier | msg.Fence | msg.Pause
_ACTIONS: dict[type, str] = {
    msg.RegisterShuffles: "register_shuffles",
    msg.Deploy: "deploy",
    msg.Cancel: "cancel",
    msg.InjectBarrier: "inject",
    msg.Fence: "fence",
    msg.Pause: "pause",
}


class Agent(Protocol):
    """An agent that takes commands."""

    agent_id: str
    state: str
    pid: int
    outlives: bool
    """Whether it goes on when the daemon is killed."""
    slots: int
    """How many tasks of each operator it is meant for."""

    @property
    def location(self) -> str:
        """Where others pull from."""
        ...

    def take_over(self, command: msg.TakeOver) -> msg.Standing:
        """Ask how the tasks of an attempt stand; raises what the agent raised."""
        ...

    def call(self, command: Command) -> None:
        """Have a command carried out; raises what it raised."""
        ...

    def post(self, command: Command) -> None:
        """Send a command in order with the others posted, without waiting."""
        ...

    def metrics(self) -> list[dict[str, object]]:
        """Return the agent's edge figures."""
        ...

    def conditions(self) -> dict[str, list[str]]:
        """Return per job what its sources and sinks there wait for."""
        ...


def carry_out(runtime: AgentRuntime, command: Command) -> None:
    """Run a command on `runtime`."""
    match command:
        case msg.RegisterShuffles():
            runtime.register_shuffles(command)
        case msg.Deploy():
            runtime.deploy(command)
        case msg.Cancel():
            runtime.cancel(command)
        case msg.InjectBarrier():
            runtime.inject(command)
        case msg.Fence():
            runtime.fence(command)
        case msg.Pause():
            runtime.pause(command)


class LocalAgent:
    """The daemon's own agent: calls go straight to the runtime."""

    def __init__(self, runtime: AgentRuntime) -> None:
        self._runtime = runtime
        self.agent_id = runtime.agent_id
        self.outlives = False
        self.state = "UP"
        self.pid = os.getpid()
        self.slots = 0  # only what is pinned to it runs here

    @property
    def location(self) -> str:
        """Where other agents pull from."""
        return self._runtime.endpoint.location

    def take_over(self, command: msg.TakeOver) -> msg.Standing:
        """Say how the tasks that run here stand."""
        return self._runtime.take_over(command)

    def call(self, command: Command) -> None:
        """Carry a command out here."""
        carry_out(self._runtime, command)

    def post(self, command: Command) -> None:
        """As `call`: barriers and fences only enter a queue."""
        carry_out(self._runtime, command)

    def metrics(self) -> list[dict[str, object]]:
        """Return the runtime's edge figures."""
        return self._runtime.metrics()

    def conditions(self) -> dict[str, list[str]]:
        """Return the runtime's conditions."""
        return self._runtime.conditions()


REACHED = ("UP", "DRAINING")
"""States of an agent that takes commands."""
PING_EVERY_S = 1.0
SILENCE_S = 5.0
"""An agent that has not answered for so long is taken for dead."""


class RemoteAgent:
    """An agent in another process, reached by Flight actions.

    Posted commands go through one thread of their own, so that an agent that does not answer holds up nobody else;
    another asks once a second whether it is there. Who waits for an answer is let go when the agent is lost: of a
    frozen one none comes before the time-out, which is far longer than it takes to know.

    Parameters
    ----------
    on_silent : callable
        Called when the agent has not answered for `SILENCE_S`; again a second later unless it returns True.
    on_running : callable
        Called with the agent and the jobs (with attempt) that it says it runs, at every answer.
    """

    def __init__(
        self,
        agent_id: str,
        location: str,
        pid: int,
        slots: int,
        clients: ClientPool,
        on_silent: Callable[[], bool],
        on_running: Callable[[Agent, Mapping[str, int]], None],
        *,
        outlives: bool = False,
    ) -> None:
        self.agent_id = agent_id
        self.outlives = outlives
        self._location = location
        self.pid = pid
        self.slots = slots
        self.state = "UP"
        self._clients = clients
        self._posted: queue.SimpleQueue[Command | None] = queue.SimpleQueue()
        self._on_silent = on_silent
        self._on_running = on_running
        self._closing = threading.Event()
        self._lost: Future[None] = Future()
        self._threads = [
            threading.Thread(target=self._send, name=f"link {agent_id}", daemon=True),
            threading.Thread(target=self._ping, name=f"ping {agent_id}", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def location(self) -> str:
        """Where others pull from."""
        return self._location

    def call(self, command: Command) -> None:
        """Send a command and wait until it has been carried out, or the agent is lost."""
        done: Future[None] = Future()
        threading.Thread(target=self._call_for, args=(command, done), name=f"call {self.agent_id}", daemon=True).start()
        wait((done, self._lost), return_when=FIRST_COMPLETED)
        if not done.done():
            raise self._gone()
        done.result()

    def _call_for(self, command: Command, done: Future[None]) -> None:
        try:
            self._call(command)
        except BaseException as error:  # noqa: BLE001  raised again by the thread that waits
            done.set_exception(error)
        else:
            done.set_result(None)

    def _call(self, command: Command) -> None:
        if self.state not in REACHED:
            raise self._gone()
        self._clients.call_action(self.location, _ACTIONS[type(command)], msgspec.json.encode(command), 30.0)

    def _gone(self) -> ShuffleError:
        return ShuffleError(f"agent {self.agent_id!r} is {self.state.lower()}", retryable=True)

    def take_over(self, command: msg.TakeOver) -> msg.Standing:
        """Ask how the tasks of an attempt stand."""
        body = self._clients.call_action(self.location, "take_over", msgspec.json.encode(command), 10.0)
        return msg.STANDING.decode(body)

    def post(self, command: Command) -> None:
        """Queue a command."""
        self._posted.put(command)

    def _send(self) -> None:
        while (command := self._posted.get()) is not None:
            try:
                self._call(command)
            except SabotError as error:
                # a dead agent is noticed by its watcher, which fails its jobs
                log.debug("agent %s did not take %s: %s", self.agent_id, type(command).__name__, error)

    def _ping(self) -> None:
        heard = time.monotonic()
        while not self._closing.wait(PING_EVERY_S):
            try:
                answer = self._clients.call_action(self._location, "ping", b"", 2 * PING_EVERY_S)
                heard = time.monotonic()
                self._on_running(self, msgspec.json.decode(answer, type=dict[str, int]))
            except SabotError:
                silent = time.monotonic() - heard > SILENCE_S and not self._closing.is_set()
                if silent and self._on_silent():
                    return

    def metrics(self) -> list[dict[str, object]]:
        """Ask for the agent's edge figures; none of one that is out of reach, which its watcher notices."""
        body = self._ask("metrics")
        return msgspec.json.decode(body, type=list[dict[str, object]]) if body is not None else []

    def conditions(self) -> dict[str, list[str]]:
        """Ask for the agent's conditions; as `metrics`."""
        body = self._ask("conditions")
        return msgspec.json.decode(body, type=dict[str, list[str]]) if body is not None else {}

    def _ask(self, what: str) -> bytes | None:
        if self.state not in REACHED:
            return None
        try:
            return self._clients.call_action(self.location, what, b"", 5.0)
        except ShuffleError as error:
            if not error.retryable:
                raise
            log.info("agent %s does not tell its %s: %s", self.agent_id, what, error.message)
            return None

    def expect_end(self) -> None:
        """Ask no more whether it is there: it is about to end."""
        self._closing.set()

    def lose(self) -> None:
        """Take the agent for dead: its threads end when they can, and nobody waits for it or for them any more."""
        self.state = "LOST"
        self._closing.set()
        self._posted.put(None)
        if not self._lost.done():
            self._lost.set_result(None)

    def close(self) -> None:
        """End the threads, and wait for it."""
        self._closing.set()
        self._posted.put(None)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()


@dataclass(frozen=True)
class AgentSettings:
    """What a child process is told on its command line."""

    pool_bytes: int
    slots: int
    memory_mb: int
    idle_timeout_s: float
    log_level: str
    log_format: str
    config: AgentsConfig
    """Where agents listen, and the files of their token and certificates."""


class ChildAgents:
    """Starts agent processes, restarts those that die, and ends them.

    Parameters
    ----------
    run_dir, scratch_dir : Path
        For the agents' Unix sockets, and for the state of their tasks.
    coordinator : callable
        Returns the location for their reports.
    on_lost : callable
        Called with (agent id, reason) once for each that died unasked.
    """

    def __init__(
        self,
        run_dir: Path,
        scratch_dir: Path,
        coordinator: Callable[[], str],
        settings: AgentSettings,
        clients: ClientPool,
        on_lost: Callable[[str, str], None],
        on_running: Callable[[Agent, Mapping[str, int]], None],
    ) -> None:
        self._run_dir = run_dir
        self._scratch_dir = scratch_dir
        self._coordinator = coordinator
        self._settings = settings
        self._clients = clients
        self._on_lost = on_lost
        self._on_running = on_running
        self._lock = threading.Lock()
        self._agents: dict[str, RemoteAgent] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._watchers: dict[str, threading.Thread] = {}
        self._stopping = threading.Event()
        self._leaving: set[str] = set()
        self._incarnations = itertools.count(1)
        self._run = uuid.uuid4().hex  # tells this daemon's agents from those of the one before

    def start(self, count: int) -> None:
        """Start agents ``a1`` to ``a<count>``, all at once, and wait until they take commands."""
        threads = [threading.Thread(target=self._start_one, args=(f"a{i + 1}",)) for i in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if len(self._agents) < count:
            text = f"only {len(self._agents)} of {count} agents came up; their words are in the log above"
            raise JobError(text)

    def _start_one(self, agent_id: str) -> None:
        # a new address each time: nobody mistakes a new process for the one that died
        listen = f"grpc+unix://{self._run_dir / f'{agent_id}-{next(self._incarnations)}.sock'}"
        if self._settings.config.listen:
            # agents on other machines pull from this one: its host, a port that is free
            listen = self._settings.config.listen.rsplit(":", 1)[0] + ":0"
        ready_in, ready_out = os.pipe()
        settings = self._settings
        command = [
            sys.executable, "-m", "sabotd", "agent",
            "--id", agent_id,
            "--listen", listen,
            "--coordinator", self._coordinator(),
            "--state-dir", str(self._scratch_dir / f"{agent_id}.state"),
            "--pool-bytes", str(settings.pool_bytes),
            "--memory-mb", str(settings.memory_mb),
            "--spill-bytes", str(settings.config.spill_limit_bytes),
            "--idle-timeout", str(settings.idle_timeout_s),
            "--log-level", settings.log_level,
            "--log-format", settings.log_format,
            "--token-file", settings.config.token_file,
            "--certificate-file", settings.config.certificate_file,
            "--key-file", settings.config.key_file,
            "--ca-file", settings.config.ca_file,
            "--compression", settings.config.compression,
            "--ready-fd", str(ready_out),
        ]  # fmt: skip
        with self._lock:  # whoever stops all of them sees this one too, or it is not started
            if self._stopping.is_set():
                os.close(ready_in)
                os.close(ready_out)
                return
            process = self._processes[agent_id] = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,  # its end of file tells the agent that the daemon is gone
                stdout=sys.stderr,
                pass_fds=(ready_out,),
            )
        os.close(ready_out)
        with os.fdopen(ready_in, "rb") as pipe:
            line = pipe.readline()
        if self._stopping.is_set():
            return  # it has been told to end
        if not line:
            process.wait()
            log.error("agent %s ended at start with status %s", agent_id, process.returncode)
            return
        location = line.decode().strip()

        def silent() -> bool:
            # stopped or hanging: the same as dead, and made so, that it never comes back with an old attempt
            log.error("agent %s (pid %s) has not answered for %s s; killed", agent_id, process.pid, SILENCE_S)
            process.kill()
            return True

        agent = RemoteAgent(agent_id, location, process.pid, settings.slots, self._clients, silent, self._on_running)
        watcher = threading.Thread(target=self._watch, args=(agent, process), name=f"watch {agent_id}", daemon=True)
        with self._lock:
            if not self._stopping.is_set():
                self._agents[agent_id] = agent
                self._watchers[agent_id] = watcher
                watcher.start()
                return
        agent.close()

    def _watch(self, agent: RemoteAgent, process: subprocess.Popen[bytes]) -> None:
        status = process.wait()
        with self._lock:
            if self._stopping.is_set():
                return
            leaving = agent.agent_id in self._leaving
            if leaving:
                agent.state = "LEFT"
                del self._agents[agent.agent_id]
                del self._processes[agent.agent_id]
            else:
                agent.lose()
        if leaving:
            log.info("agent %s was let go", agent.agent_id)
            agent.close()
            return
        reason = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
        log.error("agent %s (pid %s) died with %s", agent.agent_id, process.pid, reason)
        if process.stdin is not None:
            process.stdin.close()
        self._on_lost(agent.agent_id, reason)
        if not self._stopping.is_set():
            self._start_one(agent.agent_id)

    def incarnation(self, agent_id: str) -> str | None:
        """Return what tells this start of the agent from all others."""
        with self._lock:
            return self._incarnation_of(agent_id)

    def _incarnation_of(self, agent_id: str) -> str | None:
        agent = self._agents.get(agent_id)
        return f"{self._run}:{agent.pid}" if agent is not None else None

    def drain(self, agent_id: str, incarnation: str) -> bool:
        """Give the agent no more tasks; False if it is gone."""
        with self._lock:
            if self._incarnation_of(agent_id) != incarnation:
                return False
            self._agents[agent_id].state = "DRAINING"
        return True

    def let_go(self, agent_id: str, incarnation: str) -> None:
        """End a drained agent; it is not replaced."""
        with self._lock:
            if self._incarnation_of(agent_id) != incarnation:
                return
            self._leaving.add(agent_id)
            self._agents[agent_id].expect_end()
            process = self._processes[agent_id]
        if process.stdin is not None:
            process.stdin.close()

    def all(self) -> list[RemoteAgent]:
        """Return the agents, by id."""
        with self._lock:
            return [self._agents[k] for k in sorted(self._agents, key=lambda a: (len(a), a))]

    def stop(self, timeout_s: float) -> None:
        """End all agents: end of their standard input, then SIGKILL for those that take too long."""
        with self._lock:
            self._stopping.set()
            processes = list(self._processes.values())
            agents = list(self._agents.values())
        for agent in agents:
            agent.expect_end()
        for process in processes:
            if process.stdin is not None:
                process.stdin.close()
        deadline = time.monotonic() + timeout_s
        for process in processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("agent with pid %s does not end by itself; killed", process.pid)
                process.kill()
                process.wait()
        for agent in agents:
            if agent.state in REACHED:
                agent.close()
        for watcher in self._watchers.values():
            watcher.join()
