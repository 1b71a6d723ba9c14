"""State that finds no room on the disk ends its task with that reason."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from cython_shuffle.frames import Barrier
from planner.task_spec import RecomputeOp
from sabot.errors import JobError
from sabotd.operators.factory import make_operator
from sabotd.state.duckdb_state import TaskDatabase
from tests.oracle.harness import columns


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB; mounting it takes root, which tests in containers are."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill(db: TaskDatabase) -> None:
    """Keep rows until something gives way."""
    schema = pa.schema([("k", pa.int64()), ("s", pa.string())])
    kept = columns(k="BIGINT", s="VARCHAR")
    op = RecomputeOp((kept,), (("k",),), "SELECT k, max(s) AS s FROM input GROUP BY k", kept)
    operator = make_operator(op, db, [schema])
    try:
        for epoch in range(200):
            ids = range(epoch * 20_000, (epoch + 1) * 20_000)
            texts = [f"{i * 2654435761 % 2**61:020d}" * 3 for i in ids]
            operator.process(0, pa.record_batch({"k": pa.array(ids), "s": texts}, schema))
            operator.barrier(Barrier(epoch))
    finally:
        operator.close()


def test_a_full_disk_is_the_stated_reason(small_disk: Path) -> None:
    db = TaskDatabase(small_disk, 40, "t")
    with pytest.raises(JobError, match="the state has outgrown the disk") as failed:
        fill(db)
    assert failed.value.sqlstate == "53100"
    db.close()
    assert list(small_disk.iterdir()) == [], "its room is free for the others"


def test_so_is_the_limit_of_a_task(tmp_path: Path) -> None:
    db = TaskDatabase(tmp_path, 40, "t", spill_bytes=8 << 20)
    with pytest.raises(JobError, match=r"the state has outgrown the disk: .*MiB used") as failed:
        fill(db)
    assert "agents.spill_limit" in (failed.value.hint or "")
    db.close()
