"""Random tables: a few columns of any type, with or without a key."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tests.oracle.fuzz.choices import Choices
from tests.oracle.fuzz.values import KINDS, OF_COLUMNS


@dataclass(frozen=True)
class Column:
    """A column; `kind` is the family of its type."""

    name: str
    kind: str
    type: str


@dataclass(frozen=True)
class Table:
    """A table; without a key it keeps duplicates."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    append_only: bool = False
    delay_s: int | None = None
    """Of a relation with a watermark for ``ts``."""
    splits: int = 0
    """Of a source: a row is of the split of its ``id``; 0: a table."""

    def ddl(self) -> str:
        """Return Sabot's CREATE TABLE."""
        key = [f"PRIMARY KEY ({', '.join(self.key)})"] if self.key else []
        if self.delay_s is not None:
            key.append(f"WATERMARK FOR ts AS ts - INTERVAL '{self.delay_s} seconds'")
        body = ", ".join([*(f"{c.name} {c.type}" for c in self.columns), *key])
        return f"CREATE TABLE {self.name} ({body}){' APPEND ONLY' if self.append_only else ''}"

    def without(self, column: str) -> Table:
        """Return the table with a column less."""
        return replace(self, columns=tuple(c for c in self.columns if c.name != column))


_USUAL = ("int", "text", "int", "num", "float", "bool", "text", "ts", "date")


def make_tables(choices: Choices) -> tuple[Table, ...]:
    """Make two or three tables; each has a whole number ``k`` that rows of different tables share."""
    return tuple(_table(choices, f"t{i}") for i in range(2 + choices.below(2)))


def _table(choices: Choices, name: str) -> Table:
    columns = [Column("k", "int", choices.pick(("INTEGER", "BIGINT")))]
    for i in range(2 + choices.below(4)):
        kind = choices.pick(OF_COLUMNS) if choices.chance(35) else choices.pick(_USUAL)
        columns.append(Column(f"c{i}", kind, choices.pick(KINDS[kind].types)))
    shape = choices.below(6)
    if shape == 1:
        return Table(name, (Column("id", "int", "BIGINT"), *columns), append_only=True)
    if shape in (2, 3):
        return Table(name, (Column("id", "int", "BIGINT"), *columns), ("id",))
    if shape == 4:
        return Table(name, (Column("id", "int", "BIGINT"), Column("part", "text", "VARCHAR"), *columns), ("id", "part"))
    return Table(name, tuple(columns))
