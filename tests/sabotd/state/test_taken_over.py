"""A store opened again after a kill: rows of views on disk, and logs that their readers go on with."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from sabot.errors import SqlError
from sabot.ids import WEIGHT
from sabot.schema import Field
from sabotd.state.store import Store

V = (Field("k", "INTEGER"), Field("n", "BIGINT"))
ARROW = pa.schema([("k", pa.int32()), ("n", pa.int64()), (WEIGHT, pa.int32())])


def open_store(folder: Path) -> Store:
    (folder / "scratch").mkdir(exist_ok=True)
    return Store(folder, folder / "scratch", memory_limit_mb=512, threads=1)


def changes(*rows: tuple[int, int, int]) -> list[pa.RecordBatch]:
    return [pa.RecordBatch.from_pylist([dict(zip(ARROW.names, r, strict=True)) for r in rows], schema=ARROW)]


def rows(store: Store, sql: str) -> list[tuple[object, ...]]:
    with store.reader() as con:
        return con.execute(sql).fetchall()


def killed(store: Store) -> None:
    """Leave on the disk what a kill would: nothing is tidied up."""
    store._db.close()


def test_a_views_rows_and_its_readers_place_outlive_a_kill(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.create_rows("v", V, append_only=False)
    store.renew("v", durable=True)
    reader = store.subscribe("v", snapshot=False, keep=True)
    store.apply("v", 1, changes((1, 10, 1), (2, 20, 1)), ("k",))
    assert reader.cursor.read(0) is not None
    store.apply("v", 2, changes((1, 10, -1), (1, 11, 1)), ("k",))
    name, position = reader.cursor.log_name, reader.cursor.position
    killed(store)

    again = open_store(tmp_path)
    again.drop_unknown_tables(["v"])
    again.create_rows("v", V, append_only=False, keep=True)
    assert again.resumes("v") == 2
    assert rows(again, "SELECT * FROM v ORDER BY k") == [(1, 11), (2, 20)]
    again.apply("v", 3, changes((3, 30, 1)), ("k",))  # before its reader is back
    back = again.resume("v", name, position)
    again.release_logs()
    read = [back.cursor.read(0), back.cursor.read(0)]
    assert [(e, b.num_rows) for e, b in (r for r in read if r is not None)] == [(2, 2), (3, 1)]
    assert back.cursor.read(0) is None
    with pytest.raises(SqlError, match="another log"):
        again.resume("v", "76.0", 0)
    again.reset("v")
    with pytest.raises(SqlError, match="another log"):
        again.resume("v", name, position)
    assert rows(again, "SELECT * FROM v") == []
    again.close()


def test_a_tables_log_ends_with_what_was_committed(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.create_table("t", V, (), "k INTEGER, n BIGINT")
    store.insert("t", pa.table({"k": [1], "n": [1]}), ["k", "n"])
    reader = store.subscribe("t", keep=True)
    start = reader.cursor.position
    store.insert("t", pa.table({"k": [2], "n": [2]}), ["k", "n"])
    log = store.relation("t").log
    log.prepare(99, changes((9, 9, 1)))  # killed before the commit
    killed(store)

    again = open_store(tmp_path)
    again.create_table("t", V, (), "k INTEGER, n BIGINT", keep=True)
    back = again.resume("t", reader.cursor.log_name, start)
    again.release_logs()
    again.insert("t", pa.table({"k": [3], "n": [3]}), ["k", "n"])
    read = [back.cursor.read(0), back.cursor.read(0), back.cursor.read(0)]
    assert [b["k"].to_pylist() for _, b in (r for r in read if r is not None)] == [[2], [3]]
    again.close()


def test_what_a_kept_reader_has_read_stays_until_it_says_so(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.create_table("t", V, (), "k INTEGER, n BIGINT")
    reader = store.subscribe("t", snapshot=False, keep=True)
    start = reader.cursor.position
    for k in range(3):
        store.insert("t", pa.table({"k": [k], "n": [k]}), ["k", "n"])
        assert reader.cursor.read(0) is not None
    assert reader.cursor.needed == start
    reader.cursor.kept_from = reader.cursor.position
    assert reader.cursor.needed == reader.cursor.position
    store.close()


def test_rows_in_memory_do_not_come_back(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.create_rows("v", V, append_only=False)
    store.renew("v", durable=True)
    store.apply("v", 1, changes((1, 10, 1)), ("k",))
    store.reset("v")
    store.renew("v", durable=False)  # begun again where an agent does not outlive the daemon
    store.apply("v", 1, changes((2, 20, 1)), ("k",))
    killed(store)
    again = open_store(tmp_path)
    again.drop_unknown_tables(["v"])
    again.create_rows("v", V, append_only=False, keep=True)
    assert again.resumes("v") is None
    assert rows(again, "SELECT * FROM v") == []
    again.close()
