"""A cursor over one statement's lexemes: accept, expect, or say what was expected where."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

from sabot.errors import Span, SqlError
from sql_frontend.split import Lexeme, LexemeKind, lexemes

_OPEN = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the hint ``did you mean 'x'?`` for the nearest of `known`, or None."""
    by_folded = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), by_folded, n=1, cutoff=0.6)
    return f"did you mean {by_folded[close[0]]!r}?" if close else None


class RelationName(str):
    """``schema.name``: the name of a relation in a schema of its own; in 'public' a name is a plain string."""

    __slots__ = ("bare", "schema")
    bare: str
    schema: str

    @classmethod
    def of(cls, schema: str, bare: str) -> RelationName:
        """Return the name `bare` in `schema`."""
        made = cls(f"{schema}.{bare}")
        made.schema, made.bare = schema, bare
        return made


def schema_of(name: str) -> str:
    """Return the schema of a relation's name, as DuckDB calls it."""
    return name.schema if isinstance(name, RelationName) else "main"


def bare_name(name: str) -> str:
    """Return a relation's name without its schema: what its columns are qualified with."""
    return name.bare if isinstance(name, RelationName) else name


class Cursor:
    """Reads the lexemes of one statement from left to right.

    Parameters
    ----------
    text : str
        The statement's text; spans of errors point into it.
    items : list of Lexeme, optional
        Its lexemes, where they are known.
    """

    def __init__(self, text: str, items: list[Lexeme] | None = None) -> None:
        self.text = text
        self.items = lexemes(text) if items is None else items
        self.at = 0

    def peek(self, ahead: int = 0) -> Lexeme | None:
        """Return a coming lexeme, or None at the end."""
        at = self.at + ahead
        return self.items[at] if at < len(self.items) else None

    def at_words(self, *words: str) -> bool:
        """Tell whether the next lexemes are these words (upper case)."""
        for i, word in enumerate(words):
            item = self.peek(i)
            if item is None or item.kind is not LexemeKind.WORD or item.value.upper() != word:
                return False
        return True

    def accept(self, *words: str) -> bool:
        """Step over these words if they come next."""
        if self.at_words(*words):
            self.at += len(words)
            return True
        return False

    def accept_one(self, words: Collection[str]) -> str | None:
        """Step over one of `words` (upper case) if it comes next, and return it."""
        item = self.peek()
        if item is not None and item.kind is LexemeKind.WORD and item.value.upper() in words:
            self.at += 1
            return item.value.upper()
        return None

    def expect(self, *words: str) -> None:
        """Step over these words, or raise."""
        if not self.accept(*words):
            raise self.unexpected(" ".join(words))

    def at_symbol(self, symbol: str, ahead: int = 0) -> bool:
        """Tell whether `symbol` comes next."""
        item = self.peek(ahead)
        return item is not None and item.kind is LexemeKind.SYMBOL and item.value == symbol

    def accept_symbol(self, symbol: str) -> bool:
        """Step over `symbol` if it comes next."""
        if self.at_symbol(symbol):
            self.at += 1
            return True
        return False

    def expect_symbol(self, symbol: str) -> None:
        """Step over `symbol`, or raise."""
        if not self.accept_symbol(symbol):
            raise self.unexpected(repr(symbol))

    def name(self, what: str) -> str:
        """Read a name: folded to lower case unless quoted.

        Raises
        ------
        SqlError
            If no name comes next.
        """
        item = self.peek()
        if item is None or item.kind not in (LexemeKind.WORD, LexemeKind.QUOTED):
            raise self.unexpected(what)
        self.at += 1
        return item.value.lower() if item.kind is LexemeKind.WORD else item.value

    def relation_name(self, what: str) -> str:
        """Read the name of a relation; a schema ``public`` or ``main`` before it is dropped, another is kept."""
        start = self.at
        name = self.name(what)
        if not self.accept_symbol("."):
            return name
        bare = self.name(what)
        if self.at_symbol("."):
            span = Span(self.items[start].start, self.here().end)
            raise self.error("a name has a schema at most", span=span, hint="write schema.name", sqlstate="0A000")
        return bare if name in ("public", "main") else RelationName.of(name, bare)

    def skip_balanced(self, stop: Collection[str] = (), *, angles: bool = False) -> tuple[int, int]:
        """Step over lexemes up to a comma, a closing bracket or one of the words `stop` outside brackets.

        Returns
        -------
        tuple of int
            Where the text that was stepped over starts and ends.

        Raises
        ------
        SqlError
            If there was nothing to step over.
        """
        first = self.at
        depth = 0
        while (item := self.peek()) is not None:
            if item.kind is LexemeKind.SYMBOL:
                step = _OPEN.get(item.value, 0)
                if angles:
                    step += item.value.count("<") - item.value.count(">")
                if depth == 0 and (item.value == "," or step < 0):
                    break
                depth += step
            elif depth == 0 and item.kind is LexemeKind.WORD and item.value.upper() in stop:
                break
            self.at += 1
        if self.at == first:
            raise self.unexpected("an expression")
        return self.items[first].start, self.items[self.at - 1].end

    def here(self) -> Span:
        """Return the span of the next lexeme, or the end of the text."""
        item = self.peek()
        return Span(item.start, item.end) if item else Span(len(self.text), len(self.text))

    def offset(self) -> int:
        """Return where the next lexeme starts."""
        return self.here().start

    def end_of_last(self) -> int:
        """Return where the lexeme before ends."""
        return self.items[self.at - 1].end if self.at else 0

    def finish(self) -> None:
        """Raise if anything is left."""
        if self.peek() is not None:
            raise self.unexpected("the end of the statement")

    def unexpected(self, expected: str) -> SqlError:
        """Return the error that something else stands where `expected` should."""
        item = self.peek()
        if item is None:
            return self.error(f"expected {expected}, the statement ends here", span=self.here())
        return self.error(f"expected {expected}, found {self.text[item.start : item.end]!r}", span=self.here())

    def error(self, message: str, *, span: Span, hint: str | None = None, sqlstate: str | None = None) -> SqlError:
        """Return an error at `span` of this statement."""
        return SqlError(message, span=span, text=self.text, hint=hint, sqlstate=sqlstate)
