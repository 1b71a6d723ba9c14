"""The pool bounds, wakes who fits, keeps one batch a lane, and lets no job starve another."""

from __future__ import annotations

import threading

import pytest

from cython_shuffle.buffer_pool import BufferPool
from sabot.errors import ShuffleError


def in_thread(target, *args):
    result = []

    def run():
        try:
            result.append(target(*args))
        except ShuffleError as error:
            result.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, result


def wait_for_waiter(pool, count=1):
    while pool.metrics().waits < count:
        threading.Event().wait(0.001)


def test_an_empty_lane_takes_any_batch():
    pool = BufferPool(100)
    lanes = [pool.lane("job") for _ in range(3)]
    for lane in lanes:
        assert pool.acquire(lane, 1000) == 0
    assert pool.metrics().used_bytes == 3000
    for lane in lanes:
        pool.release(lane, 1000)
    assert pool.metrics().used_bytes == 0
    assert pool.metrics().peak_bytes == 3000


def test_a_full_pool_blocks_until_something_is_released():
    pool = BufferPool(100, lane_bytes=100)
    lane = pool.lane("job")
    pool.acquire(lane, 60)
    thread, result = in_thread(pool.acquire, lane, 60)
    wait_for_waiter(pool)
    assert result == []
    pool.release(lane, 60)
    thread.join()
    assert result[0] > 0
    assert pool.metrics().used_bytes == 60
    assert pool.metrics().wait_ns == result[0]


def test_a_closed_lane_gives_back_and_fails_its_waiters():
    pool = BufferPool(100)
    lane = pool.lane("job")
    pool.acquire(lane, 90)
    thread, result = in_thread(pool.acquire, lane, 90)
    wait_for_waiter(pool)
    pool.close_lane(lane, ShuffleError("gone", hint="why"))
    thread.join()
    assert isinstance(result[0], ShuffleError)
    assert (result[0].message, result[0].hint) == ("gone", "why")
    assert pool.metrics().used_bytes == 0
    pool.release(lane, 90)
    assert pool.metrics().used_bytes == 0
    with pytest.raises(ShuffleError, match="gone"):
        pool.acquire(lane, 1)


def test_closing_one_lane_lets_another_in():
    pool = BufferPool(100, lane_bytes=100)
    stuck, other = pool.lane("a"), pool.lane("b")
    pool.acquire(stuck, 100)
    pool.acquire(other, 10)
    thread, result = in_thread(pool.acquire, other, 10)
    wait_for_waiter(pool)
    pool.close_lane(stuck, ShuffleError("gone"))
    thread.join()
    assert len(result) == 1
    assert not isinstance(result[0], ShuffleError)


def test_a_stuck_job_leaves_room_for_others():
    pool = BufferPool(1000, lane_bytes=1000)
    stuck, busy = pool.lane("stuck"), pool.lane("busy")
    taken = 0
    while pool._admits(stuck, 10):
        pool.acquire(stuck, 10)
        taken += 10
    # alone it gets two thirds, and the other still more than its one batch
    assert 600 <= taken <= 700
    for _ in range(10):
        assert pool.acquire(busy, 10) == 0


def test_one_lane_cannot_hold_the_whole_pool():
    pool = BufferPool(1000)
    lane = pool.lane("job")
    while pool._admits(lane, 10):
        pool.acquire(lane, 10)
    assert lane.used_bytes == 250


def test_a_pool_needs_bytes():
    with pytest.raises(ShuffleError, match="0 bytes"):
        BufferPool(0)
