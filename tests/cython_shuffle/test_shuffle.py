"""The shuffle of one and of two agents: in memory, over a Unix socket, TCP and TLS it is the same."""

from __future__ import annotations

import dataclasses
import threading

import pyarrow as pa
import pytest

from cython_shuffle.frames import MAX_WATERMARK_US, Barrier, FrameKind
from cython_shuffle.shuffle_manager import ShuffleEdgeInfo
from sabot.errors import ShuffleError
from tests.support.arrow_cases import CASES
from tests.support.shuffle_io import SCHEMA, edge, locations, next_frame, read_all, rows, wait_until

WAYS = ["memory", "unix", "tcp", "tls"]


@pytest.fixture(params=WAYS)
def pair(request, make_agent, security):
    """An upstream and a downstream agent."""
    if request.param == "memory":
        one = make_agent("a")
        return one, one
    if request.param == "tls":
        return tuple(make_agent(name, location="grpc+tls://127.0.0.1:0", security=security) for name in "ab")
    where = "grpc://127.0.0.1:0" if request.param == "tcp" else None
    return make_agent("a", location=where), make_agent("b", location=where)


def register(pair, info, attempt=1, job="mv:j"):
    up, down = pair
    where = locations(info, up.location, down.location)
    for agent in {id(up): up, id(down): down}.values():
        agent.manager.register_shuffle(job, attempt, info, where)


def write_all(manager, info, batches_of, job="mv:j"):
    """Every upstream task writes on a thread of its own; barrier after each batch, then the end."""

    def run(i, task):
        writer = manager.writer(job, info.edge_id, task)
        for epoch, batch in enumerate(batches_of(i), 1):
            writer.write(batch)
            writer.barrier(Barrier(epoch, 1000 * epoch, checkpoint=epoch == 2))
        writer.barrier(Barrier(99, MAX_WATERMARK_US, final=True))
        writer.end()

    threads = [threading.Thread(target=run, args=item) for item in enumerate(info.upstream)]
    for thread in threads:
        thread.start()
    return threads


