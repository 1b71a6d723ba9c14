"""Subqueries in expressions and conditions as joins: scalar, EXISTS, IN.

One that is correlated by equalities is joined by these; any other is lowered over its domain (`scope.Domain`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlglot import exp

from planner.logical import AggCall, Aggregate, Join, JoinKind, LogicalNode, schema_of
from sql_frontend import build
from sql_frontend.dependent import over_rows
from sql_frontend.origin import Origin
from sql_frontend.quantified import Quantified, Summary, answer, quantified, row_in, values_of_row
from sql_frontend.resolver import Resolver
from sql_frontend.scope import OUTER, Bound, Domain, NeedsDomainError, Pending, Scope, WidenedError

Lower = Callable[[exp.Expr, Scope, Domain | None], Bound]


class Subqueries:
    """Turns the subqueries of one SELECT's expressions into joins.

    Parameters
    ----------
    lower : callable
        Gives the plan of a subquery, and the scope around it, read through a domain if one is given.
    """

    def __init__(self, lower: Lower, origin: Origin) -> None:
        self._lower = lower
        self.origin = origin

    def lowered(self, query: exp.Expr, scope: Scope, fits: Callable[[Bound], bool]) -> Bound:
        """Return the plan of `query`: correlated by equalities, if that is possible and `fits`, or over its domain."""
        try:
            bound = self._lower(query, scope, None)
            if fits(bound):
                return bound
        except NeedsDomainError as error:
            if error.around is not scope:
                raise
        domain = Domain(scope)
        while True:
            try:
                return self._lower(query, scope, domain)
            except WidenedError as error:
                if error.domain is not domain:
                    raise

    def value(self, node: exp.Expr, resolver: Resolver) -> exp.Expression | None:
        """Return the value of `node` over fields that a pending join adds, or None if it is no subquery."""
        if isinstance(node, exp.Exists):
            return self._exists(node, resolver.scope)
        if isinstance(node, (exp.Subquery, exp.Select)):
            return self._scalar(node, resolver.scope)
        asked = quantified(node)
        if asked is not None and asked.is_query and not asked.is_membership:
            return self._quantified(asked, resolver)
        membership = _membership(node)
        if membership is None:
            return None
        value, query, negated = membership
        values = values_of_row(value)
        if values is not None and len(values) > 1:
            width = len(self.lowered(query, resolver.scope, lambda _: True).columns)
            self._check_width(query, len(values), width)
            found = resolver(row_in(values, query))
        else:
            found = self._in(resolver(values[0] if values else value), query, resolver.scope)
        return exp.Not(this=found) if negated else found

    def semi(self, node: exp.Expr) -> tuple[exp.Expr, list[exp.Expr], bool] | None:
        """Return (query, values compared, negated) of a condition that a semi or anti join answers, or None."""
        negated = isinstance(node, exp.Not)
        bare = node.this.unnest() if negated else node.unnest()
        if isinstance(bare, exp.Exists):
            return bare.this, [], negated
        membership = _membership(bare)
        # NOT IN knows a third answer
        if membership is None or membership[2] or negated:
            return None
        value = membership[0]
        return membership[1], values_of_row(value) or [value], False

    def semi_join(
        self, node: LogicalNode, condition: tuple[exp.Expr, list[exp.Expr], bool], scope: Scope
    ) -> LogicalNode:
        """Return the rows of `node` for which the subquery has (or has not) a row."""
        query, values, negated = condition
        bound = self.lowered(query, scope, lambda b: b.empty is None or not b.correlated)
        if values:
            self._check_width(query, len(values), len(bound.columns))
        compared = [Resolver(scope, not_in="WHERE")(v) for v in values]
        inner, names = self._own(bound, scope)
        pairs = [(outer, names[f]) for outer, f in bound.correlated]
        inner = over_rows(inner, bound.domain, node, [outer for outer, _ in pairs], self.origin)
        null_safe = len(pairs) if bound.domain is not None else 0
        pairs += [(v, names[c.field]) for v, c in zip(compared, bound.columns, strict=bool(values)) if values]
        kind = JoinKind.ANTI if negated else JoinKind.SEMI
        return joined(node, inner, pairs, kind, self.origin, _residual(bound, names), null_safe=null_safe)

    def _check_width(self, query: exp.Expr, compared: int, width: int) -> None:
        if compared != width:
            msg = f"the subquery of IN has {width} columns, compared are {compared}"
            raise self.origin.error(msg, query, sqlstate="42601")

    def _own(self, bound: Bound, scope: Scope) -> tuple[LogicalNode, dict[str, str]]:
        """Give a subquery's fields names that nothing in the SELECT around it has."""
        number, scope.subqueries = scope.subqueries, scope.subqueries + 1
        names = {f.name: f"__sub{number}_{i}" for i, f in enumerate(schema_of(bound.node))}
        return build.project(bound.node, [(new, build.column(f)) for f, new in names.items()], self.origin), names

    def _pend(
        self, scope: Scope, node: LogicalNode, keys: Sequence[tuple[exp.Expression, str]], domain: Domain | None
    ) -> None:
        scope.pending.append(Pending(node, tuple(keys), domain))
        scope.made |= build.types_by_field(node)

    def _scalar(self, node: exp.Expr, scope: Scope) -> exp.Expression:
        query = node.this if isinstance(node, exp.Subquery) else node
        bound = self.lowered(query, scope, _by_equality)
        if len(bound.columns) != 1:
            msg = "a subquery in an expression must have one column"
            raise self.origin.error(msg, node, sqlstate="42601")
        inner, names = self._own(bound, scope)
        value = names[bound.columns[0].field]
        keys = [(outer, names[f]) for outer, f in bound.correlated]
        if bound.empty is not None and keys:
            marked, marker = _marked(inner, value, self.origin)
            self._pend(scope, marked, keys, None)
            if isinstance(bound.empty[0], exp.Null):
                return build.column(value)
            nothing = exp.Is(this=build.column(marker), expression=exp.Null())
            return exp.Case(ifs=[exp.If(this=nothing, true=bound.empty[0])], default=build.column(value))
        if not bound.one_row:
            inner, value = self._only_row(inner, value, [f for _, f in keys])
        self._pend(scope, inner, keys, bound.domain)
        return build.column(value)

    def _only_row(self, node: LogicalNode, value: str, keys: Sequence[str]) -> tuple[LogicalNode, str]:
        """Return the rows with one for each key, and the field of the value.

        More than one row is an error to PostgreSQL, so NULL in a view.
        """
        type_ = build.types_by_field(node)[value]
        # the value may be a key itself
        count, first, only = f"{value}_n", f"{value}_v", f"{value}_only"
        calls = (AggCall(first, "first", value, type_), AggCall(count, "count", None, "BIGINT"))
        grouped = Aggregate(node, tuple(keys), calls)
        single = exp.LTE(this=build.column(count), expression=exp.Literal.number(1))
        case = exp.Case(ifs=[exp.If(this=single, true=build.column(first))])
        items = [*((k, build.column(k)) for k in keys), (only, case)]
        return build.project(grouped, items, self.origin), only

    def _exists(self, node: exp.Exists, scope: Scope) -> exp.Expression:
        bound = self.lowered(node.this, scope, _by_equality_or_none)
        inner, names = self._own(bound, scope)
        keys = [(outer, names[f]) for outer, f in bound.correlated]
        count = f"__sub{scope.subqueries - 1}_n"
        counted = Aggregate(inner, _once(keys), (AggCall(count, "count", None, "BIGINT"),))
        self._pend(scope, counted, keys, bound.domain)
        return exp.paren(exp.GT(this=_or_zero(count), expression=exp.Literal.number(0)))

    def _quantified(self, asked: Quantified, resolver: Resolver) -> exp.Expression:
        """``x > ALL (SELECT ...)`` and the like: the least and the greatest of the rows say it."""
        if values_of_row(asked.value) is not None:
            hint = "compare the columns one by one in EXISTS (SELECT ... WHERE ...)"
            raise self.origin.unsupported("a row compared with ANY or ALL but by equality", asked.value, hint=hint)
        value, scope = resolver(asked.value), resolver.scope
        bound = self.lowered(asked.of, scope, _by_equality_or_none)
        if len(bound.columns) != 1:
            raise self.origin.error("the subquery of ANY or ALL must have one column", asked.of, sqlstate="42601")
        inner, names = self._own(bound, scope)
        number = scope.subqueries - 1
        member = names[bound.columns[0].field]
        keys = [(outer, names[f]) for outer, f in bound.correlated]
        type_ = build.types_by_field(inner)[member]
        rows, known, low, high = (f"__sub{number}_{what}" for what in ("n", "k", "low", "high"))
        calls = (
            AggCall(rows, "count", None, "BIGINT"),
            AggCall(known, "count", member, "BIGINT"),
            AggCall(low, "min", member, type_),
            AggCall(high, "max", member, type_),
        )
        self._pend(scope, Aggregate(inner, _once(keys), calls), keys, bound.domain)
        among = Summary(*(build.column(f) for f in (rows, known, low, high)))
        return answer(asked, value, among)

    def _in(self, value: exp.Expression, query: exp.Expr, scope: Scope) -> exp.Expression:
        """SQL's IN: true, false, or NULL where a NULL might have been it."""
        bound = self.lowered(query, scope, _by_equality_or_none)
        if len(bound.columns) != 1:
            raise self.origin.error("the subquery of IN must have one column", query, sqlstate="42601")
        inner, names = self._own(bound, scope)
        number = scope.subqueries - 1
        member = names[bound.columns[0].field]
        keys = [(outer, names[f]) for outer, f in bound.correlated]
        rows, known, hit = f"__sub{number}_n", f"__sub{number}_k", f"__sub{number}_hit"
        counts: LogicalNode = Aggregate(
            inner, _once(keys), (AggCall(rows, "count", None, "BIGINT"), AggCall(known, "count", member, "BIGINT"))
        )
        members: LogicalNode = Aggregate(
            inner, tuple(dict.fromkeys([*_once(keys), member])), (AggCall(hit, "count", None, "BIGINT"),)
        )
        # the two joins must not have a field in common
        again = {f.name: f"{f.name}_m" if f.name != hit else hit for f in schema_of(members)}
        members = build.project(members, [(new, build.column(f)) for f, new in again.items()], self.origin)
        self._pend(scope, counts, keys, bound.domain)
        pairs = [*((outer, again[f]) for outer, f in keys), (value, again[member])]
        self._pend(scope, members, pairs, bound.domain)
        unknown = exp.Or(
            this=exp.Is(this=exp.paren(value.copy()), expression=exp.Null()),
            expression=exp.NEQ(this=build.column(rows), expression=build.column(known)),
        )
        there = exp.Not(this=exp.Is(this=build.column(hit), expression=exp.Null()))
        nothing = exp.EQ(this=_or_zero(rows), expression=exp.Literal.number(0))
        no = exp.Boolean(this=False)
        maybe = exp.Cast(this=exp.Null(), to=exp.DataType.build("BOOLEAN"))
        ifs = [
            exp.If(this=there, true=exp.Boolean(this=True)),
            exp.If(this=nothing, true=no),
            exp.If(this=unknown, true=maybe),
        ]
        return exp.Case(ifs=ifs, default=no.copy())


