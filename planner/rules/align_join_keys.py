"""Casts the two sides of a join key to one type, so that equal values have equal hashes."""

from __future__ import annotations

import re
from dataclasses import replace

from sqlglot import exp

from planner.expressions import column
from planner.logical import Join, JoinKind, LogicalNode, NamedExpr, Project, schema_of
from planner.tree import rebuild
from sabot.errors import SqlError
from sabot.schema import Schema

_SIGNED = {"TINYINT": 3, "SMALLINT": 5, "INTEGER": 10, "BIGINT": 19}
_UNSIGNED = {"UTINYINT": 3, "USMALLINT": 5, "UINTEGER": 10, "UBIGINT": 20}
_WHOLE = {**_SIGNED, **_UNSIGNED, "HUGEINT": 38}
_DECIMAL = re.compile(r"DECIMAL\((\d+),\s*(\d+)\)\Z")
_TIMES = ("DATE", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP", "TIMESTAMP_NS", "TIMESTAMP WITH TIME ZONE")


def align_join_keys(root: LogicalNode) -> LogicalNode:
    """Where the types of a pair of keys hash differently, join on hidden columns cast to their common type."""
    return rebuild(root, lambda node: _align(node) if isinstance(node, Join) else node)


def _align(node: Join) -> LogicalNode:
    left_types = {f.name: f.type for f in schema_of(node.left)}
    right_types = {f.name: f.type for f in schema_of(node.right)}
    taken = set(left_types) | set(right_types)
    left_casts, right_casts = [], []
    left_keys, right_keys = list(node.left_keys), list(node.right_keys)
    for i, (lk, rk) in enumerate(zip(node.left_keys, node.right_keys, strict=True)):
        lt, rt = left_types[lk], right_types[rk]
        if lt == rt or (node.kind is JoinKind.INNER and lt in _SIGNED and rt in _SIGNED):
            continue
        common = common_type(lt, rt)
        if common is None:
            msg = f"join keys {lk!r} ({lt}) and {rk!r} ({rt}) have no common type"
            raise SqlError(msg, sqlstate="42804", hint="cast one side explicitly")
        if lt != common:
            left_keys[i] = _fresh(f"__left_key{i}", taken)
            left_casts.append(NamedExpr(left_keys[i], _cast(lk, common), common))
        if rt != common:
            right_keys[i] = _fresh(f"__right_key{i}", taken)
            right_casts.append(NamedExpr(right_keys[i], _cast(rk, common), common))
    if not left_casts and not right_casts:
        return node
    joined = replace(
        node,
        left=_extended(node.left, left_casts),
        right=_extended(node.right, right_casts),
        left_keys=tuple(left_keys),
        right_keys=tuple(right_keys),
    )
    return Project(joined, _kept(schema_of(node)))


def common_type(left: str, right: str) -> str | None:
    """Return the type in which DuckDB compares `left` with `right`, or None if it refuses."""
    if left == right:
        return left
    if {left, right} <= {"FLOAT", "DOUBLE", *_WHOLE} or "DOUBLE" in (left, right) or "FLOAT" in (left, right):
        if {left, right} <= set(_WHOLE):
            return _common_whole(left, right)
        return "DOUBLE" if all(_is_number(t) for t in (left, right)) else None
    if _is_number(left) and _is_number(right):
        (left_whole, left_scale), (right_whole, right_scale) = _digits(left), _digits(right)
        scale = max(left_scale, right_scale)
        return f"DECIMAL({min(38, max(left_whole, right_whole) + scale)},{scale})"
    if left in _TIMES and right in _TIMES:
        wider = _TIMES[max(_TIMES.index(left), _TIMES.index(right))]
        return "TIMESTAMP" if wider in ("TIMESTAMP_S", "TIMESTAMP_MS") else wider
    if {left, right} <= {"VARCHAR", "JSON", "UUID"}:
        return "VARCHAR"
    return None


def _common_whole(left: str, right: str) -> str:
    if {"UBIGINT", "HUGEINT"} & {left, right}:
        return "DECIMAL(38,0)"
    return "BIGINT"


def _is_number(type_text: str) -> bool:
    return type_text in _WHOLE or type_text in ("FLOAT", "DOUBLE") or _DECIMAL.match(type_text) is not None


def _digits(type_text: str) -> tuple[int, int]:
    """Return (digits before the point, digits after it)."""
    if match := _DECIMAL.match(type_text):
        return int(match[1]) - int(match[2]), int(match[2])
    return _WHOLE[type_text], 0


def _cast(name: str, type_text: str) -> exp.Expression:
    return exp.cast(column(name), exp.DataType.build(type_text, dialect="duckdb"))


def _kept(fields: Schema) -> tuple[NamedExpr, ...]:
    return tuple(NamedExpr(f.name, column(f.name), f.type) for f in fields)


def _extended(node: LogicalNode, added: list[NamedExpr]) -> LogicalNode:
    return Project(node, (*_kept(schema_of(node)), *added)) if added else node


def _fresh(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name
