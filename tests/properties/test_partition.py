"""Properties of hash and partition: equal values together whatever their layout; no row lost, none twice."""

from __future__ import annotations

from itertools import pairwise

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from cython_shuffle import _fallback, _kernels
from cython_shuffle.partitioner import Partitioner, RebalancePartitioner, key_groups, stable_hash, task_of_group

ROWS = st.lists(
    st.tuples(
        st.none() | st.integers(-100, 100),
        st.none() | st.text(max_size=20),
        st.none() | st.booleans(),
        st.none() | st.floats(),
        st.none() | st.lists(st.none() | st.integers(0, 5), max_size=3),
    ),
    max_size=60,
)
FIELDS = (("i", pa.int64()), ("s", pa.string()), ("b", pa.bool_()), ("f", pa.float64()), ("l", pa.list_(pa.int8())))


def batch_of(rows):
    columns = [pa.array([r[i] for r in rows], t) for i, (_, t) in enumerate(FIELDS)]
    return pa.record_batch([*columns, pa.array(range(len(rows)), pa.int32())], names=[*(n for n, _ in FIELDS), "row"])


def hashes(column):
    return _kernels.hash_rows(pa.record_batch([column], names=["v"]), [0]).to_pybytes()


@settings(max_examples=150, deadline=None)
@given(ROWS, st.sets(st.sampled_from([n for n, _ in FIELDS]), min_size=1), st.integers(1, 1024), st.integers(0, 5))
def test_partition_is_a_permutation_and_keeps_keys_together(rows, keys, n_partitions, offset):
    batch = batch_of(rows).slice(offset)
    partitioner = Partitioner(batch.schema, sorted(keys), n_partitions)
    parts = partitioner.partition(batch)
    assert len(parts) == n_partitions
    assert all(p is None or p.num_rows > 0 for p in parts)
    for part in parts:
        if part is not None:
            part.validate(full=True)
            order = part["row"].to_pylist()
            assert order == sorted(order)
    joined = pa.Table.from_batches([p for p in parts if p is not None], batch.schema).sort_by("row")
    assert repr(joined.to_pylist()) == repr(batch.to_pylist())
    groups = key_groups(batch, sorted(keys))
    place = {r: p for p, part in enumerate(parts) if part is not None for r in part["row"].to_pylist()}
    for row, group in zip(batch["row"].to_pylist(), groups.to_pylist(), strict=True):
        assert place[row] == group * n_partitions // 128


@settings(max_examples=60, deadline=None)
@given(ROWS, st.integers(2, 9))
def test_compiled_partition_is_the_plain_one(rows, n_partitions):
    batch = batch_of(rows)
    names = [n for n, _ in FIELDS]
    compiled = Partitioner(batch.schema, names, n_partitions, kernels=_kernels).partition(batch)
    plain = Partitioner(batch.schema, names, n_partitions, kernels=_fallback).partition(batch)
    assert [p and repr(p.to_pylist()) for p in compiled] == [p and repr(p.to_pylist()) for p in plain]


@given(st.integers(-128, 255))
def test_integers_hash_by_value(value):
    signed = [t for t in (pa.int8(), pa.int16(), pa.int32(), pa.int64()) if value < 2 ** (t.bit_width - 1)]
    unsigned = [pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()] if value >= 0 else []
    assert len({hashes(pa.array([value], t)) for t in (*signed, *unsigned, pa.decimal128(38, 0))}) == 1


@given(st.lists(st.none() | st.text(), max_size=20))
def test_text_hashes_by_value(values):
    plain = pa.array(values, pa.string())
    layouts = [plain.cast(t) for t in (pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary())]
    assert {hashes(column) for column in (*layouts, plain.dictionary_encode())} == {hashes(plain)}


@given(st.floats(width=32))
def test_floats_hash_by_value(value):
    assert hashes(pa.array([value], pa.float32())) == hashes(pa.array([value], pa.float64()))


def test_zeros_and_nans_are_one():
    assert hashes(pa.array([0.0])) == hashes(pa.array([-0.0]))
    odd_nan = pa.Array.from_buffers(pa.float64(), 1, [None, pa.py_buffer(b"\x01\0\0\0\0\0\xf0\xff")])
    assert hashes(odd_nan) == hashes(pa.array([float("nan")]))


@given(st.integers(-(10**12), 10**12))
def test_moments_hash_by_value(seconds):
    units = {"s": 1, "ms": 10**3, "us": 10**6}
    assert len({hashes(pa.array([seconds * n], pa.timestamp(u))) for u, n in units.items()}) == 1


@given(st.integers(-(10**14), 10**14), st.integers(0, 6))
def test_decimals_hash_by_value(value, scale):
    wide = pa.array([value], pa.int64()).cast(pa.decimal128(19, 0))
    assert hashes(wide.cast(pa.decimal128(38, scale))) == hashes(wide) == hashes(wide.cast(pa.decimal256(60, scale)))


@given(st.lists(st.none() | st.lists(st.integers(0, 9), min_size=2, max_size=2), max_size=9))
def test_lists_hash_by_value(values):
    types = (pa.list_(pa.int64()), pa.large_list(pa.int8()), pa.list_view(pa.int32()), pa.list_(pa.int64(), 2))
    assert len({hashes(pa.array(values, t)) for t in types}) == 1


def test_null_is_a_key_apart_from_empty_and_zero():
    for column in (pa.array([None, 0]), pa.array([None, ""]), pa.array([None, []], pa.list_(pa.int8()))):
        words = memoryview(hashes(column)).cast("Q")
        assert words[0] != words[1]


@given(st.integers(1, 1024), st.integers(1, 2048))
def test_ranges_are_adjacent_and_cover(n_partitions, max_parallelism):
    tasks = task_of_group(n_partitions, max_parallelism)
    assert len(tasks) == max_parallelism
    assert tasks[0] == 0
    assert all(b - a >= 0 for a, b in pairwise(tasks))
    if n_partitions <= max_parallelism:
        assert set(tasks) == set(range(n_partitions))


@given(st.lists(st.integers(0, 20), max_size=30), st.integers(1, 7), st.integers(0, 9))
def test_rebalance_spreads_evenly_over_batches(sizes, n_partitions, cursor):
    partitioner = RebalancePartitioner(n_partitions, cursor)
    seen = [0] * n_partitions
    for size in sizes:
        batch = pa.record_batch({"v": pa.array(range(size), pa.int64())})
        parts = partitioner.partition(batch)
        assert sorted(v for p in parts if p is not None for v in p["v"].to_pylist()) == list(range(size))
        for p, part in enumerate(parts):
            seen[p] += part.num_rows if part is not None else 0
    assert max(seen) - min(seen) <= 1


def test_stable_hash_is_pinned():
    assert stable_hash("abc") == 0x4F684753775A1645
    assert stable_hash("") != stable_hash("a")