def _by_equality(bound: Bound) -> bool:
    return not bound.residual


def _by_equality_or_none(bound: Bound) -> bool:
    """Whether no rows mean that there are none: an aggregate without GROUP BY has one all the same."""
    return not bound.residual and (bound.empty is None or not bound.correlated)


def attached(node: LogicalNode, pending: Sequence[Pending], origin: Origin) -> LogicalNode:
    """Return `node` joined with the subqueries of its expressions."""
    for one in pending:
        kind = JoinKind.LEFT if one.keys else JoinKind.INNER
        null_safe = len(one.domain.columns) if one.domain is not None else 0
        inner = over_rows(one.node, one.domain, node, [k for k, _ in one.keys], origin)
        node = joined(node, inner, one.keys, kind, origin, null_safe=null_safe)
    return node


def joined(
    left: LogicalNode,
    right: LogicalNode,
    pairs: Sequence[tuple[exp.Expression, str]],
    kind: JoinKind,
    origin: Origin,
    residual: Sequence[exp.Expression] = (),
    *,
    null_safe: int = 0,
) -> Join:
    """Return the join of `left` and `right` where each expression over the left equals the right's field.

    In the first `null_safe` pairs NULL equals NULL.
    """
    taken = {f.name for f in schema_of(left) + schema_of(right)}
    types = build.types_by_field(right)
    keys = [build.one_written(k, types[f]) if i < null_safe else k for i, (k, f) in enumerate(pairs)]
    left, names = keyed(left, keys, taken, origin)
    fields = schema_of(left) + schema_of(right)
    equal = [exp.EQ(this=build.column(a), expression=build.column(b)) for a, (_, b) in zip(names, pairs, strict=True)]
    if equal:
        build.conjunction(fields, equal, origin)
    rest = build.conjunction(fields, residual, origin) if residual else None
    return Join(left, right, tuple(names), tuple(b for _, b in pairs), rest, kind, null_safe=null_safe)


