"""The daemon's settings: frozen dataclasses, read from TOML; every mistake is told with file and line.

`conf/sabotd.toml` shows every key; add a key here and there together (a test compares the two).
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sabot.errors import ConfigError

_T = TypeVar("_T")

_DURATION_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE_BYTES = {"": 1, "B": 1} | {
    prefix + unit: base**power
    for power, prefix in enumerate("KMGT", start=1)
    for unit, base in (("iB", 1024), ("B", 1000))
}
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)\Z")


def parse_duration(text: str) -> float:
    """Return the seconds that ``'100ms'`` or ``'1.5 h'`` means; units are us, ms, s, m, h, d.

    Raises
    ------
    ValueError
        If `text` is no number with one of these units.
    """
    match = _QUANTITY.match(text.strip())
    if match is None or match[2] not in _DURATION_S:
        msg = f"{text!r} is no duration; write a number and one of {', '.join(_DURATION_S)}, as in '100ms'"
        raise ValueError(msg)
    return float(match[1]) * _DURATION_S[match[2]]


def parse_size(text: str) -> int:
    """Return the bytes that ``'512MiB'`` or ``'2GB'`` means.

    Raises
    ------
    ValueError
        If `text` is no number with a unit of bytes.
    """
    match = _QUANTITY.match(text.strip())
    if match is None or match[2] not in _SIZE_BYTES:
        msg = f"{text!r} is no size; write a number and a unit, as in '512MiB' or '2GB'"
        raise ValueError(msg)
    return int(float(match[1]) * _SIZE_BYTES[match[2]])


AUTO = -1
"""Of a number: as the machine suggests."""


def _duration(value: Any) -> float:
    # a bare number gets the message that tells of units
    return parse_duration(value if isinstance(value, str) else str(value))


def _size(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return parse_size(_string(value))


def _string(value: Any) -> str:
    if not isinstance(value, str):
        msg = f"{value!r} is no string"
        raise ValueError(msg)  # noqa: TRY004  # one kind of error for all values
    return value


def _location(value: Any) -> str:
    text = _string(value)
    if not re.fullmatch(r"grpc(\+tcp|\+tls)?://[^/]+:\d+|grpc\+unix://(/.+)", text):
        msg = f"{text!r} is no location; write 'grpc://HOST:PORT', 'grpc+tls://HOST:PORT' or 'grpc+unix:///PATH'"
        raise ValueError(msg)
    return text


def _location_or_none(value: Any) -> str:
    return "" if value == "" else _location(value)


def _integer(low: int, high: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            msg = f"{value!r} is no whole number"
            raise ValueError(msg)  # noqa: TRY004  # one kind of error for all values
        if not low <= value <= high:
            msg = f"{value!r} is out of range; it goes from {low} to {high}"
            raise ValueError(msg)
        return value

    return check


def _count(value: Any) -> int:
    if value == "auto":
        return AUTO
    if isinstance(value, str):
        msg = f"{value!r} is neither a whole number nor 'auto'"
        raise ValueError(msg)  # noqa: TRY004  # one kind of error for all values
    return _integer(0, 1024)(value)


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        msg = f"{value!r} is neither true nor false"
        raise ValueError(msg)  # noqa: TRY004  # one kind of error for all values
    return value


def _choice(*choices: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in choices:
            msg = f"{value!r} is none of {', '.join(choices)}"
            raise ValueError(msg)
        return str(value)

    return check


def _setting(parse: Callable[[Any], _T], default: object, key: str = "") -> _T:
    """Declare a setting: how a TOML value is read, the default as TOML has it, the key if it is not the attribute."""
    field: _T = dataclasses.field(default=parse(default), metadata={"parse": parse, "key": key, "default": default})
    return field


@dataclass(frozen=True)
class ServerConfig:
    """``[server]``: the door and the place of all data."""

    listen: str = _setting(_location, "grpc://127.0.0.1:8815")
    data_dir: str = _setting(_string, "")
    token_file: str = _setting(_string, "")
    certificate_file: str = _setting(_string, "")
    key_file: str = _setting(_string, "")
    python_jobs: str = _setting(_choice("local", "never", "always"), "local")

    def data_path(self) -> Path:
        """Return the folder of all data: ``data_dir``, else systemd's state folder, else the user's."""
        if self.data_dir:
            return Path(self.data_dir).expanduser().absolute()
        if under_systemd := os.environ.get("STATE_DIRECTORY"):
            return Path(under_systemd.split(":")[0])
        base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
        return Path(base).expanduser().absolute() / "sabot" / "data"


@dataclass(frozen=True)
class AgentsConfig:
    """``[agents]``: the processes that run tasks."""

    count: int = _setting(_count, "auto")
    slots: int = _setting(_integer(0, 1024), 0)
    memory_limit_bytes: int = _setting(_size, "0B", key="memory_limit")
    pool_bytes: int = _setting(_size, "256MiB", key="pool")
    spill_limit_bytes: int = _setting(_size, "0B", key="spill_limit")
    state_dir: str = _setting(_string, "")
    listen: str = _setting(_location_or_none, "")
    hold_s: float = _setting(_duration, "1m", key="hold")
    token_file: str = _setting(_string, "")
    certificate_file: str = _setting(_string, "")
    key_file: str = _setting(_string, "")
    ca_file: str = _setting(_string, "")
    compression: str = _setting(_choice("none", "lz4", "zstd"), "none")

    def resolved_count(self) -> int:
        """Return the number of agent processes: ``count``, or one a core, at least two."""
        return max(2, len(os.sched_getaffinity(0))) if self.count == AUTO else self.count

    def resolved_slots(self) -> int:
        """Return the slots of each of those: ``slots``, or an equal share of the cores, at least one."""
        return self.slots or max(1, len(os.sched_getaffinity(0)) // max(1, self.resolved_count()))


@dataclass(frozen=True)
class ControlConfig:
    """``[control]``: the database of the control plane; empty is SQLite in the data folder."""

    database: str = _setting(_string, "")


@dataclass(frozen=True)
class StreamingConfig:
    """``[streaming]``: defaults of jobs. Times are in seconds here."""

    barrier_interval_s: float = _setting(_duration, "100ms", key="barrier_interval")
    parallelism: int = _setting(_integer(0, 1024), 0)
    max_parallelism: int = _setting(_integer(1, 32768), 128)
    idle_timeout_s: float = _setting(_duration, "10s", key="idle_timeout")
    clock_interval_s: float = _setting(_duration, "1s", key="clock_interval")

    def resolved_parallelism(self) -> int:
        """Return the tasks an operator gets: ``parallelism``, or one a core."""
        return self.parallelism or len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class LogConfig:
    """``[log]``: what goes to stderr, and how."""

    level: str = _setting(_choice("debug", "info", "warning", "error"), "info")
    format: str = _setting(_choice("text", "json"), "text")


@dataclass(frozen=True)
class Config:
    """All settings; ``Config()`` is what the daemon does without a file."""

    server: ServerConfig = ServerConfig()
    agents: AgentsConfig = AgentsConfig()
    control: ControlConfig = ControlConfig()
    streaming: StreamingConfig = StreamingConfig()
    log: LogConfig = LogConfig()


def load_config(path: str | Path) -> Config:
    """Read the settings from a TOML file; what it does not name keeps its default.

    Raises
    ------
    ConfigError
        If the file cannot be read, is no TOML, or has an unknown key or a value that does not fit;
        one line, with file and line number.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        msg = f"cannot read {str(path)!r}: {str(reason).lower()}"
        raise ConfigError(msg) from error
    return parse_config(text, str(path))


