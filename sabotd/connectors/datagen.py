"""The ``datagen`` connector: made-up rows, a rule a field, the same for the same row number and seed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np
import pyarrow as pa

from planner.task_spec import Columns, SinkOp, SourceOp
from sabot.errors import SqlError
from sabot.schema import arrow_schema, arrow_type, struct_fields
from sabotd.connectors.base import Connector, OptionSpec, SinkWriter
from sabotd.connectors.generated import GeneratedReader, Stripes
from sabotd.connectors.options import did_you_mean, read_at_least, read_duration_s, read_float, read_int
from sabotd.formats.rows import make_batch

_SOURCE: Final = ("source",)
DEFAULT_RATE: Final = 10
_OPTIONS: Final[dict[str, OptionSpec]] = {
    "rows": OptionSpec("int", doc="rows after which the source ends", of=_SOURCE),
    "rate": OptionSpec(
        "float", str(DEFAULT_RATE), doc="rows a second over all tasks; no limit where rows is given", of=_SOURCE
    ),
    "datagen.rows.per.second": OptionSpec("float", doc="the same as rate", of=_SOURCE),
    "splits": OptionSpec("int", doc="stripes of the sequence; by default one a task", of=_SOURCE),
    "seed": OptionSpec("int", "0", doc="of every field without its own", of=_SOURCE),
    "fields.": OptionSpec(
        "str",
        prefix=True,
        doc="fields.<column>.kind | start | end | step | min | max | length | max_past | seed",
        of=_SOURCE,
    ),
}
_RULES: Final = ("kind", "start", "end", "step", "min", "max", "length", "max_past", "seed")
_Make = Callable[[np.ndarray], pa.Array]


@dataclass(frozen=True, slots=True)
class _Field:
    """A column's maker, and after how many rows its sequence ends (None: never)."""

    make: _Make
    rows: int | None = None


def _random(numbers: np.ndarray, seed: int) -> np.ndarray:
    """Return a random uint64 for each row number: SplitMix64 of (seed, number), so that any cut gives the same."""
    with np.errstate(over="ignore"):
        x = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed & 0xFFFFFFFFFFFFFFFF)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def _unit(numbers: np.ndarray, seed: int) -> np.ndarray:
    """Return a random float64 in [0, 1) for each row number."""
    return (_random(numbers, seed) >> np.uint64(11)).astype(np.float64) * 2.0**-53


class _Rules:
    """The options ``fields.<path>.<rule>`` of one field."""

    def __init__(self, path: str, options: Mapping[str, str], seed: int) -> None:
        self.path = path
        self.options = options
        prefix = f"fields.{path}."
        self.own = {name: options[prefix + name] for name in _RULES if prefix + name in options}
        self.named = {name: options[prefix + name] for name in self.own}
        kind = self.own.get("kind", "random").lower()
        if kind not in ("random", "sequence"):
            msg = f"option {prefix + 'kind'!r} is {kind!r}, which is not random or sequence"
            raise SqlError(msg, hint=did_you_mean(kind, ("random", "sequence")), sqlstate="22023")
        self.is_sequence = kind == "sequence"
        named_seed = read_int(self._one("seed"), prefix + "seed")
        # fields without a seed of their own must not run alike
        own = sum(ord(ch) * 31**i for i, ch in enumerate(path)) if named_seed is None else named_seed
        self.seed = (seed * 0x9E3779B97F4A7C15 + own * 0xD1B54A32D192ED03) & 0xFFFFFFFFFFFFFFFF

    def _one(self, rule: str) -> dict[str, str]:
        name = f"fields.{self.path}.{rule}"
        return {name: self.own[rule]} if rule in self.own else {}

    def whole(self, rule: str, default: int | None = None) -> int | None:
        """Return a rule as a whole number."""
        return read_int(self._one(rule), f"fields.{self.path}.{rule}", default)

    def real(self, rule: str, default: float) -> float:
        """Return a rule as a number."""
        value = read_float(self._one(rule), f"fields.{self.path}.{rule}", default)
        assert value is not None
        return value

    def duration_s(self, rule: str, default: float) -> float:
        """Return a rule as a duration in seconds."""
        return read_duration_s(self._one(rule), f"fields.{self.path}.{rule}", default)

    def refuse(self, rule: str, wanted: str) -> SqlError:
        """Return the error that says what the rule should be."""
        return SqlError(f"option 'fields.{self.path}.{rule}' must be {wanted}", sqlstate="22023")


