"""An agent that joins a cluster from elsewhere: ``sabotd agent --join URL``."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import uuid
from collections.abc import Mapping
from pathlib import Path

import psutil
import sqlalchemy as sa

from cython_shuffle.transport import ClientPool, FlightEndpoint, Security
from sabot import __version__
from sabot.errors import ConfigError, ShuffleError
from sabotd.agent.process import Reporter, register_actions
from sabotd.agent.runtime import AgentRuntime
from sabotd.control.members import Member, MemberTable
from sabotd.control.tables import connect_engine

log = logging.getLogger("sabot.agent")

BEAT_EVERY_S = 1.0
_GREETING_S = 15.0
_NO_SUCH_TABLE = "42P01"
FENCED = 3
"""Exit status of an agent that was declared dead and has stopped its tasks."""


def run_joined_agent(
    *,
    url: str,
    agent_id: str | None,
    listen: str,
    state_dir: Path,
    slots: int,
    labels: Mapping[str, str],
    pool_bytes: int,
    memory_mb: int | None,
    spill_bytes: int,
    idle_timeout_s: float,
    security: Security,
    compression: str,
) -> int:
    """Join, run tasks until SIGTERM, a drain, or being declared dead; returns the exit status.

    Raises
    ------
    ConfigError
        The database does not answer, the cluster is of another version, sabotd and this agent do not reach or trust
        each other, the address cannot be listened on.
    """
    engine = connect_engine(url)
    table = MemberTable(engine)
    version, coordinator = _cluster_of(table, engine)
    name = agent_id or socket.gethostname()
    if version != __version__:
        table.tell_refusal(name, listen, f"it is Sabot {__version__}, the cluster runs {version}")
        msg = f"this agent is Sabot {__version__}, the cluster runs {version}"
        raise ConfigError(msg, hint="install the same version on both")
    state_dir.mkdir(parents=True, exist_ok=True)
    endpoint = FlightEndpoint(listen, name=name, security=security, compression=compression)
    clients = ClientPool(security)
    reporter = Reporter(name, coordinator, clients)
    memory = memory_mb or max(512, (psutil.virtual_memory().total >> 20) // 2)
    runtime = AgentRuntime(
        name,
        endpoint,
        pool_bytes=pool_bytes,
        state_dir=state_dir,
        memory_mb=memory,
        spill_bytes=spill_bytes,
        idle_timeout_s=idle_timeout_s,
        report=reporter,
    )
    register_actions(endpoint, runtime)
    stop = threading.Event()
    for sig in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sig, lambda *_: stop.set())
    endpoint.start()
    runtime.start()
    member = Member(
        uuid.uuid4().hex,
        name,
        endpoint.location,
        socket.gethostname(),
        os.getpid(),
        slots,
        memory,
        __version__,
        labels,
        "UP",
    )
    try:
        _greet(table, member, coordinator, clients)
        table.join(member)
        log.info("agent %s at %s has joined", name, endpoint.location)
        status = _live(table, member, reporter, runtime, stop)
        table.move(member.incarnation, ("UP", "DRAINING"), "LEFT")
    except sa.exc.DBAPIError as error:
        log.warning("the control database does not answer at the end: %s", error.orig)
        status = 0
    finally:
        runtime.stop()
        reporter.close()
        endpoint.stop()
        engine.dispose()
    return status


def _greet(table: MemberTable, member: Member, coordinator: str, clients: ClientPool) -> None:
    """See that sabotd and this agent reach and trust each other, before any task depends on it.

    Raises
    ------
    ConfigError
        They do not. A sabotd that is not there now is no reason: it looks for agents when it is back.
    """
    try:
        clients.call_action(coordinator, "hello", member.location.encode(), _GREETING_S)
    except ShuffleError as error:
        if error.retryable:
            log.warning("%s; joining all the same, it will find this agent when it is back", error.message)
            return
        if "token" not in error.message:  # then sabotd has seen it for itself
            table.tell_refusal(member.agent_id, member.location, error.message)
        msg = f"sabotd at {coordinator!r} and this agent do not come together: {error.message}"
        raise ConfigError(msg, hint=error.hint) from error
    except ConfigError as error:
        table.tell_refusal(member.agent_id, member.location, error.message)
        raise


def _cluster_of(table: MemberTable, engine: sa.Engine) -> tuple[str, str]:
    where = engine.url.render_as_string(hide_password=True)
    try:
        return table.cluster_version()
    except sa.exc.OperationalError as error:
        reason = str(error.orig).splitlines()[0]
        msg = f"control database {where!r} does not answer: {reason}"
        raise ConfigError(msg) from error
    except sa.exc.ProgrammingError as error:
        if engine.dialect.name == "postgresql" and getattr(error.orig, "sqlstate", None) != _NO_SUCH_TABLE:
            msg = f"control database {where!r} refuses: {str(error.orig).splitlines()[0]}"
            raise ConfigError(msg) from error
        msg = f"no sabotd has set up control database {where!r}"
        raise ConfigError(msg, hint="start sabotd with this control.database first") from error


def _live(table: MemberTable, member: Member, reporter: Reporter, runtime: AgentRuntime, stop: threading.Event) -> int:
    """Beat until the end. A database that is away changes nothing: rows flow without it."""
    away = False
    while not stop.wait(BEAT_EVERY_S):
        runtime.let_go_of_held()
        try:
            if not table.beat(member.incarnation):
                if table.state(member.incarnation) == "LEFT":
                    log.info("agent %s was drained and is let go", member.agent_id)
                    return 0
                log.warning("agent %s was declared dead: stopping its tasks", member.agent_id)
                return FENCED
            reporter.coordinator = table.cluster_version()[1]
        except sa.exc.DBAPIError as error:
            if not away:
                log.warning("the control database does not answer: %s", error.orig)
            away = True
        else:
            away = False
    return 0
