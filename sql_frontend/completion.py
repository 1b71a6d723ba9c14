"""What fits at the cursor of a half-written statement: keywords, relations or columns. Imports no database.

Works on tokens, not on a grammar: the text before the cursor is mostly not a statement yet.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

KEYWORDS: tuple[str, ...] = (
    "AGENTS", "ALL", "ALTER", "AND", "ANALYZE", "APPEND ONLY", "AS", "ASC", "BETWEEN", "BIGINT", "BOOLEAN", "BYTEA",
    "CASCADE", "CASE", "CAST", "CHANGELOG FROM", "CREATE", "CSV", "DATE", "DEFAULT", "DESC", "DESCRIBE", "DISTINCT",
    "DOUBLE PRECISION", "DROP", "ELSE", "EMIT ON WINDOW CLOSE", "ENCODE", "END", "EXPLAIN", "EXTRACT", "FALSE",
    "FILTER", "FLUSH", "FORMAT PLAIN", "FROM", "GROUP BY", "HAVING", "HOP", "IF EXISTS", "IF NOT EXISTS", "ILIKE",
    "IN", "INCLUDE", "INNER JOIN", "INSERT INTO", "INT", "INTERVAL", "INTO", "IS", "JOBS", "JOIN", "JSON", "JSONB",
    "LIKE", "LIMIT", "MATERIALIZED VIEW", "MATERIALIZED VIEWS", "NOT", "NULL", "NUMERIC", "OFFSET", "ON", "OR",
    "ORDER BY", "PARQUET", "PAUSE", "PLAIN", "PRIMARY KEY", "REAL", "RENAME TO", "RESET", "RESUME", "SCHEMA",
    "SCHEMAS", "SELECT", "SET", "SHOW", "SINK", "SINKS", "SMALLINT", "SOURCE", "SOURCES", "STRUCT", "SUBSCRIBE TO",
    "TABLE", "TABLES", "THEN", "TIMESTAMP", "TIMESTAMPTZ", "TO", "TRUE", "TUMBLE", "UNION ALL", "USING", "UUID",
    "VALUES", "VARCHAR", "VIEW", "VIEWS", "WATERMARK FOR", "WHEN", "WHERE", "WITH",
)  # fmt: skip
"""The words of Sabot's SQL, as they are offered."""

FUNCTIONS: tuple[str, ...] = (
    "abs", "avg", "ceil", "coalesce", "concat", "count", "date_trunc", "extract", "floor", "greatest", "least",
    "left", "length", "lower", "ltrim", "max", "md5", "min", "mod", "nullif", "position", "regexp_replace", "replace",
    "right", "round", "rtrim", "split_part", "sqrt", "substring", "sum", "to_char", "to_date", "to_timestamp", "trim",
    "trunc", "upper",
)  # fmt: skip
"""Functions worth offering; any scalar function of DuckDB works."""

_TOKEN = re.compile(
    r"""--[^\n]*(?:\n|\Z)|/\*.*?(?:\*/|\Z)|'(?:[^']|'')*(?:'|\Z)|"(?:[^"]|"")*(?:"|\Z)|`[^`]*(?:`|\Z)"""
    r"""|[^\W\d]\w*|\d+(?:\.\d+)?|\s+|.""",
    re.DOTALL,
)
_CLAUSES = frozenset(
    {
        "select", "from", "join", "where", "group", "having", "order", "on", "using", "union", "limit", "window",
        "with", "inner", "left", "right", "full", "cross", "natural", "emit", "as", "when", "then", "else", "and", "or",
    }
)  # fmt: skip
_RELATION_AFTER = frozenset({"from", "join", "into", "table", "describe", "desc", "subscribe"})
_EXPRESSION_AFTER = frozenset(
    {"select", "where", "by", "having", "on", "and", "or", "not", "when", "then", "else", "case", "between", "distinct"}
)
_DROPPED = frozenset({"source", "table", "view", "sink", "job"})


@dataclass(frozen=True)
class Context:
    """What fits at the cursor.

    `prefix` is the word begun; `start` where it begins. ``keywords``, ``relations`` and ``columns`` say which kinds
    fit. With ``columns``, `of` names the relations whose columns they are (empty: of any), by the names in the
    catalog. With ``relations``, `kinds` names the kinds that fit (empty: all). `after` lists keywords that are likely
    next, most likely first.
    """

    prefix: str
    start: int
    keywords: bool = True
    relations: bool = False
    columns: bool = False
    of: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    inside_literal: bool = False


