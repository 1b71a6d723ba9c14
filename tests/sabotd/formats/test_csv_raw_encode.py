"""CSV and raw records, and encoders read back by the decoders."""

import csv
import datetime as dt
import io
import math
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.task_spec import ColumnSpec
from sabot.errors import SqlError
from sabot.schema import arrow_type
from sabotd.formats.decode import format_name, make_decoder
from sabotd.formats.encode import make_encoder
from sabotd.formats.rows import csv_decoder, header_names

TEXTS = tuple(ColumnSpec(n, "VARCHAR") for n in "abc")
fields = st.text(st.sampled_from('ab," \n\r;é'), max_size=8)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(fields, fields, fields), max_size=6), st.integers(0, 200))
def test_csv_reads_what_the_csv_module_writes(rows, cut):
    out = io.StringIO(newline="")
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    data = out.getvalue().encode()
    decoder = make_decoder("csv", TEXTS, TEXTS, {})
    first = decoder.decode_buffer(data[:cut], final=False)
    rest = decoder.decode_buffer(data[first.consumed :], first.consumed)
    got = [tuple(r.values()) for r in first.batch.to_pylist() + rest.batch.to_pylist()]
    assert got == rows
    assert not [*first.errors, *rest.errors]


def test_csv_bad_records_are_kept_aside_with_their_place():
    columns = (ColumnSpec("i", "BIGINT"), ColumnSpec("s", "VARCHAR"), ColumnSpec("t", "TIMESTAMP"))
    data = b'1,x,2026-01-01\nno,x,\n3,x\n4,"a""b",\n5,"open\n 6 ,,2026-01-01 00:00:01\r\n7,"q"z,\n'
    got = make_decoder("csv", columns, columns, {}).decode_buffer(data, prefix="f:")
    assert got.batch.column("i").to_pylist() == [1, 4, 6]
    assert got.batch.column("s").to_pylist() == ["x", 'a"b', None]
    assert [(e.offset, e.payload) for e in got.errors] == [
        ("f:15", b"no,x,"), ("f:21", b"3,x"), ("f:35", b'5,"open'), ("f:69", b'7,"q"z,'),
    ]  # fmt: skip
    assert "2 fields where 3" in got.errors[1].reason


def test_csv_columns_are_found_by_the_header_and_only_the_needed_converted():
    columns = (ColumnSpec("price", "DOUBLE"), ColumnSpec("id", "BIGINT"))
    names = header_names(b'"Id";name;price\r\n', {"delimiter": ";"})
    decoder = csv_decoder(columns, columns, {"delimiter": ";"}, names)
    assert decoder.decode_buffer(b"1;not a number;2.5\n").batch.to_pylist() == [{"price": 2.5, "id": 1}]
    with pytest.raises(SqlError, match="'id' is not among the fields 'x'"):
        csv_decoder(columns, columns, {}, ["x", "price"])


def test_csv_null_text_and_quoted_empty():
    options = {"csv.null": "\\N", "csv.delimiter": "\\t"}
    got = make_decoder("csv", TEXTS, TEXTS, options).decode_buffer(b'\\N\t""\t\n')
    assert got.batch.to_pylist() == [{"a": None, "b": "", "c": ""}]


def test_csv_nested_values_are_json():
    columns = (ColumnSpec("i", "BIGINT"), ColumnSpec("s", "STRUCT(a BIGINT, l VARCHAR[])"))
    data = b'1,"{""a"": 2, ""l"": [""x""]}"\n2,"{""a"": 2, ""l"": [}"\n3,"{""a"": true}"\n4,\n'
    got = make_decoder("csv", columns, columns, {}).decode_buffer(data)
    assert got.batch.to_pylist() == [{"i": 1, "s": {"a": 2, "l": ["x"]}}, {"i": 4, "s": None}]
    assert len(got.errors) == 2


