"""Nexmark plans run on the real operators and give DuckDB's batch answer."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest

from planner.plan import plan_view
from sabot.ids import JobId
from tests.support.batch_meaning import batch_answer
from tests.support.job_runner import JobRunner
from tests.support.nexmark_plans import QUERIES
from tests.support.nexmark_rows import nexmark_rows

CASES = [(name, parallelism) for name in sorted(QUERIES) for parallelism in (1, 3)] + [("q5", 7), ("q7_on_close", 4)]


@pytest.mark.parametrize(("name", "parallelism"), CASES)
def test_a_view_equals_the_batch_query_after_every_epoch(name: str, parallelism: int) -> None:
    query = QUERIES[name]
    job = plan_view(query, job_id=JobId("mv:v"), relation="v", parallelism=parallelism)
    rng = random.Random(f"{name}{parallelism}")
    rows = nexmark_rows(rng, 120)
    runner = JobRunner(job.spec, parallelism)
    try:
        for start in range(0, 120, 40):
            runner.feed("nexmark", rows.slice(start, 40))
            shown = runner.barrier()
            if not name.endswith("on_close"):
                table = pa.Table.from_batches([rows.slice(0, start + 40)])
                assert shown == batch_answer(query.root, {"nexmark": table})
        shown = runner.end()
        assert shown == batch_answer(query.root, {"nexmark": pa.Table.from_batches([rows])})
        assert sum(shown.values()) > 0
        if job.output.append_only:
            assert sum(shown.values()) == len(runner.emitted)
    finally:
        runner.close()
