"""The plain twin of the compiled JSON decoder: slow, obvious, and what tests take for right.

It is stricter in one thing: it checks all of a record, the kernel of what is not needed only brackets and strings.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from typing import Any, Final

import pyarrow as pa

from sabotd.formats.plan import ColumnPlan, Kind

_NUMBER: Final = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_LOOSE_NUMBER: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_TOKEN: Final = re.compile(r'[^\x00-\x20,:"{}\[\]]+')
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_DATE: Final = re.compile(r"(\d{4})-(\d\d)-(\d\d)", re.ASCII)
_CLOCK: Final = re.compile(r"(\d\d):(\d\d)(?::(\d\d)(?:[.,](\d+))?)?", re.ASCII)
_OFFSET: Final = re.compile(r" ?([Zz]|UTC|[+-]\d\d(?::?\d\d)?)", re.ASCII)
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
_WIDE: Final = Context(prec=1000)


class _BadValueError(ValueError):
    """A value does not fit its column."""


@dataclass(frozen=True, slots=True)
class _Node:
    """A JSON value: `type` is object, array, string, number, bool or null; `text` its source."""

    type: str
    text: str
    value: Any
    stop: int


def _parse(text: str, at: int) -> _Node:
    """Parse the value at `at`; ValueError if it is malformed."""
    at = _space(text, at)
    ch = text[at : at + 1]
    if ch == "{":
        return _parse_members(text, at, "object", "}")
    if ch == "[":
        return _parse_members(text, at, "array", "]")
    if ch == '"':
        found = _STRING.match(text, at)
        if found is None:
            raise ValueError(at)
        return _Node("string", found[0], found[0], found.end())
    token = _TOKEN.match(text, at)
    if token is None:
        raise ValueError(at)
    for word, name, value in (("null", "null", None), ("true", "bool", True), ("false", "bool", False)):
        if token[0] == word:
            return _Node(name, word, value, token.end())
    if not _NUMBER.fullmatch(token[0]):
        raise ValueError(at)
    return _Node("number", token[0], token[0], token.end())


def _space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None
    return found.end()


def _parse_members(text: str, begin: int, type: str, close: str) -> _Node:
    members: list[Any] = []
    at = _space(text, begin + 1)
    while text[at : at + 1] != close or members:
        name = None
        if type == "object":
            key = _parse(text, at)
            at = _space(text, key.stop)
            if key.type != "string" or text[at : at + 1] != ":":
                raise ValueError(at)
            name = json.loads(key.text, strict=False)
            at += 1
        node = _parse(text, at)
        members.append((name, node) if type == "object" else node)
        at = _space(text, node.stop)
        if text[at : at + 1] == close:
            break
        if text[at : at + 1] != ",":
            raise ValueError(at)
        at = _space(text, at + 1)
    return _Node(type, text[begin : at + 1], members, at + 1)


def _convert(node: _Node, plan: ColumnPlan) -> Any:
    if node.type == "null":
        return None
    if plan.kind == Kind.STRUCT:
        return _convert_fields(node, plan.children)
    if plan.kind == Kind.LIST:
        if node.type != "array":
            raise _BadValueError
        return [_convert(item, plan.children[0]) for item in node.value]
    if node.type == "string":
        if any(ch < " " for ch in node.text):
            raise _BadValueError
        return node.text if plan.kind == Kind.JSON else convert_text(_unescape(node.text), plan, is_number=False)
    if plan.kind in (Kind.JSON, Kind.VARCHAR):
        return node.text
    if node.type == "number" or (node.type == "bool" and plan.kind == Kind.BOOLEAN):
        if plan.width == 0:
            raise _BadValueError
        return convert_text(node.text, plan, is_number=True)
    raise _BadValueError


def _unescape(text: str) -> str:
    try:
        value: str = json.loads(text)
        value.encode()
    except ValueError as problem:
        raise _BadValueError from problem
    return value


def _convert_fields(node: _Node, plans: tuple[ColumnPlan, ...]) -> dict[str, Any]:
    if node.type != "object":
        raise _BadValueError
    out: dict[str, Any] = dict.fromkeys(p.name for p in plans)
    for key, value in node.value:
        exact = [p for p in plans if p.name == key]
        near = [p for p in plans if _folded(p.name) == _folded(key)]
        if exact or near:
            plan = (exact or near)[0]
            out[plan.name] = _convert(value, plan)
    return out


def _folded(name: str) -> str:
    return "".join(ch.lower() if ch.isascii() else ch for ch in name)


def convert_text(text: str, plan: ColumnPlan, *, is_number: bool) -> Any:
    """Return the value of a column from its bare text; `_BadValueError` if it is none."""
    match plan.kind:
        case Kind.VARCHAR | Kind.JSON:
            return text
        case Kind.BLOB:
            return _blob(text)
        case Kind.UUID:
            if not _UUID.fullmatch(text):
                raise _BadValueError
            return text.lower()
        case Kind.BOOLEAN:
            return _truth(text)
        case Kind.INT | Kind.UINT:
            return _whole(text, plan)
        case Kind.FLOAT | Kind.DOUBLE:
            return _real(text)
        case Kind.DECIMAL:
            return _fixed(text, plan)
        case Kind.DATE | Kind.TIME | Kind.TIMESTAMP:
            return _moment(text, plan, is_number=is_number)
        case _:
            raise _BadValueError


def _blob(text: str) -> bytes:
    if not text.startswith("\\x"):
        return text.encode()
    if not re.fullmatch(r"(?:[0-9a-fA-F]{2})*", text[2:]):
        raise _BadValueError
    return bytes.fromhex(text[2:])


def _truth(text: str) -> bool:
    if text.lower() in ("true", "t", "yes", "y", "on", "1"):
        return True
    if text.lower() in ("false", "f", "no", "n", "off", "0"):
        return False
    raise _BadValueError


def _decimal(text: str) -> Decimal:
    if not _LOOSE_NUMBER.fullmatch(text):
        raise _BadValueError
    return Decimal(text)


def _whole(text: str, plan: ColumnPlan) -> int:
    value = _decimal(text)
    if (value and value.adjusted() > 40) or value != value.to_integral_value():
        raise _BadValueError
    whole = int(value)
    bits = plan.width * 8
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if plan.kind == Kind.INT else (0, 2**bits)
    if not low <= whole < high:
        raise _BadValueError
    return whole


def _real(text: str) -> float:
    if re.fullmatch(r"[+-]?(?:nan|inf|infinity)", text, re.IGNORECASE | re.ASCII):
        return float(text)
    if not _LOOSE_NUMBER.fullmatch(text):
        raise _BadValueError
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise _BadValueError
    return value


def _fixed(text: str, plan: ColumnPlan) -> Decimal:
    value = _decimal(text) or Decimal(0)
    if value.adjusted() > 40:
        raise _BadValueError
    try:
        value = value.quantize(Decimal(1).scaleb(-plan.scale), rounding=ROUND_HALF_UP, context=_WIDE)
    except InvalidOperation as problem:
        raise _BadValueError from problem
    if abs(value.scaleb(plan.scale, context=_WIDE)) >= 10**plan.precision:
        raise _BadValueError
    return value


def _moment(text: str, plan: ColumnPlan, *, is_number: bool) -> int:
    if is_number and plan.kind == Kind.TIMESTAMP:
        return _epoch(text, plan)
    if is_number:
        if not re.fullmatch(r"-?\d{1,18}", text, re.ASCII):
            raise _BadValueError
        value = int(text)
        bound = 2**31 if plan.kind == Kind.DATE else 86_400_000_000
        if not (-bound if plan.kind == Kind.DATE else 0) <= value < bound:
            raise _BadValueError
        return value
    if plan.kind == Kind.TIME:
        clock = _CLOCK.fullmatch(text)
        if clock is None:
            raise _BadValueError
        return _clock_ns(clock) // 1000
    day, nanos = _instant(text)
    if plan.kind == Kind.DATE:
        return day
    return _ticks(day * 86_400 * 10**9 + nanos, plan)


def _instant(text: str) -> tuple[int, int]:
    """Return the day since 1970 as written, and the nanoseconds since its midnight in UTC."""
    found = _DATE.match(text)
    if found is None:
        raise _BadValueError
    year, month, day = (int(part) for part in found.groups())
    try:
        # the year 0 is a leap year, as 400 is
        ordinal = date(year or 400, month, day).toordinal() - (146_097 if year == 0 else 0)
    except ValueError as problem:
        raise _BadValueError from problem
    days = ordinal - date(1970, 1, 1).toordinal()
    rest = text[10:]
    if not rest:
        return days, 0
    clock = _CLOCK.match(rest, 1)
    if rest[0] not in "Tt " or clock is None:
        raise _BadValueError
    nanos = _clock_ns(clock)
    if zone := rest[clock.end() :]:
        offset = _OFFSET.fullmatch(zone)
        if offset is None:
            raise _BadValueError
        if offset[1] not in ("Z", "z", "UTC"):
            hours, minutes = int(offset[1][1:3]), int(offset[1][3:].lstrip(":") or 0)
            if hours > 15 or minutes > 59:
                raise _BadValueError
            nanos -= (-1 if offset[1][0] == "-" else 1) * (hours * 3600 + minutes * 60) * 10**9
    return days, nanos


def _clock_ns(clock: re.Match[str]) -> int:
    hour, minute, second = (int(part or 0) for part in clock.groups()[:3])
    if hour > 23 or minute > 59 or second > 59:
        raise _BadValueError
    return (hour * 3600 + minute * 60 + second) * 10**9 + int((clock[4] or "0")[:9].ljust(9, "0"))


def _epoch(text: str, plan: ColumnPlan) -> int:
    value = _decimal(text) or Decimal(0)
    if value.adjusted() > 28:
        raise _BadValueError
    nanos = int(value.scaleb(9, context=_WIDE).to_integral_value(ROUND_HALF_UP))
    size = abs(nanos) // 10**9
    unit = 1 if size < 10**11 else 10**3 if size < 10**14 else 10**6 if size < 10**17 else 10**9
    return _ticks(-(-nanos // unit) if nanos < 0 else nanos // unit, plan)


def _ticks(nanos: int, plan: ColumnPlan) -> int:
    value = nanos // (10**9 // plan.scale)
    if not -(2**63) <= value < 2**63:
        raise _BadValueError
    return value


class RowDecoder:
    """The compiled `RowDecoder` for JSON in plain Python; errors say less."""

    def __init__(self, plans: tuple[ColumnPlan, ...]) -> None:
        self._plans = plans

    def decode_lines(self, data: bytes) -> tuple[int, list[pa.Array], list[tuple[int, int, int, str]], int]:
        """Decode newline-separated records."""
        offsets, at = [], 0
        for line in data.split(b"\n"):
            offsets.append((at, at + len(line)))
            at += len(line) + 1
        offsets = [(start, stop) for start, stop in offsets if data[start:stop].strip(b" \t\r\n")]
        rows, arrays, errors, _ = self._decode(data, offsets)
        return rows, arrays, errors, len(data)

    def decode_payloads(
        self, data: bytes, offsets: list[int]
    ) -> tuple[int, list[pa.Array], list[tuple[int, int, int, str]], list[int]]:
        """Decode payloads ``data[offsets[i]:offsets[i + 1]]``."""
        return self._decode(data, list(itertools.pairwise(offsets)))

    def _decode(
        self, data: bytes, bounds: list[tuple[int, int]]
    ) -> tuple[int, list[pa.Array], list[tuple[int, int, int, str]], list[int]]:
        rows: list[dict[str, Any]] = []
        index: list[int] = []
        errors: list[tuple[int, int, int, str]] = []
        for number, (start, stop) in enumerate(bounds):
            payload = data[start:stop]
            good, bad = [], []
            try:
                text = payload.decode()
                for node, begin in _records(text):
                    try:
                        good.append(_convert_fields(node, self._plans))
                    except _BadValueError:
                        first = start + len(text[:begin].encode())
                        bad.append((number, first, first + len(node.text.encode()), "bad value"))
            except ValueError:
                good = []
                left = len(payload) - len(payload.lstrip(b" \t\r\n"))
                bad = [(number, start + left, start + len(payload.rstrip(b" \t\r\n")), "malformed")]
            rows += good
            index += [number] * len(good)
            errors += bad
        arrays = [pa.array([r[p.name] for r in rows], p.type) for p in self._plans]
        return len(rows), arrays, errors, index


def _records(text: str) -> Iterator[tuple[_Node, int]]:
    """Give the top-level values of a payload and where they begin; elements of an array count by themselves."""
    at = _space(text, 0)
    while at < len(text):
        node = _parse(text, at)
        if node.type == "array":
            inner = _space(text, at + 1)
            for item in node.value:
                inner = _space(text, inner)
                yield item, inner
                inner = _space(text, item.stop) + 1
        else:
            yield node, at
        at = _space(text, node.stop)
