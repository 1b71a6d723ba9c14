"""What names mean inside one SELECT: relations with their columns, and the fields these stand for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlglot import exp

from planner.logical import LogicalNode, OrderBy, Relation, RelationKind, Scan, schema_of
from sabot.errors import SqlError
from sabot.schema import Field, Schema, struct_fields
from sql_frontend.cursor import nearest
from sql_frontend.origin import Origin


@dataclass(frozen=True)
class Column:
    """A column as SQL sees it: its visible `name`, the plan's `field` behind it, its DuckDB type.

    A `hidden` one is found by name but not by ``*``.
    """

    name: str
    field: str
    type: str
    hidden: bool = False


OUTER = "\x02"
"""Begins the names of columns that are of the SELECT around a subquery."""


@dataclass(frozen=True)
class Tail:
    """What stands at the end of a query that is answered once: ORDER BY, LIMIT and OFFSET."""

    order: tuple[OrderBy, ...] = ()
    limit: int | None = None
    offset: int = 0


class NeedsDomainError(Exception):
    """A subquery reads the SELECT `around` it in a way that takes a :class:`Domain`: it is lowered anew with one."""

    def __init__(self, around: Scope | None) -> None:
        super().__init__("a subquery needs the values of the query around it")
        self.around = around


class WidenedError(Exception):
    """A column has come to `domain`: what is lowered over it is lowered anew."""

    def __init__(self, domain: Domain) -> None:
        super().__init__("a subquery reads one more column of the query around it")
        self.domain = domain


class ReadsDomainError(Exception):
    """A SELECT turned out to read its domain: it is lowered anew with it in FROM. `select` is its scope's `select`."""

    def __init__(self, select: object) -> None:
        super().__init__("a SELECT reads the query around it")
        self.select = select


@dataclass
class Domain:
    """The different values of the columns of the SELECT `around` a subquery that this reads.

    The subquery is lowered over them, with `leaf` in their place: it has its rows for each of them, and is then joined
    with the rows around it by these columns, NULL being a value (Neumann and Kemper, Unnesting Arbitrary Queries).
    """

    around: Scope
    columns: list[Column] = field(default_factory=list)

    @property
    def fields(self) -> list[str]:
        """The field of each column."""
        return [f"__outer{self.around.depth}_{i}" for i in range(len(self.columns))]

    @property
    def leaf(self) -> Scan:
        """What stands for the values until the rows around are known."""
        fields = tuple(Field(f, c.type) for f, c in zip(self.fields, self.columns, strict=True))
        name = f"outer{self.around.depth}"
        return Scan(Relation(name, RelationKind.INPUT, fields, append_only=False), fields)

    @property
    def pairs(self) -> tuple[tuple[exp.Expression, exp.Expression], ...]:
        """(expression around, expression here) of each column."""
        around = [exp.column(c.field, quoted=True) for c in self.columns]
        return tuple((a, exp.column(f, quoted=True)) for a, f in zip(around, self.fields, strict=True))

    def field_of(self, column: Column) -> str:
        """Return the field that has `column` of the SELECT around; raises WidenedError if it was not there."""
        for known, made in zip(self.columns, self.fields, strict=True):
            if known.field == column.field:
                return made
        self.columns.append(column)
        raise WidenedError(self)


@dataclass(frozen=True)
class Bound:
    """A query that is lowered: its plan, and its columns in order.

    Of a subquery that reads columns of the SELECT around it, `correlated` are (expression there, field here) that must
    be equal, and `residual` what must hold besides, over fields here and `OUTER` ones there. It then has rows for each
    value of these; `empty`, if not none, has each column's value where there are none. `one_row`: there is exactly one.
    With a `domain`, NULL equals NULL in `correlated`, which has its columns, and the plan has its leaf.
    """

    node: LogicalNode
    columns: tuple[Column, ...]
    correlated: tuple[tuple[exp.Expression, str], ...] = ()
    residual: tuple[exp.Expression, ...] = ()
    empty: tuple[exp.Expression, ...] | None = None
    one_row: bool = False
    notices: tuple[str, ...] = ()
    tail: Tail = Tail()
    domain: Domain | None = None


