"""Plan nodes from resolved expressions: types from DuckDB, failing expressions guarded, names kept unique."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlglot import exp

from planner.logical import Aggregate, Filter, LogicalNode, NamedExpr, Project, Relation, RelationKind, Scan, schema_of
from sabot.schema import Field, Schema
from sql_frontend.check import check_types
from sql_frontend.guard import guarded
from sql_frontend.origin import Origin
from sql_frontend.types import check_column_type

_WIDE = ("HUGEINT", "UHUGEINT", "BIGNUM")
WIDE_DECIMAL = "DECIMAL(38,0)"


_ROW = "row"


def rows(count: int) -> LogicalNode:
    """Return a source of `count` rows with nothing but their number, ``row`` from 0: what VALUES is made of."""
    options = {"rows": count, "fields.row.kind": "sequence", "fields.row.start": 0, "fields.row.end": count - 1}
    fields = (Field(_ROW, "BIGINT"),)
    relation = Relation(
        f"rows({count})",
        RelationKind.SOURCE,
        fields,
        append_only=True,
        connector="datagen",
        options=tuple((k, str(v)) for k, v in options.items()),
        finite=True,
    )
    return Scan(relation, fields)


def values(table: Sequence[Sequence[exp.Expression]], types: Sequence[str], origin: Origin) -> LogicalNode:
    """Return the constant rows `table` as columns ``column1``, ``column2``, ... of `types`."""
    items: list[tuple[str, exp.Expression]] = []
    for i, type_ in enumerate(types):
        ifs = [
            exp.If(
                this=exp.EQ(this=column(_ROW), expression=exp.Literal.number(n)),
                true=exp.Cast(this=row[i], to=exp.DataType(this=exp.DType.USERDEFINED, kind=type_)),
            )
            for n, row in enumerate(table)
        ]
        items.append((f"column{i + 1}", exp.Case(ifs=ifs)))
    return project(rows(len(table)), items, origin)


def types_by_field(node: LogicalNode) -> dict[str, str]:
    """Return DuckDB types by field of a node's output."""
    return {f.name: f.type for f in schema_of(node)}


def column(field: str) -> exp.Column:
    """Return the expression that reads `field`."""
    return exp.column(field, quoted=True)


def fresh(wanted: str, taken: Iterable[str]) -> str:
    """Return `wanted`, or with a number after it if it differs from one of `taken` by case at most."""
    used = {t.lower() for t in taken}
    name, number = wanted, 1
    while name.lower() in used:
        name = f"{wanted}_{number}"
        number += 1
    return name


def cast_to(expression: exp.Expression, type_: str) -> exp.Cast:
    """Return `expression` cast to DuckDB type `type_`."""
    return exp.Cast(this=expression, to=exp.DataType(this=exp.DType.USERDEFINED, kind=type_))


def project(node: LogicalNode, items: Sequence[tuple[str, exp.Expression]], origin: Origin) -> LogicalNode:
    """Return `node` projected to named expressions; `node` itself where that changes nothing.

    Raises
    ------
    SqlError
        42804 where DuckDB finds an expression wrong; 0A000 for a type that cannot be a column's.
    """
    fields = schema_of(node)
    if [f.name for f in fields] == [name for name, _ in items] and all(
        isinstance(e, exp.Column) and e.name == name for name, e in items
    ):
        return node
    types = check_types(fields, [e for _, e in items], origin)
    by_field = {f.name: f.type for f in fields}
    named = []
    for (name, expression), type_ in zip(items, types, strict=True):
        whole = expression
        if type_ == "NULL":
            # no column has the type of a bare NULL: it is text, as in PostgreSQL
            whole, type_ = exp.Cast(this=exp.Null(), to=exp.DataType.build("VARCHAR")), "VARCHAR"
        if type_ in _WIDE:
            whole, type_ = cast_to(whole, WIDE_DECIMAL), WIDE_DECIMAL
        safe = whole.copy() if origin.once else guarded(whole, by_field)
        check_column_type(type_, name, origin.span(expression), origin.text)
        named.append(NamedExpr(name, _typed(safe, type_), type_))
    return Project(node, tuple(named))


def filtered(node: LogicalNode, predicates: Sequence[exp.Expression], origin: Origin) -> LogicalNode:
    """Return `node` with only the rows for which all `predicates` are true."""
    if not predicates:
        return node
    return Filter(node, conjunction(schema_of(node), predicates, origin))


def timed(node: LogicalNode, conditions: Sequence[exp.Expression], origin: Origin) -> LogicalNode:
    """Return the rows of `node` for which all `conditions` with now() hold; their sides are guarded, each by itself."""
    if not conditions:
        return node
    fields = schema_of(node)
    types = types_by_field(node)
    check_types(fields, conditions, origin)
    safe = []
    for condition in conditions:
        assert isinstance(condition, exp.Binary)
        sides = (condition.left, condition.right)
        first, second = (guarded(s, types) if any(s.find_all(exp.Column)) else s for s in sides)  # type: ignore[arg-type]
        safe.append(type(condition)(this=first, expression=second))
    whole = safe[0] if len(safe) == 1 else exp.and_(*safe, copy=False)
    return Filter(node, _typed(whole, "BOOLEAN"))  # type: ignore[arg-type]


def conjunction(fields: Schema, predicates: Sequence[exp.Expression], origin: Origin) -> exp.Expression:
    """Return the AND of predicates over an input of `fields`, each checked to be boolean and guarded."""
    by_field = {f.name: f.type for f in fields}
    for predicate, type_ in zip(predicates, check_types(fields, predicates, origin), strict=True):
        if type_ not in ("BOOLEAN", "NULL"):
            hint = "compare it with something"
            msg = f"a condition must be boolean, this is {type_}"
            raise origin.error(msg, predicate, hint=hint, sqlstate="42804")
    # operands of a connective may bind looser than it does
    parts = [p.copy() if origin.once else guarded(p, by_field) for p in predicates]
    whole = parts[0] if len(parts) == 1 else exp.and_(*parts, copy=False)
    return _typed(whole, "BOOLEAN")  # type: ignore[arg-type]


def conjuncts(predicate: exp.Expression) -> list[exp.Expression]:
    """Return the parts of a predicate that AND joins, and what all sides of an OR have in common."""
    bare = predicate.unnest() if isinstance(predicate, exp.Paren) else predicate
    if isinstance(bare, exp.And):
        return conjuncts(bare.left) + conjuncts(bare.right)  # type: ignore[arg-type]
    if isinstance(bare, exp.Or):
        # (a = b AND x) OR (a = b AND y): the equality can join
        left = conjuncts(bare.left)  # type: ignore[arg-type]
        right = conjuncts(bare.right)  # type: ignore[arg-type]
        return [*(p for p in left if p in right), bare]
    return [bare]  # type: ignore[list-item]


def distinct(node: LogicalNode, origin: Origin) -> LogicalNode:
    """Return each different row of `node` once."""
    fields = schema_of(node)
    if any(f.type == "INTERVAL" for f in fields):
        node = project(node, [(f.name, one_written(column(f.name), f.type)) for f in fields], origin)
    return Aggregate(node, tuple(f.name for f in fields), ())


def one_written(key: exp.Expression, type_: str) -> exp.Expression:
    """Return a key to group by in one form: intervals may be equal and differ, as 24 hours and one day do."""
    return exp.Anonymous(this="normalized_interval", expressions=[key]) if type_ == "INTERVAL" else key


def _typed(expression: exp.Expression, type_: str) -> exp.Expression:
    expression.type = exp.DataType(this=exp.DType.USERDEFINED, kind=type_)
    return expression
