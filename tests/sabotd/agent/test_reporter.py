"""Reports reach the coordinator in order, whatever happens to one call."""

from __future__ import annotations

import threading

import pytest

from sabot.errors import ShuffleError
from sabotd.agent import messages as msg
from sabotd.agent import process
from sabotd.agent.process import Reporter


class Line:
    """Loses every other call, one of them after it has arrived."""

    def __init__(self, wanted: int) -> None:
        self.got: list[int] = []
        self.calls = 0
        self._wanted = wanted
        self.complete = threading.Event()

    def call_action(self, location: str, name: str, body: bytes, timeout_s: float = 10.0) -> bytes:
        self.calls += 1
        reports = msg.REPORTS.decode(body).reports
        if self.calls % 4 == 1:
            raise ShuffleError("no answer in time")
        for report in reports:
            assert isinstance(report, msg.EpochDone)
            if report.epoch not in self.got:
                self.got.append(report.epoch)
        if self.calls % 4 == 3:
            raise ShuffleError("the answer was lost")
        if len(self.got) == self._wanted:
            self.complete.set()
        return b""


def test_a_report_that_did_not_arrive_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_AGAIN_S", 0.001)
    line = Line(50)
    reporter = Reporter("a1", "there", line)  # type: ignore[arg-type]
    for epoch in range(50):
        reporter(msg.EpochDone("j", 1, "t/0", epoch, 0))
    assert line.complete.wait(30)
    reporter.close()
    assert line.got == list(range(50))


def test_closing_does_not_wait_for_a_coordinator_that_is_gone() -> None:
    class Gone:
        def call_action(self, location: str, name: str, body: bytes, timeout_s: float = 10.0) -> bytes:
            raise ShuffleError("nobody there")

    reporter = Reporter("a1", "nowhere", Gone())  # type: ignore[arg-type]
    reporter(msg.EpochDone("j", 1, "t/0", 1, 0))
    reporter.close()
    assert not reporter._thread.is_alive()