def completion_context(before: str, after: str = "") -> Context:
    """Tell what fits between `before` and `after` the cursor.

    Parameters
    ----------
    before, after : str
        The statement's text on both sides of the cursor; `after` is only searched for relations in FROM.
    """
    tokens = [(m[0], m.start()) for m in _TOKEN.finditer(before)]
    if tokens and _is_open(tokens[-1][0]):
        return Context("", len(before), keywords=False, inside_literal=True)
    words = [(t, at) for t, at in tokens if not t.isspace() and not t.startswith(("--", "/*"))]
    words = words[_statement_start(words) :]
    prefix, start = "", len(before)
    if words and not before[-1:].isspace() and _is_name(words[-1][0]):
        prefix, start = words.pop()
    scope = _relations([t for t, _ in words] + _tokens_of(after))
    previous = words[-1][0].lower() if words else ""
    lowered = [t.lower() for t, _ in words]
    if previous == "." and len(words) > 1:
        owner = _bare(words[-2][0])
        return Context(prefix, start, keywords=False, columns=True, of=(scope.get(owner.lower(), owner),))
    if not words:
        after_ = (
            "SELECT",
            "CREATE",
            "SHOW",
            "INSERT INTO",
            "DROP",
            "DESCRIBE",
            "EXPLAIN",
            "SUBSCRIBE TO",
            "FLUSH",
            "ALTER",
        )
        return Context(prefix, start, after=after_)
    if previous == "explain":
        return Context(prefix, start, relations=True, after=("SELECT", "CREATE MATERIALIZED VIEW", "CREATE SINK"))
    if lowered[0] in ("alter", "pause", "resume"):
        return _altered(prefix, start, lowered)
    if _wants_relation(lowered):
        return Context(prefix, start, keywords=False, relations=True, kinds=_kinds(lowered))
    if lowered[0] == "create" and previous in ("(", ",") and (list_of := _list_of(lowered)) != "query":
        next_ = "PRIMARY KEY" if lowered[1] == "table" else "WATERMARK FOR"
        return Context(prefix, start, keywords=False, after=() if list_of == "options" else (next_,))
    if previous == "show":
        shown = ("SOURCES", "TABLES", "VIEWS", "MATERIALIZED VIEWS", "SINKS", "JOBS", "AGENTS", "ALL")
        return Context(prefix, start, after=shown)
    if previous == "create":
        return Context(prefix, start, after=("MATERIALIZED VIEW", "SOURCE", "TABLE", "VIEW", "SINK"))
    if previous == "drop":
        return Context(prefix, start, after=("MATERIALIZED VIEW", "SOURCE", "TABLE", "VIEW", "SINK", "JOB"))
    of = tuple(dict.fromkeys(scope.values()))
    if previous == "," and _clause(lowered) in ("from", "join"):
        return Context(prefix, start, keywords=False, relations=True, columns=_inside_call(lowered), of=of)
    if previous in _EXPRESSION_AFTER or previous in {",", "(", "=", "<", ">", "+", "-", "*", "/", "|", "%"}:
        in_query = any(w in ("select", "from", "where") for w in lowered)
        return Context(prefix, start, columns=in_query, of=of, keywords=True)
    return Context(prefix, start, columns=bool(of) and _clause(lowered) not in ("from", "join"), of=of)


def relations_in(text: str) -> tuple[str, ...]:
    """Return the relations that a statement's FROM, JOIN and window functions name, in order."""
    return tuple(dict.fromkeys(_relations(_tokens_of(text)).values()))


def _tokens_of(text: str) -> list[str]:
    return [m[0] for m in _TOKEN.finditer(text) if not m[0].isspace() and not m[0].startswith(("--", "/*"))]


def _statement_start(words: list[tuple[str, int]]) -> int:
    semicolons = [i for i, (t, _) in enumerate(words) if t == ";"]
    return semicolons[-1] + 1 if semicolons else 0


def _is_open(token: str) -> bool:
    """Whether the text ends inside a string, a quoted name or a comment."""
    if token.startswith("--"):
        return not token.endswith("\n")
    if token.startswith("/*"):
        return not token.endswith("*/") or len(token) < 4
    if token[:1] == "'":
        return len(token) < 2 or token.count("'") % 2 == 1
    return False


def _is_name(token: str) -> bool:
    return token[0].isalpha() or token[0] in '_"`'


def _bare(token: str) -> str:
    if token[0] in '"`':
        return token[1:].removesuffix(token[0])
    return token.lower()


