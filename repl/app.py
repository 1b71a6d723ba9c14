"""The program `sabot`: its arguments, where its SQL comes from, and its exit status.

0: all went well; 1: a statement failed; 2: wrong use, or no daemon; 130: stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from repl.shell import Shell
    from sabot.client import Connection

FAILED, USAGE, INTERRUPTED, BROKEN_PIPE = 1, 2, 130, 141


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"error: {message}\nhint: sabot --help\n")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the arguments; leaves with status 2 if they do not fit."""
    parser = _Parser(
        prog="sabot",
        description="Streaming SQL: a prompt, or statements from -c, -f or standard input.",
        epilog="Without --server a private sabotd starts, and ends with this program.",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--server", metavar="URL", help="a running sabotd: grpc://HOST:PORT or grpc+unix:///PATH")
    where.add_argument(
        "--data", metavar="DIR", help="where the private sabotd keeps its data (default: a temporary folder)"
    )
    parser.add_argument("-c", "--command", metavar="SQL", action="append", help="run these statements and leave")
    parser.add_argument("-f", "--file", metavar="FILE", action="append", help="run a script and leave; - is stdin")
    parser.add_argument(
        "--format",
        choices=["table", "csv", "json", "arrow"],
        default="table",
        help="how results are written: json is one object a line, arrow an IPC stream (default: table)",
    )
    parser.add_argument("-x", "--expanded", action="store_true", help="tables with one line a column")
    parser.add_argument("--null", metavar="TEXT", default="", help="what NULL looks like in tables")
    parser.add_argument("--version", action="version", version=f"sabot {_version()}")
    return parser.parse_args(arguments)


def _version() -> str:
    from sabot import __version__

    return __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status."""
    args = parse_arguments(arguments)
    try:
        return _run(args)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # the reader of our output has left; what Python would still flush goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE


def _run(args: argparse.Namespace) -> int:
    scripted = bool(args.command or args.file or not sys.stdin.isatty())
    if args.format == "arrow" and (not scripted or sys.stdout.isatty()):
        return _usage("--format arrow writes bytes: send the output to a file or a pipe")
    for path in args.file or ():
        if path != "-" and not os.access(path, os.R_OK):
            return _usage(f"cannot read {path!r}")

    from repl.output import Format
    from repl.settings import Settings
    from repl.shell import Shell, error_text
    from sabot.client import connect
    from sabot.errors import SabotError

    try:
        connection = _connect(args)
    except SabotError as error:
        sys.stderr.write(error_text(error) + "\n")
        return USAGE
    with connection:
        settings = Settings(format=Format(args.format), expanded=args.expanded, null=args.null)
        shell = Shell(connection, lambda: connect(connection.url), settings)
        if scripted:
            return 0 if _run_scripts(shell, args) else FAILED
        from repl.prompt import run_prompt

        run_prompt(shell)
    return 0


def _usage(message: str) -> int:
    sys.stderr.write(f"error: {message}\n")
    return USAGE


def _connect(args: argparse.Namespace) -> Connection:
    from sabot.client import connect

    if args.server:
        return connect(args.server)
    waiting = sys.stderr.isatty() and sys.stdin.isatty()
    if waiting:
        sys.stderr.write("starting sabotd ...")
        sys.stderr.flush()
    try:
        return connect(data=args.data)
    finally:
        if waiting:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _run_scripts(shell: Shell, args: argparse.Namespace) -> bool:
    from repl.shell import Leave

    try:
        for text in args.command or ():
            if not shell.run_script(text.splitlines(keepends=True)):
                return False
        for path in args.file or () if args.command or args.file else ("-",):
            if path == "-":
                if not shell.run_script(sys.stdin):
                    return False
                continue
            with Path(path).open(encoding="utf-8") as lines:
                if not shell.run_script(lines):
                    return False
    except Leave:
        pass
    return True


if __name__ == "__main__":
    sys.exit(main())
