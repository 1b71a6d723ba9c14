"""Finds where a plan leaves late rows out, so that they can be told of."""

from __future__ import annotations

from sqlglot import exp

from planner.expressions import conjunction, conjuncts, fields_read, renamed_field
from planner.logical import Filter, LogicalNode, NamedExpr, Project, Unnest, Window, schema_of
from planner.sql import select_sql
from planner.stream_node import column_specs
from planner.task_spec import LateOp
from sabot.ids import ROW_WATERMARK


def late_ops(top: LogicalNode, boundary: LogicalNode) -> list[LateOp]:
    """Return what tells of the rows that the stateless chain from `boundary` up to `top` leaves out as late."""
    found = []
    node = top
    while node != boundary:
        if isinstance(node, Filter) and any(_judges(p) for p in conjuncts(node.predicate)):
            found.append(_late_op(node, boundary))
        assert isinstance(node, Project | Filter | Window | Unnest)
        node = node.input
    return found


def _judges(predicate: exp.Expression) -> bool:
    return ROW_WATERMARK in fields_read(predicate)


def _late_op(node: Filter, boundary: LogicalNode) -> LateOp:
    parts = conjuncts(node.predicate)
    judged = [p for p in parts if _judges(p)]
    late = exp.Not(this=exp.Paren(this=conjunction(judged)))
    left_out = Filter(node.input, conjunction([*(p for p in parts if not _judges(p)), late]))
    fields = tuple(f for f in schema_of(node) if f.name != ROW_WATERMARK)
    marked = tuple(f for f in schema_of(node) if f.name == ROW_WATERMARK)
    rows = Project(left_out, tuple(NamedExpr(f.name, exp.column(f.name, quoted=True), f.type) for f in fields + marked))
    sql = select_sql(rows, lambda n: n == boundary, weighted=False)
    read = {f for p in judged for f in fields_read(p)} - {ROW_WATERMARK}
    time = _time(node.input, next(iter(read)), boundary) if len(read) == 1 else None
    return LateOp(sql, column_specs(fields), time)


def _time(node: LogicalNode, name: str, boundary: LogicalNode) -> str | None:
    """Follow a time, or the end of a window of it, down to the column of `boundary` that it comes from."""
    while node != boundary:
        match node:
            case Project(exprs=exprs):
                source = next((renamed_field(e.expr) for e in exprs if e.name == name), None)
                if source is None:
                    return None
                name = source
            case Window() if name in (node.start_name, node.end_name):
                name = node.time_column
        assert isinstance(node, Project | Filter | Window | Unnest)
        node = node.input
    return name if any(f.name == name for f in schema_of(boundary)) else None
