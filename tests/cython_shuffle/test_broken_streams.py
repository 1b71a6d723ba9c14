"""A reader facing a peer that sends what it must not: every fault is an error on poll, never a missing batch."""

from __future__ import annotations

import itertools

import msgspec
import pyarrow as pa
import pytest

from cython_shuffle.frames import Barrier, FrameKind
from cython_shuffle.tickets import FrameHeader, Ticket
from sabot.errors import InternalError, ShuffleError
from tests.support.shuffle_io import SCHEMA, edge, locations, next_frame, rows

DATA, BARRIER, END = FrameKind.DATA, FrameKind.BARRIER, FrameKind.END
EMPTY = rows(0, 0)


def data(sequence, epoch=0, edge_id="e", channel=0):
    return rows(sequence, 1), FrameHeader(edge_id, DATA, sequence, epoch, channel=channel).to_bytes()


def barrier(sequence, epoch):
    return EMPTY, FrameHeader("e", BARRIER, sequence, epoch, Barrier(epoch)).to_bytes()


def end(sequence, epoch=0):
    return EMPTY, FrameHeader("e", END, sequence, epoch).to_bytes()


@pytest.fixture
def read(make_agent):
    """Give a function: what a reader gets from a peer that sends these chunks."""

    names = itertools.count()

    def run(chunks, schema=SCHEMA, info=None):
        info = info or edge("e", "FORWARD", 1, 1)
        up, down = make_agent(f"a{next(names)}"), make_agent(f"b{next(names)}")
        tickets = []

        def answer(ticket, is_cancelled):
            tickets.append(Ticket.from_bytes(ticket))
            return schema, iter(chunks)

        up.endpoint.set_stream_handler(answer)
        down.manager.register_shuffle("mv:j", 7, info, locations(info, up.location, down.location))
        (channel,) = down.manager.read_partition("mv:j", "e", info.downstream[0])
        frames = []
        try:
            while not frames or frames[-1].kind is not END:
                frames.append(next_frame(channel))
        finally:
            (ticket,) = tickets
            assert msgspec.structs.astuple(ticket)[:5] == ("mv:j", 7, "e", ("e-up/0",), ("e-down/0",))
            assert (ticket.connection, ticket.received) == (0, (0,))
        return frames

    return run


def test_a_good_stream(read):
    frames = read([data(0), barrier(1, 5), data(2, 5), end(3, 5)])
    assert [f.kind for f in frames] == [DATA, BARRIER, DATA, END]
    together = barrier(1, 5)[1] + barrier(2, 6)[1] + data(3, 6)[1]
    frames = read([data(0), (rows(3, 1), together), end(4, 6)])
    assert [f.kind for f in frames] == [DATA, BARRIER, BARRIER, DATA, END]


@pytest.mark.parametrize(
    ("chunks", "reason"),
    [
        ([data(0), data(2)], "frame 2 came where 1 was due"),
        ([data(0), data(0)], "frame 0 came where 1 was due"),
        ([data(1)], "frame 1 came where 0 was due"),
        ([data(0)], "ended before its end frame, after 1 frames"),
        ([], "ended before its end frame, after 0 frames"),
        ([data(0, edge_id="other")], "of edge 'other' came on edge 'e'"),
        ([data(0), data(1, channel=1)], "came on channel 1 of 1"),
        ([data(0), barrier(1, 5), data(2, 4)], "of epoch 4 came in epoch 5"),
        ([barrier(0, 5), barrier(1, 4)], "epoch 4 came after that of epoch 5"),
        ([end(0), data(1)], "came after the end"),
        ([(EMPTY, b"rubbish")], "cannot be read"),
        ([(rows(0, 1), data(0)[1] + data(1)[1])], "frame 0 of channel 0 came without its rows"),
        ([(EMPTY, b"")], "cannot be read"),
    ],
)
def test_faults(read, chunks, reason):
    with pytest.raises(ShuffleError, match=reason):
        frames = read(chunks)
        # what comes after the end is seen by nobody; the end itself may have been taken
        assert reason == "came after the end"
        assert [f.kind for f in frames] == [END]
        raise ShuffleError(reason)


def test_another_schema(read):
    other = pa.schema([("k", pa.int64())])
    with pytest.raises(ShuffleError, match="takes 3 columns, not 1"):
        read([], schema=other)


def test_packed_frames_that_are_broken(read):
    info = edge("e", "FORWARD", 1, 1, schema=pa.schema([("d", pa.dictionary(pa.int8(), pa.string()))]))
    packed = pa.schema([("ipc", pa.binary())])
    cell = pa.record_batch([pa.array([b"no stream"], pa.binary())], schema=packed)
    with pytest.raises(ShuffleError, match="packed frame cannot be read"):
        read([(cell, FrameHeader("e", DATA, 0, 0).to_bytes())], schema=packed, info=info)


def test_a_bug_at_the_peer(read):
    def chunks():
        yield data(0)
        raise KeyError("oops")

    with pytest.raises(ShuffleError, match="oops"):
        read(chunks())


def test_an_error_at_the_peer(read):
    def chunks():
        yield data(0)
        raise InternalError("task failed", hint="look there")

    with pytest.raises(ShuffleError, match="task failed") as caught:
        read(chunks())
    assert caught.value.hint == "look there"
