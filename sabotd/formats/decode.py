"""Decoders: many encoded records into one Arrow batch, the bad ones kept aside.

Connectors hand over bytes in bulk; how the records came (file, broker) is not known here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import pyarrow as pa

from planner.task_spec import Columns
from sabot.errors import SqlError
from sabotd.connectors.base import BadRecord, OptionSpec

Bytes: TypeAlias = bytes | bytearray | memoryview | pa.Buffer
Payloads: TypeAlias = pa.BinaryArray | pa.StringArray | tuple[Bytes, object]
"""Encoded records: a binary or string array, or (buffer, int64 offsets as a buffer, n + 1 of them)."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a call gave.

    `batch` has exactly the decoder's columns. `consumed`: bytes of the buffer that were used up (`decode_buffer`), or
    payloads (`decode_payloads`). `payload_index`: which payload each row came from (int32; `decode_payloads` only), for
    ``take`` on the INCLUDE columns.
    """

    batch: pa.RecordBatch
    errors: Sequence[BadRecord]
    consumed: int
    payload_index: pa.Int32Array | None = None


class Decoder(Protocol):
    """Turns encoded records into rows of `schema`; used by one thread at a time."""

    schema: pa.Schema

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
        """Decode newline-separated records.

        Parameters
        ----------
        buf : bytes-like
            Under 2 GiB.
        base_offset : int
            Where `buf` stands in its source, in bytes. A bad record's offset is `prefix` followed by ``base_offset +``
            its first byte.
        max_records : int, optional
            Stop after so many; ``Decoded.consumed`` says where to go on.
        limit : int, optional
            Begin no record at this byte of `buf` or after.
        final : bool
            Nothing follows `buf`: its last record needs no newline. Else a record without its end is left.
        """
        ...

    def decode_payloads(self, payloads: Payloads, record_offsets: Sequence[object] | None = None) -> Decoded:
        """Decode payloads that each hold any number of values; a NULL payload holds none.

        Parameters
        ----------
        payloads : BinaryArray, StringArray or (buffer, offsets)
            Payload i is ``buffer[offsets[i]:offsets[i + 1]]``; offsets are int64, in any object with a buffer.
        record_offsets : sequence, optional
            ``str(record_offsets[i])`` becomes the offset of a bad record in payload i; without it, ``str(i)``.
        """
        ...


_CSV: dict[str, OptionSpec] = {
    "header": OptionSpec("bool", "true", doc="CSV: the first line of a file names the fields"),
    "delimiter": OptionSpec("str", ",", doc="CSV: one character, or \\t"),
    "quote": OptionSpec("str", '"', doc="CSV: one character; empty for none"),
    "null": OptionSpec("str", "", doc="CSV: an unquoted field with this text is NULL"),
}
FORMAT_OPTIONS: dict[str, OptionSpec] = {
    **{f"csv.{name}": spec for name, spec in _CSV.items()},
    **_CSV,
    "without_header": OptionSpec("bool", doc="CSV: the opposite of header"),
}
"""Options of the format: ``csv.delimiter`` in WITH (...), ``delimiter`` in ENCODE CSV (...)."""

FORMATS = ("json", "csv", "parquet", "raw")


def format_name(text: str | None, default: str = "json") -> str:
    """Return the encoding of a format text (``json``, ``PLAIN ENCODE JSON``) in lower case.

    Raises
    ------
    SqlError
        If there is no such format.
    """
    name = text.split()[-1].lower() if text and text.strip() else default
    name = {"bytes": "raw", "text": "raw", "ndjson": "json"}.get(name, name)
    if name not in FORMATS:
        msg = f"format {text!r} is not known"
        raise SqlError(msg, hint=f"use one of {', '.join(f.upper() for f in FORMATS)}")
    return name


def make_decoder(format: str | None, columns: Columns, declared: Columns, options: Mapping[str, str]) -> Decoder:
    """Make a decoder of `columns`, which are `declared` after pruning (INCLUDE columns in neither).

    Raises
    ------
    SqlError
        The format cannot give a column, or an option of the format is wrong.
    """
    from sabotd.formats import rows

    match format_name(format):
        case "json":
            return rows.json_decoder(columns)
        case "csv":
            return rows.csv_decoder(columns, declared, options)
        case "raw":
            return rows.RawDecoder(columns)
        case _:
            msg = "format 'parquet' is for files only"
            raise SqlError(msg, hint="use ENCODE JSON, CSV or RAW for the records of a topic")
