"""Statements as frozen dataclasses: what the text says, names not yet resolved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from sabot.errors import Span
from sabot.schema import Field


@dataclass(frozen=True)
class WatermarkClause:
    """``WATERMARK FOR column AS expression`` as written; the expression's text in the input dialect."""

    column: str
    expression: str
    span: Span


@dataclass(frozen=True)
class FormatClause:
    """``FORMAT PLAIN ENCODE JSON (...)``: `encode` is json, csv, parquet, raw (lower case)."""

    format: str
    encode: str
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class CreateSource:
    """CREATE SOURCE. `columns` may be empty (a connector with its own schema, such as nexmark)."""

    name: str
    columns: tuple[Field, ...]
    watermark: WatermarkClause | None
    options: tuple[tuple[str, str], ...]
    format: FormatClause | None
    include: tuple[tuple[str, str], ...]
    if_not_exists: bool
    text: str
    span: Span
    option_spans: tuple[tuple[str, Span], ...] = ()
    primary_key: tuple[str, ...] = ()
    """Of a source whose records tell changes."""


@dataclass(frozen=True)
class CreateTable:
    """CREATE TABLE. `primary_key` may be empty. `ddl` is the DuckDB text that makes the table under its name."""

    name: str
    columns: tuple[Field, ...]
    primary_key: tuple[str, ...]
    if_not_exists: bool
    ddl: str
    text: str
    span: Span
    append_only: bool = False
    """``APPEND ONLY`` was written: rows are only ever added."""
    on_conflict: str = "overwrite"
    """What a row with the key of another does: overwrite, ignore, or update_if_not_null."""
    watermark: WatermarkClause | None = None
    """Of a table that is append-only."""


@dataclass(frozen=True)
class CreateView:
    """CREATE [MATERIALIZED] VIEW. `query` is the text of the SELECT, at `query_span` in `text`."""

    name: str
    materialized: bool
    column_names: tuple[str, ...]
    query: str
    query_span: Span
    emit_on_window_close: bool
    options: tuple[tuple[str, str], ...]
    if_not_exists: bool
    or_replace: bool
    text: str
    span: Span
    option_spans: tuple[tuple[str, Span], ...] = ()


@dataclass(frozen=True)
class CreateSink:
    """CREATE SINK ... [INTO table [(column, ...)]] FROM relation | AS query; `into` has no connector."""

    name: str
    from_relation: str | None
    query: str | None
    query_span: Span | None
    emit_on_window_close: bool
    options: tuple[tuple[str, str], ...]
    format: FormatClause | None
    if_not_exists: bool
    text: str
    span: Span
    option_spans: tuple[tuple[str, Span], ...] = ()
    into: str | None = None
    into_columns: tuple[str, ...] = ()
    into_span: Span | None = None


@dataclass(frozen=True)
class CreateSchema:
    """CREATE SCHEMA [IF NOT EXISTS] name."""

    name: str
    if_not_exists: bool
    text: str
    span: Span


@dataclass(frozen=True)
class CreateJob:
    """CREATE JOB name FROM GRAPH 'json': `graph` is a graph written by hand, as its own text."""

    name: str
    graph: str
    if_not_exists: bool
    text: str
    span: Span


@dataclass(frozen=True)
class CreateFunction:
    """CREATE [OR REPLACE] FUNCTION [IF NOT EXISTS] name (parameters) RETURNS type LANGUAGE SQL | PYTHON AS body.

    Types are DuckDB's. A parameter without a name is ``$1``, ``$2``, ... The body stands at `body_at` in the text.
    `strict`: NULL among the arguments gives NULL. `vectorized`: Python is given Arrow arrays, not one row's values.
    """

    name: str
    parameters: tuple[Field, ...]
    returns: str
    language: str
    body: str
    body_at: int
    or_replace: bool
    if_not_exists: bool
    vectorized: bool
    strict: bool
    text: str
    span: Span


@dataclass(frozen=True)
class Drop:
    """DROP kind name [CASCADE]. `kind`: source, table, view, materialized view, sink, function, job, schema."""

    kind: str
    names: tuple[str, ...]
    if_exists: bool
    cascade: bool
    text: str
    span: Span


