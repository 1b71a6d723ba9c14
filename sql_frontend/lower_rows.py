"""What a query does with whole rows after they are made: window functions, ORDER BY with LIMIT, DISTINCT ON."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import duckdb
from sqlglot import exp

from planner.logical import AggCall, LogicalNode, OrderBy, Over, OverCall, schema_of
from planner.numeric import digits
from sql_frontend import build
from sql_frontend.calls import Sort, WindowUse, call_type
from sql_frontend.duck import constant, describe
from sql_frontend.origin import Origin
from sql_frontend.resolver import WINDOW, Resolver
from sql_frontend.scope import Bound, NeedsDomainError, Scope, Tail, folded, matching


def with_windows(
    node: LogicalNode, uses: Sequence[WindowUse], keys: Sequence[str], origin: Origin
) -> tuple[LogicalNode, dict[str, str]]:
    """Return `node` with a field for each window function, and these fields by placeholder.

    `keys` are fields that part the rows altogether: of a subquery, those of the query around it.
    """
    fields = [f.name for f in schema_of(node)]
    added: list[tuple[str, exp.Expression]] = []

    def field_of(expression: exp.Expression) -> str:
        if isinstance(expression, exp.Column):
            return expression.name
        for name, known in added:
            if known == expression:
                return name
        name = build.fresh("over", [*fields, *(n for n, _ in added)])
        added.append((name, expression))
        return name

    def sorts(order: Sequence[Sort]) -> tuple[OrderBy, ...]:
        return tuple(OrderBy(field_of(o.expression), o.descending, o.nulls_first) for o in order)

    parts: dict[tuple[str, ...], list[tuple[int, OverCall]]] = {}
    for i, use in enumerate(uses):
        call = use.call
        arguments = [field_of(a) for a in call.arguments]
        where = field_of(call.condition) if call.condition is not None else None
        partition = tuple(dict.fromkeys([*keys, *(field_of(p) for p in use.partition)]))
        made = AggCall(
            f"__over{i}",
            call.function,
            arguments[0] if arguments else None,
            "",
            call.distinct,
            where,
            tuple(arguments[1:]),
            call.constants,
            sorts(call.order),
        )
        parts.setdefault(partition, []).append((i, OverCall(made, use.frame, use.ignore_nulls)))
    node = build.project(node, [*((f, build.column(f)) for f in fields), *added], origin)
    types = build.types_by_field(node)
    replaced: dict[str, str] = {}
    for partition, calls in parts.items():
        typed = []
        for i, over in calls:
            named = [n for n in (over.call.argument, *over.call.more) if n is not None]
            type_ = call_type(uses[i].call, [types[n] for n in named], origin, window=True)
            name = build.fresh(over.name, types)
            types[name] = type_
            replaced[f"{WINDOW}{i}"] = name
            plain = AggCall(
                name,
                over.call.function,
                over.call.argument,
                type_,
                over.call.distinct,
                over.call.filter,
                over.call.more,
                over.call.constants,
                over.call.order,
            )
            typed.append(OverCall(plain, over.frame, over.ignore_nulls))
        node = Over(node, partition, tuple(typed))
    return node, replaced


def in_place(expression: exp.Expression, fields: dict[str, str]) -> exp.Expression:
    """Return `expression` with placeholders replaced by their fields."""

    def swap(node: exp.Expr) -> exp.Expr:
        return build.column(fields[node.name]) if isinstance(node, exp.Column) and node.name in fields else node

    return expression.copy().transform(swap, copy=False)  # type: ignore[return-value]


def numbered(
    node: LogicalNode, partition: Sequence[str], order: Sequence[OrderBy], function: str
) -> tuple[LogicalNode, str]:
    """Return `node` with each row's place among those of its `partition`, and the field that says it."""
    name = build.fresh("place", [f.name for f in schema_of(node)])
    call = OverCall(AggCall(name, function, None, "BIGINT", order=tuple(order)))
    return Over(node, tuple(partition), (call,)), name


def cut(
    node: LogicalNode, query: exp.Expr, partition: Sequence[str], order: Sequence[OrderBy], origin: Origin
) -> LogicalNode:
    """Return the rows that LIMIT, OFFSET or FETCH FIRST of `query` leave, with fields that nothing reads any more."""
    limit, ties, offset = limits(query, origin)
    if limit is None and not offset:
        return node
    conditions: list[exp.Expression] = []
    node, place = numbered(node, partition, order, "row_number")
    if offset:
        conditions.append(exp.GT(this=build.column(place), expression=exp.Literal.number(offset)))
    if limit is not None:
        by = place
        if ties:
            if not order:
                raise origin.error("WITH TIES needs an ORDER BY", query, sqlstate="42601")
            node, by = numbered(node, partition, order, "rank")
        conditions.append(exp.LTE(this=build.column(by), expression=exp.Literal.number(limit + offset)))
    return build.filtered(node, conditions, origin)


def written_last(
    node: LogicalNode, query: exp.Expr, order: Sequence[OrderBy], origin: Origin
) -> tuple[LogicalNode, Tail]:
    """Return the rows and what is left for the end of a query that is answered once; WITH TIES cuts the rows here."""
    limit, ties, offset = limits(query, origin)
    if ties:
        return cut(node, query, (), order, origin), Tail(tuple(order))
    return node, Tail(tuple(order), limit, offset)


