"""Other systems' cases, read from a folder: each passes, or is on the list of those that do not yet.

The folder comes by ``--acceptance-cases``; without it there is nothing to run. ``not_yet.txt`` names the cases that
are known to fail: one of them that passes fails the run, so that the list only gets shorter. ``left_out.txt`` names
those that rest on another system's internals, with the reason.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.cases import Case, load
from tests.acceptance.runner import Acceptance

_HERE = Path(__file__).parent
_MOST_LEFT_OUT = 0.05


def _names(file: str) -> dict[str, str]:
    lines = (line.split("#", 1)[0].strip() for line in (_HERE / file).read_text().splitlines())
    return {name: reason.strip() for name, _, reason in (line.partition(":") for line in lines if line)}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" not in metafunc.fixturenames:
        return
    folder = metafunc.config.getoption("--acceptance-cases")
    if folder is None:
        reason = "no folder of cases is given"
        metafunc.parametrize("case", [pytest.param(None, marks=pytest.mark.skip(reason=reason))])
        return
    cases = load(Path(folder), Path(tempfile.mkdtemp(prefix="acceptance-")))
    left_out = _names("left_out.txt")
    not_yet = {} if metafunc.config.getoption("--update-not-yet") else _names("not_yet.txt")
    assert len(left_out) <= _MOST_LEFT_OUT * max(len(cases), 1), "too many cases are left out"
    assert not not_yet.keys() & left_out.keys(), "a case is on both lists"
    marks = {name: pytest.mark.xfail(strict=True, reason="not yet") for name in not_yet}
    marks |= {name: pytest.mark.skip(reason=reason) for name, reason in left_out.items()}
    metafunc.parametrize("case", [pytest.param(c, id=c.name, marks=marks.get(c.name, ())) for c in cases])


@pytest.fixture(scope="module")
def acceptance() -> Iterator[Acceptance]:
    server = Acceptance()
    yield server
    server.close()


def test_case(case: Case, acceptance: Acceptance) -> None:
    failures = acceptance.run(case)
    assert not failures, "\n".join(map(str, failures))
