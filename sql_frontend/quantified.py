"""Comparisons with ANY, SOME and ALL, of a subquery's rows or an array's elements; and rows IN (SELECT ...)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlglot import exp

from sql_frontend import build
from sql_frontend.functions import function

_SIGNS = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE)
_WORDS = {"any": False, "some": False, "all": True}


@dataclass(frozen=True)
class Quantified:
    """``value sign ANY (of)``, or ``ALL (of)`` if it is of `every` row or element."""

    sign: type[exp.Expr]
    value: exp.Expr
    of: exp.Expr
    every: bool

    @property
    def is_query(self) -> bool:
        """Whether the rows are a subquery's."""
        return isinstance(self.of, exp.Query)

    @property
    def is_membership(self) -> bool:
        """Whether it asks for a row that is equal: ``= ANY`` is IN, ``<> ALL`` is NOT IN."""
        return self.sign is (exp.NEQ if self.every else exp.EQ)


def quantified(node: exp.Expr) -> Quantified | None:
    """Return what `node` compares if it is a comparison with ANY, SOME or ALL."""
    if not isinstance(node, _SIGNS):
        return None
    right = node.expression
    if isinstance(right, (exp.Any, exp.All)):
        return Quantified(type(node), node.this, right.this.unnest(), isinstance(right, exp.All))
    if isinstance(right, exp.Anonymous) and right.name.lower() in _WORDS and len(right.expressions) == 1:
        return Quantified(type(node), node.this, right.expressions[0].unnest(), _WORDS[right.name.lower()])
    return None


def of_patterns(node: exp.Expr) -> exp.Expr | None:
    """Return ``x LIKE ANY (ARRAY[...])`` and the like pattern by pattern; None where there is no list of patterns."""
    right = node.expression if isinstance(node, (exp.Like, exp.ILike)) else None
    if not isinstance(right, (exp.Any, exp.All)):
        return None
    array = right.this.unnest()
    if not isinstance(array, exp.Array) or not array.expressions:
        return None
    parts: list[exp.Expr] = [type(node)(this=node.this.copy(), expression=e.copy()) for e in array.expressions]
    if node.args.get("negate"):
        parts = [exp.Not(this=part) for part in parts]
    joined = exp.and_ if isinstance(right, exp.All) else exp.or_
    return exp.paren(joined(*parts, copy=False), copy=False)


@dataclass(frozen=True)
class Summary:
    """What is known of rows or elements: how many there are and how many are not NULL, the least and the greatest."""

    rows: exp.Expression
    known: exp.Expression
    low: exp.Expression
    high: exp.Expression


def answer(asked: Quantified, value: exp.Expression, among: Summary) -> exp.Case:
    """Return true, false, or NULL where a NULL leaves it open. Not for what is a membership."""
    low, high = among.low, among.high

    def compared(sign: type[exp.Expr], side: exp.Expression) -> exp.Expr:
        return sign(this=exp.paren(value.copy()), expression=exp.paren(side.copy()))

    differs = exp.Or(this=compared(exp.NEQ, low), expression=compared(exp.NEQ, high))
    settled: dict[tuple[type[exp.Expr], bool], exp.Expr] = {
        (exp.GT, False): compared(exp.GT, low),
        (exp.GTE, False): compared(exp.GTE, low),
        (exp.LT, False): compared(exp.LT, high),
        (exp.LTE, False): compared(exp.LTE, high),
        (exp.NEQ, False): differs,
        # one for which it does not hold
        (exp.GT, True): compared(exp.LTE, high),
        (exp.GTE, True): compared(exp.LT, high),
        (exp.LT, True): compared(exp.GTE, low),
        (exp.LTE, True): compared(exp.GT, low),
        (exp.EQ, True): differs,
    }
    return _three_valued(asked.every, value, among, settled[asked.sign, asked.every])


