"""Loads the fixtures: each tests/support/fix_*.py is a plugin."""

import signal
from pathlib import Path

pytest_plugins = sorted(f"tests.support.{path.stem}" for path in Path(__file__).parent.glob("support/fix_*.py"))

# a shell's background job ignores SIGINT, and so would the programs that the tests start and interrupt
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
