"""Table functions over a relation's time: TUMBLE, HOP, CUMULATE, SESSION, GAP_FILL."""

from __future__ import annotations

from collections.abc import Callable

import duckdb
from sqlglot import exp

from planner.logical import Fill, GapFill, LogicalNode, Sessions, Timeline, Window, WindowKind, schema_of
from sql_frontend import build
from sql_frontend.check import render
from sql_frontend.duck import constant
from sql_frontend.origin import Origin
from sql_frontend.resolver import Resolver
from sql_frontend.scope import Bound, Column, RelationInScope, Scope, folded

_ARGS = {
    "tumble": ("data", "timecol", "size", "offset"),
    "hop": ("data", "timecol", "slide", "size", "offset"),
    "cumulate": ("data", "timecol", "step", "size", "offset"),
    "session": ("data", "timecol", "key", "size"),
    "gap_fill": ("data", "timecol", "size"),
}
TABLE_FUNCTIONS = frozenset(_ARGS)
_SHOWN = {
    "tumble": "TUMBLE(relation, time column, size)",
    "hop": "HOP(relation, time column, slide, size)",
    "cumulate": "CUMULATE(relation, time column, step, size)",
    "session": "SESSION(relation PARTITION BY key, time column, gap)",
    "gap_fill": "GAP_FILL(relation, time column, step, LOCF(value), PARTITION_BY(key))",
}
_OPTIONAL = ("offset", "key")
_SAME_AS = {"gap": "size", "partition_by": "key"}
_TIME_TYPES = ("TIMESTAMP", "TIMESTAMP WITH TIME ZONE")
_FILLS = {"locf": Fill.LAST, "interpolate": Fill.BETWEEN, "keep": Fill.NULL}
_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "FLOAT", "DOUBLE", "DECIMAL", "HUGEINT")

Named = Callable[[exp.Table], Bound]
Query = Callable[[exp.Expr], Bound]


def table_function(call: exp.Anonymous, named: Named, query: Query, origin: Origin) -> tuple[Bound, str | None]:
    """Return what a call in FROM gives, and the name of the relation that it is over.

    Raises
    ------
    SqlError
        It is none of these functions, or its arguments are wrong.
    """
    kind = call.name.lower()
    if kind not in _ARGS:
        hint = "TUMBLE, HOP, CUMULATE, SESSION and GAP_FILL work"
        raise origin.unsupported(f"table function {kind!r}", call, hint=hint)
    return _TimeFunction(call, kind, named, query, origin).lower()


