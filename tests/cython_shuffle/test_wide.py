"""Wide graphs and skewed keys between two processes: bounded memory, threads and descriptors, and no deadlock."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from cython_shuffle.frames import Barrier, FrameKind
from tests.support.shuffle_io import next_frame, read_all, wait_until
from tests.support.shuffle_process import JOB, PeerProcess, connect

POOL_BYTES = 32 << 20


@pytest.fixture
def here(make_agent):
    return make_agent("here", pool_bytes=POOL_BYTES)


@pytest.fixture
def peer(here, tmp_path):
    peer = PeerProcess(f"grpc+unix://{tmp_path}/peer.sock", POOL_BYTES, here.endpoint.clients)
    yield peer
    peer.close()


def count(pid, what):
    return len(list(Path(f"/proc/{pid}/{what}").iterdir()))


def resident_bytes(pid):
    (line,) = [n for n in Path(f"/proc/{pid}/status").read_text().splitlines() if n.startswith("VmRSS")]
    return int(line.split()[1]) << 10


def test_64_tasks_to_64_tasks(here, peer):
    tasks, batches, size = 64, 2, 2000
    info = connect(here, peer, "e", "HASH", tasks, tasks, up_here=False)
    pids = ("self", peer.process.pid)
    before = {pid: (count(pid, "fd"), count(pid, "task"), resident_bytes(pid)) for pid in pids}
    channels = [c for task in info.downstream for c in here.manager.read_partition(JOB, "e", task)]
    assert len(channels) == tasks * tasks
    for i, task in enumerate(info.upstream):
        peer.do("write", name="e", task=task, start=1_000_000 * i, batches=batches, size=size)
    wait_until(lambda: peer.do("figures")["rows"] == tasks * batches * size)
    during = {pid: (count(pid, "fd"), count(pid, "task"), resident_bytes(pid)) for pid in pids}
    for pid in pids:
        fds, threads, resident = (now - then for now, then in zip(during[pid], before[pid], strict=True))
        # the connection; a stream's thread, its acknowledger and gRPC's own; the peer's writers
        assert fds <= 8
        assert threads <= 16 + (tasks if pid != "self" else 0)
        assert resident <= 8 * POOL_BYTES
    assert sum(t.name.startswith("pull ") for t in threading.enumerate()) == 1
    rows = sum(b.num_rows for received in read_each(channels) for b in received)
    assert rows == tasks * batches * size
    wait_until(lambda: peer.do("figures")["used_bytes"] == 0)
    figures = peer.do("figures")
    assert figures["errors"] == []
    for peak in (figures["peak_bytes"], here.manager.pool_metrics().peak_bytes):
        assert peak <= POOL_BYTES


def read_each(channels):
    """Read all to the end, and give the batches of each; every channel ends in order with its barriers."""
    everything = []
    for channel in channels:
        batches, epoch = [], 0
        while (frame := next_frame(channel)).kind is not FrameKind.END:
            if frame.kind is FrameKind.BARRIER:
                epoch += 1
                assert frame.barrier == Barrier(epoch)
            else:
                batches.append(frame.batch)
        everything.append(batches)
    return everything


@pytest.mark.parametrize("way", ["aligned", "as it comes"])
def test_a_skewed_key_neither_deadlocks_nor_fills_memory(make_agent, tmp_path, way):
    pool_bytes = 4 << 20
    here = make_agent("here", pool_bytes=pool_bytes)
    peer = PeerProcess(f"grpc+unix://{tmp_path}/peer.sock", pool_bytes, here.endpoint.clients)
    info = connect(here, peer, "e", "HASH", 4, 4, up_here=False)
    inputs = [here.manager.read_partition(JOB, "e", task) for task in info.downstream]
    batches, size = 25, 10_000  # about 24 MB in all
    for task in info.upstream:
        peer.do("write", name="e", task=task, start=0, batches=batches, size=size, key=7)
    rows = [0] * len(inputs)

    def read_aligned(n, channels):
        for epoch in range(1, batches + 1):
            # the worst order: nothing of the next channel before this one's barrier
            for channel in channels:
                while (frame := next_frame(channel)).kind is FrameKind.DATA:
                    rows[n] += frame.batch.num_rows
                assert frame.barrier == Barrier(epoch)

    def read(n, channels):
        if way == "aligned":
            read_aligned(n, channels)
        for received in read_all(channels).values():
            rows[n] += sum(b.num_rows for b in received.batches)

    threads = [threading.Thread(target=read, args=item) for item in enumerate(inputs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(rows) == 4 * batches * size
    assert max(rows) > 0.95 * sum(rows)
    figures = peer.do("figures")
    assert figures["errors"] == []
    for peak in (figures["peak_bytes"], here.manager.pool_metrics().peak_bytes):
        # a channel that is empty takes a part whatever else there is
        assert peak <= pool_bytes + 4 * 512 * 1024
    assert peer.close() == 0
