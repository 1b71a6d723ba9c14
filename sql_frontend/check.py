"""Resolved expressions as DuckDB's binder sees them: their types, and the smallest part that is wrong."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
from sqlglot import exp

from sabot.schema import Schema
from sql_frontend.duck import describe, first_line
from sql_frontend.origin import Origin


def check_types(fields: Schema, items: Sequence[exp.Expression], origin: Origin) -> list[str]:
    """Return DuckDB's type of each of `items` over an input of `fields`.

    Raises
    ------
    SqlError
        42804 with DuckDB's reason, at the smallest part of the expression that is wrong.
    """
    if not items:
        return []
    texts = tuple(render(i) for i in items)
    try:
        return list(describe(fields, texts))
    except duckdb.Error as error:
        bad, reason = _offender(fields, items, error)
        said = str(reason)
        hint = None
        if "explicit type casts" in said:
            hint = "cast the arguments: x::TYPE"
        elif "Did you mean" in said:
            hint = "did you mean " + said.split("Did you mean", 1)[1].split("\n", maxsplit=1)[0].strip()
        raise origin.error(first_line(reason), bad, hint=hint, sqlstate="42804") from error


_PARTS = (exp.Identifier, exp.DataType, exp.Var, exp.If, exp.Slice, exp.PropertyEQ, exp.Kwarg, exp.Lambda)
"""What is no expression by itself."""


def _offender(
    fields: Schema, items: Sequence[exp.Expression], error: duckdb.Error
) -> tuple[exp.Expr | None, duckdb.Error]:
    for item in items:
        for node in reversed(list(item.walk(bfs=True))):
            if isinstance(node, _PARTS) or node.find_ancestor(exp.Lambda) is not None:
                continue
            try:
                describe(fields, (render(node),))
            except duckdb.Error as reason:
                return node, reason
    return None, error


def render(node: exp.Expr) -> str:
    """Return DuckDB SQL of a resolved expression."""
    return node.sql("duckdb")
