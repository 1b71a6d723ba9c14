"""How far apart the times of a join's two sides may be, and when a kept row can have no partner any more.

A time of a row has a lag: rows that are still to come have it at the watermark minus the lag, or later. It is 0 for a
watermark's own column, if rows are judged by it where they come from.
"""

from __future__ import annotations

import re

from sqlglot import exp

from planner.expressions import conjuncts
from planner.logical import Join, JoinKind

Lags = dict[str, int]
"""Field to the microseconds by which it may lie before the watermark in rows that are still to come."""

_UNIT_US = {
    "microsecond": 1,
    "millisecond": 1_000,
    "second": 1_000_000,
    "sec": 1_000_000,
    "minute": 60_000_000,
    "min": 60_000_000,
    "hour": 3_600_000_000,
    "day": 86_400_000_000,
    "week": 604_800_000_000,
}
_QUANTITY = re.compile(r"\s*([+-]?\d+)\s*([a-z]+)", re.IGNORECASE)
_CLOCK = re.compile(r"\s*(\d+):(\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?\s*\Z")


def join_expiry(node: Join, left: Lags, right: Lags) -> tuple[tuple[str, int], tuple[str, int]] | None:
    """Return per side (field, microseconds): a row may go when the watermark is past their sum. None if never."""
    found = bounded(node, left, right)
    if found is None:
        return None
    (lf, rf), low, high = found
    of_left, of_right = -low + right[rf], high + left[lf]
    if node.kind is not JoinKind.INNER:
        # a row also stays as long as one that it is the partner of waits for others
        of_left, of_right = max(of_left, high - low + left[lf]), max(of_right, high - low + right[rf])
    return (lf, of_left), (rf, of_right)


def bounded(node: Join, left: Lags, right: Lags) -> tuple[tuple[str, str], int, int] | None:
    """Return a pair of times with the least and the greatest that left minus right may be, or None."""
    if node.temporal or node.asof is not None:
        return None
    for pair in list(zip(node.left_keys, node.right_keys, strict=True))[node.null_safe :]:
        if pair[0] in left and pair[1] in right:
            return pair, 0, 0
    low: dict[tuple[str, str], int] = {}
    high: dict[tuple[str, str], int] = {}
    for predicate in _comparisons(node.residual):
        a, b = shifted(predicate.left), shifted(predicate.right)
        if a is None or b is None:
            continue
        at_least = isinstance(predicate, exp.GTE | exp.GT)
        if a[0] in right and b[0] in left:
            a, b, at_least = b, a, not at_least
        if a[0] not in left or b[0] not in right:
            continue
        pair, bound = (a[0], b[0]), b[1] - a[1]
        if at_least:
            low[pair] = max(low.get(pair, bound), bound)
        else:
            high[pair] = min(high.get(pair, bound), bound)
    both = [pair for pair in low if pair in high]
    return (both[0], low[both[0]], high[both[0]]) if both else None


def _comparisons(residual: exp.Expression | None) -> list[exp.Binary]:
    """Return the comparisons of times that must all hold; BETWEEN is two."""
    found: list[exp.Binary] = []
    for part in conjuncts(residual) if residual is not None else []:
        bare = _bare(part)
        if isinstance(bare, exp.And):
            found += _comparisons(bare)
        elif isinstance(bare, exp.Between):
            value, low, high = bare.this, bare.args["low"], bare.args["high"]
            found += [
                exp.GTE(this=value.copy(), expression=low.copy()),
                exp.LTE(this=value.copy(), expression=high.copy()),
            ]
        elif isinstance(bare, exp.GTE | exp.GT | exp.LTE | exp.LT):
            found.append(bare)
    return found


def _bare(node: exp.Expr) -> exp.Expr:
    """Return what stands in parentheses or in TRY."""
    while isinstance(node, exp.Paren) or (isinstance(node, exp.Anonymous) and node.name.upper() == "TRY"):
        node = node.this if isinstance(node, exp.Paren) else node.expressions[0]
    return node


def shifted(node: exp.Expr) -> tuple[str, int] | None:
    """Return (field, microseconds) of a field plus or minus intervals of fixed length, or None."""
    bare = _bare(node)
    if isinstance(bare, exp.Column):
        return bare.name, 0
    if isinstance(bare, exp.Add | exp.Sub):
        base, shift = shifted(bare.left), _microseconds(_bare(bare.right))
        if base is None and isinstance(bare, exp.Add):
            base, shift = shifted(bare.right), _microseconds(_bare(bare.left))
        if base is not None and shift is not None:
            return base[0], base[1] + (shift if isinstance(bare, exp.Add) else -shift)
    return None


def _microseconds(node: exp.Expr) -> int | None:
    """Return the length of an INTERVAL literal; None if it is none, or has months."""
    if not isinstance(node, exp.Interval) or not isinstance(node.this, exp.Literal):
        return None
    unit = node.args.get("unit")
    text = f"{node.this.name} {unit.name}" if unit is not None else str(node.this.name)
    if (clock := _CLOCK.match(text)) is not None:
        hours, minutes, seconds = (int(clock[i] or 0) for i in (1, 2, 3))
        return ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + int((clock[4] or "").ljust(6, "0") or 0)
    total, at = 0, 0
    while (part := _QUANTITY.match(text, at)) is not None:
        unit_us = _UNIT_US.get(part[2].lower().removesuffix("s"))
        if unit_us is None:
            return None
        total, at = total + int(part[1]) * unit_us, part.end()
    return total if at and not text[at:].strip() else None
