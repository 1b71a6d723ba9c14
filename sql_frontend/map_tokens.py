"""MAP on tokens: ``MAP {key: value}`` becomes a call, as sqlglot's parser drops the word and leaves a struct."""

from __future__ import annotations

from sqlglot.tokenizer_core import Token, TokenType

MAP_OF = "map {}"
"""The name of the function whose arguments are the keys and values of ``MAP {key: value}``, in turn."""
_OPENING = {TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE}
_CLOSING = {TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE}
_NESTED = {TokenType.MAP, TokenType.ARRAY, TokenType.LIST, TokenType.STRUCT}
_BEFORE_TYPE = {TokenType.DCOLON, TokenType.ALIAS, TokenType.VAR, TokenType.IDENTIFIER}


def maps_as_calls(tokens: list[Token]) -> list[Token]:
    """Return the tokens with each ``MAP {key: value, ...}`` as a call of `MAP_OF`; places stay those of the text."""
    out: list[Token] = []
    open_maps: list[bool] = []
    for i, token in enumerate(tokens):
        kind, text = token.token_type, token.text
        following = tokens[i + 1].token_type if i + 1 < len(tokens) else None
        if kind is TokenType.MAP and following is TokenType.L_BRACE:
            kind, text = TokenType.VAR, MAP_OF
        elif kind in _OPENING:
            open_maps.append(kind is TokenType.L_BRACE and i > 0 and tokens[i - 1].token_type is TokenType.MAP)
            if open_maps[-1]:
                kind, text = TokenType.L_PAREN, "("
        elif kind in _CLOSING and open_maps:
            if open_maps.pop():
                kind, text = TokenType.R_PAREN, ")"
        elif kind is TokenType.COLON and open_maps and open_maps[-1]:
            kind, text = TokenType.COMMA, ","
        if kind is not token.token_type:
            token = Token(kind, text, token.line, token.col, token.start, token.end, token.comments)
        out.append(token)
    return out


def is_type(tokens: list[Token], i: int) -> bool:
    """Whether the word MAP at `i`, a parenthesis after it, is a type: no call stands behind a name, ``::`` or AS."""
    before = tokens[i - 1].token_type if i else None
    if before in _BEFORE_TYPE:
        return True
    if before is TokenType.LT:
        return i > 1 and tokens[i - 2].token_type in _NESTED
    depth = 0
    for at in range(i - 1, 0, -1):
        kind = tokens[at].token_type
        if kind in _CLOSING:
            depth += 1
        elif kind in _OPENING:
            if depth == 0:
                # MAP(key type, MAP(...))
                return tokens[at - 1].token_type is TokenType.MAP and is_type(tokens, at - 1)
            depth -= 1
    return False
