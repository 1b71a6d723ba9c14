"""Typed sqlglot expressions to DuckDB SQL text; the one place where the planner writes SQL for expressions."""

from __future__ import annotations

from sqlglot import exp

from sabot.schema import Schema, quote, struct_fields

_AS_TEXT = ("JSON", "UUID")
_SPELLED = {"INT": "INTEGER", "TEXT": "VARCHAR", "REAL": "FLOAT", "TIMESTAMPTZ": "TIMESTAMP WITH TIME ZONE"}
"""How the generator spells types that DuckDB spells otherwise."""


def render(expression: exp.Expression) -> str:
    """Return `expression` as DuckDB SQL.

    A division stays the plain ``/``: tasks run with ``integer_division = true``, while the generator's
    own form of a typed division goes through DOUBLE and is wrong from 2**53 on.
    """
    copy = expression.copy()
    for division in copy.find_all(exp.Div):
        division.set("typed", False)
        division.set("safe", False)
    return copy.transform(_without_parentheses, copy=False).sql("duckdb")


def _without_parentheses(node: exp.Expr) -> exp.Expr:
    """Drop parentheses that say nothing; a struct's column keeps them, so that it is not taken for a table."""
    while isinstance(node, exp.Paren) and not isinstance(node.parent, exp.Dot):
        inner = node.this
        if not isinstance(inner, exp.Column | exp.Dot | exp.Literal | exp.Paren):
            break
        inner.pop()
        if node.parent is not None:
            node.replace(inner)
        node = inner
    return node


def render_as(expression: exp.Expression, type_text: str) -> str:
    """Return `expression` as DuckDB SQL whose result has the type that `type_text` has between tasks."""
    sql = render(expression)
    target = motion_type(type_text)
    if target == type_text and _has_type(expression, type_text):
        return sql
    return f"CAST({sql} AS {target})"


def as_declared(expression: exp.Expression, fields: Schema) -> exp.Expression:
    """Return `expression` over columns as they travel: JSON and UUID come as text and are read as what they are.

    Where JSON is taken apart the text does, without being parsed twice. Text that is no UUID is NULL.
    """
    types = {f.name: f.type.upper() for f in fields if f.type.upper() in _AS_TEXT}
    if not types or isinstance(expression.unnest(), exp.Column):
        return expression

    def cast(node: exp.Expr) -> exp.Expr:
        if not isinstance(node, exp.Column) or node.name not in types:
            return node
        above = node.parent
        while isinstance(above, exp.Paren):
            above = above.parent
        if types[node.name] == "JSON" and isinstance(above, exp.JSONExtract | exp.JSONExtractScalar):
            return node
        return exp.TryCast(this=node.copy(), to=exp.DataType.build(types[node.name], dialect="duckdb"))

    # the casts hold columns themselves, so they are found before any is put in
    copy = expression.copy()
    for found in list(copy.find_all(exp.Column)):
        new = cast(found)
        if new is not found:
            found.replace(new)
    return copy


def duration(microseconds: int) -> str:
    """Return a length of time in the largest unit that it is a whole number of."""
    for unit, size in (
        ("d", 86_400_000_000),
        ("h", 3_600_000_000),
        ("min", 60_000_000),
        ("s", 1_000_000),
        ("ms", 1_000),
    ):
        if microseconds and microseconds % size == 0:
            return f"{microseconds // size} {unit}"
    return f"{microseconds} us"


def motion_type(type_text: str) -> str:
    """Return the DuckDB type in which a column of `type_text` travels (as :func:`sabot.schema.arrow_type` maps it)."""
    text = type_text.strip()
    upper = text.upper()
    if upper in _AS_TEXT or upper.startswith("ENUM("):
        return "VARCHAR"
    if upper == "HUGEINT":
        return "DECIMAL(38,0)"
    if upper in ("NULL", '"NULL"'):
        return "INTEGER"
    if text.endswith("]"):
        at = text.rindex("[")
        return motion_type(text[:at]) + text[at:]
    if upper.startswith("STRUCT("):
        return struct_type([(name, motion_type(t)) for name, t in struct_fields(text)])
    return text


def struct_type(fields: list[tuple[str, str]]) -> str:
    """Return the DuckDB type text of a struct of (name, type text) `fields`."""
    return "STRUCT(" + ", ".join(f"{_plain_or_quoted(name)} {t}" for name, t in fields) + ")"


_KEYWORD_TEXT = (
    "all analyse analyze and anti any array as asc asof asymmetric at authorization binary both by case cast "
    "check collate collation column concurrently constraint create cross default deferrable desc describe "
    "distinct do else end except false fetch for foreign freeze from full glob group having ilike in initially "
    "inner intersect into is isnull join lambda lateral leading left like limit natural not notnull null offset "
    "on only or order outer overlaps pivot pivot_longer pivot_wider placing positional primary qualify references "
    "returning right select semi show similar some summarize symmetric table tablesample then to trailing true "
    "union unique unpack unpivot using variadic verbose when where window with"
)
_KEYWORDS = frozenset(_KEYWORD_TEXT.split())
"""Words that DuckDB takes as a field's name in quotes only."""


def _plain_or_quoted(name: str) -> str:
    plain = (
        name not in _KEYWORDS
        and name.isascii()
        and name.replace("_", "a").isalnum()
        and not name[0].isdigit()
        and name == name.lower()
    )
    return name if plain else quote(name)


def _has_type(expression: exp.Expression, type_text: str) -> bool:
    """Whether DuckDB surely gives `expression` the type, so that no cast need be written."""
    inner = expression.unnest()
    if isinstance(inner, exp.Column | exp.Dot):
        return True
    if isinstance(inner, exp.Predicate | exp.Connector | exp.Not):
        return type_text == "BOOLEAN"
    if isinstance(inner, exp.Cast) and not isinstance(inner, exp.TryCast):
        written = inner.to.sql("duckdb").upper().replace(", ", ",")
        return _SPELLED.get(written, written) == type_text.upper().replace(", ", ",")
    return False
