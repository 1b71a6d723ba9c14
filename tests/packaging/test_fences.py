"""Who may import which vendor: the exact pairs that ruff's per-file exceptions are too coarse for."""

import ast
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("sabot", "planner", "sql_frontend", "cython_shuffle", "sabotd", "repl")
FENCES = {
    "sqlglot.expressions": ("sql_frontend/*", "planner/*"),
    "sqlglot": ("sql_frontend/*", "planner/*"),
    "pyarrow.flight": ("cython_shuffle/transport*.py", "sabotd/serve/*", "sabot/client*.py"),
    "prompt_toolkit": ("repl/*",),
    "dbos": ("sabotd/control/*",),
}
# sqlglot parses in one place; the planner may only build and render expressions
PARSERS = {"parse", "parse_one", "maybe_parse", "tokenize", "Parser", "Tokenizer", "parser", "tokens"}


def modules() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def fenced(name: str) -> str | None:
    return next((vendor for vendor in FENCES if f"{name}.".startswith(f"{vendor}.")), None)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_vendors_stay_behind_their_fences(path):
    relative = str(path.relative_to(ROOT))
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for name in imports(tree):
        vendor = fenced(name)
        if vendor:
            assert any(fnmatch(relative, allowed) for allowed in FENCES[vendor]), f"{relative} imports {name}"
        if relative.startswith("planner/") and name.startswith("sqlglot."):
            assert not PARSERS & set(name.split(".")), f"{relative} imports sqlglot's parser"
    if relative.startswith("planner/"):
        calls = {n.func.attr for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)}
        assert not calls & {"parse_one", "maybe_parse"}, f"{relative} calls sqlglot's parser"


def test_the_fences_catch():
    assert fenced("pyarrow.flight") == fenced("pyarrow.flight.connect") == "pyarrow.flight"
    assert fenced("pyarrow.flights") is None
    assert fenced("dbos.DBOS") == "dbos"
