"""The compiled JSON decoder against its plain twin, and what each type takes."""

import json
import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.task_spec import ColumnSpec
from sabot.errors import SqlError
from sabotd.formats import _fallback
from sabotd.formats._decoder import RowDecoder
from sabotd.formats.decode import make_decoder
from sabotd.formats.plan import plan_columns

COLUMNS = (
    ("b", "BOOLEAN"),
    ("i8", "TINYINT"),
    ("i", "BIGINT"),
    ("u", "UBIGINT"),
    ("h", "HUGEINT"),
    ("f", "FLOAT"),
    ("d", "DOUBLE"),
    ("n", "DECIMAL(12,3)"),
    ("s", "VARCHAR"),
    ("j", "JSON"),
    ("x", "BLOB"),
    ("day", "DATE"),
    ("t", "TIME"),
    ("ts", "TIMESTAMP"),
    ("ms", "TIMESTAMP_MS"),
    ("tz", "TIMESTAMP WITH TIME ZONE"),
    ("st", 'STRUCT(a BIGINT, "B c" VARCHAR, inner STRUCT(q DOUBLE))'),
    ("li", "BIGINT[]"),
    ("ls", "STRUCT(k VARCHAR)[]"),
    ("ll", "VARCHAR[][]"),
)
PLANS = plan_columns(COLUMNS)

texts = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        [
            "1",
            "-7",
            "1.0",
            "1e3",
            "2.5",
            "99999999999999999999",
            "nan",
            "-Infinity",
            "1e400",
            "0x1",
            "",
            " 1",
            "true",
            "F",
            "yes",
            "2026-02-28",
            "2024-02-29",
            "2023-02-29",
            "2026-01-01T12:30:00.123456789Z",
            "1969-12-31 23:59:59.999999+05:30",
            "2026-01-01 25:00:00",
            "12:00",
            "23:59:59.5",
            "\\xDEad",
            "\\xa",
            "é\u0000😀",
        ]
    ),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(-300, 300),
    st.sampled_from([0, 1_700_000_000, 1_700_000_000_123, 1_700_000_000_123_456, 86_399_999_999, -1]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    texts,
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["a", "A", "B c", "inner", "q", "k", "z", 'é"']), inner, max_size=4),
    ),
    max_leaves=8,
)
keys = st.sampled_from([name for name, _ in COLUMNS] + ["B", "St", "other", "öther", "key\nwith\\escapes" * 6])
fitting = st.fixed_dictionaries({}, optional={
    "b": st.booleans(), "i8": st.integers(-128, 127), "i": st.integers(-(2**63), 2**63 - 1),
    "u": st.integers(0, 2**64 - 1), "d": st.floats(allow_nan=False, allow_infinity=False), "s": st.text(max_size=60),
    "st": st.fixed_dictionaries({}, optional={"a": st.integers(0, 9), "inner": st.just({"q": None})}),
    "li": st.lists(st.integers(-9, 9), max_size=5), "ls": st.lists(st.fixed_dictionaries({"k": st.text(max_size=5)})),
    "ll": st.lists(st.lists(st.text(max_size=3), max_size=3), max_size=3), "skip": values,
})  # fmt: skip
objects = st.one_of(st.dictionaries(keys, values, max_size=6), fitting, fitting)


@st.composite
def json_text(draw: st.DrawFn, value: object) -> str:
    return json.dumps(
        value,
        ensure_ascii=draw(st.booleans()),
        separators=draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " :\r ")])),
    )


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    parts = []
    for _ in range(draw(st.integers(0, 3))):
        value = draw(st.one_of(objects, objects, st.lists(objects, max_size=3), values))
        parts.append(draw(json_text(value)))
    return draw(st.sampled_from(["", " ", "\t\r"])).join(["", *parts, ""]).encode("utf-8", "surrogatepass")


def assert_same(got: tuple, wanted: tuple) -> None:
    assert got[0] == wanted[0]
    assert [e[:3] for e in got[2]] == [e[:3] for e in wanted[2]], got[2]
    for plan, ours, right in zip(PLANS, got[1], wanted[1], strict=True):
        ours.validate(full=True)
        # NaN equals NaN where the texts are compared
        assert ours.equals(right) or str(ours.to_pylist()) == str(right.to_pylist()), plan.name


compiled = RowDecoder(PLANS)  # one for all examples: what it learned of keys must not matter
plain = _fallback.RowDecoder(PLANS)