def _field(path: str, type: str, options: Mapping[str, str], seed: int) -> _Field:
    arrow = arrow_type(type)
    rules = _Rules(path, options, seed)
    if pa.types.is_struct(arrow):
        parts = [_field(f"{path}.{name}", t, options, seed) for name, t in struct_fields(type)]
        ends = [p.rows for p in parts if p.rows is not None]

        def make_struct(numbers: np.ndarray) -> pa.Array:
            return pa.StructArray.from_arrays([p.make(numbers) for p in parts], fields=list(arrow))

        return _Field(make_struct, min(ends, default=None))
    if pa.types.is_list(arrow):
        item = _field(f"{path}._", type.strip()[: type.strip().rindex("[")], options, seed)
        length = rules.whole("length", 3) or 0

        def make_list(numbers: np.ndarray) -> pa.Array:
            inner = (numbers[:, None] * max(length, 1) + np.arange(length)).ravel()
            offsets = pa.array(np.arange(len(numbers) + 1, dtype=np.int32) * length)
            return pa.ListArray.from_arrays(offsets, item.make(inner)).cast(arrow)

        return _Field(make_list)
    if rules.is_sequence:
        return _sequence(rules, arrow)
    return _Field(_random_field(rules, arrow))


def _sequence(rules: _Rules, arrow: pa.DataType) -> _Field:
    if pa.types.is_timestamp(arrow):
        start = _moment_us(rules)
        step_us = round(rules.duration_s("step", 1.0) * 1e6)
        return _Field(lambda n: pa.array(n * step_us + start, pa.timestamp("us")).cast(arrow))
    if not (
        pa.types.is_integer(arrow) or pa.types.is_floating(arrow) or arrow == pa.string() or pa.types.is_decimal(arrow)
    ):
        raise rules.refuse("kind", f"'random': there is no sequence of {arrow}")
    start, end = rules.whole("start", 0) or 0, rules.whole("end")
    if end is not None and end < start:
        raise rules.refuse("end", f"at least {start}")
    return _Field(lambda n: pa.array(n + start).cast(arrow), None if end is None else end - start + 1)


def _moment_us(rules: _Rules) -> int:
    text = rules.own.get("start", "1970-01-01")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as problem:
        raise rules.refuse("start", "a point in time, as in '2026-01-01 00:00:00'") from problem
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1e6)


def _random_field(rules: _Rules, arrow: pa.DataType) -> _Make:
    seed = rules.seed
    if pa.types.is_boolean(arrow):
        return lambda n: pa.array((_random(n, seed) >> np.uint64(63)).astype(bool))
    if pa.types.is_integer(arrow):
        bits = arrow.bit_width - pa.types.is_signed_integer(arrow)
        most = 2**bits - 1
        low, high = rules.whole("min", 0) or 0, rules.whole("max", min(most, 32_767))
        assert high is not None
        if not -(2**bits) * pa.types.is_signed_integer(arrow) <= low <= high <= most:
            raise rules.refuse("max", f"at least min ({low}), and both a {arrow}")
        span = high - low + 1
        # a span of all 64 bits is the random number itself
        whole = np.uint64(span) if span < 2**64 else None

        def make_int(n: np.ndarray) -> pa.Array:
            x = _random(n, seed)
            x = x if whole is None else x % whole
            return pa.array((x + np.uint64(low % 2**64)).view(np.int64 if low < 0 or high < 2**63 else np.uint64)).cast(
                arrow
            )

        return make_int
    if pa.types.is_floating(arrow) or pa.types.is_decimal(arrow):
        least, span_f = rules.real("min", 0.0), rules.real("max", 1.0) - rules.real("min", 0.0)
        if span_f < 0:
            raise rules.refuse("max", f"at least {least}")
        if pa.types.is_decimal(arrow):
            return lambda n: pa.array(_unit(n, seed) * span_f + least).cast(arrow, safe=False)
        return lambda n: pa.array(_unit(n, seed) * span_f + least).cast(arrow)
    if arrow == pa.string() or arrow == pa.binary():
        length = rules.whole("length", 10) or 0
        if length < 0:
            raise rules.refuse("length", "at least 0")

        def make_text(n: np.ndarray) -> pa.Array:
            each = (n[:, None] * max(length, 1) + np.arange(length)).ravel()
            letters = (_random(each, seed) % np.uint64(26)).astype(np.uint8) + np.uint8(97)
            offsets = np.arange(len(n) + 1, dtype=np.int32) * length
            return pa.Array.from_buffers(arrow, len(n), [None, pa.py_buffer(offsets), pa.py_buffer(letters)])

        return make_text
    if pa.types.is_timestamp(arrow) or pa.types.is_date(arrow):
        past_us = rules.duration_s("max_past", 0.0) * 1e6

        def make_time(n: np.ndarray) -> pa.Array:
            now_us = time.time_ns() // 1000
            return pa.array(now_us - (_unit(n, seed) * past_us).astype(np.int64), pa.timestamp("us")).cast(
                arrow, safe=False
            )

        return make_time
    raise SqlError(f"datagen makes no {arrow} for {rules.path!r}", hint="leave the column out", sqlstate="0A000")


