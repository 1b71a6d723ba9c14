"""INSERT, UPDATE and DELETE of tables: checked as a SELECT is, written by the store."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import duckdb
import pyarrow as pa

from sabot.errors import SabotError, Span, SqlError
from sabot.schema import quote
from sabotd.catalog_store import CatalogObject
from sabotd.cluster import Cluster
from sabotd.engine import PreparedInfo
from sabotd.results import Done, plain_schema, query_error
from sabotd.select_guard import check_select
from sabotd.state.relation import conform
from sabotd.state.table_writes import OnConflict, Written
from sql_frontend.binder import DUCKDB_KNOWS, bind_insert, bind_value
from sql_frontend.cursor import bare_name, nearest
from sql_frontend.statements import ConflictUpdate, Delete, Insert, Update

_DESCRIBE = "DESCRIBE "


@dataclass(frozen=True)
class TableStatements:
    """Carries out what changes a table's rows.

    Parameters
    ----------
    cluster : Cluster
    find : callable
        Gives the object of a name; SqlError if there is none.
    problem : callable
        Turns DuckDB's complaint about a query into an error with its place.
    """

    cluster: Cluster
    find: Callable[[str, str], CatalogObject]
    problem: Callable[[duckdb.Error, str], SabotError]
    timezone: str = "UTC"

    def run(self, statement: Insert | Update | Delete, parameters: Sequence[object]) -> Done:
        """Write; the rows are durable when this returns."""
        verb = type(statement).__name__.upper()
        obj = self._table(statement, verb)
        statement = self._in_duckdb(obj, statement)
        self._check(obj, statement)
        try:
            written = self._write(obj, statement, parameters)
        except duckdb.Error as error:
            raise query_error(error) from error
        tag = f"INSERT 0 {written.count}" if verb == "INSERT" else f"{verb} {written.count}"
        return Done(tag, rows=_plain(written.returned), rows_affected=written.count)

    def _write(self, obj: CatalogObject, statement: Insert | Update | Delete, parameters: Sequence[object]) -> Written:
        store = self.cluster.store
        match statement:
            case Insert():
                return self._insert(obj, statement, parameters)
            case Update(alias=alias, condition=condition, source=source, returning=returning):
                for name, _ in statement.assignments:
                    self._known(obj, name, statement.text)
                return store.update(
                    obj.key,
                    statement.assignments,
                    alias=alias,
                    condition=condition,
                    source=source,
                    returning=returning,
                    timezone=self.timezone,
                )
            case Delete(alias=alias, condition=condition, source=source, returning=returning):
                return store.delete(
                    obj.key,
                    alias=alias,
                    condition=condition,
                    source=source,
                    returning=returning,
                    timezone=self.timezone,
                )

    def prepare(self, statement: Insert | Update | Delete) -> PreparedInfo:
        """Tell the columns of a statement with RETURNING."""
        obj = self._table(statement, type(statement).__name__.upper())
        sql = f"SELECT {statement.returning} FROM {quote(obj.name)} AS {quote(_alias(statement))} LIMIT 0"
        with self.cluster.store.reader(self.timezone) as connection:
            try:
                check_select(connection, sql)
                table = connection.sql(sql).to_arrow_table()
            except duckdb.Error as error:
                raise self.problem(error, sql) from error
        return PreparedInfo(plain_schema(table.schema), pa.schema([]), is_query=True)

    def _table(self, statement: Insert | Update | Delete, verb: str) -> CatalogObject:
        obj = self.find(statement.table, statement.text)
        if obj.kind != "table":
            what = {"INSERT": "insert into", "UPDATE": "update", "DELETE": "delete from"}[verb]
            msg = f"cannot {what} {obj.kind} {obj.name!r}"
            raise SqlError(msg, hint=f"{verb} is for tables", sqlstate="42809", text=statement.text)
        if verb != "INSERT" and self.cluster.store.relation(obj.key).append_only:
            msg = f"rows of table {obj.name!r} are only ever added"
            raise SqlError(msg, hint="it was created APPEND ONLY", sqlstate="42809", text=statement.text)
        if verb != "INSERT" and any(c.name.lower() == "rowid" for c in obj.columns):
            msg = f"{verb} of a table with a column 'rowid' is not supported"
            raise SqlError(msg, hint="give the column another name", sqlstate="0A000", text=statement.text)
        return obj

    def _check(self, obj: CatalogObject, statement: Insert | Update | Delete) -> None:
        """Hold the expressions to what a SELECT may do, and let DuckDB bind them before anything is locked."""
        name, alias = quote(obj.name), quote(_alias(statement))
        source, condition = "", None
        assignments: tuple[tuple[str, str | None], ...] = ()
        match statement:
            case Insert(conflict=conflict) if conflict is not None:
                self._check_target(obj, statement, conflict)
                source, condition, assignments = f", {name} AS excluded", conflict.condition, conflict.assignments
            case Update() | Delete():
                source = f", {statement.source}" if statement.source is not None else ""
                condition = statement.condition
                assignments = statement.assignments if isinstance(statement, Update) else ()
        items = [f"({value})" for _, value in assignments if value is not None]
        checked = []
        if items or condition is not None or source:
            where = f" WHERE ({condition})" if condition is not None else ""
            checked.append(f"SELECT {', '.join(items or ['1'])} FROM {name} AS {alias}{source}{where}")
        if statement.returning is not None:
            checked.append(f"SELECT {statement.returning} FROM {name} AS {alias}")
        with self.cluster.store.reader(self.timezone) as connection:
            for sql in checked:
                try:
                    check_select(connection, sql)
                    if "$" not in sql and "?" not in sql:
                        connection.execute(_DESCRIBE + sql)
                except duckdb.Error as error:
                    raise _placed(self.problem(error, _DESCRIBE + sql), _DESCRIBE + sql, statement) from error

    def _check_target(self, obj: CatalogObject, statement: Insert, conflict: ConflictUpdate) -> None:
        key = self.cluster.store.relation(obj.key).primary_key
        for name in (*conflict.target, *(n for n, _ in conflict.assignments)):
            self._known(obj, name, statement.text)
        if set(conflict.target) != set(key):
            named = ", ".join(conflict.target)
            hint = f"the key is ({', '.join(key)})" if key else "ON CONFLICT needs a table with a PRIMARY KEY"
            msg = f"({named}) is not the primary key of table {obj.name!r}"
            raise SqlError(msg, hint=hint, sqlstate="42P10", text=statement.text)
        changed = next((n for n, _ in conflict.assignments if n in key), None)
        if changed is not None:
            msg = f"ON CONFLICT DO UPDATE of {changed!r}, a column of the key, is not supported"
            raise SqlError(msg, hint="UPDATE changes a key", sqlstate="0A000", text=statement.text)

    def _known(self, obj: CatalogObject, name: str, text: str) -> None:
        columns = [c.name for c in obj.columns]
        if name not in columns:
            found = re.search(rf'"?(?<!\w){re.escape(name)}(?!\w)"?', text, re.IGNORECASE)
            raise SqlError(
                f"column {name!r} does not exist",
                span=Span(*found.span()) if found is not None else None,
                text=text,
                hint=nearest(name, columns),
                sqlstate="42703",
            )

    def _in_duckdb(self, obj: CatalogObject, statement: Insert | Update | Delete) -> Insert | Update | Delete:
        """Return UPDATE and DELETE of one table with their expressions as the front end means them.

        What that does not know (a subquery, a function of DuckDB's alone) stays as it is, and so does what is wrong:
        DuckDB reads it, and tells of it at its place in the statement.
        """
        if isinstance(statement, Insert) or statement.source is not None:
            return statement
        types = {c.name: c.type for c in obj.columns}

        def bound(text: str | None, type_: str | None = None) -> str | None:
            if text is None:
                return None
            try:
                return bind_value(text, statement.alias, obj.columns, self.cluster.catalog, type_)
            except SqlError:
                return text

        made = replace(statement, condition=bound(statement.condition))
        if isinstance(made, Update):
            given = tuple((n, bound(v, types[n]) if n in types else v) for n, v in made.assignments)
            made = replace(made, assignments=given)
        return made

    def _meant(self, statement: Insert, types: Sequence[str]) -> str:
        """Return the query of an INSERT as the front end means it, or as DuckDB reads what that does not know."""
        if not statement.written or statement.written[:7].upper() == "DEFAULT":
            return statement.query
        try:
            return bind_insert(statement.written, self.cluster.catalog, types)
        except SqlError as error:
            if error.sqlstate not in (*DUCKDB_KNOWS, "42703"):
                raise
            return statement.query

    def _insert(self, obj: CatalogObject, statement: Insert, parameters: Sequence[object]) -> Written:
        known = [c.name for c in obj.columns]
        columns = list(statement.columns) or known
        for name in columns:
            self._known(obj, name, statement.text)
        types = {c.name: c.type for c in obj.columns}
        query = self._meant(statement, [types[n] for n in columns])
        with self.cluster.store.reader(self.timezone) as connection:
            try:
                if not statement.constant:
                    check_select(connection, query)
                rows = connection.sql(query, params=list(parameters) or None).to_arrow_table()
            except duckdb.Error as error:
                raise self.problem(error, statement.query) from error
            except SqlError as error:
                error.text = error.text or statement.query
                raise
        if not statement.columns:
            columns = known[: rows.num_columns]
        if rows.num_columns != len(columns):
            msg = f"{len(columns)} columns to fill, {rows.num_columns} given"
            raise SqlError(msg, sqlstate="42601", text=statement.text)
        conflict = statement.conflict
        return self.cluster.store.insert(
            obj.key,
            rows.rename_columns(columns),
            columns,
            on_conflict=statement.on_conflict,
            conflict=OnConflict(conflict.assignments, conflict.condition) if conflict is not None else None,
            returning=statement.returning,
            timezone=self.timezone,
            alias=_alias(statement),
        )


def _placed(error: SabotError, sql: str, statement: Insert | Update | Delete) -> SabotError:
    """Return `error`, which has its place in `sql`, with its place in the statement that `sql` was made of."""
    if not isinstance(error, SqlError) or error.text != sql:
        return error
    conflict = statement.conflict if isinstance(statement, Insert) else None
    assigned = statement.assignments if isinstance(statement, Update) else conflict.assignments if conflict else ()
    condition = conflict.condition if conflict else None if isinstance(statement, Insert) else statement.condition
    source = None if isinstance(statement, Insert) else statement.source
    at, error.span, error.text = error.span, None, statement.text
    for part in (condition, source, statement.returning, *(value for _, value in assigned)):
        begin = sql.find(part) if part else -1
        if part and at is not None and begin >= 0 and begin <= at.start < begin + len(part) and part in statement.text:
            moved = statement.text.rfind(part) - begin
            error.span = Span(at.start + moved, at.end + moved)
            break
    return error


def _alias(statement: Insert | Update | Delete) -> str:
    return bare_name(statement.table) if isinstance(statement, Insert) else statement.alias


def _plain(table: pa.Table | None) -> pa.Table | None:
    if table is None:
        return None
    schema = plain_schema(table.schema)
    return pa.Table.from_batches([conform(b, schema) for b in table.to_batches()], schema)