@dataclass(frozen=True)
class Show:
    """SHOW what: sources, tables, views, materialized views, sinks, jobs, agents, all, or a setting's name."""

    what: str
    text: str
    span: Span


@dataclass(frozen=True)
class Describe:
    """DESCRIBE name."""

    name: str
    text: str
    span: Span


@dataclass(frozen=True)
class Explain:
    """EXPLAIN of a query, a CREATE MATERIALIZED VIEW / SINK statement, or the name of a view or sink that runs."""

    target: Statement | str
    analyze: bool
    text: str
    span: Span


@dataclass(frozen=True)
class SetOption:
    """SET name = value; value None is DEFAULT (RESET too)."""

    name: str
    value: str | None
    text: str
    span: Span


@dataclass(frozen=True)
class Flush:
    """FLUSH."""

    text: str
    span: Span


@dataclass(frozen=True)
class Insert:
    """INSERT INTO table. `sql` is DuckDB's text of the whole statement.

    `query` is what gives the rows, at `query_start` in it.
    """

    table: str
    columns: tuple[str, ...]
    sql: str
    text: str
    span: Span
    query: str = ""
    query_start: int = 0
    on_conflict: str | None = None
    """``ignore`` where DO NOTHING was written; otherwise the table says."""
    returning: str | None = None
    conflict: ConflictUpdate | None = None
    written: str = ""
    """`query` as the user wrote it."""
    constant: bool = False
    """It is rows of constants, and surely nothing else."""


@dataclass(frozen=True)
class ConflictUpdate:
    """``ON CONFLICT (target) DO UPDATE SET ... [WHERE ...]``, over the row that is there and ``excluded``."""

    target: tuple[str, ...]
    assignments: tuple[tuple[str, str | None], ...]
    condition: str | None


@dataclass(frozen=True)
class Update:
    """UPDATE table. `assignments`: column and expression over the row before, None for DEFAULT.

    `source` is what stands behind FROM.
    """

    table: str
    alias: str
    assignments: tuple[tuple[str, str | None], ...]
    condition: str | None
    returning: str | None
    text: str
    span: Span
    source: str | None = None


@dataclass(frozen=True)
class Delete:
    """DELETE FROM table, and TRUNCATE (without a condition). `source` is what stands behind USING."""

    table: str
    alias: str
    condition: str | None
    returning: str | None
    text: str
    span: Span
    source: str | None = None


@dataclass(frozen=True)
class Select:
    """A query over tables and views: SELECT, WITH, VALUES, FROM, TABLE; `sql` in the words of DuckDB, which runs it."""

    sql: str
    text: str
    span: Span


@dataclass(frozen=True)
class Subscribe:
    """SUBSCRIBE [TO] name [WITH (snapshot = false)]."""

    name: str
    snapshot: bool
    text: str
    span: Span


@dataclass(frozen=True)
class Begin:
    """BEGIN or START TRANSACTION; READ WRITE unless READ ONLY is written."""

    read_only: bool
    text: str
    span: Span


@dataclass(frozen=True)
class End:
    """COMMIT (END), or ROLLBACK (ABORT)."""

    commit: bool
    text: str
    span: Span


@dataclass(frozen=True)
class DrainAgent:
    """ALTER SYSTEM DRAIN AGENT name."""

    agent: str
    text: str
    span: Span


@dataclass(frozen=True)
class Pause:
    """ALTER MATERIALIZED VIEW | SINK | JOB name PAUSE, or RESUME."""

    kind: str
    name: str
    paused: bool
    text: str
    span: Span


@dataclass(frozen=True)
class Rename:
    """ALTER TABLE | MATERIALIZED VIEW | SINK name RENAME TO new_name."""

    kind: str
    name: str
    new_name: str
    text: str
    span: Span


Statement: TypeAlias = (
    CreateSource
    | CreateTable
    | CreateView
    | CreateSink
    | CreateSchema
    | CreateJob
    | CreateFunction
    | Drop
    | Show
    | Describe
    | Explain
    | SetOption
    | Flush
    | Insert
    | Update
    | Delete
    | Select
    | Subscribe
    | Begin
    | End
    | DrainAgent
    | Pause
    | Rename
)
"""``text`` of a statement is its own source text; ``span`` where that stands in the whole script."""
