"""The daemon's life: open, tell that it is ready, wait for the end, stop within ten seconds."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path

from sabot.errors import SabotError
from sabotd.cluster import Cluster
from sabotd.cluster_engine import ClusterEngine
from sabotd.config import Config, with_overrides
from sabotd.logs import configure_logging
from sabotd.notify import Notifier
from sabotd.security import read_secret, read_token
from sabotd.serve.flight_sql import FlightSqlServer

log = logging.getLogger("sabot.daemon")

_STOP_LIMIT_S = 9.0


def run_daemon(
    config: Config,
    *,
    data_dir: Path | None,
    listen: str | None,
    agents: int | None,
    embedded: bool,
    ready_fd: int | None,
) -> int:
    """Run until SIGTERM, SIGINT, or (embedded) the end of standard input; returns the exit status.

    Raises
    ------
    SabotError
        It cannot start; `ready_fd` has been told.
    """
    config = with_overrides(config, listen=listen, agents=agents, log_level="error" if embedded else None)
    configure_logging(config.log.level, config.log.format, process="sabotd")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    # at a terminal an interrupt is for the shell in front of an embedded daemon, not for the daemon
    signal.signal(signal.SIGINT, signal.SIG_IGN if embedded else lambda *_: stop.set())
    notifier = Notifier()
    try:
        token = read_token(config.server.token_file)
        certificate = read_secret(config.server.certificate_file, "certificate")
        key = read_secret(config.server.key_file, "private key")
        tls = (certificate, key) if certificate is not None and key is not None else None
        cluster = Cluster(config, data_dir or config.server.data_path())
        server = FlightSqlServer(ClusterEngine(cluster), config.server.listen, token=token, tls=tls)
        server.start()
        try:
            cluster.start()
        except BaseException:
            server.stop()
            cluster.stop()
            raise
    except SabotError as error:
        _tell(ready_fd, {"error": error.message if not error.hint else f"{error.message} ({error.hint})"})
        raise
    if embedded:
        threading.Thread(target=_watch_stdin, args=(stop,), name="parent", daemon=True).start()
    log.info("ready: taking statements on %s", server.location)
    _tell(ready_fd, {"ready": True, "location": server.location})
    notifier.ready(f"taking statements on {server.location}")
    while not stop.wait(notifier.watchdog_interval_s):
        if cluster.alive():
            notifier.watchdog()
    log.info("stopping")
    notifier.stopping()
    # a step that waits for something lost must not keep a service manager waiting
    # (a watch in C: it also ends a process whose interpreter a vendor's call holds, and says where)
    faulthandler.dump_traceback_later(_STOP_LIMIT_S, exit=True)
    server.stop()
    cluster.stop()
    notifier.close()
    log.info("stopped")
    logging.shutdown()
    sys.stdout.flush()
    # DBOS leaves threads that no call ends; everything of ours is closed
    os._exit(0)


def _watch_stdin(stop: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    stop.set()


def _tell(ready_fd: int | None, word: dict[str, object]) -> None:
    if ready_fd is None:
        return
    with contextlib.suppress(BrokenPipeError):  # whoever started it waits no longer
        os.write(ready_fd, json.dumps(word).encode() + b"\n")
    os.close(ready_fd)
