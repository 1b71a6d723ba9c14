"""Options of tests/acceptance, the table that it prints, and the list of what does not pass yet."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import pytest

from tests.acceptance.cases import Case

_TABLE = pytest.StashKey[defaultdict[str, Counter[str]]]()
_FAILED = pytest.StashKey[list[str]]()
_NOT_YET = Path(__file__).parent.parent / "acceptance" / "not_yet.txt"
_COLUMNS = ("passed", "failed", "not yet", "left out")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--acceptance-cases", metavar="FOLDER", help="run the acceptance cases in FOLDER")
    parser.addoption("--update-not-yet", action="store_true", help="write tests/acceptance/not_yet.txt anew")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_TABLE] = defaultdict(Counter)
    config.stash[_FAILED] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> object:
    report: pytest.TestReport = yield
    case = getattr(getattr(item, "callspec", None), "params", {}).get("case")
    case = case.name if isinstance(case, Case) else None
    if case is not None and (report.when == "call" or (report.when == "setup" and not report.passed)):
        waits = hasattr(report, "wasxfail")
        outcome = ("not yet" if waits else "left out") if report.skipped else report.outcome
        item.config.stash[_TABLE][str(case).split("/")[0]][outcome] += 1
        if report.failed:
            item.config.stash[_FAILED].append(str(case))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    table = config.stash[_TABLE]
    if not table:
        return
    if config.getoption("--update-not-yet"):
        head = "# cases that are known not to pass yet; made by --update-not-yet\n"
        _NOT_YET.write_text(head + "".join(f"{name}\n" for name in sorted(config.stash[_FAILED])))
    terminalreporter.section("acceptance cases")
    lines = [("folder", *_COLUMNS)]
    lines += [(folder, *(str(counts[c]) for c in _COLUMNS)) for folder, counts in sorted(table.items())]
    total: Counter[str] = sum(table.values(), Counter())
    lines.append(("all", *(str(total[c]) for c in _COLUMNS)))
    for first, *others in lines:
        terminalreporter.write_line(f"{first:16}" + "".join(f"{o:>10}" for o in others))
