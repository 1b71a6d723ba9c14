"""Random histories: what is done to the tables and views of a case, and in which order."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tests.oracle.fuzz.choices import Choices
from tests.oracle.fuzz.closing import Closing, make_closing
from tests.oracle.fuzz.expressions import Expressions, Ref
from tests.oracle.fuzz.queries import Query, make_query
from tests.oracle.fuzz.relations import Named
from tests.oracle.fuzz.tables import Table, make_tables
from tests.oracle.fuzz.values import cell, literal


@dataclass(frozen=True)
class Insert:
    """INSERT of rows of literals; with a key, a row replaces the one of its key."""

    table: Table
    rows: tuple[tuple[str, ...], ...]

    def sql(self) -> str:
        rows = ", ".join(f"({', '.join(row)})" for row in self.rows)
        return f"INSERT INTO {self.table.name} VALUES {rows}"


@dataclass(frozen=True)
class Change:
    """UPDATE or DELETE, in a text that Sabot and DuckDB read alike."""

    table: Table
    text: str

    def sql(self) -> str:
        return self.text


@dataclass(frozen=True)
class MakeView:
    """CREATE MATERIALIZED VIEW."""

    name: str
    query: Query
    parallelism: int
    known: tuple[Named, ...]
    """What the query could name: with its choices they make it again."""

    def sql(self) -> str:
        emit = " EMIT ON WINDOW CLOSE" if isinstance(self.query, Closing) and self.query.emit else ""
        return f"CREATE MATERIALIZED VIEW {self.name} AS {self.query.sql}{emit}"

    def again(self, given: Sequence[int]) -> MakeView:
        """Make the view by other choices."""
        make = make_closing if isinstance(self.query, Closing) else make_query
        return replace(self, query=make(self.known, None, given))


@dataclass(frozen=True)
class DropView:
    """DROP MATERIALIZED VIEW of one that nobody reads."""

    name: str

    def sql(self) -> str:
        return f"DROP MATERIALIZED VIEW {self.name}"


@dataclass(frozen=True)
class Flush:
    """FLUSH; every view is compared then."""

    def sql(self) -> str:
        return "FLUSH"


@dataclass(frozen=True)
class Tick:
    """A barrier at which nothing is compared; a FLUSH to a daemon."""

    def sql(self) -> str:
        return "FLUSH"


Statement = Insert | Change | MakeView | DropView | Flush | Tick


@dataclass(frozen=True)
class Case:
    """Tables and what happens to them. `seed` made it."""

    seed: int
    tables: tuple[Table, ...]
    statements: tuple[Statement, ...]

    def with_statements(self, statements: Sequence[Statement]) -> Case:
        return replace(self, statements=tuple(statements))


def named(table: Table) -> Named:
    return Named(table.name, tuple(Ref(c.name, c.kind) for c in table.columns))


def make_case(seed: int, views: int = 4, flushes: int = 4) -> Case:
    """Make a case: the same seed gives the same."""
    return _Maker(seed).case(views, flushes)


class _Maker:
    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._rng = random.Random(seed)
        self._choices = Choices(self._rng)
        self._tables = make_tables(self._choices)
        self._next = dict.fromkeys([t.name for t in self._tables], 0)
        self._live: list[tuple[Named, bool]] = []
        self._made = 0

    def case(self, views: int, flushes: int) -> Case:
        out: list[Statement] = []
        # most views see an empty beginning, some are made over rows that are there already
        late = {self._rng.randrange(1, flushes + 1) for _ in range(views // 2)}
        if self._rng.random() < 0.6:
            out += [self._insert(t) for t in self._tables if self._rng.random() < 0.8]
        while self._made < views - len(late):
            out.append(self._view())
        for number in range(1, flushes + 1):
            out += self._changes()
            if number in late:
                # after every view that it may read
                first = max((i + 1 for i, s in enumerate(out) if isinstance(s, MakeView)), default=0)
                out.insert(self._rng.randint(max(len(out) - 3, first), len(out)), self._view())
            if self._rng.random() < 0.15:
                out += self._drop()
            out.append(Flush())
        return Case(self._seed, self._tables, tuple(out))

    def _view(self) -> MakeView:
        known = [*map(named, self._tables), *(n for n, _ in self._live)]
        query = make_query(known, self._rng)
        name = f"v{self._made}"
        self._made += 1
        readable = tuple(c for c in query.columns if c.kind != "real")
        if readable and len(readable) == len(query.columns):
            self._live.append((Named(name, query.columns), True))
        return MakeView(name, query, self._rng.choice((1, 2, 1, 2, 4, 2, 7)), tuple(known))

    def _drop(self) -> list[Statement]:
        # the youngest: nobody reads it
        if self._made < 2 or not self._live or self._live[-1][0].name != f"v{self._made - 1}":
            return []
        return [DropView(self._live.pop()[0].name)]

    def _changes(self) -> list[Statement]:
        out: list[Statement] = []
        for _ in range(self._rng.randint(1, 4)):
            table = self._rng.choice(self._tables)
            roll = self._rng.random()
            if roll < 0.1 and (copied := self._copy(table)) is not None:
                out.append(copied)
            elif table.append_only or roll < 0.55:
                out.append(self._insert(table))
            elif roll < 0.8:
                out.append(self._update(table))
            else:
                out.append(self._delete(table))
        return out

    def _insert(self, table: Table) -> Insert:
        return Insert(table, tuple(self._row(table) for _ in range(self._rng.choice((1, 2, 3, 5, 8, 12)))))

    def _row(self, table: Table) -> tuple[str, ...]:
        return tuple(self._cell(table, name, kind) for name, kind in ((c.name, c.kind) for c in table.columns))

    def _cell(self, table: Table, name: str, kind: str) -> str:
        if name == "id":
            # a key again now and then: the row is overwritten
            if table.key and self._rng.random() < 0.3 and self._next[table.name]:
                return str(self._rng.randrange(self._next[table.name]))
            self._next[table.name] += 1
            return str(self._next[table.name])
        if name in table.key:
            return literal(self._choices, kind)
        return cell(self._choices, kind)

    def _update(self, table: Table) -> Statement:
        refs = [Ref(c.name, c.kind) for c in table.columns]
        free = [c for c in table.columns if c.name not in table.key and c.name != "id"]
        column = self._rng.choice(free)
        # arithmetic over and over would leave the type's range
        value = cell(self._choices, column.kind)
        same = [r.text for r in refs if r.kind == column.kind and r.text != column.name]
        if same and self._rng.random() < 0.4:
            types = {c.name: c.type for c in table.columns}
            value = self._rng.choice([*(n for n in same if types[n] == column.type), value])
        return Change(table, f"UPDATE {table.name} SET {column.name} = {value} WHERE {self._condition(refs)}")

    def _copy(self, table: Table) -> Statement | None:
        """INSERT ... SELECT of another table's rows, or UPDATE ... FROM it."""
        other = self._rng.choice(self._tables)
        if table.append_only:
            return None
        if table.key:
            # one row for each row that changes
            column = next((c for c in table.columns if c.kind in ("int", "text") and c.name not in table.key), None)
            same = [c.name for c in other.columns if column is not None and c.type == column.type]
            if column is None or not same:
                return None
            most = f"(SELECT k, max({self._rng.choice(same)}) AS most FROM {other.name} GROUP BY k) AS s"
            text = f"UPDATE {table.name} SET {column.name} = s.most FROM {most} WHERE {table.name}.k = s.k"
            return Change(table, text)
        items = []
        for column in table.columns:
            same = [c.name for c in other.columns if c.type == column.type]
            items.append(self._rng.choice(same) if same else cell(self._choices, column.kind))
        where = self._condition([Ref(c.name, c.kind) for c in other.columns])
        return Change(table, f"INSERT INTO {table.name} SELECT {', '.join(items)} FROM {other.name} WHERE {where}")

    def _delete(self, table: Table) -> Statement:
        refs = [Ref(c.name, c.kind) for c in table.columns]
        where = "" if self._rng.random() < 0.05 else f" WHERE {self._condition(refs)}"
        return Change(table, f"DELETE FROM {table.name}{where}")

    def _condition(self, refs: list[Ref]) -> str:
        return Expressions(self._choices).condition(refs)