def _fields(columns: Columns, options: Mapping[str, str]) -> list[_Field]:
    seed = read_int(options, "seed") or 0
    return [_field(c.name, c.type, options, seed) for c in columns]


def _check_paths(columns: Columns, options: Mapping[str, str]) -> None:
    """Refuse rules of fields that are not there."""
    paths: list[str] = []

    def gather(path: str, type: str) -> None:
        paths.append(path)
        arrow = arrow_type(type)
        if pa.types.is_struct(arrow):
            for name, t in struct_fields(type):
                gather(f"{path}.{name}", t)
        elif pa.types.is_list(arrow):
            gather(f"{path}._", type.strip()[: type.strip().rindex("[")])

    for column in columns:
        gather(column.name, column.type)
    for option in options:
        if not option.startswith("fields."):
            continue
        path, _, rule = option.removeprefix("fields.").rpartition(".")
        if path not in paths:
            msg = f"option {option!r} is of no column"
            raise SqlError(msg, hint=did_you_mean(path, paths), sqlstate="42703")
        if rule not in _RULES:
            msg = f"option {option!r} has no rule {rule!r}"
            raise SqlError(
                msg, hint=did_you_mean(rule, _RULES) or f"the rules are {', '.join(_RULES)}", sqlstate="HV00D"
            )


def _total(fields: list[_Field], options: Mapping[str, str]) -> int | None:
    ends = [f.rows for f in fields if f.rows is not None]
    rows = read_at_least(options, "rows", 0)
    return min([*ends, rows] if rows is not None else ends, default=None)


def _rate(options: Mapping[str, str], total: int | None) -> float | None:
    name = "rate" if "rate" in options else "datagen.rows.per.second"
    rate = read_float(options, name)
    if rate is None:
        return DEFAULT_RATE if total is None else None
    if rate <= 0:
        msg = f"option {name!r} is {options[name]!r}, which is not above 0"
        raise SqlError(msg, sqlstate="22023")
    return rate


class DatagenReader(GeneratedReader):
    """Makes the rows of one task."""

    def __init__(self, op: SourceOp, index: int, parallelism: int, clock: Callable[[], float] = time.monotonic) -> None:
        # sequences of columns that nobody reads end the source too
        total = _total(_fields(op.declared or op.columns, op.options), op.options)
        splits = read_at_least(op.options, "splits", 1) or parallelism
        super().__init__(
            Stripes(1, splits), index, parallelism, total=total, rate=_rate(op.options, total), clock=clock
        )
        self._schema = arrow_schema(tuple(op.columns))  # type: ignore[arg-type]  # a ColumnSpec has a Field's names
        self._makers = _fields(op.columns, op.options)

    def make(self, numbers: np.ndarray) -> pa.RecordBatch:
        return make_batch(self._schema, len(numbers), [f.make(numbers) for f in self._makers])


class DatagenConnector(Connector):
    """Rows for trying things out."""

    name = "datagen"
    options = _OPTIONS

    def validate(self, op: SourceOp | SinkOp) -> None:
        if isinstance(op, SinkOp):
            msg = "connector 'datagen' is for sources only"
            raise SqlError(msg, sqlstate="0A000")
        _check_paths(op.declared or op.columns, op.options)
        _rate(op.options, _total(_fields(op.columns, op.options), op.options))

    def is_finite(self, options: Mapping[str, str]) -> bool:
        return "rows" in options or any(name.startswith("fields.") and name.endswith(".end") for name in options)

    def rereads(self, options: Mapping[str, str]) -> bool:
        return self.is_finite(options)  # one without end takes as long again to come as far

    def open_source(self, op: SourceOp, index: int, parallelism: int) -> DatagenReader:
        return DatagenReader(op, index, parallelism)

    def open_sink(self, op: SinkOp, index: int, parallelism: int) -> SinkWriter:
        msg = "connector 'datagen' is for sources only"
        raise SqlError(msg, sqlstate="0A000")


CONNECTOR: Final = DatagenConnector()
