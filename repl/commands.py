"""The backslash commands: a registry of functions; each gets the shell and the rest of its line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from repl.output import Format, write_result
from repl.settings import on_off
from repl.shell import CommandError, Leave, Shell
from sabot.schema import literal

if TYPE_CHECKING:
    import pyarrow as pa

Run = Callable[[Shell, str], None]


@dataclass(frozen=True)
class Entry:
    """A command: how it is written, what it does, and what does it. `completes` names what its argument is."""

    name: str
    argument: str
    help: str
    run: Run
    completes: str = ""


COMMANDS: dict[str, Entry] = {}


def command(name: str, argument: str = "", *, help: str, completes: str = "") -> Callable[[Run], Run]:
    r"""Register the function below it as ``\\name``."""

    def register(run: Run) -> Run:
        COMMANDS[name] = Entry(name, argument, help, run, completes)
        return run

    return register


def dispatch(shell: Shell, text: str) -> None:
    """Run a command line without its backslash.

    Raises
    ------
    CommandError
        If there is no such command or its argument does not fit.
    SabotError
        What the daemon said.
    """
    name, _, argument = text.partition(" ")
    name, argument = name.rstrip(";"), argument.strip().rstrip(";").rstrip()
    entry = COMMANDS.get(name)
    if entry is None:
        import difflib

        close = difflib.get_close_matches(name, COMMANDS, n=1)
        msg = f"unknown command '\\{name}'; " + (f"did you mean '\\{close[0]}'?" if close else "try '\\?'")
        raise CommandError(msg)
    if argument and not entry.argument:
        msg = f"'\\{name}' takes no argument, not {argument!r}"
        raise CommandError(msg)
    entry.run(shell, argument)


# ------------------------------------------------------------------------------------------------------ objects


@command("d", "[NAME]", help="list all objects, or the columns of one and how it was made", completes="relation")
def _describe(shell: Shell, argument: str) -> None:
    if not argument:
        _show(shell, "SELECT name, kind FROM sabot_catalog.relations ORDER BY name")
        return
    _show(shell, f"DESCRIBE {argument}")
    if shell.settings.format is Format.TABLE:
        from repl.text import visible_text

        name = argument[1:-1].replace('""', '"') if argument.startswith('"') else argument.lower()
        made = f"SELECT definition FROM sabot_catalog.relations WHERE name = {literal(name)}"
        for definition in shell.fetch(made).column(0).to_pylist():
            shell.out.write(f"{visible_text(definition.strip())}\n")
        shell.out.flush()


def _list(shell: Shell, *kinds: str) -> None:
    wanted = ", ".join(literal(kind) for kind in kinds)
    _show(shell, f"SELECT name, kind, columns FROM sabot_catalog.relations WHERE kind IN ({wanted}) ORDER BY name")


@command("dt", help="list tables")
def _tables(shell: Shell, argument: str) -> None:
    _list(shell, "table")


@command("dv", help="list views and materialized views")
def _views(shell: Shell, argument: str) -> None:
    _list(shell, "view", "materialized view")


@command("ds", help="list sources and sinks")
def _sources(shell: Shell, argument: str) -> None:
    _list(shell, "source", "sink")


@command("jobs", help="list jobs: state, progress, why one failed")
def _jobs(shell: Shell, argument: str) -> None:
    _show(shell, "SELECT * FROM sabot_catalog.jobs ORDER BY job")


def _show(shell: Shell, sql: str) -> None:
    _write(shell, shell.fetch(sql))


def _write(shell: Shell, table: pa.Table) -> None:
    settings = shell.settings
    write_result(
        shell.out,
        table.schema,
        table.to_batches(),
        format=settings.format,
        expanded=settings.expanded,
        null=settings.null,
    )
    shell.out.flush()


# ------------------------------------------------------------------------------------------------------- output


@command("x", "[on|off]", help="one line a column")
def _expanded(shell: Shell, argument: str) -> None:
    shell.settings.expanded = _switch(argument, now=shell.settings.expanded)
    shell.say(f"expanded display is {'on' if shell.settings.expanded else 'off'}")


@command("timing", "[on|off]", help="tell how long statements take")
def _timing(shell: Shell, argument: str) -> None:
    shell.settings.timing = _switch(argument, now=shell.settings.timing)
    shell.say(f"timing is {'on' if shell.settings.timing else 'off'}")


@command("pset", "[null TEXT | format FORMAT | pager on|off]", help="show or change how results look")
def _pset(shell: Shell, argument: str) -> None:
    settings = shell.settings
    name, _, value = argument.partition(" ")
    value = value.strip()
    match name:
        case "":
            pass
        case "null":
            settings.null = value.strip("'") if value.startswith("'") else value
        case "format":
            formats = [f.value for f in Format if f is not Format.ARROW]
            if value not in formats:
                msg = f"{value!r} is no format; there are {', '.join(formats)}"
                raise CommandError(msg)
            settings.format = Format(value)
        case "pager":
            settings.pager = _switch(value, now=settings.pager)
        case _:
            msg = f"unknown setting {name!r}; there are null, format, pager"
            raise CommandError(msg)
    pager = "on" if settings.pager else "off"
    shell.say(f"null {settings.null!r}, format {settings.format.value}, pager {pager}")


def _switch(argument: str, *, now: bool) -> bool:
    try:
        return on_off(argument, now=now)
    except ValueError as error:
        raise CommandError(str(error)) from error


@command("o", "[FILE]", help="write results to a file; back to the screen without one", completes="file")
def _out(shell: Shell, argument: str) -> None:
    shell.redirect(str(Path(argument).expanduser()) if argument else "")


# -------------------------------------------------------------------------------------------------------- running


@command("i", "FILE", help="run a script", completes="file")
def _include(shell: Shell, argument: str) -> None:
    if not argument:
        msg = "'\\i' needs a file"
        raise CommandError(msg)
    with Path(argument).expanduser().open(encoding="utf-8") as lines:
        if not shell.run_script(lines):
            msg = f"{argument!r} stopped at its first error"
            raise CommandError(msg)


@command("watch", "[SECONDS]", help="run the last query again and again, by default every 2 s; Ctrl-C ends")
def _watch(shell: Shell, argument: str) -> None:
    try:
        every_s = float(argument or 2)
    except ValueError:
        every_s = -1.0
    if not 0 < every_s < 1e6:
        msg = f"{argument!r} is no number of seconds"
        raise CommandError(msg)
    if shell.last_statement is None:
        msg = "there is no query to watch; run one first"
        raise CommandError(msg)
    from repl.watch import watch

    watch(shell, shell.last_statement, every_s)


@command("q", help="leave (Ctrl-D too)")
def _quit(shell: Shell, argument: str) -> None:
    raise Leave


# ---------------------------------------------------------------------------------------------------------- help


@command("conninfo", help="tell where this prompt is connected")
def _conninfo(shell: Shell, argument: str) -> None:
    connection = shell.connection
    shell.out.write(f"{connection.url} ({connection.server_name} {connection.server_version})\n")
    shell.out.flush()


@command("?", help="list these commands")
def _help(shell: Shell, argument: str) -> None:
    written = {entry.name: f"\\{entry.name} {entry.argument}".rstrip() for entry in COMMANDS.values()}
    size = min(max(map(len, written.values())), 24)
    for entry in COMMANDS.values():
        head = written[entry.name]
        gap = "\n  " + " " * size if len(head) > size else " " * (size - len(head))
        shell.out.write(f"  {head}{gap}  {entry.help}\n")
    shell.out.flush()


@command("h", "[STATEMENT]", help="how statements are written", completes="statement")
def _syntax(shell: Shell, argument: str) -> None:
    from repl.syntax import find

    found = find(argument)
    if not found:
        msg = f"no help on {argument!r}; '\\h' lists all statements"
        raise CommandError(msg)
    shell.out.write(found)
    shell.out.flush()
