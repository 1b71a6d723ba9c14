"""What the doors (Flight SQL now, PostgreSQL's wire later) ask of the daemon; knows no protocol."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa


@dataclass(frozen=True)
class TableInfo:
    """A relation as metadata calls list it. `kind`: TABLE, VIEW, MATERIALIZED VIEW, SOURCE, SINK, SYSTEM TABLE."""

    schema: str
    name: str
    kind: str
    columns: pa.Schema


class StatementResult(Protocol):
    """What a statement gave. Close it, read or not.

    ``batches()`` may be read once. A SUBSCRIBE's never ends; `cancel` (from any thread) ends it within 0.2 s.
    Its columns are ``__epoch`` (int64), the relation's columns, and ``__weight`` (int32: +n inserted, -n deleted);
    the rows of one epoch belong together.
    """

    schema: pa.Schema
    is_query: bool
    rows_affected: int
    notices: Sequence[str]
    tag: str
    """What psql would print: ``CREATE MATERIALIZED VIEW``, ``INSERT 0 3``, ``SELECT``."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Give the rows; raises SabotError when the query fails on the way."""
        ...

    def cancel(self) -> None:
        """Stop; from any thread."""
        ...

    def close(self) -> None:
        """Free everything; idempotent."""
        ...


@dataclass(frozen=True)
class PreparedInfo:
    """A prepared statement's result columns and parameters (names ``1``, ``2``, ...); empty where there are none."""

    schema: pa.Schema
    parameters: pa.Schema
    is_query: bool


class Session(Protocol):
    """One client's settings and statements. Calls may come from different threads, one at a time."""

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> StatementResult:
        """Run exactly one statement (a trailing semicolon is fine).

        `parameters` are Python values for ``?`` and ``$1``. Queries are answered with `is_query`; a
        statement that is done has no batches. DDL returns when the job runs.

        Raises
        ------
        SabotError
        """
        ...

    def prepare(self, sql: str) -> PreparedInfo:
        """Check a statement and tell its columns, without running it."""
        ...

    def cancel(self) -> None:
        """Stop the running statement (a long FLUSH too); from any thread."""
        ...

    def close(self) -> None:
        """End the session."""
        ...


class Engine(Protocol):
    """The daemon as a door sees it."""

    def open_session(self) -> Session:
        """Open a session with default settings."""
        ...

    def tables(self) -> Sequence[TableInfo]:
        """List every relation a client may name."""
        ...
