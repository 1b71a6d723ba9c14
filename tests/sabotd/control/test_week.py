"""The control database after a week: what has ended is pruned, and so it stays small."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[3] / "bench" / "control_week.py"
LIMIT_BYTES = 50_000_000


@pytest.mark.parametrize("database", ["SQLite", "PostgreSQL"])
def test_a_week_of_faults_stays_small(request: pytest.FixtureRequest, database: str) -> None:
    """Takes seconds: some thousand workflows."""
    arguments = ["--every", "60", "--beats", "50"]
    if database == "PostgreSQL":
        arguments += ["--database", request.getfixturevalue("postgres").new_database()]
    done = subprocess.run([sys.executable, str(BENCH), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["kept"] < 20, "an hour's"
    assert told["pruned"] > 168, "one for each fault at least"
    assert told["largest_bytes"] < LIMIT_BYTES
