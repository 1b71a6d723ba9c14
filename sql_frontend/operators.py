"""Operators that mean one thing to PostgreSQL and another to DuckDB, by the types of their sides."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlglot import exp

from planner.numeric import is_decimal
from sql_frontend.casts import cast, shown_otherwise
from sql_frontend.origin import Origin
from sql_frontend.templates import filled
from sql_frontend.types import is_map

TypeOf = Callable[[exp.Expression], str]
_TEXT = ("VARCHAR", "STRING_LITERAL", "NULL")
_INTEGER_MAX = 2_147_483_647
# raising to a power: what is out of range is an error, not infinity
POWER = (
    "CASE WHEN p1 = 0 AND p2 < 0 THEN CAST(error('zero raised to a negative power is undefined') AS DOUBLE) "
    "WHEN p1 < 0 AND NOT isinf(CAST(p1 AS DOUBLE)) AND NOT isinf(CAST(p2 AS DOUBLE)) AND p2 <> trunc(p2) "
    "THEN CAST(error('a negative number raised to a non-integer power yields a complex result') AS DOUBLE) "
    "WHEN isinf(power(p1, p2)) AND NOT isinf(CAST(p1 AS DOUBLE)) AND NOT isinf(CAST(p2 AS DOUBLE)) "
    "THEN CAST(error('value out of range: overflow') AS DOUBLE) "
    "WHEN power(p1, p2) = 0 AND p1 <> 0 AND NOT isinf(CAST(p1 AS DOUBLE)) AND NOT isinf(CAST(p2 AS DOUBLE)) "
    "THEN CAST(error('value out of range: underflow') AS DOUBLE) ELSE power(p1, p2) END"
)
_UNDERFLOW = "CAST(error('value out of range: underflow') AS DOUBLE)"
_JSON_MERGED = (
    "CASE WHEN json_type(p1) = 'OBJECT' AND json_type(p2) = 'OBJECT' THEN json_group_merge_pair(p1, p2) ELSE "
    "CAST(to_json(list_concat("
    "CASE WHEN json_type(p1) = 'ARRAY' THEN CAST(p1 AS JSON[]) ELSE [p1] END, "
    "CASE WHEN json_type(p2) = 'ARRAY' THEN CAST(p2 AS JSON[]) ELSE [p2] END)) AS JSON) END"
).replace("json_group_merge_pair", "json_merge_patch")


def powered(sides: Sequence[exp.Expression], type_of: TypeOf) -> exp.Expression:
    """Return one side to the power of the other; of NUMERIC what is too small is 0, else an error."""
    numeric = any(is_decimal(type_of(side)) for side in sides)
    floating = any(type_of(side) in ("DOUBLE", "FLOAT") for side in sides)
    return filled(POWER.replace(_UNDERFLOW, "0") if numeric and not floating else POWER, sides)


JOINED_ARRAYS = "CASE WHEN p1 IS NOT NULL OR p2 IS NOT NULL THEN list_concat(p1, p2) END"


def concatenated(
    left: exp.Expression, right: exp.Expression, node: exp.Expr, origin: Origin, type_of: TypeOf
) -> exp.Expression:
    """Return ``left || right``: of text with anything, of arrays, elements, JSON and bytes."""
    a, b = type_of(left), type_of(right)
    if a.endswith("[]") or b.endswith("[]"):
        if a.endswith("[]") and (b.endswith("[]") or b == "NULL"):
            # an array of arrays takes one more
            if a == b + "[]":
                return filled("list_append(p1, p2)", [left, right])
            return filled(JOINED_ARRAYS, [left, right])
        if a == "NULL" or b == a + "[]":
            return filled("list_concat(p1, p2)" if a == "NULL" else "list_prepend(p1, p2)", [left, right])
        if a.endswith("[]"):
            if b == "VARCHAR" and isinstance(right, exp.Literal) and right.name.lstrip().startswith("{"):
                return filled("list_concat(p1, p2)", [left, cast(right, "VARCHAR", a)])
            return filled("list_append(p1, p2)", [left, right])
        return filled("list_prepend(p1, p2)", [left, right])
    if a == b == "BLOB":
        return exp.DPipe(this=left, expression=right)
    if "JSON" in (a, b) and (a == b or {a, b} <= {"JSON", "VARCHAR"}):
        if a == b:
            return filled(_JSON_MERGED, [left, right])
        return exp.DPipe(this=left, expression=right)
    if a not in _TEXT and b not in _TEXT:
        msg = f"operator does not exist: {a} || {b}"
        raise origin.error(msg, node, hint="cast one side to text: x::varchar", sqlstate="42883")
    sides = [
        exp.paren(cast(side, kind, "VARCHAR")) if shown_otherwise(kind) else side
        for side, kind in ((left, a), (right, b))
    ]
    return exp.DPipe(this=sides[0], expression=sides[1])


def contains(left: exp.Expression, right: exp.Expression, type_of: TypeOf) -> exp.Expression:
    """Return ``left @> right``, of JSON and of arrays."""
    if type_of(left) == "JSON" or type_of(right) == "JSON":
        return filled("json_contains(p1, p2)", [left, right])
    if isinstance(right, exp.Literal):
        right = cast(right, "VARCHAR", type_of(left))
    return filled("list_has_all(p1, p2)", [left, right])


def has_keys(left: exp.Expression, right: exp.Expression, template: str) -> exp.Expression:
    """Return ``left ? right`` and the like: `template` says which of the keys must be there."""
    keys = "CASE json_type(p1) WHEN 'ARRAY' THEN json_extract_string(p1, '$[*]') ELSE json_keys(p1) END"
    return filled(template.format(keys), [left, right])


def subscripted(
    node: exp.Bracket, value: exp.Expression, indices: list[exp.Expression], origin: Origin, type_of: TypeOf
) -> exp.Expression:
    """Return ``value[i]`` and ``value[a:b]``: of an array the first element is 1, and nothing counts from its end."""
    for index in indices:
        kind = type_of(value)
        if is_map(kind):
            value = filled("map_extract_value(p1, p2)", [value, index])
            continue
        if not kind.endswith("[]"):
            # offset: the subscript is DuckDB's already
            value = exp.Bracket(this=exp.paren(value), expressions=[index], offset=1)
            continue
        if isinstance(index, exp.Slice):
            value = _slice(index, value, node, origin)
            continue
        known = _whole(index)
        if known is not None:
            value = filled("list_extract(p1, p2)", [value, exp.Literal.number(max(known, 0))])
        else:
            value = filled("list_extract(p1, CASE WHEN p2 >= 1 THEN p2 ELSE 0 END)", [value, index])
    return value


def by_place(value: exp.Expr) -> exp.Expr:
    """Return a row ``(a, b)`` without names, which DuckDB compares with any other of as many fields."""
    bare = value.unnest()
    if isinstance(bare, exp.Array) and bare.expressions:
        return exp.Array(expressions=[by_place(e) for e in bare.expressions])
    if not isinstance(bare, exp.Struct) or [p.name for p in bare.expressions] != [
        f"f{i + 1}" for i in range(len(bare.expressions))
    ]:
        return value
    return exp.Anonymous(this="row", expressions=[by_place(p.expression) for p in bare.expressions])


def _whole(node: exp.Expr | None) -> int | None:
    inner = node.this if isinstance(node, exp.Neg) else node
    if not isinstance(inner, exp.Literal) or inner.is_string or not inner.name.isdigit():
        return None
    return -int(inner.name) if inner is not node else int(inner.name)


def _slice(index: exp.Slice, value: exp.Expression, node: exp.Expr, origin: Origin) -> exp.Expression:
    low, high = index.this, index.expression
    for bound in (low, high):
        known = _whole(bound)
        if known is not None and abs(known) > _INTEGER_MAX:
            raise origin.error(f"{known} is out of range for an integer", node, sqlstate="22003")
    args: list[exp.Expression] = [value]
    texts = []
    for bound, template, missing in (
        (low, "CASE WHEN {0} < 1 THEN 1 ELSE {0} END", "1"),
        (high, "CASE WHEN {0} < 1 THEN 0 ELSE {0} END", "len(p1)"),
    ):
        if bound is None:
            texts.append(missing)
            continue
        args.append(bound)
        texts.append(template.format(f"p{len(args)}"))
    return filled(f"list_slice(p1, {texts[0]}, {texts[1]})", args)
