"""Calls of aggregates and window functions: their arguments, order and frame, resolved by whoever knows the columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import duckdb
from sqlglot import exp

from planner.keyed_sql import SESSION_FRAME
from sql_frontend.calls import (
    GROUPING,
    HOW_MANY,
    WINDOW_ONLY,
    Aggregation,
    Sort,
    taken_apart,
)
from sql_frontend.check import render
from sql_frontend.duck import constant
from sql_frontend.origin import Origin
from sql_frontend.query_tokens import GAP
from sql_frontend.scope import Scope, folded

Resolve: TypeAlias = Callable[[exp.Expr], exp.Expression]
"""Resolves an expression over the columns in scope."""
_FRAME_ENDS = ("UNBOUNDED PRECEDING", " PRECEDING", "CURRENT ROW", " FOLLOWING", "UNBOUNDED FOLLOWING")


def resolved_call(
    resolve: Resolve, node: exp.Expr, name: str, origin: Origin, more_order: Sequence[exp.Expr] = ()
) -> Aggregation:
    """Resolve a call; an argument that reads no column is a constant if none follows that does."""
    written = taken_apart(node, name, origin)
    condition = resolve(written.condition) if written.condition is not None else None
    order = tuple(sort_of(resolve, o) for o in (*written.order, *more_order))
    # (row).* as an argument is the row
    arguments = [
        a.this if isinstance(a, exp.Dot) and isinstance(a.expression, exp.Star) else a for a in written.arguments
    ]
    if name == "count" and (not arguments or isinstance(arguments[0], exp.Star)):
        if written.distinct:
            raise origin.error(f"{name} needs an argument", node, sqlstate="42883")
        return Aggregation(name, None, False, condition, node, order=order)
    if any(isinstance(a, exp.Star) for a in arguments):
        raise origin.error(f"{name} needs an argument", node, sqlstate="42883")
    distinct = written.distinct and name not in ("min", "max")
    if distinct and name == "count" and len(arguments) > 1:
        # NULL in one of several columns leaves the row out, as in PostgreSQL's count of a list
        raise origin.unsupported(
            f"{name}(DISTINCT) of several arguments", node, hint="count(DISTINCT (a, b)) counts pairs"
        )
    if name in ("count", "sum", "avg") and len(arguments) != 1:
        raise origin.error(f"{name} takes one argument", node, sqlstate="42883")
    resolved = [_pair(resolve(a)) for a in arguments]
    place = HOW_MANY.get(name, len(resolved))
    if place < len(resolved) and not _is_above_zero(resolved[place]):
        msg = f"how many values {name} gives must be a whole number above zero"
        raise origin.error(msg, arguments[place], hint="write it as it is: 3", sqlstate="22023")
    reads = [i for i, r in enumerate(resolved) if i == 0 or any(r.find_all(exp.Column))]
    last = reads[-1] if reads and (reads[-1] > 0 or any(resolved[0].find_all(exp.Column))) else -1
    if last < 0 and resolved and name not in WINDOW_ONLY:
        last = 0
    if name == GROUPING:
        last = len(resolved) - 1
    fields = resolved[: last + 1]
    constants = tuple(render(r) for r in resolved[last + 1 :])
    # min and max of distinct values are those of all
    return Aggregation(
        name,
        fields[0] if fields else None,
        distinct,
        condition,
        node,
        tuple(fields[1:]),
        constants,
        order if name not in ("count", "sum", "min", "max", "avg") or more_order else (),
    )


def sort_of(resolve: Resolve, node: exp.Expr) -> Sort:
    """Return one item of ORDER BY."""
    ordered = node if isinstance(node, exp.Ordered) else exp.Ordered(this=node, nulls_first=False)
    return Sort(resolve(ordered.this), bool(ordered.args.get("desc")), bool(ordered.args.get("nulls_first")))


def definition(node: exp.Expr, scope: Scope) -> tuple[list[exp.Expr], list[exp.Expr], exp.Expr | None]:
    """Return PARTITION BY, ORDER BY and frame, those of the named window it builds on included."""
    partition = list(node.args.get("partition_by") or [])
    order = node.args.get("order")
    sorts = list(order.expressions) if order is not None else []
    spec = node.args.get("spec")
    base = node.args.get("alias")
    if base is None:
        return partition, sorts, spec
    found = scope.windows.get(folded(base))
    if found is None:
        raise scope.origin.error(f"window {folded(base)!r} does not exist", base, sqlstate="42704")
    inner = definition(found, scope)
    return inner[0] or partition, inner[1] or sorts, spec or inner[2]


def frame_text(resolve: Resolve, spec: exp.Expr | None, node: exp.Expr, origin: Origin) -> str:
    """Return DuckDB's text of a window's frame; '' for the default."""
    if spec is None:
        return ""
    kind = str(spec.args.get("kind") or "").upper()
    if kind not in ("ROWS", "RANGE", "GROUPS"):
        raise origin.unsupported(f"a {kind} frame", node)

    def bound(which: str) -> str:
        value, side = spec.args.get(which), str(spec.args.get(f"{which}_side") or "").upper()
        if value is None:
            return ""
        if isinstance(value, str):
            return f"{value.upper()} {side}".strip()
        return f"{render(resolve(value))} {side}"

    last = spec.args.get("end")
    if isinstance(last, exp.Literal) and last.name == GAP:
        return f"{SESSION_FRAME} {_gap(resolve, spec.args['start'], origin)}"
    end = bound("end")
    _check_frame(bound("start"), end or "CURRENT ROW", node, origin)
    frame = f"{kind} BETWEEN {bound('start')} AND {end}" if end else f"{kind} {bound('start')}"
    exclude = spec.args.get("exclude")
    return frame + (f" EXCLUDE {exclude.name.upper()}" if exclude is not None else "")


def _gap(resolve: Resolve, node: exp.Expr, origin: Origin) -> int:
    """Return the gap of a session frame in microseconds."""
    text = render(resolve(node)) if not isinstance(node, exp.Literal) else f"CAST({node.sql('duckdb')} AS INTERVAL)"
    try:
        micros = constant(f"epoch_us({text})")
    except duckdb.Error as error:
        raise origin.error("the gap of a session must be an interval", node, sqlstate="22007") from error
    if not isinstance(micros, int) or micros <= 0:
        raise origin.error("the gap of a session must be above zero", node, sqlstate="22023")
    return micros


def _check_frame(start: str, end: str, node: exp.Expr, origin: Origin) -> None:
    """Refuse a frame that ends before it starts (PostgreSQL's manual, 4.2.8)."""
    first, last = (
        _FRAME_ENDS.index(bound) if bound in _FRAME_ENDS else 1 if bound.endswith(_FRAME_ENDS[1]) else 3
        for bound in (start, end)
    )
    if first > last or first == len(_FRAME_ENDS) - 1 or last == 0:
        msg = f"a frame from {start} cannot end at {end}"
        raise origin.error(msg, node, hint="write the earlier end first", sqlstate="42P20")


def _pair(argument: exp.Expression) -> exp.Expression:
    """``(a, b)`` as an argument is a row: of a type that columns can have."""
    if not isinstance(argument, exp.Tuple):
        return argument
    parts = [
        exp.PropertyEQ(this=exp.to_identifier(f"f{i + 1}"), expression=e) for i, e in enumerate(argument.expressions)
    ]
    return exp.Struct(expressions=parts)


def _is_above_zero(argument: exp.Expression) -> bool:
    number = argument.unnest()
    return isinstance(number, exp.Literal) and not number.is_string and number.name.isdigit() and int(number.name) > 0
