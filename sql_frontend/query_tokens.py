"""A query's tokens before sqlglot's parser sees them.

Function names are marked, so that the parser leaves them and their arguments as written; ``->`` is turned into an
operator that it does not take for a lambda; the words of Flink's window functions (TABLE, DESCRIPTOR) are taken
out. What the parser would silently mend (a comma too many, a condition left out) is refused.
"""

from __future__ import annotations

from itertools import pairwise

from sqlglot.tokenizer_core import Token, TokenType

from sabot.errors import Span, SqlError
from sql_frontend.map_tokens import is_type, maps_as_calls
from sql_frontend.origin import Origin

MARK = "\ue000"
"""Begins the names of functions, and the keys after ``->`` and ``->>`` (not of ``#>``, whose strings are paths).

A character of Unicode's private use, which no text may hold itself.
"""
UNKNOWN = f"{MARK}unknown"
"""Stands for UNKNOWN after IS: the parser takes that for NULL, which values of any type may be."""
GAP = f"{MARK}gap"
"""Stands as the end of a frame that is SESSION WITH GAP; the gap is its start."""
CHANGELOG = f"{MARK}{MARK}changelog"
"""Stands before the name of a relation whose changes are meant; the second mark stays in the tree."""
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
        "interval",
        "row",
        "overlay",
        "unnest",
        "exclude",
        "materialized",
        "group",
        "sets",
    ]
)
"""Functions whose arguments have a grammar of their own, or that the binder takes as sqlglot gives them."""
_CALLABLE = frozenset(
    {
        TokenType.SESSION,
        TokenType.KEEP,
        TokenType.MAP,
        TokenType.VAR,
        TokenType.LEFT,
        TokenType.RIGHT,
        TokenType.REPLACE,
        TokenType.FORMAT,
        TokenType.LIST,
    }
)
_JSON = {TokenType.ARROW: TokenType.HASH_ARROW, TokenType.DARROW: TokenType.DHASH_ARROW}
_ENDS = frozenset(
    {
        TokenType.FROM,
        TokenType.WHERE,
        TokenType.GROUP_BY,
        TokenType.HAVING,
        TokenType.ORDER_BY,
        TokenType.UNION,
        TokenType.EXCEPT,
        TokenType.INTERSECT,
        TokenType.LIMIT,
        TokenType.R_PAREN,
        TokenType.R_BRACKET,
    }
)
_BEGINS = frozenset(
    {
        TokenType.SELECT,
        TokenType.WITH,
        TokenType.FROM,
        TokenType.VALUES,
        TokenType.TABLE,
        TokenType.L_PAREN,
    }
)
_STATEMENTS = frozenset(
    {
        TokenType.CREATE,
        TokenType.DROP,
        TokenType.ALTER,
        TokenType.INSERT,
        TokenType.UPDATE,
        TokenType.DELETE,
        TokenType.MERGE,
    }
)
_TEXT_TYPES = frozenset({TokenType.VARCHAR, TokenType.TEXT, TokenType.CHAR, TokenType.BPCHAR})
_WANT_MORE = frozenset(
    {
        TokenType.COMMA,
        TokenType.ON,
        TokenType.WHERE,
        TokenType.GROUP_BY,
        TokenType.HAVING,
        TokenType.ORDER_BY,
        TokenType.AND,
        TokenType.OR,
        TokenType.NOT,
        TokenType.DOT,
        TokenType.SELECT,
        TokenType.UNION,
        TokenType.JOIN,
        TokenType.FROM,
    }
)


