"""Aggregate and window calls as the text has them: what is called, over which arguments, in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import duckdb
from sqlglot import exp

from planner.aggregate_forms import JSONB_OBJECT
from planner.aggregates import value_sql
from planner.logical import AggCall
from planner.numeric import quotient_type
from sabot.schema import Field
from sql_frontend.duck import constant, describe, first_line
from sql_frontend.duck import functions as duckdb_functions
from sql_frontend.origin import Origin

AGGREGATES: dict[type[exp.Expr], str] = {
    exp.Count: "count",
    exp.Sum: "sum",
    exp.Min: "min",
    exp.Max: "max",
    exp.Avg: "avg",
    exp.First: "first",
    exp.Last: "last",
}
_RENAMED = {
    "jsonb_agg": "json_group_array",
    "json_agg": "json_group_array",
    "jsonb_object_agg": JSONB_OBJECT,
    "json_object_agg": "json_group_object",
    "every": "bool_and",
    "first_value": "first",
    "grouping_id": "grouping",
    "last_value": "last",
    "percentile_cont": "quantile_cont",
    "percentile_disc": "quantile_disc",
}
_RANDOM = frozenset(["reservoir_quantile"])
_WITHIN = frozenset(["quantile_cont", "quantile_disc", "mode"])
_ARGS = (
    "arg_max arg_max_null arg_max_nulls_last arg_min arg_min_null arg_min_nulls_last argmax argmin max_by min_by lttb"
)
HOW_MANY = {**dict.fromkeys(_ARGS.split(), 2), "min": 1, "max": 1, "approx_top_k": 1}
"""Which argument, if it is there, says how many values an aggregate gives; DuckDB looks at it row by row, and fails."""
GROUPING = "grouping"
"""Not an aggregate, but told by the grouping set: which of its arguments are not grouped by."""
WINDOW_ONLY = frozenset(
    [
        "row_number",
        "rank",
        "dense_rank",
        "percent_rank",
        "cume_dist",
        "ntile",
        "lag",
        "lead",
        "first_value",
        "last_value",
        "nth_value",
    ]
)
_WRAPPERS = (exp.Filter, exp.WithinGroup, exp.IgnoreNulls, exp.RespectNulls)


@dataclass(frozen=True)
class Sort:
    """One key of an ORDER BY, resolved."""

    expression: exp.Expression
    descending: bool
    nulls_first: bool


@dataclass(frozen=True)
class Aggregation:
    """An aggregate call of the SELECT: `argument` and `condition` are resolved, over the input of the aggregate.

    ``more`` are further arguments that read columns, ``constants`` literals after them, as SQL.
    """

    function: str
    argument: exp.Expression | None
    distinct: bool
    condition: exp.Expression | None
    node: exp.Expr = field(compare=False)
    more: tuple[exp.Expression, ...] = ()
    constants: tuple[str, ...] = ()
    order: tuple[Sort, ...] = ()

    @property
    def arguments(self) -> tuple[exp.Expression, ...]:
        """All arguments that read columns."""
        return ((self.argument,) if self.argument is not None else ()) + self.more


@dataclass(frozen=True)
class WindowUse:
    """``call OVER (PARTITION BY partition ORDER BY call.order frame)``."""

    call: Aggregation
    partition: tuple[exp.Expression, ...]
    frame: str
    ignore_nulls: bool


@dataclass(frozen=True)
class WrittenCall:
    """A call with what stands around it taken apart; nothing is resolved."""

    name: str
    arguments: list[exp.Expr]
    distinct: bool
    order: list[exp.Expr]
    condition: exp.Expr | None
    ignore_nulls: bool


def called(node: exp.Expr) -> exp.Expr:
    """Return the call inside FILTER, WITHIN GROUP, IGNORE NULLS."""
    while isinstance(node, _WRAPPERS):
        node = node.this
    return node


def aggregate_name(node: exp.Expr) -> str | None:
    """Return DuckDB's name of the aggregate that `node` (maybe with FILTER) calls, or None if it calls none."""
    call = called(node)
    if type(call) in AGGREGATES:
        return AGGREGATES[type(call)]
    if not isinstance(call, exp.Anonymous):
        return None
    name = call.name.lower()
    if name == GROUPING or name in _RENAMED:
        return _RENAMED.get(name, name)
    return name if duckdb_functions().get(name, ("", True))[0] == "aggregate" else None