@pytest.mark.parametrize(
    ("kind", "n_up", "n_down"),
    [
        ("HASH", 3, 4),
        ("HASH", 1, 1),
        ("REBALANCE", 2, 3),
        ("REBALANCE", 1, 5),
        ("BROADCAST", 2, 2),
        ("FORWARD", 3, 3),
        ("RANGE", 2, 3),
        ("CUSTOM", 2, 3),
    ],
)
def test_rows_arrive_once_in_order_with_their_barriers(pair, kind, n_up, n_down):
    up, down = pair
    info = edge("e", kind, n_up, n_down)
    if kind == "RANGE":
        info = dataclasses.replace(info, bounds=(pa.scalar(500), pa.scalar(11_500)))
    if kind == "CUSTOM":
        info = dataclasses.replace(info, partition=lambda batch: pa.array([k % 3 for k in batch["k"].to_pylist()]))
    register(pair, info)
    inputs = {d: down.manager.read_partition("mv:j", "e", d) for d in info.downstream}
    threads = write_all(up.manager, info, lambda i: [rows(10_000 * i + 1000 * b, 1000) for b in range(3)])
    got = {d: read_all(channels) for d, channels in inputs.items()}
    for thread in threads:
        thread.join()
    by_task = {d: [k for r in channels.values() for k in r.keys] for d, channels in got.items()}
    expected = [10_000 * i + n for i in range(n_up) for n in range(3000)]
    if kind == "BROADCAST":
        assert all(sorted(keys) == expected for keys in by_task.values())
    else:
        assert sorted(k for keys in by_task.values() for k in keys) == expected
    if kind == "RANGE":
        assert [(min(k), max(k)) for k in by_task.values()] == [(0, 499), (500, 11_499), (11_500, 12_999)]
    if kind == "CUSTOM":
        assert [{k % 3 for k in keys} for keys in by_task.values()] == [{0}, {1}, {2}]
    if kind == "REBALANCE":
        assert max(map(len, by_task.values())) - min(map(len, by_task.values())) <= 1
    barriers = [Barrier(1, 1000), Barrier(2, 2000, checkpoint=True), Barrier(3, 3000)]
    barriers.append(Barrier(99, MAX_WATERMARK_US, final=True))
    for d, channels in got.items():
        wanted = [info.upstream[info.downstream.index(d)]] if kind == "FORWARD" else list(info.upstream)
        assert list(channels) == wanted
        for received in channels.values():
            assert received.keys == sorted(received.keys)
            assert received.barriers == barriers
            assert [f.sequence for f in received.frames] == list(range(len(received.frames)))
            epochs = [k // 1000 % 10 for k in received.keys]
            assert epochs == sorted(epochs)
    metrics = up.manager.metrics()[0]
    assert metrics.rows == len(expected) * (n_down if kind == "BROADCAST" else 1)
    assert metrics.rows_by_task == {d: len(keys) for d, keys in by_task.items()}
    assert metrics.batches > 0
    assert metrics.bytes > 8 * metrics.rows
    assert metrics.to_dict()["edge_id"] == "e"


def test_keys_meet_from_all_upstream_tasks(pair):
    up, down = pair
    info = edge("e", "HASH", 3, 4)
    register(pair, info)
    inputs = {d: down.manager.read_partition("mv:j", "e", d) for d in info.downstream}
    threads = write_all(up.manager, info, lambda i: [rows(0, 500)])
    homes: dict[int, set[str]] = {}
    for d, channels in inputs.items():
        for received in read_all(channels).values():
            for k in received.keys:
                homes.setdefault(k, set()).add(d)
    for thread in threads:
        thread.join()
    assert len(homes) == 500
    assert all(len(home) == 1 for home in homes.values())


def test_hash_without_keys_gathers(pair):
    up, down = pair
    info = edge("e", "HASH", 2, 2, keys=())
    register(pair, info)
    inputs = {d: down.manager.read_partition("mv:j", "e", d) for d in info.downstream}
    threads = write_all(up.manager, info, lambda i: [rows(0, 10)])
    got = [sum(len(r.keys) for r in read_all(channels).values()) for channels in inputs.values()]
    for thread in threads:
        thread.join()
    assert got == [20, 0]


def test_every_type_travels(pair):
    up, down = pair
    columns = {name: pa.concat_arrays([column.slice(0, 2)] * 4) for name, column in CASES.items()}
    batch = pa.record_batch(list(columns.values()), names=list(columns))
    info = edge("e", "HASH", 1, 2, keys=["int64"], schema=batch.schema)
    register(pair, info)
    inputs = [c for d in info.downstream for c in down.manager.read_partition("mv:j", "e", d)]
    threads = write_all(up.manager, info, lambda i: [batch, batch.slice(1, 3)])
    got = [b for channel in inputs for r in read_all([channel]).values() for b in r.batches]
    for thread in threads:
        thread.join()
    for received in got:
        received.validate(full=True)
        assert received.schema == batch.schema
    assert sorted(repr(r) for b in got for r in b.to_pylist()) == sorted(
        repr(r) for b in (batch, batch.slice(1, 3)) for r in b.to_pylist()
    )


def test_rows_without_columns_travel(pair):
    up, down = pair
    batch = rows(0, 10).select([])
    info = edge("e", "HASH", 1, 2, keys=(), schema=batch.schema)
    register(pair, info)
    threads = write_all(up.manager, info, lambda i: [batch, batch])
    channels = down.manager.read_partition("mv:j", "e", info.downstream[0])
    got = read_all(channels)[info.upstream[0]]
    for thread in threads:
        thread.join()
    assert sum(b.num_rows for b in got.batches) == 20


def test_small_batches_wait_for_the_barrier(pair):
    up, down = pair
    info = edge("e", "FORWARD", 1, 1)
    register(pair, info)
    (channel,) = down.manager.read_partition("mv:j", "e", info.downstream[0])
    writer = up.manager.writer("mv:j", "e", info.upstream[0])
    for n in range(10):
        up.manager.write_partition("mv:j", "e", info.upstream[0], rows(n, 1))
    writer.write(rows(0, 0))
    writer.barrier(Barrier(1))
    writer.barrier(Barrier(2))
    frames = [next_frame(channel) for _ in range(3)]
    assert frames[0].batch["k"].to_pylist() == list(range(10))
    assert [f.kind for f in frames[1:]] == [FrameKind.BARRIER] * 2


def test_memory_hands_over_without_copying(make_agent):
    agent = make_agent("a")
    info = edge("e", "FORWARD", 1, 1)
    register((agent, agent), info)
    batch = rows(0, 100_000)
    agent.manager.write_partition("mv:j", "e", info.upstream[0], batch)
    (channel,) = agent.manager.read_partition("mv:j", "e", info.downstream[0])
    first = next_frame(channel).batch
    assert first["k"].buffers()[1].address == batch["k"].buffers()[1].address


def test_a_broadcast_in_one_process_copies_nothing(make_agent):
    agent = make_agent("a")
    info = edge("e", "BROADCAST", 1, 3)
    register((agent, agent), info)
    batch = rows(0, 100_000)
    writer = agent.manager.writer("mv:j", "e", info.upstream[0])
    writer.write(batch)
    writer.barrier(Barrier(1))
    for task in info.downstream:
        (channel,) = agent.manager.read_partition("mv:j", "e", task)
        first = next_frame(channel).batch
        assert first["k"].buffers()[1].address == batch["k"].buffers()[1].address


def test_a_slow_reader_stops_the_writer_and_memory_stays(pair):
    up, down = pair
    info = edge("e", "HASH", 2, 2)
    register(pair, info)
    inputs = [c for d in info.downstream for c in down.manager.read_partition("mv:j", "e", d)]
    batch = rows(0, 50_000)  # about 1.2 MB; 120 MB in all against pools of 16 MB
    threads = write_all(up.manager, info, lambda i: [batch] * 50)
    while up.manager.pool_metrics().waits == 0:
        threading.Event().wait(0.005)
    assert all(t.is_alive() for t in threads)
    received = read_all(inputs)
    for thread in threads:
        thread.join()
    # two upstream tasks, each seen by both downstream tasks under one name
    assert sum(f.batch.num_rows for r in received.values() for f in r.frames if f.batch) == 2 * 50 * 50_000
    for agent in (up, down):
        metrics = agent.manager.pool_metrics()
        # the limit, and at most a batch a channel above it
        assert metrics.peak_bytes <= metrics.limit_bytes + 4 * batch.nbytes
        wait_until(lambda pool=agent.manager.pool: pool.metrics().used_bytes == 0)
    assert up.manager.metrics()[0].wait_up_ns > 0


def test_another_schema_is_refused(pair):
    up, _ = pair
    info = edge("e", "HASH", 1, 1)
    register(pair, info)
    writer = up.manager.writer("mv:j", "e", info.upstream[0])
    with pytest.raises(ShuffleError, match="takes 3 columns, not 1") as caught:
        writer.write(pa.record_batch({"k": pa.array([1])}))
    assert "k, s, v" in str(caught.value.hint)
    with pytest.raises(ShuffleError, match="'v' of type double, not 'v' of type int64"):
        writer.write(pa.record_batch({"k": pa.array([1]), "s": pa.array(["a"]), "v": pa.array([1])}))
    strict = pa.schema([f.with_nullable(False) for f in SCHEMA], metadata={"by": "someone"})
    writer.write(pa.RecordBatch.from_arrays(rows(1, 5).columns, schema=strict))


def test_sides_that_disagree_on_the_schema(make_agent):
    up, down = make_agent("a"), make_agent("b")
    info = edge("e", "HASH", 1, 1)
    other = edge("e", "HASH", 1, 1, schema=SCHEMA.set(2, pa.field("v", pa.int64())))
    where = locations(info, up.location, down.location)
    up.manager.register_shuffle("mv:j", 1, info, where)
    down.manager.register_shuffle("mv:j", 1, other, where)
    (channel,) = down.manager.read_partition("mv:j", "e", info.downstream[0])
    with pytest.raises(ShuffleError, match="'v' of type int64, not 'v' of type double"):
        next_frame(channel)


def test_the_writers_abort_reaches_the_reader(pair):
    up, down = pair
    info = edge("e", "HASH", 1, 1)
    register(pair, info)
    (channel,) = down.manager.read_partition("mv:j", "e", info.downstream[0])
    writer = up.manager.writer("mv:j", "e", info.upstream[0])
    writer.barrier(Barrier(1))
    next_frame(channel)
    writer.abort("task 'up/0' failed: division by zero")
    with pytest.raises(ShuffleError, match="division by zero"):
        next_frame(channel)
    with pytest.raises(ShuffleError, match="division by zero"):
        writer.barrier(Barrier(2))


def test_unregister_wakes_all_who_wait(pair):
    up, down = pair
    info = edge("e", "FORWARD", 1, 1)
    register(pair, info)
    (channel,) = down.manager.read_partition("mv:j", "e", info.downstream[0])
    errors = []

    def write():
        try:
            while True:
                up.manager.write_partition("mv:j", "e", info.upstream[0], rows(0, 50_000))
        except ShuffleError as error:
            errors.append(error.message)

    thread = threading.Thread(target=write)
    thread.start()
    while up.manager.pool_metrics().waits == 0:
        threading.Event().wait(0.005)
    up.manager.unregister("mv:j", 0)  # older than the present one: nothing happens
    assert thread.is_alive()
    down.manager.unregister("mv:j", 1)
    if up is not down:
        up.manager.unregister("mv:j", 1)
    thread.join()
    assert "registered" in errors[0] or "reader" in errors[0]
    with pytest.raises(ShuffleError, match="unregistered"):
        channel.poll()
    for agent in (up, down):
        assert agent.manager.metrics() == []
        assert agent.manager.pool_metrics().used_bytes == 0


def test_only_upstream_unregisters(make_agent):
    up, down = make_agent("a"), make_agent("b")
    info = edge("e", "FORWARD", 1, 1)
    register((up, down), info)
    (channel,) = down.manager.read_partition("mv:j", "e", info.downstream[0])
    up.manager.writer("mv:j", "e", info.upstream[0]).barrier(Barrier(1))
    next_frame(channel)
    up.manager.unregister("mv:j", 1)
    with pytest.raises(ShuffleError, match="unregistered at agent 'a'"):
        next_frame(channel)


def test_only_downstream_unregisters(make_agent):
    up, down = make_agent("a"), make_agent("b")
    info = edge("e", "FORWARD", 1, 1)
    register((up, down), info)
    (channel,) = down.manager.read_partition("mv:j", "e", info.downstream[0])
    writer = up.manager.writer("mv:j", "e", info.upstream[0])
    writer.barrier(Barrier(1))
    next_frame(channel)
    down.manager.unregister("mv:j", 1)
    with pytest.raises(ShuffleError, match="is gone"):
        for epoch in range(2, 10_000):
            writer.barrier(Barrier(epoch))
            threading.Event().wait(0.01)


def test_reader_may_come_before_the_writer_is_registered(make_agent):
    up, down = make_agent("a"), make_agent("b")
    info = edge("e", "HASH", 1, 1)
    where = locations(info, up.location, down.location)
    down.manager.register_shuffle("mv:j", 1, info, where)
    (channel,) = down.manager.read_partition("mv:j", "e", info.downstream[0])
    assert channel.poll() is None
    up.manager.register_shuffle("mv:j", 1, info, where)
    up.manager.writer("mv:j", "e", info.upstream[0]).barrier(Barrier(5))
    assert next_frame(channel).barrier == Barrier(5)


def test_a_peer_that_never_registers(make_agent):
    up, down = make_agent("a"), make_agent("b", register_wait_s=0.3)
    info = edge("e", "HASH", 1, 1)
    down.manager.register_shuffle("mv:j", 1, info, locations(info, up.location, down.location))
    (channel,) = down.manager.read_partition("mv:j", "e", info.downstream[0])
    with pytest.raises(ShuffleError, match="is not registered at agent 'a'"):
        next_frame(channel)


def test_a_peer_that_is_not_there(make_agent, tmp_path):
    down = make_agent("b", register_wait_s=0.2)
    info = edge("e", "HASH", 1, 1)
    down.manager.register_shuffle("mv:j", 1, info, locations(info, f"grpc+unix://{tmp_path}/no.sock", down.location))
    (channel,) = down.manager.read_partition("mv:j", "e", info.downstream[0])
    with pytest.raises(ShuffleError, match="cannot be reached"):
        next_frame(channel)


def test_an_old_attempt_is_fenced(make_agent):
    up, down = make_agent("a"), make_agent("b")
    info = edge("e", "FORWARD", 1, 1)
    where = locations(info, up.location, down.location)
    up.manager.register_shuffle("mv:j", 2, info, where)
    with pytest.raises(ShuffleError, match="attempt 1 of job 'mv:j' is over"):
        up.manager.register_shuffle("mv:j", 1, info, where)
    down.manager.register_shuffle("mv:j", 1, info, where)
    (old,) = down.manager.read_partition("mv:j", "e", info.downstream[0])
    with pytest.raises(ShuffleError, match="attempt 1 of job 'mv:j' is over"):
        next_frame(old)
    down.manager.register_shuffle("mv:j", 2, info, where)
    (new,) = down.manager.read_partition("mv:j", "e", info.downstream[0])
    up.manager.writer("mv:j", "e", info.upstream[0]).barrier(Barrier(1))
    assert next_frame(new).barrier == Barrier(1)


def test_a_newer_attempt_replaces_the_present_one(pair):
    up, down = pair
    info = edge("e", "HASH", 1, 1)
    register(pair, info, attempt=1)
    (old,) = down.manager.read_partition("mv:j", "e", info.downstream[0])
    old_writer = up.manager.writer("mv:j", "e", info.upstream[0])
    register(pair, info, attempt=2)
    with pytest.raises(ShuffleError, match="newer attempt"):
        next_frame(old)
    with pytest.raises(ShuffleError, match="newer attempt"):
        old_writer.barrier(Barrier(1))
    (new,) = down.manager.read_partition("mv:j", "e", info.downstream[0])
    up.manager.writer("mv:j", "e", info.upstream[0]).barrier(Barrier(1))
    assert next_frame(new).barrier == Barrier(1)


def test_a_channel_is_read_once(make_agent):
    up, down = make_agent("a"), make_agent("b")
    thief = make_agent("c")
    info = edge("e", "FORWARD", 1, 1)
    register((up, down), info)
    (channel,) = down.manager.read_partition("mv:j", "e", info.downstream[0])
    up.manager.writer("mv:j", "e", info.upstream[0]).barrier(Barrier(1))
    next_frame(channel)
    thief.manager.register_shuffle("mv:j", 1, info, locations(info, up.location, thief.location))
    (second,) = thief.manager.read_partition("mv:j", "e", info.downstream[0])
    with pytest.raises(ShuffleError, match="being read already"):
        next_frame(second)


def test_jobs_are_apart(pair):
    up, down = pair
    info = edge("e", "FORWARD", 1, 1)
    for job in ("mv:a", "mv:b"):
        register(pair, info, job=job)
    channels = {job: down.manager.read_partition(job, "e", info.downstream[0])[0] for job in ("mv:a", "mv:b")}
    up.manager.writer("mv:a", "e", info.upstream[0]).barrier(Barrier(1))
    next_frame(channels["mv:a"])
    up.manager.unregister("mv:a", 1)
    up.manager.writer("mv:b", "e", info.upstream[0]).barrier(Barrier(3))
    assert next_frame(channels["mv:b"]).barrier == Barrier(3)
    with pytest.raises(ShuffleError, match="unregistered"):
        next_frame(channels["mv:a"])


@pytest.mark.parametrize(
    ("info", "reason"),
    [
        (edge("e", "FORWARD", 2, 3), "joins 2 tasks to 3"),
        (edge("e", "NOPE", 2, 3), "of kind 'NOPE'"),
        (edge("e", "RANGE", 2, 3, keys=()), "has 0 keys"),
        (edge("e", "RANGE", 2, 3), "0 bounds for 3 ranges"),
        (edge("e", "CUSTOM", 2, 3), "has no function"),
        (edge("e", "HASH", 0, 3), "no tasks on one side"),
        (edge("e", "HASH", 1, 3, keys=["nope"]), "'nope' stands 0 times"),
    ],
)
def test_malformed_edges_are_refused(make_agent, info: ShuffleEdgeInfo, reason):
    agent = make_agent("a")
    with pytest.raises(ShuffleError, match=reason):
        agent.manager.register_shuffle("mv:j", 1, info, locations(info, "x", "x"))
    assert agent.manager.metrics() == []


def test_wrong_uses_are_refused(make_agent):
    agent = make_agent("a")
    info = edge("e", "HASH", 1, 1)
    with pytest.raises(ShuffleError, match="has no location"):
        agent.manager.register_shuffle("mv:j", 1, info, {})
    register((agent, agent), info)
    with pytest.raises(ShuffleError, match="registered already"):
        register((agent, agent), info)
    for call in (agent.manager.writer, agent.manager.read_partition):
        with pytest.raises(ShuffleError, match="'nope'"):
            call("mv:j", "nope", "t")
        with pytest.raises(ShuffleError, match="task 't' does not"):
            call("mv:j", "e", "t")
    assert agent.manager.writer("mv:j", "e", info.upstream[0]) is agent.manager.writer("mv:j", "e", info.upstream[0])
    agent.manager.stop()
    agent.manager.stop()
    with pytest.raises(ShuffleError, match="is not running"):
        agent.manager.register_shuffle("mv:j", 1, info, dict.fromkeys((*info.upstream, *info.downstream), "x"))


def test_starvation_is_measured(make_agent):
    agent = make_agent("a")
    info = edge("e", "FORWARD", 1, 1)
    register((agent, agent), info)
    (channel,) = agent.manager.read_partition("mv:j", "e", info.downstream[0])
    assert channel.poll() is None
    agent.manager.writer("mv:j", "e", info.upstream[0]).barrier(Barrier(1))
    assert agent.manager.metrics()[0].wait_down_ns > 0