def prepared(tokens: list[Token]) -> list[Token]:
    """Return the tokens for the parser; places stay those of the text."""
    out: list[Token] = []
    skipped, frames = -1, 0
    tokens = maps_as_calls(tokens)
    changelogs = _changelogs(tokens)
    for i, token in enumerate(tokens):
        following = tokens[i + 1] if i + 1 < len(tokens) else None
        called = following is not None and following.token_type is TokenType.L_PAREN
        word = token.text.lower()
        before = out[-1].token_type if out else None
        if token.token_type is TokenType.TABLE and following is not None:
            in_from = before in (TokenType.FROM, TokenType.JOIN, TokenType.COMMA) and called
            is_argument = before in (TokenType.L_PAREN, TokenType.FARROW, TokenType.COMMA) and not called
            if in_from or is_argument:
                continue
        if word == "descriptor" and called:
            continue
        if token.token_type is TokenType.WINDOW and not _defines_window(tokens, i):
            # a column may be called so
            out.append(_changed(token, TokenType.VAR, token.text))
            continue
        if _frame_words(tokens, i) == ("session", "with", "gap"):
            # a frame of its own, as ROWS BETWEEN gap PRECEDING AND a marked bound that the binder knows it by
            out += [_changed(token, TokenType.ROWS, "ROWS"), _changed(token, TokenType.BETWEEN, "BETWEEN")]
            skipped, frames = i + 2, frames + 1
            continue
        if i <= skipped:
            continue
        if i in changelogs:
            # a query of its own, over a name that the binder knows it by
            skipped = changelogs[i]
            out += [
                _changed(token, TokenType.L_PAREN, "("),
                _changed(token, TokenType.SELECT, "SELECT"),
                _changed(token, TokenType.STAR, "*"),
                tokens[i + 1],
                _changed(token, TokenType.VAR, CHANGELOG),
                _changed(token, TokenType.DOT, "."),
                *tokens[i + 2 : skipped + 1],
                _changed(tokens[skipped], TokenType.R_PAREN, ")"),
            ]
            continue
        if frames and _ends_frame(tokens, i):
            frames -= 1
            out += _gap_bound(token)
        if token.token_type is TokenType.PARTITION_BY and _of_session(out):
            # SESSION(t PARTITION BY k, ...): an argument of its own
            out += [
                _changed(token, TokenType.COMMA, ","),
                _changed(token, TokenType.VAR, "partition_by"),
                _changed(token, TokenType.FARROW, "=>"),
            ]
            continue
        if _is_unknown(tokens, i):
            out.append(_changed(token, TokenType.STRING, UNKNOWN))
        elif token.token_type is TokenType.MAP and called and is_type(tokens, i):
            out.append(token)
        elif called and token.token_type in _CALLABLE and word not in _GRAMMAR:
            out.append(_changed(token, TokenType.VAR, MARK + word))
        elif token.token_type in _JSON:
            out.append(_changed(token, _JSON[token.token_type], token.text))
        elif token.token_type is TokenType.STRING and i and tokens[i - 1].token_type in _JSON:
            out.append(_changed(token, TokenType.STRING, MARK + token.text))
        else:
            out.append(token)
    return out


def _changelogs(tokens: list[Token]) -> dict[int, int]:
    """Return where ``CHANGELOG FROM name`` stands for a query of WITH, and where each ends."""
    found: dict[int, int] = {}
    for begin, token in enumerate(tokens):
        at = begin + 1
        while token.token_type is TokenType.WITH and at < len(tokens):
            at += 1  # the name
            if at < len(tokens) and tokens[at].token_type is TokenType.L_PAREN:
                at = _closing(tokens, at) + 1
            words = [t.text.lower() for t in tokens[at : at + 3]]
            if words[:1] != ["as"]:
                break
            if words[1:] == ["changelog", "from"]:
                end = at + 3
                while end + 2 < len(tokens) and tokens[end + 1].token_type is TokenType.DOT:
                    end += 2
                if end >= len(tokens):
                    break
                found[at + 1] = end
                at = end + 1
            else:
                while at < len(tokens) and tokens[at].token_type is not TokenType.L_PAREN:
                    at += 1
                at = _closing(tokens, at) + 1
            if at >= len(tokens) or tokens[at].token_type is not TokenType.COMMA:
                break
            at += 1
    return found


def _closing(tokens: list[Token], at: int) -> int:
    """Return where the parenthesis at `at` is closed, or the end."""
    depth = 0
    while at < len(tokens):
        depth += {TokenType.L_PAREN: 1, TokenType.R_PAREN: -1}.get(tokens[at].token_type, 0)
        if depth == 0:
            break
        at += 1
    return at


def _defines_window(tokens: list[Token], i: int) -> bool:
    """Whether a clause ``WINDOW name AS (...)`` begins at `i`."""
    words = [t.text.lower() for t in tokens[i + 2 : i + 4]]
    return words == ["as", "("]


