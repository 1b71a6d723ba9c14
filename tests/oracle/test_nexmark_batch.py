"""Nexmark's queries as views, run over the generator's events in cuts: in the end what DuckDB says of the file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from bench import nexmark_queries as nexmark
from planner.plan import plan_view
from planner.task_spec import SourceOp
from sabot.ids import JobId
from sabot.schema import arrow_schema
from sabotd.connectors.nexmark import write_ndjson
from sabotd.state.duckdb_state import TaskDatabase
from tests.oracle.harness import fold
from tests.oracle.test_queries import OneDatabase, ShufflingRunner
from tests.support import job_runner
from tests.support.memory_catalog import MemoryCatalog

EVENTS = 1500


@pytest.fixture(autouse=True)
def one_database(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    database = TaskDatabase(None, 512, "nexmark")
    monkeypatch.setattr(job_runner, "TaskDatabase", lambda *_: OneDatabase(database))
    yield
    database.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nexmark") / "events.json"
    write_ndjson(path, EVENTS)
    return path


@pytest.mark.parametrize("name", nexmark.QUERIES)
def test_a_nexmark_view_is_the_batch_answer(name: str, file: Path) -> None:
    catalog = MemoryCatalog(";".join([*nexmark.source_ddl(file), *nexmark.VIEWS]))
    number = int(name[1:])
    parallelism = (1, 2, 4, 7)[number % 4]
    job = plan_view(catalog.bind(nexmark.QUERIES[name]), job_id=JobId("mv:v"), relation="v", parallelism=parallelism)
    with duckdb.connect(config={"threads": 1}) as con:
        con.execute("SET TimeZone = 'UTC'; SET integer_division = true")
        types = {f.name: f.type for f in catalog.schema("nexmark")}
        rows = con.read_json(str(file), format="newline_delimited", columns=types).to_arrow_table()
        wanted = fold(Counter(), con.sql(nexmark.batch_sql(name, file)).to_arrow_table().to_batches())
    events = rows.cast(arrow_schema(catalog.schema("nexmark"))).combine_chunks().to_batches()[0]
    runner = ShufflingRunner(job.spec, parallelism)
    sources = {n.op.relation: n.op for t in job.spec.tasks for n in t.nodes if isinstance(n.op, SourceOp)}
    try:
        for op in sources.values():
            if op.connector == "datagen":  # the side table's numbers
                schema = arrow_schema(op.declared)
                numbers = pa.array(range(int(dict(op.options)["rows"])), schema.field(0).type)
                runner.feed(op.relation, pa.RecordBatch.from_arrays([numbers], schema=schema))
        for start in range(0, EVENTS, 600):
            runner.feed("nexmark", events.take(pa.array(range(start, min(start + 600, EVENTS)), pa.int64())))
            runner.barrier()
        assert runner.end() == wanted
    finally:
        runner.close()
    assert wanted or name in ("q2", "q8", "q14")
