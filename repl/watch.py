"""Runs a query again and again: over itself on a terminal, one after the other elsewhere."""

from __future__ import annotations

import io
import threading
import time
from typing import TYPE_CHECKING

from repl.output import Format, write_result
from repl.query import Query
from repl.script import Statement
from repl.terminal import Block, size

if TYPE_CHECKING:
    from repl.shell import Shell


def watch(shell: Shell, statement: Statement, every_s: float) -> None:
    """Run `statement` every `every_s` seconds until KeyboardInterrupt or an error.

    Raises
    ------
    SabotError
        What the daemon said.
    """
    in_place = shell.on_terminal and shell.settings.format is Format.TABLE
    block = Block(shell.out)
    pause = threading.Event()  # never set: Ctrl-C ends the wait
    try:
        while True:
            started = time.monotonic()
            if in_place:
                lines = _table(shell, statement).rstrip("\n").split("\n")
                title = f"every {every_s:g} s, {time.strftime('%H:%M:%S')}  Ctrl-C ends"
                room = max(size()[1] - 3, 1)
                if len(lines) > room:
                    lines = [*lines[: room - 1], f"... {lines[-1]}"]
                block.draw([title, *lines])
            else:
                shell.execute(statement)
            pause.wait(max(0.0, started + every_s - time.monotonic()))
    finally:
        if in_place:
            block.close()


def _table(shell: Shell, statement: Statement) -> str:
    out = io.StringIO()
    settings = shell.settings
    query = Query(shell.connection, statement.text)
    try:
        result = query.result()
        write_result(
            out,
            result.schema,
            query.batches(),
            format=Format.TABLE,
            expanded=settings.expanded,
            null=settings.null,
        )
    finally:
        query.close()
    return out.getvalue()
