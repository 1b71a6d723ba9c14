"""Runs statements and commands and writes what they give; the same for the prompt, scripts and pipes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from repl.output import Format, cells, write_result
from repl.query import Query, is_subscription
from repl.script import Command, Statement, read_script
from repl.settings import Settings
from sabot.errors import SabotError, SqlError

if TYPE_CHECKING:
    import pyarrow as pa

    from sabot.client import Connection, Result


class Leave(Exception):  # noqa: N818  # no error: the way out of the prompt
    r"""Raised by ``\\q``."""


class CommandError(Exception):
    """A backslash command was given something it cannot take; nothing has happened."""


class Shell:
    """One user's connection, settings and output.

    Parameters
    ----------
    connection : sabot.Connection
        Runs the statements; closed by whoever opened it.
    connect : callable
        Opens one more connection to the same daemon.
    settings : Settings
    out, err : text file
        Results, and everything else.
    """

    def __init__(
        self,
        connection: Connection,
        connect: Callable[[], Connection],
        settings: Settings,
        *,
        out: TextIO | None = None,
        err: TextIO | None = None,
    ) -> None:
        self.connection = connection
        self.connect = connect
        self.settings = settings
        self.stdout = out or sys.stdout
        self.out = self.stdout
        self.err = err or sys.stderr
        self.last_statement: Statement | None = None
        self.on_ddl: Callable[[], None] | None = None

    # ------------------------------------------------------------------------------------------------ running

    def run_script(self, lines: Iterable[str]) -> bool:
        """Run a script up to its first error, which is told on `err`.

        Returns
        -------
        bool
            Whether all went well.
        """
        try:
            for item in read_script(lines):
                if not self._run_item(item):
                    return False
        except SqlError as error:
            self.tell(error)
            return False
        return True

    def run_command(self, text: str) -> bool:
        """Run a backslash command (without its backslash); an error is told on `err`."""
        from repl.commands import dispatch

        try:
            dispatch(self, text)
        except CommandError as error:
            self.say(f"error: {error}")
            return False
        except (SabotError, OSError) as error:
            self.tell(error)
            return False
        return True

    def run_statement(self, statement: Statement) -> bool:
        """Run one statement and write what it gives; an error is told on `err`."""
        try:
            self.execute(statement)
        except SqlError as error:
            self.tell(statement.placed(error))
            return False
        except SabotError as error:
            self.tell(error)
            return False
        return True

    def _run_item(self, item: Statement | Command) -> bool:
        if isinstance(item, Command):
            return self.run_command(item.text)
        return self.run_statement(item)

    def execute(self, statement: Statement) -> None:
        """Run one statement and write what it gives.

        Raises
        ------
        SabotError
            Rows before the error have been written.
        KeyboardInterrupt
            After the statement has been cancelled and has ended.
        """
        self.last_statement = statement
        started = time.perf_counter()
        query = Query(self.connection, statement.text)
        try:
            result = self._wait(query)
            for notice in result.notices:
                self.say(f"notice: {notice}")
            if result.is_query:
                self._write(query, result)
            else:
                if self.settings.format is Format.TABLE and result.tag:
                    self.out.write(result.tag + "\n")
                if self.on_ddl:
                    self.on_ddl()
        finally:
            query.close()
            self.out.flush()
        if self.settings.timing:
            self.say(f"Time: {(time.perf_counter() - started) * 1e3:.3f} ms")

    def fetch(self, sql: str) -> pa.Table:
        """Run a query of our own and return its rows."""
        query = Query(self.connection, sql)
        try:
            import pyarrow as pa

            schema = query.result().schema
            return pa.Table.from_batches(list(query.batches()), schema)
        finally:
            query.close()

    def _wait(self, query: Query) -> Result:
        if not (self.on_terminal and self.err.isatty()):
            return query.result()
        from repl.progress import Progress

        progress = Progress(self.connect, self.err)
        query.on_wait = progress.tick
        try:
            return query.result()
        finally:
            query.on_wait = None
            progress.close()

    def _write(self, query: Query, result: Result) -> None:
        settings = self.settings
        changes = is_subscription(result.schema)
        live = changes or result.tag == "SUBSCRIBE"
        if changes and self.on_terminal and settings.format is Format.TABLE and not settings.expanded:
            from repl.live import show

            show(query, result.schema, self.out, settings.null)
            return
        if settings.pager and self.on_terminal and not live and settings.format is not Format.ARROW:
            from repl.pager import paged

            with paged(self.out) as out:
                self._write_rows(out, query, result, live=False)
            return
        self._write_rows(self.out, query, result, live=live)

    def _write_rows(self, out: TextIO, query: Query, result: Result, *, live: bool) -> None:
        if result.tag == "EXPLAIN" and self.settings.format is Format.TABLE and len(result.schema) == 1:
            for batch in query.batches():
                out.writelines(line + "\n" for line in cells(batch.column(0), ""))
            return
        write_result(
            out,
            result.schema,
            query.batches(),
            format=self.settings.format,
            expanded=self.settings.expanded,
            null=self.settings.null,
            live=live,
        )

    # ---------------------------------------------------------------------------------------------- telling

    @property
    def on_terminal(self) -> bool:
        """Whether results go to a terminal now."""
        return self.out is self.stdout and self.stdout.isatty()

    def say(self, text: str) -> None:
        """Write a line that is no result."""
        self.out.flush()
        self.err.write(text + "\n")
        self.err.flush()

    def tell(self, error: Exception) -> None:
        """Write an error: with its place in the text if it has one, and what to do."""
        self.say(error_text(error))

    def redirect(self, path: str) -> None:
        """Send results to a file from now on; to the standard output if `path` is empty.

        Raises
        ------
        OSError
            The file cannot be written; results go where they went.
        """
        out = Path(path).open("w", encoding="utf-8") if path else self.stdout  # noqa: SIM115  closed by the next one
        if self.out is not self.stdout:
            self.out.close()
        self.out = out


def error_text(error: Exception) -> str:
    """Return an error as the user reads it."""
    if isinstance(error, SabotError):
        from sql_frontend.render import render_error

        return render_error(error)
    if isinstance(error, OSError) and error.filename:
        return f"error: {str(error.strerror).lower()}: {error.filename!r}"
    return f"error: {error}"
