"""The rest of a SELECT to plan nodes: the select list, GROUP BY, aggregates, HAVING, DISTINCT."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from sqlglot import exp

from planner.logical import LogicalNode, OrderBy, Unnest, schema_of
from sql_frontend import build
from sql_frontend.calls import AGGREGATES, Aggregation, WindowUse
from sql_frontend.dependent import of_nothing
from sql_frontend.functions import function, matches
from sql_frontend.lower_aggregates import LIST, UNNAMED, Item, aggregated
from sql_frontend.lower_rows import cut, in_place, numbered, rewritten, with_windows, written_last
from sql_frontend.map_tokens import MAP_OF
from sql_frontend.origin import Origin
from sql_frontend.pg_library import ROWS
from sql_frontend.resolver import PLACEHOLDER, Resolver
from sql_frontend.scope import OUTER, Bound, Column, NeedsDomainError, Scope, Tail, folded, matching
from sql_frontend.subqueries import attached, is_outer, keyed

_GIVES_ROWS = ROWS | {"generate_series", "range"}
_HANDLED = frozenset(
    {"expressions", "from_", "joins", "where", "group", "having", "distinct", "with_"}
    | {"order", "limit", "offset", "qualify", "windows"}
)
_SELECT_EXTRAS = {
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


def check_clauses(query: exp.Expr, handled: frozenset[str], origin: Origin) -> None:
    """Raise at the first clause of `query` that is not among `handled`."""
    for key, value in query.args.items():
        if not value or key in handled:
            continue
        what, hint = _SELECT_EXTRAS.get(key, (key.strip("_").upper(), None))
        at = value[0] if isinstance(value, list) else value
        raise origin.unsupported(what, at if isinstance(at, exp.Expr) else query, hint=hint)


def lower_select(select: exp.Select, node: LogicalNode, scope: Scope, *, outermost: bool = False) -> Bound:
    """Return the plan of a SELECT over the rows `node` that its FROM and WHERE leave.

    The `outermost` one of a query that is answered once leaves its ORDER BY and LIMIT to be written at the end.
    """
    return _Select(select, scope, outermost=outermost and scope.origin.once).lower(node)


class _Select:
    """One SELECT on its way: its list and all that is said of it, rewritten step by step as its rows are made."""

    def __init__(self, select: exp.Select, scope: Scope, *, outermost: bool = False) -> None:
        self.select, self.scope, self.origin = select, scope, scope.origin
        self.outermost = outermost
        check_clauses(select, _HANDLED, self.origin)
        scope.windows = {folded(w.this): w for w in select.args.get("windows") or ()}
        self.calls: list[Aggregation] = []
        self.uses: list[WindowUse] = []
        self.resolver = Resolver(scope, calls=self.calls, windows=self.uses)
        self.lists: list[tuple[str, exp.Expression]] = []
        scope.calls = self.calls
        self.items = self._visible()
        self.width = len(self.items)
        distinct = select.args.get("distinct")
        on = distinct.args.get("on") if distinct is not None else None
        self.distinct = distinct is not None and on is None
        # what is needed of the rows beside the select list stands behind it
        self.on = [self._beside(self._named(e)) for e in _listed(on)] if on is not None else []
        self.order = self._order(select.args.get("order"))
        having, qualify = select.args.get("having"), select.args.get("qualify")
        self.having = Resolver(scope, calls=self.calls)(having.this) if having is not None else None
        self.qualify = self.resolver(qualify.this) if qualify is not None else None
        scope.calls = None
        self.correlation = scope.correlation
        self.domain = self.correlation.domain
        self.keys = [self._beside(inner) for _, inner in self.correlation.pairs]
        self.read: dict[str, int] = {}
        for residual in self.correlation.residual:
            for column in residual.find_all(exp.Column):
                if not column.name.startswith(OUTER) and column.name not in self.read:
                    self.read[column.name] = self._beside(build.column(column.name))

    def lower(self, node: LogicalNode) -> Bound:
        """Return the plan."""
        group = self.select.args.get("group")
        aggregated = group is not None or bool(self.calls) or self.having is not None
        self._check_outer()
        limits = _limits(self.select)
        bare = aggregated and group is None and self.having is None and not self.uses and self.qualify is None
        empty = self._empty() if bare and not limits and self.domain is None else None
        by_equality = not self.read and (group is not None or empty is not None or not self.keys)
        if (aggregated and self.domain is None and not by_equality) or (
            # which rows these leave out is not the same for each row around
            self.read and (self.distinct or self.on or limits)
        ):
            raise NeedsDomainError(self.scope.outer)
        pending = self.scope.pending
        if aggregated:
            node = self._aggregated(node, group)
        else:
            node = attached(node, pending, self.origin)
        if self.having is not None:
            node = build.filtered(node, build.conjuncts(self.having), self.origin)
        node = self._windows(node)
        node, fields, names = self._projected(node)
        visible = fields[: self.width]
        keys = [fields[i] for i in self.keys]
        read = (fields[i] for i in (*self.keys, *self.read.values()))
        beside = [f for f in dict.fromkeys(read) if f not in visible]
        order = [OrderBy(fields[i], desc, first) for i, desc, first in self.order]
        if self.distinct:
            if any(o.field not in (*visible, *beside) for o in order):
                msg = "ORDER BY of SELECT DISTINCT must be in the select list"
                raise self.origin.error(msg, self.select.args["order"], sqlstate="42P10")
            node = build.distinct(self._only(node, [*visible, *beside]), self.scope.origin)
        if self.on:
            node, place = numbered(node, [*keys, *dict.fromkeys(fields[i] for i in self.on)], order, "row_number")
            first = exp.EQ(this=build.column(place), expression=exp.Literal.number(1))
            node = build.filtered(node, [first], self.origin)
        tail = Tail()
        if self.outermost:
            node, tail = written_last(node, self.select, order, self.origin)
            beside += [o.field for o in order if o.field not in (*visible, *beside)]
        else:
            node = cut(node, self.select, keys, order, self.origin)
        node = self._only(node, [*visible, *beside])
        types = build.types_by_field(node)
        # in a UNION a bare NULL takes the type of the others
        for field, item in zip(visible, self.items, strict=False):
            if isinstance(item.expression, exp.Null):
                types[field] = "NULL"
        by_read = {name: fields[i] for name, i in self.read.items()}
        residual = tuple(_renamed(r, by_read) for r in self.correlation.residual)
        pairs = tuple((outer, key) for (outer, _), key in zip(self.correlation.pairs, keys, strict=True))
        one_row = aggregated and group is None and self.having is None and not limits
        one_row = one_row and (not keys or self.domain is not None) and not self.lists and self.qualify is None
        columns = tuple(Column(n, f, types[f]) for n, f in zip(names, visible, strict=True))
        return Bound(node, columns, pairs, residual, empty, one_row, tail=tail, domain=self.domain)

    def _visible(self) -> list[Item]:
        """The select list; functions that give rows are taken out of it and stand for a column each."""
        return _select_list(self.select, self.resolver, self._rows_of)

    def _rows_of(self, node: exp.Expr) -> exp.Expression | None:
        """Return the column that ``unnest(list)`` or ``generate_series(...)`` at the top of an item becomes."""
        if isinstance(node, (exp.Explode, exp.Unnest)):
            inner = node.this if isinstance(node, exp.Explode) else node.expressions[0]
        elif isinstance(node, exp.Anonymous) and node.name.lower() in _GIVES_ROWS:
            inner = node
        else:
            return None
        if isinstance(inner, exp.Anonymous) and inner.name.lower() == "regexp_matches":
            value = matches(inner, [self.resolver(a) for a in inner.expressions])
            if inner is not node:
                value = function("flatten", value)
        else:
            value = self.resolver(inner)
        type_ = self.resolver.type_of(value)
        if not type_.endswith("[]"):
            raise self.origin.error(f"unnest needs a list, this is {type_}", node, sqlstate="42804")
        made = f"{LIST}{len(self.lists)}"
        self.lists.append((made, value))
        self.scope.made[made] = type_[:-2]
        return exp.column(made, quoted=True)

    def _beside(self, expression: exp.Expression) -> int:
        for i, item in enumerate(self.items):
            if item.expression == expression:
                return i
        self.items.append(Item("beside", expression, explicit=False))
        return len(self.items) - 1

    def _named(self, node: exp.Expr) -> exp.Expression:
        """An expression of ORDER BY or DISTINCT ON: a number or a name of the select list, or one over FROM."""
        if isinstance(node, exp.Literal) and not node.is_string:
            at = int(node.name) if node.name.isdigit() else 0
            if not 1 <= at <= self.width:
                raise self.origin.error(f"ORDER BY {node.name} is not in the select list", node, sqlstate="42P10")
            return self.items[at - 1].expression
        if isinstance(node, exp.Column) and len(node.parts) == 1 and not isinstance(node.this, exp.Star):
            name = folded(node.this)
            for item in self.items[: self.width]:
                if item.name == name:
                    return item.expression
        return self.resolver(node)

    def _order(self, order: exp.Expr | None) -> list[tuple[int, bool, bool]]:
        if order is None or not (_limits(self.select) or self.on or self.outermost):
            # a view has no order
            if order is not None and self.origin.once:
                raise self.origin.unsupported("ORDER BY of a subquery without LIMIT", order)
            return []
        found = []
        for ordered in order.expressions:
            at = self._beside(self._named(ordered.this))
            found.append((at, bool(ordered.args.get("desc")), bool(ordered.args.get("nulls_first"))))
        return found

    def _check_outer(self) -> None:
        """Without a domain, columns of the query around are for WHERE."""
        expressions = [item.expression for item in self.items]
        for call in (*self.calls, *(u.call for u in self.uses)):
            expressions += [*call.arguments, *([call.condition] if call.condition is not None else [])]
            expressions += [o.expression for o in call.order]
        expressions += [e for e in (self.having, self.qualify) if e is not None]
        expressions += [e for u in self.uses for e in u.partition]
        expressions += [e for _, e in self.lists]
        for expression in expressions:
            if is_outer(expression):
                raise NeedsDomainError(self.scope.outer)

    def _empty(self) -> tuple[exp.Expression, ...] | None:
        """Return what the items are over no rows: counts are 0, all else is NULL."""
        nothing = {Resolver.placeholder(i): of_nothing(c.function) for i, c in enumerate(self.calls)}

        def swap(node: exp.Expr) -> exp.Expr:
            return nothing[node.name].copy() if isinstance(node, exp.Column) and node.name in nothing else node

        values = []
        for item in self.items[: self.width]:
            value = item.expression.copy().transform(swap, copy=False)
            if any(value.find_all(exp.Column)):
                return None
            values.append(value)
        return tuple(values)  # type: ignore[arg-type]

    def _aggregated(self, node: LogicalNode, group: exp.Group | None) -> LogicalNode:
        """Put the aggregate in, and rewrite everything above it."""
        resolver_sets = _grouping_sets(group, self.select, self.items[: self.width], self.scope) if group else [[]]
        correlated = [self.items[i].expression for i in self.keys]
        if any(is_outer(key) for s in resolver_sets for key in s):
            raise NeedsDomainError(self.scope.outer)
        sets = [[*correlated, *s] for s in resolver_sets]
        inside = [e for s in sets for e in s]
        inside += [e for c in self.calls for e in (*c.arguments, *([c.condition] if c.condition is not None else []))]
        inside += [o.expression for c in self.calls for o in c.order]
        read = {c.name for e in inside for c in e.find_all(exp.Column)}
        below = [p for p in self.scope.pending if p.fields & read]
        above = [p for p in self.scope.pending if p not in below]
        node = attached(node, below, self.origin)
        passing = {f for p in above for f in p.fields}
        every = [self.domain is not None and not s for s in resolver_sets]
        node, change = aggregated(node, sets, self.calls, self.items, self.scope, passing, every)
        self.items = [Item(i.name, change(i.expression), i.explicit) for i in self.items]
        self.having = change(self.having) if self.having is not None else None
        self.qualify = change(self.qualify) if self.qualify is not None else None
        self.uses = [rewritten(u, change) for u in self.uses]
        self.lists = [(n, change(e)) for n, e in self.lists]
        moved = [replace(p, keys=tuple((change(k), f) for k, f in p.keys)) for p in above]
        return attached(node, moved, self.origin)

    def _windows(self, node: LogicalNode) -> LogicalNode:
        if not self.uses:
            if self.qualify is not None:
                node = build.filtered(node, build.conjuncts(self.qualify), self.origin)
            return node
        keys: list[str] = []
        if self.keys:
            fields = [f.name for f in schema_of(node)]
            exprs = [self.items[i].expression for i in self.keys]
            node, keys = keyed(node, exprs, set(fields), self.origin)
            for i, key in zip(self.keys, keys, strict=True):
                self.items[i].expression = build.column(key)
        if self.read:
            raise NeedsDomainError(self.scope.outer)
        node, made = with_windows(node, self.uses, keys, self.origin)
        for item in self.items:
            item.expression = in_place(item.expression, made)
        self.lists = [(n, in_place(e, made)) for n, e in self.lists]
        if self.qualify is not None:
            node = build.filtered(node, build.conjuncts(in_place(self.qualify, made)), self.origin)
        return node

    def _projected(self, node: LogicalNode) -> tuple[LogicalNode, list[str], list[str]]:
        """Return the rows with a field for each item, these fields, and the names of the visible columns."""
        if self.lists:
            taken = [f.name for f in schema_of(node)]
            lists, elements = {}, {}
            for i, (placeholder, value) in enumerate(self.lists):
                lists[f"__list{i}"] = value
                elements[placeholder] = f"__element{i}"
            node = build.project(node, [*((f, build.column(f)) for f in taken), *lists.items()], self.origin)
            types = build.types_by_field(node)
            each = tuple((n, f"__element{i}", types[n][:-2]) for i, n in enumerate(lists))
            node = Unnest(node, each)
            for item in self.items:
                item.expression = in_place(item.expression, elements)
        taken_fields: list[str] = []
        columns: list[tuple[str, exp.Expression]] = []
        names: list[str] = []
        for i, item in enumerate(self.items):
            name = item.name
            if i < self.width:
                # of two columns without a name of their own the second gets a number, as two counts would clash
                plain = item.explicit or self.outermost
                name = item.name if plain else build.fresh(item.name, names)
                names.append(name)
            field = build.fresh(name, taken_fields)
            taken_fields.append(field)
            columns.append((field, item.expression))
        return build.project(node, columns, self.origin), taken_fields, names

    def _only(self, node: LogicalNode, fields: Sequence[str]) -> LogicalNode:
        return build.project(node, [(f, build.column(f)) for f in fields], self.origin)


def _limits(select: exp.Select) -> bool:
    return select.args.get("limit") is not None or select.args.get("offset") is not None


def _listed(node: exp.Expr) -> list[exp.Expr]:
    return list(node.expressions) if isinstance(node, exp.Tuple) else [node]


def _renamed(residual: exp.Expression, fields: Mapping[str, str]) -> exp.Expression:
    def swap(node: exp.Expr) -> exp.Expr:
        return build.column(fields[node.name]) if isinstance(node, exp.Column) and node.name in fields else node

    return residual.copy().transform(swap, copy=False)  # type: ignore[return-value]


def _select_list(
    select: exp.Select, resolver: Resolver, rows_of: Callable[[exp.Expr], exp.Expression | None]
) -> list[Item]:
    items: list[Item] = []
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
            items += [Item(n, e, explicit=True) for n, e in resolver.struct_fields(value, node)]
        elif isinstance(node, exp.Alias):
            value = rows_of(node.this) or resolver(node.this)
            items.append(Item(folded(node.args["alias"]), value, explicit=True))
        elif isinstance(node, exp.Aliases):
            raise origin.unsupported("several names for one expression", node)
        else:
            name = _implied_name(node)
            named_column = isinstance(node, (exp.Column, exp.Dot))
            items.append(Item(name, rows_of(node) or resolver(node), explicit=named_column))
    return items


def _star(columns: Sequence[Column], excluded: Sequence[exp.Expr], scope: Scope) -> list[Item]:
    left_out: set[str] = set()
    for name in excluded:
        identifier = name.this if isinstance(name, exp.Column) else name
        among = columns
        if isinstance(name, exp.Column) and name.args.get("table") is not None:
            relation = scope.relation(folded(name.args["table"]))
            among = relation.columns if relation is not None else ()
        found = matching(folded(identifier), among)
        if not found:
            msg = f"column {folded(identifier)!r} does not exist"
            raise scope.origin.error(msg, name, sqlstate="42703")
        left_out |= {c.field for c in found}
    return [Item(c.name, build.column(c.field), explicit=True) for c in columns if c.field not in left_out]


def _relation_star(node: exp.Column, resolver: Resolver) -> list[Item]:
    scope = resolver.scope
    identifier = node.args["table"]
    relation = scope.relation(folded(identifier))
    if relation is None:
        column, _ = scope.resolve([identifier], node)
        value: exp.Expression = build.column(column.field)
        return [Item(n, e, explicit=True) for n, e in resolver.struct_fields(value, node)]
    columns = [c for c in relation.columns if not c.hidden]
    return _star(columns, node.this.args.get("except_") or (), scope)


def _implied_name(node: exp.Expr) -> str:
    """The name PostgreSQL gives to an expression without AS."""
    if isinstance(node, exp.Column):
        return folded(node.this)
    if isinstance(node, exp.Dot) and isinstance(node.expression, exp.Identifier):
        return folded(node.expression)
    if isinstance(node, exp.Anonymous):
        return "map" if node.name == MAP_OF else node.name.lower()
    if isinstance(node, exp.Explode):
        return "unnest"
    if isinstance(node, exp.Exists):
        return "exists"
    if isinstance(node, exp.Subquery) and isinstance(node.this, exp.Select) and len(node.this.expressions) == 1:
        inner = node.this.expressions[0]
        return folded(inner.args["alias"]) if isinstance(inner, exp.Alias) else _implied_name(inner)
    if isinstance(node, (exp.Cast, exp.Paren, exp.Filter, exp.Window, exp.WithinGroup, exp.IgnoreNulls)):
        return _implied_name(node.this)
    return _NAMED_BY_CLASS.get(type(node), UNNAMED)


def _grouping_sets(group: exp.Group, select: exp.Select, items: list[Item], scope: Scope) -> list[list[exp.Expression]]:
    """Return the keys of each grouping set; a plain GROUP BY is one."""
    origin = scope.origin
    for key, value in group.args.items():
        if value and key not in ("expressions", "all"):
            raise origin.unsupported(f"GROUP BY {key.upper()}", group, hint="write GROUP BY ROLLUP (a, b)")
    if group.args.get("all"):
        return [[i.expression for i in items if not _has_aggregate(i.expression)]]
    resolver = Resolver(scope, not_in="GROUP BY")
    sets: list[list[exp.Expression]] = [[]]
    for node in group.expressions:
        choices = _choices(node, items, resolver)
        sets = [[*before, *more] for before in sets for more in choices]
        if len(sets) > _MANY_SETS:
            hint = f"at most {_MANY_SETS}"
            raise origin.unsupported("so many grouping sets", group, hint=hint)
    return sets


def _choices(node: exp.Expr, items: list[Item], resolver: Resolver) -> list[list[exp.Expression]]:
    """Return the sets that one element of GROUP BY stands for."""

    def keys(part: exp.Expr) -> list[exp.Expression]:
        bare = part.unnest() if isinstance(part, exp.Paren) else part
        parts = bare.expressions if isinstance(bare, exp.Tuple) else [bare]
        return [_group_key(p, items, resolver) for p in parts]

    if isinstance(node, exp.GroupingSets):
        nested = (exp.Rollup, exp.Cube, exp.GroupingSets)
        return [
            c for e in node.expressions for c in (_choices(e, items, resolver) if isinstance(e, nested) else [keys(e)])
        ]
    if isinstance(node, (exp.Rollup, exp.Cube)):
        parts = [keys(e) for e in node.expressions]
        if isinstance(node, exp.Rollup):
            return [[k for p in parts[:n] for k in p] for n in range(len(parts), -1, -1)]
        if len(parts) > _WIDE_CUBE:
            raise resolver.origin.unsupported("a CUBE of so many columns", node)
        masks = range(2 ** len(parts) - 1, -1, -1)
        return [[k for i, p in enumerate(parts) if mask >> i & 1 for k in p] for mask in masks]
    return [keys(node)]


_MANY_SETS = 128
_WIDE_CUBE = 7


def _group_key(node: exp.Expr, items: list[Item], resolver: Resolver) -> exp.Expression:
    """GROUP BY 2 is the second item; a plain name is a column of FROM, or else the name of an item."""
    scope = resolver.scope
    item: Item | None = None
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
