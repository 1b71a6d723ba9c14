"""The decoders of records: JSON, CSV and raw payloads, each a thin shell around bulk work."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from planner.task_spec import Columns
from sabot.errors import SqlError
from sabot.schema import arrow_type
from sabotd.connectors.base import BadRecord
from sabotd.connectors.options import read_bool
from sabotd.formats._decoder import RowDecoder
from sabotd.formats.decode import Bytes, Decoded, Payloads
from sabotd.formats.plan import ColumnPlan, plan_columns


def make_batch(schema: pa.Schema, rows: int, arrays: Sequence[pa.Array]) -> pa.RecordBatch:
    """Return a batch of `rows` rows, also when there is no column."""
    if arrays:
        return pa.RecordBatch.from_arrays(list(arrays), schema=schema)
    return pa.RecordBatch.from_struct_array(pa.Array.from_buffers(pa.struct([]), rows, [None]))


def split_payloads(payloads: Payloads) -> tuple[Bytes, object, Bytes | None, int]:
    """Return (buffer, int64 offsets, a byte that is not 0 for each NULL or None, number of payloads)."""
    if isinstance(payloads, tuple):
        data, offsets = payloads
        return data, offsets, None, memoryview(cast("bytes", offsets)).nbytes // 8 - 1
    if not (pa.types.is_binary(payloads.type) or pa.types.is_string(payloads.type)):
        msg = f"payloads must be binary or string, not {payloads.type}"
        raise TypeError(msg)
    n = len(payloads)
    _, raw_offsets, data = payloads.buffers()
    offsets = np.frombuffer(raw_offsets, np.int32)[payloads.offset : payloads.offset + n + 1].astype(np.int64)
    skip = None
    if payloads.null_count:
        skip = pc.is_null(payloads).cast(pa.uint8()).to_numpy().tobytes()
    return data if data is not None else b"", offsets, skip, n


def _bad_record(offset: str, view: memoryview, start: int, end: int, reason: str) -> BadRecord:
    return BadRecord(offset, bytes(view[start:end]), reason)


class RecordDecoder:
    """JSON or CSV records through the compiled kernel.

    Used by one thread at a time; the GIL is released while records are decoded.
    """

    def __init__(
        self,
        columns: Columns,
        csv_plan: tuple[int, int, bytes, tuple[int, ...]] | None = None,
    ) -> None:
        plans: tuple[ColumnPlan, ...] = plan_columns((c.name, c.type) for c in columns)
        self.schema = pa.schema([pa.field(p.name, p.type) for p in plans])
        self._rows = RowDecoder(plans, csv_plan)

    def decode_buffer(
        self,
        buf: Bytes,
        base_offset: int = 0,
        *,
        prefix: str = "",
        max_records: int | None = None,
        limit: int | None = None,
        final: bool = True,
    ) -> Decoded:
        """Decode newline-separated records; see `Decoder`."""
        rows, arrays, bad, consumed = self._rows.decode_lines(
            buf, -1 if max_records is None else max_records, -1 if limit is None else limit, final
        )
        errors: list[BadRecord] = []
        if bad:
            view = memoryview(buf)
            errors = [
                _bad_record(f"{prefix}{base_offset + start}", view, start, end, why) for _, start, end, why in bad
            ]
        return Decoded(make_batch(self.schema, rows, arrays), errors, consumed)

    def decode_payloads(self, payloads: Payloads, record_offsets: Sequence[object] | None = None) -> Decoded:
        """Decode payloads of any number of values each; see `Decoder`."""
        data, offsets, skip, n = split_payloads(payloads)
        rows, arrays, bad, index = self._rows.decode_payloads(data, offsets, skip)
        errors: list[BadRecord] = []
        if bad:
            view = memoryview(data)
            errors = [
                _bad_record(str(i if record_offsets is None else record_offsets[i]), view, start, end, why)
                for i, start, end, why in bad
            ]
        index_array = pa.Int32Array.from_buffers(pa.int32(), rows, [None, index])
        return Decoded(make_batch(self.schema, rows, arrays), errors, n, index_array)


def json_decoder(columns: Columns) -> RecordDecoder:
    """Make a decoder of JSON objects (or arrays of objects) with a field a column."""
    return RecordDecoder(columns)


def csv_option(options: Mapping[str, str], name: str, default: str) -> str:
    """Return ``csv.<name>`` of WITH, or ``<name>`` of ENCODE CSV (...)."""
    return options.get(name, options.get(name.removeprefix("csv."), default))


def has_header(options: Mapping[str, str]) -> bool:
    """Whether the first line of a CSV file names its fields."""
    if "without_header" in options:
        return not read_bool(options, "without_header")
    return read_bool({"csv.header": csv_option(options, "csv.header", "true")}, "csv.header")


def _one_byte(options: Mapping[str, str], name: str, default: str) -> int:
    text = csv_option(options, name, default)
    text = {"\\t": "\t"}.get(text, text)
    if name == "csv.quote" and not text:
        return -1
    if len(text.encode()) != 1 or text in "\r\n":
        msg = f"option {name!r} is {text!r}, which is not one character"
        raise SqlError(msg, hint="give one ASCII character, or \\t for a tab")
    return ord(text)


def csv_rules(options: Mapping[str, str]) -> tuple[int, int, bytes]:
    """Return delimiter, quote (-1: none) and NULL text of WITH (...)."""
    delimiter = _one_byte(options, "csv.delimiter", ",")
    quote = _one_byte(options, "csv.quote", '"')
    if delimiter == quote:
        msg = "'csv.delimiter' and 'csv.quote' are the same character"
        raise SqlError(msg, hint="use another delimiter")
    return delimiter, quote, csv_option(options, "csv.null", "").encode()


def header_names(line: bytes, options: Mapping[str, str]) -> list[str]:
    """Return the field names of a header line."""
    delimiter, quote, _ = csv_rules(options)
    text = line.decode("utf-8-sig").rstrip("\r\n")
    rows = csv.reader(
        [text],
        delimiter=chr(delimiter),
        quotechar=chr(quote) if quote >= 0 else None,
        quoting=csv.QUOTE_MINIMAL if quote >= 0 else csv.QUOTE_NONE,
    )
    return [name.strip() for name in next(rows, [])]


def csv_decoder(
    columns: Columns, declared: Columns, options: Mapping[str, str], field_names: Sequence[str] | None = None
) -> RecordDecoder:
    """Make a decoder of CSV records.

    Parameters
    ----------
    field_names : sequence of str, optional
        The names a header gives its fields, in order: fields are found by them (or else but for case). Without it
        the fields stand in the order of `declared`.

    Raises
    ------
    SqlError
        The header lacks a column, or an option is wrong.
    """
    wanted = {c.name: i for i, c in enumerate(columns)}
    names = [c.name for c in declared] if field_names is None else list(field_names)
    field_map = [-1] * len(names)
    for name, column in wanted.items():
        places = [i for i, n in enumerate(names) if n == name] or [
            i for i, n in enumerate(names) if n.lower() == name.lower()
        ]
        if not places:
            msg = f"column {name!r} is not among the fields {', '.join(map(repr, names))}"
            raise SqlError(msg, hint="declare the names of the header, or set csv.header = false", sqlstate="42703")
        field_map[places[0]] = column
    return RecordDecoder(columns, (*csv_rules(options), tuple(field_map)))


class RawDecoder:
    """One column with the whole payload (or line) as VARCHAR or BLOB."""

    def __init__(self, columns: Columns) -> None:
        types = [arrow_type(c.type) for c in columns]
        if len(columns) > 1 or any(t not in (pa.string(), pa.binary()) for t in types):
            msg = f"format RAW gives one column of type VARCHAR or BYTEA, not {len(columns)} columns"
            if len(columns) == 1:
                msg = f"format RAW gives VARCHAR or BYTEA, not {columns[0].type}"
            raise SqlError(msg, hint="use ENCODE JSON for several columns")
        self.schema = pa.schema([pa.field(c.name, t) for c, t in zip(columns, types, strict=True)])

    def decode_buffer(
        self,
        buf: Bytes,
        base_offset: int = 0,
        *,
        prefix: str = "",
        max_records: int | None = None,
        limit: int | None = None,
        final: bool = True,
    ) -> Decoded:
        """Give a row a line, without its newline; see `Decoder`."""
        data = np.frombuffer(buf, np.uint8)
        ends = np.flatnonzero(data == 10)
        if final and len(data) and (not len(ends) or ends[-1] != len(data) - 1):
            ends = np.append(ends, len(data))
        if max_records is not None:
            ends = ends[:max_records]
        starts = np.concatenate(([0], ends[:-1] + 1)) if len(ends) else ends
        if limit is not None:
            starts = starts[: np.searchsorted(starts, limit)]
            ends = ends[: len(starts)]
        consumed = int(min(ends[-1] + 1, len(data))) if len(ends) else 0
        # a row a line: lines and the newlines between them take turns
        bounds = np.empty(2 * len(ends) + 1, np.int64)
        bounds[0:-1:2], bounds[1::2], bounds[-1] = starts, ends, consumed
        pieces = _pieces(pa.py_buffer(buf), bounds)
        lines = pieces.take(pa.array(np.arange(0, 2 * len(ends), 2)))
        kept, errors = self._typed(lines, lambda i: f"{prefix}{base_offset + int(starts[i])}")
        return Decoded(kept[0], errors, consumed)

    def decode_payloads(self, payloads: Payloads, record_offsets: Sequence[object] | None = None) -> Decoded:
        """Give a row a payload; see `Decoder`."""
        data, offsets, skip, n = split_payloads(payloads)
        pieces = _pieces(pa.py_buffer(data), np.frombuffer(cast("bytes", offsets), np.int64))
        index = np.arange(n, dtype=np.int32)
        if skip is not None:
            index = np.flatnonzero(np.frombuffer(skip, np.uint8) == 0).astype(np.int32)
            pieces = pieces.take(pa.array(index))
        name = (
            (lambda i: str(int(index[i]))) if record_offsets is None else (lambda i: str(record_offsets[int(index[i])]))
        )
        (batch, rows), errors = self._typed(pieces, name)
        return Decoded(batch, errors, n, pa.array(index[rows]))

    def _typed(
        self, pieces: pa.LargeBinaryArray, name: Callable[[int], str]
    ) -> tuple[tuple[pa.RecordBatch, np.ndarray], list[BadRecord]]:
        rows = np.arange(len(pieces))
        if not self.schema:
            return (make_batch(self.schema, len(pieces), ()), rows), []
        errors = []
        if self.schema.field(0).type == pa.string():
            text = [_utf8_error(piece) for piece in pieces.to_pylist()] if not _all_utf8(pieces) else []
            bad = [i for i, why in enumerate(text) if why]
            errors = [BadRecord(name(i), pieces[i].as_py(), text[i]) for i in bad]
            if bad:
                rows = np.delete(rows, bad)
                pieces = pieces.take(pa.array(rows))
        return (make_batch(self.schema, len(pieces), [pieces.cast(self.schema.field(0).type)]), rows), errors


def _pieces(data: pa.Buffer, bounds: np.ndarray) -> pa.LargeBinaryArray:
    return pa.Array.from_buffers(pa.large_binary(), len(bounds) - 1, [None, pa.py_buffer(bounds), data])


def _all_utf8(pieces: pa.LargeBinaryArray) -> bool:
    try:
        pieces.cast(pa.large_string())
    except pa.ArrowInvalid:
        return False
    return True


def _utf8_error(piece: bytes) -> str:
    try:
        piece.decode()
    except UnicodeDecodeError as error:
        return f"not utf-8 at byte {error.start}"
    return ""
