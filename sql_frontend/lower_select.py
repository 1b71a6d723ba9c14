"""The rest of a SELECT to plan nodes: the select list, GROUP BY, aggregates, HAVING, DISTINCT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb
from sqlglot import exp

from planner.logical import AggCall, Aggregate, LogicalNode, schema_of
from sabot.schema import Field
from sql_frontend import build
from sql_frontend.duck import describe, first_line
from sql_frontend.origin import Origin
from sql_frontend.resolver import AGGREGATES, PLACEHOLDER, Aggregation, Resolver
from sql_frontend.scope import Bound, Column, Scope, folded, matching

_HANDLED = frozenset({"expressions", "from_", "joins", "where", "group", "having", "distinct", "with_"})
_SELECT_EXTRAS = {
    "order": ("ORDER BY", "order the SELECT that reads the view"),
    "limit": ("LIMIT", "limit the SELECT that reads the view"),
    "offset": ("OFFSET", "skip rows in the SELECT that reads the view"),
    "qualify": ("QUALIFY", None),
    "windows": ("WINDOW", None),
    "locks": ("FOR UPDATE", None),
    "sample": ("TABLESAMPLE", None),
    "laterals": ("LATERAL", None),
    "into": ("INTO", "CREATE MATERIALIZED VIEW ... AS keeps the result"),
}
_NAMED_BY_CLASS: dict[type[exp.Expr], str] = {
    **AGGREGATES,
    exp.Case: "case",
    exp.If: "case",
    exp.Coalesce: "coalesce",
    exp.Nullif: "nullif",
    exp.Extract: "extract",
    exp.Substring: "substring",
    exp.StrPosition: "position",
    exp.Trim: "trim",
    exp.Left: "left",
    exp.Right: "right",
    exp.Replace: "replace",
    exp.Array: "array",
}
UNNAMED = "?column?"
"""PostgreSQL's name of a column that has none."""


@dataclass
class _Item:
    """One column of the select list. `explicit`: the user named it, by AS or by selecting a column."""

    name: str
    expression: exp.Expression
    explicit: bool


def check_clauses(query: exp.Expr, handled: frozenset[str], origin: Origin) -> None:
    """Raise at the first clause of `query` that is not among `handled`."""
    for key, value in query.args.items():
        if not value or key in handled:
            continue
        what, hint = _SELECT_EXTRAS.get(key, (key.strip("_").upper(), None))
        if key == "limit" and isinstance(value, exp.Fetch):
            what = "FETCH FIRST"
        at = value[0] if isinstance(value, list) else value
        raise origin.unsupported(what, at if isinstance(at, exp.Expr) else query, hint=hint)


def lower_select(select: exp.Select, node: LogicalNode, scope: Scope) -> Bound:
    """Return the plan of a SELECT over the rows `node` that its FROM and WHERE leave."""
    origin = scope.origin
    check_clauses(select, _HANDLED, origin)
    distinct = select.args.get("distinct")
    if distinct is not None and distinct.args.get("on") is not None:
        hint = "GROUP BY the columns, with min or max of the others"
        raise origin.unsupported("DISTINCT ON", distinct.args["on"], hint=hint)
    calls: list[Aggregation] = []
    resolver = Resolver(scope, calls=calls)
    items = _select_list(select, resolver)
    having = select.args.get("having")
    group = select.args.get("group")
    condition = resolver(having.this) if having is not None else None
    if group is not None or calls or condition is not None:
        keys = _group_keys(group, select, items, scope) if group is not None else []
        node, items, condition = _aggregate(node, keys, calls, items, condition, scope)
        if condition is not None:
            node = build.filtered(node, build.conjuncts(condition), origin)
    taken: list[str] = []
    columns: list[tuple[str, exp.Expression]] = []
    names: list[str] = []
    for item in items:
        # of two columns without a name of their own the second gets a number, as two counts would clash
        name = item.name if item.explicit else build.fresh(item.name, names)
        names.append(name)
        field = build.fresh(name, taken)
        taken.append(field)
        columns.append((field, item.expression))
    node = build.project(node, columns, origin)
    if distinct is not None:
        node = build.distinct(node)
    types = build.types_by_field(node)
    # in a UNION a bare NULL takes the type of the others
    types |= {f: "NULL" for f, e in columns if isinstance(e, exp.Null)}
    return Bound(node, tuple(Column(n, f, types[f]) for n, (f, _) in zip(names, columns, strict=True)))


