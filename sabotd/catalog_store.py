"""The catalog in memory: every object by name, what it reads, and what reads it. The tables on disk hold the truth."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from planner.logical import Relation, RelationKind
from planner.plan import PlannedJob
from sabot.errors import SqlError
from sabot.schema import Schema
from sql_frontend.catalog import FunctionDefinition, ViewDefinition


@dataclass(frozen=True)
class CatalogObject:
    """A source, table, view, materialized view or sink.

    `relation` is what queries read (None for sinks); `reads` the keys of what it was made from, directly;
    `job_id` and `planned` are of materialized views and sinks.
    """

    name: str
    kind: str
    sql: str
    relation: Relation | ViewDefinition | FunctionDefinition | None
    columns: Schema
    reads: frozenset[str] = frozenset()
    job_id: str | None = None
    planned: PlannedJob | None = None
    broken: str | None = None
    """Why it could not be brought back at start; it can only be dropped, or come back at the next start."""
    is_graph: bool = False
    """Made by CREATE JOB: a view or a sink, by how its graph ends."""
    notices: tuple[str, ...] = ()
    """What whoever makes it should know."""
    writes: str | None = None
    """The table that a sink writes into, by its key."""
    key: str = ""
    """What the store, jobs and `reads` know it by: the name that it began with, unless that was taken."""

    def __post_init__(self) -> None:
        if not self.key:
            object.__setattr__(self, "key", self.name)


class CatalogStore:
    """Names to objects; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._objects: dict[str, CatalogObject] = {}  # by key
        self._keys: dict[str, str] = {}  # by name
        self.schemas: set[str] = set()
        """Those beside 'public'."""

    def add(self, obj: CatalogObject) -> None:
        """Add an object, or put it in the place of itself before; the caller has checked that the name is free."""
        with self._lock:
            present = self._objects.get(obj.key)
            if present is not None:
                del self._keys[present.name]
            self._objects[obj.key] = obj
            self._keys[obj.name] = obj.key

    def remove(self, key: str) -> None:
        """Remove an object."""
        with self._lock:
            del self._keys[self._objects.pop(key).name]

    def get(self, name: str) -> CatalogObject | None:
        """Return the object called `name`."""
        with self._lock:
            return self._objects[self._keys[name]] if name in self._keys else None

    def by_key(self, key: str) -> CatalogObject | None:
        """Return the object of a key."""
        with self._lock:
            return self._objects.get(key)

    def all(self) -> list[CatalogObject]:
        """Return every object in the order of creation."""
        with self._lock:
            return list(self._objects.values())

    def dependents(self, key: str) -> list[CatalogObject]:
        """Return what was made from `key` or writes into it, directly or not, in the order of creation."""
        found = {key}
        out = []
        for obj in self.all():
            if obj.reads & found or obj.writes in found:
                found.add(obj.key)
                out.append(obj)
        return out

    def upstream(self, keys: Collection[str], *, through_tables: bool = True) -> list[CatalogObject]:
        """Return the objects of `keys` and what their rows come from, directly or not.

        `through_tables`: what sinks bring into tables comes from where the sinks have it.
        """
        writers: dict[str, list[str]] = {}
        for obj in self.all():
            if obj.writes is not None and through_tables:
                writers.setdefault(obj.writes, []).append(obj.key)
        found: dict[str, CatalogObject] = {}
        pending = list(keys)
        while pending:
            name = pending.pop()
            known = self.by_key(name)
            if known is not None and name not in found:
                found[name] = known
                pending += [*known.reads, *writers.get(name, [])]
        return list(found.values())

    def levels(self, objects: Sequence[CatalogObject]) -> list[list[CatalogObject]]:
        """Return `objects` in groups: what comes from others, by way of sinks into tables too, after them."""
        depth: dict[str, int] = {}
        writers: dict[str, list[str]] = {}
        for obj in self.all():
            if obj.writes is not None:
                writers.setdefault(obj.writes, []).append(obj.key)

        def measure(name: str) -> int:
            known = self.by_key(name)
            if name not in depth and known is not None:
                depth[name] = 1 + max((measure(n) for n in (*known.reads, *writers.get(name, ()))), default=0)
            return depth.get(name, 0)

        out: dict[int, list[CatalogObject]] = {}
        for obj in objects:
            out.setdefault(measure(obj.key), []).append(obj)
        return [out[level] for level in sorted(out)]

    # -- sql_frontend.catalog.Catalog

    def lookup(self, name: str) -> Relation | ViewDefinition | FunctionDefinition | None:
        """Return what `name` stands for in FROM."""
        obj = self.get(name)
        return obj.relation if obj is not None else None

    def names(self) -> Sequence[str]:
        """Return every name that FROM knows, sorted."""
        return sorted(o.name for o in self.all() if o.relation is not None)


class RecordingCatalog:
    """Passes lookups on and remembers the names that were found: what a query reads, directly.

    Parameters
    ----------
    catalog : CatalogStore
    rows : callable, optional
        Tells how many rows a table or materialized view has now.
    """

    def __init__(self, catalog: CatalogStore, rows: Callable[[str], int] | None = None) -> None:
        self._catalog = catalog
        self._rows = rows
        self._estimates: dict[str, int] = {}
        self.found: set[str] = set()

    def lookup(self, name: str) -> Relation | ViewDefinition | FunctionDefinition | None:
        """Look `name` up and remember it."""
        relation = self._catalog.lookup(name)
        if relation is not None:
            self.found.add(relation.name)
        if self._rows is None or not isinstance(relation, Relation) or relation.kind is RelationKind.SOURCE:
            return relation
        if name not in self._estimates:
            self._estimates[name] = self._rows(name)
        return replace(relation, rows_estimate=self._estimates[name])

    def names(self) -> Sequence[str]:
        """Return every name."""
        return self._catalog.names()


def in_use(name: str, dependents: Sequence[CatalogObject]) -> SqlError:
    """Make the error for dropping what others read."""
    used = ", ".join(f"{d.kind} {d.name!r}" for d in dependents)
    msg = f"cannot drop {name!r} because it is used by {used}"
    return SqlError(msg, hint="DROP ... CASCADE drops them too", sqlstate="2BP01")
