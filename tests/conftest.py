"""Loads the fixtures: each tests/support/fix_*.py is a plugin."""

from pathlib import Path

pytest_plugins = sorted(f"tests.support.{path.stem}" for path in Path(__file__).parent.glob("support/fix_*.py"))
