"""Frames between agents: windows, retention, going on after a break, and a blocked channel that holds up no other."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest

from cython_shuffle.buffer_pool import BufferPool
from cython_shuffle.frames import Barrier, FrameKind
from cython_shuffle.out_link import OutLink
from cython_shuffle.remote_channels import IncomingChannel, OutgoingChannel
from cython_shuffle.tickets import Ticket
from sabot.errors import ShuffleError

BATCH = pa.record_batch({"v": pa.array(range(8))})
DATA = FrameKind.DATA


def outgoing(pool, n=1):
    return [OutgoingChannel(pool, "job", f"c{i}") for i in range(n)]


def ticket(connection=0, received=(0,), window_bytes=100):
    return Ticket("job", 1, "e", ("u",), ("d",), "link", window_bytes, connection, received)


def taken(link, connection, n):
    frames = one_by_one(link, connection)
    return [next(frames) for _ in range(n)]


def one_by_one(link, connection):
    for group in link.frames(connection, lambda: False):
        assert all(f.kind is not DATA for _, f in group[:-1])
        yield from group


def test_frames_hold_their_room_until_acknowledged():
    pool = BufferPool(10_000)
    (channel,) = outgoing(pool)
    channel.window_bytes = 150
    for _ in range(3):
        channel.put_data(BATCH, 60)
    channel.put_barrier(Barrier(1))
    assert [channel.next_to_send().sequence for _ in range(2)] == [0, 1]
    assert channel.next_to_send() is None
    assert channel.depth == 2
    assert pool.metrics().used_bytes == 180
    channel.acknowledge(1)
    assert pool.metrics().used_bytes == 120
    assert [channel.next_to_send().sequence for _ in range(2)] == [2, 3]
    channel.acknowledge(1)
    channel.acknowledge(4)
    assert pool.metrics().used_bytes == 0
    with pytest.raises(ShuffleError, match="5 frames of channel 'c0' acknowledged, 4 sent"):
        channel.acknowledge(5)


def test_one_frame_may_always_go():
    (channel,) = outgoing(BufferPool(100))
    channel.put_data(BATCH, 5000)
    assert channel.next_to_send().sequence == 0


def test_sending_goes_on_where_the_reader_says():
    (channel,) = outgoing(BufferPool(10_000))
    channel.window_bytes = 1000
    for _ in range(4):
        channel.put_data(BATCH, 10)
    for _ in range(3):
        channel.next_to_send()
    channel.acknowledge(1)
    assert not channel.rewind(2)
    assert [channel.next_to_send().sequence for _ in range(2)] == [2, 3]
    for gone in (0, 5):
        with pytest.raises(ShuffleError, match=f"cannot go on at frame {gone}"):
            channel.rewind(gone)
    channel.put_end()
    assert channel.next_to_send().kind is FrameKind.END
    assert channel.rewind(5)
    assert channel.next_to_send() is None


@pytest.mark.parametrize("seed", range(20))
def test_any_breaks_and_delays_give_every_frame_once(seed):
    rng = random.Random(seed)
    sender_pool, reader_pool = BufferPool(4000, 4000), BufferPool(300)
    admitted = [0]
    (out,) = outgoing(sender_pool)
    out.window_bytes = 200
    inward = IncomingChannel(reader_pool, "job", "c", lambda count, _: admitted.__setitem__(0, count))
    wire, received, got = [], 0, []
    written, total = 0, 60
    while len(got) < total + 1:
        match rng.randrange(6):
            case 0 if written < total and sender_pool.metrics().used_bytes < 1500:
                if written % 5 == 4:
                    out.put_barrier(Barrier(written))
                else:
                    out.put_data(BATCH.slice(0, written % 8), rng.randrange(1, 120))
                written += 1
                if written == total:
                    out.put_end()
            case 1:
                frame = out.next_to_send()
                if frame is not None:
                    wire.append(frame)
            case 2 if wire:
                frame = wire.pop(0)
                assert frame.sequence == received
                received += 1
                inward.receive(frame.kind, frame.batch, frame.barrier, 100 if frame.kind is DATA else 0)
            case 3:
                frame = inward.poll()
                if frame is not None:
                    got.append(frame)
            case 4:
                out.acknowledge(admitted[0])
            case 5 if rng.random() < 0.2:
                wire.clear()
                out.rewind(received)
    out.acknowledge(admitted[0])
    assert [f.sequence for f in got] == list(range(total + 1))
    assert [f.batch.num_rows for f in got if f.kind is DATA] == [n % 8 for n in range(total) if n % 5 != 4]
    assert out.acknowledged
    assert sender_pool.metrics().used_bytes == reader_pool.metrics().used_bytes == 0


def test_what_comes_waits_beside_its_channel_for_room():
    pool = BufferPool(100)
    told = []
    full = IncomingChannel(pool, "job", "full", lambda count, nbytes: told.append(("full", count, nbytes)))
    other = IncomingChannel(pool, "job", "other", lambda count, nbytes: told.append(("other", count, nbytes)))
    for _ in range(3):
        full.receive(DATA, BATCH, None, 90)
    full.receive(FrameKind.BARRIER, None, Barrier(1), 0)
    assert full.depth == 1
    other.receive(DATA, BATCH, None, 90)
    assert other.depth == 1
    assert told == [("full", 1, 90), ("other", 1, 90)]
    for n in range(3):
        assert full.poll().sequence == n
    assert full.poll().barrier == Barrier(1)
    assert told[2:] == [("full", 2, 90), ("full", 4, 90)]
    other.abort(ShuffleError("over"))
    full.abort(ShuffleError("over"))
    assert pool.metrics().used_bytes == 0
    with pytest.raises(ShuffleError, match="over"):
        full.receive(DATA, BATCH, None, 90)


def test_a_blocked_channel_holds_up_no_other():
    pool = BufferPool(100_000)
    blocked, free = outgoing(pool, 2)
    link = OutLink("link", [blocked, free], 0.0)
    link.attach(ticket(received=(0, 0)))
    for _ in range(5):
        blocked.put_data(BATCH, 90)
        free.put_data(BATCH, 90)
    frames = one_by_one(link, 0)
    assert {next(frames)[0], next(frames)[0]} == {0, 1}
    for n in range(1, 5):
        link.acknowledge([(1, n)])
        assert next(frames)[0] == 1
    link.acknowledge([(0, 1)])
    i, frame = next(frames)
    assert (i, frame.sequence) == (0, 1)
    with pytest.raises(ShuffleError, match="has no channel 2"):
        link.acknowledge([(2, 1)])


def test_a_newer_connection_takes_over():
    (channel,) = outgoing(BufferPool(10_000))
    link = OutLink("link", [channel], 0.0)
    old = one_by_one(link, link.attach(ticket()))
    channel.put_data(BATCH, 10)
    channel.put_barrier(Barrier(2))
    assert next(old)[1].sequence == 0
    new = one_by_one(link, link.attach(ticket(connection=2)))
    assert list(old) == []
    link.detach(0)
    assert link.streaming
    assert next(new)[1].sequence == 0
    for late in (0, 1, 2):
        with pytest.raises(ShuffleError, match=f"connection {late} of link 'link' is over"):
            link.attach(ticket(connection=late))
    with pytest.raises(ShuffleError, match="has 1 channels, not 2"):
        link.attach(ticket(connection=3, received=(0, 0)))


def test_a_link_ends_when_its_channels_have():
    channels = outgoing(BufferPool(10_000), 2)
    link = OutLink("link", channels, 0.0)
    link.attach(ticket(received=(0, 0)))
    for channel in channels:
        channel.put_end()
    assert [f.kind for _, f in one_by_one(link, 0)] == [FrameKind.END] * 2
    link.detach(0)
    link.acknowledge([(0, 1), (1, 1)])
    assert all(c.acknowledged for c in channels)
    # the reader has one end already
    again = OutLink("again", outgoing(BufferPool(10_000), 1), 0.0)
    assert taken(again, -1, 0) == []


def test_barriers_of_many_channels_travel_together():
    channels = outgoing(BufferPool(10_000), 600)
    link = OutLink("link", channels, 0.0)
    link.attach(ticket(received=(0,) * 600))
    for channel in channels:
        channel.put_barrier(Barrier(1))
    channels[5].put_data(BATCH, 10)
    groups = link.frames(0, lambda: False)
    sizes, seen = [], []
    while len(seen) < 601:
        group = next(groups)
        sizes.append(len(group))
        seen += [(i, f.sequence) for i, f in group]
    assert sorted(seen) == sorted([(i, 0) for i in range(600)] + [(5, 1)])
    assert len(sizes) <= 4
