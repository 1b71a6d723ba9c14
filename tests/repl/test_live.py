import pyarrow as pa
import pytest

from repl.live import KEEP_ROWS, LiveTable
from repl.terminal import clip

SCHEMA = pa.schema([("__epoch", pa.int64()), ("k", pa.string()), ("n", pa.int64()), ("__weight", pa.int32())])


def changes(epoch: int, *rows: tuple[str, int | None, int]) -> pa.RecordBatch:
    return pa.record_batch([[epoch] * len(rows), *([row[i] for row in rows] for i in range(3))], schema=SCHEMA)


def shown(table: LiveTable, lines: int = 24) -> list[str]:
    return [line.strip() for line in table.frame(lines)[0][2:-1]]


def test_updates_stay_in_their_place():
    table = LiveTable(SCHEMA)
    table.apply(changes(1, ("b", 1, 1), ("a", 10, 1)))
    assert shown(table) == ["b |  1", "a | 10"]  # nothing was taken back: as they came
    table.apply(changes(2, ("b", 1, -1), ("b", 2, 1)))
    assert shown(table) == ["a | 10", "b |  2"]
    table.apply(changes(3, ("a", 9, 1), ("a", 10, -1)))
    assert shown(table) == ["a | 9", "b | 2"]
    assert (table.total, table.changes, table.epoch) == (2, 6, 3)


def test_a_retraction_may_come_before_its_row_in_one_epoch():
    table = LiveTable(SCHEMA)
    table.apply(changes(1, ("a", 1, -1)))
    table.apply(changes(1, ("a", 1, 1), ("b", 1, 1)))
    assert shown(table) == ["b | 1"]


def test_what_changed_stands_out_once():
    table = LiveTable(SCHEMA)
    table.apply(changes(1, ("a", 1, 1), ("b", 1, 1)))
    assert table.frame(24)[1] == {2, 3}
    table.apply(changes(2, ("b", 1, -1), ("b", 2, 1)))
    assert table.frame(24)[1] == {3}
    assert table.frame(24)[1] == frozenset()


def test_rows_that_stand_twice_and_nulls():
    table = LiveTable(SCHEMA, null="NULL")
    table.apply(changes(1, ("a", None, 2), ("b", 3, 1)))
    assert shown(table) == ["a | NULL", "a | NULL", "b |    3"]
    table.apply(changes(2, ("a", None, -1)))
    assert shown(table) == ["b |    3", "a | NULL"][::-1]


def test_a_small_screen_shows_the_latest():
    table = LiveTable(SCHEMA)
    table.apply(changes(1, *((f"k{i:02}", i, 1) for i in range(50))))
    frame, _ = table.frame(10)
    assert len(frame) <= 10
    assert [line.split()[0] for line in frame[2:-1]] == ["k45", "k46", "k47", "k48", "k49"]
    assert frame[-1].startswith("(5 of 50 rows, 50 changes, epoch 1)")


@pytest.mark.parametrize("rows", [100_000])
def test_a_big_load_keeps_only_the_latest(rows):
    table = LiveTable(SCHEMA)
    batch = pa.record_batch(
        [pa.array([1] * rows), pa.array(["x"] * rows), pa.array(range(rows)), pa.array([1] * rows, pa.int32())],
        schema=SCHEMA,
    )
    table.apply(batch)
    assert table.total == rows
    assert len(table._rows) == KEEP_ROWS
    table.apply(changes(2, ("x", rows - 1, -1)))
    assert shown(table, 7)[-1].endswith(f"{rows - 2}")
    assert table.total == rows - 1


def test_clip():
    assert clip("abcdef", 3) == "abc"
    assert clip("日本語", 5) == "日本"
    assert clip("ab", 5) == "ab"
