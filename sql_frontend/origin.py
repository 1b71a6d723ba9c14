"""Where a query's text stands, so that an error about any node of its tree can point at it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from sqlglot import exp

from sabot.errors import Span, SqlError
from sql_frontend.catalog import FunctionDefinition

_CALL_BEFORE = re.compile(r"\w+\s*\(\s*(?:distinct\s+)?$", re.IGNORECASE)


@dataclass(frozen=True)
class Origin:
    """The text that errors show, and where in it the query starts.

    `once`: the query is answered once, as it stands (a SELECT): what fails is an error, and it may read the clock. Else
    its answer is kept up (a view): what fails is NULL there.
    """

    text: str
    offset: int = 0
    once: bool = False
    lookup: Callable[[str], object] | None = field(default=None, compare=False)
    """Finds functions that users made."""
    inside: tuple[str, ...] = ()
    """Functions whose bodies this is in, the outermost first."""
    python: list[FunctionDefinition] = field(default_factory=list, compare=False)
    """Collects the Python functions that are called."""

    def span(self, node: exp.Expr | None) -> Span:
        """Return where `node` stands; of a node without a place (a literal), where its parent does.

        Without any place it is the whole query.
        """
        while node is not None:
            hull = self._hull(node)
            if hull is not None:
                return hull
            node = node.parent
        return Span(min(self.offset, len(self.text)), len(self.text))

    def _hull(self, node: exp.Expr) -> Span | None:
        start, end = -1, -1
        for part in node.walk():
            at = part.meta_get("start")
            if at is not None:
                start = at if start < 0 else min(start, at)
                end = max(end, part.meta_get("end") + 1)
        if start < 0:
            return None
        start, end = start + self.offset, end + self.offset
        if isinstance(node, exp.Func) and not isinstance(node, exp.Anonymous):
            before = _CALL_BEFORE.search(self.text, self.offset, start)
            if before:
                start = before.start()
        if isinstance(node, exp.Anonymous) and self.text[end:].lstrip().startswith("("):
            end = self.text.index("(", end) + 1
        missing = self.text.count("(", start, end) - self.text.count(")", start, end)
        while missing > 0:
            close = self.text.find(")", end)
            if close < 0:
                break
            end, missing = close + 1, missing - 1
        return Span(start, end)

    def error(
        self,
        message: str,
        node: exp.Expr | None,
        *,
        hint: str | None = None,
        sqlstate: str = "42601",
    ) -> SqlError:
        """Return an error at `node`."""
        return SqlError(message, span=self.span(node), text=self.text, hint=hint, sqlstate=sqlstate)

    def unsupported(self, what: str, node: exp.Expr | None, *, hint: str | None = None) -> SqlError:
        """Return the error that `what` is not supported in a view yet."""
        return self.error(f"{what} is not supported in a streaming query", node, hint=hint, sqlstate="0A000")
