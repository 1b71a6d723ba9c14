"""Rows out of brokers' records: decodes payloads in bulk and sets the INCLUDE columns beside them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from planner.task_spec import ColumnSpec, SourceOp
from sabot.errors import SqlError
from sabot.schema import arrow_type
from sabotd.connectors.base import BadRecord
from sabotd.formats.decode import make_decoder

Include = Callable[[], "pa.Array"]
"""Gives a column of INCLUDE, one value per record; only called where the column is read."""


class RecordAssembler:
    """Makes the rows of one source from records (payload plus what the broker says about it).

    Parameters
    ----------
    op : SourceOp
        The columns wanted, and which of them are INCLUDE columns.
    """

    def __init__(self, op: SourceOp) -> None:
        included = {column: kind for kind, column in op.include}
        decoded = tuple(c for c in op.columns if c.name not in included)
        declared = tuple(c for c in op.declared if c.name not in included)
        self.schema = pa.schema([pa.field(c.name, arrow_type(c.type)) for c in op.columns])
        self._decoder = make_decoder(op.format, decoded, declared, op.options)
        self._include = {c.name: included[c.name] for c in op.columns if c.name in included}

    def assemble(
        self, payloads: pa.BinaryArray, offsets: Sequence[object], include: Mapping[str, Include]
    ) -> tuple[pa.RecordBatch, Sequence[BadRecord]]:
        """Decode `payloads` (NULL gives no row) in order.

        Parameters
        ----------
        offsets : sequence
            One a payload; ``str`` of it names a bad record.
        include : mapping
            INCLUDE kind to its values, one a payload.
        """
        decoded = self._decoder.decode_payloads(payloads, offsets)
        if not self._include:
            return decoded.batch, decoded.errors
        arrays: list[pa.Array] = []
        for field in self.schema:
            kind = self._include.get(field.name)
            if kind is None:
                arrays.append(decoded.batch.column(field.name))
            else:
                arrays.append(_as_type(include[kind](), field.type).take(decoded.payload_index))
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema), decoded.errors


def check_include(op: SourceOp, kinds: Mapping[str, Sequence[str]]) -> None:
    """Refuse INCLUDE kinds that the connector does not have, and columns of a type that it cannot give.

    Parameters
    ----------
    kinds : mapping
        Kind to the DuckDB types that its column may have, the best first.

    Raises
    ------
    SqlError
    """
    types = {c.name: c for c in op.declared}
    for kind, column in op.include:
        if kind not in kinds:
            msg = f"{op.connector} has nothing to INCLUDE as {kind!r}"
            raise SqlError(msg, hint=f"it has {', '.join(kinds)}")
        spec: ColumnSpec | None = types.get(column)
        allowed = [arrow_type(t) for t in kinds[kind]]
        if spec is not None and arrow_type(spec.type) not in allowed:
            msg = f"INCLUDE {kind} cannot be of type {spec.type} (column {column!r})"
            raise SqlError(msg, hint=f"use {' or '.join(kinds[kind])}", sqlstate="42804")


def _as_type(array: pa.Array, wanted: pa.DataType) -> pa.Array:
    if array.type == wanted:
        return array
    if pa.types.is_list(array.type) and pa.types.is_string(wanted):
        return pa.array([None if v is None else _json_headers(v) for v in array.to_pylist()], wanted)
    if pa.types.is_binary(array.type) and pa.types.is_string(wanted):
        return _text(array)
    return pc.cast(array, wanted)


def _json_headers(headers: list[dict[str, Any]]) -> str:
    return json.dumps(
        [{"key": h["key"], "value": None if h["value"] is None else _decode(h["value"])} for h in headers],
        ensure_ascii=False,
    )


def _decode(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


def _text(array: pa.Array) -> pa.Array:
    """Bytes as text; of what is not UTF-8 the bytes are shown in hexadecimal, after a backslash and x."""
    try:
        return pc.cast(array, pa.string())
    except pa.ArrowInvalid:
        texts = [None if v is None else _decode(v) for v in array.to_pylist()]
        return pa.array(texts, pa.string())