def of_array(asked: Quantified, value: exp.Expression, array: exp.Expression) -> exp.Expression:
    """Return the answer for the elements of `array`; NULL where there is no array."""
    if asked.is_membership and isinstance(array, exp.Array):
        listed = exp.In(this=value, expressions=array.expressions)
        return exp.Not(this=listed) if asked.every else listed
    among = Summary(
        function("len", array.copy()),
        function("list_aggregate", array.copy(), exp.Literal.string("count")),
        function("list_min", array.copy()),
        function("list_max", array.copy()),
    )
    if asked.is_membership:
        whole = _three_valued(asked.every, value, among, function("list_contains", array.copy(), value.copy()))
    else:
        whole = answer(asked, value, among)
    whole.args["ifs"].insert(0, exp.If(this=_is_null(array), true=_unknown()))
    return whole


def _three_valued(every: bool, value: exp.Expression, among: Summary, settled: exp.Expr) -> exp.Case:
    zero = exp.Literal.number(0)
    none = exp.EQ(this=exp.Coalesce(this=among.rows.copy(), expressions=[zero]), expression=zero.copy())
    some_null = exp.NEQ(this=among.rows.copy(), expression=among.known.copy())
    ifs = [
        exp.If(this=none, true=exp.Boolean(this=every)),
        exp.If(this=_is_null(value), true=_unknown()),
        exp.If(this=settled, true=exp.Boolean(this=not every)),
        exp.If(this=some_null, true=_unknown()),
    ]
    return exp.Case(ifs=ifs, default=exp.Boolean(this=every))


def _is_null(value: exp.Expr) -> exp.Is:
    return exp.Is(this=exp.paren(value.copy()), expression=exp.Null())


def _unknown() -> exp.Cast:
    return exp.Cast(this=exp.Null(), to=exp.DataType.build("BOOLEAN"))


def values_of_row(node: exp.Expr) -> list[exp.Expr] | None:
    """Return the parts of ``(a, b)`` or ``ROW(a, b)``."""
    bare = node.unnest()
    if isinstance(bare, exp.Tuple) or (isinstance(bare, exp.Anonymous) and bare.name.lower() == "row"):
        return list(bare.expressions)
    return None


def row_in(values: Sequence[exp.Expr], query: exp.Expr) -> exp.Case:
    """Return ``(values) IN (query)`` written with EXISTS: NULL where no row is equal, and one may be but for NULLs."""
    names = [f"__in{i}" for i in range(len(values))]
    columns = [build.column(n) for n in names]

    def exists(*conditions: exp.Expr) -> exp.Exists:
        alias = exp.TableAlias(
            this=exp.to_identifier("__in", quoted=True), columns=[exp.to_identifier(n, quoted=True) for n in names]
        )
        rows = exp.Subquery(this=query.copy(), alias=alias)
        where = exp.and_(*conditions, copy=False)
        select = exp.Select(expressions=[exp.Literal.number(1)])
        select.set("from_", exp.From(this=rows))
        select.set("where", exp.Where(this=where))
        return exp.Exists(this=select)

    def each(make: Callable[[exp.Expr, exp.Expr], exp.Expr]) -> list[exp.Expr]:
        return [exp.paren(make(v.copy(), c.copy()), copy=False) for v, c in zip(values, columns, strict=True)]

    equal = each(lambda v, c: exp.EQ(this=exp.paren(v), expression=c))
    maybe = each(lambda v, c: exp.or_(exp.EQ(this=exp.paren(v), expression=c), _is_null(v), _is_null(c), copy=False))
    mine = exp.or_(*(_is_null(v) for v in values), copy=False)
    others = exp.or_(*(_is_null(c) for c in columns), copy=False)
    # only rows with a NULL on one side are held against all of the other
    ifs = [
        exp.If(this=exists(*equal), true=exp.Boolean(this=True)),
        exp.If(this=exists(others, *maybe), true=_unknown()),
        exp.If(this=exists(mine, *(m.copy() for m in maybe)), true=_unknown()),
    ]
    return exp.Case(ifs=ifs, default=exp.Boolean(this=False))
