"""Casts of rows: ``ROW(1, 'a')::STRUCT(n INTEGER, s VARCHAR)`` goes by place, where DuckDB's goes by name."""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from sabot.schema import struct_fields
from sql_frontend.origin import Origin
from sql_frontend.templates import filled
from sql_frontend.types import is_struct

Cast = Callable[[exp.Expression, str, str], exp.Expression]


def by_fields(from_type: str, to_type: str) -> bool:
    """Whether a cast has to go field by field: both are rows, or lists of rows, whose fields are called otherwise."""
    while from_type.endswith("[]") and to_type.endswith("[]"):
        from_type, to_type = from_type[:-2], to_type[:-2]
    if not (is_struct(from_type) and is_struct(to_type)):
        return False
    theirs, ours = struct_fields(from_type), struct_fields(to_type)
    if len(theirs) != len(ours) or _names(theirs) != _names(ours):
        return True
    types = {name.lower(): type_ for name, type_ in theirs}
    return any(by_fields(types[name.lower()], type_) for name, type_ in ours)


def _variable(name: str) -> exp.Expression:
    return exp.to_identifier(name)


def _names(fields: list[tuple[str, str]]) -> set[str]:
    return {name.lower() for name, _ in fields}


def row_cast(
    value: exp.Expression, from_type: str, to_type: str, cast: Cast, node: exp.Expr, origin: Origin, depth: int = 0
) -> exp.Expression:
    """Return `value` cast to `to_type`; the fields of a row go by place, unless they have the same names.

    Parameters
    ----------
    cast : callable
        Casts what is no row: (value, its type, the type that is asked for).

    Raises
    ------
    SqlError
        42846 at `node`: the rows have different numbers of fields.
    """
    if not by_fields(from_type, to_type):
        return value if from_type == to_type else cast(value, from_type, to_type)
    if from_type.endswith("[]"):
        bare = value.unnest()
        if isinstance(bare, exp.Array):
            parts = [row_cast(e, from_type[:-2], to_type[:-2], cast, node, origin, depth) for e in bare.expressions]
            return exp.Array(expressions=parts)
        name = f"__row{depth}"
        inner = row_cast(_variable(name), from_type[:-2], to_type[:-2], cast, node, origin, depth + 1)
        return filled(f"list_transform(p1, LAMBDA {name}: p2)", [value, inner])
    return _row(value, from_type, to_type, cast, node, origin, depth)


def _row(
    value: exp.Expression, from_type: str, to_type: str, cast: Cast, node: exp.Expr, origin: Origin, depth: int
) -> exp.Expression:
    theirs, ours = struct_fields(from_type), struct_fields(to_type)
    if len(theirs) != len(ours):
        msg = f"a row of {len(theirs)} fields is no {to_type}"
        raise origin.error(msg, node, hint="a row is cast by place, field by field", sqlstate="42846")
    bare = value.unnest()
    if isinstance(bare, exp.Struct):
        values = [p.expression for p in bare.expressions]
    elif isinstance(bare, (exp.Column, exp.Dot, exp.Identifier)):
        values = [filled("struct_extract(p1, p2)", [value, exp.Literal.string(n)]) for n, _ in theirs]
    else:
        # computed once, however many fields it has
        name = f"__row{depth}"
        inner = _row(_variable(name), from_type, to_type, cast, node, origin, depth + 1)
        return filled(f"list_extract(list_transform([p1], LAMBDA {name}: p2), 1)", [value, inner])
    by_name = {n.lower(): i for i, (n, _) in enumerate(theirs)} if _names(theirs) == _names(ours) else None
    parts = []
    for i, (name, type_) in enumerate(ours):
        at = by_name[name.lower()] if by_name is not None else i
        made = row_cast(values[at], theirs[at][1], type_, cast, node, origin, depth)
        parts.append(exp.PropertyEQ(this=exp.to_identifier(name, quoted=True), expression=made))
    made_row = exp.Struct(expressions=parts)
    if isinstance(bare, exp.Struct):
        return made_row
    there = exp.Not(this=exp.Is(this=value.copy(), expression=exp.Null()))
    return exp.Case(ifs=[exp.If(this=there, true=made_row)])
