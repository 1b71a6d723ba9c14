"""A query's text to sqlglot's tree, through the stock parser.

The tokens are changed on the way in: function names are marked, so that the parser leaves them and their
arguments as written, and the words of Flink's window functions (TABLE, DESCRIPTOR) are taken out.
"""

from __future__ import annotations

from itertools import pairwise

from sqlglot import exp
from sqlglot.errors import ErrorLevel, ParseError
from sqlglot.tokenizer_core import Token, TokenType

from sabot.errors import Span, SqlError
from sql_frontend.origin import Origin
from sql_frontend.split import DIALECT, tokenize

MARK = "ƒ"
_GRAMMAR = frozenset(
    [
        "cast",
        "try_cast",
        "extract",
        "substring",
        "position",
        "trim",
        "coalesce",
        "nullif",
        "count",
        "sum",
        "min",
        "max",
        "avg",
        "any",
        "all",
        "some",
        "exists",
        "if",
        "values",
        "array",
        "struct",
        "map",
        "interval",
        "row",
        "overlay",
        "unnest",
    ]
)
"""Functions whose arguments have a grammar of their own, or that the binder takes as sqlglot gives them."""
_REFUSED = {
    ("session", "("): ("a SESSION window", "TUMBLE and HOP work"),
    ("cumulate", "("): ("a CUMULATE window", "TUMBLE and HOP work"),
    ("within", "group"): ("WITHIN GROUP", None),
    ("as", "changelog"): ("a changelog as a relation", "SUBSCRIBE to the view"),
}
_CALLABLE = frozenset({TokenType.VAR, TokenType.LEFT, TokenType.RIGHT, TokenType.REPLACE, TokenType.FORMAT})


def read_query(text: str, origin: Origin) -> exp.Query:
    """Parse a query.

    Raises
    ------
    SqlError
        If it is not one query; the span is where the parser stopped.
    """
    tokens = _rewritten(tokenize(text))
    _refuse_early(tokens, origin)
    try:
        trees = DIALECT.parser(error_level=ErrorLevel.IMMEDIATE).parse(tokens, text)
    except ParseError as error:
        raise _syntax_error(error, tokens, text, origin) from error
    tree = trees[0] if trees else None
    if len(trees) != 1 or not isinstance(tree, exp.Query):
        span = Span(origin.offset, origin.offset + len(text))
        msg = "expected a query"
        raise SqlError(msg, span=span, text=origin.text, hint="a query begins with SELECT, WITH or FROM")
    for node in tree.walk():
        name = node.args.get("this")
        if isinstance(name, str) and name.startswith(MARK):
            node.set("this", name.removeprefix(MARK))
    return tree


def read_expression(text: str, origin: Origin) -> exp.Expression:
    """Parse a scalar expression; raises as :func:`read_query` does."""
    prefix = "SELECT "
    tree = read_query(prefix + text, Origin(" " * len(prefix) + origin.text, origin.offset))
    for node in tree.walk():
        for key in ("start", "end"):
            if key in node.meta:
                node.meta[key] -= len(prefix)
    items = tree.expressions
    if not isinstance(tree, exp.Select) or len(items) != 1 or tree.args.get("from_") is not None:
        msg = f"expected an expression, found {text!r}"
        raise SqlError(msg, span=Span(origin.offset, origin.offset + len(text)), text=origin.text)
    item = items[0]
    item.pop()
    return item  # type: ignore[no-any-return]


def _rewritten(tokens: list[Token]) -> list[Token]:
    out: list[Token] = []
    for i, token in enumerate(tokens):
        following = tokens[i + 1] if i + 1 < len(tokens) else None
        called = following is not None and following.token_type is TokenType.L_PAREN
        word = token.text.lower()
        if token.token_type is TokenType.TABLE and following is not None and out:
            before = out[-1].token_type
            in_from = before in (TokenType.FROM, TokenType.JOIN, TokenType.COMMA) and called
            is_argument = before in (TokenType.L_PAREN, TokenType.FARROW, TokenType.COMMA) and not called
            if in_from or is_argument:
                continue
        if word == "descriptor" and called:
            continue
        if called and token.token_type in _CALLABLE and word not in _GRAMMAR:
            marked = Token(TokenType.VAR, MARK + word, token.line, token.col, token.start, token.end, token.comments)
            out.append(marked)
            continue
        out.append(token)
    return out


def _refuse_early(tokens: list[Token], origin: Origin) -> None:
    """Name what the parser would only stumble over."""
    for token, following in pairwise(tokens):
        pair = (token.text.removeprefix(MARK).lower(), following.text.lower())
        if pair not in _REFUSED:
            continue
        what, hint = _REFUSED[pair]
        span = Span(origin.offset + token.start, origin.offset + following.end + 1)
        msg = f"{what} is not supported in a streaming query"
        raise SqlError(msg, span=span, text=origin.text, hint=hint, sqlstate="0A000")


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