def taken_apart(node: exp.Expr, name: str, origin: Origin) -> WrittenCall:
    """Return the parts of a call; raises SqlError (0A000) for one that cannot give the same answer twice."""
    condition: exp.Expr | None = None
    within: list[exp.Expr] = []
    ignore_nulls = False
    at = node
    while isinstance(at, _WRAPPERS):
        if isinstance(at, exp.Filter):
            condition = at.expression.this
        elif isinstance(at, exp.WithinGroup):
            within = list(at.expression.expressions)
        ignore_nulls |= isinstance(at, exp.IgnoreNulls)
        at = at.this
    if name in _RANDOM:
        raise origin.unsupported(f"aggregate {name!r}", node, hint="quantile_cont is exact")
    first = [] if isinstance(at, exp.Anonymous) or not isinstance(at.this, exp.Expr) else [at.this]
    arguments = [*first, *at.expressions]
    order: list[exp.Expr] = []
    if arguments and isinstance(arguments[-1], exp.Order):
        order = list(arguments[-1].expressions)
        arguments[-1] = arguments[-1].this
    if arguments and isinstance(arguments[-1], (exp.IgnoreNulls, exp.RespectNulls)):
        ignore_nulls |= isinstance(arguments[-1], exp.IgnoreNulls)
        arguments[-1] = arguments[-1].this
    distinct = bool(arguments) and isinstance(arguments[0], exp.Distinct)
    if distinct:
        arguments = [*arguments[0].expressions, *arguments[1:]]
    if distinct and arguments and isinstance(arguments[-1], exp.Order):
        order = list(arguments[-1].expressions)
        arguments[-1] = arguments[-1].this
    if within:
        arguments, order, never = _within_group(name, arguments, within, node, origin)
        condition = condition if never is None else never
    return WrittenCall(name, arguments, distinct, order, condition, ignore_nulls)


def _within_group(
    name: str, arguments: list[exp.Expr], within: list[exp.Expr], node: exp.Expr, origin: Origin
) -> tuple[list[exp.Expr], list[exp.Expr], exp.Expr | None]:
    """``percentile_cont(f) WITHIN GROUP (ORDER BY x)`` is ``quantile_cont(x, f)``, of a descending order 1 - f.

    Returns the arguments, the order, and the condition that takes FILTER's place.
    """
    if name not in _WITHIN or len(within) != 1 or len(arguments) != (name != "mode"):
        raise origin.unsupported(
            f"WITHIN GROUP of {name!r}", node, hint="percentile_cont(0.5) WITHIN GROUP (ORDER BY x)"
        )
    by = within[0]
    value = by.this if isinstance(by, exp.Ordered) else by
    if name == "mode":
        # of several values that are there as often, the first in this order
        return [value], [by] if by.args.get("desc") else [], None
    given = arguments[0].unnest()
    several = isinstance(given, exp.Array)
    fractions = [_fraction(f, node, origin) for f in (given.expressions if several else [given])]
    if None in fractions and several:
        raise origin.unsupported("NULL among the fractions of a percentile", node)
    if None in fractions:
        # the percentile of an unknown fraction is NULL, whatever the rows: that of no rows
        return [value, exp.Literal.number("0.5")], [], exp.false()
    descending = bool(by.args.get("desc"))
    # DuckDB counts from the end where the fraction is negative
    signed = [str((-f or 1) if descending else f) for f in fractions if f is not None]
    written = [exp.Neg(this=exp.Literal.number(s[1:])) if s[0] == "-" else exp.Literal.number(s) for s in signed]
    return [value, exp.Array(expressions=written) if several else written[0]], [], None


def _fraction(written: exp.Expr, node: exp.Expr, origin: Origin) -> float | None:
    """Return the constant between 0 and 1 that is written, None for NULL."""
    given: object = False
    if not any(written.find_all(exp.Column, exp.Query, exp.Func)):
        given = constant(f"CAST({written.sql('duckdb')} AS DOUBLE)")
    if given is None:
        return None
    if not isinstance(given, float) or not 0 <= given <= 1:
        raise origin.error("the fraction of a percentile must be a number between 0 and 1", node, sqlstate="22003")
    return given


def call_type(call: Aggregation, arguments: Sequence[str], origin: Origin, *, window: bool = False) -> str:
    """Return DuckDB's type of a call over arguments of these types.

    Raises
    ------
    SqlError
        42883 where DuckDB finds it wrong.
    """
    if call.function == GROUPING:
        return "INTEGER"
    if call.function == "count":
        return "BIGINT"
    if call.function == "sum" and arguments and arguments[0] in ("TINYINT", "SMALLINT", "INTEGER"):
        return "BIGINT"
    if call.function == "avg" and arguments and arguments[0] != "BOOLEAN":
        exact = quotient_type(arguments[0], "BIGINT")
        if exact is not None:
            return exact
    fields = tuple(Field(f"x{i}", t) for i, t in enumerate(arguments))
    names = [f.name for f in fields]
    plain = AggCall(
        "c", call.function, names[0] if names else None, "", call.distinct, None, tuple(names[1:]), call.constants
    )
    sql = value_sql(plain, {f.name: f.type for f in fields}, (), " OVER ()" if window else "")
    try:
        (type_,) = describe(fields, (sql,))
    except duckdb.Error as error:
        shown = ", ".join(arguments)
        msg = f"{call.function} cannot take {shown}" if shown else f"{call.function} needs an argument"
        raise origin.error(msg, call.node, hint=first_line(error), sqlstate="42883") from error
    if type_ == "BIT":
        raise origin.unsupported(
            f"{call.function}, which gives a BIT,", call.node, hint="list(DISTINCT x) has them too"
        )
    return "DECIMAL(38,0)" if type_ in ("HUGEINT", "UHUGEINT", "BIGNUM") else type_
