"""RANGE by bounds given or sampled, CUSTOM by a function whose answer is checked."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cython_shuffle.placed import CustomPartitioner, RangePartitioner, sample_bounds
from sabot.errors import JobError, ShuffleError


def scalars(values, t):
    return tuple(pa.scalar(v, t) for v in values)


def keys(parts):
    return [p["k"].to_pylist() if p is not None else [] for p in parts]


@pytest.mark.parametrize(
    ("t", "values", "bounds", "wanted"),
    [
        (pa.int64(), [5, None, 1, 9, 10, 2], [2, 10], [[1], [5, 9, 2], [None, 10]]),
        (pa.int8(), [3, 1], [-5, 2], [[], [1], [3]]),
        (pa.float64(), [0.5, float("inf"), -1.0], [0.0, 1.0], [[-1.0], [0.5], [float("inf")]]),
        (pa.string(), ["b", "", "zz", None, "m"], ["a", "m"], [[""], ["b"], ["zz", None, "m"]]),
        (pa.string_view(), ["b", "", "m"], ["a", "m"], [[""], ["b"], ["m"]]),
        (pa.binary(), [b"b", b""], [b"a", b"m"], [[b""], [b"b"], []]),
        (pa.bool_(), [True, False], [True, True], [[False], [], [True]]),
        (pa.date32(), [dt.date(2026, 1, 2), dt.date(2026, 1, 1)], [dt.date(2026, 1, 2)] * 2, None),
        (pa.decimal128(9, 2), [Decimal("1.50"), None, Decimal("0.10")], [Decimal("0.50"), Decimal("1.50")], None),
        (pa.dictionary(pa.int8(), pa.string()), ["b", "a", None], ["b", "c"], [["a"], ["b"], [None]]),
    ],
)
def test_rows_go_to_their_range(t, values, bounds, wanted, kernels):
    batch = pa.record_batch({"k": pa.array(values, t)})
    plain = t.value_type if pa.types.is_dictionary(t) else t
    got = keys(RangePartitioner(batch.schema, "k", scalars(bounds, plain), 3, kernels=kernels).partition(batch))
    if wanted is None:
        edges = [None, *bounds, None]
        wanted = [
            [
                v
                for v in values
                if (v is None and p == 2)
                or (v is not None and (p == 0 or edges[p] <= v) and (p == 2 or v < edges[p + 1]))
            ]
            for p in range(3)
        ]
    assert got == wanted


def test_nan_is_the_greatest():
    batch = pa.record_batch({"k": pa.array([float("nan"), 1.0])})
    first, last = RangePartitioner(batch.schema, "k", scalars([5.0], pa.float64()), 2).partition(batch)
    assert first["k"].to_pylist() == [1.0]
    assert str(last["k"].to_pylist()) == "[nan]"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.none() | st.integers(-50, 50), max_size=80), st.integers(1, 9), st.integers(0, 4))
def test_ranges_are_a_permutation_in_order(values, n_partitions, offset):
    batch = pa.record_batch({"k": pa.array(values, pa.int64()), "row": pa.array(range(len(values)), pa.int64())})
    batch = batch.slice(offset)
    known = [v for v in values if v is not None]
    bounds = sample_bounds(pa.array(known or [0], pa.int64()), n_partitions)
    parts = RangePartitioner(batch.schema, "k", bounds, n_partitions).partition(batch)
    assert len(parts) == n_partitions
    assert sorted(r for p in parts if p is not None for r in p["row"].to_pylist()) == batch["row"].to_pylist()
    last = None
    for part in parts:
        present = [k for k in part["k"].to_pylist() if k is not None] if part is not None else []
        if present:
            assert last is None or last < min(present)
            last = max(present)


def test_sampled_bounds_cut_evenly():
    sample = pa.chunked_array([list(range(500, 1000)), [None, *range(500)]])
    bounds = sample_bounds(sample, 4)
    assert [b.as_py() for b in bounds] == [250, 500, 750]
    batch = pa.record_batch({"k": pa.array(range(1000))})
    assert [p.num_rows for p in RangePartitioner(batch.schema, "k", bounds, 4).partition(batch)] == [250] * 4
    assert sample_bounds(pa.array([], pa.int64()), 1) == ()
    assert [b.as_py() for b in sample_bounds(pa.array(["b", "a"]).dictionary_encode(), 2)] == ["b"]
    with pytest.raises(ShuffleError, match="without keys"):
        sample_bounds(pa.array([None], pa.int64()), 2)
    with pytest.raises(ShuffleError, match="have no order"):
        sample_bounds(pa.array([[1]]), 2)


@pytest.mark.parametrize(
    ("key", "bounds", "reason"),
    [
        ("k", scalars([1], pa.int64()), "1 bounds for 3 ranges"),
        ("k", scalars([2, 1], pa.int64()), "do not ascend"),
        ("k", scalars([1, None], pa.int64()), "is NULL"),
        ("k", scalars(["a", "b"], pa.string()), "cannot be cut"),
        ("l", scalars([[1], [2]], pa.list_(pa.int64())), "cannot be cut"),
        ("nope", scalars([1, 2], pa.int64()), "'nope' stands 0 times"),
    ],
)
def test_bounds_that_cannot_be(key, bounds, reason):
    schema = pa.schema([("k", pa.int64()), ("l", pa.list_(pa.int64()))])
    with pytest.raises(ShuffleError, match=reason):
        RangePartitioner(schema, key, bounds, 3)


@pytest.mark.parametrize(
    "numbers",
    [
        lambda b: pa.array([k % 3 for k in b["k"].to_pylist()], pa.int8()),
        lambda b: pa.chunked_array([[k % 3 for k in b["k"].to_pylist()]]),
        lambda b: b["k"].to_numpy() % 3,
        lambda b: pa.array([9, *(k % 3 for k in b["k"].to_pylist())], pa.uint16()).slice(1),
    ],
)
def test_a_function_places_rows(numbers, kernels):
    batch = pa.record_batch({"k": pa.array(range(10))})
    partitioner = CustomPartitioner(batch.schema, numbers, 3, "edge 'e'", kernels=kernels)
    for cut in (batch, batch.slice(4)):
        assert keys(partitioner.partition(cut)) == [[k for k in cut["k"].to_pylist() if k % 3 == p] for p in range(3)]
    assert partitioner.partition(batch.slice(0, 0)) == [None] * 3


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (pa.array([0, 1]), "gave 2 numbers for 3 rows"),
        (pa.array([0, 1, 3]), "gave 3"),
        (pa.array([0, -1, 1]), "gave -1"),
        (pa.array([0, None, 1]), "gave NULL for 1 rows"),
        (pa.array([0.0, 1.0, 1.0]), "gave double"),
        (pa.array([True, False, True]), "gave bool"),
        (np.array([0.0, 1.0, 1.0]), "gave ndarray"),
        ([0, 1, 1], "gave list"),
        (None, "gave NoneType"),
    ],
)
def test_answers_that_cannot_be(answer, reason):
    batch = pa.record_batch({"k": pa.array([1, 2, 3])})
    with pytest.raises(JobError, match=f"the partition function of edge 'e' {reason}"):
        CustomPartitioner(batch.schema, lambda _: answer, 3, "edge 'e'").partition(batch)


def test_what_the_function_raises_is_raised():
    batch = pa.record_batch({"k": pa.array([1])})
    with pytest.raises(KeyError, match="oops"):
        CustomPartitioner(batch.schema, lambda b: {}["oops"], 3, "edge 'e'").partition(batch)
