"""Nexmark's queries bind over files and over the generator, and mean what DuckDB's batch forms say."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import duckdb
import pytest

from bench import nexmark_queries as nexmark
from planner.logical import Emit
from sabotd.connectors.nexmark import write_ndjson
from tests.support.batch_meaning import batch_sql
from tests.support.job_runner import freeze
from tests.support.memory_catalog import MemoryCatalog


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nexmark") / "events.ndjson"
    write_ndjson(path, 40_000, {"event_rate": "1000"})
    return path


@pytest.mark.parametrize("name", nexmark.QUERIES)
def test_a_query_means_its_batch_form(name: str, events: Path) -> None:
    catalog = MemoryCatalog(";".join([*nexmark.source_ddl(events), *nexmark.VIEWS]))
    plan = catalog.bind(nexmark.QUERIES[name])
    structs = f"person: 'STRUCT({nexmark.PERSON})', auction: 'STRUCT({nexmark.AUCTION})', bid: 'STRUCT({nexmark.BID})'"
    with duckdb.connect() as con:
        con.execute("SET integer_division = true; SET TimeZone = 'UTC'")
        con.execute(
            f"CREATE TABLE nexmark AS FROM read_json('{events}', format = 'newline_delimited', "
            f"columns = {{event_type: 'BIGINT', {structs}}})"
        )
        meant = Counter(map(freeze, con.execute(nexmark.batch_sql(name, events)).fetchall()))
        assert Counter(map(freeze, con.execute(batch_sql(plan.root)).fetchall())) == meant
        assert meant


@pytest.mark.parametrize("name", ["q5", "q7", "q8"])
def test_windowed_queries_can_emit_on_close_over_the_generator(name: str) -> None:
    catalog = MemoryCatalog(";".join([nexmark.GENERATOR_SOURCE, *nexmark.GENERATOR_VIEWS]))
    assert catalog.bind(nexmark.QUERIES[name], emit_on_window_close=True).emit is Emit.ON_WINDOW_CLOSE
