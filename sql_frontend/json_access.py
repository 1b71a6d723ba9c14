"""PostgreSQL's operators that reach into JSON, by member, place or path."""

from __future__ import annotations

import csv
from collections.abc import Callable

from sqlglot import exp

from sql_frontend.functions import function
from sql_frontend.json_path import by_keys, json_path
from sql_frontend.query_tokens import MARK


def member_of(resolve: Callable[[exp.Expr], exp.Expression], node: exp.Expr) -> exp.Expression:
    """Return DuckDB's expression of ``->``, ``->>``, ``#>`` and ``#>>``."""
    value = resolve(node.this)
    path = node.expression
    as_text = isinstance(node, exp.JSONBExtractScalar)
    name = "json_extract_string" if as_text else "json_extract"
    if isinstance(path, exp.Literal) and path.name.startswith(MARK):
        return function(name, value, exp.Literal.string(json_path([path.name.removeprefix(MARK)])))
    if isinstance(path, exp.Literal) and path.is_string:
        inner = path.name.strip()
        keys = _path_keys(inner[1:-1]) if inner.startswith("{") and inner.endswith("}") else [inner]
        return by_keys(name, value, keys)
    index = path.this if isinstance(path, exp.Neg) else path
    if isinstance(index, exp.Literal) and index.name.isdigit():
        step = int(index.name) if index is path else -int(index.name)
        return function(name, value, exp.Literal.string(json_path([step])))
    return function(name, value, resolve(path))


def _path_keys(text: str) -> list[str]:
    """Return the elements of a text array without its braces."""
    if not text.strip():
        return []
    return [k.strip() for k in next(csv.reader([text], skipinitialspace=True, escapechar="\\", doublequote=False))]
