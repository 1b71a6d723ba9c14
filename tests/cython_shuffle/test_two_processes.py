"""Two agent processes: several edges both ways, back pressure, and what the living one sees when the other dies."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from pathlib import Path

import pytest

from cython_shuffle.frames import Barrier
from sabot.errors import ShuffleError
from tests.support.shuffle_io import next_frame, read_all, rows, wait_until
from tests.support.shuffle_process import JOB, PeerProcess, connect


@pytest.fixture
def here(make_agent):
    return make_agent("here", pool_bytes=4 << 20)


@pytest.fixture
def peer(here, tmp_path):
    peer = PeerProcess(f"grpc+unix://{tmp_path}/peer.sock", 4 << 20, here.endpoint.clients)
    yield peer
    peer.close()


@pytest.mark.parametrize(("first", "second"), [("HASH", "REBALANCE"), ("REBALANCE", "HASH")])
def test_rows_go_there_and_come_back(here, peer, first, second):
    there = connect(here, peer, "there", first, 3, 4, up_here=True)
    back = connect(here, peer, "back", second, 4, 2, up_here=False)
    for task, target in zip(there.downstream, back.upstream, strict=True):
        peer.do("relay", source="there", task=task, target="back", target_task=target)

    def write(i, task):
        writer = here.manager.writer(JOB, "there", task)
        for epoch in range(1, 6):
            writer.write(rows(i * 100_000 + epoch * 10_000, 3000))
            writer.barrier(Barrier(epoch))
        writer.end()

    threads = [threading.Thread(target=write, args=item) for item in enumerate(there.upstream)]
    for thread in threads:
        thread.start()
    keys = Counter()
    for task in back.downstream:
        for received in read_all(here.manager.read_partition(JOB, "back", task)).values():
            keys.update(received.keys)
            assert received.barriers == [Barrier(e) for e in range(1, 6)]
            # what was written before a barrier comes before it
            epoch = 1
            for frame in received.frames:
                if frame.batch is not None:
                    assert {k % 100_000 // 10_000 for k in frame.batch["k"].to_pylist()} == {epoch}
                elif frame.barrier is not None:
                    epoch += 1
    for thread in threads:
        thread.join()
    expected = [i * 100_000 + e * 10_000 + n for i in range(3) for e in range(1, 6) for n in range(3000)]
    assert keys == Counter(expected)
    assert peer.do("figures")["errors"] == []
    wait_until(lambda: peer.do("figures")["used_bytes"] == 0)


def test_back_pressure_reaches_the_other_process(here, peer):
    info = connect(here, peer, "e", "HASH", 1, 2, up_here=False)
    channels = [c for task in info.downstream for c in here.manager.read_partition(JOB, "e", task)]
    batch_bytes = rows(0, 40_000).nbytes  # about 1 MB
    peer.do("write", name="e", task=info.upstream[0], start=0, batches=60, size=40_000)
    while peer.do("figures")["waits"] == 0:
        threading.Event().wait(0.01)
    blocked_at = peer.do("figures")["rows"]
    assert blocked_at < 60 * 40_000
    received = read_all(channels)[info.upstream[0]]
    assert sum(b.num_rows for b in received.batches) == 60 * 40_000
    figures = peer.do("figures")
    for peak in (figures["peak_bytes"], here.manager.pool_metrics().peak_bytes):
        assert peak <= (4 << 20) + 2 * batch_bytes
    assert figures["errors"] == []


def test_a_killed_writer_is_an_error_at_once(here, peer):
    info = connect(here, peer, "e", "HASH", 2, 2, up_here=False)
    channels = [c for task in info.downstream for c in here.manager.read_partition(JOB, "e", task)]
    for task in info.upstream:
        peer.do("write", name="e", task=task, start=0, batches=0, size=100)
    for channel in channels:
        next_frame(channel)
    peer.kill()
    for channel in channels:
        with pytest.raises(ShuffleError, match="cannot be reached"):
            while True:
                next_frame(channel)


def test_a_killed_reader_fails_the_writer(here, peer):
    info = connect(here, peer, "e", "FORWARD", 1, 1, up_here=True)
    other = connect(here, peer, "back", "FORWARD", 1, 1, up_here=False)
    peer.do("relay", source="e", task=info.downstream[0], target="back", target_task=other.upstream[0])
    writer = here.manager.writer(JOB, "e", info.upstream[0])
    writer.write(rows(0, 10))
    writer.barrier(Barrier(1))
    # taken by the reader's process, so the stream is open
    wait_until(lambda: here.manager.pool_metrics().used_bytes == 0)
    peer.kill()
    with pytest.raises(ShuffleError, match="is gone"):
        while True:
            writer.write(rows(0, 40_000))


def test_a_frozen_peer_does_not_hold_up_unregister(here, peer):
    info = connect(here, peer, "e", "HASH", 1, 1, up_here=False)
    (channel,) = here.manager.read_partition(JOB, "e", info.downstream[0])
    peer.do("write", name="e", task=info.upstream[0], start=0, batches=0, size=100)
    next_frame(channel)
    os.kill(peer.process.pid, signal.SIGSTOP)
    try:
        here.manager.unregister(JOB, 1)
        with pytest.raises(ShuffleError, match="unregistered"):
            channel.poll()
    finally:
        os.kill(peer.process.pid, signal.SIGCONT)


def test_a_peer_that_is_frozen_from_the_start(here, peer):
    info = connect(here, peer, "e", "HASH", 1, 1, up_here=False)
    os.kill(peer.process.pid, signal.SIGSTOP)
    try:
        (channel,) = here.manager.read_partition(JOB, "e", info.downstream[0])
        (thread,) = [t for t in threading.enumerate() if t.name.startswith("pull ")]
        here.manager.unregister(JOB, 1)
        with pytest.raises(ShuffleError, match="unregistered"):
            channel.poll()
    finally:
        os.kill(peer.process.pid, signal.SIGCONT)
    thread.join()


def test_a_peer_stops_though_nobody_reads_its_streams(here, peer):
    info = connect(here, peer, "e", "FORWARD", 1, 1, up_here=False)
    (channel,) = here.manager.read_partition(JOB, "e", info.downstream[0])
    peer.do("write", name="e", task=info.upstream[0], start=0, batches=0, size=40_000)
    while peer.do("figures")["waits"] == 0:
        threading.Event().wait(0.01)
    # both pools and the socket between are full now
    assert peer.close() == 0
    with pytest.raises(ShuffleError, match="unregistered at agent 'peer'"):
        while True:
            next_frame(channel)


def test_a_peer_stops_cleanly_with_streams_open(here, peer):
    info = connect(here, peer, "e", "HASH", 1, 1, up_here=False)
    (channel,) = here.manager.read_partition(JOB, "e", info.downstream[0])
    peer.do("write", name="e", task=info.upstream[0], start=0, batches=0, size=1000)
    next_frame(channel)
    assert peer.close() == 0
    with pytest.raises(ShuffleError, match="peer"):
        while True:
            next_frame(channel)


def test_jobs_leave_no_threads_and_descriptors(here, peer):
    def one_job():
        info = connect(here, peer, "e", "HASH", 2, 3, up_here=False)
        channels = [c for task in info.downstream for c in here.manager.read_partition(JOB, "e", task)]
        for task in info.upstream:
            peer.do("write", name="e", task=task, start=0, batches=0, size=10)
        for channel in channels:
            next_frame(channel)
        here.manager.unregister(JOB, 1)
        pulling = [t for t in threading.enumerate() if t.name.startswith("pull ")]
        assert pulling == []
        here.endpoint.clients.call_action(peer.location, "forget", b"{}")
        return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in ("self", peer.process.pid))

    counts = [one_job() for _ in range(8)]
    # the connection and the threads' own are opened in the first rounds
    assert max(counts[4:]) <= max(counts[:4])
