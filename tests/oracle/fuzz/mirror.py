"""DuckDB with the tables of a case: it takes every change, says what changed, and answers each view's query anew."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import duckdb
import pyarrow as pa

from sabot.ids import WEIGHT
from sabot.schema import Schema, arrow_schema
from sabotd.state.relation import conform
from sql_frontend.parse import parse_statement
from sql_frontend.statements import CreateTable
from tests.oracle.fuzz.closing import Closing
from tests.oracle.fuzz.conflicts import Returning, Upsert
from tests.oracle.fuzz.history import Change, Insert, MakeView
from tests.oracle.fuzz.seen import Seen
from tests.oracle.fuzz.tables import Table
from tests.oracle.harness import Bag, fold

MOST_ROWS = 3000


class TooManyRowsError(Exception):
    """A view would have more rows than a case should."""


class Mirror:
    """The tables of a case in one DuckDB. `by_split`: sources are read by split; else all are tables."""

    def __init__(self, tables: Sequence[Table], *, by_split: bool = False) -> None:
        self._tables, self._by_split = tuple(tables), by_split
        self._seen: dict[str, Seen] = {}
        self.returned: Bag = Counter()
        """What RETURNING gave of the last change."""
        self._con = duckdb.connect(config={"threads": 1})
        self._con.execute("SET TimeZone = 'UTC'; SET integer_division = true; SET error_on_division_by_zero = false")
        self._con.execute("SET default_null_order = 'nulls_last_on_asc_first_on_desc'")
        self._con.execute("CREATE SCHEMA keyed")
        for table in tables:
            body = ", ".join(f"{c.name} {c.type}" for c in table.columns)
            self._con.execute(f"CREATE TABLE {table.name} ({body})")
            self._con.execute(f"CREATE TABLE {table.name}_before AS FROM {table.name}")
            if table.key:
                self._con.execute(f"CREATE TABLE keyed.{table.name} ({body}, PRIMARY KEY ({', '.join(table.key)}))")

    def close(self) -> None:
        self._con.close()

    def change(self, statement: Insert | Change) -> pa.RecordBatch:
        """Carry a statement out; return what came and went, with ``__weight``."""
        table = statement.table
        name = table.name
        if isinstance(statement, Insert) and table.delay_s is not None:
            return self._append(statement)
        self._con.execute(f"DELETE FROM {name}_before; INSERT INTO {name}_before FROM {name}")
        self.returned = Counter()
        if isinstance(statement, Upsert) and statement.conflict:
            self._upsert(statement)
        elif isinstance(statement, Insert) and table.key:
            at = [c.name for c in table.columns].index
            places = [at(k) for k in table.key]
            last = {tuple(row[p] for p in places): row for row in statement.rows}
            keys = ", ".join(f"({', '.join(key)})" for key in last)
            self._con.execute(f"DELETE FROM {name} WHERE ({', '.join(table.key)}) IN ({keys})")
            self._run(replace(statement, rows=tuple(last.values())))
        else:
            self._run(statement)
        changed = self._con.sql(
            f"SELECT *, 1::INTEGER AS __weight FROM (FROM {name} EXCEPT ALL FROM {name}_before) UNION ALL "
            f"SELECT *, (-1)::INTEGER FROM (FROM {name}_before EXCEPT ALL FROM {name})"
        )
        return self._one_batch(changed, table)

    def _run(self, statement: Insert | Change) -> None:
        if isinstance(statement, Upsert | Returning) and statement.returning:
            self.returned = fold(Counter(), self._con.sql(statement.sql()).to_arrow_table().to_batches())
        else:
            self._con.execute(statement.sql())

    def _upsert(self, statement: Upsert) -> None:
        """Let DuckDB's own ON CONFLICT do it, on a copy that has the key."""
        name = statement.table.name
        self._con.execute(f"DELETE FROM keyed.{name}")
        self._con.execute(f"INSERT INTO keyed.{name} FROM main.{name}")
        self._con.execute("USE keyed")
        self._run(statement)
        self._con.execute("USE main")
        self._con.execute(f"DELETE FROM {name}; INSERT INTO {name} FROM keyed.{name}")

    def _append(self, statement: Insert) -> pa.RecordBatch:
        """Insert rows whose order counts."""
        table = statement.table
        (before,) = self._con.sql(f"SELECT count(*) FROM {table.name}").fetchall()[0]
        self._con.execute(statement.sql())
        rows = self._con.sql(
            f"SELECT *, 1::INTEGER AS __weight FROM {table.name} WHERE rowid >= {before} ORDER BY rowid"
        )
        for seen in self._seen.values():
            seen.take()
        return self._one_batch(rows, table)

    def tick(self, name: str | None = None) -> None:
        """Pass a barrier of every view, or of one."""
        for view, seen in self._seen.items():
            if name in (None, view):
                seen.tick()

    def late(self, name: str) -> Bag:
        """Return time and watermark of the rows that came too late for a view."""
        return Counter(map(tuple, self._seen[name].late()))

    def rows(self, table: Table) -> pa.RecordBatch:
        """Return all rows of a table, with ``__weight``."""
        return self._one_batch(
            self._con.sql(f"SELECT *, 1::INTEGER AS __weight FROM {table.name} ORDER BY rowid"), table
        )

    def _one_batch(self, rows: duckdb.DuckDBPyRelation, table: Table) -> pa.RecordBatch:
        weighted = arrow_schema(columns_of(table)).append(pa.field(WEIGHT, pa.int32()))
        schema = arrow_schema(columns_of(table)) if table.append_only else weighted
        batches = rows.to_arrow_table().combine_chunks().to_batches()
        empty = pa.RecordBatch.from_pylist([], schema=schema)
        return conform(batches[0].select(schema.names), schema) if batches else empty

    def make_view(self, made: MakeView) -> None:
        """Make DuckDB's own view of a query, for the views that read it; duckdb.Error if the query is none."""
        name, query = made.name, made.query
        if isinstance(query, Closing):
            self._seen[name] = Seen(self._con, name, query, self._tables, by_split=self._by_split)
        self.make_plain_view(name, query.batch.replace("$view", name))

    def make_plain_view(self, name: str, sql: str) -> None:
        """Make DuckDB's view of a query's text."""
        self._con.execute(f"CREATE VIEW {name} AS {sql}")

    def drop_view(self, name: str) -> None:
        self._con.execute(f"DROP VIEW {name}")
        self._seen.pop(name, None)

    def answer(self, name: str) -> Bag:
        """Return the rows of a view, asked anew."""
        for seen in self._seen.values():
            seen.refresh()
        found = self._con.sql(f"SELECT * FROM (FROM {name}) LIMIT {MOST_ROWS + 1}").to_arrow_table()
        if len(found) > MOST_ROWS:
            raise TooManyRowsError(name)
        return fold(Counter(), found.to_batches())


@functools.cache
def columns_of(table: Table) -> Schema:
    """Return a table's columns as the catalog has them."""
    statement = parse_statement(table.ddl())
    assert isinstance(statement, CreateTable)
    return statement.columns
