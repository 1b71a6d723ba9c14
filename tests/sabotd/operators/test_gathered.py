"""When gathered rows are merged: not again and again where a merge leaves most of them."""

from __future__ import annotations

import pyarrow as pa

from sabotd.operators.columns import Gathered


def rows(count: int) -> pa.RecordBatch:
    return pa.record_batch({"a": pa.array(range(count), pa.int32())})


def test_rows_that_no_merge_makes_fewer_are_merged_rarely() -> None:
    gathered, pending, merges, touched = Gathered(1000), [], 0, 0
    for _ in range(1000):
        pending.append(rows(100))
        if gathered.are_enough(pending):
            merges += 1
            touched += sum(b.num_rows for b in pending)
            pending = gathered.merged(pending[:])
            pending = [pa.Table.from_batches(pending).combine_chunks().to_batches()[0]]
    assert merges < 10
    assert touched < 4 * 100_000, "each row is gone through a few times, not with every batch"


def test_rows_that_merge_well_are_merged_at_the_least_number() -> None:
    gathered, pending, most = Gathered(1000), [], 0
    for _ in range(100):
        pending.append(rows(100))
        most = max(most, sum(b.num_rows for b in pending))
        if gathered.are_enough(pending):
            pending = gathered.merged([rows(10)])
    assert most <= 1100


def test_what_the_last_epoch_left_does_not_count_in_the_next() -> None:
    gathered = Gathered(10)
    gathered.merged([rows(1000)])
    assert not gathered.are_enough([rows(5)])
    assert gathered.are_enough([rows(10), rows(10)])