def limits(query: exp.Expr, origin: Origin) -> tuple[int | None, bool, int]:
    """Return LIMIT (None: all rows), whether ties stay, and OFFSET."""
    limit, ties = None, False
    node = query.args.get("limit")
    if isinstance(node, exp.Fetch):
        options = node.args.get("limit_options")
        if options is not None and options.args.get("percent"):
            raise origin.unsupported("FETCH FIRST PERCENT", query)
        ties = options is not None and bool(options.args.get("with_ties"))
        count = node.args.get("count")
        limit = _count(count, "FETCH FIRST", origin) if count is not None else 1
    elif node is not None:
        options = node.args.get("limit_options")
        if node.args.get("expressions") or (options is not None and options.args.get("percent")):
            raise origin.unsupported("LIMIT ... PERCENT or BY", query)
        limit = _count(node.expression, "LIMIT", origin)
    offset = query.args.get("offset")
    return limit, ties, (_count(offset.expression, "OFFSET", origin) or 0) if offset is not None else 0


def _count(node: exp.Expr, what: str, origin: Origin) -> int | None:
    if isinstance(node, exp.Null) or (isinstance(node, exp.Var) and node.name.upper() == "ALL"):
        return None
    value: object = -1
    if not any(node.find_all(exp.Column, exp.Query, exp.AggFunc, exp.Window)):
        resolved = Resolver(Scope(origin), not_in=what)(node)
        with contextlib.suppress(duckdb.Error):
            untyped = isinstance(resolved, exp.Literal) and resolved.is_string
            kind = describe((), (resolved.sql("duckdb"),))[0]
            if not untyped and digits(kind) is None and kind not in ("DOUBLE", "FLOAT", "NULL"):
                raise origin.error(f"{what} needs a whole number, this is {kind}", node, sqlstate="42804")
            if untyped and not resolved.name.strip().isdigit():
                raise origin.error(f"{what} needs a whole number, zero or above", node, sqlstate="22P02")
            whole = "DECIMAL(38,10)"
            value = constant(f"CAST(CAST({resolved.sql('duckdb')} AS {whole}) AS BIGINT)")
    if value is None:
        return None
    if not isinstance(value, int) or value < 0:
        raise origin.error(f"{what} needs a whole number, zero or above", node, sqlstate="2201W")
    return value


def limited(query: exp.Expr, bound: Bound, origin: Origin, around: Scope | None, *, outermost: bool = False) -> Bound:
    """Apply ORDER BY, LIMIT and OFFSET that stand after a set operation or a query in parentheses.

    `around` is the SELECT that it is a subquery of.
    """
    order = query.args.get("order")
    sorts = [output_order(o, bound, origin) for o in order.expressions] if order is not None else []
    if outermost and origin.once:
        if bound.tail != Tail():
            raise origin.unsupported("ORDER BY or LIMIT twice", query)
        node, tail = written_last(bound.node, query, sorts, origin)
        fields = [f.name for f in schema_of(bound.node)]
        return replace(bound, node=build.project(node, [(f, build.column(f)) for f in fields], origin), tail=tail)
    if query.args.get("limit") is None and query.args.get("offset") is None:
        if sorts and origin.once:
            raise origin.unsupported("ORDER BY of a subquery without LIMIT", query)
        return bound
    if bound.residual or (bound.correlated and bound.domain is None):
        raise NeedsDomainError(around)
    node = cut(bound.node, query, [f for _, f in bound.correlated], sorts, origin)
    fields = [f.name for f in schema_of(bound.node)]
    node = build.project(node, [(f, build.column(f)) for f in fields], origin)
    return Bound(node, bound.columns, bound.correlated, domain=bound.domain)


def output_order(ordered: exp.Expr, bound: Bound, origin: Origin) -> OrderBy:
    """Return a key of ORDER BY that names a column of the result, or counts it."""
    node = ordered.this
    found = None
    if isinstance(node, exp.Literal) and not node.is_string and node.name.isdigit():
        at = int(node.name)
        if not 1 <= at <= len(bound.columns):
            raise origin.error(f"ORDER BY {at} is not in the select list", ordered, sqlstate="42P10")
        found = bound.columns[at - 1]
    elif isinstance(node, exp.Column) and len(node.parts) == 1:
        named = matching(folded(node.this), bound.columns)
        found = named[0] if named else None
    if found is None:
        what = "ORDER BY of anything but the result's columns after a set operation"
        raise origin.unsupported(what, ordered, hint="name or count a column of the result")
    return OrderBy(found.field, bool(ordered.args.get("desc")), bool(ordered.args.get("nulls_first")))


Rewrite = Callable[[exp.Expression], exp.Expression]


def rewritten(use: WindowUse, change: Rewrite) -> WindowUse:
    """Return `use` with every expression changed."""
    call = use.call
    order = tuple(Sort(change(o.expression), o.descending, o.nulls_first) for o in call.order)
    made = type(call)(
        call.function,
        change(call.argument) if call.argument is not None else None,
        call.distinct,
        change(call.condition) if call.condition is not None else None,
        call.node,
        tuple(change(m) for m in call.more),
        call.constants,
        order,
    )
    return WindowUse(made, tuple(change(p) for p in use.partition), use.frame, use.ignore_nulls)
