"""Takes a script line by line and gives its statements and backslash commands, each with the place it came from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sabot.errors import Span, SqlError


@dataclass(frozen=True)
class Statement:
    """A statement; ``lines_before`` and ``line_prefix`` say where in the script its text begins."""

    text: str
    lines_before: int = 0
    line_prefix: str = ""

    def placed(self, error: SqlError) -> SqlError:
        """Return `error` as one about the whole script, so that its line is the script's."""
        if error.span is None or error.text is None or error.text.rstrip(" \t\r\n;") != self.text.rstrip(" \t\r\n;"):
            return error
        before = "\n" * self.lines_before + self.line_prefix
        span = Span(error.span.start + len(before), error.span.end + len(before))
        return SqlError(
            error.message,
            span=span,
            text=before + self.text,
            hint=error.hint,
            sqlstate=error.sqlstate,
            retryable=error.retryable,
        )


@dataclass(frozen=True)
class Command:
    """A backslash command: the line without the backslash."""

    text: str


def read_script(lines: Iterable[str]) -> Iterator[Statement | Command]:
    """Give statements as soon as their semicolon has come; what is left at the end is a statement too.

    A line that begins with a backslash outside a statement is a command.

    Raises
    ------
    SqlError
        At the end, if a string, a quoted name or a comment is open.
    """
    buffer = ""
    first_line = 0  # lines of the script before the buffer
    line_prefix = ""  # what stood on the buffer's first line before it
    for number, line in enumerate(lines):
        if not buffer.strip():
            buffer, first_line, line_prefix = "", number, ""
            if line.lstrip().startswith("\\"):
                yield Command(line.strip()[1:].strip())
                continue
        buffer += line
        if ";" not in line:
            continue
        end = 0
        for statement, end in _complete(buffer, first_line, line_prefix):  # noqa: B007  # used after the loop
            yield statement
        if end:
            first_line, line_prefix = _place(buffer, end, first_line, line_prefix)
            buffer = buffer[end:]
    if buffer.strip():
        yield from _rest(buffer, first_line, line_prefix)


def _complete(text: str, first_line: int, line_prefix: str) -> Iterator[tuple[Statement, int]]:
    """Give the statements that a semicolon ends, each with the position after that semicolon."""
    from sql_frontend.split import find_unterminated, split_statements, tokenize

    if find_unterminated(text) is not None:
        return
    # comments may stand between a statement and its semicolon
    semicolons = [token.start for token in tokenize(text) if token.token_type.name == "SEMICOLON"]
    for piece in split_statements(text):
        if piece.terminated:
            end = next(at for at in semicolons if at >= piece.span.end) + 1
            yield Statement(piece.text, *_place(text, piece.span.start, first_line, line_prefix)), end


def _rest(text: str, first_line: int, line_prefix: str) -> Iterator[Statement]:
    from sql_frontend.split import split_statements

    try:
        pieces = split_statements(text)
    except SqlError as error:
        raise Statement(text, first_line, line_prefix).placed(error) from error
    for piece in pieces:
        yield Statement(piece.text, *_place(text, piece.span.start, first_line, line_prefix))


def _place(text: str, at: int, first_line: int, line_prefix: str) -> tuple[int, str]:
    newline = text.rfind("\n", 0, at)
    prefix = text[newline + 1 : at] if newline >= 0 else line_prefix + text[:at]
    return first_line + text.count("\n", 0, at), prefix
