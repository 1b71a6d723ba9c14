"""The stream log: cursors at their own pace, segments that come and go."""

from __future__ import annotations

import resource
from pathlib import Path

import pyarrow as pa
import pytest

from sabotd.state import stream_log
from sabotd.state.stream_log import LogCursor, StreamLog

SCHEMA = pa.schema([("v", pa.int64()), ("s", pa.string())])


def batch(*values: int) -> pa.RecordBatch:
    return pa.record_batch([pa.array(values, pa.int64()), pa.array([str(v) for v in values])], schema=SCHEMA)


def drain(cursor: LogCursor) -> list[tuple[int, list[int]]]:
    out = []
    while (entry := cursor.read(0)) is not None:
        out.append((entry[0], entry[1].column(0).to_pylist()))
    return out


def test_cursors_read_from_where_they_subscribed(tmp_path: Path) -> None:
    log = StreamLog(tmp_path / "log", SCHEMA)
    log.append(1, [batch(1)])
    first = log.subscribe()
    log.append(2, [batch(2), batch(3)])
    second = log.subscribe()
    log.append(3, [batch(4)])
    assert drain(first) == [(2, [2]), (2, [3]), (3, [4])]
    assert drain(second) == [(3, [4])]
    first.close()
    second.close()
    log.close()


def test_nothing_is_written_for_nobody(tmp_path: Path) -> None:
    log = StreamLog(tmp_path / "log", SCHEMA)
    log.append(1, [batch(1)])
    assert not (tmp_path / "log").exists()
    log.close()


def test_segments_go_when_all_have_read_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_log, "SEGMENT_BYTES", 2000)
    log = StreamLog(tmp_path / "log", SCHEMA)
    slow, fast = log.subscribe(), log.subscribe()
    for epoch in range(100):
        log.append(epoch, [batch(epoch)])
    held = len(list((tmp_path / "log").iterdir()))
    assert held > 5
    assert len(drain(fast)) == 100
    assert len(list((tmp_path / "log").iterdir())) == held, "the slow one still needs them"
    assert drain(slow) == [(e, [e]) for e in range(100)]
    assert len(list((tmp_path / "log").iterdir())) <= 2
    slow.close()
    fast.close()
    assert list((tmp_path / "log").iterdir()) == []
    log.close()


def test_what_was_prepared_is_seen_once_published(tmp_path: Path) -> None:
    log = StreamLog(tmp_path / "log", SCHEMA)
    cursor = log.subscribe()
    log.prepare(1, [batch(1)])
    assert drain(cursor) == []
    log.forget()
    log.prepare(2, [batch(2)])
    log.publish()
    log.publish()
    assert drain(cursor) == [(2, [2])]
    cursor.close()
    log.close()


def test_an_entry_that_was_not_written_whole_leaves_no_trace(tmp_path: Path) -> None:
    log = StreamLog(tmp_path / "log", SCHEMA)
    cursor = log.subscribe()
    log.append(1, [batch(1)])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (cursor.end + 1000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            log.append(2, [batch(*range(1000))])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    log.append(3, [batch(3)])
    assert drain(cursor) == [(1, [1]), (3, [3])]
    cursor.close()
    log.close()


def test_a_finished_log_ends_its_cursors_after_the_last_entry(tmp_path: Path) -> None:
    log = StreamLog(tmp_path / "log", SCHEMA)
    cursor = log.subscribe()
    log.append(1, [batch(1)])
    log.finish()
    assert not cursor.finished()
    drain(cursor)
    assert cursor.finished()
    assert cursor.read(60) is None, "it does not wait for what cannot come"
    cursor.close()
    log.close()


def test_a_wake_before_the_wait_is_not_lost(tmp_path: Path) -> None:
    log = StreamLog(tmp_path / "log", SCHEMA)
    cursor = log.subscribe()
    cursor.wake()
    assert cursor.read(1e6) is None
    log.append(1, [batch(1)])
    cursor.wake()
    assert drain(cursor) == [(1, [1])]
    cursor.close()
    log.close()
