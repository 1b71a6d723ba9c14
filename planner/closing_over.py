"""OVER whose rows are told in the order of the watermark's column: when a row's answer stands, and what it needs."""

from __future__ import annotations

import re
from dataclasses import dataclass

from planner.keyed_sql import over_items, session_column, session_gap, ties, with_sessions
from planner.logical import Over, OverCall, schema_of
from planner.render import as_declared, render
from sabot.schema import quote

ID, TOLD, MARK, READY, SHOWN = '"#id"', '"#told"', '"#mark"', '"#ready"', '"#shown"'
_FRAME = re.compile(r"(ROWS|RANGE|GROUPS) (?:BETWEEN (.+?) AND )?(.+?)(?: EXCLUDE .+)?\Z", re.IGNORECASE | re.DOTALL)
_OF_THE_WHOLE = ("percent_rank", "cume_dist", "ntile")
_COUNTED = ("row_number", "rank", "dense_rank")


@dataclass(frozen=True)
class _Need:
    """`ready`: SQL that holds once a row's answer stands. `history`: rows before it that are read; None for all."""

    ready: str
    history: int | None


def closing_time(node: Over, times: set[str]) -> str | None:
    """Return the one of `times` by which every call is sorted first, oldest row first; None if there is none."""
    first = {c.call.order[0].field if c.call.order and not c.call.order[0].descending else "" for c in node.calls}
    return next(iter(first)) if len(first) == 1 and first <= times else None


def problem(node: Over) -> str | None:
    """Return why the answer of a row may never stand before the input ends, or None if it will."""
    for over in node.calls:
        need = _need(node, over)
        if isinstance(need, str):
            return need
    return None


def closing_over_sql(node: Over) -> tuple[str, int | None]:
    """Return the statement over ``input``, rows of whole partitions, and how many told rows the next ones read.

    The input has `ID` (unique), `TOLD` and `MARK` (the watermark in microseconds, NULL at the end) beside the rows; all
    are older than the watermark. The statement gives the rows whose answer stands and that were not told yet, with
    `ID` and `SHOWN`.
    """
    names = [quote(f.name) for f in schema_of(node)]
    needs = [n for over in node.calls if not isinstance(n := _need(node, over), str)]
    ready = " AND ".join([f"({n.ready})" for n in needs if n.ready] or ["true"])
    histories = [n.history for n in needs]
    history = None if None in histories else max((h for h in histories if h is not None), default=0)
    if len({session_gap(over) for over in node.calls}) > 1 and any(map(session_gap, node.calls)):
        # the rows of a session are told one by one where another call waits for more
        history = None
    shown = "true"
    if node.condition is not None:
        shown = f"coalesce({render(as_declared(node.condition, schema_of(node)))}, false)"
    items = ", ".join(["*", *over_items(node, (ID,)), f"{ready} AS {READY}"])
    rows = f"SELECT {items} FROM {with_sessions(node, 'input')}"
    stands = f"NOT {TOLD} AND (coalesce({READY}, false) OR {MARK} IS NULL)"
    return f"SELECT {', '.join([*names, ID])}, {shown} AS {SHOWN} FROM ({rows}) WHERE {stands}", history


def _need(node: Over, over: OverCall) -> _Need | str:
    call, name = over.call, over.call.function
    by = f"PARTITION BY {', '.join(map(quote, node.partition))} " if node.partition else ""
    if name in _OF_THE_WHOLE:
        return f"{name} needs all rows of its partition"
    if name in ("lag", "lead"):
        steps = call.constants[0] if call.constants else "1"
        if call.more or not steps.isdigit() or over.ignore_nulls:
            return f"{name} by anything but a constant number of rows"
        if name == "lag":
            return _Need("", int(steps))
        return _Need(_later(node, over, by, int(steps)), 0)
    if name in _COUNTED:
        return _Need("", None)
    if session_gap(over) is not None:
        mine = session_column(node.calls.index(over))
        return _Need(f"{mine} < max({mine}) OVER ({by.strip()})", 0)
    if not over.frame:
        return _Need("", None)
    parts = _FRAME.match(over.frame)
    if parts is None:
        return f"the frame {over.frame}"
    unit, start, end = parts[1].upper(), parts[2], parts[3]
    if start is None:
        start, end = end, "CURRENT ROW"
    return _framed(node, over, by, (unit, start.upper(), end))


def _framed(node: Over, over: OverCall, by: str, frame: tuple[str, str, str]) -> _Need | str:
    unit, start, end = frame
    rows = re.match(r"(\d+) PRECEDING\Z", start)
    history = int(rows[1]) if rows and unit == "ROWS" else 0 if start == "CURRENT ROW" and unit == "ROWS" else None
    upper = end.upper()
    if upper == "CURRENT ROW" or upper.endswith(" PRECEDING"):
        return _Need("", history)
    if upper == "UNBOUNDED FOLLOWING":
        return "a frame without an end"
    steps = end[: -len(" FOLLOWING")]
    if unit == "ROWS" and steps.isdigit():
        return _Need(_later(node, over, by, int(steps)) if int(steps) else "", history)
    if unit == "RANGE" and len(over.call.order) == 1:
        time = quote(over.call.order[0].field)
        return _Need(f"epoch_us({time} + {steps}) < {MARK}", history)
    return f"the frame {over.frame}"


def _later(node: Over, over: OverCall, by: str, rows: int) -> str:
    """Return the condition that so many rows that come after a row are there."""
    return f"lead(true, {rows}) OVER ({by}ORDER BY {ties(node, over, (ID,))}) IS NOT NULL"