def _select_list(select: exp.Select, resolver: Resolver) -> list[_Item]:
    items: list[_Item] = []
    scope, origin = resolver.scope, resolver.origin
    for node in select.expressions:
        if isinstance(node, exp.Star):
            if node.args.get("replace") or node.args.get("rename"):
                raise origin.unsupported("* REPLACE", node, hint="list the columns")
            items += _star(scope.star(), node.args.get("except_") or (), scope)
        elif isinstance(node, exp.Column) and isinstance(node.this, exp.Star):
            items += _relation_star(node, resolver)
        elif isinstance(node, exp.Dot) and isinstance(node.expression, exp.Star):
            value = resolver(node.this)
            items += [_Item(n, e, explicit=True) for n, e in resolver.struct_fields(value, node)]
        elif isinstance(node, exp.Alias):
            items.append(_Item(folded(node.args["alias"]), resolver(node.this), explicit=True))
        elif isinstance(node, exp.Aliases):
            raise origin.unsupported("several names for one expression", node)
        else:
            name = _implied_name(node)
            named_column = isinstance(node, (exp.Column, exp.Dot))
            items.append(_Item(name, resolver(node), explicit=named_column))
    return items


def _star(columns: Sequence[Column], excluded: Sequence[exp.Expr], scope: Scope) -> list[_Item]:
    left_out: set[str] = set()
    for name in excluded:
        identifier = name.this if isinstance(name, exp.Column) else name
        found = matching(folded(identifier), columns)
        if not found:
            msg = f"column {folded(identifier)!r} does not exist"
            raise scope.origin.error(msg, name, sqlstate="42703")
        left_out |= {c.name for c in found}
    return [_Item(c.name, build.column(c.field), explicit=True) for c in columns if c.name not in left_out]


def _relation_star(node: exp.Column, resolver: Resolver) -> list[_Item]:
    scope = resolver.scope
    identifier = node.args["table"]
    relation = scope.relation(folded(identifier))
    if relation is None:
        column, _ = scope.resolve([identifier], node)
        value: exp.Expression = build.column(column.field)
        return [_Item(n, e, explicit=True) for n, e in resolver.struct_fields(value, node)]
    columns = [c for c in relation.columns if not c.hidden]
    return _star(columns, node.this.args.get("except_") or (), scope)


def _implied_name(node: exp.Expr) -> str:
    """The name PostgreSQL gives to an expression without AS."""
    if isinstance(node, exp.Column):
        return folded(node.this)
    if isinstance(node, exp.Dot) and isinstance(node.expression, exp.Identifier):
        return folded(node.expression)
    if isinstance(node, exp.Anonymous):
        return node.name.lower()
    if isinstance(node, (exp.Cast, exp.Paren, exp.Filter)):
        return _implied_name(node.this)
    return _NAMED_BY_CLASS.get(type(node), UNNAMED)


def _group_keys(group: exp.Group, select: exp.Select, items: list[_Item], scope: Scope) -> list[exp.Expression]:
    origin = scope.origin
    for key, value in group.args.items():
        if value and key not in ("expressions", "all"):
            raise origin.unsupported(f"GROUP BY {key.upper()}", group, hint="write one view for each grouping")
    if group.args.get("all"):
        return [i.expression for i in items if not _has_aggregate(i.expression)]
    resolver = Resolver(scope, not_in="GROUP BY")
    keys: list[exp.Expression] = []
    for node in group.expressions:
        if isinstance(node, (exp.Rollup, exp.Cube, exp.GroupingSets)):
            what = {"GroupingSets": "GROUPING SETS"}.get(type(node).__name__, type(node).__name__.upper())
            raise origin.unsupported(what, node, hint="write one view for each grouping")
        parts = node.expressions if isinstance(node, exp.Tuple) else [node]
        keys += [_group_key(part, items, resolver) for part in parts]
    return keys


def _group_key(node: exp.Expr, items: list[_Item], resolver: Resolver) -> exp.Expression:
    """GROUP BY 2 is the second item; a plain name is a column of FROM, or else the name of an item."""
    scope = resolver.scope
    item: _Item | None = None
    if isinstance(node, exp.Literal) and not node.is_string:
        position = int(node.name) if node.name.isdigit() else 0
        if not 1 <= position <= len(items):
            msg = f"GROUP BY {node.name} is not in the select list"
            hint = f"it has {len(items)} columns"
            raise scope.origin.error(msg, node, hint=hint, sqlstate="42P10")
        item = items[position - 1]
    elif isinstance(node, exp.Column) and len(node.parts) == 1 and not isinstance(node.this, exp.Star):
        name = folded(node.this)
        if not matching(name, scope.columns):
            item = next((i for i in items if i.name.lower() == name.lower()), None)
    if item is None:
        return resolver(node)
    if _has_aggregate(item.expression):
        raise scope.origin.error("aggregate functions are not allowed in GROUP BY", node, sqlstate="42803")
    return item.expression


def _has_aggregate(expression: exp.Expression) -> bool:
    return any(c.name.startswith(PLACEHOLDER) for c in expression.find_all(exp.Column))


