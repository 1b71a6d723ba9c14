"""Channels keep order, count frames, wake their listener, and fail at once when aborted."""

from __future__ import annotations

import threading

import pyarrow as pa
import pytest

from cython_shuffle.batcher import Batcher, round_bytes_of
from cython_shuffle.buffer_pool import BufferPool
from cython_shuffle.channel import Channel
from cython_shuffle.frames import Barrier, FrameKind
from cython_shuffle.tickets import FrameHeader, Ticket, headers_from_bytes, headers_to_bytes
from sabot.errors import ShuffleError

BATCH = pa.record_batch({"v": pa.array(range(8))})


@pytest.fixture
def pool():
    return BufferPool(1000)


@pytest.fixture
def channel(pool):
    return Channel(pool, "job", "u to d")


def test_frames_come_in_order_and_numbered(channel, pool):
    channel.put_data(BATCH, 64)
    channel.put_barrier(Barrier(1, 5))
    channel.put_end()
    frames = [channel.poll() for _ in range(3)]
    assert [f.sequence for f in frames] == [0, 1, 2]
    assert [f.kind for f in frames] == [FrameKind.DATA, FrameKind.BARRIER, FrameKind.END]
    assert frames[0].batch is BATCH
    assert frames[1].barrier == Barrier(1, 5)
    assert channel.poll() is None
    assert pool.metrics().used_bytes == 0


def test_nothing_follows_the_end(channel):
    channel.put_end()
    with pytest.raises(ShuffleError, match="has ended"):
        channel.put_barrier(Barrier(1))


def test_barriers_pass_a_full_channel(channel):
    channel.put_data(BATCH, 5000)
    for epoch in range(100):
        channel.put_barrier(Barrier(epoch))
    assert channel.depth == 101


def test_listener_hears_frames_and_aborts(channel):
    heard = []
    channel.put_barrier(Barrier(1))
    channel.set_listener(lambda: heard.append(channel.depth))
    assert heard == [1]
    channel.put_barrier(Barrier(2))
    channel.abort(ShuffleError("over"))
    assert heard == [1, 2, 0]


def test_barriers_are_told_apart_from_rows(channel):
    heard = []
    channel.set_listener(lambda: heard.append("rows"), lambda: heard.append("barrier"))
    channel.put_data(BATCH, 10)
    channel.put_barrier(Barrier(1))
    channel.put_end()
    channel.abort(ShuffleError("over"))
    assert heard == ["rows", "barrier", "barrier", "rows"]


def test_abort_wakes_writer_and_reader(pool):
    full = Channel(pool, "job", "full")
    empty = Channel(pool, "job", "empty")
    full.put_data(BATCH, 900)
    errors = []

    def attempt(call, *args):
        try:
            call(*args)
        except ShuffleError as error:
            errors.append(error.message)

    def poll_when_heard():
        heard = threading.Event()
        empty.set_listener(heard.set)
        heard.wait()
        empty.poll()

    threads = [
        threading.Thread(target=attempt, args=(full.put_data, BATCH, 900)),
        threading.Thread(target=attempt, args=(poll_when_heard,)),
    ]
    for thread in threads:
        thread.start()
    while pool.metrics().waits == 0:
        threading.Event().wait(0.001)
    full.abort(ShuffleError("the writer's channel is over"))
    empty.abort(ShuffleError("the reader's channel is over"))
    for thread in threads:
        thread.join()
    assert sorted(errors) == ["the reader's channel is over", "the writer's channel is over"]
    assert pool.metrics().used_bytes == 0


def test_only_the_first_abort_counts_and_errors_are_fresh(channel):
    channel.abort(ShuffleError("first", hint="h"))
    channel.abort(ShuffleError("second"))
    with pytest.raises(ShuffleError, match="first") as one:
        channel.poll()
    with pytest.raises(ShuffleError, match="first") as two:
        channel.put_end()
    assert one.value is not two.value
    assert one.value.hint == "h"


def test_batcher_gathers_small_and_cuts_large():
    batcher = Batcher(1000)
    small = BATCH  # 64 bytes
    out = [b for _ in range(16) for b in batcher.add(small)]
    assert [b.num_rows for b in out] == [128]
    assert list(batcher.flush()) == []
    assert list(batcher.add(small)) == []
    large = pa.record_batch({"v": pa.array(range(1000))})
    out = list(batcher.add(large))
    assert out[0].num_rows == 8
    assert pa.Table.from_batches(out[1:]) == pa.Table.from_batches([large])
    assert all(b.nbytes <= 2000 for b in out)
    assert batcher.pending_bytes == 0
    assert list(batcher.add(large.slice(0, 0))) == []
    assert round_bytes_of(10, 3) == 30
    assert round_bytes_of(10, 1000) == 80


def test_wire_headers_and_tickets_return():
    ticket = Ticket("mv:ä", 3, "1-agg->2-mat#0", ("1-agg/0",), ("2-mat/1",), "link", 1 << 20, 2, (7,))
    assert Ticket.from_bytes(ticket.to_bytes()) == ticket
    for barrier in (None, Barrier(7), Barrier(7, -5, final=True), Barrier(7, 0, checkpoint=True, now_us=1 << 60)):
        kind = FrameKind.DATA if barrier is None else FrameKind.BARRIER
        header = FrameHeader("edge ü", kind, 2**40, 7, barrier, 4095)
        assert FrameHeader.from_bytes(header.to_bytes()) == header


def test_headers_travel_together():
    headers = [FrameHeader("edge", FrameKind.BARRIER, n, 7, Barrier(7, n), n) for n in range(5)]
    headers.append(FrameHeader("edge", FrameKind.DATA, 9, 7))
    assert headers_from_bytes(headers_to_bytes(headers)) == headers
    with pytest.raises(ShuffleError, match="6 frame headers where one was due"):
        FrameHeader.from_bytes(headers_to_bytes(headers))
    with pytest.raises(ShuffleError, match="cannot be read"):
        headers_from_bytes(headers_to_bytes(headers)[:-1])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x03",
        bytes(40),
        b"\xff" * 33,
        b"\x02" + bytes(32),  # of an older version
        b"\x03\x09\x00\x00\x00\x01" + bytes(31),  # of no kind
        b"\x03" + bytes(24),  # of no frames
        b"\x03\x01\x00\x00\x00\xff\xff\xff\xff" + bytes(40),  # of more than there are
    ],
)
def test_broken_headers_are_refused(data):
    with pytest.raises(ShuffleError, match="frame"):
        FrameHeader.from_bytes(data)


def test_broken_tickets_are_refused():
    with pytest.raises(ShuffleError, match="cannot be read"):
        Ticket.from_bytes(b"\x93\x01")
