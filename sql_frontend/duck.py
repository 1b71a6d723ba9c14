"""DuckDB's binder as the authority on types: expressions over empty inputs, in memory, never any rows."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence

import duckdb
from duckdb.func import ARROW, SPECIAL

from planner.task_spec import FunctionSpec
from sabot.errors import InternalError
from sabot.schema import Schema, literal, quote

_lock = threading.Lock()


@functools.cache
def _connection() -> duckdb.DuckDBPyConnection:
    con = duckdb.connect(":memory:", config={"threads": "1", "enable_external_access": "false"})
    con.execute("SET integer_division = true")
    con.execute("SET TimeZone = 'UTC'")
    con.execute("SET lock_configuration = true")
    return con


_known_functions: set[str] = set()


def know_function(spec: FunctionSpec) -> None:
    """Make the types of a Python function known, so that calls of it can be typed; it is never called here."""
    with _lock:
        if spec.name not in _known_functions:
            _connection().create_function(
                spec.name, _never_called, list(spec.types), spec.returns, type=ARROW, null_handling=SPECIAL
            )
            _known_functions.add(spec.name)


def _never_called(*_: object) -> object:
    msg = "a function was called where only types are asked for"
    raise InternalError(msg)


@functools.lru_cache(maxsize=4096)
def describe(fields: Schema, expressions: tuple[str, ...]) -> tuple[str, ...]:
    """Return DuckDB's types of SQL `expressions` over an input of `fields`.

    Raises
    ------
    duckdb.Error
        What DuckDB's binder says against it.
    """
    source = ", ".join(f"NULL::{_storable(f.type)} AS {quote(f.name)}" for f in fields) or "NULL AS __none"
    items = ", ".join(f"({e}) AS c{i}" for i, e in enumerate(expressions))
    with _lock:
        rows = _connection().execute(f"DESCRIBE SELECT {items} FROM (SELECT {source})").fetchall()
    return tuple(_plain(row[1]) for row in rows)


def union_types(columns: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Return per column the type that UNION ALL gives to `columns[i]` (the types of input i)."""
    selects = ["SELECT " + ", ".join(f"NULL::{_storable(t)} AS c{i}" for i, t in enumerate(types)) for types in columns]
    with _lock:
        rows = _connection().execute(f"DESCRIBE {' UNION ALL '.join(selects)}").fetchall()
    return tuple(_plain(row[1]) for row in rows)


def constant(expression: str) -> object:
    """Return the value of a constant SQL expression; raises duckdb.Error when it has none."""
    with _lock:
        row = _connection().execute(f"SELECT {expression}").fetchone()
    return row[0] if row else None


def interval_us(text: str) -> int:
    """Return the microseconds of an interval such as ``1 day`` or ``90 seconds``.

    Raises
    ------
    duckdb.Error
        It is none.
    ValueError
        It has months or years, whose length differs.
    """
    interval = f"{literal(text)}::INTERVAL"
    if constant(f"datepart('month', {interval}) + 12 * datepart('year', {interval})"):
        msg = f"{text!r} has no fixed length"
        raise ValueError(msg)
    micros = constant(f"epoch_us({interval})")
    assert isinstance(micros, int)
    return micros


def try_statement(sql: str) -> None:
    """Run a statement and undo it: raises duckdb.Error when DuckDB refuses it."""
    with _lock:
        con = _connection()
        con.execute("BEGIN")
        try:
            con.execute(sql)
        finally:
            con.execute("ROLLBACK")


@functools.cache
def functions() -> dict[str, tuple[str, bool]]:
    """Return DuckDB's functions by name: their type (scalar, aggregate, macro, ...) and whether they are pure.

    DuckDB calls a function of a time "consistent within a query" when it looks at the session's time zone. That is
    UTC in every task, so such a function is pure here; one that takes no time (now(), txid_current()) is not.
    """
    query = """
        SELECT function_name, min(function_type), bool_and(
            coalesce(stability, 'CONSISTENT') = 'CONSISTENT'
            OR stability = 'CONSISTENT_WITHIN_QUERY' AND (
                function_name = 'make_timestamptz'
                OR len(list_filter(parameter_types, lambda t: regexp_matches(t, '^(TIME|DATE)'))) > 0
            )
        )
        FROM duckdb_functions() GROUP BY function_name
    """
    with _lock:
        rows = _connection().execute(query).fetchall()
    return {name: (kind, pure) for name, kind, pure in rows}


def first_line(error: duckdb.Error) -> str:
    """Return what DuckDB says in our form: one line, lower case at the start, without its kind and full stop."""
    line = str(error).split("\n", 1)[0]
    _, _, said = line.partition("Error: ")
    said = (said or line).strip().rstrip(".")
    return said[:1].lower() + said[1:]


def _storable(type_: str) -> str:
    return '"NULL"' if type_ == "NULL" else type_


def _plain(type_: str) -> str:
    return "NULL" if type_ == '"NULL"' else type_
