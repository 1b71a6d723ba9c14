"""A catalog in memory that CREATE statements fill, as the daemon's does."""

from __future__ import annotations

from collections.abc import Sequence

from planner.logical import Query, Relation, RelationKind, schema_of
from sabot.schema import Schema
from sql_frontend.binder import bind_query, bind_source
from sql_frontend.catalog import ViewDefinition
from sql_frontend.parse import parse_script
from sql_frontend.statements import CreateSource, CreateTable, CreateView


class MemoryCatalog:
    def __init__(self, ddl: str = "") -> None:
        self.known: dict[str, Relation | ViewDefinition] = {}
        self.run(ddl)

    def lookup(self, name: str) -> Relation | ViewDefinition | None:
        return self.known.get(name)

    def names(self) -> Sequence[str]:
        return sorted(self.known)

    def schema(self, name: str) -> Schema:
        found = self.known[name]
        assert isinstance(found, Relation)
        return found.schema

    def run(self, ddl: str) -> None:
        for statement in parse_script(ddl):
            match statement:
                case CreateTable(name=name, columns=columns, primary_key=key):
                    self.known[name] = Relation(name, RelationKind.TABLE, columns, False, key)
                case CreateSource(name=name):
                    self.known[name] = bind_source(statement)
                case CreateView(name=name, materialized=False):
                    self.known[name] = ViewDefinition(name, statement.query, statement.column_names)
                case CreateView(name=name):
                    root = self.bind_view(statement).root
                    self.known[name] = Relation(name, RelationKind.MATERIALIZED_VIEW, schema_of(root), False)
                case _:
                    raise AssertionError(statement)

    def bind(self, sql: str, *, emit_on_window_close: bool = False) -> Query:
        return bind_query(sql, self, emit_on_window_close=emit_on_window_close)

    def bind_view(self, view: CreateView) -> Query:
        return bind_query(
            view.query,
            self,
            emit_on_window_close=view.emit_on_window_close,
            span_offset=view.query_span.start,
            text=view.text,
            columns=view.column_names,
        )
