"""The options of WITH (...): their kinds checked once at CREATE, read as values after."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping

from sabot.errors import SqlError
from sabotd.config import parse_duration
from sabotd.connectors.base import OptionSpec

_TRUE = ("true", "t", "yes", "on", "1")
_FALSE = ("false", "f", "no", "off", "0")
Specs = Mapping[str, OptionSpec]


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """Return the hint that names the nearest of `known`, or None if nothing is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else None


def _wrong(name: str, text: str, wanted: str, hint: str | None = None) -> SqlError:
    return SqlError(f"option {name!r} is {text!r}, which is not {wanted}", hint=hint, sqlstate="22023")


def spec_of(specs: Specs, name: str) -> OptionSpec | None:
    """Return the spec of an option, also by the prefix it starts with."""
    if name in specs:
        return specs[name]
    found = [p for p, s in specs.items() if s.prefix and name.startswith(p)]
    return specs[max(found, key=len)] if found else None


def check_value(name: str, text: str, spec: OptionSpec) -> None:
    """Raise SqlError if `text` is not of the option's kind."""
    match spec.kind:
        case "int":
            read_int({name: text}, name)
        case "float":
            read_float({name: text}, name)
        case "bool":
            read_bool({name: text}, name)
        case "duration":
            read_duration_s({name: text}, name)
        case "enum":
            if text.lower() not in spec.choices:
                hint = did_you_mean(text.lower(), spec.choices)
                raise _wrong(name, text, f"one of {', '.join(spec.choices)}", hint)


def check_options(options: Mapping[str, str], specs: Specs, *, role: str, connector: str) -> None:
    """Check names, kinds and that nothing required is missing.

    Parameters
    ----------
    role : {'source', 'sink'}
        What the options are for; those of the other role are refused.

    Raises
    ------
    SqlError
    """
    usable = {name: spec for name, spec in specs.items() if role in spec.of}
    for name, text in options.items():
        spec = spec_of(usable, name)
        if spec is None:
            reason = f"option {name!r} is not known to connector {connector!r}"
            if spec_of(specs, name) is not None:
                reason = f"option {name!r} is not for a {role}"
            hint = did_you_mean(name, usable) or f"its options are {', '.join(sorted(usable))}"
            raise SqlError(reason, hint=hint, sqlstate="HV00D")
        check_value(name, text, spec)
    for name, spec in usable.items():
        if spec.required and name not in options and not (spec.prefix and any(o.startswith(name) for o in options)):
            msg = f"connector {connector!r} needs option {name!r}"
            raise SqlError(msg, hint=f"{spec.doc}: WITH (..., {name} = '...')" if spec.doc else None, sqlstate="HV00J")


def read_int(options: Mapping[str, str], name: str, default: int | None = None) -> int | None:
    """Return an option as a whole number (``10_000`` is fine), or `default`."""
    if name not in options:
        return default
    try:
        return int(options[name])
    except ValueError as problem:
        raise _wrong(name, options[name], "a whole number") from problem


def read_float(options: Mapping[str, str], name: str, default: float | None = None) -> float | None:
    """Return an option as a finite number, or `default`."""
    if name not in options:
        return default
    try:
        value = float(options[name])
    except ValueError as problem:
        raise _wrong(name, options[name], "a number") from problem
    if not math.isfinite(value):
        raise _wrong(name, options[name], "a finite number")
    return value


def read_bool(options: Mapping[str, str], name: str, default: bool = False) -> bool:
    """Return an option as a truth value, or `default`."""
    if name not in options:
        return default
    text = options[name].strip().lower()
    if text not in _TRUE + _FALSE:
        raise _wrong(name, options[name], "true or false")
    return text in _TRUE


def read_duration_s(options: Mapping[str, str], name: str, default: float = 0.0) -> float:
    """Return an option such as ``'100ms'`` in seconds, or `default`."""
    if name not in options:
        return default
    try:
        return parse_duration(options[name])
    except ValueError as problem:
        raise _wrong(
            name, options[name], "a duration", "write a number and a unit, as in '100ms' or '10s'"
        ) from problem


def read_at_least(options: Mapping[str, str], name: str, least: int, default: int | None = None) -> int | None:
    """Return an option as a whole number that is not below `least`, or `default`."""
    value = read_int(options, name, default)
    if name in options and value is not None and value < least:
        raise _wrong(name, options[name], f"at least {least}")
    return value
