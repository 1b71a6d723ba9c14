"""Runs cases by seed after seed, adds up what became of them, and shrinks what fails."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tests.oracle.fuzz import in_process
from tests.oracle.fuzz.closing_cases import make_closing_case
from tests.oracle.fuzz.conflicts import with_conflicts
from tests.oracle.fuzz.history import Case, make_case
from tests.oracle.fuzz.in_process import Failure, Outcome
from tests.oracle.fuzz.on_daemon import Server
from tests.oracle.fuzz.shrink import Shrinker, script

CLOSING = 4
"""One case of so many is of relations with a watermark."""


@dataclass
class Tally:
    """What became of the cases so far."""

    cases: int = 0
    views: int = 0
    compared: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    no_queries: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[Case, Failure]] = field(default_factory=list)

    def add(self, case: Case, outcome: Outcome) -> None:
        """Count a case."""
        self.cases += 1
        self.views += outcome.views
        self.compared += outcome.compared
        self.refused += outcome.refused
        self.no_queries += outcome.no_queries
        if outcome.failure is not None:
            self.failed.append((case, outcome.failure))

    def merge(self, other: Tally) -> None:
        """Add the counts of `other`."""
        self.cases += other.cases
        self.views += other.views
        self.compared += other.compared
        self.refused += other.refused
        self.no_queries += other.no_queries
        self.failed += other.failed

    def report(self) -> str:
        """Return the counts, and the reasons for which views were refused."""
        share = 100 * sum(self.refused.values()) / max(self.views, 1)
        lines = [
            f"{self.cases} cases, {self.views} views, compared {self.compared} times, {len(self.failed)} cases failed",
            f"refused {sum(self.refused.values())} views ({share:.1f} %), no queries {sum(self.no_queries.values())}",
        ]
        lines += [f"  refused {count} x {reason}" for reason, count in self.refused.most_common()]
        lines += [f"  no query {count} x {reason}" for reason, count in self.no_queries.most_common()]
        return "\n".join(lines)


def runner(server: Server | None) -> Callable[[Case], Outcome]:
    """Return what runs a case: in this process, or on `server`."""
    return in_process.run if server is None else server.run


def shrunk(case: Case, failure: Failure, run: Callable[[Case], Outcome], runs: int) -> str:
    """Return a script of SQL that shows a failure, as small as `runs` tries make it."""
    return script(*Shrinker(case, failure, lambda c: run(c).failure, runs).shrink())


def campaign(
    seeds: Iterable[int],
    server: Server | None,
    *,
    views: int = 4,
    until: float | None = None,
    tell: Callable[[str], None] = lambda _: None,
    shrink_runs: int = 400,
) -> Tally:
    """Run the cases of `seeds`; stop at `until` (of time.monotonic)."""
    tally = Tally()
    run = runner(server)
    for seed in seeds:
        if until is not None and time.monotonic() > until:
            break
        closing = seed % CLOSING == CLOSING - 1
        case = make_closing_case(seed, views) if closing else with_conflicts(make_case(seed, views))
        outcome = run(case)
        tally.add(case, outcome)
        if outcome.failure is not None:
            tell(shrunk(case, outcome.failure, run, shrink_runs))
    return tally
