"""Finds the rows of a batch on which an expression failed, and tells of them."""

from __future__ import annotations

import re

from planner.task_spec import FailureCheck
from sabot.errors import JobError
from sabotd.operators.scalar_function import SHOWN, Failure, TellFailures
from sabotd.state.duckdb_state import Session, Statement

_RAISED = re.compile(r"could not convert string '([a-z].*)' to INT64$", re.IGNORECASE)
"""How a reason of our own is raised in a check: as a cast that fails."""


class Check:
    """One expression's check, over what the session's slots hold."""

    def __init__(self, check: FailureCheck, session: Session) -> None:
        self.column = check.column
        self._check = check
        self._session = session
        self._statements: tuple[Statement, Statement] | None = None

    def look(self, tell: TellFailures) -> None:
        """Tell of the rows that failed: some of them with their reasons, and how many there were."""
        if self._statements is None:
            # most never fail
            self._statements = (
                self._session.prepare(self._check.rows_sql),
                self._session.prepare(self._check.reason_sql),
            )
        rows, reasons = self._statements
        payloads = [value for batch in rows.batches() for value in batch.column(0).to_pylist()]
        failures: list[Failure] = []
        for i, payload in enumerate(payloads[:SHOWN]):
            try:
                reasons.run(i)
                reason = "it failed"
            except JobError as error:
                reason = error.message.partition("Error: ")[2] or error.message
                own = _RAISED.match(reason)
                reason = own[1] if own else reason
            failures.append(("", str(payload).encode(), f"{self._check.expression}: {reason}"))
        if failures:
            tell(f"column {self.column}", failures, len(payloads))
