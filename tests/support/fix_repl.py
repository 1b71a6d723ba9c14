"""For tests of the prompt: a server to talk to, the program run for its output, and a terminal to read."""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pyte
import pytest

from sabotd.engine import TableInfo
from sabotd.serve.flight_sql import FlightSqlServer
from tests.support.duckdb_engine import DuckdbEngine

SABOT = (sys.executable, "-m", "repl")
ROOT = Path(__file__).parents[2]
CURSOR_QUESTION = "\x1b[6n"


class CatalogEngine(DuckdbEngine):
    """Has sabot_catalog, whose tables are no one's to complete."""

    def tables(self) -> list[TableInfo]:
        con = self.con.cursor()
        names = con.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'main'").fetchall()
        return [
            TableInfo("main", name, "TABLE", con.sql(f"SELECT * FROM {name} LIMIT 0").to_arrow_table().schema)
            for (name,) in names
        ]


class SqlServer:
    """A Flight SQL server in this process over one DuckDB, and how to run `sabot` against it."""

    def __init__(self, home: Path) -> None:
        self.engine = CatalogEngine()
        self.engine.con.execute(
            "CREATE SCHEMA sabot_catalog;"
            "CREATE TABLE sabot_catalog.relations (name VARCHAR, kind VARCHAR, columns VARCHAR, definition VARCHAR);"
            "CREATE TABLE sabot_catalog.jobs (job VARCHAR, state VARCHAR, rows_in BIGINT, rows_out BIGINT,"
            " watermark VARCHAR, message VARCHAR)"
        )
        self._server = FlightSqlServer(self.engine, "grpc://127.0.0.1:0")
        self._server.start()
        self.url = self._server.location
        self.env = {**os.environ, "HOME": str(home), "XDG_STATE_HOME": str(home / "state"), "PYTHONPATH": str(ROOT)}
        self.env.pop("PAGER", None)

    def sabot(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run the program to its end; without `stdin` its input is empty."""
        return subprocess.run(
            [*SABOT, "--server", self.url, *arguments],
            input=stdin or "",
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the program with pipes."""
        return subprocess.Popen(
            [*SABOT, "--server", self.url, *arguments],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def stop(self) -> None:
        self._server.stop()
        self.engine.con.close()


class Terminal:
    """The program on a terminal of its own; the screen is read as a person sees it."""

    def __init__(self, command: list[str], env: dict[str, str], *, lines: int = 24, columns: int = 80) -> None:
        self.screen = pyte.Screen(columns, lines)
        self._stream = pyte.Stream(self.screen)
        # a collection in the child, between its fork and exec, frees what other libraries' threads held, and crashes
        gc.disable()
        try:
            self.process = pexpect.spawn(
                command[0],
                command[1:],
                env={**env, "TERM": "xterm-256color"},
                dimensions=(lines, columns),
                encoding="utf-8",
            )
        finally:
            gc.enable()

    @property
    def text(self) -> str:
        """What the screen shows now."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    def send(self, text: str) -> None:
        """Type."""
        self.process.send(text)

    def wait_for(self, pattern: str, timeout_s: float = 30.0) -> re.Match[str]:
        """Wait until the screen matches; prompt_toolkit's questions to the terminal are answered."""
        return self.wait_until(lambda text: re.search(pattern, text, re.MULTILINE), pattern, timeout_s)

    def wait_until(
        self, found: Callable[[str], re.Match[str] | None], what: str = "", timeout_s: float = 30.0
    ) -> re.Match[str]:
        while True:
            if match := found(self.text):
                return match
            try:
                part = self.process.read_nonblocking(65536, timeout=timeout_s)
            except (pexpect.TIMEOUT, pexpect.EOF) as error:
                raise AssertionError(
                    f"{what!r} did not come ({type(error).__name__}); the screen:\n{self.text}"
                ) from None
            self._feed(part)

    def _feed(self, part: str) -> None:
        *asked, rest = part.split(CURSOR_QUESTION)
        for before in asked:
            self._stream.feed(before)
            self.process.send(f"\x1b[{self.screen.cursor.y + 1};{self.screen.cursor.x + 1}R")
        self._stream.feed(rest)

    def wait_end(self) -> int:
        """Wait for the end of the program; return its exit status."""
        try:
            while True:
                self._feed(self.process.read_nonblocking(65536, timeout=30))
        except pexpect.EOF:
            pass
        self.process.close()
        assert self.process.exitstatus is not None, f"ended by signal {self.process.signalstatus}"
        return self.process.exitstatus

    def close(self) -> None:
        self.process.close(force=True)


@pytest.fixture
def sql_server(tmp_path: Path) -> Iterator[SqlServer]:
    server = SqlServer(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def terminal(sql_server: SqlServer) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def open_terminal(*arguments: str, **size: int) -> Terminal:
        opened.append(Terminal([*SABOT, "--server", sql_server.url, *arguments], sql_server.env, **size))
        return opened[-1]

    yield open_terminal
    for each in opened:
        each.close()
