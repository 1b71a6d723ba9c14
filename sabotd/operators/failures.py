"""Finds the rows of a batch on which an expression failed, and tells of them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pyarrow as pa

from planner.task_spec import FailureCheck
from sabot.errors import JobError
from sabotd.operators.scalar_function import SHOWN, Failure, TellFailures
from sabotd.state.duckdb_state import Session, Statement, is_data_error

_RAISED = re.compile(r"could not convert string '([a-z].*)' to INT64$", re.IGNORECASE)
"""How a reason of our own is raised in a check: as a cast that fails."""
_UNCLEAN_BATCHES = 32
"""After one on which a row failed: they are not tried strictly, for where one row fails others do soon."""


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
            tell("condition" if self.column is None else f"column {self.column}", failures, len(payloads))


class Watched:
    """A statement over the batches in the session's slots, and word of the rows on which its expressions fail.

    Parameters
    ----------
    session : Session
    sql, strict : str
        The statement, and the same failing where its expressions are NULL for a failure; '' where the result shows it.
    checks : sequence of FailureCheck
    schema : pa.Schema
        Of the result.
    tell : callable or None
        None: nobody wants to know.
    """

    def __init__(
        self,
        session: Session,
        sql: str,
        strict: str,
        checks: Sequence[FailureCheck],
        schema: pa.Schema,
        tell: TellFailures | None,
    ) -> None:
        self._tell = tell
        self._statement = session.prepare(sql, schema)
        self._strict = session.prepare(strict, schema) if strict and tell is not None else None
        self._checks = [Check(check, session) for check in checks] if tell is not None else []
        self._unclean = 0

    def batches(self) -> list[pa.RecordBatch]:
        """Run it over what the slots hold.

        Raises
        ------
        JobError
            It fails by more than single rows.
        """
        if self._tell is None or not self._checks:
            return self._statement.batches()
        if self._strict is None:
            found = self._statement.batches()
            for check in self._checks:
                # while no value is missing nothing has failed, and counting NULLs costs nothing
                if any(b.column(check.column).null_count for b in found):
                    check.look(self._tell)
            return found
        if self._unclean:
            self._unclean -= 1
        else:
            try:
                return self._strict.batches()
            except JobError as error:
                if not is_data_error(error):
                    raise
            self._unclean = _UNCLEAN_BATCHES
        for check in self._checks:
            check.look(self._tell)
        return self._statement.batches()
