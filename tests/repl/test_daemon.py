"""`sabot` with a real sabotd: the embedded one that it starts itself, and one that runs.

Starts two daemons with their agents (that is its time, about 2 s each).
"""

import os
import re
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.support.fix_repl import SABOT, Terminal

ROOT = Path(__file__).parents[2]


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "HOME": str(home), "XDG_STATE_HOME": str(home), "TMPDIR": str(home), "PYTHONPATH": str(ROOT)}


def run(home: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*SABOT, *arguments], input=stdin, env=environment(home), capture_output=True, text=True, check=False
    )


def test_the_embedded_daemon_keeps_data_and_ends_with_the_program(tmp_path):
    data = tmp_path / "kept"
    script = (
        "CREATE TABLE t (k TEXT, n INT); INSERT INTO t VALUES ('a', 1), ('a', 2), ('b', 3);\n"
        "CREATE MATERIALIZED VIEW v AS SELECT k, sum(n) AS s FROM t GROUP BY k;\nFLUSH;\n"
        "SELECT * FROM v ORDER BY k;\nCREATE MATERIALIZED VIEW w AS\n  SELECT nope FROM t;\nSELECT 1;\n"
    )
    done = run(tmp_path, "--data", str(data), stdin=script)
    assert done.stdout == (
        "CREATE TABLE\nINSERT 0 3\nCREATE MATERIALIZED VIEW\nFLUSH\n k | s\n---+---\n a | 3\n b | 3\n(2 rows)\n\n"
    )
    assert done.returncode == 1
    assert re.search(r"error: column 'nope' .*\nline 6, column 10\n +SELECT nope FROM t\n +\^\^\^\^", done.stderr)
    left = [p for p in psutil.process_iter(["cmdline"]) if str(data) in " ".join(p.info["cmdline"] or ())]
    assert left == []
    again = run(tmp_path, "--data", str(data), "--format", "json", "-c", "SELECT sum(n) AS n FROM t")
    assert again.stdout == '{"n":6}\n'
    assert {p.name for p in tmp_path.iterdir()} <= {"kept", "sabot"}, "nothing else is left in the temporary folder"


def test_a_data_folder_that_cannot_be_used_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    done = run(tmp_path, "--data", str(tmp_path / "file"), "-c", "SELECT 1")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: ")


@pytest.fixture
def prompt(tmp_path):
    term = Terminal([*SABOT], environment(tmp_path), lines=30, columns=100)
    term.wait_for(r"^sabot>", timeout_s=60)
    yield term
    term.close()


def test_a_stream_at_the_prompt(prompt):
    prompt.send("create table t (k text, n int);\r")
    prompt.wait_for(r"^CREATE TABLE")
    prompt.send("create materialized view v as select k, sum(n) as s from t group by k;\r")
    prompt.wait_for(r"^CREATE MATERIALIZED VIEW")
    prompt.send("insert into t values ('a', 1), ('b', 2);\r")
    prompt.wait_for(r"^INSERT 0 2")
    prompt.send("flush;\r")
    prompt.wait_for(r"^FLUSH")
    prompt.send("subscribe v;\r")
    prompt.wait_for(r"^ (a \| 1|b \| 2)\n (a \| 1|b \| 2)\n\(2 rows")
    prompt.send("\x03")
    prompt.wait_for(r"^cancelled")
    prompt.send("\\d v\r")
    prompt.wait_for(r"^ k +\| VARCHAR[^$]*^\(2 rows\)\s+^create materialized view v as select k, sum\(n\)")
    prompt.send("\\jobs\r")
    prompt.wait_for(r"^ mv:v +\| RUNNING")
    prompt.send("\x04")
    assert prompt.wait_end() == 0
