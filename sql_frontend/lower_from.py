"""FROM and WHERE to plan nodes: scans, views, subqueries, windows, joins on the equalities found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import duckdb
from sqlglot import exp

from planner.logical import Join, LogicalNode, Window, WindowKind, schema_of
from sql_frontend import build
from sql_frontend.duck import constant
from sql_frontend.origin import Origin
from sql_frontend.resolver import Resolver, render
from sql_frontend.scope import Bound, Column, RelationInScope, Scope, folded, matching

_TABLE_ARGS = frozenset({"this", "alias", "db", "catalog"})
_WINDOW_ARGS = {"tumble": ("data", "timecol", "size", "offset"), "hop": ("data", "timecol", "slide", "size", "offset")}
_TIME_TYPES = ("TIMESTAMP", "TIMESTAMP WITH TIME ZONE")
_JOIN_HINT = "INNER JOIN on an equality works"


@dataclass
class _Item:
    """One item of FROM: its plan with fields unique in the whole FROM."""

    node: LogicalNode
    relation: RelationInScope
    source: exp.Expr

    @property
    def fields(self) -> set[str]:
        return {f.name for f in schema_of(self.node)}


class FromLowering:
    """Lowers one FROM with its WHERE.

    Parameters
    ----------
    named : callable
        Gives the plan of a relation by its identifier; raises SqlError for an unknown one.
    query : callable
        Gives the plan of a subquery.
    origin : Origin
        For errors.
    """

    def __init__(
        self, named: Callable[[exp.Table], Bound], query: Callable[[exp.Query], Bound], origin: Origin
    ) -> None:
        self.named = named
        self.query = query
        self.origin = origin

    def lower(self, select: exp.Select) -> tuple[LogicalNode, Scope]:
        """Return the rows that FROM and WHERE leave, and the names they go by."""
        from_ = select.args.get("from_")
        if from_ is None:
            hint = "select from a source, table or view"
            raise self.origin.unsupported("a query without FROM", select, hint=hint)
        scope = Scope(self.origin)
        items = [self._add(from_.this, [], scope)]
        pool: list[exp.Expression] = []
        for join in select.args.get("joins") or ():
            self._check_join(join)
            item = self._add(join.this, items, scope)
            if using := join.args.get("using"):
                pool += [self._merge(name, items, item, scope) for name in using]
            items.append(item)
            if join.args.get("on") is not None:
                pool += build.conjuncts(Resolver(scope, not_in="JOIN ... ON")(join.args["on"]))
        if (where := select.args.get("where")) is not None:
            pool += build.conjuncts(Resolver(scope, not_in="WHERE")(where.this))
        node, rest = self._join(items, pool)
        return build.filtered(node, rest, self.origin), scope

    def _check_join(self, join: exp.Join) -> None:
        side, kind, method = (str(join.args.get(k) or "").upper() for k in ("side", "kind", "method"))
        if side or kind not in ("", "INNER", "CROSS"):
            raise self.origin.unsupported(f"{f'{side} {kind}'.strip()} JOIN", join, hint=_JOIN_HINT)
        if method:
            raise self.origin.unsupported(f"{method} JOIN", join, hint="name the columns: JOIN ... USING (a, b)")
        extra = [k for k, v in join.args.items() if v and k not in ("this", "on", "using", "kind", "side", "method")]
        if extra:
            raise self.origin.unsupported(f"JOIN with {extra[0]}", join)

    def _add(self, source: exp.Expr, before: Sequence[_Item], scope: Scope) -> _Item:
        """Lower one item of FROM, rename fields that an item before has too, and enter it in the scope."""
        bound, name = self._item(source)
        if name is not None and any(r.name == name for r in scope.relations):
            hint = f"give it another name: {name} AS {name[:1]}2"
            msg = f"relation name {name!r} stands twice in FROM"
            raise self.origin.error(msg, source, hint=hint, sqlstate="42712")
        taken = {f.lower() for item in before for f in item.fields}
        fields = [f.name for f in schema_of(bound.node)]
        renamed: dict[str, str] = {}
        for field in fields:
            renamed[field] = build.fresh(field, [*taken, *(renamed.values() if field.lower() in taken else ())])
        node = bound.node
        if any(old != new for old, new in renamed.items()):
            node = build.project(node, [(new, build.column(old)) for old, new in renamed.items()], self.origin)
        columns = tuple(Column(c.name, renamed[c.field], c.type, c.hidden) for c in bound.columns)
        item = _Item(node, RelationInScope(name, columns), source)
        scope.relations.append(item.relation)
        return item

    def _item(self, source: exp.Expr) -> tuple[Bound, str | None]:
        alias = source.args.get("alias")
        name = folded(alias.this) if alias is not None and alias.this is not None else None
        if isinstance(source, exp.Table):
            extra = [k for k, v in source.args.items() if v and k not in _TABLE_ARGS]
            if extra:
                raise self.origin.unsupported(_TABLE_EXTRAS.get(extra[0], extra[0].upper()), source)
            if isinstance(source.this, exp.Anonymous):
                bound, inner = self._window(source.this)
                name = name or inner
            elif isinstance(source.this, exp.Identifier):
                bound = self.named(source)
                name = name or folded(source.this)
            else:
                raise self.origin.unsupported("this table function", source)
        elif isinstance(source, exp.Subquery) and isinstance(source.this, exp.Table):
            if source.this.args.get("joins"):
                raise self.origin.unsupported("a join in parentheses", source, hint="write the joins one after another")
            bound, inner = self._item(source.this)
            name = name or inner
        elif isinstance(source, exp.Subquery):
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
        return Bound(bound.node, tuple(columns))

    def _window(self, call: exp.Anonymous) -> tuple[Bound, str | None]:
        kind = call.name.lower()
        if kind not in _WINDOW_ARGS:
            hint = "TUMBLE and HOP work"
            raise self.origin.unsupported(f"table function {kind!r}", call, hint=hint)
        args = self._window_args(kind, call)
        bound, name = self._window_input(args["data"])
        time = args["timecol"].unnest()
        if not isinstance(time, exp.Column):
            raise self.origin.error("the second argument must be a column of time", args["timecol"], sqlstate="42804")
        inner = Scope(self.origin, [RelationInScope(name, bound.columns)])
        column, rest = inner.resolve(time.parts, time)
        if rest or column.type not in _TIME_TYPES:
            hint = "cast it in a subquery: TUMBLE((SELECT *, x::timestamp AS ts FROM t), ts, ...)"
            msg = f"{kind} needs a TIMESTAMP column, {column.name!r} is {column.type}"
            raise self.origin.error(msg, time, hint=hint, sqlstate="42804")
        size = self._microseconds(args["size"], "size")
        slide = self._microseconds(args["slide"], "slide") if "slide" in args else size
        offset = self._microseconds(args["offset"], "offset", signed=True) if "offset" in args else 0
        if size % slide:
            msg = "the size of a hopping window must be a multiple of its slide"
            hint = "HOP(relation, time column, slide, size)"
            raise self.origin.error(msg, args["size"], hint=hint, sqlstate="22023")
        fields = [f.name for f in schema_of(bound.node)]
        start = build.fresh("window_start", fields)
        end = build.fresh("window_end", [*fields, start])
        window_kind = WindowKind.HOP if kind == "hop" else WindowKind.TUMBLE
        node = Window(bound.node, window_kind, column.field, size, slide, offset % slide, start, end)
        added = [Column("window_start", start, column.type), Column("window_end", end, column.type)]
        if any(c.name.lower() == "window_time" for c in call.root().find_all(exp.Column)):
            return self._window_time(node, (*bound.columns, *added), end), name
        return Bound(node, (*bound.columns, *added)), name

    def _window_time(self, node: Window, columns: tuple[Column, ...], end: str) -> Bound:
        """Flink's third column, the last millisecond of the window; there for a query that names it."""
        fields = [f.name for f in schema_of(node)]
        field = build.fresh("window_time", fields)
        millisecond = exp.Interval(this=exp.Literal.string("1 millisecond"))
        time = exp.Sub(this=build.column(end), expression=millisecond)
        added = build.project(node, [*((f, build.column(f)) for f in fields), (field, time)], self.origin)
        return Bound(added, (*columns, Column("window_time", field, columns[-1].type)))

    def _window_args(self, kind: str, call: exp.Anonymous) -> dict[str, exp.Expr]:
        names = _WINDOW_ARGS[kind]
        args: dict[str, exp.Expr] = {}
        for i, arg in enumerate(call.expressions):
            name = names[i] if i < len(names) else ""
            if isinstance(arg, exp.Kwarg):
                name, arg = arg.this.name.lower(), arg.expression
            if name not in names or name in args:
                raise self.origin.error(f"{kind} does not take this argument", arg, sqlstate="42883")
            args[name] = arg
        if missing := [n for n in names if n not in args and n != "offset"]:
            usage = f"{kind.upper()}(relation, time column, {', '.join(n for n in names[2:-1])})"
            raise self.origin.error(f"{kind} needs its {missing[0]}", call, hint=f"write {usage}", sqlstate="42883")
        return args

    def _window_input(self, data: exp.Expr) -> tuple[Bound, str | None]:
        bare = data.unnest() if isinstance(data, exp.Paren) else data
        if isinstance(bare, exp.Column) and isinstance(bare.this, exp.Identifier):
            db = bare.args.get("table")
            table = exp.Table(this=bare.this.copy(), db=db.copy() if db else None)
            return self.named(table), folded(bare.this)
        if isinstance(bare, exp.Alias) and isinstance(bare.this, exp.Subquery):
            return self.query(bare.this), folded(bare.args["alias"])
        if isinstance(bare, exp.Subquery):
            alias = bare.args.get("alias")
            return self.query(bare), folded(alias.this) if alias is not None else None
        if isinstance(bare, exp.Select):
            return self.query(bare), None
        raise self.origin.error("the first argument must be a relation or a subquery", data, sqlstate="42804")

    def _microseconds(self, node: exp.Expr, what: str, *, signed: bool = False) -> int:
        if not isinstance(node, (exp.Interval, exp.Cast)):
            hint = "write INTERVAL '10 seconds'"
            raise self.origin.error(f"the {what} of a window must be an interval", node, hint=hint, sqlstate="42804")
        sql = render(Resolver(Scope(self.origin))(node))
        try:
            months = constant(f"datepart('month', {sql}) + 12 * datepart('year', {sql})")
            micros = constant(f"epoch_us({sql})")
        except duckdb.Error as error:
            msg = f"cannot read the {what} of the window"
            raise self.origin.error(msg, node, hint="write INTERVAL '10 seconds'", sqlstate="22007") from error
        if months or not isinstance(micros, int):
            hint = "use days, hours, minutes or seconds"
            raise self.origin.error(
                f"the {what} of a window must have a fixed length", node, hint=hint, sqlstate="22023"
            )
        if micros <= 0 and not signed:
            raise self.origin.error(f"the {what} of a window must be above zero", node, sqlstate="22023")
        return micros

    def _merge(self, name: exp.Expr, before: Sequence[_Item], item: _Item, scope: Scope) -> exp.Expression:
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

    def _join(self, items: list[_Item], pool: list[exp.Expression]) -> tuple[LogicalNode, list[exp.Expression]]:
        """Join the items, each next one by an equality with those before it if there is any.

        Returns the predicates that are left.
        """
        node = items[0].node
        placed = set(items[0].fields)
        waiting = items[1:]
        while waiting:
            for item in waiting:
                keys = [k for p in pool if (k := _equality(p, placed, item.fields)) is not None]
                if keys:
                    break
            else:
                # by another condition, or all with all
                keys = []
                item = next((i for i in waiting if any(_links(p, placed, i.fields) for p in pool)), waiting[0])
            pool = [p for p in pool if _equality(p, placed, item.fields) is None]
            waiting.remove(item)
            own = set(item.fields)
            node, left_keys = self._keys(node, [k[0] for k in keys], placed | own)
            right, right_keys = self._keys(item.node, [k[1] for k in keys], placed | own | set(left_keys))
            placed |= own
            fields = schema_of(node) + schema_of(right)
            residual = [p for p in pool if (used := _fields_of(p)) <= placed and used & own and used - own]
            pool = [p for p in pool if not any(p is r for r in residual)]
            condition = build.conjunction(fields, residual, self.origin) if residual else None
            pairs = [
                exp.EQ(this=build.column(a), expression=build.column(b))
                for a, b in zip(left_keys, right_keys, strict=True)
            ]
            if pairs:
                build.conjunction(fields, pairs, self.origin)
            node = Join(node, right, tuple(left_keys), tuple(right_keys), condition)
        return node, pool

    def _keys(
        self, node: LogicalNode, keys: Sequence[exp.Expression], taken: set[str]
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
            node = build.project(node, [*((f, build.column(f)) for f in fields), *added], self.origin)
        return node, names


_TABLE_EXTRAS = {
    "version": "FOR SYSTEM_TIME AS OF",
    "sample": "TABLESAMPLE",
    "pivots": "PIVOT",
    "joins": "a join in parentheses",
    "only": "ONLY",
    "ordinality": "WITH ORDINALITY",
}


def _fields_of(expression: exp.Expression) -> set[str]:
    return {c.name for c in expression.find_all(exp.Column)}


def _links(predicate: exp.Expression, left: set[str], right: set[str]) -> bool:
    """Whether `predicate` is about something of the left and something of the right, and nothing else."""
    used = _fields_of(predicate)
    return used <= left | right and bool(used & left) and bool(used & right)


def _equality(
    predicate: exp.Expression, left: set[str], right: set[str]
) -> tuple[exp.Expression, exp.Expression] | None:
    """Return (left key, right key) if `predicate` equates something of the left with something of the right."""
    if not isinstance(predicate, exp.EQ):
        return None
    a, b = (side.unnest() if isinstance(side, exp.Paren) else side for side in (predicate.left, predicate.right))
    of_a, of_b = _fields_of(a), _fields_of(b)  # type: ignore[arg-type]
    if of_a and of_b and of_a <= left and of_b <= right:
        return a, b  # type: ignore[return-value]
    if of_a and of_b and of_a <= right and of_b <= left:
        return b, a  # type: ignore[return-value]
    return None
