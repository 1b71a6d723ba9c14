"""A broadcast goes once to each agent, and its tasks there share what came."""

from __future__ import annotations

import dataclasses
import threading

import pytest

from cython_shuffle.buffer_pool import BufferPool
from cython_shuffle.frames import Barrier, FrameKind
from cython_shuffle.shared_channel import SharedChannel
from sabot.errors import ShuffleError
from tests.support.shuffle_io import edge, locations, next_frame, read_all, rows, wait_until


@pytest.fixture
def pair(make_agent):
    return make_agent("up"), make_agent("down")


def register(agents, info, where):
    for agent in agents:
        agent.manager.register_shuffle("mv:j", 1, info, where)


def test_one_copy_travels_and_is_shared(pair):
    up, down = pair
    info = edge("e", "BROADCAST", 1, 5)
    register(pair, info, locations(info, up.location, down.location))
    writer = up.manager.writer("mv:j", "e", info.upstream[0])
    batch = rows(0, 5000)
    writer.write(batch)
    writer.barrier(Barrier(1))
    writer.end()
    held = up.manager.pool_metrics().used_bytes
    assert held == pytest.approx(batch.nbytes, rel=0.01)
    inputs = [down.manager.read_partition("mv:j", "e", d)[0] for d in info.downstream]
    frames = [next_frame(channel) for channel in inputs]
    assert len({f.batch["k"].buffers()[1].address for f in frames}) == 1
    assert down.manager.pool_metrics().peak_bytes == pytest.approx(batch.nbytes, rel=0.01)
    assert down.manager.pool_metrics().used_bytes == 0
    assert [[next_frame(c).kind for _ in range(2)] for c in inputs] == [[FrameKind.BARRIER, FrameKind.END]] * 5
    (figures,) = up.manager.metrics()
    assert figures.rows == 5 * 5000
    assert figures.rows_by_task == dict.fromkeys(info.downstream, 5000)
    assert (figures.bytes, figures.batches) == (held, 1)


def test_tasks_on_several_agents(make_agent):
    agents = [make_agent(name) for name in "abc"]
    info = edge("e", "BROADCAST", 3, 7)
    where = {task: agents[i % 3].location for i, task in enumerate((*info.upstream, *info.downstream))}
    register(agents, info, where)
    at = {a.location: a for a in agents}
    inputs = {d: at[where[d]].manager.read_partition("mv:j", "e", d) for d in info.downstream}

    def write(i, task):
        writer = at[where[task]].manager.writer("mv:j", "e", task)
        for epoch in range(1, 4):
            writer.write(rows(10_000 * i + 1000 * epoch, 1000))
            writer.barrier(Barrier(epoch, i))
        writer.end()

    threads = [threading.Thread(target=write, args=item) for item in enumerate(info.upstream)]
    for thread in threads:
        thread.start()
    for channels in inputs.values():
        got = read_all(channels)
        assert list(got) == list(info.upstream)
        for i, received in enumerate(got.values()):
            assert received.keys == list(range(10_000 * i + 1000, 10_000 * i + 4000))
            assert received.barriers == [Barrier(epoch, i) for epoch in range(1, 4)]
            assert [f.sequence for f in received.frames] == list(range(7))
    for thread in threads:
        thread.join()
    for agent in agents:
        wait_until(lambda pool=agent.manager.pool: pool.metrics().used_bytes == 0)


def test_a_slow_reader_holds_up_the_others_and_memory_stays(pair):
    up, down = pair
    info = edge("e", "BROADCAST", 1, 2)
    register(pair, info, locations(info, up.location, down.location))
    inputs = [down.manager.read_partition("mv:j", "e", d) for d in info.downstream]
    batch = rows(0, 50_000)  # about 1.2 MB; 120 MB in all against pools of 16 MB

    def write():
        writer = up.manager.writer("mv:j", "e", info.upstream[0])
        for _ in range(100):
            writer.write(batch)
        writer.end()

    thread = threading.Thread(target=write)
    thread.start()
    eager = threading.Thread(target=lambda: read_all(inputs[0]))
    eager.start()
    wait_until(lambda: up.manager.pool_metrics().waits > 0)
    assert thread.is_alive()
    assert eager.is_alive()
    (received,) = read_all(inputs[1]).values()
    assert sum(b.num_rows for b in received.batches) == 100 * 50_000
    thread.join()
    eager.join()
    for agent in pair:
        metrics = agent.manager.pool_metrics()
        assert metrics.peak_bytes <= metrics.limit_bytes + batch.nbytes
        wait_until(lambda pool=agent.manager.pool: pool.metrics().used_bytes == 0)


def test_both_ends_must_know_the_same_tasks(make_agent):
    up, down = make_agent("up"), make_agent("down")
    info = edge("e", "BROADCAST", 1, 2)
    less = dataclasses.replace(info, downstream=info.downstream[:1])
    up.manager.register_shuffle("mv:j", 1, info, locations(info, up.location, down.location))
    down.manager.register_shuffle("mv:j", 1, less, locations(less, up.location, down.location))
    (channel,) = down.manager.read_partition("mv:j", "e", info.downstream[0])
    with pytest.raises(ShuffleError, match="names 1 of 2 tasks"):
        next_frame(channel)


def test_a_shared_channel():
    pool = BufferPool(1000)
    admitted = []
    channel = SharedChannel(pool, "job", "c", lambda count, nbytes: admitted.append((count, nbytes)), 2)
    one, two = channel.readers
    heard = []
    one.set_listener(lambda: heard.append("one"), lambda: heard.append("one's barrier"))
    two.set_listener(lambda: heard.append("two"))
    assert one.poll() is None
    assert one.starved_ns > 0
    assert two.starved_ns == 0
    batch = rows(0, 10)
    channel.receive(FrameKind.DATA, batch, None, 400)
    channel.receive(FrameKind.BARRIER, None, Barrier(1), 0)
    assert heard == ["one", "two", "one's barrier", "two"]
    assert admitted == [(1, 400), (2, 0)]
    still = one.starved_ns
    assert [one.poll().kind for _ in range(2)] == [FrameKind.DATA, FrameKind.BARRIER]
    assert one.starved_ns == still
    assert one.poll() is None
    assert pool.metrics().used_bytes == 400
    assert two.poll().batch is batch
    assert pool.metrics().used_bytes == 0
    assert two.poll().barrier == Barrier(1)
    # beside the channel until there is room
    channel.receive(FrameKind.DATA, batch, None, 900)
    channel.receive(FrameKind.DATA, batch, None, 900)
    assert [one.poll().sequence, one.poll()] == [2, None]
    assert admitted[2:] == [(3, 900)]
    assert two.poll().sequence == 2
    assert admitted[3:] == [(4, 900)]
    assert [one.poll().sequence, two.poll().sequence] == [3, 3]
    channel.abort(ShuffleError("over"))
    for reader in (one, two):
        with pytest.raises(ShuffleError, match="over"):
            reader.poll()
    late = []
    one.set_listener(lambda: late.append("late"))
    assert late == ["late"]
