"""What a sink into a table has to keep to: the table, its columns, and that no row comes back to where it was from."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from planner.logical import Relation
from sabot.errors import SqlError
from sabot.schema import Schema
from sabotd.catalog_store import CatalogObject, CatalogStore
from sabotd.connectors import registry
from sql_frontend.cursor import nearest
from sql_frontend.statements import CreateSink


@dataclass(frozen=True)
class Target:
    """A table that a sink may write into."""

    obj: CatalogObject
    relation: Relation


def target_table(catalog: CatalogStore, statement: CreateSink, into: str, reads: Collection[str]) -> Target:
    """Return the table `into`.

    Raises
    ------
    SqlError
        There is none of that name, or the sink reads what comes from it.
    """
    obj = catalog.get(into)
    if obj is None:
        hint = nearest(into, [o.name for o in catalog.all() if o.kind == "table"])
        raise _error(statement, f"table {into!r} does not exist", "42P01", hint)
    if obj.kind != "table" or not isinstance(obj.relation, Relation):
        hint = "INTO is for tables; a sink elsewhere has WITH (connector = ...)"
        raise _error(statement, f"cannot write into {obj.kind} {into!r}", "42809", hint)
    upstream = catalog.upstream(reads)
    if obj in upstream:
        hint = "write into another table"
        raise _error(statement, f"the sink would feed itself: it reads what comes from {into!r}", "0A000", hint)
    return Target(obj, obj.relation)


def target_columns(table: Target, statement: CreateSink) -> Schema:
    """Return the columns that the sink fills, in its order.

    Raises
    ------
    SqlError
        One does not exist, or stands twice.
    """
    known = {f.name: f for f in table.obj.columns}
    for i, name in enumerate(statement.into_columns):
        if name not in known:
            msg = f"column {name!r} does not exist in table {table.obj.name!r}"
            raise _error(statement, msg, "42703", nearest(name, known))
        if name in statement.into_columns[:i]:
            raise _error(statement, f"column {name!r} stands twice", "42701")
    return tuple(known[name] for name in statement.into_columns) or table.obj.columns


def check_fits(table: Target, rows: Relation, statement: CreateSink) -> None:
    """Raise SqlError where rows such as the sink's cannot be kept in the table."""
    written = [f.name for f in rows.schema]
    missing = next((k for k in table.relation.stream_key if k not in written), None)
    if missing is not None:
        msg = f"column {missing!r} of the primary key of {table.obj.name!r} is not written"
        raise _error(statement, msg, "23502", "its rows are known by it")
    if rows.append_only:
        return
    if table.relation.append_only:
        msg = f"rows of table {table.obj.name!r} are only ever added, those of the sink change"
        raise _error(statement, msg, "0A000", "create the table without APPEND ONLY, with a PRIMARY KEY")
    if not table.relation.stream_key:
        msg = f"rows of the sink change, and table {table.obj.name!r} has no primary key to find them by"
        raise _error(statement, msg, "0A000", "create the table with a PRIMARY KEY")


def rereads(catalog: CatalogStore, reads: Collection[str]) -> bool:
    """Whether a job that begins again is given all that it was given before: by no source that has forgotten it."""
    upstream = catalog.upstream(reads, through_tables=False)
    relations = [o.relation for o in upstream if o.kind == "source" and isinstance(o.relation, Relation)]
    return all(r.connector is None or registry.connector(r.connector).rereads(dict(r.options)) for r in relations)


def _error(statement: CreateSink, message: str, sqlstate: str, hint: str | None = None) -> SqlError:
    return SqlError(message, span=statement.into_span, text=statement.text, hint=hint, sqlstate=sqlstate)
