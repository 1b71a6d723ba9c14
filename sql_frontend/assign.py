"""The rows of a query as rows for a table's columns: by place, in their types."""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from planner.logical import Query, schema_of
from sabot.errors import Span, SqlError
from sabot.schema import Schema
from sql_frontend import build
from sql_frontend.casts import cast
from sql_frontend.origin import Origin


def assigned_to(query: Query, columns: Schema, text: str, span: Span) -> Query:
    """Return `query` with the names and types of `columns`, the first ones if it has fewer.

    A value that does not cast is NULL, as in any view.

    Raises
    ------
    SqlError
        The query has more columns, or one of a type that cannot become the column's; at `span` of `text`.
    """
    fields = schema_of(query.root)
    if len(fields) > len(columns):
        msg = f"{len(columns)} columns to fill, {len(fields)} given"
        raise SqlError(msg, span=span, text=text, sqlstate="42601")
    items: list[tuple[str, exp.Expression]] = []
    for field, wanted in zip(fields, columns, strict=False):
        value: exp.Expression = build.column(field.name)
        items.append((wanted.name, value if field.type == wanted.type else cast(value, field.type, wanted.type)))
    try:
        return replace(query, root=build.project(query.root, items, Origin(text, span.start)))
    except SqlError as error:
        shown = ", ".join(f"{f.name} {f.type}" for f in fields)
        msg = f"the rows do not fit the table: {error.message}"
        raise SqlError(msg, span=span, text=text, hint=f"they are ({shown})", sqlstate="42804") from error
