"""PostgreSQL's operators that reach into JSON, by member, place or path."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence

from sqlglot import exp

from sql_frontend.functions import function
from sql_frontend.query_tokens import MARK


def member_of(resolve: Callable[[exp.Expr], exp.Expression], node: exp.Expr) -> exp.Expression:
    """Return DuckDB's expression of ``->``, ``->>``, ``#>`` and ``#>>``."""
    value = resolve(node.this)
    path = node.expression
    as_text = isinstance(node, exp.JSONBExtractScalar)
    name = "json_extract_string" if as_text else "json_extract"
    if isinstance(path, exp.Literal) and path.name.startswith(MARK):
        return function(name, value, exp.Literal.string(_json_path([path.name.removeprefix(MARK)])))
    if isinstance(path, exp.Literal) and path.is_string:
        inner = path.name.strip()
        keys = _path_keys(inner[1:-1]) if inner.startswith("{") and inner.endswith("}") else [inner]
        found = [function(name, value.copy(), exp.Literal.string(_json_path(p))) for p in _readings(keys)]
        return found[0] if len(found) == 1 else exp.Coalesce(this=found[0], expressions=found[1:])
    index = path.this if isinstance(path, exp.Neg) else path
    if isinstance(index, exp.Literal) and index.name.isdigit():
        step = int(index.name) if index is path else -int(index.name)
        return function(name, value, exp.Literal.string(_json_path([step])))
    return function(name, value, resolve(path))


def _json_path(steps: Sequence[str | int]) -> str:
    path = "$"
    for step in steps:
        if isinstance(step, int):
            path += f"[{step}]" if step >= 0 else f"[#{step}]"
        else:
            escaped = str(step).replace("\\", "\\\\").replace('"', '\\"')
            path += f'."{escaped}"'
    return path


def _path_keys(text: str) -> list[str]:
    """Return the elements of a text array without its braces."""
    if not text.strip():
        return []
    return [k.strip() for k in next(csv.reader([text], skipinitialspace=True, escapechar="\\", doublequote=False))]


def _readings(keys: Sequence[str]) -> list[list[str | int]]:
    """Return the paths that `keys` may mean: a number is an element of an array or a member of an object."""
    found: list[list[str | int]] = [[]]
    for key in keys:
        steps: list[str | int] = [int(key), key] if re.fullmatch(r"-?\d{1,9}", key) else [key]
        found = [[*path, step] for path in found for step in steps]
    return found
