"""A query's text as DuckDB has to get it: PostgreSQL's and RisingWave's ways of writing, put in DuckDB's."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from sabot.errors import Span, SqlError
from sabot.schema import literal, quote
from sql_frontend.split import Lexeme, LexemeKind, lexemes
from sql_frontend.types import DEFAULT_DECIMAL

_CANDIDATE = re.compile(
    r"\bat\b|\b(?:numeric|decimal|bytea|first_value|last_value|tumble|hop|sabot_late|public)\b"
    r"|\[|\|\s*\w+\s*\||\)\s*\.|\be'[^']*\\u",
    re.IGNORECASE,
)
_WORTH_A_LOOK = frozenset(
    {"at", "public", "numeric", "decimal", "(", "|", "first_value", "last_value", "tumble", "hop", "sabot_late"}
)
LATE_OF = "late rows of "
"""Begins the names of the tables in ``sabot_catalog`` that ``sabot_late('view')`` stands for."""
_Edit = tuple[int, int, str]
_ESCAPE = re.compile(rb"\\(\\|[0-7]{3})")


def for_duckdb(query: str) -> str:
    r"""Return `query` in DuckDB's words; what needs no change stays as it is.

    - a column may be called ``at`` (not in AT TIME ZONE, AT LOCAL and before a bracket)
    - the schema ``public`` is there
    - NUMERIC without precision is what a column of that type is
    - ``'{1,2}'::INT[]``, ``'\x61'::BYTEA``, ``e'\u0061'``, ``(t.s).*``, ``|x| x + 1``
    - ``first_value(v ORDER BY t)`` and ``last_value`` without OVER are aggregates
    - ``sabot_late('view')`` is a table
    - ``TUMBLE(t, at, size)`` and ``HOP(t, at, slide, size)``, each with an offset

    Raises
    ------
    SqlError
        A literal of BYTEA is not one.
    """
    if not _CANDIDATE.search(query):
        return query
    items = lexemes(query)
    return query[: items[0].start] + rewritten(query, items) + query[items[-1].end :] if items else query


def rewritten(query: str, items: Sequence[Lexeme]) -> str:
    """Return the part of `query` that `items` span, as :func:`for_duckdb` does."""
    if not items:
        return ""
    parts = []
    done = items[0].start
    for i, item in enumerate(items):
        if item.start < done or (item.kind is not LexemeKind.STRING and item.value.lower() not in _WORTH_A_LOOK):
            continue
        for rule in _RULES:
            edit = rule(query, items, i)
            if edit is not None:
                start, end, text = edit
                parts += [query[done:start], text]
                done = end
                break
    return "".join([*parts, query[done : items[-1].end]])


def _is(items: Sequence[Lexeme], at: int, *values: str) -> bool:
    """Tell whether the lexeme at `at` is one of these words or symbols (lower case)."""
    if not 0 <= at < len(items) or items[at].kind not in (LexemeKind.WORD, LexemeKind.SYMBOL):
        return False
    return items[at].value.lower() in values


def _closing(items: Sequence[Lexeme], at: int) -> int:
    """Return where the bracket at `at` is closed, or the number of lexemes."""
    depth = 0
    for i in range(at, len(items)):
        if items[i].kind is LexemeKind.SYMBOL and items[i].value in ("(", "[", "{", ")", "]", "}"):
            depth += 1 if items[i].value in "([{" else -1
            if depth == 0:
                return i
    return len(items)


def _name_at(query: str, items: Sequence[Lexeme], i: int) -> _Edit | None:
    if not _is(items, i, "at") or _is(items, i + 1, "time", "local", "("):
        return None
    return items[i].start, items[i].end, f'"{query[items[i].start : items[i].end]}"'


def _public(query: str, items: Sequence[Lexeme], i: int) -> _Edit | None:
    """``public.t``: DuckDB calls that schema ``main``."""
    named = items[i].kind in (LexemeKind.WORD, LexemeKind.QUOTED) and items[i].value == "public"
    if not named or not _is(items, i + 1, ".") or not _is(items, i - 1, "from", "join", ","):
        return None
    return items[i].start, items[i].end, "main"


def _bare_numeric(query: str, items: Sequence[Lexeme], i: int) -> _Edit | None:
    if not _is(items, i, "numeric", "decimal") or _is(items, i + 1, "("):
        return None
    typed = i + 1 < len(items) and items[i + 1].kind is LexemeKind.STRING
    if not (typed or _is(items, i - 1, "::") or (_is(items, i - 1, "as") and _is(items, i + 1, ")", "["))):
        return None
    return items[i].start, items[i].end, DEFAULT_DECIMAL


def _array_text(query: str, items: Sequence[Lexeme], i: int) -> _Edit | None:
    item = items[i]
    if item.kind is not LexemeKind.STRING or not item.value.startswith("{") or not _is(items, i + 1, "::"):
        return None
    end = i + 2
    while end < len(items) and items[end].kind is LexemeKind.WORD:
        end += 1
    if end == i + 2 or not _is(items, end, "["):
        return None
    inside = [part if k % 2 else part.translate({123: "[", 125: "]"}) for k, part in enumerate(item.value.split('"'))]
    return item.start, item.end, literal('"'.join(inside))


def _bytea(query: str, items: Sequence[Lexeme], i: int) -> _Edit | None:
    item = items[i]
    if item.kind is not LexemeKind.STRING or not _is(items, i + 1, "::") or not _is(items, i + 2, "bytea"):
        return None
    if _is(items, i + 3, "["):
        return None
    try:
        if item.value.startswith("\\x"):
            value = bytes.fromhex(item.value[2:])
        else:
            value = _ESCAPE.sub(lambda m: b"\\" if m[1] == b"\\" else bytes([int(m[1], 8) & 255]), item.value.encode())
    except ValueError as error:
        msg = f"{item.value!r} is not a value of BYTEA"
        hint = "write '\\x' and an even number of hexadecimal digits"
        raise SqlError(msg, span=Span(item.start, item.end), text=query, hint=hint, sqlstate="22P02") from error
    return item.start, items[i + 2].end, f"unhex('{value.hex()}')"


def _escaped(query: str, items: Sequence[Lexeme], i: int) -> _Edit | None:
    item = items[i]
    if item.kind is not LexemeKind.STRING or query[item.start] not in "eE" or "\\u" not in query[item.start : item.end]:
        return None
    return item.start, item.end, literal(item.value)


def _all_fields(query: str, items: Sequence[Lexeme], i: int) -> _Edit | None:
    """``(t.s).*``: the fields of a row as columns."""
    if not _is(items, i, "(") or not (i == 0 or _is(items, i - 1, "select", "distinct", ",")):
        return None
    close = _closing(items, i)
    names = items[i + 1 : close]
    if any(not _is_name(x) if k % 2 == 0 else x.value != "." for k, x in enumerate(names)) or len(names) % 2 == 0:
        return None
    end = close + 1
    while _is(items, end, ".") and end + 1 < len(items) and _is_name(items[end + 1]):
        end += 2
    if not (_is(items, end, ".") and _is(items, end + 1, "*")):
        return None
    whole = query[items[i + 1].start : items[close].start] + query[items[close].end : items[end].start]
    return items[i].start, items[end + 1].end, f"unnest({whole})"


def _is_name(item: Lexeme) -> bool:
    return item.kind in (LexemeKind.WORD, LexemeKind.QUOTED)


def _function(query: str, items: Sequence[Lexeme], i: int) -> _Edit | None:
    """``|x| x + 1``: a function without a name."""
    if not (_is(items, i, "|") and _is(items, i - 1, ",", "(") and _is(items, i + 2, "|")):
        return None
    return items[i].start, items[i + 2].end, f"lambda {query[items[i + 1].start : items[i + 1].end]}:"


def _first_or_last(query: str, items: Sequence[Lexeme], i: int) -> _Edit | None:
    if not (_is(items, i, "first_value", "last_value") and _is(items, i + 1, "(")):
        return None
    after = _closing(items, i + 1) + 1
    if _is(items, after, "filter"):
        after = _closing(items, after + 1) + 1
    if _is(items, after, "over", "ignore", "respect"):
        return None
    return items[i].start, items[i].end, items[i].value[: -len("_value")]


def _window(query: str, items: Sequence[Lexeme], i: int) -> _Edit | None:
    if not (_is(items, i, "tumble", "hop") and _is(items, i + 1, "(") and _is(items, i - 1, "from", "join", ",")):
        return None
    close = _closing(items, i + 1)
    if close == len(items):
        return None
    arguments = []
    begin = i + 2
    at = begin
    while at <= close:
        if at == close or _is(items, at, ","):
            arguments.append(rewritten(query, items[begin:at]))
            begin = at + 1
        elif _is(items, at, "(", "["):
            at = _closing(items, at)
        at += 1
    is_hop = items[i].value.lower() == "hop"
    if len(arguments) not in ((4, 5) if is_hop else (3, 4)):
        return None
    relation, time, *sizes = arguments
    slide, size = sizes[:2] if is_hop else (sizes[0], sizes[0])
    offset = sizes[2:] if is_hop else sizes[1:]
    step, width = f"epoch_us({slide})", f"epoch_us({size})"
    base = f"(epoch_us({time}) - epoch_us({offset[0]}))" if offset else f"epoch_us({time})"
    start = f"({time} - to_microseconds((({base} % {step}) + {step}) % {step}))"
    source = f"SELECT * FROM {relation}"
    if is_hop:
        refusal = "error('the size of HOP must be a multiple of its slide')"
        count = (
            f"CASE WHEN {width} > 0 AND {step} > 0 AND {width} % {step} = 0 THEN {width} // {step} ELSE {refusal} END"
        )
        source = f"SELECT *, unnest(range({count})) AS __i FROM {relation}"
        start = f"({start} - to_microseconds(__i * {step}))"
    hidden = " EXCLUDE (__i)" if is_hop else ""
    text = (
        f"(SELECT *{hidden}, {start} AS window_start, {start} + {size} AS window_end "
        f"FROM ({source}) WHERE {time} IS NOT NULL)"
    )
    return items[i].start, items[close].end, text


def _late(query: str, items: Sequence[Lexeme], i: int) -> _Edit | None:
    given = i + 3 < len(items) and items[i + 2].kind is LexemeKind.STRING
    if not given or not _is(items, i, "sabot_late") or not _is(items, i + 1, "(") or not _is(items, i + 3, ")"):
        return None
    return items[i].start, items[i + 3].end, f"sabot_catalog.{quote(LATE_OF + items[i + 2].value)}"


_Rule = Callable[[str, Sequence[Lexeme], int], _Edit | None]
_RULES: tuple[_Rule, ...] = (
    _name_at,
    _public,
    _bare_numeric,
    _array_text,
    _bytea,
    _escaped,
    _all_fields,
    _function,
    _first_or_last,
    _window,
    _late,
)
