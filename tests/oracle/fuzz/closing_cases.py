"""Random histories of relations with a watermark: rows out of order and late, views of what has closed over them."""

from __future__ import annotations

import random

from tests.oracle.fuzz.choices import Choices
from tests.oracle.fuzz.closing import Stream, make_closing
from tests.oracle.fuzz.expressions import Ref
from tests.oracle.fuzz.history import Case, DropView, Flush, Insert, MakeView, Statement, Tick
from tests.oracle.fuzz.queries import make_query
from tests.oracle.fuzz.relations import Named
from tests.oracle.fuzz.tables import Column, Table
from tests.oracle.fuzz.values import cell

_COLUMNS = (
    Column("id", "int", "BIGINT"),
    Column("k", "int", "INTEGER"),
    Column("s", "text", "VARCHAR"),
    Column("n", "int", "BIGINT"),
    Column("ts", "ts", "TIMESTAMP"),
)


def make_closing_case(seed: int, views: int = 4, flushes: int = 4) -> Case:
    """Make a case: the same seed gives the same."""
    return _Maker(seed).case(views, flushes)


class _Maker:
    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._rng = random.Random(seed)
        self._choices = Choices(self._rng)
        # 0: a table, whose rows a new view finds; more: a source of so many splits, which it reads from the start
        self._tables = tuple(
            Table(
                f"e{i}",
                _COLUMNS,
                append_only=True,
                delay_s=self._rng.choice((0, 2, 5)),
                splits=self._rng.choice((0, 0, 1, 2, 3)),
            )
            for i in range(self._rng.choice((1, 1, 2)))
        )
        self._now = dict.fromkeys([t.name for t in self._tables], 0.0)
        self._ids = 0
        self._made = 0
        self._live: list[Named] = []

    def case(self, views: int, flushes: int) -> Case:
        out: list[Statement] = []
        late = {self._rng.randrange(1, flushes + 1) for _ in range(views // 2)}
        if self._rng.random() < 0.5:
            out += [*(self._insert(t) for t in self._tables), Flush()]
        while self._made < views - len(late):
            out.append(self._view())
        for number in range(1, flushes + 1):
            for _ in range(self._rng.randint(1, 4)):
                out.append(self._insert(self._rng.choice(self._tables)))
                if self._rng.random() < 0.25:
                    out.append(Tick())
            if number in late:
                # what is there is in the log by then
                out += [Flush(), self._view()]
            if self._rng.random() < 0.1 and self._live and self._live[-1].name == f"v{self._made - 1}":
                out.append(DropView(self._live.pop().name))
            out.append(Flush())
        return Case(self._seed, self._tables, tuple(out))

    def _view(self) -> MakeView:
        known = [Stream(t.name, tuple(Ref(c.name, c.kind) for c in t.columns), t.splits < 2) for t in self._tables]
        name = f"v{self._made}"
        self._made += 1
        parallelism = self._rng.choice((1, 2, 4, 2, 7))
        if self._live and self._rng.random() < 0.2:
            # any query over what has been shown
            query = make_query(self._live, self._rng)
            if all(c.kind != "real" for c in query.columns):
                self._live.append(Named(name, query.columns))
            return MakeView(name, query, parallelism, tuple(self._live))
        closing = make_closing(known, self._rng)
        if all(c.kind != "real" for c in closing.columns):
            self._live.append(Named(name, closing.columns))
        return MakeView(name, closing, parallelism, tuple(known))

    def _insert(self, table: Table) -> Insert:
        count = self._rng.choice((1, 2, 3, 5, 8, 12, 20))
        return Insert(table, tuple(self._row(table) for _ in range(count)))

    def _row(self, table: Table) -> tuple[str, ...]:
        self._ids += 1
        self._now[table.name] += self._rng.expovariate(1 / self._rng.choice((0.3, 1.0, 1.0, 4.0)))
        behind = self._rng.choice((0, 0, 0, 1, 3, 6, 12, 30)) * self._rng.random()
        half_seconds = max(round(2 * (self._now[table.name] - behind)), -20)
        minutes, seconds = divmod(half_seconds / 2, 60)
        at = f"TIMESTAMP '2024-05-01 12:{minutes:02.0f}:{seconds:04.1f}'"
        if half_seconds < 0:
            at = f"TIMESTAMP '2024-05-01 11:59:{60 + half_seconds / 2:04.1f}'"
        if self._rng.random() < 0.04:
            at = "NULL"
        values = [cell(self._choices, kind) for kind in ("int", "text", "int")]
        return (str(self._ids), *values, at)
