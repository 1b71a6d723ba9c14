"""What the binder asks of the catalog."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from planner.logical import Relation


@dataclass(frozen=True)
class ViewDefinition:
    """A plain view: expanded where it is named. `columns` renames the query's columns if not empty."""

    name: str
    query: str
    columns: tuple[str, ...] = ()


class Catalog(Protocol):
    """Names to relations; lookups are by the folded name (lower case unless quoted)."""

    def lookup(self, name: str) -> Relation | ViewDefinition | None:
        """Return what `name` stands for in FROM, or None."""
        ...

    def names(self) -> Sequence[str]:
        """Return every name that `lookup` knows, sorted: for suggestions."""
        ...
