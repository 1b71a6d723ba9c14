"""How a sink tells a stream's rows: plain records, upserts by key, Debezium's envelope; an epoch's changes by key."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from planner.task_spec import SinkOp
from sabot.errors import SqlError
from sabot.ids import WEIGHT
from sabotd.connectors.base import OptionSpec
from sabotd.connectors.options import read_bool
from sabotd.formats.decode import format_name
from sabotd.formats.encode import Encoder, make_encoder

FORMATS: Final = ("plain", "upsert", "debezium")

SHAPE_OPTIONS: dict[str, OptionSpec] = {
    "key": OptionSpec("str", doc="columns of the record key, by comma", of=("sink",)),
    "primary_key": OptionSpec("str", doc="the same as key", of=("sink",)),
    "key.encode": OptionSpec(
        "enum", "json", choices=("json", "text"), doc="json: an object; text: one column's text as it is", of=("sink",)
    ),
    "force_append_only": OptionSpec(
        "bool", "false", doc="FORMAT PLAIN of a view that changes: write new rows, leave deletions out", of=("sink",)
    ),
}


@dataclass(frozen=True, slots=True)
class SinkShape:
    """What a sink's records look like. `format` is plain, upsert or debezium; `key` may be empty."""

    format: str
    key: tuple[str, ...]
    key_text: bool

    @classmethod
    def of(cls, op: SinkOp) -> SinkShape:
        """Read the shape off the options and the FORMAT clause.

        Raises
        ------
        SqlError
            The shape does not fit the columns, or cannot tell deletions.
        """
        format_ = op.options.get("format", "plain").lower()
        if format_ not in FORMATS:
            msg = f"a {op.connector} sink has no FORMAT {format_.upper()}"
            raise SqlError(msg, hint="use PLAIN, UPSERT or DEBEZIUM")
        encode = format_name(op.format)
        if format_ != "plain" and encode != "json":
            msg = f"FORMAT {format_.upper()} cannot ENCODE {encode.upper()}"
            raise SqlError(msg, hint="use ENCODE JSON")
        make_encoder(op.format, op.columns, op.options)
        key_text = op.options.get("key") or op.options.get("primary_key") or ""
        key = tuple(part.strip() for part in key_text.split(",") if part.strip())
        names = [c.name for c in op.columns]
        for column in key:
            if column not in names:
                msg = f"key column {column!r} is not in the sink"
                raise SqlError(msg, hint=f"its columns are {', '.join(names)}", sqlstate="42703")
        if format_ != "plain" and not key:
            msg = f"FORMAT {format_.upper()} needs a key"
            raise SqlError(msg, hint="name the key columns: primary_key = 'column, ...'")
        forced = read_bool(op.options, "force_append_only")
        if format_ == "plain" and op.weighted and not forced:
            msg = "FORMAT PLAIN cannot write a view whose rows change or vanish"
            hint = "use FORMAT UPSERT or DEBEZIUM with primary_key, or force_append_only = true"
            raise SqlError(msg, hint=hint, sqlstate="0A000")
        text = op.options.get("key.encode", "json") == "text"
        if text and len(key) != 1:
            msg = f"key.encode = 'text' takes one key column, not {len(key)}"
            raise SqlError(msg, hint="use key.encode = 'json'")
        return cls(format_, key, text)

    def key_encoder(self, op: SinkOp) -> Encoder:
        """Return an encoder of ``batch.select(key)`` into JSON objects."""
        columns = {c.name: c for c in op.columns}
        return make_encoder("json", tuple(columns[name] for name in self.key), {})


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one key in an epoch: `before` None if it was not there, `after` None if it is gone."""

    key: bytes | None
    before: bytes | None
    after: bytes | None


class ChangeBuffer:
    """Takes encoded rows with weights; gives the net changes of the epoch.

    The order in which a key's old and new row come does not matter; rows that cancel out are not told.
    """

    def __init__(self) -> None:
        self._batches: list[pa.Table] = []

    def add(self, keys: Sequence[bytes | None], values: Sequence[bytes | None], weights: pa.Array) -> None:
        """Take rows; all three of one length."""
        # what came over the wire need not be aligned, and Arrow's GROUP BY wants it so
        aligned = pa.array(weights.to_numpy().copy())
        self._batches.append(
            pa.table({"key": pa.array(keys, pa.binary()), "value": pa.array(values, pa.binary()), "weight": aligned})
        )

    def take(self) -> list[Change]:
        """Return the net changes, keys in the order of their first row, and forget them.

        Where a key stands for several rows, its old and new rows are paired as they came.
        """
        if not self._batches:
            return []
        table = pa.concat_tables(self._batches)
        self._batches = []
        net = table.group_by(["key", "value"], use_threads=False).aggregate([("weight", "sum")])
        olds: dict[bytes | None, list[bytes]] = {}
        news: dict[bytes | None, list[bytes]] = {}
        rows = zip(*(net.column(c).to_pylist() for c in ("key", "value", "weight_sum")), strict=True)
        for key, value, weight in rows:
            old, new = olds.setdefault(key, []), news.setdefault(key, [])
            (new if weight > 0 else old).extend([value] * abs(weight))
        changes = []
        for key, old in olds.items():
            new = news[key]
            changes += [
                Change(key, old[i] if i < len(old) else None, new[i] if i < len(new) else None)
                for i in range(max(len(old), len(new)))
            ]
        return changes


def expand_weights(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the rows that `batch` adds, each as often as its weight says, without weight; deletions are left out."""
    weights = batch.column(WEIGHT).to_numpy()
    rows = np.repeat(np.arange(batch.num_rows), np.maximum(weights, 0))
    return batch.take(pa.array(rows)).drop_columns([WEIGHT])


def records(changes: list[Change], format_: str) -> tuple[list[bytes | None], list[bytes | None]]:
    """Return the keys and values that tell `changes`."""
    keys: list[bytes | None] = [change.key for change in changes]
    if format_ == "upsert":
        return keys, [change.after for change in changes]
    now = b"%d" % (time.time_ns() // 1_000_000)
    return keys, [_envelope(change, now) for change in changes]


def _envelope(change: Change, now_ms: bytes) -> bytes:
    op = b"c" if change.before is None else b"d" if change.after is None else b"u"
    before, after = change.before or b"null", change.after or b"null"
    return b'{"before":%b,"after":%b,"op":"%b","ts_ms":%b}' % (before, after, op, now_ms)


def without_weight(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return `batch` without its weight column, if it has one."""
    return batch.drop_columns([WEIGHT]) if WEIGHT in batch.schema.names else batch