@dataclass(frozen=True)
class Pending:
    """A subquery of an expression, to be joined: its plan with fields of its own, (key expression, field) pairs.

    Without pairs it has exactly one row. The first pairs are those of its `domain`, if it has one.
    """

    node: LogicalNode
    keys: tuple[tuple[exp.Expression, str], ...]
    domain: Domain | None = None

    @property
    def fields(self) -> set[str]:
        """The fields it adds."""
        return {f.name for f in schema_of(self.node)}


@dataclass(frozen=True)
class Correlation:
    """What the WHERE of a subquery says of columns around it: (expression there, expression here), and the rest.

    With a `domain` the pairs are its columns, which are in FROM.
    """

    pairs: tuple[tuple[exp.Expression, exp.Expression], ...] = ()
    residual: tuple[exp.Expression, ...] = ()
    domain: Domain | None = None


@dataclass(frozen=True)
class RelationInScope:
    """One item of FROM under the name it goes by (None: a subquery without alias)."""

    name: str | None
    columns: tuple[Column, ...]


def folded(identifier: exp.Expr) -> str:
    """Return an identifier's name: lower case unless quoted."""
    return identifier.name if identifier.args.get("quoted") else identifier.name.lower()


def matching(name: str, columns: Sequence[Column]) -> list[Column]:
    """Return the columns called `name`: exactly, or else but for case (DuckDB's names differ by more than case)."""
    exact = [c for c in columns if c.name == name]
    return exact or [c for c in columns if c.name.lower() == name.lower()]


