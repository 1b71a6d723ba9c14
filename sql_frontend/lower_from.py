"""FROM and WHERE to plan nodes: scans, views, subqueries, windows, joins on the equalities found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from sqlglot import exp

from planner.logical import JoinKind, LogicalNode, Unnest, schema_of
from sql_frontend import build
from sql_frontend.clock import CLOCK_HINT, calls_clock, clock_conditions
from sql_frontend.cursor import nearest
from sql_frontend.dependent import over_rows
from sql_frontend.duck import functions as duckdb_functions
from sql_frontend.from_items import DomainInFrom, Group, Item, joined_items
from sql_frontend.functions import matches
from sql_frontend.join_conditions import (
    check_join,
    check_temporal,
    nearest_joined,
    outer_equality,
    outer_joined,
)
from sql_frontend.lower_windows import TABLE_FUNCTIONS, table_function
from sql_frontend.origin import Origin
from sql_frontend.pg_library import ROWS
from sql_frontend.resolver import Resolver
from sql_frontend.scope import (
    Bound,
    Column,
    Correlation,
    Domain,
    NeedsDomainError,
    RelationInScope,
    Scope,
    folded,
    matching,
)
from sql_frontend.subqueries import Subqueries, attached, inward, is_outer, joined

_TABLE_ARGS = frozenset({"this", "alias", "db", "catalog", "version", "joins"})
_NEST_HINT = "join with the query around in WHERE"
_SERIES = frozenset(["generate_series", "range", "unnest"]) | ROWS


class FromLowering:
    """Lowers one FROM with its WHERE.

    Parameters
    ----------
    named : callable
        Gives the plan of a relation by its identifier; raises SqlError for an unknown one.
    query : callable
        Gives the plan of a subquery, and of the scope around it, read through a domain if one is given.
    origin : Origin
        For errors.
    outer : Scope, optional
        The scope around this query.
    domain : Domain, optional
        What it is read through.
    reads : bool
        Whether this query is known to read the domain itself.
    """

    def __init__(
        self,
        named: Callable[[exp.Table], Bound],
        query: Callable[[exp.Expr, Scope | None, Domain | None], Bound],
        origin: Origin,
        outer: Scope | None = None,
        domain: Domain | None = None,
        *,
        reads: bool = False,
    ) -> None:
        self.named = named
        self.nested = query
        self.origin = origin
        self.outer = outer
        self.domain = domain
        self.reads = reads
        self.select = object()
        self.through = DomainInFrom(domain, origin)
        self.subqueries = Subqueries(query, origin)
        self.clocked: list[exp.Expression] = []
        self.late: Scope | None = None
        """The whole FROM, if a condition of an inner join in it may as well stand in WHERE."""
        self.asked: list[exp.Expr] = []

    def query(self, tree: exp.Expr) -> Bound:
        """Lower a query in FROM: of this one it sees what this one sees of that around."""
        return self._known(self.nested(tree, self.outer, self.domain), tree)

    def _known(self, bound: Bound, tree: exp.Expr) -> Bound:
        if (bound.correlated and bound.domain is None) or bound.residual:
            raise NeedsDomainError(self.outer)
        if bound.domain is not None and bound.domain is not self.domain:
            what = "a WITH query that reads the query around it, in a subquery of its own,"
            raise self.origin.unsupported(what, tree, hint="write the query where it is read")
        return bound

    def _whole(self, tree: exp.Expr, lower: Callable[[], Bound]) -> Bound:
        """Lower what a window is of, which has to be there as a whole."""
        bound = lower()
        if bound.correlated or bound.residual:
            what = "a column of the query around in what a window function of FROM reads"
            raise self.origin.unsupported(what, tree, hint="compare it in WHERE")
        return bound

    def _scope(self, subqueries: int = 0) -> Scope:
        return Scope(
            self.origin,
            outer=self.outer,
            domain=self.domain,
            reads=self.reads,
            select=self.select,
            subqueries=subqueries,
        )

    def lower(self, select: exp.Select) -> tuple[LogicalNode, Scope]:
        """Return the rows that FROM and WHERE leave, and the names they go by."""
        from_ = select.args.get("from_")
        scope = self._scope()
        joins = select.args.get("joins") or ()
        if not any(str(join.args.get("side") or "").upper() in ("RIGHT", "FULL") for join in joins):
            self.late = scope
        groups = [Group([self._first(from_, scope)], [])]
        for join in joins:
            check_join(join, self.origin)
            groups = self._joined(join, groups, scope)
        scope.subquery = self.subqueries.value
        items = [item for group in groups for item in group.items]
        pool = [p for group in groups for p in group.pool]
        semi, clocked = [], self.clocked
        where = select.args.get("where")
        for part in [*self.asked, *(_written_conjuncts(where.this) if where is not None else [])]:
            if calls_clock(part) and not self.origin.once:
                clocked += self._clocked(part, scope, not_in="WHERE")
                continue
            condition = self.subqueries.semi(part)
            if condition is not None:
                semi.append(condition)
            else:
                pool += build.conjuncts(Resolver(scope, not_in="WHERE")(part))
        pool = self._correlated(pool, scope)
        items, pool = self.through.met(items, pool)
        if self.reads and not any(item.outer for item in items):
            items.append(self.through.leaf())
        if self.domain is not None and any(item.outer for item in items):
            scope.correlation = Correlation(self.domain.pairs, domain=self.domain)
        # a FROM that is not there has one row, and the domain has more
        items = items[1:] if from_ is None and len(items) > 1 else items
        node, rest = joined_items(items, pool, self.origin)
        node = attached(node, scope.pending, self.origin)
        scope.pending.clear()
        for condition in semi:
            node = self.subqueries.semi_join(node, condition, scope)
            node = attached(node, scope.pending, self.origin)
            scope.pending.clear()
        return build.timed(build.filtered(node, rest, self.origin), clocked, self.origin), scope

    def _clocked(self, part: exp.Expr, scope: Scope, *, not_in: str) -> list[exp.Expression]:
        """Resolve a condition with now()."""
        found = clock_conditions(part, Resolver(scope, not_in=not_in, clock=True), self.origin)
        if any(is_outer(p) for p in found):
            raise self.origin.unsupported("now() beside a column of the query around", part, hint=CLOCK_HINT)
        return found

    def _first(self, from_: exp.Expr | None, scope: Scope) -> Item:
        """Lower the first item of FROM; without FROM there is one row of no columns."""
        one = Item(build.rows(1), RelationInScope(None, ()), exp.Null())
        if from_ is None:
            return one
        source = from_.this
        if isinstance(source, exp.Lateral):
            source = source.this
        if isinstance(source, exp.Unnest) or self._series(source):
            return self._unnest(self.through.leaf() if self.reads else one, source, scope, outer=False)
        return self._add(source, [], scope)

    def _series(self, source: exp.Expr) -> bool:
        """Whether an item of FROM is a function that gives rows; refuses what looks like a misspelt window."""
        call = source.this if isinstance(source, exp.Table) else None
        if not isinstance(call, exp.Anonymous) or call.name.lower() in TABLE_FUNCTIONS:
            return False
        name = call.name.lower()
        hint = nearest(name, TABLE_FUNCTIONS)
        known = self.origin.lookup is not None and self.origin.lookup(name) is not None
        if hint is not None and name not in duckdb_functions() and not known:
            raise self.origin.error(f"function {name!r} does not exist", call, hint=hint, sqlstate="42883")
        return True

    def _correlated(self, pool: list[exp.Expression], scope: Scope) -> list[exp.Expression]:
        """Take out what speaks of the SELECT around this one, into the scope."""
        pairs: list[tuple[exp.Expression, exp.Expression]] = []
        residual: list[exp.Expression] = []
        kept: list[exp.Expression] = []
        for predicate in pool:
            if not is_outer(predicate):
                kept.append(predicate)
                continue
            sides = outer_equality(predicate)
            if sides is not None:
                pairs.append((inward(sides[0]), sides[1]))
            else:
                residual.append(predicate)
        scope.correlation = Correlation(tuple(pairs), tuple(residual))
        return kept

    def _joined(self, join: exp.Join, groups: list[Group], scope: Scope) -> list[Group]:
        """Take one more item in."""
        side, kind, method = (str(join.args.get(k) or "").upper() for k in ("side", "kind", "method"))
        comma = not (side or kind or method or join.args.get("on") is not None or join.args.get("using"))
        seen = [item for group in groups for item in group.items]
        source = join.this
        if isinstance(source, (exp.Lateral, exp.Unnest)) or self._series(source):
            # it may read all that stands before it
            lateral = comma or any(group.lateral for group in groups)
            groups = [Group(seen, [p for group in groups for p in group.pool])]
            beside = self._beside(join, groups[-1], scope, outer=side == "LEFT")
            return [*groups[:-1], replace(beside, lateral=lateral)]
        temporal = source.args.get("version") is not None
        if temporal:
            check_temporal(join, side, kind, method, comma=comma, origin=self.origin)
        known = len(scope.relations)
        item = self._add(source, seen, scope, temporal=temporal)
        if comma:
            return [*groups, Group([item], [])]
        group = groups[-1]
        pool: list[exp.Expression] = []
        using = join.args.get("using") or (self._common(group, item) if method == "NATURAL" else [])
        merged = [(folded(n), self._merge(n, group.items, item, scope)) for n in using]
        pool += [equal for _, equal in merged]
        if method == "ASOF" and merged:
            # as DuckDB has it: the last column of USING is the one that orders
            last = merged[-1][1]
            pool[-1] = exp.GTE(this=last.this, expression=last.expression)
        on = _written_conjuncts(join.args["on"]) if join.args.get("on") is not None else []
        # what commas part is not seen
        inside = {f for i in (*group.items, item) for f in i.fields}
        around = replace(scope, relations=[r for r in scope.relations if all(c.field in inside for c in r.columns)])
        plain = not side and kind not in ("SEMI", "ANTI") and not temporal and method != "ASOF"
        for part in on:
            if calls_clock(part) and plain and not self.origin.once:
                self.clocked += self._clocked(part, around, not_in="JOIN ... ON")
            elif plain and scope is self.late and part.find(exp.Query) is not None:
                self.asked.append(part)
            else:
                pool += build.conjuncts(Resolver(around, not_in="JOIN ... ON")(part))
        by_time = temporal or method == "ASOF"
        if not side and kind not in ("SEMI", "ANTI") and not by_time:
            return [*groups[:-1], replace(group, items=[*group.items, item], pool=[*group.pool, *pool])]
        if group.lateral and side in ("RIGHT", "FULL"):
            what = f"{side} JOIN behind a comma and a function or LATERAL"
            raise self.origin.unsupported(what, join, hint="write CROSS JOIN for the comma")
        if any(is_outer(p) for p in pool):
            raise NeedsDomainError(self.outer)
        join_kind = JoinKind.INNER if by_time and not side else JoinKind[side or kind]
        left = self._combined(group)
        if by_time and (item.outer or self.through.read_by(pool)):
            raise self.origin.unsupported("a column of the query around in a join by time", join, hint=_NEST_HINT)
        left, item, pool = self.through.both_met(left, item, pool, join_kind)
        node: LogicalNode
        if method == "ASOF":
            node = nearest_joined(left.node, item.node, pool, join_kind, join, self.origin)
        else:
            both = outer_joined(left.node, item.node, pool, join_kind, self.origin, by_time=temporal)
            node = replace(both, temporal=temporal)
        if join_kind in (JoinKind.SEMI, JoinKind.ANTI):
            del scope.relations[known:]
            return [*groups[:-1], replace(group, items=[replace(left, node=node)], pool=[])]
        columns = (*left.relation.columns, *item.relation.columns)
        if join_kind in (JoinKind.RIGHT, JoinKind.FULL):
            node = self._remerged(node, merged, join_kind, scope)
        if join_kind is JoinKind.FULL and left.outer and self.domain is not None:
            either = zip(self.domain.fields, left.outer, item.outer, strict=True)
            kept = [(f.name, build.column(f.name)) for f in schema_of(node)]
            met = [(f, exp.Coalesce(this=build.column(a), expressions=[build.column(b)])) for f, a, b in either]
            node = build.project(node, [*kept, *met], self.origin)
        outer = tuple(self.domain.fields) if self.domain is not None and (left.outer or item.outer) else ()
        item = Item(node, RelationInScope(None, columns), join, outer)
        return [*groups[:-1], replace(group, items=[item], pool=[])]

    def _combined(self, group: Group) -> Item:
        """Join a group's items, so that what follows joins with all of them."""
        if any(is_outer(p) for p in group.pool):
            raise NeedsDomainError(self.outer)
        if len(group.items) == 1 and not group.pool:
            return group.items[0]
        items, pool = self.through.met(group.items, group.pool)
        node, rest = joined_items(items, pool, self.origin)
        columns = tuple(c for item in group.items for c in item.relation.columns)
        outer = tuple(self.domain.fields) if self.domain is not None and any(i.outer for i in items) else ()
        node = build.filtered(node, rest, self.origin)
        return Item(node, RelationInScope(None, columns), group.items[0].source, outer)

    def _remerged(
        self, node: LogicalNode, merged: Sequence[tuple[str, exp.Expression]], kind: JoinKind, scope: Scope
    ) -> LogicalNode:
        """USING after RIGHT or FULL JOIN: the one column is not the left's alone."""
        added: list[tuple[str, exp.Expression]] = []
        fields = [f.name for f in schema_of(node)]
        for name, equal in merged:
            right = equal.expression
            assert isinstance(right, exp.Column)
            left = scope.merged[name]
            type_ = left.type
            field = build.fresh(name, [*fields, *(f for f, _ in added)])
            both = exp.Coalesce(this=build.column(left.field), expressions=[right.copy()])
            added.append((field, both if kind is JoinKind.FULL else right.copy()))
            scope.merged[name] = Column(name, field, type_)
        node = build.project(node, [*((f, build.column(f)) for f in fields), *added], self.origin)
        types = build.types_by_field(node)
        for name, _ in merged:
            scope.merged[name] = replace(scope.merged[name], type=types[scope.merged[name].field])
        return node

    def _common(self, group: Group, item: Item) -> list[exp.Expr]:
        """NATURAL JOIN: the columns that both sides have."""
        left = {c.name for i in group.items for c in i.relation.columns if not c.hidden}
        return [
            exp.to_identifier(c.name, quoted=True) for c in item.relation.columns if c.name in left and not c.hidden
        ]

    def _beside(self, join: exp.Join, group: Group, scope: Scope, *, outer: bool) -> Group:
        """LATERAL and functions that give rows: each row of the group with those it gives."""
        source = join.this
        on = join.args.get("on")
        if str(join.args.get("side") or "").upper() not in ("", "LEFT") or join.args.get("using"):
            hint = "JOIN and LEFT JOIN work, with ON"
            raise self.origin.unsupported("this join with a function or LATERAL", join, hint=hint)
        left = self._combined(group)
        if self.reads and not left.outer:
            left = self.through.carried(left)
        always = on is None or (isinstance(on, exp.Boolean) and bool(on.this))
        pool: list[exp.Expression] = []
        if isinstance(source, exp.Lateral) and isinstance(source.this, exp.Subquery):
            item = self._lateral(left, source, scope, None if not outer or always else on, outer=outer)
        else:
            if outer and not always:
                hint = "put the condition into it: LEFT JOIN LATERAL (SELECT * FROM f(...) WHERE ...) AS x ON true"
                raise self.origin.unsupported("LEFT JOIN with a function but ON true", join, hint=hint)
            inner = source.this if isinstance(source, exp.Lateral) else source
            lateral = isinstance(source, exp.Lateral)
            alias = source.args.get("alias") if lateral else None
            counted = lateral and bool(source.args.get("ordinality"))
            item = self._unnest(left, inner, scope, outer=outer, alias=alias, counted=counted)
        columns = (*left.relation.columns, *item.relation.columns)
        if on is not None and not outer:
            pool = build.conjuncts(Resolver(scope, not_in="JOIN ... ON")(on))
        return Group([Item(item.node, RelationInScope(None, columns), source, left.outer)], pool)

    def _lateral(
        self, left: Item, source: exp.Lateral, scope: Scope, condition: exp.Expr | None, *, outer: bool
    ) -> Item:
        """A subquery's rows beside each row of `left`: rows without any stay if `outer`; a `condition` is of such."""

        def fits(bound: Bound) -> bool:
            # with a condition, what an aggregate says of nothing has to be there before it
            return condition is None or bound.empty is None or not bound.correlated

        bound = self.subqueries.lowered(source.this.this, scope, fits)
        alias = source.args.get("alias")
        if alias is not None and alias.args.get("columns"):
            bound = self._renamed(bound, alias.args["columns"], source)
        name = folded(alias.this) if alias is not None and alias.this is not None else None
        number, scope.subqueries = scope.subqueries, scope.subqueries + 1
        names = {f.name: f"__lateral{number}_{i}" for i, f in enumerate(schema_of(bound.node))}
        items: list[tuple[str, exp.Expression]] = [(new, build.column(f)) for f, new in names.items()]
        marker = f"__lateral{number}_is"
        items.append((marker, exp.Boolean(this=True)))
        inner = build.project(bound.node, items, self.origin)
        pairs = [(key, names[f]) for key, f in bound.correlated]
        inner = over_rows(inner, bound.domain, left.node, [key for key, _ in pairs], self.origin)
        null_safe = len(pairs) if bound.domain is not None else 0
        always = bound.empty is not None and bool(pairs)
        kind = JoinKind.LEFT if outer or always else JoinKind.INNER
        residual = [inward(r, names) for r in bound.residual]
        types = build.types_by_field(inner)
        columns = tuple(Column(c.name, names[c.field], types[names[c.field]], c.hidden) for c in bound.columns)
        relation = RelationInScope(name, columns)
        scope.relations.append(relation)
        if condition is not None:
            residual += build.conjuncts(Resolver(scope, not_in="JOIN ... ON")(condition))
            if any(is_outer(r) for r in residual):
                raise NeedsDomainError(self.outer)
        node: LogicalNode = joined(left.node, inner, pairs, kind, self.origin, residual, null_safe=null_safe)
        if always and bound.empty is not None:
            kept = [(f.name, build.column(f.name)) for f in schema_of(node)]
            filled = {names[c.field]: e for c, e in zip(bound.columns, bound.empty, strict=True)}
            nothing = exp.Is(this=build.column(marker), expression=exp.Null())
            node = build.project(
                node,
                [
                    (f, exp.Case(ifs=[exp.If(this=nothing.copy(), true=filled[f])], default=e) if f in filled else e)
                    for f, e in kept
                ],
                self.origin,
            )
        return Item(node, relation, source, left.outer)

    def _unnest(
        self,
        left: Item,
        source: exp.Expr,
        scope: Scope,
        *,
        outer: bool,
        alias: exp.Expr | None = None,
        counted: bool = False,
    ) -> Item:
        """``unnest(list, ...) [WITH ORDINALITY]``, ``generate_series(...)`` over the columns before it."""
        alias = source.args.get("alias") or alias
        counted = counted or bool(source.args.get("ordinality") or source.args.get("offset"))
        # LATERAL holds the call itself
        call = source.this if isinstance(source, exp.Table) else source
        called_name = "unnest" if isinstance(source, exp.Unnest) else call.name.lower()
        if called_name == "sabot_late":  # a table of the system's; a SELECT is left to DuckDB
            raise self.origin.unsupported("sabot_late", source)
        calls = source.expressions if isinstance(source, exp.Unnest) else [call]
        lists = [Resolver(scope, not_in="FROM")(c) for c in calls]
        if called_name not in _SERIES:
            # a function that gives one value gives one row
            lists = [exp.Array(expressions=[value]) for value in lists]
        elif called_name == "regexp_matches":
            lists = [matches(call, [Resolver(scope, not_in="FROM")(a) for a in call.expressions]) for call in calls]
        if any(is_outer(e) for e in lists):
            raise NeedsDomainError(self.outer)
        taken = [f.name for f in schema_of(left.node)]
        kept = [(f, build.column(f)) for f in taken]
        fields: list[str] = []
        for _ in lists:
            fields.append(build.fresh("list", [*taken, *fields]))
        node = build.project(left.node, [*kept, *zip(fields, lists, strict=True)], self.origin)
        types = build.types_by_field(node)
        written = [folded(c) for c in (alias.args.get("columns") or [])] if alias is not None else []
        if isinstance(given := source.args.get("offset"), exp.Identifier):
            # the parser takes the last name for it
            written.append(folded(given))
        if len(written) > len(fields) + counted:
            msg = f"{len(written)} column names for {len(fields) + counted} columns"
            raise self.origin.error(msg, source, sqlstate="42P10")
        relation_name = folded(alias.this) if alias is not None and alias.this is not None else called_name
        made: list[tuple[str, str, str]] = []
        columns: list[Column] = []
        for i, field in enumerate(fields):
            if not types[field].endswith("[]"):
                msg = f"unnest needs a list, this is {types[field]}"
                raise self.origin.error(msg, source, sqlstate="42804")
            visible = written[i] if i < len(written) else relation_name if len(fields) == 1 else called_name
            new = build.fresh(visible, [*taken, *fields, *(m[1] for m in made)])
            made.append((field, new, types[field][:-2]))
            columns.append(Column(visible, new, types[field][:-2]))
        ordinality = None
        if counted:
            visible = written[len(fields)] if len(written) > len(fields) else "ordinality"
            ordinality = build.fresh(visible, [*taken, *fields, *(m[1] for m in made)])
            columns.append(Column(visible, ordinality, "BIGINT"))
        relation = RelationInScope(relation_name, tuple(columns))
        scope.relations.append(relation)
        return Item(Unnest(node, tuple(made), ordinality, outer), relation, source, left.outer)

    def _add(self, source: exp.Expr, before: Sequence[Item], scope: Scope, *, temporal: bool = False) -> Item:
        """Lower one item of FROM, rename fields that an item before has too, and enter it in the scope."""
        if source.args.get("version") is not None and not temporal:
            hint = "it stands at the right side of a join: a JOIN b FOR SYSTEM_TIME AS OF PROCTIME() ON ..."
            raise self.origin.unsupported("FOR SYSTEM_TIME AS OF here", source, hint=hint)
        inside = source.this if isinstance(source, exp.Subquery) else None
        if isinstance(inside, (exp.Table, exp.Subquery)) and inside.args.get("joins"):
            return self._parenthesised(source, inside, before, scope)
        bound, name = self._item(source)
        node, renamed = self._renamed_apart(bound.node, before)
        columns = tuple(Column(c.name, renamed[c.field], c.type, c.hidden) for c in bound.columns)
        item = Item(node, RelationInScope(name, columns), source, tuple(renamed[f] for _, f in bound.correlated))
        self._enter(item.relation, scope, source)
        return item

    def _enter(self, relation: RelationInScope, scope: Scope, source: exp.Expr) -> None:
        name = relation.name
        if name is not None and any(r.name == name for r in scope.relations):
            hint = f"give it another name: {name} AS {name[:1]}2"
            msg = f"relation name {name!r} stands twice in FROM"
            raise self.origin.error(msg, source, hint=hint, sqlstate="42712")
        scope.relations.append(relation)

    def _renamed_apart(self, node: LogicalNode, before: Sequence[Item]) -> tuple[LogicalNode, dict[str, str]]:
        """Give fields that an item before has too other names; return the names that all have now."""
        taken = {f.lower() for item in before for f in item.fields}
        fields = [f.name for f in schema_of(node)]
        renamed: dict[str, str] = {}
        for field in fields:
            clashes = field.lower() in taken
            renamed[field] = build.fresh(field, [*taken, *fields, *renamed.values()]) if clashes else field
        if any(old != new for old, new in renamed.items()):
            node = build.project(node, [(new, build.column(old)) for old, new in renamed.items()], self.origin)
        return node, renamed

    def _parenthesised(
        self, source: exp.Expr, first: exp.Table | exp.Subquery, before: Sequence[Item], scope: Scope
    ) -> Item:
        """A join in parentheses: what it joins keeps its names, or goes by the alias alone."""
        joins = first.args["joins"]
        inner = self._scope(scope.subqueries)
        first.set("joins", None)
        try:
            groups = [Group([self._first(exp.From(this=first.copy()), inner)], [])]
        finally:
            first.set("joins", joins)
        for join in joins:
            check_join(join, self.origin)
            groups = self._joined(join, groups, inner)
        scope.subqueries = inner.subqueries
        scope.made |= {f: t for f, t in inner.made.items() if f not in scope.made}
        whole = self._combined(groups[-1])
        node, renamed = self._renamed_apart(whole.node, before)
        outer = tuple(renamed[f] for f in whole.outer)

        def moved(column: Column) -> Column:
            return replace(column, field=renamed[column.field])

        alias = source.args.get("alias")
        if alias is not None and alias.this is not None:
            bound = Bound(node, tuple(moved(c) for c in inner.star()))
            if alias.args.get("columns"):
                bound = self._renamed(bound, alias.args["columns"], source)
            item = Item(node, RelationInScope(folded(alias.this), bound.columns), source, outer)
            self._enter(item.relation, scope, source)
            return item
        for relation in inner.relations:
            self._enter(replace(relation, columns=tuple(map(moved, relation.columns))), scope, source)
        for name, column in inner.merged.items():
            scope.merged.setdefault(name, moved(column))
        columns = tuple(moved(c) for r in inner.relations for c in r.columns)
        return Item(node, RelationInScope(None, columns), source, outer)

    def _item(self, source: exp.Expr) -> tuple[Bound, str | None]:
        alias = source.args.get("alias")
        name = folded(alias.this) if alias is not None and alias.this is not None else None
        if isinstance(source, exp.Table):
            extra = [k for k, v in source.args.items() if v and k not in _TABLE_ARGS]
            if extra:
                raise self.origin.unsupported(_TABLE_EXTRAS.get(extra[0], extra[0].upper()), source)
            if isinstance(source.this, exp.Anonymous):
                bound, inner = table_function(
                    source.this,
                    lambda t: self._whole(t, lambda: self.named(t)),
                    lambda q: self._whole(q, lambda: self.query(q)),
                    self.origin,
                )
                name = name or inner
            elif isinstance(source.this, exp.Identifier):
                bound = self._known(self.named(source), source)
                name = name or folded(source.this)
            else:
                raise self.origin.unsupported("this table function", source)
        elif isinstance(source, exp.Subquery) and isinstance(source.this, exp.Table):
            bound, inner = self._item(source.this)
            name = name or inner
        elif isinstance(source, (exp.Subquery, exp.Values)):
            bound = self.query(source)
        else:
            raise self.origin.unsupported(f"{type(source).__name__.upper()} in FROM", source)
        if alias is not None and alias.args.get("columns"):
            bound = self._renamed(bound, alias.args["columns"], source)
        return bound, name

    def _renamed(self, bound: Bound, names: Sequence[exp.Expr], source: exp.Expr) -> Bound:
        if len(names) > len(bound.columns):
            msg = f"{len(names)} column names for {len(bound.columns)} columns"
            raise self.origin.error(msg, source, sqlstate="42P10")
        columns = list(bound.columns)
        for i, name in enumerate(names):
            columns[i] = Column(folded(name), columns[i].field, columns[i].type, columns[i].hidden)
        return replace(bound, columns=tuple(columns))

    def _merge(self, name: exp.Expr, before: Sequence[Item], item: Item, scope: Scope) -> exp.Expression:
        """USING (name): the equality, and one column for both in the scope."""
        wanted = folded(name)
        right = matching(wanted, item.relation.columns)
        left = (
            [scope.merged[wanted]]
            if wanted in scope.merged
            else [c for other in before for c in matching(wanted, other.relation.columns)]
        )
        for side, found in (("left", left), ("right", right)):
            if len(found) != 1:
                what = "is ambiguous" if found else "does not exist"
                msg = f"column {wanted!r} {what} on the {side} of USING"
                raise self.origin.error(msg, name, sqlstate="42702" if found else "42703")
        scope.merged[wanted] = left[0]
        return exp.EQ(this=build.column(left[0].field), expression=build.column(right[0].field))


_TABLE_EXTRAS = {
    "sample": "TABLESAMPLE",
    "pivots": "PIVOT",
    "only": "ONLY",
    "ordinality": "WITH ORDINALITY",
}


def _written_conjuncts(node: exp.Expr) -> list[exp.Expr]:
    """Return the parts of a condition, as written, that AND joins."""
    bare = node.unnest()
    if isinstance(bare, exp.And):
        return [*_written_conjuncts(bare.left), *_written_conjuncts(bare.right)]
    return [bare]
