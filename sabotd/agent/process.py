"""The body of an agent process: ``sabotd agent``."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from cython_shuffle.transport import ClientPool, FlightEndpoint, Security
from sabot.errors import SabotError, ShuffleError
from sabotd.agent import messages as msg
from sabotd.agent.runtime import AgentRuntime, log

_AGAIN_S = 0.5


class Reporter:
    """Sends reports to the coordinator in order, those that pile up meanwhile in one message.

    What did not arrive is sent again until it does: an epoch with a report missing would never be complete. A message
    whose answer was lost arrives twice, which shows in ``sabot_errors`` at most.
    """

    def __init__(self, agent_id: str, coordinator: str, clients: ClientPool) -> None:
        self._agent_id = agent_id
        self.coordinator = coordinator
        """Where reports go; may change while the agent lives."""
        self._clients = clients
        self._closing = threading.Event()
        self._queue: queue.SimpleQueue[msg.Report | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)
        self._thread.start()

    def __call__(self, report: msg.Report) -> None:
        self._queue.put(report)

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            reports = [first]
            while not self._queue.empty() and len(reports) < 1000:
                following = self._queue.get()
                if following is None:
                    self._queue.put(None)
                    break
                reports.append(following)
            self._send(msgspec.json.encode(msg.Reports(self._agent_id, tuple(reports))))

    def _send(self, body: bytes) -> None:
        told = False
        while True:
            try:
                self._clients.call_action(self.coordinator, "report", body, 30.0)
            except ShuffleError as error:
                if not told:
                    log.error("the coordinator at %s takes no reports: %s", self.coordinator, error)
                    told = True
                # without its coordinator an agent that it started has nothing to live for: stdin ends too
                if self._closing.wait(_AGAIN_S):
                    return
            except SabotError as error:
                log.error("the coordinator at %s refused reports: %s", self.coordinator, error)
                return
            else:
                return

    def close(self) -> None:
        """Send what is queued, once, and end."""
        self._closing.set()
        self._queue.put(None)
        self._thread.join(5.0)


def register_actions(endpoint: FlightEndpoint, runtime: AgentRuntime) -> None:
    """Let the coordinator's commands reach `runtime`."""

    def action(kind: type, call: Callable[[msgspec.Struct], None]) -> Callable[[bytes], bytes]:
        decoder: msgspec.json.Decoder[msgspec.Struct] = msgspec.json.Decoder(kind)

        def run(body: bytes) -> bytes:
            runtime.heard_at = time.monotonic()
            call(decoder.decode(body))
            return b""

        return run

    def ping(_: bytes) -> bytes:
        runtime.heard_at = time.monotonic()
        return msgspec.json.encode(runtime.running())

    registers = action(msg.RegisterShuffles, runtime.register_shuffles)  # type: ignore[arg-type]
    endpoint.register_action("register_shuffles", registers)
    endpoint.register_action("deploy", action(msg.Deploy, runtime.deploy))  # type: ignore[arg-type]
    endpoint.register_action("cancel", action(msg.Cancel, runtime.cancel))  # type: ignore[arg-type]
    endpoint.register_action("inject", action(msg.InjectBarrier, runtime.inject))  # type: ignore[arg-type]
    endpoint.register_action("fence", action(msg.Fence, runtime.fence))  # type: ignore[arg-type]
    endpoint.register_action("pause", action(msg.Pause, runtime.pause))  # type: ignore[arg-type]
    take_over = msgspec.json.Decoder(msg.TakeOver)
    endpoint.register_action("take_over", lambda body: msgspec.json.encode(runtime.take_over(take_over.decode(body))))
    endpoint.register_action("ping", ping)
    endpoint.register_action("conditions", lambda _: msgspec.json.encode(runtime.conditions()))
    endpoint.register_action("metrics", lambda _: msgspec.json.encode(runtime.metrics()))


def run_agent(
    *,
    agent_id: str,
    listen: str,
    coordinator: str,
    state_dir: Path,
    pool_bytes: int,
    memory_mb: int,
    spill_bytes: int,
    idle_timeout_s: float,
    ready_fd: int | None,
    security: Security,
    compression: str,
) -> int:
    """Run an agent until its standard input ends or SIGTERM comes; returns the exit status."""
    state_dir.mkdir(parents=True, exist_ok=True)
    endpoint = FlightEndpoint(listen, name=agent_id, security=security, compression=compression)
    clients = ClientPool(security)
    reporter = Reporter(agent_id, coordinator, clients)
    runtime = AgentRuntime(
        agent_id,
        endpoint,
        pool_bytes=pool_bytes,
        state_dir=state_dir,
        memory_mb=memory_mb,
        spill_bytes=spill_bytes,
        idle_timeout_s=idle_timeout_s,
        report=reporter,
    )
    register_actions(endpoint, runtime)
    stop = threading.Event()
    # an interrupt at the terminal goes to the whole group; the daemon decides what ends
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    endpoint.start()
    runtime.start()
    if ready_fd is not None:
        with contextlib.suppress(BrokenPipeError):  # the daemon is dead: standard input has ended too
            os.write(ready_fd, f"{endpoint.location}\n".encode())
        os.close(ready_fd)

    def watch_parent() -> None:
        # not the buffered reader: its lock, held at the process's end, would be a fatal error
        while os.read(sys.stdin.fileno(), 4096):
            pass
        stop.set()

    threading.Thread(target=watch_parent, name="parent", daemon=True).start()
    stop.wait()
    runtime.stop()
    reporter.close()
    endpoint.stop()
    return 0
