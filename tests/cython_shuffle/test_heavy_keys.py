"""The heaviest keys are found, about as heavy as they are, in bounded memory."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest

from cython_shuffle.frames import Barrier
from cython_shuffle.heavy_keys import CAPACITY, HeavyKeys, top
from tests.support.shuffle_io import edge, locations

SCHEMA = pa.schema([("k", pa.int64()), ("s", pa.string())])


def batch_of(ks):
    return pa.record_batch(
        [pa.array(ks, pa.int64()), pa.array([None if k % 2 else f"s{k}" for k in ks])], schema=SCHEMA
    )


def test_few_keys_are_counted_exactly():
    sketch = HeavyKeys(SCHEMA, ["k"])
    sketch.observe(batch_of([1, 2, 2, 3, 3, 3]))
    sketch.observe(batch_of([3, 2]))
    assert sketch.heaviest(2) == {"3": 4, "2": 3}
    assert list(sketch.heaviest(9)) == ["3", "2", "1"]


def test_keys_of_several_columns_null_and_long():
    sketch = HeavyKeys(SCHEMA, ["s", "k"])
    sketch.observe(batch_of([1, 2]))
    assert set(sketch.heaviest(9)) == {"(NULL, 1)", "(s2, 2)"}
    long = HeavyKeys(SCHEMA, ["s"])
    long.observe(pa.record_batch([pa.array([1]), pa.array(["x" * 5000])], schema=SCHEMA))
    (text,) = long.heaviest(9)
    assert len(text) == 100


@pytest.mark.parametrize("size", [100, 1000, 50_000])
def test_heavy_keys_stand_out_of_a_sample(size):
    rng = np.random.default_rng(size)
    sketch = HeavyKeys(SCHEMA, ["k"])
    total = 200_000
    for _ in range(total // size):
        ks = rng.integers(1000, 1 << 40, size)
        ks[rng.random(size) < 0.3] = 7
        ks[rng.random(size) < 0.1] = 8
        sketch.observe(batch_of(ks.tolist()))
    heaviest = sketch.heaviest(2)
    assert list(heaviest) == ["7", "8"]
    assert heaviest["7"] == pytest.approx(0.27 * total, rel=0.15)
    assert heaviest["8"] == pytest.approx(0.1 * total, rel=0.35)
    assert len(sketch._seen) <= CAPACITY


def test_a_pattern_in_the_rows_is_not_met():
    sketch = HeavyKeys(SCHEMA, ["k"])
    sketch.observe(batch_of([i % 4 for i in range(8192)]))
    assert all(count == pytest.approx(2048, rel=0.2) for count in sketch.heaviest(4).values())


@pytest.mark.parametrize("size", [100, 1000, 50_000])
def test_where_all_keys_weigh_alike_none_is_told(size):
    sketch = HeavyKeys(SCHEMA, ["k"])
    for start in range(0, 200_000, size):
        sketch.observe(batch_of(range(start, start + size)))
    assert sum(sketch.heaviest(10).values()) <= 10, "each key once"


def test_adding_up():
    assert top([(3, "a"), (4, "b"), (2, "a"), (1, "c")], 2) == {"a": 5, "b": 4}


def test_figures_of_an_edge(make_agent):
    agent = make_agent("a")
    info = edge("e", "HASH", 1, 4, schema=SCHEMA)
    agent.manager.register_shuffle("mv:j", 1, info, locations(info, agent.location, agent.location))
    rng = random.Random(1)
    assert agent.manager.metrics()[0].skew is None
    writer = agent.manager.writer("mv:j", "e", info.upstream[0])
    writer.write(batch_of([7 if rng.random() < 0.9 else rng.randrange(10**9) for _ in range(1000)]))
    writer.barrier(Barrier(1))
    (figures,) = agent.manager.metrics()
    assert figures.rows == 1000
    assert next(iter(figures.heavy_keys)) == "7"
    assert 850 < figures.heavy_keys["7"] < 950
    assert 3 < figures.skew <= 4
    assert figures.to_dict()["heavy_keys"] == figures.heavy_keys
