"""One expression of a query, resolved: names become fields, functions and casts DuckDB's, the rest is refused."""

from __future__ import annotations

from dataclasses import replace

import duckdb
from sqlglot import exp

from planner.keyed_sql import SESSION_FRAME
from sabot.schema import struct_fields
from sql_frontend.arithmetic import ARITHMETIC, asked_for, computed
from sql_frontend.calls import (
    GROUPING,
    WINDOW_ONLY,
    Aggregation,
    WindowUse,
    aggregate_name,
    call_type,
    called,
    taken_apart,
)
from sql_frontend.casts import cast, literal_text
from sql_frontend.catalog import FunctionDefinition
from sql_frontend.check import check_types
from sql_frontend.clock import CLOCK_HINT, clock_call
from sql_frontend.cursor import nearest
from sql_frontend.duck import constant, first_line
from sql_frontend.functions import check_callable, function, part_of, translate
from sql_frontend.intervals import INTERVAL_OF_PARTS, INTERVAL_PARTS, interval
from sql_frontend.json_access import member_of
from sql_frontend.map_tokens import MAP_OF
from sql_frontend.operators import by_place, concatenated, contains, has_keys, powered, subscripted
from sql_frontend.quantified import of_array, of_patterns, quantified
from sql_frontend.query_tokens import UNKNOWN
from sql_frontend.resolve_calls import definition, frame_text, resolved_call
from sql_frontend.row_casts import by_fields, row_cast
from sql_frontend.scope import Column, Scope, folded, schema_of_scope, struct_member
from sql_frontend.templates import filled
from sql_frontend.types import collation_problem, data_type_text
from sql_frontend.user_functions import called as called_by_user

_PLAIN: tuple[type[exp.Expr], ...] = (
    exp.Literal,
    exp.Boolean,
    exp.Null,
    exp.Paren,
    exp.And,
    exp.Or,
    exp.Not,
    exp.EQ,
    exp.NEQ,
    exp.GT,
    exp.GTE,
    exp.LT,
    exp.LTE,
    exp.NullSafeEQ,
    exp.NullSafeNEQ,
    exp.Is,
    exp.Between,
    exp.Like,
    exp.ILike,
    exp.SimilarTo,
    exp.Neg,
    exp.BitwiseAnd,
    exp.BitwiseOr,
    exp.BitwiseXor,
    exp.BitwiseNot,
    exp.BitwiseLeftShift,
    exp.BitwiseRightShift,
    exp.Concat,
    exp.Case,
    exp.If,
    exp.Coalesce,
    exp.Nullif,
    exp.Array,
    exp.Escape,
    exp.AtTimeZone,
    exp.StrPosition,
    exp.Trim,
    exp.Var,
    exp.Left,
    exp.Right,
    exp.Replace,
)
"""What sqlglot renders for DuckDB as it stands, once the parts are resolved."""
PLACEHOLDER = "\x00"
"""Begins the column names that stand for aggregates until these have a field."""
WINDOW = "\x01"
"""Begins those that stand for window functions."""
_SUBQUERY_HINT = "join with the query in FROM instead"
_UNSUPPORTED: dict[type[exp.Expr], tuple[str, str | None]] = {
    exp.Exists: ("EXISTS (SELECT ...)", _SUBQUERY_HINT),
    exp.Subquery: ("a subquery in an expression", _SUBQUERY_HINT),
    exp.Select: ("a subquery in an expression", _SUBQUERY_HINT),
    exp.CurrentTimestamp: ("the clock", CLOCK_HINT),
    exp.CurrentDate: ("the clock", CLOCK_HINT),
    exp.CurrentTime: ("the clock", CLOCK_HINT),
    exp.Localtimestamp: ("the clock", CLOCK_HINT),
    exp.Parameter: ("a parameter", "write the value"),
    exp.Placeholder: ("a parameter", "write the value"),
    exp.WithinGroup: ("WITHIN GROUP", None),
    exp.IgnoreNulls: ("IGNORE NULLS", None),
    exp.Unnest: ("UNNEST", None),
    exp.Explode: ("UNNEST", None),
    exp.Any: ("ANY", "value = ANY(array) and value LIKE ANY (ARRAY[...]) work"),
    exp.All: ("ALL", "value > ALL(array) and value LIKE ALL (ARRAY[...]) work"),
}