def _aggregate(
    node: LogicalNode,
    keys: Sequence[exp.Expression],
    calls: Sequence[Aggregation],
    items: Sequence[_Item],
    condition: exp.Expression | None,
    scope: Scope,
) -> tuple[LogicalNode, list[_Item], exp.Expression | None]:
    """Put in the projection of keys and arguments, and the aggregate; rewrite what stands above to its fields."""
    inputs = _Inputs()
    key_fields: list[str] = []
    replaced: dict[str, str] = {}
    by_key: list[tuple[exp.Expression, str]] = []
    for key in keys:
        wanted = next((i.name for i in items if i.explicit and i.expression == key), UNNAMED)
        field = inputs.add(key, key.name if isinstance(key, exp.Column) else wanted.replace(UNNAMED, "key"))
        if field not in key_fields:
            key_fields.append(field)
            by_key.append((key, field))
    agg_calls: list[AggCall] = []
    arguments = [
        (
            inputs.add(c.argument, c.argument.name or "argument") if c.argument is not None else None,
            inputs.add(c.condition, "condition") if c.condition is not None else None,
        )
        for c in calls
    ]
    before = build.project(node, inputs.items or [_first_field(node)], scope.origin)
    types = build.types_by_field(before)
    for i, (call, (argument, flag)) in enumerate(zip(calls, arguments, strict=True)):
        placeholder = Resolver.placeholder(i)
        named = next((it.name for it in items if it.explicit and it.expression.name == placeholder), None)
        name = build.fresh(named or _call_name(call), [*key_fields, *(c.name for c in agg_calls)])
        type_ = _call_type(call, types[argument] if argument is not None else None, scope.origin)
        agg_calls.append(AggCall(name, call.function, argument, type_, call.distinct, flag))
        replaced[placeholder] = name
    after = Aggregate(before, tuple(key_fields), tuple(agg_calls))
    allowed = {f.name for f in schema_of(after)}
    rewritten = [_Item(it.name, _above(it.expression, by_key, replaced, allowed, scope), it.explicit) for it in items]
    above = _above(condition, by_key, replaced, allowed, scope) if condition is not None else None
    return after, rewritten, above


def _first_field(node: LogicalNode) -> tuple[str, exp.Expression]:
    """count(*) alone reads no field, but a projection needs one."""
    field = schema_of(node)[0].name
    return field, build.column(field)


class _Inputs:
    """The fields that an aggregate reads, each expression once."""

    def __init__(self) -> None:
        self.items: list[tuple[str, exp.Expression]] = []

    def add(self, expression: exp.Expression, wanted: str) -> str:
        """Return the field of `expression`; a new one is called `wanted` if that is free."""
        for field, known in self.items:
            if known == expression:
                return field
        field = build.fresh(wanted, [f for f, _ in self.items])
        self.items.append((field, expression))
        return field


def _call_name(call: Aggregation) -> str:
    if call.argument is None:
        return "count"
    inner = call.argument.name
    return f"{call.function}_{inner}" if inner and isinstance(call.argument, (exp.Column, exp.Dot)) else call.function


def _call_type(call: Aggregation, argument: str | None, origin: Origin) -> str:
    if argument is None:
        return "BIGINT"
    if call.function == "sum" and argument in ("TINYINT", "SMALLINT", "INTEGER"):
        return "BIGINT"
    try:
        (type_,) = describe((Field("x", argument),), (f'{call.function}("x")',))
    except duckdb.Error as error:
        msg = f"{call.function} cannot take {argument}"
        raise origin.error(msg, call.node, hint=first_line(error), sqlstate="42883") from error
    return build.WIDE_DECIMAL if type_ in ("HUGEINT", "UHUGEINT", "BIGNUM") else type_


def _above(
    expression: exp.Expression,
    keys: Sequence[tuple[exp.Expression, str]],
    calls: Mapping[str, str],
    allowed: set[str],
    scope: Scope,
) -> exp.Expression:
    """Rewrite an expression over the aggregate's input to one over its output."""
    for key, field in keys:
        if expression == key:
            column = build.column(field)
            start = expression.find(exp.Identifier)
            if start is not None and start.meta_get("start") is not None:
                column.this.meta.update(start.meta)
            return column
    if isinstance(expression, exp.Column):
        name = calls.get(expression.name)
        if name is not None:
            return build.column(name)
        shown = next((c.name for c in scope.columns if c.field == expression.name), expression.name)
        msg = f"column {shown!r} must be in GROUP BY or inside an aggregate function"
        raise scope.origin.error(msg, expression, hint=f"add it to GROUP BY, or write max({shown})", sqlstate="42803")
    copy = expression.copy()
    for child in list(copy.iter_expressions()):
        if not isinstance(child, (exp.Identifier, exp.DataType, exp.Var)):
            child.replace(_above(child, keys, calls, allowed, scope))
    return copy
