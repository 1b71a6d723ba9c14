"""Connections that break in the middle: retried, and no frame lost or doubled; who stays away is an error."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cython_shuffle.frames import Barrier
from cython_shuffle.transport import ClientPool
from sabot.errors import ShuffleError
from tests.support.cutting_proxy import CuttingProxy
from tests.support.shuffle_io import edge, next_frame, read_all, rows, wait_until

JOB = "mv:j"


@pytest.fixture
def proxied(make_agent):
    """Give a function that makes a writer's agent, a reader's agent and a proxy that the reader goes through."""
    proxies = []

    def make(reconnect_s=20.0):
        up = make_agent("up", location="grpc://127.0.0.1:0", pool_bytes=4 << 20, reconnect_s=reconnect_s)
        down = make_agent("down", location="grpc://127.0.0.1:0", pool_bytes=4 << 20, reconnect_s=reconnect_s)
        proxy = CuttingProxy(int(up.location.rpartition(":")[2]))
        proxies.append(proxy)
        return up, down, proxy

    yield make
    for proxy in proxies:
        proxy.stop()


def register(up, down, proxy, info, attempt=1):
    at_up = dict.fromkeys(info.upstream, up.location) | dict.fromkeys(info.downstream, down.location)
    at_down = dict.fromkeys(info.upstream, f"grpc://127.0.0.1:{proxy.port}")
    at_down |= dict.fromkeys(info.downstream, down.location)
    up.manager.register_shuffle(JOB, attempt, info, at_up)
    down.manager.register_shuffle(JOB, attempt, info, at_down)


@pytest.mark.parametrize(("kind", "seed"), [("HASH", 0), ("HASH", 1), ("HASH", 2), ("BROADCAST", 3)])
def test_no_frame_is_lost_or_doubled(proxied, kind, seed):
    up, down, proxy = proxied()
    proxy.cut_after_bytes = random.Random(seed).randrange(200_000, 900_000)
    info = edge("e", kind, 2, 3)
    register(up, down, proxy, info)
    inputs = {d: down.manager.read_partition(JOB, "e", d) for d in info.downstream}

    def write(i, task):
        writer = up.manager.writer(JOB, "e", task)
        for epoch in range(1, 31):
            writer.write(rows(1_000_000 * i + 10_000 * epoch, 4000))
            writer.barrier(Barrier(epoch))
        writer.end()

    threads = [threading.Thread(target=write, args=item) for item in enumerate(info.upstream)]
    for thread in threads:
        thread.start()
    keys = []
    # at once: those who share a broadcast wait for each other
    with ThreadPoolExecutor() as readers:
        got = list(readers.map(read_all, inputs.values()))
    for by_writer in got:
        for received in by_writer.values():
            assert received.barriers == [Barrier(e) for e in range(1, 31)]
            assert [f.sequence for f in received.frames] == list(range(len(received.frames)))
            assert received.keys == sorted(received.keys)
            keys += received.keys
    for thread in threads:
        thread.join()
    written = [1_000_000 * i + 10_000 * e + n for i in range(2) for e in range(1, 31) for n in range(4000)]
    assert sorted(keys) == (written if kind == "HASH" else sorted(3 * written))
    assert proxy.cuts >= 4
    wait_until(lambda: up.manager.pool_metrics().used_bytes == 0)


def test_one_connection_carries_everything_between_two_agents(proxied):
    up, down, proxy = proxied()
    for name in ("e", "f", "g"):
        info = edge(name, "HASH", 4, 5)
        register(up, down, proxy, info)
        channels = [c for task in info.downstream for c in down.manager.read_partition(JOB, name, task)]
        for task in info.upstream:
            writer = up.manager.writer(JOB, name, task)
            writer.write(rows(0, 5000))
            writer.barrier(Barrier(1))
            writer.end()
        read_all(channels)
    wait_until(lambda: up.manager.pool_metrics().used_bytes == 0)
    assert proxy.accepted == 1


def test_two_agents_that_write_to_each_other_have_one_connection_each_way(make_agent):
    agents = [make_agent(name, location="grpc://127.0.0.1:0") for name in "ab"]
    proxies = [CuttingProxy(int(agent.location.rpartition(":")[2])) for agent in agents]
    for name, kind in (("e", "HASH"), ("f", "BROADCAST"), ("g", "REBALANCE")):
        info = edge(name, kind, 8, 8)
        for i, agent in enumerate(agents):
            where = {t: n % 2 for side in (info.upstream, info.downstream) for n, t in enumerate(side)}
            seen = [f"grpc://127.0.0.1:{proxy.port}" for proxy in proxies]
            seen[i] = agent.location
            agent.manager.register_shuffle(JOB, 1, info, {task: seen[n] for task, n in where.items()})
        inputs = [agents[n % 2].manager.read_partition(JOB, name, t) for n, t in enumerate(info.downstream)]
        for n, task in enumerate(info.upstream):
            writer = agents[n % 2].manager.writer(JOB, name, task)
            writer.write(rows(1000 * n, 1000))
            writer.barrier(Barrier(1))
            writer.end()
        keys = sorted(k for channels in inputs for received in read_all(channels).values() for k in received.keys)
        assert keys == sorted([*range(8000)] * (8 if kind == "BROADCAST" else 1))
    assert [proxy.accepted for proxy in proxies] == [1, 1]
    for agent in agents:
        agent.manager.unregister(JOB, 1)
        agent.endpoint.clients.close()
    for proxy in proxies:
        proxy.stop()


def test_a_cut_while_nothing_flows(proxied):
    up, down, proxy = proxied()
    info = edge("e", "FORWARD", 1, 1)
    register(up, down, proxy, info)
    (channel,) = down.manager.read_partition(JOB, "e", info.downstream[0])
    writer = up.manager.writer(JOB, "e", info.upstream[0])
    for epoch in range(1, 5):
        writer.write(rows(epoch, 1))
        writer.barrier(Barrier(epoch))
        assert next_frame(channel).batch["k"].to_pylist() == [epoch]
        assert next_frame(channel).barrier == Barrier(epoch)
        proxy.cut()


def test_a_cut_after_the_last_frame(proxied):
    up, down, proxy = proxied()
    info = edge("e", "FORWARD", 1, 1)
    register(up, down, proxy, info)
    (channel,) = down.manager.read_partition(JOB, "e", info.downstream[0])
    writer = up.manager.writer(JOB, "e", info.upstream[0])
    writer.barrier(Barrier(1))
    next_frame(channel)
    proxy.refuse = True
    proxy.cut()
    writer.write(rows(0, 100))
    writer.end()
    proxy.refuse = False
    got = read_all([channel])[info.upstream[0]]
    assert got.keys == list(range(100))
    wait_until(lambda: up.manager.pool_metrics().used_bytes == 0)


def test_who_stays_away_is_an_error_on_both_sides(proxied):
    up, down, proxy = proxied(reconnect_s=0.3)
    info = edge("e", "FORWARD", 1, 1)
    register(up, down, proxy, info)
    (channel,) = down.manager.read_partition(JOB, "e", info.downstream[0])
    writer = up.manager.writer(JOB, "e", info.upstream[0])
    writer.barrier(Barrier(1))
    next_frame(channel)
    proxy.refuse = True
    proxy.cut()
    with pytest.raises(ShuffleError, match="cannot be reached"):
        next_frame(channel)
    with pytest.raises(ShuffleError, match=r"is gone: it did not come back in 0\.3 s"):
        while True:
            writer.write(rows(0, 40_000))


def test_a_reader_that_leaves_says_so(proxied):
    up, down, proxy = proxied(reconnect_s=1000.0)
    info = edge("e", "FORWARD", 1, 1)
    register(up, down, proxy, info)
    (channel,) = down.manager.read_partition(JOB, "e", info.downstream[0])
    writer = up.manager.writer(JOB, "e", info.upstream[0])
    writer.barrier(Barrier(1))
    next_frame(channel)
    down.manager.unregister(JOB, 1)
    with pytest.raises(ShuffleError, match="is gone"):
        while True:
            writer.write(rows(0, 40_000))


def test_an_old_attempt_is_fenced_on_reconnect(proxied):
    up, down, proxy = proxied()
    info = edge("e", "FORWARD", 1, 1)
    register(up, down, proxy, info)
    (channel,) = down.manager.read_partition(JOB, "e", info.downstream[0])
    up.manager.writer(JOB, "e", info.upstream[0]).barrier(Barrier(1))
    next_frame(channel)
    proxy.refuse = True
    proxy.cut()
    at_up = dict.fromkeys(info.upstream, up.location) | dict.fromkeys(info.downstream, down.location)
    up.manager.register_shuffle(JOB, 2, info, at_up)
    up.manager.writer(JOB, "e", info.upstream[0]).barrier(Barrier(77))
    proxy.refuse = False
    with pytest.raises(ShuffleError, match="attempt 1 of job 'mv:j' is over; 2 runs"):
        next_frame(channel)


def test_an_abort_is_told_after_a_reconnect(proxied):
    up, down, proxy = proxied()
    info = edge("e", "FORWARD", 1, 1)
    register(up, down, proxy, info)
    (channel,) = down.manager.read_partition(JOB, "e", info.downstream[0])
    writer = up.manager.writer(JOB, "e", info.upstream[0])
    writer.barrier(Barrier(1))
    next_frame(channel)
    proxy.refuse = True
    proxy.cut()
    writer.abort("task failed: division by zero")
    proxy.refuse = False
    with pytest.raises(ShuffleError, match="division by zero"):
        next_frame(channel)


def test_calls_survive_a_cut(proxied):
    up, _, proxy = proxied()
    up.endpoint.register_action("upper", bytes.upper)
    pool = ClientPool()
    location = f"grpc://127.0.0.1:{proxy.port}"
    assert pool.call_action(location, "upper", b"a") == b"A"
    proxy.cut()
    answers = []

    def answered():
        try:
            answers.append(pool.call_action(location, "upper", b"b"))
        except ShuffleError as error:
            if not error.retryable:
                raise
        return bool(answers)

    wait_until(answered)
    assert answers == [b"B"]
    pool.close()
