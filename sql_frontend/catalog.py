"""What the binder asks of the catalog."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from planner.logical import Relation
from planner.render import motion_type
from planner.task_spec import FunctionSpec
from sabot.schema import Schema


@dataclass(frozen=True)
class ViewDefinition:
    """A plain view: expanded where it is named. `columns` renames the query's columns if not empty."""

    name: str
    query: str
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class FunctionDefinition:
    """A function that CREATE FUNCTION made; see `sql_frontend.statements.CreateFunction`."""

    name: str
    parameters: Schema
    returns: str
    language: str
    body: str
    vectorized: bool = True
    strict: bool = False

    @property
    def spec(self) -> FunctionSpec:
        """What DuckDB and the tasks know of a Python function; another body makes another name."""
        types = tuple(motion_type(p.type) for p in self.parameters)
        told = repr((self.body, types, self.returns, self.vectorized, self.strict, [p.name for p in self.parameters]))
        digest = hashlib.sha256(told.encode()).hexdigest()[:16]
        plain = "".join(c if c.isalnum() else "_" for c in self.name)
        return FunctionSpec(
            f"__python_{plain}_{digest}",
            self.name,
            tuple(p.name for p in self.parameters),
            types,
            motion_type(self.returns),
            self.body,
            self.vectorized,
            self.strict,
        )


class Catalog(Protocol):
    """Names to relations and functions; lookups are by the folded name (lower case unless quoted)."""

    def lookup(self, name: str) -> Relation | ViewDefinition | FunctionDefinition | None:
        """Return what `name` stands for in FROM, or as a call, or None."""
        ...

    def names(self) -> Sequence[str]:
        """Return every name that `lookup` knows, sorted: for suggestions."""
        ...
