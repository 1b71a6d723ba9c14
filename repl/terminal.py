"""The terminal below live output: its size, and a block of lines that is drawn over itself."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import TextIO

from repl.output import width

HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
BOLD, DIM, RESET = "\x1b[1m", "\x1b[2m", "\x1b[0m"


def size() -> tuple[int, int]:
    """Return columns and lines of the terminal."""
    found = shutil.get_terminal_size()
    return found.columns, found.lines


def clip(text: str, columns: int) -> str:
    """Return as much of `text` as fits into `columns` cells."""
    if width(text) <= columns:
        return text
    if text.isascii():
        return text[:columns]
    while text and width(text) > columns:
        text = text[: max(columns, 0)] if len(text) > columns else text[:-1]
    return text


class Block:
    """Lines at the end of the screen that the next :meth:`draw` replaces. They never scroll.

    Parameters
    ----------
    out : text file
        A terminal.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._drawn = 0
        self._hidden = False

    def draw(self, lines: Sequence[str], bold: frozenset[int] = frozenset()) -> None:
        """Show `lines`, cut to the terminal's width; those whose index is in `bold` stand out."""
        columns, _ = size()
        parts = [self._home()]
        if not self._hidden:
            parts.append(HIDE_CURSOR)
            self._hidden = True
        for i, line in enumerate(lines):
            text = clip(line, columns - 1)
            parts.append(f"{BOLD}{text}{RESET}\n" if i in bold else text + "\n")
        self._out.write("".join(parts))
        self._out.flush()
        self._drawn = len(lines)

    def clear(self) -> None:
        """Take the lines away."""
        self._out.write(self._home())
        self._drawn = 0
        self.close()

    def close(self) -> None:
        """Leave the lines where they are and give the cursor back."""
        if self._hidden:
            self._out.write(SHOW_CURSOR)
            self._hidden = False
        self._out.flush()
        self._drawn = 0

    def _home(self) -> str:
        return f"\x1b[{self._drawn}A\r\x1b[J" if self._drawn else "\r\x1b[J"
