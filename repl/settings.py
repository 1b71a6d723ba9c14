"""What the user may set at the prompt, and where the prompt keeps its files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from repl.output import Format


@dataclass
class Settings:
    r"""The state of ``\\x``, ``\\timing`` and ``\\pset``."""

    format: Format = Format.TABLE
    expanded: bool = False
    timing: bool = False
    null: str = ""
    pager: bool = False


def state_dir() -> Path:
    """Return the folder of the history; follows the XDG base directory specification."""
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "sabot"


def on_off(argument: str, *, now: bool) -> bool:
    """Return what ``on``, ``off`` or nothing (which toggles) makes of a switch.

    Raises
    ------
    ValueError
        If `argument` is something else.
    """
    match argument.lower():
        case "":
            return not now
        case "on" | "true" | "1":
            return True
        case "off" | "false" | "0":
            return False
    msg = f"{argument!r} is neither on nor off"
    raise ValueError(msg)
