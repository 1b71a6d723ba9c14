"""now() in a streaming query: what stands for it, and the conditions that may compare with it."""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from sql_frontend.origin import Origin

CLOCK_HINT = "now() works in WHERE, compared with a column: t > now() - INTERVAL '1 hour'"

_NOW = frozenset(["now", "current_timestamp", "transaction_timestamp", "statement_timestamp"])
_TODAY = frozenset(["current_date", "today"])
_COMPARISONS = (exp.GT, exp.GTE, exp.LT, exp.LTE, exp.EQ)
_RISING = frozenset(["date_trunc", "time_bucket", "epoch", "epoch_ms", "epoch_us", "date_part"])
"""Functions of a time that only rise with it; of date_part the epoch alone."""


def clock_call(node: exp.Expr) -> exp.Expression | None:
    """Return what stands for a call of the clock in a plan (now() and casts of it), or None if `node` is none."""
    name = node.name.lower() if isinstance(node, exp.Anonymous) and not node.expressions else ""
    now = exp.Anonymous(this="now")
    if isinstance(node, exp.CurrentTimestamp) or name in _NOW:
        return now
    if isinstance(node, exp.CurrentDate) or name in _TODAY:
        return exp.Cast(this=now, to=exp.DataType.build("DATE", dialect="duckdb"))
    if isinstance(node, exp.Localtimestamp) or name == "localtimestamp":
        return exp.Cast(this=now, to=exp.DataType.build("TIMESTAMP", dialect="duckdb"))
    return None


def calls_clock(node: exp.Expr) -> bool:
    """Whether an expression as written calls the clock, outside of subqueries."""
    parts = node.walk(prune=lambda n: isinstance(n, exp.Query | exp.Subquery))
    return any(clock_call(part) is not None for part in parts)


def clock_conditions(
    node: exp.Expr, resolve: Callable[[exp.Expr], exp.Expression], origin: Origin
) -> list[exp.Expression]:
    """Return a condition with now(), resolved: comparisons of a value of the row with a time that only rises.

    Raises
    ------
    SqlError
        0A000 where now() stands in anything else.
    """
    bare = node.unnest()
    if isinstance(bare, exp.Between):
        value, low, high = bare.this, bare.args["low"], bare.args["high"]
        parts = [exp.GTE(this=value.copy(), expression=low.copy()), exp.LTE(this=value.copy(), expression=high.copy())]
        return [p for part in parts for p in clock_conditions(part, resolve, origin)]
    if not isinstance(bare, _COMPARISONS):
        raise origin.unsupported("now() in this condition", node, hint=CLOCK_HINT)
    sides = [resolve(bare.left), resolve(bare.right)]
    with_clock = [s for s in sides if _reads(s)]
    if len(with_clock) == 2 or any(True for s in with_clock for _ in s.find_all(exp.Column)):
        hint = "now() stands on one side, the columns on the other: t > now() - INTERVAL '1 hour'"
        raise origin.unsupported("now() beside a column", node, hint=hint)
    for side in with_clock:
        _check_rising(side, node, origin)
    return [type(bare)(this=sides[0], expression=sides[1])]


def _reads(node: exp.Expr) -> bool:
    return any(call.name == "now" for call in node.find_all(exp.Anonymous))


def _check_rising(node: exp.Expr, whole: exp.Expr, origin: Origin) -> None:
    """Refuse what could fall while time goes on: what has left a view would have to come back."""
    if not _reads(node) or (isinstance(node, exp.Anonymous) and node.name == "now"):
        return
    parts: list[exp.Expr] = []
    if isinstance(node, exp.Paren | exp.Cast | exp.AtTimeZone):
        parts = [node.this]
    elif isinstance(node, exp.Add):
        parts = [node.left, node.right]
    elif isinstance(node, exp.Sub) and not _reads(node.right):
        parts = [node.left]
    elif isinstance(node, exp.Anonymous) and node.name.lower() in _RISING:
        first = node.expressions[0]
        if node.name.lower() != "date_part" or (isinstance(first, exp.Literal) and first.name == "epoch"):
            parts = list(node.expressions)
    if not parts:
        hint = "now() may be shifted by an interval, cut by date_trunc, or cast to a date or a timestamp"
        raise origin.unsupported("this expression of now()", whole, hint=hint)
    for part in parts:
        _check_rising(part, whole, origin)
