"""``make fuzz``: random cases for as long as one likes; each that fails is printed as a script of SQL."""

from __future__ import annotations

import argparse
import itertools
import sys
import time

from tests.oracle.fuzz.campaign import Tally, campaign
from tests.oracle.fuzz.on_daemon import Server

# cases in this process for each on a daemon: a process of its own is dear
_IN_PROCESS = 15


def main() -> int:
    """Run; the exit code tells whether something failed."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=None, help="the first seed; by default the time's")
    parser.add_argument("--cases", type=int, default=None, help="how many cases at most")
    given = parser.parse_args()
    first = int(time.time()) if given.seed is None else given.seed
    print(f"fuzz: seeds from {first} on", flush=True)
    until = time.monotonic() + given.minutes * 60
    total = Tally()
    server = Server()
    try:
        seeds = iter(range(first, first + given.cases) if given.cases is not None else itertools.count(first))
        while time.monotonic() < until:
            taken = list(itertools.islice(seeds, _IN_PROCESS + 1))
            if not taken:
                break
            for part, where in ((taken[:1], server), (taken[1:], None)):
                tally = campaign(part, where, until=until, tell=lambda text: print(text, flush=True))
                total.merge(tally)
    finally:
        server.close()
    print(total.report())
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
