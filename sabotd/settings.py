"""The settings of a session: what SET takes, with defaults from the configuration."""

from __future__ import annotations

import difflib
import json
import zoneinfo
from dataclasses import dataclass, fields, replace
from typing import Any

from sabot.errors import Span, SqlError
from sabotd.config import Config
from sql_frontend.statements import SetOption

_ALIASES = {
    "streaming_parallelism": "parallelism",
    "rw_implicit_flush": "implicit_flush",
    "rw_streaming_parallelism": "parallelism",
    "time_zone": "timezone",
}


@dataclass(frozen=True)
class Settings:
    """Values of one session; jobs remember those they were made under."""

    parallelism: int = 1
    """Tasks of an operator in views and sinks made from now on."""
    max_parallelism: int = 128
    """Key groups of a job: the most tasks that an operator may ever have."""
    implicit_flush: bool = False
    """What changes a table returns when every view shows it, and CREATE when the new view is filled."""
    timezone: str = "UTC"
    """Where text without a zone becomes TIMESTAMPTZ, and as what that is shown, in SELECT and INSERT."""

    @classmethod
    def defaults(cls, config: Config) -> Settings:
        """Return what a session begins with."""
        return cls(config.streaming.resolved_parallelism(), config.streaming.max_parallelism)

    def to_json(self) -> str:
        """Return the values as JSON."""
        return json.dumps({f.name: getattr(self, f.name) for f in fields(self)})

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """Read `to_json`'s text."""
        return cls(**json.loads(text))

    def rows(self) -> list[tuple[str, str]]:
        """Return (name, value) pairs."""
        return [(f.name, _show(getattr(self, f.name))) for f in fields(self)]


def canonical(name: str, statement: SetOption | None = None) -> str:
    """Return the setting's own name; SqlError with the nearest if there is none."""
    name = _ALIASES.get(name.lower(), name.lower())
    known = [f.name for f in fields(Settings)]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"settings are {', '.join(known)}"
        msg = f"unknown setting {name!r}"
        text = statement.text if statement else None
        at = text.lower().find(name) if text else -1
        span = Span(at, at + len(name)) if at >= 0 else None
        raise SqlError(msg, hint=hint, sqlstate="42704", text=text, span=span)
    return name


def change(settings: Settings, statement: SetOption, defaults: Settings) -> Settings:
    """Return `settings` with what a SET or RESET says."""
    name = canonical(statement.name, statement)
    if statement.value is None:
        return _with(settings, name, getattr(defaults, name))
    before = getattr(settings, name)
    value: int | bool | str
    if isinstance(before, bool):
        words = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}
        if statement.value.lower() not in words:
            msg = f"{name} cannot be {statement.value!r}"
            raise SqlError(msg, hint="write true or false", sqlstate="22023", text=statement.text)
        value = words[statement.value.lower()]
    elif isinstance(before, str):
        value = _zone(statement)
    else:
        top = 1024 if name == "parallelism" else 32768
        if not statement.value.isdigit() or not 1 <= int(statement.value) <= top:
            msg = f"{name} cannot be {statement.value!r}"
            raise SqlError(msg, hint=f"write a whole number from 1 to {top}", sqlstate="22023", text=statement.text)
        value = int(statement.value)
    return _with(settings, name, value)


def _zone(statement: SetOption) -> str:
    """Return a time zone's name as its database writes it."""
    assert statement.value is not None
    known = {zone.lower(): zone for zone in zoneinfo.available_timezones()}
    written = statement.value.strip("'\"").lower()
    if written in ("local", "default"):
        return "UTC"
    if written not in known:
        near = difflib.get_close_matches(written, known, n=1)
        hint = f"did you mean {known[near[0]]!r}?" if near else "write a name such as 'Europe/Paris', or UTC"
        msg = f"time zone {statement.value!r} does not exist"
        raise SqlError(msg, hint=hint, sqlstate="22023", text=statement.text)
    return known[written]


def _with(settings: Settings, name: str, value: bool | int | str) -> Settings:
    values: dict[str, Any] = {name: value}
    return replace(settings, **values)


def _show(value: bool | int | str) -> str:
    return value if isinstance(value, str) else str(value).lower()
