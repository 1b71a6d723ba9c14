"""The ``nexmark`` connector: the auction site's events, the same for the same seed however they are cut and read."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from planner.task_spec import Columns, ColumnSpec, SinkOp, SourceOp
from sabot.errors import SqlError
from sabot.schema import arrow_type
from sabotd.connectors.base import Connector, OptionSpec, SinkWriter
from sabotd.connectors.generated import GeneratedReader, Stripes
from sabotd.connectors.options import did_you_mean, read_at_least, read_int
from sabotd.formats._nexmark import Generator
from sabotd.formats.plan import plan_columns
from sabotd.formats.rows import make_batch

CYCLE: Final = 50
"""Events in a row of which 1 is a person, 3 are auctions, 46 are bids."""
DEFAULT_EVENT_RATE: Final = 10_000
DEFAULT_START: Final = "2015-07-15 00:00:00"
_OF_TABLE: Final = {"person": (0, 1), "auction": (1, 4), "bid": (4, CYCLE)}

_FIELDS: Final = {
    "person": (
        ("id", "BIGINT"),
        ("name", "VARCHAR"),
        ("email_address", "VARCHAR"),
        ("credit_card", "VARCHAR"),
        ("city", "VARCHAR"),
        ("state", "VARCHAR"),
        ("date_time", "TIMESTAMP"),
        ("extra", "VARCHAR"),
    ),
    "auction": (
        ("id", "BIGINT"),
        ("item_name", "VARCHAR"),
        ("description", "VARCHAR"),
        ("initial_bid", "BIGINT"),
        ("reserve", "BIGINT"),
        ("date_time", "TIMESTAMP"),
        ("expires", "TIMESTAMP"),
        ("seller", "BIGINT"),
        ("category", "BIGINT"),
        ("extra", "VARCHAR"),
    ),
    "bid": (
        ("auction", "BIGINT"),
        ("bidder", "BIGINT"),
        ("price", "BIGINT"),
        ("channel", "VARCHAR"),
        ("url", "VARCHAR"),
        ("date_time", "TIMESTAMP"),
        ("extra", "VARCHAR"),
    ),
}

_SOURCE: Final = ("source",)
_TABLES: Final = ("person", "auction", "bid", "all")
_OPTIONS: Final[dict[str, OptionSpec]] = {
    "table": OptionSpec("enum", "all", choices=_TABLES, doc="one table, or all events in one", of=_SOURCE),
    "nexmark.table.type": OptionSpec("enum", choices=_TABLES, doc="the same as table", of=_SOURCE),
    "events": OptionSpec("int", doc="events of all three kinds, after which the source ends", of=_SOURCE),
    "nexmark.event.num": OptionSpec("int", doc="the same as events", of=_SOURCE),
    "rate": OptionSpec("int", doc="events of all three kinds a second, over all tasks; none: no limit", of=_SOURCE),
    "event_rate": OptionSpec(
        "int",
        str(DEFAULT_EVENT_RATE),
        doc="events a second of event time; by default the rate, if there is one",
        of=_SOURCE,
    ),
    "seed": OptionSpec("int", "0", doc="another seed, other events", of=_SOURCE),
    "start_time": OptionSpec("str", DEFAULT_START, doc="event time of the first event", of=_SOURCE),
    "splits": OptionSpec("int", doc="stripes of the sequence; by default one a task", of=_SOURCE),
}


def table_columns(table: str | None) -> Columns:
    """Return the columns of person, auction or bid, or (None) of all events in one table."""
    if table is not None:
        return tuple(ColumnSpec(*field) for field in _FIELDS[table])
    structs = tuple(
        ColumnSpec(name, f"STRUCT({', '.join(f'{n} {t}' for n, t in fields)})") for name, fields in _FIELDS.items()
    )
    return (ColumnSpec("event_type", "BIGINT"), *structs, ColumnSpec("date_time", "TIMESTAMP"))


def _table(options: Mapping[str, str]) -> str | None:
    table = options.get("table", options.get("nexmark.table.type", "all")).lower()
    return None if table == "all" else table


def _start_ms(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as problem:
        msg = f"option 'start_time' is {text!r}, which is not a point in time"
        raise SqlError(msg, hint=f"write it as {DEFAULT_START!r}", sqlstate="22023") from problem
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def _events(options: Mapping[str, str]) -> int | None:
    name = "events" if "events" in options else "nexmark.event.num"
    return read_at_least(options, name, 0)


def make_generator(columns: Columns, options: Mapping[str, str]) -> Generator:
    """Return what makes the `columns` (pruned, STRUCTs too) of the table that `options` name."""
    rate = read_at_least(options, "event_rate", 1) or read_at_least(options, "rate", 1) or DEFAULT_EVENT_RATE
    plans = plan_columns((c.name, c.type) for c in columns)
    start_ms = _start_ms(options.get("start_time", DEFAULT_START))
    return Generator(plans, _table(options), read_int(options, "seed") or 0, start_ms, rate)


class NexmarkReader(GeneratedReader):
    """Reads the stripes of one task. A stripe is whole cycles of events, so that event time goes evenly in each."""

    def __init__(self, op: SourceOp, index: int, parallelism: int, clock: Callable[[], float] = time.monotonic) -> None:
        rate = read_at_least(op.options, "rate", 1)
        splits = read_at_least(op.options, "splits", 1) or parallelism
        super().__init__(Stripes(CYCLE, splits), index, parallelism, total=_events(op.options), rate=rate, clock=clock)
        self._schema = pa.schema([pa.field(c.name, arrow_type(c.type)) for c in op.columns])
        places = _OF_TABLE.get(_table(op.options) or "")
        self._within = range(*places) if places is not None else None
        self._generator = make_generator(op.columns, op.options)

    def numbers_for(self, rows: int) -> int:
        return rows if self._within is None else max(CYCLE, rows // len(self._within) * CYCLE)

    def make(self, numbers: np.ndarray) -> pa.RecordBatch:
        return make_batch(self._schema, len(numbers), self._generator.arrays(numbers))


class NexmarkConnector(Connector):
    """The built-in benchmark source."""

    name = "nexmark"
    options = _OPTIONS

    def validate(self, op: SourceOp | SinkOp) -> None:
        if isinstance(op, SinkOp):
            msg = "connector 'nexmark' is for sources only"
            raise SqlError(msg, sqlstate="0A000")
        _events(op.options)
        read_at_least(op.options, "splits", 1)
        known = {c.name: c.type for c in table_columns(_table(op.options))}
        for column in op.columns:
            if column.name not in known:
                msg = f"nexmark has no column {column.name!r}"
                hint = did_you_mean(column.name, known) or f"its columns are {', '.join(known)}"
                raise SqlError(msg, hint=hint, sqlstate="42703")
            if not _within(arrow_type(column.type), arrow_type(known[column.name])):
                msg = f"column {column.name!r} of nexmark is {known[column.name]}, not {column.type}"
                raise SqlError(msg, hint="leave the columns out to have them all", sqlstate="42804")
        make_generator(op.columns, op.options)

    def default_schema(self, options: Mapping[str, str]) -> Columns:
        return table_columns(_table(options))

    def is_finite(self, options: Mapping[str, str]) -> bool:
        return _events(options) is not None

    def rereads(self, options: Mapping[str, str]) -> bool:
        return self.is_finite(options)  # one without end takes as long again to come as far

    def open_source(self, op: SourceOp, index: int, parallelism: int) -> NexmarkReader:
        return NexmarkReader(op, index, parallelism)

    def open_sink(self, op: SinkOp, index: int, parallelism: int) -> SinkWriter:
        msg = "connector 'nexmark' is for sources only"
        raise SqlError(msg, sqlstate="0A000")


def _within(wanted: pa.DataType, given: pa.DataType) -> bool:
    """Whether `wanted` is `given`, or a STRUCT of some of its fields."""
    if not pa.types.is_struct(wanted) or not pa.types.is_struct(given):
        return bool(wanted == given)
    return all(given.get_field_index(f.name) >= 0 and f.type == given.field(f.name).type for f in wanted)


CONNECTOR: Final = NexmarkConnector()


def write_ndjson(path: Path, events: int, options: Mapping[str, str] | None = None, *, threads: int = 2) -> int:
    """Write events 0 to `events` - 1 as lines of JSON with the columns event_type, person, auction, bid.

    Parameters
    ----------
    options : mapping, optional
        Of WITH (...): seed, start_time, event_rate.

    Returns
    -------
    int
        The bytes written; the same for the same options, whatever `threads`.
    """
    generator = make_generator((), options or {})
    step, size = 1 << 16, 0
    with path.open("wb", buffering=0) as out, ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[pa.Buffer]] = deque()
        for first in range(0, events, step):
            waiting.append(pool.submit(generator.json_lines, first, min(first + step, events)))
            if len(waiting) > 2 * threads:
                size += out.write(waiting.popleft().result())
        while waiting:
            size += out.write(waiting.popleft().result())
    return size