class _TimeFunction:
    def __init__(self, call: exp.Anonymous, kind: str, named: Named, query: Query, origin: Origin) -> None:
        self.call, self.kind, self.origin = call, kind, origin
        self.fills: list[tuple[exp.Expr, Fill]] = []
        self.args = self._arguments()
        self.bound, self.name = _relation(self.args["data"], named, query, origin)
        self.scope = Scope(origin, [RelationInScope(self.name, self.bound.columns)])
        self.time = self._time()

    def lower(self) -> tuple[Bound, str | None]:
        if self.kind == "session":
            return self._session(), self.name
        if self.kind == "gap_fill":
            return self._gap_fill(), self.name
        size = microseconds(self.args["size"], "size", self.origin)
        stepped = next((n for n in ("slide", "step") if n in self.args), None)
        slide = microseconds(self.args[stepped], stepped, self.origin) if stepped is not None else size
        offset = 0
        if "offset" in self.args:
            offset = microseconds(self.args["offset"], "offset", self.origin, signed=True)
        if size % slide:
            hopping = self.kind == "hop"
            msg = f"the size of a {'hopping' if hopping else 'cumulating'} window must be a multiple of its {stepped}"
            raise self.origin.error(msg, self.args["size"], hint=_SHOWN[self.kind], sqlstate="22023")
        start, end = self._names()
        offset %= size if self.kind == "cumulate" else slide
        node = Window(self.bound.node, WindowKind(self.kind), self.time.field, size, slide, offset, start, end)
        return self._windowed(node, start, end), self.name

    def _session(self) -> Bound:
        gap = microseconds(self.args["size"], "gap", self.origin)
        start, end = self._names()
        keys = self._columns(self.args["key"]) if "key" in self.args else []
        node = Timeline(self.bound.node, tuple(keys), self.time.field, Sessions(gap, start, end))
        return self._windowed(node, start, end)

    def _gap_fill(self) -> Bound:
        step = microseconds(self.args["size"], "step", self.origin)
        keys = self._columns(self.args["key"]) if "key" in self.args else []
        fills: dict[str, Fill] = {}
        for written, how in self.fills:
            (field,) = self._columns(written)
            type_ = next(c.type for c in self.bound.columns if c.field == field)
            if how is Fill.BETWEEN and type_.split("(")[0] not in _NUMBERS:
                msg = f"INTERPOLATE needs a number, this is {type_}"
                raise self.origin.error(msg, written, hint="LOCF repeats the value before", sqlstate="42804")
            if field in fills or field in keys or field == self.time.field:
                raise self.origin.error("this column is filled already", written, sqlstate="42601")
            fills[field] = how
        node = Timeline(self.bound.node, tuple(keys), self.time.field, GapFill(step, tuple(fills.items())))
        return Bound(node, self.bound.columns)

    def _names(self) -> tuple[str, str]:
        fields = [f.name for f in schema_of(self.bound.node)]
        start = build.fresh("window_start", fields)
        return start, build.fresh("window_end", [*fields, start])

    def _windowed(self, node: LogicalNode, start: str, end: str) -> Bound:
        added = [Column("window_start", start, self.time.type), Column("window_end", end, self.time.type)]
        if any(c.name.lower() == "window_time" for c in self.call.root().find_all(exp.Column)):
            return self._window_time(node, (*self.bound.columns, *added), end)
        return Bound(node, (*self.bound.columns, *added))

    def _window_time(self, node: LogicalNode, columns: tuple[Column, ...], end: str) -> Bound:
        """Flink's third column, the last millisecond of the window; there for a query that names it."""
        fields = [f.name for f in schema_of(node)]
        field = build.fresh("window_time", fields)
        millisecond = exp.Interval(this=exp.Literal.string("1 millisecond"))
        time = exp.Sub(this=build.column(end), expression=millisecond)
        added = build.project(node, [*((f, build.column(f)) for f in fields), (field, time)], self.origin)
        return Bound(added, (*columns, Column("window_time", field, columns[-1].type)))

    def _time(self) -> Column:
        written = self.args["timecol"].unnest()
        if not isinstance(written, exp.Column):
            msg = "the second argument must be a column of time"
            raise self.origin.error(msg, self.args["timecol"], sqlstate="42804")
        column, rest = self.scope.resolve(written.parts, written)
        if rest or column.type not in _TIME_TYPES:
            hint = f"cast it in a subquery: {self.kind.upper()}((SELECT *, x::timestamp AS ts FROM t), ts, ...)"
            msg = f"{self.kind} needs a TIMESTAMP column, {column.name!r} is {column.type}"
            raise self.origin.error(msg, written, hint=hint, sqlstate="42804")
        return column

    def _columns(self, written: exp.Expr) -> list[str]:
        """Return the fields of one column or of several in parentheses."""
        bare = written.unnest()
        fields = []
        for item in bare.expressions if isinstance(bare, exp.Tuple) else [bare]:
            if not isinstance(item, exp.Column):
                msg = "this must be a column of the relation"
                hint = "compute it in a subquery: SESSION((SELECT *, x % 2 AS k FROM t) PARTITION BY k, ...)"
                raise self.origin.error(msg, item, hint=hint, sqlstate="42804")
            column, rest = self.scope.resolve(item.parts, item)
            if rest:
                hint = "give it a name in a subquery"
                raise self.origin.unsupported("a field of a STRUCT as an argument", item, hint=hint)
            fields.append(column.field)
        return list(dict.fromkeys(fields))

    def _arguments(self) -> dict[str, exp.Expr]:
        names = list(_ARGS[self.kind])
        written = list(self.call.expressions)
        bare = [a for a in written if not isinstance(a, exp.Kwarg)]
        if self.kind == "session" and len(bare) == 3:
            # Calcite's key stands before the gap, or is left out
            names.remove("key")
        args: dict[str, exp.Expr] = {}
        place = 0
        for arg in written:
            if isinstance(arg, exp.Kwarg):
                name, value = arg.this.name.lower(), arg.expression
                name = _SAME_AS.get(name, name)
            else:
                name, value = names[place] if place < len(names) else "", arg
                place += 1
            if self.kind == "gap_fill" and (taken := self._fill(value)) is not None:
                name, value = taken
                if name == "fill":
                    continue
            if name not in _ARGS[self.kind] and not (self.kind == "gap_fill" and name == "key"):
                raise self.origin.error(f"{self.kind} does not take this argument", arg, sqlstate="42883")
            if name in args:
                raise self.origin.error(f"the {name} of {self.kind} stands twice", arg, sqlstate="42601")
            args[name] = value
        if missing := [n for n in _ARGS[self.kind] if n not in args and n not in _OPTIONAL]:
            what = "gap" if self.kind == "session" and missing[0] == "size" else missing[0]
            hint = f"write {_SHOWN[self.kind]}"
            raise self.origin.error(f"{self.kind} needs its {what}", self.call, hint=hint, sqlstate="42883")
        return args

    def _fill(self, value: exp.Expr) -> tuple[str, exp.Expr] | None:
        """Take ``LOCF(c)``, ``INTERPOLATE(c)``, ``KEEP(c)`` and ``PARTITION_BY(c, ...)`` of GAP_FILL."""
        if not isinstance(value, exp.Anonymous):
            return None
        name = value.name.lower()
        if name == "partition_by" and value.expressions:
            return "key", exp.Tuple(expressions=[e.copy() for e in value.expressions])
        if name in _FILLS and len(value.expressions) == 1:
            self.fills.append((value.expressions[0], _FILLS[name]))
            return "fill", value
        hint = "LOCF(column), INTERPOLATE(column), KEEP(column) and PARTITION_BY(column, ...)"
        raise self.origin.error("gap_fill does not take this argument", value, hint=hint, sqlstate="42883")