def parse_config(text: str, source: str) -> Config:
    """Read the settings from TOML text; `source` names it in errors, as in :func:`load_config`."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        reason = str(error)
        reason = reason[0].lower() + reason[1:]
        line = match[1] if (match := re.search(r" \(at line (\d+), column (\d+)\)", reason)) else None
        if match and line:
            reason = f"{reason[: match.start()]} (column {match[2]})"
            raise _error(source, int(line), reason) from error
        raise _error(source, text.count("\n") + 1, reason.removesuffix(" (at end of document)")) from error
    lines = _lines(text)
    sections = {field.name: field for field in dataclasses.fields(Config)}
    values = {}
    for name, table in document.items():
        if name not in sections:
            kind = "section" if isinstance(table, dict) else "key"
            raise _error(source, lines.get((name,), 1), f"unknown {kind} {name!r}", _nearest(name, sections))
        if not isinstance(table, dict):
            raise _error(source, lines.get((name,), 1), f"{name!r} is a section", f"write [{name}]")
        values[name] = _section(type(sections[name].default), name, table, lines, source)
    return Config(**values)


def _section(
    cls: type[Any], section: str, table: dict[str, Any], lines: dict[tuple[str, ...], int], source: str
) -> Any:
    fields = {field.metadata["key"] or field.name: field for field in dataclasses.fields(cls)}
    values = {}
    for key, value in table.items():
        line = lines.get((section, key)) or lines.get((section,), 1)
        if key not in fields:
            raise _error(source, line, f"unknown key {key!r} in [{section}]", _nearest(key, fields))
        try:
            values[fields[key].name] = fields[key].metadata["parse"](value)
        except ValueError as error:
            raise _error(source, line, f"{section}.{key}: {error}") from error
    return cls(**values)


def _error(source: str, line: int, reason: str, hint: str | None = None) -> ConfigError:
    return ConfigError(f"{source}, line {line}: {reason}" + (f"; {hint}" if hint else ""), hint=hint)


def _nearest(name: str, known: dict[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}"


_HEADER = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]\s*(?:#.*)?\Z")
_KEY = re.compile(r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=""")


def _lines(text: str) -> dict[tuple[str, ...], int]:
    """Return where each key of a valid document stands (tomllib keeps no positions)."""
    found: dict[tuple[str, ...], int] = {}
    section: tuple[str, ...] = ()
    quotes = ""  # inside a multi-line string: what ends it
    for number, line in enumerate(text.splitlines(), start=1):
        if not quotes:
            if header := _HEADER.match(line):
                section = _parts(header[1])
                found.setdefault(section, number)
            elif key := _KEY.match(line):
                path = section + _parts(key[1])
                for depth in range(1, len(path) + 1):
                    found.setdefault(path[:depth], number)
        for mark in ('"""', "'''"):
            if quotes in {"", mark} and line.count(mark) % 2:
                quotes = "" if quotes else mark
    return found


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))


def with_overrides(
    config: Config, *, listen: str | None = None, agents: int | None = None, log_level: str | None = None
) -> Config:
    """Return `config` with what the command line says instead.

    Raises
    ------
    ConfigError
        If a value does not fit.
    """
    server, agent_config, log = config.server, config.agents, config.log
    try:
        if listen is not None:
            server = dataclasses.replace(server, listen=_location(listen))
        if agents is not None:
            agent_config = dataclasses.replace(agent_config, count=_integer(0, 1024)(agents))
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if log_level is not None:
        log = dataclasses.replace(log, level=log_level)
    return dataclasses.replace(config, server=server, agents=agent_config, log=log)
