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
from sabot.errors import ConfigError
from sabotd.agent.process import Reporter, register_actions
from sabotd.agent.runtime import AgentRuntime
from sabotd.control.members import Member, MemberTable
from sabotd.control.tables import connect_engine

log = logging.getLogger("sabot.agent")

BEAT_EVERY_S = 1.0
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
    idle_timeout_s: float,
    security: Security,
    compression: str,
) -> int:
    """Join, run tasks until SIGTERM, a drain, or being declared dead; returns the exit status.

    Raises
    ------
    ConfigError
        The database does not answer, the cluster is of another version, the address cannot be listened on.
    """
    engine = connect_engine(url)
    table = MemberTable(engine)
    version, coordinator = _cluster_of(table, engine)
    if version != __version__:
        msg = f"this agent is Sabot {__version__}, the cluster runs {version}"
        raise ConfigError(msg, hint="install the same version on both")
    name = agent_id or socket.gethostname()
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


def _cluster_of(table: MemberTable, engine: sa.Engine) -> tuple[str, str]:
    where = engine.url.render_as_string(hide_password=True)
    try:
        return table.cluster_version()
    except sa.exc.OperationalError as error:
        reason = str(error.orig).splitlines()[0]
        msg = f"control database {where!r} does not answer: {reason}"
        raise ConfigError(msg) from error
    except sa.exc.ProgrammingError as error:
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
