"""One SELECT for a chain of stateless nodes (project, filter, window) over the table ``input``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from planner.logical import Filter, LogicalNode, Project, Unnest, Window, WindowKind, schema_of
from planner.render import as_declared, motion_type, render, render_as
from sabot.errors import PlanError
from sabot.ids import WEIGHT
from sabot.schema import quote

INPUT = "input"
_EXACT = ("TIMESTAMP", "TIMESTAMP WITH TIME ZONE")


@dataclass(frozen=True)
class _Select:
    """``SELECT items FROM source WHERE where``; `items` None passes every column on."""

    source: str
    where: tuple[str, ...] = ()
    items: tuple[str, ...] | None = None

    def text(self) -> str:
        where = f" WHERE {' AND '.join(self.where)}" if self.where else ""
        return f"SELECT {', '.join(self.items or ('*',))} FROM {self.source}{where}"

    def as_source(self) -> str:
        return self.source if self.items is None and not self.where else f"({self.text()})"


def select_sql(node: LogicalNode, is_input: Callable[[LogicalNode], bool], *, weighted: bool) -> str:
    """Return the SELECT of the chain from `node` down to the node for which `is_input` holds.

    Its columns are those of `node` in order and in their types, and ``__weight`` at the end where `weighted`.
    """
    select = _chain(node, is_input, weighted)
    if select.items is None:
        names = [quote(f.name) for f in schema_of(node)] + ([WEIGHT] if weighted else [])
        select = _Select(select.source, select.where, tuple(names))
    return select.text()


def named(sql: str, name: str) -> str:
    """Return the SELECT item that gives `sql` as column `name`."""
    return sql if sql == quote(name) else f"{sql} AS {quote(name)}"


def source_sql(node: LogicalNode, is_input: Callable[[LogicalNode], bool], *, weighted: bool) -> tuple[str, str]:
    """Return what stands after FROM, and the condition after WHERE ('' if none), for a SELECT over the chain."""
    select = _chain(node, is_input, weighted)
    if select.items is None:
        return select.source, " AND ".join(select.where)
    return select.as_source(), ""


def _chain(node: LogicalNode, is_input: Callable[[LogicalNode], bool], weighted: bool) -> _Select:
    if is_input(node):
        return _Select(INPUT)
    match node:
        case Project(input=child):
            below = _flat(_chain(child, is_input, weighted))
            fields = schema_of(child)
            items = [named(render_as(as_declared(e.expr, fields), e.type), e.name) for e in node.exprs]
            return _Select(below.source, below.where, (*items, *([WEIGHT] if weighted else [])))
        case Filter(input=child, predicate=predicate):
            below = _flat(_chain(child, is_input, weighted))
            return _Select(below.source, (*below.where, f"({render(as_declared(predicate, schema_of(child)))})"))
        case Window(input=child):
            below = _flat(_chain(child, is_input, weighted))
            return _Select(f"({window_sql(node, below.source, below.where)})")
        case Unnest(input=child):
            below = _flat(_chain(child, is_input, weighted))
            return _Select(f"({unnest_sql(node, below.source, below.where)})")
        case _:
            msg = f"{type(node).__name__!r} is not stateless"
            raise PlanError(msg)


def unnest_sql(node: Unnest, source: str, where: tuple[str, ...]) -> str:
    """Return a SELECT of every column of `source` and the elements of its lists, the weight repeated beside each."""
    lists = [quote(field) for field, _, _ in node.lists]
    conditions = f" WHERE {' AND '.join(where)}" if where else ""
    longest = f"greatest({', '.join(f'coalesce(len({x}), 0)' for x in lists)})"
    count = f"greatest({longest}, 1)" if node.outer else longest
    rows = f'SELECT *, unnest(range(1, {count} + 1)) AS "__at" FROM {source}{conditions}'
    items = [
        f'CAST({quote(field)}["__at"] AS {motion_type(type_)}) AS {quote(name)}' for field, name, type_ in node.lists
    ]
    if node.ordinality:
        seen = f'CASE WHEN "__at" <= {longest} THEN "__at" END' if node.outer else '"__at"'
        items.append(f"CAST({seen} AS BIGINT) AS {quote(node.ordinality)}")
    return f'SELECT * EXCLUDE ("__at"), {", ".join(items)} FROM ({rows})'


def rows_below(node: LogicalNode, is_input: Callable[[LogicalNode], bool], *, weighted: bool) -> tuple[str, list[str]]:
    """Return what the expressions right above `node` read: what stands after FROM, and conditions after WHERE."""
    below = _flat(_chain(node, is_input, weighted))
    return below.source, list(below.where)


def _flat(select: _Select) -> _Select:
    """Return a SELECT whose columns can be read under their own names by the next clause."""
    return select if select.items is None else _Select(select.as_source())


def window_sql(node: Window, source: str, where: tuple[str, ...]) -> str:
    """Return a SELECT of every column of `source` and the window's start and end.

    ``time_bucket`` with the epoch as origin floors, so it is right before 1970 too.
    """
    bucket, time = bucket_sql(node)
    conditions = " AND ".join((*where, f"{quote(node.time_column)} IS NOT NULL"))
    start_name, end_name = quote(node.start_name), quote(node.end_name)
    type_text = _time_type(node)

    def typed(sql: str) -> str:
        return sql if type_text in _EXACT else f"CAST({sql} AS {motion_type(type_text)})"

    if node.kind is WindowKind.TUMBLE:
        end = typed(f"{bucket} + {interval_sql(node.size_us)}")
        return f"SELECT *, {typed(bucket)} AS {start_name}, {end} AS {end_name} FROM {source} WHERE {conditions}"
    if node.kind is WindowKind.CUMULATE:
        return _cumulate_sql(node, bucket, time, f"{source} WHERE {conditions}", typed)
    start, end = '"__pane" - "__back"', f'"__pane" - "__back" + {interval_sql(node.size_us)}'
    panes = f'SELECT *, {bucket} AS "__pane" FROM {source} WHERE {conditions}'
    windows = (
        f'SELECT * EXCLUDE ("__pane", "__back"), {typed(start)} AS {start_name}, {typed(end)} AS {end_name} '
        f"FROM ({panes}) CROSS JOIN {steps_back_sql(node)}"
    )
    # a size that is no multiple of the slide: the oldest of the windows may have ended before the row
    return windows if node.size_us % node.slide_us == 0 else f"{windows} WHERE {end} > {time}"


def _cumulate_sql(node: Window, bucket: str, time: str, source: str, typed: Callable[[str], str]) -> str:
    """Return the rows in each window that begins where the latest does and ends after the row."""
    ends = ", ".join(f"({interval_sql((i + 1) * node.slide_us)})" for i in range(node.size_us // node.slide_us))
    start, end = typed('"__pane"'), '"__pane" + "__step"'
    return (
        f'SELECT * EXCLUDE ("__pane", "__step"), {start} AS {quote(node.start_name)}, {typed(end)} AS '
        f'{quote(node.end_name)} FROM (SELECT *, {bucket} AS "__pane" FROM {source}) '
        f'CROSS JOIN (VALUES {ends}) AS "__ends"("__step") WHERE {end} > {time}'
    )


def bucket_sql(node: Window) -> tuple[str, str]:
    """Return the start of the latest window that a row is in, and its time, as TIMESTAMP or TIMESTAMPTZ."""
    time = quote(node.time_column)
    if _time_type(node) not in _EXACT:
        time = f"CAST({time} AS TIMESTAMP)"
    return aligned_sql(node, time), time


def aligned_sql(node: Window, time: str) -> str:
    """Return `time` rounded down to where windows start."""
    zoned = _time_type(node) == _EXACT[1]
    origin = f"{'TIMESTAMPTZ' if zoned else 'TIMESTAMP'} '1970-01-01 00:00:00{'+00' if zoned else ''}'"
    if node.offset_us:
        origin = f"({origin} + {interval_sql(node.offset_us)})"
    every = node.size_us if node.kind is WindowKind.CUMULATE else node.slide_us
    return f"time_bucket({interval_sql(every)}, {time}, {origin})"


def steps_back_sql(node: Window) -> str:
    """Return the table ``__windows(__back)`` of how far before the latest the row's windows start."""
    steps = -(-node.size_us // node.slide_us)
    values = ", ".join(f"({interval_sql(i * node.slide_us)})" for i in range(steps))
    return f'(VALUES {values}) AS "__windows"("__back")'


def _time_type(node: Window) -> str:
    return next(f.type for f in schema_of(node) if f.name == node.time_column)


def interval_sql(microseconds: int) -> str:
    """Return an INTERVAL literal."""
    if microseconds % 1_000_000 == 0:
        return f"INTERVAL '{microseconds // 1_000_000} seconds'"
    return f"INTERVAL '{microseconds} microseconds'"
