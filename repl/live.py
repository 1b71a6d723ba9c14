"""A SUBSCRIBE's changes as a table that changes in place; keeps the rows that changed last, however big the view."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TextIO

import pyarrow as pa
import pyarrow.compute as pc

from repl.output import cells, header_lines, rows_text, shown_name, width
from repl.query import EPOCH, WEIGHT, Query
from repl.terminal import Block, size
from repl.text import is_numeric

KEEP_ROWS = 2000
"""Rows that are remembered; more than any terminal is high."""
FRAME_S = 0.1
"""The least time between two frames."""
AROUND_ROWS = 5
"""Lines of the screen that are not rows: two of header, two below, the cursor's."""

Row = tuple[str, ...]


class LiveTable:
    """The rows of a view that changed last.

    Parameters
    ----------
    schema : pyarrow.Schema
        Of the changelog: ``__epoch``, the columns, ``__weight``.
    null : str
        What NULL looks like.
    """

    def __init__(self, schema: pa.Schema, null: str = "") -> None:
        self._columns = [i for i, name in enumerate(schema.names) if name not in {EPOCH, WEIGHT}]
        self._epoch, self._weight = schema.get_field_index(EPOCH), schema.get_field_index(WEIGHT)
        self._names = [shown_name(schema.field(i).name) for i in self._columns]
        self._right = [is_numeric(schema.field(i).type) for i in self._columns]
        self._null = null
        self._rows: OrderedDict[Row, int] = OrderedDict()  # the latest change is last
        self._fresh: set[Row] = set()
        self._retracts = False
        self.total = 0
        self.changes = 0
        self.epoch = 0

    def apply(self, batch: pa.RecordBatch) -> None:
        """Take changes, in their order."""
        if batch.num_rows == 0:
            return
        weights = batch.column(self._weight)
        self.total += pc.sum(weights).as_py()
        self.changes += batch.num_rows
        epoch = pc.max(batch.column(self._epoch)).as_py()
        if epoch != self.epoch:
            # a retraction may come before its row, but only within one epoch
            for row in [row for row, count in self._rows.items() if count < 0]:
                del self._rows[row]
            self.epoch = epoch
        deletes = pc.less(weights, 0)
        self._retracts = self._retracts or pc.any(deletes).as_py()
        if batch.num_rows > 2 * KEEP_ROWS:
            # of a big load only what can still be seen at its end
            late = pa.array([False, True]).take(
                pc.cast(pc.greater_equal(pa.array(range(batch.num_rows)), batch.num_rows - KEEP_ROWS), pa.int8())
            )
            batch = batch.filter(pc.or_(late, deletes))
        texts = [cells(batch.column(i), self._null) for i in self._columns]
        rows = zip(*texts, strict=True) if texts else [()] * batch.num_rows
        for row, weight in zip(rows, batch.column(self._weight).to_pylist(), strict=True):
            count = self._rows.pop(row, 0) + weight
            if count:
                self._rows[row] = count
                self._fresh.add(row)
        while len(self._rows) > KEEP_ROWS:
            self._rows.popitem(last=False)

    def frame(self, lines: int) -> tuple[list[str], frozenset[int]]:
        """Return the table in at most `lines` lines, and which of them are news since the last frame."""
        room = max(lines - AROUND_ROWS, 1)
        rows: list[Row] = []
        for row in reversed(self._rows):
            rows += [row] * self._rows[row]
            if len(rows) >= room:
                break
        rows = rows[:room]
        rows.reverse()
        if self._retracts:
            # rows that are updated stay where they are
            rows.sort(key=self._order)
        columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in self._names]
        flat = [[cell.replace("\n", "\\n") for cell in column] for column in columns]
        widths = [max([width(name), *map(width, column)]) for name, column in zip(self._names, flat, strict=True)]
        text = header_lines(self._names, widths) + (rows_text(flat, widths, self._right) if rows else "")
        shown = "" if len(rows) == self.total else f"{len(rows)} of "
        status = f"({shown}{self.total:,} rows, {self.changes:,} changes, epoch {self.epoch})  Ctrl-C ends"
        bold = frozenset(i + 2 for i, row in enumerate(rows) if row in self._fresh)
        self._fresh.clear()
        return [*text.splitlines(), status], bold

    def _order(self, row: Row) -> list[tuple[bool, float, str]]:
        return [
            (cell == self._null, _number(cell) if right else 0.0, cell)
            for cell, right in zip(row, self._right, strict=True)
        ]


def _number(cell: str) -> float:
    return float(cell) if cell.strip("-").replace(".", "", 1).isdecimal() else 0.0


def show(query: Query, schema: pa.Schema, out: TextIO, null: str = "") -> LiveTable:
    """Draw a subscription on the terminal until it ends or KeyboardInterrupt; the last frame stays.

    Returns
    -------
    LiveTable
        As it was at the end.
    """
    table = LiveTable(schema, null)
    block = Block(out)
    drawn_at = 0.0
    drawn: tuple[int, tuple[int, int]] = (-1, (0, 0))

    def draw() -> None:
        nonlocal drawn, drawn_at
        now = (table.changes, size())
        if now != drawn and time.monotonic() - drawn_at >= FRAME_S:
            block.draw(*table.frame(now[1][1]))
            drawn, drawn_at = now, time.monotonic()

    query.on_wait = draw
    try:
        draw()
        for batch in query.batches():
            table.apply(batch)
            draw()
    finally:
        drawn_at = 0.0
        block.draw(*table.frame(size()[1]))
        block.close()
    return table
