"""Bounds of a sink that is partitioned by range, chosen from the rows that are there when it is created."""

from __future__ import annotations

import duckdb

from cython_shuffle.placed import sample_bounds
from sabot.errors import ShuffleError, SqlError
from sabot.schema import literal, quote
from sabotd.catalog_store import CatalogStore
from sabotd.select_guard import check_select
from sabotd.state.store import Store
from sql_frontend.binder import bind_select
from sql_frontend.parse import parse_statement
from sql_frontend.statements import CreateSink

_SAMPLED_ROWS = 20_000
_MOST = 1024
_HINT = "give the bounds yourself: partition_bounds = '100, 200' makes three ranges"


def with_sampled_bounds(statement: CreateSink, catalog: CatalogStore, store: Store) -> CreateSink:
    """Return the statement with `partition_bounds` written into it where it asks for `partitions` alone.

    The bounds cut a sample of the column `partition_by` into about equal parts. They stand in the statement that is
    kept, so a restart has the same ones.

    Raises
    ------
    SqlError
        The number of ranges is none, or there is nothing to sample.
    """
    options = dict(statement.options)
    column, wanted = options.get("partition_by"), options.get("partitions")
    if wanted is None or column is None or "partition_bounds" in options:
        return statement
    spans = dict(statement.option_spans)
    span = spans["partitions"]
    if not wanted.isdigit() or not 2 <= int(wanted) <= _MOST:
        msg = f"option 'partitions' is {wanted!r}, it takes a number from 2 to {_MOST}"
        raise SqlError(msg, span=span, text=statement.text, sqlstate="22023")
    source = f"({statement.query})" if statement.query is not None else quote(statement.from_relation or "")
    try:
        sql = bind_select(f"SELECT {quote(column)} AS key FROM {source} AS rows", catalog).sql
        with store.reader() as connection:
            check_select(connection, sql)
            keys = connection.sql(f"SELECT key FROM ({sql}) USING SAMPLE {_SAMPLED_ROWS} ROWS").to_arrow_table()[0]
        bounds = [str(b.as_py()) for b in sample_bounds(keys, int(wanted))]
    except (SqlError, ShuffleError, duckdb.Error) as error:
        said = str(error).splitlines()[0].partition("Error: ")
        msg = f"column {column!r} cannot be sampled for its ranges: {said[2] or said[0]}"
        raise SqlError(msg, span=span, text=statement.text, hint=_HINT, sqlstate="22023") from error
    if any("," in b for b in bounds):
        msg = f"values of {column!r} hold commas, which part bounds"
        raise SqlError(msg, span=span, text=statement.text, hint=_HINT, sqlstate="22023")
    text, end = statement.text, span.end
    made = parse_statement(f"{text[:end]}, partition_bounds = {literal(', '.join(bounds))}{text[end:]}")
    assert isinstance(made, CreateSink)
    return made
