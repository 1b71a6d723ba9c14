"""DuckDB expressions with places for arguments: ``p1``, ``p2``, ..."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.tokenizer_core import Token, TokenType

from sabot.errors import InternalError
from sql_frontend.query_tokens import MARK

_PLACE = re.compile(r"p\d+")
_DIALECT = DuckDB()
_GRAMMAR = frozenset(["cast", "try_cast", "in"])


@functools.cache
def _template(sql: str) -> exp.Expr:
    """Parse; the parser leaves calls as they are written."""
    tokens = _DIALECT.tokenize(sql)
    marked = []
    for i, token in enumerate(tokens):
        called = i + 1 < len(tokens) and tokens[i + 1].token_type is TokenType.L_PAREN
        named = token.token_type in (TokenType.VAR, TokenType.LEFT, TokenType.RIGHT, TokenType.REPLACE)
        if called and named and token.text.lower() not in _GRAMMAR:
            place = (token.line, token.col, token.start, token.end)
            token = Token(TokenType.VAR, MARK + token.text, *place)
        marked.append(token)
    (tree,) = _DIALECT.parser().parse(marked, sql)
    if tree is None:
        msg = f"no expression: {sql!r}"
        raise InternalError(msg)
    for node in tree.walk():
        name = node.args.get("this")
        if isinstance(name, str) and name.startswith(MARK):
            node.set("this", name.removeprefix(MARK))
        for key in ("start", "end", "line", "col"):
            node.meta.pop(key, None)
    return tree


def filled(template: str, args: Sequence[exp.Expression]) -> exp.Expression:
    """Return `template`, parsed, with `args` (in parentheses) in its places."""
    tree = _template(template).copy()
    if isinstance(tree, exp.Column) and _PLACE.fullmatch(tree.name):
        # what has no parent cannot be replaced
        return exp.paren(args[int(tree.name.removeprefix("p")) - 1].copy())
    for place in [c for c in tree.find_all(exp.Column) if _PLACE.fullmatch(c.name)]:
        place.replace(exp.paren(args[int(place.name.removeprefix("p")) - 1].copy()))
    return tree  # type: ignore[return-value]
