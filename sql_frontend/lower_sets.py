"""Set operations: UNION, INTERSECT and EXCEPT of queries that are lowered."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from planner.logical import AggCall, Aggregate, LogicalNode, Union, Unnest
from sql_frontend import build
from sql_frontend.dependent import crossed
from sql_frontend.duck import union_types
from sql_frontend.origin import Origin
from sql_frontend.scope import Bound, Column, Domain, NeedsDomainError, Scope


def union(tree: exp.Union, branches: Sequence[Bound], outer: Scope | None, origin: Origin) -> Bound:
    """Return UNION, or UNION ALL if `tree` is that, of the `branches`.

    Raises
    ------
    SqlError
        They are not alike.
    NeedsDomainError
        One of them reads `outer` otherwise than through a domain.
    """
    inputs, columns, domain = _alike(tree, branches, outer, origin)
    node: LogicalNode = Union(inputs)
    if tree.args.get("distinct"):
        node = build.distinct(node, origin)
    return _of_domain(node, columns, domain)


def difference(tree: exp.Intersect | exp.Except, sides: Sequence[Bound], outer: Scope | None, origin: Origin) -> Bound:
    """Return INTERSECT or EXCEPT of two queries: how often a row is on either side says how often it stays.

    Raises
    ------
    SqlError
        They are not alike.
    NeedsDomainError
        One of them reads `outer` otherwise than through a domain.
    """
    inputs, columns, domain = _alike(tree, sides, outer, origin)
    fields = [*(c.field for c in columns), *(domain.fields if domain is not None else ())]
    left, right, flag = (build.fresh(n, fields) for n in ("on_left", "on_right", "is_left"))
    flagged = [
        build.project(node, [*((f, build.column(f)) for f in fields), (flag, exp.Boolean(this=is_left))], origin)
        for node, is_left in zip(inputs, (True, False), strict=True)
    ]
    other = build.fresh("is_right", [*fields, flag])
    both = Union(tuple(flagged))
    counted_by = build.project(
        both,
        [*((f, build.column(f)) for f in (*fields, flag)), (other, exp.Not(this=build.column(flag)))],
        origin,
    )
    calls = (
        AggCall(left, "count", None, "BIGINT", filter=flag),
        AggCall(right, "count", None, "BIGINT", filter=other),
    )
    counted = Aggregate(counted_by, tuple(fields), calls)
    intersect = isinstance(tree, exp.Intersect)
    zero = exp.Literal.number(0)
    there = exp.GT(this=build.column(left), expression=zero)
    if tree.args.get("distinct"):
        beside = exp.GT if intersect else exp.EQ
        node = build.filtered(counted, [there, beside(this=build.column(right), expression=zero.copy())], origin)
        node = build.project(node, [(f, build.column(f)) for f in fields], origin)
        return _of_domain(node, columns, domain)
    least = exp.Anonymous(this="least", expressions=[build.column(left), build.column(right)])
    less = exp.Sub(this=build.column(left), expression=build.column(right))
    copies = exp.Anonymous(this="range", expressions=[least if intersect else less])
    many = build.fresh("copies", fields)
    listed = build.project(counted, [*((f, build.column(f)) for f in fields), (many, copies)], origin)
    each = Unnest(listed, ((many, build.fresh("copy", [*fields, many]), "BIGINT"),))
    node = build.project(each, [(f, build.column(f)) for f in fields], origin)
    return _of_domain(node, columns, domain)


def _alike(
    tree: exp.Expr, branches: Sequence[Bound], outer: Scope | None, origin: Origin
) -> tuple[tuple[LogicalNode, ...], tuple[Column, ...], Domain | None]:
    """Give the queries of a set operation the same fields and types; those of the domain stand last."""
    first = branches[0]
    width = len(first.columns)
    for i, branch in enumerate(branches):
        if len(branch.columns) != width:
            what = type(tree).__name__.upper()
            msg = f"the queries of {what} have {width} and {len(branch.columns)} columns"
            raise origin.error(msg, tree if i == 0 else tree.expression, sqlstate="42601")
    if any(b.residual or (b.correlated and b.domain is None) for b in branches):
        raise NeedsDomainError(outer)
    domain = next((b.domain for b in branches if b.domain is not None), None)
    types = union_types([tuple(c.type for c in b.columns) for b in branches])
    types = tuple({"HUGEINT": build.WIDE_DECIMAL, "NULL": "VARCHAR"}.get(t, t) for t in types)
    fields: list[str] = []
    for column in first.columns:
        fields.append(build.fresh(column.name, fields))
    inputs = tuple(_aligned(b, fields, types, domain, origin) for b in branches)
    columns = (Column(c.name, f, t) for c, f, t in zip(first.columns, fields, types, strict=True))
    return inputs, tuple(columns), domain


def _aligned(
    branch: Bound, fields: Sequence[str], types: Sequence[str], domain: Domain | None, origin: Origin
) -> LogicalNode:
    items: list[tuple[str, exp.Expression]] = []
    for column, field, type_ in zip(branch.columns, fields, types, strict=True):
        value: exp.Expression = build.column(column.field)
        items.append((field, value if column.type == type_ else build.cast_to(value, type_)))
    if domain is None:
        return build.project(branch.node, items, origin)
    if branch.domain is None:
        items += [(f, build.column(f)) for f in domain.fields]
        return build.project(crossed(branch.node, domain), items, origin)
    items += [(f, build.column(of)) for f, (_, of) in zip(domain.fields, branch.correlated, strict=True)]
    return build.project(branch.node, items, origin)


def _of_domain(node: LogicalNode, columns: tuple[Column, ...], domain: Domain | None) -> Bound:
    """Return a query that has the domain's columns, if there is one, in the domain's own fields."""
    if domain is None:
        return Bound(node, columns)
    pairs = tuple((around, here.name) for around, here in domain.pairs)
    return Bound(node, columns, pairs, domain=domain)
