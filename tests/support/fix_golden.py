"""The fixture `golden`: text compared with a file, or written there with ``--update-golden``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write tests/golden anew instead of comparing")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    update = request.config.getoption("--update-golden")

    def check(name: str, text: str) -> None:
        path = FOLDER / name
        if update:
            path.write_text(text)
        assert path.exists(), f"no {path}: run make golden"
        assert text == path.read_text(), f"{path.name} differs: run make golden and look at the difference"

    return check
