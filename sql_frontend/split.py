"""Cuts a SQL text into statements and lexemes, on sqlglot's tokens; knows no statement's grammar."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

from sqlglot.dialects.risingwave import RisingWave
from sqlglot.errors import TokenError
from sqlglot.tokenizer_core import Token, TokenType

from sabot.errors import Span, SqlError

DIALECT = RisingWave()
# the parser would take 1 from a subscript that it believes to be an integer, and leave all others
DIALECT.INDEX_OFFSET = 0


class _Tokenizer(RisingWave.Tokenizer):
    """RisingWave's tokens, with Flink's back-ticks, and SHOW or EXPLAIN no longer swallowing what follows them."""

    IDENTIFIERS: ClassVar = ['"', "`"]
    COMMANDS: ClassVar[set[TokenType]] = set()


_STRINGS = frozenset(
    {
        TokenType.STRING,
        TokenType.HEREDOC_STRING,
        TokenType.BYTE_STRING,
        TokenType.NATIONAL_STRING,
        TokenType.RAW_STRING,
        TokenType.UNICODE_STRING,
    }
)
_OPENING = re.compile(r"--|/\*|\$(?:[A-Za-z_]\w*)?\$|[eE]'|['\"`]")
_WORD = re.compile(r"[^\W\d][\w$]*")


class LexemeKind(enum.Enum):
    """What a lexeme is, as far as clauses care."""

    WORD = "word"
    QUOTED = "quoted"
    STRING = "string"
    NUMBER = "number"
    SYMBOL = "symbol"


@dataclass(frozen=True, slots=True)
class Lexeme:
    """A word, a quoted name, a string, a number or a symbol at ``text[start:end]`` of the script.

    ``value`` is unquoted; keywords of several words are one lexeme a word.
    """

    kind: LexemeKind
    value: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Piece:
    """One statement of a script: its text without the semicolon, where it stands, and whether a semicolon ended it."""

    text: str
    span: Span
    terminated: bool
    tokens: tuple[Token, ...] = field(default=(), compare=False, repr=False)
    """sqlglot's, at their places in the script."""


def split_statements(text: str) -> list[Piece]:
    """Cut a script at its semicolons; empty statements and comments around statements are left out.

    Raises
    ------
    SqlError
        If a string, quoted name or comment has no end; `span` is where it begins.
    """
    pieces: list[Piece] = []
    tokens: list[Token] = []
    for token in [*tokenize(text), None]:
        if token is not None and token.token_type is not TokenType.SEMICOLON:
            tokens.append(token)
            continue
        if tokens:
            start, end = tokens[0].start, tokens[-1].end + 1
            pieces.append(Piece(text[start:end], Span(start, end), token is not None, tuple(tokens)))
            tokens = []
    return pieces


def is_complete(text: str) -> bool:
    """Tell whether `text` ends with a semicolon outside strings, quoted names, comments and dollar quotes."""
    if find_unterminated(text) is not None:
        return False
    tokens = tokenize(text)
    return bool(tokens) and tokens[-1].token_type is TokenType.SEMICOLON


def tokenize(text: str) -> list[Token]:
    """Return sqlglot's tokens of `text`; raises SqlError at what has no end."""
    opening = find_unterminated(text)
    if opening is not None:
        what = {"'": "string", "E": "string", "$": "dollar-quoted string", "/": "comment"}.get(
            text[opening].upper(), "quoted name"
        )
        msg = f"unterminated {what}"
        raise SqlError(msg, span=Span(opening, len(text)), text=text)
    try:
        return _Tokenizer(dialect=DIALECT).tokenize(text)
    except TokenError as error:
        msg = f"cannot read the text: {error}"
        raise SqlError(msg, span=Span(0, len(text)), text=text) from error


def find_unterminated(text: str) -> int | None:
    """Return where a string, quoted name or block comment begins that does not end, or None."""
    at = 0
    while match := _OPENING.search(text, at):
        opening = match[0]
        begin = match.start()
        before = text[begin - 1] if begin else " "
        if opening[0] in "$eE" and (before.isalnum() or before in "_$"):
            at = begin + 1
            continue
        if opening == "--":
            newline = text.find("\n", begin)
            end = len(text) if newline < 0 else newline + 1
        elif opening == "/*":
            end = _end_of_comment(text, begin)
        elif opening[0] == "$":
            closing = text.find(opening, match.end())
            end = -1 if closing < 0 else closing + len(opening)
        else:
            end = _end_of_quoted(text, match.end(), opening[-1], escapes=opening[0] in "eE")
        if end < 0:
            return begin
        at = end
    return None


def _end_of_comment(text: str, begin: int) -> int:
    depth, at = 0, begin
    while at < len(text):
        if text.startswith("/*", at):
            depth += 1
            at += 2
        elif text.startswith("*/", at):
            depth -= 1
            at += 2
            if depth == 0:
                return at
        else:
            at += 1
    return -1


def _end_of_quoted(text: str, at: int, quote: str, *, escapes: bool) -> int:
    while at < len(text):
        if escapes and text[at] == "\\":
            at += 2
        elif text[at] == quote:
            if not text.startswith(quote, at + 1):
                return at + 1
            at += 2
        else:
            at += 1
    return -1


def lexemes(text: str) -> list[Lexeme]:
    """Return the lexemes of one statement's text."""
    return lexemes_of(text, tokenize(text))


def lexemes_of(text: str, tokens: Iterable[Token], offset: int = 0) -> list[Lexeme]:
    """Return the lexemes of `tokens`, whose places lie `offset` behind those in `text`."""
    out: list[Lexeme] = []
    for token in tokens:
        start, end = token.start - offset, token.end + 1 - offset
        if token.token_type in _STRINGS:
            out.append(Lexeme(LexemeKind.STRING, token.text, start, end))
        elif token.token_type is TokenType.IDENTIFIER:
            out.append(Lexeme(LexemeKind.QUOTED, token.text, start, end))
        elif token.token_type is TokenType.NUMBER:
            out.append(Lexeme(LexemeKind.NUMBER, text[start:end], start, end))
        elif _WORD.match(text, start):
            # a keyword such as PRIMARY KEY is one token, and may have comments or newlines inside
            out += [Lexeme(LexemeKind.WORD, m[0], m.start(), m.end()) for m in _WORD.finditer(text, start, end)]
        else:
            out.append(Lexeme(LexemeKind.SYMBOL, text[start:end], start, end))
    return out
