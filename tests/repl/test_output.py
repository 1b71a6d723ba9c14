import csv
import datetime as dt
import decimal
import io
import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from repl.output import Format, unique_names, width, write_result
from repl.text import json_values, texts, visible


def written(table: pa.Table, format: Format, rows: int | None = None, **options: object) -> str:
    out = io.StringIO()
    batches = table.to_batches(max_chunksize=rows)
    assert write_result(out, table.schema, batches, format=format, **options) == table.num_rows
    return out.getvalue()


def test_a_table_looks_like_psql():
    table = pa.table({"n": [1, None, 300], "name": ["a", "日本", None], "price": [1.5, 2.25, None]})
    assert written(table, Format.TABLE, null="NULL") == (
        "  n   | name | price\n"
        "------+------+-------\n"
        "    1 | a    |   1.5\n"
        " NULL | 日本 |  2.25\n"
        "  300 | NULL |  NULL\n"
        "(3 rows)\n\n"
    )  # fmt: skip
    assert written(table.slice(0, 1).select(["name"]), Format.TABLE) == " name\n------\n a\n(1 row)\n\n"
    assert written(table.slice(0, 0).select(["n"]), Format.TABLE) == " n\n---\n(0 rows)\n\n"


def test_a_cell_with_newlines_takes_several_lines_and_control_characters_are_shown():
    table = pa.table({"a": ["x\ny", "z"], "b": ["\x1b[31m", "\t"]})
    assert written(table, Format.TABLE) == (
        "  a |    b\n---+----------\n x+| \\x1b[31m\n y |\n z | \\t\n(2 rows)\n\n"
    ).replace("  a |    b\n", " a |    b\n")


def test_expanded():
    table = pa.table({"n": [1, 2], "text": ["a\nb", None]})
    assert written(table, Format.TABLE, expanded=True, null="-") == (
        "-[ RECORD 1 ]\nn    | 1\ntext | a\n     | b\n-[ RECORD 2 ]\nn    | 2\ntext | -\n\n"
    )


def test_big_results_are_written_before_their_end():
    seen: list[str] = []
    out = io.StringIO()

    def batches():
        for start in range(0, 10_000, 1000):
            seen.append(out.getvalue())
            yield pa.record_batch({"n": range(start, start + 1000)})

    write_result(out, pa.schema([("n", pa.int64())]), batches(), format=Format.TABLE)
    assert seen[3].count("\n") >= 2000
    assert out.getvalue().endswith(" 9999\n(10000 rows)\n\n")


def test_a_live_stream_is_flushed_batch_by_batch():
    flushed: list[str] = []

    class Out(io.StringIO):
        def flush(self) -> None:
            flushed.append(self.getvalue())

    table = pa.table({"n": [1, 22]})
    write_result(Out(), table.schema, table.to_batches(max_chunksize=1), format=Format.TABLE, live=True)
    assert [text.splitlines()[-1] for text in flushed] == ["---", " 1", " 22"]
    assert "rows)" not in flushed[-1]


MIXED = pa.table(
    {
        "t": pa.array([0, 1_500_000, None], pa.timestamp("us")),
        "z": pa.array([0, 1_500_000, None], pa.timestamp("us", "UTC")),
        "c": pa.array([dt.time(1, 2, 3), dt.time(1, 2, 3, 40), None]),
        "d": pa.array([dt.date(2026, 1, 2), None, None]),
        "m": pa.array([decimal.Decimal("1.50"), decimal.Decimal("1e-9"), None], pa.decimal128(38, 9)),
        "i": pa.array([(14, -2, 3_500_000_000), (0, 0, 0), None], pa.month_day_nano_interval()),
        "b": pa.array([b"\x01\xff", b"", None]),
        "s": pa.array([{"a": 1, "b": [1.5, float("nan")]}, {"a": None, "b": None}, None]),
        "p": pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int32())),
        "f": pa.array([True, False, None]),
        "e": pa.array(["x", "y", None]).dictionary_encode(),
    }
)


def test_values_are_written_as_sql_writes_them():
    assert {name: texts(MIXED[name].combine_chunks()).to_pylist() for name in MIXED.column_names} == {
        "t": ["1970-01-01 00:00:00", "1970-01-01 00:00:01.5", None],
        "z": ["1970-01-01 00:00:00+00", "1970-01-01 00:00:01.5+00", None],
        "c": ["01:02:03", "01:02:03.00004", None],
        "d": ["2026-01-02", None, None],
        "m": ["1.500000000", "0.000000001", None],
        "i": ["1 year 2 mons -2 days 00:00:03.5", "00:00:00", None],
        "b": ["\\x01ff", "\\x", None],
        "s": ['{"a":1,"b":[1.5,"nan"]}', '{"a":null,"b":null}', None],
        "p": ['{"k":1}', "{}", None],
        "f": ["true", "false", None],
        "e": ["x", "y", None],
    }


def test_slices_of_nested_columns():
    column = pa.array([[1], [2, 3], None, [], [4]])
    assert json_values(column[1:4]) == [[2, 3], None, []]
    pairs = pa.array([{"a": [i]} for i in range(5)])
    assert json_values(pairs[2:4]) == [{"a": [2]}, {"a": [3]}]


def test_json_lines_are_json():
    lines = written(MIXED, Format.JSON).splitlines()
    rows = [json.loads(line) for line in lines]
    assert rows[0]["s"] == {"a": 1, "b": [1.5, "nan"]}
    assert '"m":1.500000000' in lines[0]
    assert rows[2] == dict.fromkeys(MIXED.column_names)
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    assert json.loads(written(twice, Format.JSON)) == {"a": 1, "a_1": 2}
    assert unique_names(["a", "a", "a_1", "a"]) == ["a", "a_1", "a_1_1", "a_2"]


@given(st.lists(st.tuples(st.one_of(st.none(), st.text()), st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)))))
def test_csv_is_read_back(rows):
    texts_ = [None if a is None else a.encode("utf-8", "replace").decode() for a, _ in rows]
    table = pa.table({"a": pa.array(texts_, pa.string()), 'b,"': pa.array([b for _, b in rows], pa.int64())})
    read = list(csv.reader(io.StringIO(written(table, Format.CSV, rows=3), newline=""), strict=True))
    assert read[0] == ["a", 'b,"']
    expected = [["" if a is None else a, "" if b is None else str(b)] for a, (_, b) in zip(texts_, rows, strict=True)]
    assert [[a.replace("\r\n", "\n"), b] for a, b in read[1:]] == [[a.replace("\r\n", "\n"), b] for a, b in expected]


def test_csv_tells_null_from_an_empty_text():
    assert written(pa.table({"a": ["", None], "b": [1, 2]}), Format.CSV) == 'a,b\n"",1\n,2\n'


@pytest.mark.parametrize(("text", "cells"), [("abc", 3), ("日本", 4), ("é", 1), ("e\u0301", 1), ("", 0)])
def test_width(text, cells):
    assert width(text) == cells


def test_arrow_is_a_stream():
    class Out(io.StringIO):
        buffer = io.BytesIO()

    table = pa.table({"a": [1, 2, None]})
    write_result(Out(), table.schema, table.to_batches(), format=Format.ARROW)
    assert pa.ipc.open_stream(Out.buffer.getvalue()).read_all() == table


def test_visible_keeps_plain_text():
    column = pa.array(["a\nb", "é", None])
    assert visible(column) is column
    assert visible(pa.array(["\x9b31m", "\r"])).to_pylist() == ["\\x9b31m", "\\r"]
