"""Colours for SQL and backslash commands, as a Pygments lexer."""

from __future__ import annotations

import re
from typing import ClassVar

from pygments.lexer import RegexLexer, words
from pygments.token import Comment, Keyword, Name, Number, Operator, Punctuation, String, Text

from sql_frontend.completion import KEYWORDS

TYPES = frozenset(
    {
        "bigint", "blob", "boolean", "bytea", "date", "decimal", "double", "float", "int", "integer", "interval",
        "json", "jsonb", "map", "numeric", "precision", "real", "smallint", "struct", "text", "time", "timestamp",
        "timestamptz", "tinyint", "uuid", "varchar",
    }
)  # fmt: skip
_WORDS = {word.lower() for keyword in KEYWORDS for word in keyword.split()} - TYPES


class SabotLexer(RegexLexer):
    """Streaming SQL as Sabot reads it."""

    name = "Sabot SQL"
    aliases: ClassVar[list[str]] = ["sabot"]
    filenames: ClassVar[list[str]] = []
    url = ""
    flags = re.IGNORECASE | re.MULTILINE
    tokens: ClassVar[dict[str, list[tuple[object, ...]]]] = {
        "root": [
            (r"\A\s*\\\S*.*", Name.Decorator),
            (r"\s+", Text),
            (r"--.*$", Comment.Single),
            (r"/\*", Comment.Multiline, "comment"),
            (r"(\$(?:[a-z_]\w*)?\$)[\s\S]*?(?:\1|\Z)", String),
            (r"e'(?:\\.|''|[^'\\])*(?:'|\Z)", String),
            (r"'(?:''|[^'])*(?:'|\Z)", String.Single),
            (r'"(?:""|[^"])*(?:"|\Z)', String.Name),
            (r"`[^`]*(?:`|\Z)", String.Name),
            (r"\d+(?:\.\d*)?(?:e[+-]?\d+)?\b|\.\d+", Number),
            (words(sorted(TYPES), prefix=r"\b", suffix=r"\b"), Keyword.Type),
            (words(sorted(_WORDS), prefix=r"\b", suffix=r"\b"), Keyword),
            (r"[a-z_][\w$]*(?=\s*\()", Name.Function),
            (r"[a-z_][\w$]*", Name),
            (r"[+*/<>=~!@#%^&|`?:-]+", Operator),
            (r"[;,().\[\]{}]", Punctuation),
            (r".", Text),
        ],
        "comment": [
            (r"/\*", Comment.Multiline, "#push"),
            (r"\*/", Comment.Multiline, "#pop"),
            (r"[^*/]+|[*/]", Comment.Multiline),
        ],
    }