def test_raw_gives_payloads_and_lines_as_they_are():
    text, blob = (ColumnSpec("v", "VARCHAR"),), (ColumnSpec("v", "BLOB"),)
    payloads = pa.array([b"a\nb", None, b"\xff", b""])
    got = make_decoder("raw", text, text, {}).decode_payloads(payloads, [10, 11, 12, 13])
    assert got.batch.column(0).to_pylist() == ["a\nb", ""]
    assert got.payload_index.to_pylist() == [0, 3]
    assert [(e.offset, e.payload) for e in got.errors] == [("12", b"\xff")]
    assert make_decoder("raw", blob, blob, {}).decode_payloads(payloads).batch.column(0).to_pylist() == [
        b"a\nb", b"\xff", b"",
    ]  # fmt: skip
    lines = make_decoder("bytes", text, text, {}).decode_buffer(b"x\n\nlast")
    assert (lines.batch.column(0).to_pylist(), lines.consumed) == (["x", "", "last"], 7)
    part = make_decoder("raw", text, text, {}).decode_buffer(b"x\n\nlast", final=False)
    assert (part.batch.column(0).to_pylist(), part.consumed) == (["x", ""], 3)
    with pytest.raises(SqlError, match="one column"):
        make_decoder("raw", TEXTS, TEXTS, {})


def test_formats_by_name():
    assert format_name("PLAIN ENCODE JSON") == "json"
    with pytest.raises(SqlError, match="'avro' is not known"):
        format_name("avro")


ROUND = (
    ColumnSpec("i", "UBIGINT"),
    ColumnSpec('s "q"', "VARCHAR"),
    ColumnSpec("st", 'STRUCT(x DECIMAL(38,3), y DOUBLE[], "z z" STRUCT(f FLOAT))'),
    ColumnSpec("b", "BLOB"),
    ColumnSpec("tz", "TIMESTAMP WITH TIME ZONE"),
    ColumnSpec("t", "TIME"),
    ColumnSpec("d", "DATE"),
    ColumnSpec("o", "BOOLEAN"),
    ColumnSpec("ll", "DOUBLE[][]"),
    ColumnSpec("ts", "TIMESTAMP"),
    ColumnSpec("h", "HUGEINT"),
)
EMPTY = dict.fromkeys(c.name for c in ROUND)
UTC = dt.UTC
ROWS = [
    {
        "i": 2**64 - 1,
        's "q"': 'x"\n,\\é\x01',
        "st": {"x": Decimal("12345678901234567890123.456"), "y": [1e300, math.inf, None], "z z": {"f": 0.25}},
        "b": b"\x00\xff\\",
        "tz": dt.datetime(2020, 1, 1, 1, tzinfo=UTC),
        "t": dt.time(1, 2, 3, 4),
        "d": dt.date(2020, 2, 29),
        "o": True,
        "ll": [[1.0], [], None],
        "ts": dt.datetime(1969, 1, 1, 1, 1, 1, 7),
        "h": Decimal(2**100),
    },
    EMPTY,
    {**EMPTY, 's "q"': "", "st": {"x": None, "y": [], "z z": None}, "b": b""},
]


@pytest.mark.parametrize("format", ["json", "csv"])
def test_what_is_encoded_decodes_to_the_same_rows(format):
    schema = pa.schema([(c.name, arrow_type(c.type)) for c in ROUND])
    batch = pa.RecordBatch.from_pylist(ROWS, schema=schema)
    records = make_encoder(format, ROUND, {}).encode(batch)
    got = make_decoder(format, ROUND, ROUND, {}).decode_buffer(b"\n".join(records.to_pylist()))
    assert not got.errors
    assert got.batch.equals(batch)


def test_json_columns_stay_on_one_line():
    column = (ColumnSpec("j", "JSON"),)
    batch = pa.record_batch([pa.array(['{"a":\n 1.000}', "not json", None])], names=["j"])
    assert make_encoder("json", column, {}).encode(batch).to_pylist() == [
        b'{"j":{"a":  1.000}}', b'{"j":"not json"}', b'{"j":null}',
    ]  # fmt: skip
