"""ON CONFLICT and RETURNING in a history: rows that meet those of their key, and what a statement says it did."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.oracle.fuzz.choices import Choices
from tests.oracle.fuzz.history import Case, Change, Insert, Statement
from tests.oracle.fuzz.tables import Column, Table
from tests.oracle.fuzz.values import literal


@dataclass(frozen=True)
class Upsert(Insert):
    """INSERT with a clause ON CONFLICT, or '' for the table's own way, and with what RETURNING lists, if anything."""

    conflict: str = ""
    returning: str = ""

    def sql(self) -> str:
        returning = f" RETURNING {self.returning}" if self.returning else ""
        return f"{super().sql()}{self.conflict}{returning}"


@dataclass(frozen=True)
class Returning(Change):
    """UPDATE or DELETE, and what RETURNING lists."""

    returning: str = ""

    def sql(self) -> str:
        return f"{super().sql()} RETURNING {self.returning}"


def with_conflicts(case: Case) -> Case:
    """Let some statements of a case have these clauses; the rest of it stays as it was."""
    maker = _Maker(random.Random(f"{case.seed} conflicts"))
    return case.with_statements([maker.changed(s) for s in case.statements])


class _Maker:
    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._choices = Choices(rng)

    def changed(self, statement: Statement) -> Statement:
        """Give a statement a clause, or leave it."""
        returning = ""
        if isinstance(statement, Insert | Change) and self._rng.random() < 0.3:
            returning = self._returning(statement.table)
        if isinstance(statement, Insert):
            conflict = self._conflict(statement) if statement.table.key and self._rng.random() < 0.5 else ""
            if not conflict and not returning:
                return statement
            rows = statement.rows
            if "UPDATE" in conflict or (returning and statement.table.key):
                # which of several rows of a key it would be is an error, or left open
                rows = tuple({self._key(statement.table, row): row for row in rows}.values())
            return Upsert(statement.table, rows, conflict, returning)
        if isinstance(statement, Change) and returning and not statement.text.startswith("INSERT"):
            return Returning(statement.table, statement.text, returning)
        return statement

    def _key(self, table: Table, row: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(cell for column, cell in zip(table.columns, row, strict=True) if column.name in table.key)

    def _conflict(self, statement: Insert) -> str:
        table = statement.table
        target = f"({', '.join(table.key)})"
        shape = self._rng.randrange(5)
        if shape == 0:
            return " ON CONFLICT DO NOTHING"
        if shape == 1:
            return f" ON CONFLICT {target} DO NOTHING"
        free = [c for c in table.columns if c.name not in table.key]
        some = self._rng.sample(free, self._rng.randint(1, min(2, len(free))))
        sets = ", ".join(f"{c.name} = {self._value(table, c)}" for c in some)
        where = f" WHERE {self._condition(table, self._rng.choice(free))}" if self._rng.random() < 0.4 else ""
        return f" ON CONFLICT {target} DO UPDATE SET {sets}{where}"

    def _value(self, table: Table, column: Column) -> str:
        old, new = f"{table.name}.{column.name}", f"excluded.{column.name}"
        values = [new, new, f"coalesce({new}, {old})", "NULL", literal(self._choices, column.kind)]
        values.append(f"CASE WHEN excluded.k > {table.name}.k THEN {new} ELSE {old} END")
        if column.kind in ("int", "num", "text", "date", "ts"):
            values.append(f"greatest({old}, {new})")
        if column.kind == "text":
            values.append(f"coalesce({old}, '') || '+'")
        return self._rng.choice(values)

    def _condition(self, table: Table, column: Column) -> str:
        old, new = f"{table.name}.{column.name}", f"excluded.{column.name}"
        return self._rng.choice((f"{old} IS NULL", f"{new} IS NOT NULL", f"{table.name}.k < excluded.k"))

    def _returning(self, table: Table) -> str:
        names = [c.name for c in table.columns]
        some = self._rng.sample(names, self._rng.randint(1, min(3, len(names))))
        return self._rng.choice(("*", ", ".join(some), f"{some[0]}, k + 1 AS more", f"{some[0]} IS NULL AS none, k"))
