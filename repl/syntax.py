r"""``\\h``: how statements are written, in a few lines each. docs/sql.md has the whole story."""

from __future__ import annotations

STATEMENTS: dict[str, str] = {
    "ALTER": """\
ALTER MATERIALIZED VIEW | SINK | JOB name PAUSE | RESUME
ALTER TABLE | MATERIALIZED VIEW | SINK name RENAME TO new_name
ALTER SYSTEM DRAIN AGENT name

A paused job's sources read nothing more; its rows stay to be read.""",
    "CREATE SOURCE": """\
CREATE SOURCE [IF NOT EXISTS] name (
    column type, ... [, WATERMARK FOR column AS expression]
) [INCLUDE topic | key | partition | offset | timestamp [AS column]] ...
WITH (connector = 'kafka' | 'mqtt' | 'file' | 'nexmark' | 'datagen', option = 'value', ...)
[FORMAT PLAIN ENCODE JSON | CSV | PARQUET | RAW [(option = 'value', ...)]]""",
    "CREATE TABLE": """\
CREATE TABLE [IF NOT EXISTS] name (column type [NOT NULL] [DEFAULT value] [PRIMARY KEY], ... [, PRIMARY KEY (...)])""",
    "CREATE MATERIALIZED VIEW": """\
CREATE MATERIALIZED VIEW [IF NOT EXISTS] name [(column, ...)] AS SELECT ... [EMIT ON WINDOW CLOSE]

Windows: FROM TUMBLE(relation, time, INTERVAL '10 seconds')
         FROM HOP(relation, time, INTERVAL 'slide', INTERVAL 'size')""",
    "CREATE VIEW": """\
CREATE [OR REPLACE] VIEW name [(column, ...)] AS SELECT ...""",
    "CREATE SINK": """\
CREATE SINK [IF NOT EXISTS] name FROM view | AS SELECT ... [EMIT ON WINDOW CLOSE]
WITH (connector = 'kafka' | 'mqtt' | 'file' | 'print' | 'blackhole', option = 'value', ...)
[FORMAT PLAIN | UPSERT ENCODE JSON | CSV | PARQUET [(option = 'value', ...)]]
CREATE SINK [IF NOT EXISTS] name INTO table [(column, ...)] FROM view | AS SELECT ...""",
    "CREATE SCHEMA": """\
CREATE SCHEMA [IF NOT EXISTS] name""",
    "DESCRIBE": """\
DESCRIBE name""",
    "DROP": """\
DROP SOURCE | TABLE | VIEW | MATERIALIZED VIEW | SINK | SCHEMA [IF EXISTS] name, ... [CASCADE]""",
    "EXPLAIN": """\
EXPLAIN [ANALYZE] query | CREATE MATERIALIZED VIEW ... | CREATE SINK ... | name""",
    "FLUSH": """\
FLUSH

Returns when all that tables, finite sources and topics held when it was called is visible in every view.""",
    "INSERT": """\
INSERT INTO table [(column, ...)] VALUES (value, ...), ... | SELECT ...""",
    "SELECT": """\
SELECT ... FROM tables and materialized views: the whole of DuckDB's SQL over a consistent state""",
    "SET": """\
SET name = value | DEFAULT""",
    "SHOW": """\
SHOW SCHEMAS | SOURCES | TABLES | VIEWS | MATERIALIZED VIEWS | SINKS | JOBS | AGENTS | ALL | setting""",
    "SUBSCRIBE": """\
SUBSCRIBE [TO] name [WITH (snapshot = false)]

Gives the rows of a table or materialized view, then every change, until Ctrl-C.""",
}


def find(words: str) -> str:
    """Return the help on the statements that begin with `words`, or the list of statements; empty if there are none."""
    if not words:
        return "".join(f"  {name}\n" for name in STATEMENTS)
    wanted = " ".join(words.upper().split())
    found = [text for name, text in STATEMENTS.items() if name.startswith(wanted)]
    return "".join(text + "\n\n" for text in found)
