"""GROUP BY and aggregate calls to plan nodes, and expressions over them to expressions over their fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlglot import exp

from planner.logical import AggCall, Aggregate, LogicalNode, OrderBy, Union, schema_of
from sql_frontend import build
from sql_frontend.calls import GROUPING, Aggregation, call_type
from sql_frontend.check import check_types
from sql_frontend.dependent import completed
from sql_frontend.resolver import WINDOW, Resolver
from sql_frontend.scope import Scope

LIST = "\x03"
"""Begins the column names that stand for an element of a list in the select list."""
UNNAMED = "?column?"
"""PostgreSQL's name of a column that has none."""


@dataclass
class Item:
    """One column of the select list. `explicit`: the user named it, by AS or by selecting a column."""

    name: str
    expression: exp.Expression
    explicit: bool


def aggregated(
    node: LogicalNode,
    sets: Sequence[Sequence[exp.Expression]],
    calls: Sequence[Aggregation],
    items: Sequence[Item],
    scope: Scope,
    passing: set[str],
    every: Sequence[bool] = (),
) -> tuple[LogicalNode, Callable[[exp.Expression], exp.Expression]]:
    """Return the aggregate over a projection of keys and arguments, and what rewrites an expression to its fields.

    Fields in `passing` and window functions are left as they are. Of a set that is marked in `every`, the keys are the
    columns of the SELECT's domain, each row of which has a row in the answer.
    """
    inputs = _Inputs()
    key_fields: list[str] = []
    by_key: list[tuple[exp.Expression, str]] = []
    written = list(dict.fromkeys(k for s in sets for k in s))
    types = dict(zip(written, check_types(schema_of(node), written, scope.origin), strict=True))
    for key in (k for s in sets for k in s):
        wanted = next((i.name for i in items if i.explicit and i.expression == key), UNNAMED)
        wanted = key.name if isinstance(key, exp.Column) else wanted.replace(UNNAMED, "key")
        field = inputs.add(build.one_written(key, types[key]), wanted)
        if field not in key_fields:
            key_fields.append(field)
            by_key.append((key, field))
    real = [(i, c) for i, c in enumerate(calls) if c.function != GROUPING]
    prepared = []
    for _, c in real:
        arguments = [inputs.add(a, a.name or "argument") for a in c.arguments]
        flag = inputs.add(c.condition, "condition") if c.condition is not None else None
        order = tuple(
            OrderBy(inputs.add(o.expression, o.expression.name or "sort"), o.descending, o.nulls_first) for o in c.order
        )
        prepared.append((arguments, flag, order))
    before = build.project(node, inputs.items or [_first_field(node)], scope.origin)
    given = build.types_by_field(before)
    replaced: dict[str, str] = {}
    agg_calls: list[AggCall] = []
    for (i, call), (arguments, flag, order) in zip(real, prepared, strict=True):
        placeholder = Resolver.placeholder(i)
        named = next((it.name for it in items if it.explicit and it.expression.name == placeholder), None)
        name = build.fresh(named or _call_name(call), [*key_fields, *(c.name for c in agg_calls)])
        type_ = call_type(call, [given[a] for a in arguments], scope.origin)
        first = arguments[0] if arguments else None
        agg_calls.append(
            AggCall(name, call.function, first, type_, call.distinct, flag, tuple(arguments[1:]), call.constants, order)
        )
        replaced[placeholder] = name
    groupings = [(i, c) for i, c in enumerate(calls) if c.function == GROUPING]
    after: LogicalNode
    if len(sets) == 1 and not groupings:
        after = Aggregate(before, tuple(key_fields), tuple(agg_calls))
        if any(every):
            after = _every(after, scope)
    else:
        fields_of = dict(by_key)
        told: list[tuple[str, list[str]]] = []
        for i, call in groupings:
            name = build.fresh(GROUPING, [*key_fields, *(c.name for c in agg_calls), *(n for n, _ in told)])
            missing = next((a for a in call.arguments if a not in fields_of), None)
            if missing is not None:
                msg = "the arguments of grouping must be in GROUP BY"
                raise scope.origin.error(msg, call.node, sqlstate="42803")
            told.append((name, [fields_of[a] for a in call.arguments]))
            replaced[Resolver.placeholder(i)] = name
        branches = [
            _grouping_set(before, [fields_of[k] for k in s], key_fields, agg_calls, told, scope, all_of_domain)
            for s, all_of_domain in zip(sets, every or [False] * len(sets), strict=True)
        ]
        after = Union(tuple(branches)) if len(branches) > 1 else branches[0]
    return after, lambda e: _above(e, by_key, replaced, passing, scope)


def _grouping_set(
    before: LogicalNode,
    keys: Sequence[str],
    all_keys: Sequence[str],
    calls: Sequence[AggCall],
    told: Sequence[tuple[str, list[str]]],
    scope: Scope,
    every: bool,
) -> LogicalNode:
    """One grouping set: NULL for the keys that are not in it, and what grouping(...) says of that."""
    types = build.types_by_field(before)
    own = tuple(dict.fromkeys(keys))
    group = Aggregate(before, own, tuple(calls))
    node = _every(group, scope) if every else group
    items: list[tuple[str, exp.Expression]] = []
    for key in all_keys:
        null = exp.Cast(this=exp.Null(), to=exp.DataType(this=exp.DType.USERDEFINED, kind=types[key]))
        items.append((key, build.column(key) if key in own else null))
    items += [(c.name, build.column(c.name)) for c in calls]
    for name, arguments in told:
        bits = sum((a not in own) << (len(arguments) - 1 - i) for i, a in enumerate(arguments))
        whole = exp.Cast(this=exp.Literal.number(bits), to=exp.DataType.build("INT"))
        items.append((name, whole))
    return build.project(node, items, scope.origin)


def _every(node: Aggregate, scope: Scope) -> LogicalNode:
    domain = scope.correlation.domain
    assert domain is not None
    return completed(node, domain, node.keys, node.calls, scope.origin)


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
        if expression.name in allowed or expression.name.startswith((WINDOW, LIST)):
            return expression.copy()
        shown = next((c.name for c in scope.columns if c.field == expression.name), expression.name)
        msg = f"column {shown!r} must be in GROUP BY or inside an aggregate function"
        raise scope.origin.error(msg, expression, hint=f"add it to GROUP BY, or write max({shown})", sqlstate="42803")
    copy = expression.copy()
    for child in list(copy.iter_expressions()):
        if not isinstance(child, (exp.Identifier, exp.DataType, exp.Var)):
            child.replace(_above(child, keys, calls, allowed, scope))
    return copy