_CONTAINS = (exp.ArrayContainsAll, exp.ArrayContainedBy)
_KEYS: dict[type[exp.Expr], str] = {
    exp.JSONBContainsTopKey: "list_contains({}, p2)",
    exp.JSONBContainsAnyTopKeys: "list_has_any({}, p2)",
    exp.JSONBContainsAllTopKeys: "list_has_all({}, p2)",
}
_CLOCKS: dict[type[exp.Expr], str] = {
    exp.CurrentTimestamp: "now",
    exp.CurrentDate: "",
    exp.CurrentTime: "",
    exp.Localtimestamp: "",
}
_LOCAL_CLOCKS: dict[type[exp.Expr], str] = {
    exp.CurrentDate: "CAST(now() AS DATE)",
    exp.CurrentTime: "CAST(CAST(now() AS TIMESTAMP) AS TIME)",
    exp.Localtimestamp: "CAST(now() AS TIMESTAMP)",
}


def struct_access(value: exp.Expression, name: str) -> exp.Dot:
    """Return ``(value).name``: in parentheses, as ``"a"."b"`` would also be column b of a table a."""
    base = value if isinstance(value, (exp.Dot, exp.Paren)) else exp.paren(value)
    return exp.Dot(this=base, expression=exp.to_identifier(name, quoted=True))


