"""A query's text to sqlglot's tree, through the stock parser; its tokens are prepared first."""

from __future__ import annotations

from sqlglot import exp
from sqlglot.errors import ErrorLevel, ParseError
from sqlglot.tokenizer_core import Token

from sabot.errors import Span, SqlError
from sql_frontend.origin import Origin
from sql_frontend.query_tokens import MARK, by_window, prepared, refuse_early
from sql_frontend.row_comparisons import spread_rows
from sql_frontend.split import DIALECT, tokenize


def read_query(text: str, origin: Origin) -> exp.Query | exp.Values:
    """Parse a query.

    Raises
    ------
    SqlError
        If it is not one query; the span is where the parser stopped.
    """
    written = tokenize(text)
    refuse_early(written, origin)
    tokens = prepared(written)
    try:
        trees = DIALECT.parser(error_level=ErrorLevel.IMMEDIATE).parse(tokens, text)
    except ParseError as error:
        raise _syntax_error(error, tokens, text, origin) from error
    tree = trees[0] if trees else None
    if len(trees) != 1 or not isinstance(tree, (exp.Query, exp.Values)):
        span = Span(origin.offset, origin.offset + len(text))
        msg = "expected a query"
        raise SqlError(msg, span=span, text=origin.text, hint="a query begins with SELECT, WITH or FROM")
    for node in tree.walk():
        name = node.args.get("this")
        if isinstance(name, str) and name.startswith(MARK) and not isinstance(node, exp.Literal):
            node.set("this", name.removeprefix(MARK))
    spread_rows(tree)
    return tree


def written_by_window(text: str) -> bool:
    """Whether a query that can be read has windows as Flink writes them, which show when they close."""
    return by_window(tokenize(text))


def read_expression(text: str, origin: Origin) -> exp.Expression:
    """Parse a scalar expression; raises as :func:`read_query` does."""
    prefix = "SELECT "
    tree = read_query(prefix + text, Origin(origin.text, origin.offset - len(prefix)))
    for node in tree.walk():
        for key in ("start", "end"):
            if node.meta_get(key) is not None:
                node.meta[key] -= len(prefix)
    items = tree.expressions
    if not isinstance(tree, exp.Select) or len(items) != 1 or tree.args.get("from_") is not None:
        msg = f"expected an expression, found {text!r}"
        raise SqlError(msg, span=Span(origin.offset, origin.offset + len(text)), text=origin.text)
    item = items[0]
    item.pop()
    return item  # type: ignore[no-any-return]


def _syntax_error(error: ParseError, tokens: list[Token], text: str, origin: Origin) -> SqlError:
    first = error.errors[0] if error.errors else {}
    at = next((t for t in tokens if t.line == first.get("line") and t.col == first.get("col")), None)
    if at is None:
        end = origin.offset + len(text)
        msg = "the query ends too early"
        return SqlError(msg, span=Span(end, end), text=origin.text)
    begin, end = at.start, at.end + 1
    said = str(first.get("description", "")).rstrip(".")
    if said.lower().startswith("expecting"):
        # sqlglot names the token before the one that is missing
        msg = f"expected {said[len('expecting') :].strip()!r} near {text[begin:end]!r}"
    else:
        msg = f"syntax error at or near {text[begin:end]!r}"
    return SqlError(msg, span=Span(origin.offset + begin, origin.offset + end), text=origin.text)
