"""Every Arrow type goes through a partitioner unchanged; wrong keys are refused when it is made."""

from __future__ import annotations

import pyarrow as pa
import pytest

from cython_shuffle.partitioner import (
    BroadcastPartitioner,
    Partitioner,
    RebalancePartitioner,
    key_groups,
    task_of_group,
)
from cython_shuffle.placed import CustomPartitioner, RangePartitioner
from sabot.errors import ShuffleError
from tests.support.arrow_cases import CASES


@pytest.mark.parametrize("name", CASES)
def test_every_type_as_key_and_as_freight(name, kernels):
    for column in (CASES[name], CASES[name].slice(1)):
        rows = pa.array(range(len(column)), pa.int64())
        batch = pa.record_batch([column, rows], names=["value", "row"])
        for key in ("value", "row"):
            parts = [p for p in Partitioner(batch.schema, [key], 5, kernels=kernels).partition(batch) if p is not None]
            back = {}
            for part in parts:
                part.validate(full=True)
                assert part.schema == batch.schema
                back |= dict(zip(part["row"].to_pylist(), part["value"].to_pylist(), strict=True))
            assert repr([back[i] for i in range(len(column))]) == repr(column.to_pylist())


@pytest.mark.parametrize("n_partitions", [1, 2, 3, 16, 128, 200, 1024])
def test_any_number_of_partitions(n_partitions):
    batch = pa.record_batch({"k": pa.array(range(5000)), "s": pa.array([str(i) for i in range(5000)])})
    parts = Partitioner(batch.schema, ["k"], n_partitions).partition(batch)
    assert len(parts) == n_partitions
    assert sorted(k for p in parts if p is not None for k in p["k"].to_pylist()) == list(range(5000))
    filled = sum(p is not None for p in parts)
    assert filled == min(n_partitions, 128)


def test_zero_columns_keep_their_rows():
    batch = pa.record_batch({"k": pa.array(range(10))}).select([])
    parts = Partitioner(batch.schema, [], 3).partition(batch)
    assert parts[0] is not None
    assert parts[0].num_rows == 10
    assert parts[1:] == [None, None]


@pytest.mark.parametrize("n_partitions", [1, 3, 1024])
def test_every_kind_of_edge_without_columns_and_without_rows(n_partitions):
    whole = pa.record_batch({"k": pa.array(range(5000))})
    empty = whole.select([])
    by_key = [
        Partitioner(whole.schema, ["k"], n_partitions),
        RangePartitioner(whole.schema, "k", [pa.scalar(i) for i in range(1, n_partitions)], n_partitions),
    ]
    either = [
        lambda schema: RebalancePartitioner(n_partitions, 1),
        lambda schema: BroadcastPartitioner(n_partitions),
        lambda schema: CustomPartitioner(
            schema, lambda b: pa.array([i % n_partitions for i in range(b.num_rows)], pa.int64()), n_partitions, "here"
        ),
    ]
    for partitioner in [*by_key, *(make(whole.schema) for make in either)]:
        parts = partitioner.partition(whole)
        assert len(parts) == n_partitions
        copies = n_partitions if isinstance(partitioner, BroadcastPartitioner) else 1
        assert sorted(k for p in parts if p is not None for k in p["k"].to_pylist()) == sorted([*range(5000)] * copies)
        assert partitioner.partition(whole.slice(0, 0)) == [None] * n_partitions
    for partitioner in [Partitioner(empty.schema, [], n_partitions), *(make(empty.schema) for make in either)]:
        copies = n_partitions if isinstance(partitioner, BroadcastPartitioner) else 1
        assert sum(p.num_rows for p in partitioner.partition(empty) if p is not None) == 5000 * copies


def test_empty_batch_has_no_parts(kernels):
    batch = pa.record_batch({"k": pa.array([], pa.int64())})
    assert Partitioner(batch.schema, ["k"], 4, kernels=kernels).partition(batch) == [None] * 4


def test_one_key_is_handed_on_without_a_copy():
    batch = pa.record_batch({"k": pa.array([7] * 100)})
    parts = [p for p in Partitioner(batch.schema, ["k"], 4).partition(batch) if p is not None]
    assert parts == [batch]
    assert parts[0] is batch


def test_broadcast_gives_the_batch_itself():
    batch = pa.record_batch({"k": pa.array([7])})
    assert all(p is batch for p in BroadcastPartitioner(3).partition(batch))
    assert BroadcastPartitioner(2).partition(batch.slice(0, 0)) == [None, None]


def test_key_that_is_not_there():
    schema = pa.schema([("a", pa.int64()), ("b", pa.int64())])
    with pytest.raises(ShuffleError, match="'c' stands 0 times") as caught:
        Partitioner(schema, ["c"], 2)
    assert "a, b" in str(caught.value.hint)


def test_key_that_is_there_twice():
    with pytest.raises(ShuffleError, match="'a' stands 2 times"):
        Partitioner(pa.schema([("a", pa.int64()), ("a", pa.int64())]), ["a"], 2)


@pytest.mark.parametrize(("n_partitions", "max_parallelism"), [(0, 128), (2, 0), (2, 70000), (70000, 128)])
def test_numbers_out_of_range(n_partitions, max_parallelism):
    with pytest.raises(ShuffleError, match="out of range"):
        task_of_group(n_partitions, max_parallelism)


def test_join_sides_meet():
    # the sides of a join have other names, positions and widths for one key
    left = pa.record_batch({"x": pa.array(["p", "q"]), "id": pa.array([5, 6], pa.int32())})
    right = pa.record_batch({"order": pa.array([5, 6], pa.int64())})
    assert key_groups(left, ["id"]) == key_groups(right, ["order"])