class Resolver:
    """Resolves the expressions of one SELECT over one scope.

    ``calls`` collects the aggregates met; in the resolved tree each is a column named by :meth:`placeholder`.

    Parameters
    ----------
    scope : Scope
        The relations in FROM.
    not_in : str, optional
        The clause, if aggregates are not allowed in it (``"WHERE"``).
    calls : list of Aggregation, optional
        Where to collect; one list may serve several resolvers of a SELECT.
    windows : list of WindowUse, optional
        The same for window functions, which are refused without it.
    clock : bool
        Whether now() may stand here.
    """

    def __init__(
        self,
        scope: Scope,
        *,
        not_in: str | None = None,
        calls: list[Aggregation] | None = None,
        windows: list[WindowUse] | None = None,
        clock: bool = False,
    ) -> None:
        self.scope = scope
        self.origin = scope.origin
        self.not_in = not_in
        self.calls: list[Aggregation] = calls if calls is not None else []
        self.windows = windows
        self.clock = clock
        self._in_aggregate = False
        self._in_window = False

    @staticmethod
    def placeholder(index: int) -> str:
        """Return the column name that stands for ``calls[index]``."""
        return f"{PLACEHOLDER}{index}"

    def __call__(self, node: exp.Expr) -> exp.Expression:
        """Return `node` resolved; the tree given is left as it is.

        Raises
        ------
        SqlError
            Unknown or ambiguous names, and whatever is not supported, at its place.
        """
        kind = type(node)
        if isinstance(node, exp.Column):
            return self._column(node)
        if isinstance(node, exp.Dot):
            return self._dot(node)
        if isinstance(node, exp.Window):
            return self._window(node)
        if self.clock and (now := clock_call(node)) is not None:
            return now
        if self.scope.subquery is not None:
            joined = self.scope.subquery(node, self)
            if joined is not None:
                return joined
        if (name := aggregate_name(node)) is not None:
            return self._aggregate(node, name)
        if isinstance(node, exp.Anonymous) and node.name.lower() in WINDOW_ONLY:
            raise self.origin.error(f"window function {node.name.lower()!r} needs OVER", node, sqlstate="42809")
        if isinstance(node, exp.Anonymous):
            if node.name.lower() == "row":
                return self._row(node)
            if node.name == MAP_OF:
                return self._map(node)
            made = self.origin.lookup(node.name.lower()) if self.origin.lookup is not None else None
            if isinstance(made, FunctionDefinition):
                if made.language == "python" and made not in self.origin.python:
                    self.origin.python.append(made)
                return called_by_user(made, [self(a) for a in node.expressions], node, self)
            check_callable(node, self.origin)
            args = [
                exp.Kwarg(this=a.this, expression=self(a.expression)) if isinstance(a, exp.Kwarg) else self(a)
                for a in node.expressions
            ]
            return translate(node, args, self.origin, self.type_of)
        if isinstance(node, exp.Cast):
            return self._cast(node)
        if isinstance(node, exp.Is) and _of_boolean(node.expression):
            return self._is(node)
        if isinstance(node, ARITHMETIC):
            return self._arithmetic(node)
        if isinstance(node, exp.DPipe):
            return concatenated(self(node.this), self(node.expression), node, self.origin, self.type_of)
        if isinstance(node, exp.Pow):
            return powered([self._number(self(node.this)), self._number(self(node.expression))], self.type_of)
        if isinstance(node, exp.Bracket):
            return subscripted(
                node, self(node.this), [self._index(e) for e in node.expressions], self.origin, self.type_of
            )
        if isinstance(node, exp.Array) and not node.expressions:
            raise self.origin.error("an empty array has no type", node, hint="write ARRAY[]::INT[]", sqlstate="42P18")
        if isinstance(node, (exp.Tuple, exp.Struct)):
            return self._row(node)
        if isinstance(node, exp.Collate):
            return self._collate(node)
        if type(node) in _CONTAINS:
            left, right = self(node.this), self(node.expression)
            if isinstance(node, exp.ArrayContainedBy):
                left, right = right, left
            return contains(left, right, self.type_of)
        if isinstance(node, exp.ArrayOverlaps):
            return function("list_has_any", self(node.this), self(node.expression))
        if type(node) in _KEYS:
            return has_keys(self(node.this), self(node.expression), _KEYS[type(node)])
        if isinstance(node, exp.Sqrt):
            return translate(exp.Anonymous(this="sqrt"), [self(node.this)], self.origin, self.type_of)
        if isinstance(node, exp.Overlay):
            parts = [
                self(node.args[k]) for k in ("this", "expression", "from_", "for_") if node.args.get(k) is not None
            ]
            return translate(exp.Anonymous(this="overlay"), parts, self.origin, self.type_of)
        if type(node) in (exp.RegexpLike, exp.RegexpILike):
            value, pattern = self(node.this), self(node.expression)
            if self.type_of(value) not in ("VARCHAR", "NULL"):
                value = cast(value, self.type_of(value), "VARCHAR")
            return filled(
                "regexp_matches(p1, p2)" if type(node) is exp.RegexpLike else "regexp_matches(p1, p2, 'i')",
                [value, pattern],
            )
        if isinstance(node, (exp.JSONBExtract, exp.JSONBExtractScalar)):
            return member_of(self, node)
        if isinstance(node, exp.Substring):
            length = node.args.get("length")
            start = node.args.get("start") or exp.Literal.number(1)
            parts = [self(node.this), self(start), *([self(length)] if length else [])]
            return translate(exp.Anonymous(this="substring"), parts, self.origin, self.type_of)
        if isinstance(node, exp.Extract):
            return self._extract(node)
        if isinstance(node, exp.Interval):
            return interval(node, self.origin)
        if isinstance(node, exp.Struct) and all(isinstance(e, exp.PropertyEQ) for e in node.expressions):
            fields = [exp.PropertyEQ(this=e.this.copy(), expression=self(e.expression)) for e in node.expressions]
            return exp.Struct(expressions=fields)
        if isinstance(node, exp.In):
            if node.args.get("query") is not None or node.args.get("unnest") is not None:
                raise self.origin.unsupported("IN (SELECT ...)", node, hint=_SUBQUERY_HINT)
            if not node.expressions:
                raise self.origin.error("IN needs a value in its list", node)
            return exp.In(this=by_place(self(node.this)), expressions=[by_place(self(e)) for e in node.expressions])
        if (each := of_patterns(node)) is not None:
            return self(each)
        if (asked := quantified(node)) is not None:
            if asked.is_query:
                raise self.origin.unsupported("a subquery in an expression here", node, hint=_SUBQUERY_HINT)
            return of_array(asked, self(asked.value), self._list(asked.of, asked.value))
        if self.origin.once and kind in _CLOCKS:
            return function(_CLOCKS[kind], like=node) if _CLOCKS[kind] else filled(_LOCAL_CLOCKS[kind], [])
        if kind in _UNSUPPORTED:
            what, hint = _UNSUPPORTED[kind]
            raise self.origin.unsupported(what, node, hint=hint)
        if isinstance(node, exp.Star):
            raise self.origin.error("* cannot stand here", node)
        if kind not in _PLAIN:
            raise self.origin.unsupported(kind.__name__.upper(), node)
        copy = node.copy()
        for child in list(copy.iter_expressions()):
            if isinstance(child, (exp.Var, exp.DataType)):
                continue
            child.replace(self(child))
        if isinstance(copy, (exp.Predicate, exp.Tuple)):
            # rows are compared by place
            for child in list(copy.iter_expressions()):
                child.replace(by_place(child))
        return copy  # type: ignore[return-value]

    def type_of(self, resolved: exp.Expression) -> str:
        """Return DuckDB's type of a resolved expression; raises SqlError where DuckDB finds it wrong."""
        return check_types(schema_of_scope(self.scope), [resolved], self.origin)[0]

    def struct_fields(self, resolved: exp.Expression, node: exp.Expr) -> list[tuple[str, exp.Expression]]:
        """Return what ``(value).*`` stands for."""
        type_ = self.type_of(resolved)
        if not type_.startswith("STRUCT("):
            raise self.origin.error(f"{resolved.name or 'the value'!r} of type {type_} has no fields", node)
        return [(name, struct_access(resolved.copy(), name)) for name, _ in struct_fields(type_)]

    def _column(self, node: exp.Column) -> exp.Expression:
        if isinstance(node.this, exp.Star):
            raise self.origin.error("* cannot stand here", node)
        parts = node.parts
        column, rest = self.scope.find(parts, node)
        identifier = exp.to_identifier(column.field, quoted=True)
        taken = parts[: len(parts) - len(rest)]
        start, end = taken[0].meta_get("start"), taken[-1].meta_get("end")
        if start is not None and end is not None:
            identifier.meta.update({"start": start, "end": end})
        value: exp.Expression = exp.Column(this=identifier)
        type_ = column.type
        for part in rest:
            value, type_ = self._member(value, type_, part)
        return value

    def _member(self, value: exp.Expression, type_: str, part: exp.Expr) -> tuple[exp.Expression, str]:
        name = folded(part)
        member = struct_member(type_, name)
        if member is None:
            if not type_.startswith("STRUCT("):
                msg = f"a value of type {type_} has no field {name!r}"
                raise self.origin.error(msg, part, sqlstate="42809")
            hint = nearest(name, [f for f, _ in struct_fields(type_)])
            raise self.origin.error(f"field {name!r} does not exist", part, hint=hint, sqlstate="42703")
        access = struct_access(value, member[0])
        if part.meta_get("start") is not None:
            access.expression.meta.update(part.meta)
        return access, member[1]

    def _dot(self, node: exp.Dot) -> exp.Expression:
        if not isinstance(node.expression, exp.Identifier):
            raise self.origin.unsupported("this call or star after a dot", node)
        value = self(node.this)
        return self._member(value, self.type_of(value), node.expression)[0]

    def _of_around(self, node: exp.Expr) -> exp.Expression | None:
        """Return an aggregate that reads no column of this SELECT: it is one of the nearest around that it reads."""
        read = [c for c in node.find_all(exp.Column) if not isinstance(c.this, exp.Star)]
        through = [self.scope]
        while read and through[-1].outer is not None and not any(map(through[-1].owns, read)):
            through.append(through[-1].outer)
        around = through.pop()
        if not through or around.calls is None:
            return None
        value = Resolver(around, calls=around.calls)(node)

        def borrowed(part: exp.Expr) -> exp.Expr:
            if not isinstance(part, exp.Column):
                return part
            column = Column(part.name, part.name, around.made[part.name])
            for scope in reversed(through):
                column = scope.borrowed(column, inside=scope is not self.scope)
            return exp.column(column.field, quoted=True)

        return value.transform(borrowed)  # type: ignore[return-value]

    def _aggregate(self, node: exp.Expr, name: str) -> exp.Expression:
        if (outer := self._of_around(node)) is not None:
            return outer
        if self.not_in is not None:
            msg = f"aggregate functions are not allowed in {self.not_in}"
            hint = "write it in HAVING" if self.not_in == "WHERE" else None
            raise self.origin.error(msg, node, hint=hint, sqlstate="42803")
        if self._in_aggregate:
            raise self.origin.error("aggregate functions cannot be nested", node, sqlstate="42803")
        self._in_aggregate = True
        collected, self.scope.calls = self.scope.calls, None
        try:
            call = resolved_call(self, node, name, self.origin)
        finally:
            self._in_aggregate = False
            self.scope.calls = collected
        read = {c.name for a in call.arguments for c in a.find_all(exp.Column)}
        if self.scope.domain is not None and read and read <= set(self.scope.domain.fields):
            hint = "in a subquery of the select list or HAVING it works; else compute it before, in FROM"
            raise self.origin.unsupported("an aggregate of the query around inside its subquery", node, hint=hint)
        if name == "sum" and not call.distinct and self.type_of(call.arguments[0]) == "INTERVAL":
            parts = [replace(call, argument=filled(part, call.arguments)) for part in INTERVAL_PARTS]
            return filled(INTERVAL_OF_PARTS, [self._made(part) for part in parts])
        return self._made(call)

    def _made(self, call: Aggregation) -> exp.Expression:
        """Return the column that stands for a call."""
        if call not in self.calls:
            self.calls.append(call)
        made = self.placeholder(self.calls.index(call))
        self.scope.made[made] = call_type(call, [self.type_of(a) for a in call.arguments], self.origin)
        return exp.column(made, quoted=True)

    def _window(self, node: exp.Window) -> exp.Expression:
        if self.windows is None or self._in_aggregate or self._in_window:
            where = self.not_in or ("an aggregate" if self._in_aggregate else "a window function")
            raise self.origin.error(f"window functions are not allowed in {where}", node, sqlstate="42P20")
        written = definition(node, self.scope)
        function = called(node.this)
        name = aggregate_name(node.this)
        if isinstance(function, exp.Anonymous) and function.name.lower() in WINDOW_ONLY:
            name = function.name.lower()
        if name is None or name == GROUPING:
            raise self.origin.error("OVER needs an aggregate or a window function", node, sqlstate="42809")
        self._in_window = True
        try:
            call = resolved_call(self, node.this, name, self.origin, written[1])
            partition = tuple(self(p) for p in written[0])
        finally:
            self._in_window = False
        ignore = taken_apart(node.this, name, self.origin).ignore_nulls
        frame = frame_text(self, written[2], node, self.origin)
        if frame.startswith(SESSION_FRAME):
            sort = call.order[0] if len(call.order) == 1 else None
            if sort is None or sort.descending or not self.type_of(sort.expression).startswith("TIMESTAMP"):
                hint = "(PARTITION BY k ORDER BY t SESSION WITH GAP INTERVAL '10 minutes')"
                msg = "SESSION WITH GAP needs ORDER BY one column of time"
                raise self.origin.error(msg, node, hint=hint, sqlstate="42P20")
        use = WindowUse(call, partition, frame, ignore)
        if use not in self.windows:
            self.windows.append(use)
        made = f"{WINDOW}{self.windows.index(use)}"
        types = [self.type_of(a) for a in call.arguments]
        self.scope.made[made] = call_type(call, types, self.origin, window=True)
        return exp.column(made, quoted=True)

    def _cast(self, node: exp.Cast) -> exp.Expression:
        text = data_type_text(node.to, span=self.origin.span(node), text=self.origin.text)
        to = exp.DataType(this=exp.DType.USERDEFINED, kind=text)
        bare = node.this.unnest()
        if isinstance(bare, exp.Array) and not bare.expressions:
            return exp.Cast(this=node.this.copy(), to=to)
        if isinstance(bare, exp.Anonymous) and bare.name in (MAP_OF, "map") and not bare.expressions:
            return exp.Cast(this=function("map", like=bare), to=to)
        value = self(node.this)
        if isinstance(value, exp.Literal):
            return self.cast_literal(value, text, node)
        own = self.type_of(value)
        if by_fields(own, text):
            return row_cast(value, own, text, lambda v, f, t: self._plain_cast(v, f, t, node), node, self.origin)
        return cast(value, own, text)

    def _plain_cast(self, value: exp.Expression, from_type: str, to_type: str, node: exp.Expr) -> exp.Expression:
        if isinstance(value, exp.Literal):
            return self.cast_literal(value, to_type, node)
        return cast(value, from_type, to_type)

    def cast_literal(self, value: exp.Expression, type_: str, node: exp.Expr) -> exp.Expression:
        """Return a literal as a constant of DuckDB type `type_`; SqlError (22P02) at `node` if it is none."""
        if value.is_string:
            try:
                written = literal_text(value.name, type_)
            except ValueError as error:
                raise self.origin.error(str(error), node, sqlstate="22P02") from error
            value = exp.Literal.string(written) if written is not None else value
        made = exp.Cast(this=value, to=exp.DataType(this=exp.DType.USERDEFINED, kind=type_))
        try:
            constant(f"({made.sql('duckdb')}) IS NULL")
        except duckdb.Error as error:
            raise self.origin.error(first_line(error), node, sqlstate="22P02") from error
        return made

    def _list(self, node: exp.Expr, like: exp.Expr) -> exp.Expression:
        value = self(node)
        if isinstance(value, exp.Literal) and value.is_string:
            return self.cast_literal(value, f"{self.type_of(self(like))}[]", node)
        return value

    def _number(self, value: exp.Expression) -> exp.Expression:
        """A string without a type is a number where one is needed."""
        is_text = isinstance(value, exp.Literal) and value.is_string
        return self.cast_literal(value, "DOUBLE", value) if is_text else value

    def _is(self, node: exp.Is) -> exp.Expression:
        """``x IS TRUE``, ``x IS UNKNOWN``: of a boolean alone."""
        value = self(node.this)
        bare = value.unnest()
        said = node.expression.copy() if isinstance(node.expression, exp.Boolean) else exp.Null()
        if isinstance(bare, exp.Literal) and bare.is_string:
            value = self.cast_literal(bare, "BOOLEAN", node)
        elif (kind := self.type_of(value)) not in ("BOOLEAN", "NULL"):
            word = node.expression.sql() if isinstance(said, exp.Boolean) else "UNKNOWN"
            msg = f"the argument of IS {word} must be boolean, this is {kind}"
            raise self.origin.error(msg, node, hint="compare it with something", sqlstate="42804")
        return exp.Is(this=value, expression=said)

    def _arithmetic(self, node: exp.Expr) -> exp.Expression:
        left, right = self(node.this), self(node.expression)
        for side, other in ((left, right), (right, left)):
            bare = side.unnest()
            if not (isinstance(bare, exp.Literal) and bare.is_string):
                continue
            if isinstance(other.unnest(), exp.Null) or (
                isinstance(other.unnest(), exp.Literal) and other.unnest().is_string
            ):
                msg = "it is not clear which operator is meant: both sides have no type"
                raise self.origin.error(msg, node, hint="cast a side: '1'::int", sqlstate="42725")
            wanted = asked_for(node, self.type_of(other), bare.name, on_left=side is left)
            if wanted is not None:
                typed = exp.Literal.number(bare.name) if not wanted else self.cast_literal(bare, wanted, node)
                left, right = (typed, right) if side is left else (left, typed)
            break
        return computed(node, left, right, self.type_of, once=self.origin.once)

    def _map(self, node: exp.Expr) -> exp.Expression:
        """``MAP {key: value}``."""
        if len(node.expressions) % 2:
            raise self.origin.error("a MAP has a value for each key", node, hint="MAP {'a': 1, 'b': 2}")
        if not node.expressions:
            hint = "write MAP {}::MAP(VARCHAR, INTEGER)"
            raise self.origin.error("an empty map has no types", node, hint=hint, sqlstate="42P18")
        parts = [self(e) for e in node.expressions]
        keys, values = exp.Array(expressions=parts[::2]), exp.Array(expressions=parts[1::2])
        return function("map", keys, values, like=node)

    def _index(self, node: exp.Expr) -> exp.Expression:
        if isinstance(node, exp.Slice):
            low, high = node.args.get("this"), node.args.get("expression")
            return exp.Slice(this=self(low) if low else None, expression=self(high) if high else None)
        return self(node)

    def _row(self, node: exp.Expr) -> exp.Expression:
        """``(a, b)``, ``ROW(a, b)``: a struct of f1, f2; ``{'a': 1}`` one of its names."""
        parts = []
        for i, item in enumerate(node.expressions):
            named = isinstance(item, exp.PropertyEQ)
            name = item.this.name if named else f"f{i + 1}"
            value = self(item.expression if named else item)
            parts.append(exp.PropertyEQ(this=exp.to_identifier(name, quoted=True), expression=value))
        return exp.Struct(expressions=parts)

    def _collate(self, node: exp.Collate) -> exp.Expression:
        value = self(node.this)
        problem = collation_problem(node.expression.name, self.type_of(value))
        if problem is not None:
            raise self.origin.error(problem[0], node, hint=problem[1], sqlstate=problem[2])
        return value

    def _extract(self, node: exp.Extract) -> exp.Expression:
        part = node.this.name.lower()
        value = self(node.expression)
        return part_of(part, value)


def _of_boolean(node: exp.Expr) -> bool:
    """Whether what stands behind IS is TRUE, FALSE or UNKNOWN."""
    return isinstance(node, exp.Boolean) or (isinstance(node, exp.Literal) and node.name == UNKNOWN)
