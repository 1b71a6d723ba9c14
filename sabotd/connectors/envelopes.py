"""Sources whose records tell changes: Debezium's before and after, Flink's rows with +I, -U, +U and -D.

The records are decoded as what they are by the connector's own reader; this turns its batches into rows with weights.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from planner.job_columns import columns_schema
from planner.render import struct_type
from planner.task_spec import Columns, ColumnSpec, SourceOp
from sabot.errors import SqlError
from sabot.ids import WEIGHT
from sabotd.connectors.base import BadRecord, Position, SourceBatch, SourceReader, SourceStatus

DEBEZIUM, FLINK = "debezium", "flink_changelog"
CHANGES = ("plain", DEBEZIUM, FLINK)
"""What FORMAT may be for sources whose records are read one by one."""
_OP = "op"
_PAYLOAD = "payload"
_KEEPS = 4096


def envelope_op(op: SourceOp) -> SourceOp:
    """Return the source of the records themselves; `op` as it is where its records are its rows.

    Raises
    ------
    SqlError
        A column has a name that the records use for themselves.
    """
    if not op.changes:
        return op
    options = {**op.options, "format": "plain"}
    columns = _envelope(op, op.columns)
    return SourceOp(
        op.relation, op.connector, options, op.format, columns, _envelope(op, op.declared), include=op.include
    )


def _envelope(op: SourceOp, columns: Columns) -> Columns:
    included = {name for _, name in op.include}
    own = tuple(c for c in columns if c.name not in included)
    beside = tuple(c for c in columns if c.name in included)
    if op.changes == FLINK:
        if any(c.name.lower() == _OP for c in columns):
            msg = f"column {_OP!r} is what the records of FORMAT FLINK_CHANGELOG tell the change by"
            raise SqlError(msg, hint="leave it out of the columns", sqlstate="42701")
        return (*own, ColumnSpec(_OP, "VARCHAR"), *beside)
    row = struct_type([(c.name, c.type) for c in own])
    fields = [(_OP, "VARCHAR"), ("before", row), ("after", row)]
    taken = {name for name, _ in fields} | {_PAYLOAD}
    if clash := taken & {c.name.lower() for c in beside}:
        name = min(clash)
        msg = f"INCLUDE column {name!r} has the name of a field of Debezium's records"
        raise SqlError(msg, hint=f"INCLUDE ... AS another_{name}", sqlstate="42701")
    # with schemas in the records all stands one level deeper
    flat = tuple(ColumnSpec(name, type_) for name, type_ in fields)
    return (*flat, ColumnSpec(_PAYLOAD, struct_type(fields)), *beside)


class ChangeReader:
    """A reader of changes over a reader of records; columns are `op.columns`, then ``__weight``."""

    def __init__(self, op: SourceOp, records: SourceReader) -> None:
        self._records = records
        self._names = [c.name for c in op.columns]
        included = {name for _, name in op.include}
        self._own = [n for n in self._names if n not in included]
        self._schema = columns_schema(op.columns).append(pa.field(WEIGHT, pa.int32()))
        self._rows = self._of_flink if op.changes == FLINK else self._of_debezium
        self._keyed = bool(op.key)
        self._bad = 0

    def read(self, max_rows: int, timeout_s: float) -> SourceBatch | None:
        """Return the next changes."""
        got = self._records.read(max_rows, timeout_s)
        if got is None:
            return None
        rows, wrong = self._rows(got.batch)
        self._bad += len(wrong)
        errors = [*got.errors, *(_bad_record(got, i, why) for i, why in wrong)]
        return SourceBatch(got.split, rows, errors)

    def _of_flink(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, list[tuple[int, str]]]:
        kind = batch.column(_OP)
        plus = _is_in(kind, ("+I", "+U", "I", "UA"))
        minus = _is_in(kind, ("-D", "-U", "D", "UB"))
        wrong = [
            (int(i), f"{kind[int(i)].as_py()!r} is none of +I, -U, +U, -D") for i in np.flatnonzero(~(plus | minus))
        ]
        known = np.flatnonzero(plus | minus)
        rows = batch.take(pa.array(known))
        return self._weighted([rows.column(n) for n in self._names], np.where(plus[known], 1, -1)), wrong

    def _of_debezium(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, list[tuple[int, str]]]:
        count = batch.num_rows
        flat = {name: batch.column(name) for name in (_OP, "before", "after")}
        deeper = batch.column(_PAYLOAD)
        if deeper.null_count < count:
            nested = dict(zip((_OP, "before", "after"), deeper.flatten(), strict=True))
            use = deeper.is_valid()
            flat = {name: pc.if_else(use, nested[name], flat[name]) for name in flat}
        kind, before, after = flat[_OP], flat["before"], flat["after"]
        has_before, has_after = (x.is_valid().to_numpy(zero_copy_only=False) for x in (before, after))
        made, changed, gone = (_is_in(kind, kinds) for kinds in (("c", "r"), ("u",), ("d",)))
        heartbeat = _is_in(kind, ("m",))
        plus = (made | changed) & has_after
        minus = (changed | gone) & has_before
        if self._keyed:
            # what was there before is known by the key, and `before` may hold no more than that
            minus = gone & has_before
        short = ((made | changed) & ~has_after) | ((gone | (changed & (not self._keyed))) & ~has_before)
        wrong = [(int(i), _short(kind[int(i)].as_py())) for i in np.flatnonzero(short)]
        unknown = ~(made | changed | gone | heartbeat)
        wrong += [(int(i), f"op {kind[int(i)].as_py()!r} is none of c, r, u, d") for i in np.flatnonzero(unknown)]
        each = np.stack([minus & ~short, plus & ~short], axis=1).ravel()
        index = np.stack([np.arange(count), np.arange(count, 2 * count)], axis=1).ravel()[each]
        of_row = dict(zip(self._own, zip(before.flatten(), after.flatten(), strict=True), strict=True))
        taken, source = pa.array(index), pa.array(index % max(count, 1))
        columns = [
            pa.concat_arrays(list(of_row[n])).take(taken) if n in of_row else batch.column(n).take(source)
            for n in self._names
        ]
        return self._weighted(columns, np.where(index < count, -1, 1)), wrong

    def _weighted(self, columns: list[pa.Array], weights: np.ndarray) -> pa.RecordBatch:
        weight = pa.array(weights.astype(np.int32), pa.int32())
        return pa.RecordBatch.from_arrays([*columns, weight], schema=self._schema)

    def finished(self) -> bool:
        """Whether all has been read."""
        return self._records.finished()

    def position(self) -> Position:
        """Return where each split stands."""
        return self._records.position()

    def fence(self) -> Position:
        """Return what each split holds now."""
        return self._records.fence()

    def status(self) -> SourceStatus:
        """Return the reader's figures, and how many records told no change."""
        told = self._records.status()
        return SourceStatus(told.state, told.splits, told.rows, told.bytes, told.bad_records + self._bad)

    def wake(self) -> None:
        """End a waiting read."""
        self._records.wake()

    def close(self) -> None:
        """Close the reader of records."""
        self._records.close()


def _is_in(kind: pa.Array, kinds: Sequence[str]) -> np.ndarray:
    found = pc.is_in(kind, value_set=pa.array(kinds, pa.string()))
    answer: np.ndarray = found.to_numpy(zero_copy_only=False)
    return answer


def _short(kind: Any) -> str:
    if kind in ("u", "d"):
        return f"op {kind!r} without before: declare a PRIMARY KEY, or have the source send whole rows"
    return f"op {kind!r} without after"


def _bad_record(got: SourceBatch, i: int, why: str) -> BadRecord:
    row = {name: column[i].as_py() for name, column in zip(got.batch.schema.names, got.batch.columns, strict=True)}
    payload = json.dumps({k: v for k, v in row.items() if v is not None}, default=str, ensure_ascii=False)
    return BadRecord(f"{got.split}: record {i} of a batch", payload.encode()[:_KEEPS], why)
