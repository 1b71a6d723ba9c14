"""What a link's reader keeps on disk: taken in again whole, whatever the kill cut off, and let go in time."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from cython_shuffle import link_journal
from cython_shuffle.buffer_pool import BufferPool
from cython_shuffle.frames import Barrier, FrameKind
from cython_shuffle.link_journal import LinkJournal
from cython_shuffle.remote_channels import OutgoingChannel
from cython_shuffle.tickets import FrameHeader, headers_from_bytes, headers_to_bytes
from sabot.errors import ShuffleError

SCHEMA = pa.schema([("k", pa.int64())])


def batch(*keys: int) -> pa.RecordBatch:
    return pa.record_batch([pa.array(keys, pa.int64())], schema=SCHEMA)


def data(sequence: int, epoch: int, channel: int = 0) -> FrameHeader:
    return FrameHeader("e", FrameKind.DATA, sequence, epoch, None, channel)


def barrier(sequence: int, epoch: int, channel: int = 0) -> FrameHeader:
    return FrameHeader("e", FrameKind.BARRIER, sequence, epoch, Barrier(epoch), channel)


def put(journal: LinkJournal, headers: list[FrameHeader], rows: pa.RecordBatch) -> None:
    journal.append(headers, headers_to_bytes(headers), rows)


def read(journal: LinkJournal) -> list[tuple[int, int, list[int]]]:
    """(channel, sequence of the last frame, keys) of each entry; notes them, as a link does."""
    found = []
    for metadata, rows in journal.recovered(SCHEMA):
        headers = headers_from_bytes(metadata)
        journal.noted(headers)
        found.append((headers[-1].channel, headers[-1].sequence, rows["k"].to_pylist()))
    return found


def test_what_was_received_is_there_for_the_next_process(tmp_path: Path) -> None:
    journal = LinkJournal(tmp_path / "j", 2, resume=False)
    put(journal, [data(0, 0)], batch(1, 2))
    put(journal, [barrier(1, 1), barrier(0, 1, 1)], batch())
    put(journal, [data(1, 1, 1)], batch(3))
    again = LinkJournal(tmp_path / "j", 2, resume=True)
    assert again.places.sequences == [0, 0]
    assert again.first_connection > 0
    assert read(again) == [(0, 0, [1, 2]), (1, 0, []), (1, 1, [3])]
    assert (again.places.sequences, again.places.epochs) == ([2, 2], [1, 1])
    put(again, [data(2, 1)], batch(4))
    third = LinkJournal(tmp_path / "j", 2, resume=True)
    assert third.first_connection > again.first_connection
    assert [e[2] for e in read(third)] == [[1, 2], [], [3], [4]]


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_an_entry_that_the_kill_cut_off_was_never_received(tmp_path: Path, cut: int) -> None:
    journal = LinkJournal(tmp_path / "j", 1, resume=False)
    put(journal, [data(0, 0)], batch(1))
    put(journal, [data(1, 0)], batch(2))
    (file,) = (tmp_path / "j").glob("*.journal")
    file.write_bytes(file.read_bytes()[:-cut])
    again = LinkJournal(tmp_path / "j", 1, resume=True)
    assert read(again) == [(0, 0, [1])]
    put(again, [data(1, 0)], batch(3))
    assert [e[2] for e in read(LinkJournal(tmp_path / "j", 1, resume=True))] == [[1], [3]]


def test_segments_go_when_their_epochs_are_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_journal, "SEGMENT_BYTES", 1)
    journal = LinkJournal(tmp_path / "j", 1, resume=False)
    for epoch in range(1, 6):
        put(journal, [data(2 * epoch - 2, epoch - 1)], batch(epoch))
        put(journal, [barrier(2 * epoch - 1, epoch)], batch())
        journal.complete(epoch - 1)
    assert len(list((tmp_path / "j").glob("*.journal"))) == 2
    again = LinkJournal(tmp_path / "j", 1, resume=True)
    assert (again.places.sequences, again.places.epochs) == ([8], [4])
    assert read(again) == [(0, 8, [5]), (0, 9, [])]
    # read back, the segments still know what they hold: another kill loses nothing
    again.complete(4)
    assert [e[2] for e in read(LinkJournal(tmp_path / "j", 1, resume=True))][-2:] == [[5], []]


def test_a_journal_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ShuffleError, match="is not there"):
        LinkJournal(tmp_path / "j", 1, resume=True)
    LinkJournal(tmp_path / "j", 2, resume=False)
    with pytest.raises(ShuffleError, match="another link"):
        LinkJournal(tmp_path / "j", 1, resume=True)


@pytest.mark.parametrize("first", ["the writer", "the reader"])
def test_a_writer_that_takes_over_drops_what_its_reader_has(first: str) -> None:
    pool = BufferPool(1 << 20)
    channel = OutgoingChannel(pool, "j", "c")
    channel.window_bytes = 1 << 20
    channel.resume_at(10, 4)

    def write() -> None:
        for key in range(4):
            channel.put_data(batch(key), 8)
        channel.put_barrier(Barrier(5))

    if first == "the writer":
        write()
        assert not channel.rewind(12)
    else:
        assert not channel.rewind(12)
        channel.acknowledge(12)  # of frames that the writer before this one sent
        write()
    frames = [channel.next_to_send() for _ in range(3)]
    assert [(f.sequence, f.epoch) for f in frames if f is not None] == [(12, 4), (13, 4), (14, 5)]
    assert channel.next_to_send() is None
    channel.acknowledge(15)
    assert pool.metrics().used_bytes == 0