def _relations(tokens: list[str]) -> dict[str, str]:
    """Return relations by the lower-case names they go by: ``FROM bid AS b`` gives b and bid."""
    found: dict[str, str] = {}
    i = 0
    while i < len(tokens):
        word = tokens[i].lower()
        i += 1
        if word not in ("from", "join", "tumble", "hop", "into", "table", ","):
            continue
        if word == "," and (
            not found or _clause([t.lower() for t in tokens[: i - 1]], outward=False) not in ("from", "join", "on")
        ):
            continue
        while i < len(tokens) and tokens[i].lower() in ("(", "table", "tumble", "hop"):
            i += 1
        if i >= len(tokens) or not _is_name(tokens[i]) or tokens[i].lower() in _CLAUSES:
            continue
        name = _bare(tokens[i])
        i += 1
        found[name.lower()] = name
        if i < len(tokens) and tokens[i].lower() == "as":
            i += 1
        if i < len(tokens) and _is_name(tokens[i]) and tokens[i].lower() not in _CLAUSES:
            found[_bare(tokens[i]).lower()] = name
    return found


def _clause(lowered: list[str], *, outward: bool = True) -> str:
    """The clause that the last token stands in; `outward` looks through the brackets around it too."""
    depth = 0
    for word in reversed(lowered):
        if word == ")":
            depth += 1
        elif word == "(":
            depth -= 1
            if depth < 0 and not outward:
                return ""
        elif depth <= 0 and word in ("select", "from", "join", "where", "by", "having", "on", "set", "values"):
            return word
    return ""


def _wants_relation(lowered: list[str]) -> bool:
    previous = lowered[-1]
    if previous in ("from", "join"):
        return True
    if previous in _RELATION_AFTER and lowered[0] != "create":
        return True
    if previous == "to" and lowered[0] == "subscribe":
        return True
    if previous == "(" and len(lowered) > 1 and lowered[-2] in ("tumble", "hop"):
        return True
    return _names_what_to_drop(lowered)


def _altered(prefix: str, start: int, lowered: list[str]) -> Context:
    """Tell what fits in ALTER, and in PAUSE and RESUME, which begin with their last word."""
    kinds = {"view": ("materialized view",), "sink": ("sink",), "job": ("materialized view", "sink")}
    if lowered[-1] in kinds:
        return Context(prefix, start, keywords=False, relations=True, kinds=kinds[lowered[-1]])
    of_what = ("MATERIALIZED VIEW", "SINK", "JOB")
    match lowered[1:]:
        case [] if lowered[0] == "alter":
            return Context(prefix, start, after=(*of_what, "SYSTEM DRAIN AGENT"))
        case []:
            return Context(prefix, start, after=of_what)
        case ["system"]:
            return Context(prefix, start, after=("DRAIN AGENT",))
        case [*_, _] if len(lowered) > 2 and lowered[-2] in kinds and lowered[0] == "alter":
            return Context(prefix, start, after=("PAUSE", "RESUME"))
    return Context(prefix, start)


def _inside_call(lowered: list[str]) -> bool:
    return lowered.count("(") > lowered.count(")")


def _kinds(lowered: list[str]) -> tuple[str, ...]:
    """The kinds of relations that a statement takes where the cursor is."""
    match lowered[0]:
        case "drop":
            if lowered[1] == "job":
                return ("materialized view", "sink")
            return ("materialized view",) if lowered[1] == "materialized" else (lowered[1],)
        case "insert" if lowered[-1] == "into":
            return ("table",)
        case "subscribe":
            return ("table", "materialized view")
        case "create":
            return ("source", "table", "view", "materialized view")
    return ()


def _list_of(lowered: list[str]) -> str:
    """Tell whether the end of a CREATE is in a list of ``columns`` or of ``options``, or else in its ``query``."""
    depth = 0
    for i in range(len(lowered) - 1, 0, -1):
        depth += (lowered[i] == "(") - (lowered[i] == ")")
        if depth > 0:
            if lowered[i - 1] == "with":
                return "options"
            is_declaration = lowered[1] in ("source", "table") and "(" not in lowered[:i]
            return "columns" if is_declaration else "query"
    return "query"


def _names_what_to_drop(lowered: list[str]) -> bool:
    if lowered[:1] != ["drop"] or len(lowered) < 2:
        return False
    return lowered[-1] in _DROPPED or lowered[-2:] == ["if", "exists"] or lowered[-1] == ","
