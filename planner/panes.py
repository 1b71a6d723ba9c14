"""The statement of a partial aggregate; over HOP windows it aggregates by pane first.

A row of HOP falls into size / slide windows. Grouped by pane (the slide it lies in) it is touched once, and only the
few partials of a pane are multiplied.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sqlglot import exp

from planner.aggregates import TwoPhase
from planner.emit_on_close import late_predicate
from planner.expressions import column, fields_read, substitute
from planner.logical import Aggregate, Filter, LogicalNode, Project, Window, WindowKind, schema_of
from planner.render import as_declared, render, render_as
from planner.sql import aligned_sql, bucket_sql, interval_sql, named, source_sql, steps_back_sql
from sabot.ids import ROW_WATERMARK, WEIGHT
from sabot.schema import quote

PANE, LATE, START, END = '"__pane"', '"__late"', '"__start"', '"__end"'


def partial_sql(node: Aggregate, phases: TwoPhase, is_input: Callable[[LogicalNode], bool], *, weighted: bool) -> str:
    """Return the statement that turns a batch into the keys and partials of `node`."""
    panes = _paned(node, is_input)
    if panes is not None:
        return _by_pane(node, phases, panes, is_input, weighted)
    source, where = source_sql(node.input, is_input, weighted=weighted)
    keys = [quote(k) for k in node.keys]
    sql = f"SELECT {', '.join([*keys, *phases.items])} FROM {source}"
    sql += f" WHERE {where}" if where else ""
    return sql + (f" GROUP BY {', '.join(keys)}" if keys else "")


@dataclass
class _Panes:
    """What lies between an aggregate and the HOP below it, in terms of the window's own columns."""

    window: Window
    columns: dict[str, exp.Expression]
    filters: list[exp.Expression] = field(default_factory=list)
    late: bool = False

    def of_window(self, name: str) -> bool:
        """Whether a column depends on the window's start and end, and on nothing else."""
        read = fields_read(self.columns[name])
        return bool(read) and read <= {self.window.start_name, self.window.end_name}


def _paned(node: Aggregate, is_input: Callable[[LogicalNode], bool]) -> _Panes | None:
    """Return how to aggregate by pane, or None where something but the keys depends on the window."""
    chain: list[Project | Filter] = []
    at = node.input
    while isinstance(at, Project | Filter) and not is_input(at):
        chain.append(at)
        at = at.input
    if not isinstance(at, Window) or is_input(at) or at.kind is not WindowKind.HOP or at.size_us % at.slide_us:
        return None
    panes = _Panes(at, {f.name: column(f.name) for f in schema_of(at)})
    bounds = {at.start_name, at.end_name}
    for step in reversed(chain):
        if isinstance(step, Project):
            panes.columns = {e.name: substitute(e.expr, panes.columns) for e in step.exprs}
            continue
        predicate = substitute(step.predicate, panes.columns)
        if predicate == late_predicate(at, at.end_name):
            panes.late = True
        elif fields_read(predicate) & bounds:
            return None
        else:
            panes.filters.append(predicate)
    read = [n for c in node.calls for n in (c.argument, c.filter) if n is not None]
    plain = [k for k in node.keys if not panes.of_window(k)]
    if len(plain) == len(node.keys) or any(fields_read(panes.columns[n]) & bounds for n in (*plain, *read)):
        return None
    return panes


def _by_pane(
    node: Aggregate, phases: TwoPhase, panes: _Panes, is_input: Callable[[LogicalNode], bool], weighted: bool
) -> str:
    window = panes.window
    types = {f.name: f.type for f in schema_of(node.input)}
    source, where = source_sql(window.input, is_input, weighted=weighted)
    bucket, _ = bucket_sql(window)
    plain = [k for k in node.keys if not panes.of_window(k)]
    read = dict.fromkeys([*plain, *(n for c in node.calls for n in (c.argument, c.filter) if n is not None)])
    fields = schema_of(window)
    items = [named(render_as(as_declared(panes.columns[n], fields), types[n]), n) for n in read]
    items.append(f"{bucket} AS {PANE}")
    groups = [*(quote(k) for k in plain), PANE]
    if panes.late:
        # only for a row of which a window has closed already; all such windows ended by the pane of the watermark
        closed = aligned_sql(window, _watermark(window))
        first_end = f"{bucket} + {interval_sql(window.slide_us)}"
        items.append(f"CASE WHEN {first_end} <= {_watermark(window)} THEN {closed} END AS {LATE}")
        groups.append(LATE)
    if weighted:
        items.append(WEIGHT)
    conditions = [c for c in (where, *(f"({render(as_declared(p, fields))})" for p in panes.filters)) if c]
    conditions.append(f"{quote(window.time_column)} IS NOT NULL")
    rows = f"SELECT {', '.join(items)} FROM {source} WHERE {' AND '.join(conditions)}"
    by_pane = f"SELECT {', '.join([*groups, *phases.items])} FROM ({rows}) GROUP BY {', '.join(groups)}"
    start, end = f'{PANE} - "__back"', f'{PANE} - "__back" + {interval_sql(window.size_us)}'
    windows = f"SELECT *, {start} AS {START}, {end} AS {END} FROM ({by_pane}) CROSS JOIN {steps_back_sql(window)}"
    at = {window.start_name: column(START.strip('"')), window.end_name: column(END.strip('"'))}
    keys = [
        named(render_as(substitute(panes.columns[k], at), types[k]) if panes.of_window(k) else quote(k), k)
        for k in node.keys
    ]
    # as a condition of the join it would make DuckDB compare every pair: three times slower
    open_ = f" FILTER (WHERE {LATE} IS NULL OR {END} > {LATE})" if panes.late else ""
    merged = [f"CAST({p.merge}({quote(p.name)}){open_} AS {p.type}) AS {quote(p.name)}" for p in phases.partials]
    some = f" HAVING count(*){open_} > 0" if panes.late else ""
    places = ", ".join(str(i + 1) for i in range(len(keys)))
    return f"SELECT {', '.join([*keys, *merged])} FROM ({windows}) GROUP BY {places}{some}"


def _watermark(window: Window) -> str:
    zoned = any(f.name == window.time_column and "ZONE" in f.type for f in schema_of(window))
    # through microseconds: a plain cast would ask the session's time zone
    return f"make_timestamptz(epoch_us({quote(ROW_WATERMARK)}))" if zoned else quote(ROW_WATERMARK)
