"""Runs cases on a real sabotd: one server for many, a clean catalog and new sessions for each."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sabot.client_connection import Connection
from sabot.embedded import Embedded
from sabot.errors import ClientError, SabotError
from tests.acceptance.cases import Case, Step
from tests.acceptance.values import difference, texts

PARALLELISM = (1, 4)
_STEP_S = 120.0
_KINDS = ("sinks", "materialized views", "views", "tables", "sources", "functions")


@dataclass(frozen=True)
class Failure:
    """Where a case went wrong, and how."""

    order: str
    parallelism: int
    step: Step
    reason: str

    def __str__(self) -> str:
        where = f"{self.order or 'steps'}, parallelism {self.parallelism}"
        return f"[{where}] {' '.join(self.step.sql.split())[:400]}\n    {self.reason}"


class Acceptance:
    """A private sabotd that runs cases."""

    def __init__(self, agents: int = 2) -> None:
        self._server = Embedded(agents=agents)
        self._location = self._server.wait_ready()
        self._admin = Connection(self._location)

    def run(self, case: Case, *, go_on: bool = False, levels: tuple[int, ...] = PARALLELISM) -> list[Failure]:
        """Run `case` in all its orders and at each parallelism; stop at the first failure unless `go_on`."""
        failures: list[Failure] = []
        for parallelism in levels if case.has_jobs else levels[:1]:
            for order, steps in case.orders.items():
                try:
                    for step, reason in self._run_steps(steps, parallelism):
                        failures.append(Failure(order, parallelism, step, reason))
                        if not go_on:
                            return failures
                finally:
                    self.clean()
        return failures

    def _run_steps(self, steps: tuple[Step, ...], parallelism: int) -> Iterator[tuple[Step, str]]:
        sessions: dict[str, Connection] = {}
        try:
            for step in steps:
                if step.connection not in sessions:
                    sessions[step.connection] = Connection(self._location)
                    sessions[step.connection].sql(f"SET parallelism = {parallelism}").close()
                reason = _outcome(sessions[step.connection], step)
                if reason is not None:
                    yield step, reason
        finally:
            for session in sessions.values():
                session.close()

    def clean(self) -> None:
        """Drop everything."""
        for kind in _KINDS:
            for row in self._admin.sql(f"SHOW {kind}").fetchall():
                self._admin.sql(f'DROP {kind.removesuffix("s")} IF EXISTS "{row[0]}" CASCADE').close()

    def close(self) -> None:
        """End the server."""
        self._admin.close()
        self._server.close()


@contextmanager
def _bounded(session: Connection) -> Iterator[None]:
    """Cancel what takes too long: a FLUSH of a job that hangs."""
    timer = threading.Timer(_STEP_S, session.cancel)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _outcome(session: Connection, step: Step) -> str | None:
    """Run a step; return what is wrong with what came of it."""
    try:
        with _bounded(session):
            result = session.sql(step.sql.rstrip().rstrip(";"))
            rows = texts(result.arrow()) if result.is_query else []
            result.close()
    except (SabotError, ClientError) as error:
        if step.expect in ("error", "any"):
            return None
        return f"{error.sqlstate}: {error.message}" if isinstance(error, SabotError) else str(error)
    if step.expect == "error":
        return f"no error; gave {rows[:3]}"
    if step.expect == "rows":
        return difference(rows, step.rows, ordered=step.ordered)
    return None
