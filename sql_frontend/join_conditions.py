"""Conditions between the two sides of a join: which equate, which order; and the joins by time that need them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlglot import exp

from planner.logical import AsOf, Join, JoinKind, LogicalNode, schema_of
from sql_frontend import build
from sql_frontend.origin import Origin
from sql_frontend.scope import OUTER
from sql_frontend.subqueries import is_outer, joined, keyed

_JOIN_HINT = "INNER, LEFT, RIGHT, FULL, CROSS, SEMI and ANTI JOIN work"


def outer_joined(
    left: LogicalNode,
    right: LogicalNode,
    pool: Sequence[exp.Expression],
    kind: JoinKind,
    origin: Origin,
    *,
    by_time: bool = False,
) -> Join:
    """Return `left` joined with `right`, keeping rows without a partner as `kind` says.

    IS NOT DISTINCT FROM makes keys as ``=`` does, but for a join `by_time`.
    """
    left_fields, right_fields = _names(left), _names(right)
    found = [(p, (equality if by_time else sameness)(p, left_fields, right_fields)) for p in pool]
    found.sort(key=lambda one: not is_null_safe(one[0]))
    keys = [k for _, k in found if k is not None]
    null_safe = sum(k is not None and is_null_safe(p) for p, k in found)
    residual = [p for p, k in found if k is None]
    right, names = keyed(right, [k[1] for k in keys], left_fields | right_fields, origin)
    pairs = [(k[0], name) for k, name in zip(keys, names, strict=True)]
    return joined(left, right, pairs, kind, origin, residual, null_safe=null_safe)


def nearest_joined(
    left: LogicalNode,
    right: LogicalNode,
    pool: Sequence[exp.Expression],
    kind: JoinKind,
    join: exp.Join,
    origin: Origin,
) -> Join:
    """Return `left` joined ASOF: by equalities, and one inequality that says which row is the nearest."""
    left_fields, right_fields = _names(left), _names(right)
    equal = [p for p in pool if equality(p, left_fields, right_fields) is not None]
    ordered = [(p, inequality(p, left_fields, right_fields)) for p in pool if not any(p is e for e in equal)]
    if len(ordered) != 1 or ordered[0][1] is None:
        msg = "ASOF JOIN needs equalities and exactly one inequality between the two sides"
        at = next((p for p, found in ordered if found is None), join)
        hint = "write ON a.k = b.k AND a.t >= b.t, and other conditions in WHERE"
        raise origin.error(msg, at, hint=hint, sqlstate="42P10")
    mine, sign, other = ordered[0][1]
    taken = left_fields | right_fields
    left, (left_name,) = keyed(left, [mine], taken, origin)
    right, (right_name,) = keyed(right, [other], taken | {left_name}, origin)
    comparison = exp.GTE(this=build.column(left_name), expression=build.column(right_name))
    build.conjunction(schema_of(left) + schema_of(right), [comparison], origin)
    return replace(outer_joined(left, right, equal, kind, origin, by_time=True), asof=AsOf(left_name, sign, right_name))


def check_join(join: exp.Join, origin: Origin) -> None:
    """Raise SqlError (0A000) for a join of a kind that there is not."""
    side, kind, method = (str(join.args.get(k) or "").upper() for k in ("side", "kind", "method"))
    if method == "ASOF" and (side not in ("", "LEFT") or kind not in ("", "INNER", "OUTER")):
        raise origin.unsupported(f"ASOF {side or kind} JOIN", join, hint="ASOF JOIN and ASOF LEFT JOIN work")
    if side not in ("", "LEFT", "RIGHT", "FULL") or kind not in ("", "INNER", "CROSS", "OUTER", "SEMI", "ANTI"):
        raise origin.unsupported(f"{f'{side} {kind}'.strip()} JOIN", join, hint=_JOIN_HINT)
    if method not in ("", "NATURAL", "ASOF"):
        raise origin.unsupported(f"{method} JOIN", join, hint="name the columns: JOIN ... USING (a, b)")
    extra = [k for k, v in join.args.items() if v and k not in ("this", "on", "using", "kind", "side", "method")]
    if extra:
        raise origin.unsupported(f"JOIN with {extra[0]}", join)


def check_temporal(join: exp.Join, side: str, kind: str, method: str, *, comma: bool, origin: Origin) -> None:
    """Raise SqlError (0A000) for FOR SYSTEM_TIME AS OF in a join, or with a time, that cannot be."""
    hint = "write JOIN or LEFT JOIN relation FOR SYSTEM_TIME AS OF PROCTIME() ON ..."
    if comma or side not in ("", "LEFT") or kind not in ("", "INNER", "CROSS", "OUTER") or method:
        raise origin.unsupported("FOR SYSTEM_TIME AS OF in this join", join.this, hint=hint)
    time = join.this.args["version"].expression
    if not isinstance(time, exp.Anonymous) or time.name.lower() != "proctime" or time.expressions:
        hint = "AS OF PROCTIME() works; for the version of a row's own time write ASOF JOIN ... ON a.t >= b.t"
        raise origin.unsupported("FOR SYSTEM_TIME AS OF another time", time or join.this, hint=hint)


def _names(node: LogicalNode) -> set[str]:
    return {f.name for f in schema_of(node)}


def outer_equality(predicate: exp.Expression) -> tuple[exp.Expression, exp.Expression] | None:
    """Return (side of the query around, side of this one) of an equality between the two."""
    if not isinstance(predicate, exp.EQ):
        return None
    for a, b in ((predicate.left, predicate.right), (predicate.right, predicate.left)):
        of_a = fields_of(a)  # type: ignore[arg-type]
        if of_a and all(f.startswith(OUTER) for f in of_a) and not is_outer(b) and fields_of(b):  # type: ignore[arg-type]
            return a.unnest(), b.unnest()  # type: ignore[return-value]
    return None


def fields_of(expression: exp.Expression) -> set[str]:
    """Return the names of the fields that `expression` reads."""
    return {c.name for c in expression.find_all(exp.Column)}


def links(predicate: exp.Expression, left: set[str], right: set[str]) -> bool:
    """Whether `predicate` is about something of the left and something of the right, and nothing else."""
    used = fields_of(predicate)
    return used <= left | right and bool(used & left) and bool(used & right)


def equality(
    predicate: exp.Expression, left: set[str], right: set[str]
) -> tuple[exp.Expression, exp.Expression] | None:
    """Return (left key, right key) if `predicate` equates something of the left with something of the right."""
    return sameness(predicate, left, right) if isinstance(predicate, exp.EQ) else None


def sameness(
    predicate: exp.Expression, left: set[str], right: set[str]
) -> tuple[exp.Expression, exp.Expression] | None:
    """Return what :func:`equality` does, also of IS NOT DISTINCT FROM."""
    if not isinstance(predicate, exp.EQ | exp.NullSafeEQ):
        return None
    a, b = (side.unnest() if isinstance(side, exp.Paren) else side for side in (predicate.left, predicate.right))
    of_a, of_b = fields_of(a), fields_of(b)  # type: ignore[arg-type]
    if of_a and of_b and of_a <= left and of_b <= right:
        return a, b  # type: ignore[return-value]
    if of_a and of_b and of_a <= right and of_b <= left:
        return b, a  # type: ignore[return-value]
    return None


def is_null_safe(predicate: exp.Expression) -> bool:
    """Whether `predicate` is IS NOT DISTINCT FROM."""
    return isinstance(predicate, exp.NullSafeEQ)


_MIRRORED = {">=": "<=", ">": "<", "<=": ">=", "<": ">"}
_SIGNS: dict[type[exp.Expr], str] = {exp.GTE: ">=", exp.GT: ">", exp.LTE: "<=", exp.LT: "<"}


def inequality(
    predicate: exp.Expression, left: set[str], right: set[str]
) -> tuple[exp.Expression, str, exp.Expression] | None:
    """Return (left side, sign, right side) if `predicate` orders something of the left and something of the right."""
    if not isinstance(predicate, exp.GTE | exp.GT | exp.LTE | exp.LT):
        return None
    sign = _SIGNS[type(predicate)]
    sides = equality(exp.EQ(this=predicate.left.copy(), expression=predicate.right.copy()), left, right)
    if sides is None:
        return None
    return sides[0], sign if fields_of(predicate.left) <= left else _MIRRORED[sign], sides[1]  # type: ignore[arg-type]