def keyed(
    node: LogicalNode, keys: Sequence[exp.Expression], taken: set[str], origin: Origin
) -> tuple[LogicalNode, list[str]]:
    """Give each key a field: its own, or one more that a projection adds."""
    fields = [f.name for f in schema_of(node)]
    names: list[str] = []
    added: list[tuple[str, exp.Expression]] = []
    for key in keys:
        if isinstance(key, exp.Column):
            names.append(key.name)
            continue
        names.append(build.fresh("join_key", [*taken, *fields, *names]))
        added.append((names[-1], key))
    if added:
        node = build.project(node, [*((f, build.column(f)) for f in fields), *added], origin)
    return node, names


def is_outer(expression: exp.Expression) -> bool:
    """Whether `expression` reads a column of the SELECT around its own."""
    return any(c.name.startswith(OUTER) for c in expression.find_all(exp.Column))


def inward(expression: exp.Expression, names: dict[str, str] | None = None) -> exp.Expression:
    """Return `expression` over the fields of the SELECT around it; `names` renames the others."""

    def swap(node: exp.Expr) -> exp.Expr:
        if not isinstance(node, exp.Column):
            return node
        if node.name.startswith(OUTER):
            return build.column(node.name.removeprefix(OUTER))
        return build.column(names[node.name]) if names else node

    return expression.copy().transform(swap, copy=False)  # type: ignore[return-value]


def _residual(bound: Bound, names: dict[str, str]) -> list[exp.Expression]:
    return [inward(r, names) for r in bound.residual]


def _marked(node: LogicalNode, value: str, origin: Origin) -> tuple[LogicalNode, str]:
    """Add a column that is never NULL, to tell a partner's NULL from no partner."""
    marker = f"{value}_is"
    items = [(f.name, build.column(f.name)) for f in schema_of(node)]
    return build.project(node, [*items, (marker, exp.Boolean(this=True))], origin), marker


def _once(keys: Sequence[tuple[exp.Expression, str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(f for _, f in keys))


def _or_zero(field: str) -> exp.Expression:
    return exp.Coalesce(this=build.column(field), expressions=[exp.Literal.number(0)])


def _membership(node: exp.Expr) -> tuple[exp.Expr, exp.Expr, bool] | None:
    """Return (value, query, negated) of ``x IN (SELECT ...)``, ``x = ANY (...)``, ``x <> ALL (...)``."""
    if isinstance(node, exp.In) and node.args.get("query") is not None:
        return node.this, node.args["query"].unnest(), False
    asked = quantified(node)
    if asked is not None and asked.is_query and asked.is_membership:
        return asked.value, asked.of, asked.every
    return None
