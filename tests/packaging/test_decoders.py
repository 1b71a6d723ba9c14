"""msgspec looks a class over at its first decoding, and crashes when two threads do so at once."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
AT_THE_CALL = re.compile(r"msgspec\.(?:json|msgpack)\.decode\([^)]*type=(?!dict\[|list\[)|msgspec\.convert\(")


def test_decoders_of_classes_are_made_at_import() -> None:
    packages = ("sabot", "planner", "sql_frontend", "cython_shuffle", "sabotd", "repl")
    files = [file for package in packages for file in (ROOT / package).rglob("*.py")]
    assert len(files) > 150
    found = [str(file.relative_to(ROOT)) for file in files if AT_THE_CALL.search(file.read_text())]
    assert found == [], "make a Decoder beside the class"
