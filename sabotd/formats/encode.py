"""Encoders: an Arrow batch into one record a row, in bulk through DuckDB. What a decoder reads back is the same row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Protocol

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from planner.task_spec import Columns
from sabot.errors import ConnectorError, SqlError
from sabot.schema import arrow_type, literal, quote, struct_fields
from sabotd.formats.decode import format_name
from sabotd.formats.rows import csv_rules, has_header
from sabotd.state.duckdb_state import Slot


class Encoder(Protocol):
    """Turns batches of the given columns into records; used by one thread at a time."""

    header: bytes | None
    """The first line of a file, without its newline; None if there is none."""

    def encode(self, batch: pa.RecordBatch) -> pa.BinaryArray:
        """Return a record a row, in order, without newlines at the ends.

        Raises
        ------
        ConnectorError
            A value has no form in the format.
        """
        ...


def make_encoder(format: str | None, columns: Columns, options: Mapping[str, str]) -> Encoder:
    """Make an encoder of batches with exactly `columns` (no ``__weight``).

    Raises
    ------
    SqlError
        The format cannot take a column, or an option of the format is wrong.
    """
    match format_name(format):
        case "json":
            return _SqlEncoder(columns, _json_object((c.name, quote(c.name), c.type) for c in columns), None)
        case "csv":
            return _csv_encoder(columns, options)
        case "raw":
            if len(columns) != 1 or arrow_type(columns[0].type) not in (pa.string(), pa.binary()):
                msg = f"format RAW takes one column of type VARCHAR or BYTEA, not {len(columns)} columns"
                raise SqlError(msg, hint="use ENCODE JSON for several columns")
            return _RawEncoder()
        case _:
            msg = "format 'parquet' is for files only"
            raise SqlError(msg, hint="use ENCODE JSON, CSV or RAW for the records of a topic")


def _json_object(fields: Iterable[tuple[str, str, str]]) -> str:
    """Return the SQL of an object's text from (name, value SQL, type text)."""
    parts = [literal(f"{json.dumps(name, ensure_ascii=False)}:") + f" || {_json(v, t)}" for name, v, t in fields]
    return "'{' || " + " || ',' || ".join(parts) + " || '}'" if parts else "'{}'"


def _json(value: str, type: str, depth: int = 0) -> str:
    """Return the SQL of a value's JSON text, never NULL. Numbers are written as they are: no digit is lost."""
    arrow = arrow_type(type)
    if pa.types.is_struct(arrow):
        text = _json_object((name, f"{value}.{quote(name)}", t) for name, t in struct_fields(type))
        return f"CASE WHEN {value} IS NULL THEN 'null' ELSE {text} END"
    if pa.types.is_list(arrow):
        item = type.strip()[: type.strip().rindex("[")]
        text = f"array_to_string(list_transform({value}, lambda e{depth}: {_json(f'e{depth}', item, depth + 1)}), ',')"
        return f"CASE WHEN {value} IS NULL THEN 'null' ELSE '[' || {text} || ']' END"
    if type.strip().upper() in ("JSON", "JSONB"):
        # a newline can only be space between tokens, and would end the record
        text = (
            f"CASE WHEN json_valid({value}) THEN translate({value}, chr(10) || chr(13), '  ') ELSE to_json({value}) END"
        )
    elif pa.types.is_floating(arrow):
        text = f"CASE WHEN isfinite({value}) THEN {value}::VARCHAR ELSE to_json({value}::VARCHAR) END"
    elif pa.types.is_decimal(arrow) or pa.types.is_integer(arrow) or pa.types.is_boolean(arrow):
        text = f"{value}::VARCHAR"
    elif pa.types.is_binary(arrow):
        text = f"to_json('\\x' || lower(hex({value})))"
    else:
        text = f"to_json({value})"
    return f"coalesce({text}, 'null')"


class _SqlEncoder:
    """Runs one expression over each batch."""

    def __init__(self, columns: Columns, expression: str, header: bytes | None) -> None:
        self.header = header
        # a row needs a column to be a row in DuckDB's eyes
        self._schema = pa.schema([pa.field(c.name, arrow_type(c.type)) for c in columns] or [("none", pa.int8())])
        self._empty = not columns
        self._slot = Slot(self._schema)
        self._connection = duckdb.connect(":memory:", config={"threads": 1, "async_threads": 1})
        self._connection.execute("SET TimeZone = 'UTC'")
        self._connection.register("input", self._slot)
        self._connection.execute(f"PREPARE encode AS SELECT {expression} AS record FROM input")

    def encode(self, batch: pa.RecordBatch) -> pa.BinaryArray:
        if self._empty:
            batch = pa.record_batch([pa.nulls(batch.num_rows, pa.int8())], schema=self._schema)
        self._slot.fill([batch])
        try:
            table = self._connection.sql("EXECUTE encode").to_arrow_table()
        except duckdb.Error as error:
            msg = f"a row cannot be encoded: {error}"
            raise ConnectorError(msg) from error
        finally:
            self._slot.clear()
        records = table.column(0).combine_chunks()
        return records.cast(pa.binary())


class _RawEncoder:
    """The one column as it is; NULL gives an empty record."""

    header: bytes | None = None

    def encode(self, batch: pa.RecordBatch) -> pa.BinaryArray:
        return pc.fill_null(batch.column(0).cast(pa.binary()), b"")


def _csv_encoder(columns: Columns, options: Mapping[str, str]) -> _SqlEncoder:
    delimiter_byte, quote_byte, null_bytes = csv_rules(options)
    if quote_byte < 0:
        msg = "a CSV sink needs a quote character"
        raise SqlError(msg, hint="leave 'csv.quote' out")
    delimiter, mark, null = chr(delimiter_byte), chr(quote_byte), null_bytes.decode()

    def quoted(text: str) -> str:
        inner = f"replace({text}, {literal(mark)}, {literal(mark * 2)})"
        return f"{literal(mark)} || {inner} || {literal(mark)}"

    def field(name: str, type: str) -> str:
        value, arrow = quote(name), arrow_type(type)
        if pa.types.is_nested(arrow):
            text = _json(value, type)
        elif pa.types.is_binary(arrow):
            text = f"'\\x' || lower(hex({value}))"
        else:
            text = f"{value}::VARCHAR"
        special = " OR ".join(
            f"contains({text}, {part})" for part in (literal(delimiter), literal(mark), "chr(10)", "chr(13)")
        )
        shown = f"CASE WHEN {special} OR {text} = {literal(null)} THEN {quoted(text)} ELSE {text} END"
        return f"CASE WHEN {value} IS NULL THEN {literal(null)} ELSE {shown} END"

    def name_field(name: str) -> str:
        special = any(part in name for part in (delimiter, mark, "\n", "\r"))
        return mark + name.replace(mark, mark * 2) + mark if special else name

    expression = f" || {literal(delimiter)} || ".join(field(c.name, c.type) for c in columns) or "''"
    header = delimiter.join(name_field(c.name) for c in columns).encode() if has_header(options) else None
    return _SqlEncoder(columns, expression, header)