def _is_unknown(tokens: list[Token], i: int) -> bool:
    """Whether token `i` is UNKNOWN of IS [NOT] UNKNOWN."""
    if tokens[i].token_type is not TokenType.UNKNOWN or i == 0:
        return False
    negated = tokens[i - 1].token_type is TokenType.NOT and i > 1
    return tokens[i - 2 if negated else i - 1].token_type is TokenType.IS


def _frame_words(tokens: list[Token], i: int) -> tuple[str, ...]:
    return tuple(t.text.lower() for t in tokens[i : i + 3]) if tokens[i].token_type is TokenType.SESSION else ()


def _ends_frame(tokens: list[Token], i: int) -> bool:
    """Whether the gap of a session frame ends before token `i`."""
    return tokens[i].token_type is TokenType.R_PAREN or tokens[i].text.lower() == "exclude"


def _gap_bound(token: Token) -> list[Token]:
    return [
        _changed(token, TokenType.VAR, "PRECEDING"),
        _changed(token, TokenType.AND, "AND"),
        _changed(token, TokenType.STRING, GAP),
        _changed(token, TokenType.VAR, "FOLLOWING"),
    ]


def _of_session(before: list[Token]) -> bool:
    """Whether what follows `before` stands in the first argument of SESSION(...)."""
    depth = 0
    for at in range(len(before) - 1, 0, -1):
        kind = before[at].token_type
        if kind is TokenType.R_PAREN:
            depth += 1
        elif kind is TokenType.L_PAREN:
            if depth == 0:
                return before[at - 1].text.lower() == f"{MARK}session"
            depth -= 1
        elif depth == 0 and kind is TokenType.COMMA:
            return False
    return False


def by_window(tokens: list[Token]) -> bool:
    """Whether a query has windows as Flink writes them: DESCRIPTOR names their time."""
    return any(a.text.lower() == "descriptor" and b.token_type is TokenType.L_PAREN for a, b in pairwise(tokens))


def refuse_early(tokens: list[Token], origin: Origin) -> None:
    """Raise SqlError for what the parser would mend in silence, or only stumble over."""
    if not tokens or tokens[0].token_type not in _BEGINS:
        span = Span(origin.offset, len(origin.text))
        if tokens:
            span = Span(origin.offset + tokens[0].start, origin.offset + tokens[0].end + 1)
        msg = "expected a query"
        raise SqlError(msg, span=span, text=origin.text, hint="a query begins with SELECT, WITH or FROM")
    typed: Token | None = None
    for token, following in pairwise([*tokens, None]):
        assert token is not None
        if MARK in token.text:
            raise _syntax_error(token, origin)
        if following is None or following.token_type in _ENDS or following.token_type is TokenType.COMMA:
            if token.token_type in _WANT_MORE and not (following is not None and _may_stand(token, following)):
                raise _syntax_error(following or token, origin)
            continue
        if token.token_type is TokenType.L_PAREN and following.token_type in _STATEMENTS:
            raise _syntax_error(following, origin)
        if token.token_type in _TEXT_TYPES and following.token_type is TokenType.STRING:
            typed = following
        elif token is typed and following.token_type is TokenType.COLLATE:
            span = Span(origin.offset + token.start, origin.offset + following.end + 1)
            msg = "COLLATE cannot stand right behind a string with a type"
            hint = "put that in parentheses: (varchar 'a') COLLATE \"C\""
            raise SqlError(msg, span=span, text=origin.text, hint=hint, sqlstate="42P22")
        pair = (token.text.lower(), following.text.lower())
        if pair in ((">", ">"), ("<", "<")) and following.start != token.end + 1:
            raise _syntax_error(following, origin)


def _may_stand(token: Token, following: Token) -> bool:
    """``UNION FROM t``: a query may begin with FROM."""
    return token.token_type is TokenType.UNION and following.token_type is TokenType.FROM


def _syntax_error(token: Token, origin: Origin) -> SqlError:
    span = Span(origin.offset + token.start, origin.offset + token.end + 1)
    return SqlError(f"syntax error at or near {token.text!r}", span=span, text=origin.text)


def _changed(token: Token, kind: TokenType, text: str) -> Token:
    return Token(kind, text, token.line, token.col, token.start, token.end, token.comments)
