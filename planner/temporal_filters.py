"""The streaming operator of conditions with now()."""

from __future__ import annotations

from sqlglot import exp

from planner.changelog import Changelog
from planner.distribution import AnyDistribution, Single
from planner.expressions import column, conjuncts, reads_clock
from planner.logical import Filter
from planner.render import as_declared, render
from planner.stream_node import StreamInput, StreamNode, column_specs
from planner.task_spec import ClockCondition, TemporalFilterOp
from sabot.errors import PlanError
from sabot.schema import Schema

NOW = "__now"
"""The column that stands for now() in the SQL of a bound."""

_SIGNS: dict[type[exp.Expr], str] = {exp.GT: ">", exp.GTE: ">=", exp.LT: "<", exp.LTE: "<=", exp.EQ: "="}


def temporal_filter(node: Filter, below: StreamNode) -> StreamNode:
    """Return the operator that shows the rows of `below` while the conditions of `node` hold."""
    conditions = tuple(_condition(p, below.schema) for p in conjuncts(node.predicate))
    op = TemporalFilterOp(column_specs(below.schema), conditions, below.retracting)
    # a row and its retraction are judged alike wherever they are: they need not meet
    spread = not below.pinned and below.parallelism > 1
    return StreamNode(
        op,
        (StreamInput(below, AnyDistribution()),),
        below.schema,
        Changelog.RETRACT if op.retracts else Changelog.APPEND_ONLY,
        below.stream_key,
        below.distribution if spread or below.parallelism == 1 else Single(),
        below.parallelism,
        stateful=True,
    )


def _condition(predicate: exp.Expression, fields: Schema) -> ClockCondition:
    """Return ``value sign bound``, the side with the clock as the bound."""
    sign = _SIGNS.get(type(predicate))
    if not isinstance(predicate, exp.Binary) or sign is None:
        msg = f"{predicate.sql()!r} does not compare a value with now()"
        raise PlanError(msg, hint="this is a bug of the planner, not of the query")
    value, bound = predicate.left, predicate.right
    assert isinstance(value, exp.Expression)
    assert isinstance(bound, exp.Expression)
    if reads_clock(value):
        value, bound = bound, value
        sign = sign.translate(str.maketrans("<>", "><"))

    def clock(part: exp.Expr) -> exp.Expr:
        return column(NOW) if isinstance(part, exp.Anonymous) and part.name == "now" else part

    moved = bound.copy().transform(clock, copy=False)
    assert isinstance(moved, exp.Expression)
    return ClockCondition(render(as_declared(value, fields)), sign, render(moved))
