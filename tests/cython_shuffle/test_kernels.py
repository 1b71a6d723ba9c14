"""The compiled kernels and their plain twin agree on every type, slice and size; golden vectors pin the hash."""

from __future__ import annotations

import json
from array import array
from pathlib import Path

import pyarrow as pa
import pytest

from cython_shuffle import _fallback, _kernels
from tests.support.arrow_cases import CASES

GOLDEN = Path(__file__).parents[1] / "golden" / "hash_vectors.json"


def hashes(kernels, *columns):
    batch = pa.record_batch(list(columns), names=[str(i) for i in range(len(columns))])
    return list(memoryview(kernels.hash_rows(batch, range(len(columns)))).cast("B").cast("Q"))


@pytest.mark.parametrize("name", CASES)
def test_compiled_hash_is_the_plain_one(name):
    column = CASES[name]
    for cut in (column, column.slice(1), column.slice(1, 1), column.slice(0, len(column) - 1), column.slice(0, 0)):
        assert hashes(_kernels, cut) == hashes(_fallback, cut)


@pytest.mark.parametrize("name", CASES)
def test_a_slice_hashes_as_its_rows(name, kernels):
    column = CASES[name]
    assert hashes(kernels, column.slice(1)) == hashes(kernels, column)[1:]


@pytest.mark.parametrize("name", CASES)
def test_golden_vectors(name, kernels):
    # these numbers may never change under one HASH_VERSION: state is stored by them
    golden = json.loads(GOLDEN.read_text())
    assert golden["hash_version"] == kernels.HASH_VERSION
    assert [f"{h:016x}" for h in hashes(kernels, CASES[name])] == golden["hashes"][name]


def test_golden_vectors_cover_every_case():
    assert set(json.loads(GOLDEN.read_text())["hashes"]) == set(CASES)


def test_columns_combine_by_order(kernels):
    a, b = pa.array([1, 2, 7]), pa.array([2, 1, 7])
    forward, backward = hashes(kernels, a, b), hashes(kernels, b, a)
    assert forward[0] == backward[1]
    assert forward[0] != backward[0]
    assert forward[2] == backward[2]
    # XOR would cancel equal columns
    assert len({*hashes(kernels, a, a)}) == 3


def test_no_columns_and_no_rows(kernels):
    batch = pa.record_batch({"a": pa.array([1, 2])})
    assert len(set(memoryview(kernels.hash_rows(batch, [])).cast("B").cast("Q"))) == 1
    assert kernels.hash_rows(batch.slice(0, 0), [0]).size == 0


def test_wrong_column_is_refused(kernels):
    batch = pa.record_batch({"a": pa.array([1, 2])})
    with pytest.raises(IndexError, match="no column 1"):
        kernels.hash_rows(batch, [1])


def test_more_rows_than_a_chunk_with_a_struct_and_a_dictionary():
    n = 5000
    plain = pa.array([f"v{i % 37}" if i % 11 else None for i in range(n)])
    nested = pa.array([{"a": i % 13} if i % 7 else None for i in range(n)])
    columns = (plain.dictionary_encode(), nested, pa.array(range(n)))
    assert hashes(_kernels, *(c.slice(3) for c in columns)) == hashes(_fallback, *(c.slice(3) for c in columns))
    assert hashes(_kernels, plain) == hashes(_kernels, columns[0])


def test_batch_slices_keep_their_offset():
    batch = pa.record_batch({"a": pa.array(range(3000)), "s": pa.array([str(i) for i in range(3000)])})
    whole = memoryview(_kernels.hash_rows(batch, [0, 1])).cast("B").cast("Q")
    cut = memoryview(_kernels.hash_rows(batch.slice(1234, 1500), [0, 1])).cast("B").cast("Q")
    assert list(cut) == list(whole[1234:2734])


def test_struct_array_exported_with_an_offset():
    # __arrow_c_array__ of a sliced struct carries the offset at the top, not in the children
    structs = pa.array([{"a": i, "s": str(i)} for i in range(100)]).slice(10, 50)
    whole = memoryview(_kernels.hash_rows(structs, [0, 1])).cast("B").cast("Q")
    flat = pa.record_batch({"a": pa.array(range(10, 60)), "s": pa.array([str(i) for i in range(10, 60)])})
    assert list(whole) == list(memoryview(_kernels.hash_rows(flat, [0, 1])).cast("B").cast("Q"))


def test_counting_sort_is_stable(kernels):
    destinations = pa.py_buffer(array("H", [2, 0, 2, 1, 0, 2]).tobytes())
    bounds, order, target = kernels.counting_sort(destinations, 4)
    assert bounds == [0, 2, 3, 6, 6]
    assert list(memoryview(order).cast("B").cast("I")) == [1, 4, 3, 0, 2, 5]
    assert list(memoryview(target).cast("B").cast("I")) == [3, 0, 4, 2, 1, 5]


def test_counting_sort_refuses_a_destination_out_of_range(kernels):
    with pytest.raises(ValueError, match="destination 3 of 3"):
        kernels.counting_sort(pa.py_buffer(array("H", [0, 3]).tobytes()), 3)


def test_gather_refuses_an_order_of_another_length():
    batch = pa.record_batch({"a": pa.array([1, 2, 3])})
    short = pa.py_buffer(bytes(8))
    with pytest.raises(ValueError, match="2 rows"):
        _kernels.gather(batch, [0], short, short)


def test_gather_refuses_what_it_cannot():
    batch = pa.record_batch({"a": pa.array([[1], [2]])})
    rows = pa.py_buffer(array("I", [0, 1]).tobytes())
    with pytest.raises(TypeError, match="cannot be gathered"):
        _kernels.gather(batch, [0], rows, rows)


def test_assign_maps_key_groups(kernels):
    batch = pa.record_batch({"a": pa.array(range(1000))})
    groups = array("H", range(128))
    parts = array("H", [g * 5 // 128 for g in range(128)])
    by_group = memoryview(kernels.assign(batch, [0], groups)).cast("B").cast("H")
    by_part = memoryview(kernels.assign(batch, [0], parts)).cast("B").cast("H")
    assert [g * 5 // 128 for g in by_group] == list(by_part)
    assert len(set(by_group)) > 120
    for p in range(5):
        assert 150 < list(by_part).count(p) < 250
