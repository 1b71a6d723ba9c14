"""Comparisons of rows column by column: of NULLs, DuckDB says of STRUCTs something else than PostgreSQL of rows."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

_STRICT: dict[type[exp.Binary], type[exp.Binary]] = {exp.LT: exp.LT, exp.LTE: exp.LT, exp.GT: exp.GT, exp.GTE: exp.GT}


def spread_rows(tree: exp.Expr) -> None:
    """Write ``(a, b) = (c, d)`` as ``a = c AND b = d``, and so on for ``<>``, ``<``, ``<=``, ``>`` and ``>=``.

    Of an order, the first columns that differ decide, and a NULL before them leaves it open (PostgreSQL's manual,
    9.24.5).
    """
    for node in reversed(list(tree.find_all(exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE))):
        if _pairs(node.left, node.right) and node.parent is not None:
            node.replace(exp.paren(_compared(type(node), node.left, node.right), copy=False))


def _pairs(left: exp.Expr, right: exp.Expr) -> list[tuple[exp.Expr, exp.Expr]]:
    """Return what is compared with what, if both are rows of as many columns."""
    of_left, of_right = _columns(left), _columns(right)
    return list(zip(of_left, of_right, strict=True)) if len(of_left) == len(of_right) else []


def _columns(node: exp.Expr) -> list[exp.Expr]:
    bare = node.unnest()
    is_row = isinstance(bare, exp.Tuple) or (isinstance(bare, exp.Anonymous) and bare.name.lower() == "row")
    return list(bare.expressions) if is_row else []


def _compared(kind: type[exp.Binary], left: exp.Expr, right: exp.Expr) -> exp.Expr:
    pairs = _pairs(left, right)
    if not pairs:
        return kind(this=left.copy(), expression=right.copy())
    if kind in (exp.EQ, exp.NEQ):
        parts = [_compared(kind, a, b) for a, b in pairs]
        return exp.and_(*parts, copy=False) if kind is exp.EQ else exp.or_(*parts, copy=False)
    return _ordered(kind, pairs)


def _ordered(kind: type[exp.Binary], pairs: Sequence[tuple[exp.Expr, exp.Expr]]) -> exp.Expr:
    (a, b), *others = pairs
    if not others:
        return _compared(kind, a, b)
    before, alike = _compared(_STRICT[kind], a, b), _compared(exp.EQ, a, b)
    return exp.or_(before, exp.and_(alike, _ordered(kind, others), copy=False), copy=False)
