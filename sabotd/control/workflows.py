"""Starts the durable workflows beside the rest: DBOS takes half a second to import; no first query waits for it."""

from __future__ import annotations

import logging
import threading
import time
from types import ModuleType
from typing import TYPE_CHECKING

import sqlalchemy as sa

from sabot.errors import InternalError

if TYPE_CHECKING:
    from sabotd.control.actions import ClusterActions, JobActions

log = logging.getLogger("sabot.workflows")

_PRUNE_EVERY_S = 600.0
_KEEP_S = 3600.0


class Workflows:
    """`sabotd.control.durable`, there as soon as it can be; calls wait for it."""

    def __init__(self, engine: sa.Engine, url: str) -> None:
        self._engine = engine
        self._url = url
        self._durable: ModuleType | None = None
        self._error: BaseException | None = None
        self._done = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, jobs: JobActions, cluster: ClusterActions) -> None:
        """Begin to launch; what a dead daemon left undone is finished before anything else runs."""
        self._thread = threading.Thread(target=self._run, args=(jobs, cluster), name="workflows", daemon=True)
        self._thread.start()

    def _run(self, jobs: JobActions, cluster: ClusterActions) -> None:
        try:
            from sabotd.control import durable  # half a second, off the path to the first query

            durable.start(self._engine, self._url, jobs, cluster)
        except BaseException as error:
            self._error = error
            raise
        else:
            self._durable = durable
        finally:
            self._done.set()
        while True:  # at once too: a daemon that often starts again has to prune as well
            try:
                gone = durable.prune(time.time() - _KEEP_S)
            except sa.exc.DBAPIError as error:  # the control database is away: later
                log.warning("ended workflows cannot be pruned now: %s", error.orig)
            else:
                log.debug("pruned %s ended workflows", gone)
            if self._stopping.wait(_PRUNE_EVERY_S):
                return

    def _ready(self) -> ModuleType:
        self._done.wait()
        if self._durable is None:
            msg = f"the durable workflows did not start: {self._error}"
            raise InternalError(msg) from self._error
        return self._durable

    def await_start(self) -> None:
        """Wait until what a dead daemon left undone has been finished."""
        self._ready()

    def deploy(self, job_id: str, generation: int) -> None:
        """Run a deploy workflow; see `durable.deploy`."""
        self._ready().deploy(job_id, generation)

    def stop_job(self, job_id: str, generation: int, state: str, error: str | None = None) -> None:
        """Run a stop workflow; see `durable.stop_job`."""
        self._ready().stop_job(job_id, generation, state, error)

    def pause(self, job_id: str, change: int) -> None:
        """Run a pause workflow; see `durable.pause`."""
        self._ready().pause(job_id, change)

    def resume(self, job_id: str, change: int) -> None:
        """Run a resume workflow; see `durable.resume`."""
        self._ready().resume(job_id, change)

    def recover(self, job_ids: list[str], change: int) -> None:
        """Run a recover workflow; see `durable.recover`."""
        self._ready().recover(job_ids, change)

    def drain(self, agent_id: str, incarnation: str, change: int) -> bool:
        """Run a drain workflow; see `durable.drain`."""
        return bool(self._ready().drain(agent_id, incarnation, change))

    def history(self) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
        """Return the workflows that are kept and their steps; see `durable.history`."""
        with self._engine.connect() as con:
            con.execute(sa.select(1))  # DBOS would wait for a database that is away
        found: tuple[list[dict[str, object]], list[dict[str, object]]] = self._ready().history()
        return found

    def stop(self) -> None:
        """End the pruning; workflows that run are resumed by the next daemon."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