@settings(max_examples=150, deadline=None)
@given(st.lists(payloads(), max_size=4))
def test_payloads_equal_the_twin(data):
    offsets = np.cumsum([0] + [len(p) for p in data])
    *got, index = compiled.decode_payloads(b"".join(data), offsets.astype(np.int64))
    *wanted, right_index = plain.decode_payloads(b"".join(data), offsets.tolist())
    assert_same(got, wanted)
    assert np.frombuffer(index, np.int32).tolist() == right_index


@settings(max_examples=150, deadline=None)
@given(st.lists(payloads(), max_size=5), st.sampled_from([b"\n", b"\r\n", b"\n\n"]))
def test_lines_equal_the_twin(data, newline):
    lines = newline.join(data)
    assert_same(compiled.decode_lines(lines), plain.decode_lines(lines))


def test_broken_text_never_crashes_and_what_is_whole_is_equal():
    rng = random.Random(7)
    alphabet = b'{}[]",:\\ \n0123456789eE+-.truefalsn\x00\x1f\xc3\xa9\xff'
    base = b'{"i": 12, "s": "a\\u00e9\\ud83d\\ude00b", "st": {"a": 1, "B c": null}, "ll": [["x"]], "o": {"d": [{}]}}'
    for _ in range(4_000):
        line = bytearray(base)
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(line))
            match rng.randrange(3):
                case 0:
                    line[at] = rng.choice(alphabet)
                case 1:
                    del line[at : at + rng.randrange(1, 9)]
                case _:
                    line.insert(at, rng.choice(alphabet))
        data = bytes(line).replace(b"\n", b" ")
        got = compiled.decode_payloads(data, np.array([0, len(data)], np.int64))
        for array in got[1]:
            array.validate(full=True)
            assert len(array) == got[0]
        wanted = plain.decode_payloads(data, [0, len(data)])
        if not wanted[2]:
            assert_same(got, wanted)


def test_every_cut_of_a_buffer_gives_the_same_rows():
    columns = tuple(ColumnSpec(*c) for c in (("i", "BIGINT"), ("s", "VARCHAR")))
    lines = b'{"i":1,"s":"\\"{["}\n{"i":2,"s":"two"}\n\n{"i":bad}\n{"s":"\xc3\xa9","i":3}\n'
    decoder = make_decoder("json", columns, columns, {})
    whole = decoder.decode_buffer(lines, 100, prefix="f:")
    assert whole.batch.to_pylist() == [{"i": 1, "s": '"{['}, {"i": 2, "s": "two"}, {"i": 3, "s": "é"}]
    bad = b'{"i":bad}'
    assert [(e.offset, e.payload) for e in whole.errors] == [(f"f:{100 + lines.index(bad)}", bad)]
    for cut in range(len(lines) + 1):
        first = decoder.decode_buffer(lines[:cut], 100, prefix="f:", final=False)
        assert first.consumed <= cut
        assert lines[: first.consumed].endswith(b"\n") or first.consumed == 0
        rest = decoder.decode_buffer(lines[first.consumed :], 100 + first.consumed, prefix="f:")
        assert first.batch.to_pylist() + rest.batch.to_pylist() == whole.batch.to_pylist()
        assert [*first.errors, *rest.errors] == list(whole.errors)


def test_max_records_and_limit_say_where_to_go_on():
    columns = (ColumnSpec("i", "BIGINT"),)
    decoder = make_decoder("json", columns, columns, {})
    lines = b'{"i":1}\n{"i":2}\n{"i":3}\n'
    got = decoder.decode_buffer(lines, max_records=2)
    assert (got.batch.num_rows, got.consumed) == (2, 16)
    assert decoder.decode_buffer(lines, limit=8).consumed == 8
    assert decoder.decode_buffer(lines, limit=9).consumed == 16