@dataclass
class Scope:
    """The relations of a FROM clause; `merged` are the columns that USING makes one.

    `outer` is the SELECT around a subquery, read through its `domain` where it has one: then `reads` says whether that
    is in FROM, and `select` is the SELECT's own. `subquery` gives (node, resolver) the value of a subquery or None,
    `pending` collects the joins that subqueries in expressions become, `made` has
    the types of fields that stand for those and for calls, `windows` are the definitions of the WINDOW clause.
    """

    origin: Origin
    relations: list[RelationInScope] = field(default_factory=list)
    merged: dict[str, Column] = field(default_factory=dict)
    outer: Scope | None = None
    subquery: Callable[[exp.Expr, Any], exp.Expression | None] | None = None
    pending: list[Pending] = field(default_factory=list)
    made: dict[str, str] = field(default_factory=dict)
    windows: dict[str, exp.Expr] = field(default_factory=dict)
    correlation: Correlation = field(default_factory=Correlation)
    subqueries: int = 0
    domain: Domain | None = None
    reads: bool = False
    select: object = None
    calls: list[Any] | None = None
    """Collects the aggregates of this SELECT that stand in its subqueries, while there may be any."""

    @property
    def depth(self) -> int:
        """How many SELECTs are around this one."""
        return 0 if self.outer is None else self.outer.depth + 1

    @property
    def columns(self) -> list[Column]:
        """All columns, relation by relation."""
        return [c for r in self.relations for c in r.columns]

    @property
    def types(self) -> dict[str, str]:
        """DuckDB types by field."""
        return {c.field: c.type for c in self.columns}

    def star(self) -> list[Column]:
        """Return what ``*`` stands for."""
        out: list[Column] = []
        seen: set[str] = set()
        for relation in self.relations:
            for column in relation.columns:
                merged = self.merged.get(column.name)
                if column.hidden or (merged is not None and column.name in seen):
                    continue
                seen.add(column.name)
                out.append(merged or column)
        return out

    def relation(self, name: str) -> RelationInScope | None:
        """Return the relation called `name`, exactly or else but for case."""
        exact = [r for r in self.relations if r.name == name]
        found = exact or [r for r in self.relations if r.name is not None and r.name.lower() == name.lower()]
        return found[0] if found else None

    def resolve(self, parts: Sequence[exp.Expr], node: exp.Expr) -> tuple[Column, Sequence[exp.Expr]]:
        """Return the column that a dotted name begins with, and the parts that are left (fields of a STRUCT).

        Raises
        ------
        SqlError
            42703 no such column, 42702 ambiguous, 42P01 no such relation.
        """
        first = folded(parts[0])
        if len(parts) > 1 and (relation := self.relation(first)) is not None:
            name = folded(parts[1])
            found = matching(name, relation.columns)
            if len(found) == 1:
                return found[0], parts[2:]
            if found:
                raise self._ambiguous(f"{first}.{name}", node)
            rows = matching(first, self.columns)
            if len(rows) == 1 and struct_member(rows[0].type, name) is not None:
                # unnest(...) AS e: e is a column too, and has fields
                return rows[0], parts[1:]
            hint = nearest(name, [c.name for c in relation.columns])
            msg = f"column {name!r} of {first!r} does not exist"
            raise self.origin.error(msg, parts[1], hint=hint, sqlstate="42703")
        if first in self.merged:
            return self.merged[first], parts[1:]
        found = matching(first, self.columns)
        if len(found) == 1:
            return found[0], parts[1:]
        if found:
            raise self._ambiguous(first, node)
        if len(parts) > 1:
            names = [r.name for r in self.relations if r.name is not None]
            msg = f"{first!r} is neither a relation in FROM nor a column"
            raise self.origin.error(msg, parts[0], hint=nearest(first, names), sqlstate="42P01")
        hint = nearest(first, [c.name for c in self.columns])
        raise self.origin.error(f"column {first!r} does not exist", parts[0], hint=hint, sqlstate="42703")

    def find(
        self, parts: Sequence[exp.Expr], node: exp.Expr, *, inside: bool = False
    ) -> tuple[Column, Sequence[exp.Expr]]:
        """Return what :meth:`resolve` does, of this SELECT or of one around it; `inside`: a subquery asks.

        A column of the SELECT around has an `OUTER` field, or the domain's.

        Raises
        ------
        SqlError
            As :meth:`resolve` does.
        NeedsDomainError, WidenedError, ReadsDomainError
            The subquery has to be lowered in another way.
        """
        try:
            return self.resolve(parts, node)
        except SqlError as error:
            if self.outer is None or error.sqlstate not in ("42703", "42P01"):
                raise
            missing = error
        try:
            column, rest = self.outer.find(parts, node, inside=True)
        except SqlError as error:
            # a relation that is around tells best which of its columns is not there
            known = missing.sqlstate == "42P01" and error.sqlstate != "42P01"
            raise (error if known else missing) from None
        return self.borrowed(column, inside=inside), rest

    def borrowed(self, column: Column, *, inside: bool = False) -> Column:
        """Return what a `column` of the SELECT around is here; raises as :meth:`find` does."""
        if self.domain is not None:
            made = self.domain.field_of(column)
            if not self.reads:
                raise ReadsDomainError(self.select)
        elif inside:
            raise NeedsDomainError(self.outer)
        else:
            made = OUTER + column.field
        self.made[made] = column.type
        return replace(column, field=made)

    def owns(self, node: exp.Column) -> bool:
        """Whether a name is of this SELECT itself, if only as one that is ambiguous."""
        try:
            self.resolve(node.parts, node)
        except SqlError as error:
            return error.sqlstate not in ("42703", "42P01")
        return True

    def _ambiguous(self, name: str, node: exp.Expr) -> SqlError:
        owners = [r.name for r in self.relations if r.name is not None and matching(name, r.columns)]
        hint = f"write {' or '.join(f'{o}.{name}' for o in owners)}" if owners else None
        return self.origin.error(f"column {name!r} is ambiguous", node, hint=hint, sqlstate="42702")


def schema_of_scope(scope: Scope) -> Schema:
    """Return the scope's fields, and those that stand for subqueries and calls."""
    fields = {c.field: Field(c.field, c.type) for c in (*scope.columns, *scope.merged.values())}
    return (*fields.values(), *(Field(name, type_) for name, type_ in scope.made.items()))


def struct_member(type_: str, name: str) -> tuple[str, str] | None:
    """Return the (name, type) of a STRUCT type's field called `name`, or None."""
    if not (type_.startswith("STRUCT(") and type_.endswith(")")):
        return None
    fields = struct_fields(type_)
    exact = [f for f in fields if f[0] == name]
    found = exact or [f for f in fields if f[0].lower() == name.lower()]
    return found[0] if found else None
