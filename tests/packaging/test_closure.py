"""Nothing that the daemon needs at run time is built from Rust."""

import mmap
import re
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

RUST_GENERATORS = re.compile(r"maturin|setuptools[-_]rust", re.IGNORECASE)
RUST_TRACES = (b"/rustc/", b"cargo/registry", b"rust_eh_personality", b"rust_begin_unwind")
DEPENDENCIES_PAGE = Path(__file__).parents[2] / "docs" / "dependencies.md"


def closure(root: str) -> dict[str, Distribution]:
    """Return what `root` needs, itself excluded; an extra counts only where somebody asks for it."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    todo = [(root, "")]
    while todo:
        name, extra = todo.pop()
        key = re.sub(r"[-_.]+", "-", name).lower()
        if (key, extra) in seen:
            continue
        seen.add((key, extra))
        found[key] = dist = distribution(name)
        for text in dist.requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                todo += [(requirement.name, wanted) for wanted in ("", *requirement.extras)]
    del found[root]
    return found


def rust_traces(dist: Distribution) -> list[str]:
    traces = []
    if match := RUST_GENERATORS.search(dist.read_text("WHEEL") or ""):
        traces.append(f"WHEEL: {match[0]}")
    for file in dist.files or ():
        path = Path(str(dist.locate_file(file)))
        if ".so" in path.name and path.stat().st_size:
            with path.open("rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as content:
                traces += [f"{file}: {trace.decode()}" for trace in RUST_TRACES if content.find(trace) >= 0]
    return traces


def test_run_time_closure_is_free_of_rust():
    needed = closure("sabot")
    assert {"duckdb", "pyarrow", "dbos", "sqlalchemy", "psycopg-binary"} <= needed.keys()
    assert not {"ruff", "polars"} & needed.keys()
    guilty = {name: traces for name, dist in needed.items() if (traces := rust_traces(dist))}
    assert guilty == {}


def test_the_search_finds_rust_where_there_is_some():
    assert rust_traces(distribution("ruff"))


def test_the_page_names_every_direct_dependency():
    page = DEPENDENCIES_PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `([a-z0-9-]+)`", page, re.MULTILINE))
    requirements = [Requirement(text) for text in distribution("sabot").requires or ()]
    assert named == {r.name for r in requirements}