@pytest.mark.parametrize(("type", "source", "wanted"), [
    ("BIGINT", '"42"', 42),
    ("BIGINT", "1e2", 100),
    ("INTEGER", "7.0", 7),
    ("DOUBLE", '"1.5"', 1.5),
    ("VARCHAR", "12.50", "12.50"),
    ("VARCHAR", "true", "true"),
    ("VARCHAR", '{"a": [1]}', '{"a": [1]}'),
    ("JSON", '"x"', '"x"'),
    ("DECIMAL(6,2)", "1.005", "1.01"),
    ("DECIMAL(6,2)", '"-1.005"', "-1.01"),
    ("BOOLEAN", "1", True),
    ("BOOLEAN", '"off"', False),
    ("TIMESTAMP", "1700000000", "2023-11-14 22:13:20"),
    ("TIMESTAMP", "1700000000123", "2023-11-14 22:13:20.123000"),
    ("TIMESTAMP", "1700000000.5", "2023-11-14 22:13:20.500000"),
    ("TIMESTAMP", '"2026-01-01T02:00:00+02:00"', "2026-01-01 00:00:00"),
    ("TIMESTAMP", '"2026-01-01"', "2026-01-01 00:00:00"),
    ("TIMESTAMP WITH TIME ZONE", '"2026-01-01 00:00:00Z"', "2026-01-01 00:00:00+00:00"),
    ("DATE", "1", "1970-01-02"),
    ("BLOB", '"\\\\x00ff"', b"\x00\xff"),
    ("UUID", '"A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"', "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
])  # fmt: skip
def test_what_a_type_takes(type, source, wanted):
    columns = (ColumnSpec("v", type),)
    got = make_decoder("json", columns, columns, {}).decode_buffer(f'{{"v": {source}}}'.encode())
    assert not got.errors
    value = got.batch.column(0)[0].as_py()
    assert (value if isinstance(wanted, bool | int | float | bytes) else str(value)) == wanted


@pytest.mark.parametrize(("type", "source"), [
    ("TINYINT", "128"),
    ("UINTEGER", "-1"),
    ("BIGINT", "1.5"),
    ("BIGINT", "true"),
    ("BIGINT", "[1]"),
    ("DOUBLE", "1e999"),
    ("DECIMAL(4,2)", "100"),
    ("TIMESTAMP", '"2026-13-01"'),
    ("TIMESTAMP", '"yesterday"'),
    ("VARCHAR", '"\\ud800"'),
    ("VARCHAR", '"\x01"'),
    ("UUID", '"x"'),
    ("STRUCT(a BIGINT)", "1"),
    ("BIGINT[]", '["x"]'),
])  # fmt: skip
def test_what_does_not_fit_is_a_bad_record_and_the_others_go_on(type, source):
    columns = (ColumnSpec("v", type), ColumnSpec("k", "BIGINT"))
    lines = f'{{"k":1}}\n{{"k":2,"v":{source}}}\n{{"k":3}}'.encode()
    got = make_decoder("json", columns, columns, {}).decode_buffer(lines)
    assert got.batch.column("k").to_pylist() == [1, 3]
    (bad,) = got.errors
    assert bad.offset == "8"
    assert bad.payload == f'{{"k":2,"v":{source}}}'.encode()
    assert "'v" in bad.reason


def test_a_broken_payload_gives_no_row_but_a_bad_element_only_its_own():
    columns = (ColumnSpec("i", "BIGINT"),)
    decoder = make_decoder("json", columns, columns, {})
    got = decoder.decode_payloads(
        pa.array([b'[{"i":1},{"i":"x"},{"i":3}]', None, b'{"i":4} {"i":5', b'{"i":6}{"i":7}', b"", b"8"]),
        ["a", "b", "c", "d", "e", "f"],
    )
    assert got.batch.column(0).to_pylist() == [1, 3, 6, 7]
    assert got.payload_index.to_pylist() == [0, 0, 3, 3]
    assert [(e.offset, e.payload) for e in got.errors] == [("a", b'{"i":"x"}'), ("c", b'{"i":4} {"i":5'), ("f", b"8")]


def test_no_columns_still_counts_rows():
    decoder = make_decoder("json", (), (), {})
    assert decoder.decode_buffer(b'{"a":1}\n{}\n[{},{}]\nnope\n').batch.num_rows == 4


def test_slices_of_arrays_are_taken_as_they_are():
    columns = (ColumnSpec("i", "BIGINT"),)
    array = pa.array([b'{"i":1}', b'{"i":2}', b'{"i":3}']).slice(1)
    assert make_decoder("json", columns, columns, {}).decode_payloads(array).batch.column(0).to_pylist() == [2, 3]


def test_types_without_a_json_form_are_refused():
    columns = (ColumnSpec("v", "INTERVAL"),)
    with pytest.raises(SqlError, match="'v' of type INTERVAL"):
        make_decoder("json", columns, columns, {})


def test_nesting_too_deep_is_a_bad_record():
    columns = (ColumnSpec("i", "BIGINT"),)
    got = make_decoder("json", columns, columns, {}).decode_buffer(b'{"x":' + b"[" * 5000 + b"]" * 5000 + b"}")
    assert len(got.errors) == 1