def _relation(data: exp.Expr, named: Named, query: Query, origin: Origin) -> tuple[Bound, str | None]:
    bare = data.unnest() if isinstance(data, exp.Paren) else data
    if isinstance(bare, exp.Column) and isinstance(bare.this, exp.Identifier):
        db = bare.args.get("table")
        table = exp.Table(this=bare.this.copy(), db=db.copy() if db else None)
        return named(table), folded(bare.this)
    if isinstance(bare, exp.Alias) and isinstance(bare.this, exp.Subquery):
        return query(bare.this), folded(bare.args["alias"])
    if isinstance(bare, exp.Subquery):
        alias = bare.args.get("alias")
        return query(bare), folded(alias.this) if alias is not None else None
    if isinstance(bare, exp.Select):
        return query(bare), None
    raise origin.error("the first argument must be a relation or a subquery", data, sqlstate="42804")


def microseconds(node: exp.Expr, what: str, origin: Origin, *, signed: bool = False) -> int:
    """Return the length of an INTERVAL; above zero unless `signed`.

    Raises
    ------
    SqlError
        It is none, or of no fixed length.
    """
    if not isinstance(node, (exp.Interval, exp.Cast)):
        hint = "write INTERVAL '10 seconds'"
        raise origin.error(f"the {what} of a window must be an interval", node, hint=hint, sqlstate="42804")
    sql = render(Resolver(Scope(origin))(node))
    try:
        months = constant(f"datepart('month', {sql}) + 12 * datepart('year', {sql})")
        micros = constant(f"epoch_us({sql})")
    except duckdb.Error as error:
        msg = f"cannot read the {what} of the window"
        raise origin.error(msg, node, hint="write INTERVAL '10 seconds'", sqlstate="22007") from error
    if months or not isinstance(micros, int):
        hint = "use days, hours, minutes or seconds"
        raise origin.error(f"the {what} of a window must have a fixed length", node, hint=hint, sqlstate="22023")
    if micros <= 0 and not signed:
        raise origin.error(f"the {what} of a window must be above zero", node, sqlstate="22023")
    return micros
