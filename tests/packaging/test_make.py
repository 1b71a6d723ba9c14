"""The Makefile's promises that can be held cheaply."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_target_is_listed():
    # --no-print-directory: the tests may run below another make
    command = ["make", "--no-print-directory", "help"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    named = {line.split()[0] for line in listed.splitlines()}
    assert {"setup", "build", "check", "test", "golden", "bench", "bench-shuffle", "demo", "docs", "clean"} <= named
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert phony is not None
    assert named == set(phony[1].split())


def test_setup_names_what_is_missing(tmp_path):
    script = ROOT / "scripts" / "setup.sh"
    bare = {"PATH": str(tmp_path), "PYTHON": "no-such-python"}
    done = subprocess.run(["/bin/sh", script], cwd=tmp_path, env=bare, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "setup: no Python 3.11 or newer found; install python3.11 or set PYTHON\n"
