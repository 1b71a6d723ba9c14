"""An error as people read it: message, line and column, the line itself with carets under the place, the hint."""

from __future__ import annotations

import unicodedata

from sabot.errors import SabotError, Span, SqlError

_WIDTH = 100
_TAB = 4


def render_error(error: SabotError) -> str:
    """Return an error as lines of text, without a newline at the end.

    Of a :class:`~sabot.errors.SqlError` with a span, the first line of the place is shown: tabs as blanks, wide
    characters as two columns, and of a long line the part around the place.
    """
    lines = [f"error: {error.message}"]
    if isinstance(error, SqlError) and error.span is not None and error.text is not None:
        lines += _place(error.text, error.span)
    if error.hint:
        lines.append(f"hint: {error.hint}")
    return "\n".join(lines)


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """Return line and column, from 1, of a character offset; columns count characters."""
    before = text[: max(0, offset)]
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def _place(text: str, span: Span) -> list[str]:
    start = max(0, min(span.start, len(text)))
    end = max(start, min(span.end, len(text)))
    if start == len(text):
        # where the text ends: behind its last character rather than on an empty last line
        start = end = len(text.rstrip())
    line, column = line_and_column(text, start)
    begin = text.rfind("\n", 0, start) + 1
    stop = text.find("\n", start)
    stop = len(text) if stop < 0 else stop
    shown = text[begin:stop].rstrip("\r")
    first, last = start - begin, max(start, min(end, stop)) - begin
    left, middle, right = _expand(shown[:first]), _expand(shown[first:last]), _expand(shown[last:])
    left, middle, right = _clipped(left, middle, right)
    carets = "^" * max(1, _columns(middle))
    return [f"line {line}, column {column}", f"  {left}{middle}{right}", f"  {' ' * _columns(left)}{carets}"]


def _clipped(left: str, middle: str, right: str) -> tuple[str, str, str]:
    """Keep the place and what fits around it."""
    if _columns(left) + _columns(middle) + _columns(right) <= _WIDTH:
        return left, middle, right
    if _columns(middle) > _WIDTH // 2:
        middle, right = _head(middle, _WIDTH // 2), "..."
    room = _WIDTH - _columns(middle)
    kept_left = min(_columns(left), max(room // 2, room - _columns(right)))
    if kept_left < _columns(left):
        left = "..." + _head(left[::-1], max(0, kept_left - 3))[::-1]
    room -= _columns(left)
    if room < _columns(right):
        right = _head(right, max(0, room - 3)) + "..."
    return left, middle, right


def _head(text: str, columns: int) -> str:
    used = 0
    for i, ch in enumerate(text):
        used += _width(ch)
        if used > columns:
            return text[:i]
    return text


def _expand(text: str) -> str:
    """Tabs as blanks, control characters as one blank: neither may move the carets."""
    return "".join(" " * _TAB if ch == "\t" else " " if unicodedata.category(ch) == "Cc" else ch for ch in text)


def _columns(text: str) -> int:
    return sum(_width(ch) for ch in text)


def _width(ch: str) -> int:
    if unicodedata.combining(ch) or unicodedata.category(ch) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(ch) in ("W", "F") else 1
