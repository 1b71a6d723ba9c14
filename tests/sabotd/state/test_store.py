"""The store: tables that last, views that follow weighted changes, snapshots that join their log without a gap."""

from __future__ import annotations

import queue
import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from sabot.errors import InternalError, SqlError
from sabot.schema import Field
from sabotd.state.store import Store

T = (Field("a", "INTEGER"), Field("b", "VARCHAR"))
V = (Field("k", "INTEGER"), Field("n", "BIGINT"))


def open_store(folder: Path) -> Store:
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    return Store(folder, scratch, memory_limit_mb=512, threads=1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_store(tmp_path)
    yield opened
    opened.close()


def rows(store: Store, sql: str) -> list[tuple[object, ...]]:
    with store.reader() as con:
        return con.execute(sql).fetchall()


def delta(*changes: tuple[int | None, int, int]) -> list[pa.RecordBatch]:
    keys, values, weights = zip(*changes, strict=True)
    return [
        pa.record_batch(
            {
                "k": pa.array(keys, pa.int32()),
                "n": pa.array(values, pa.int64()),
                "__weight": pa.array(weights, pa.int32()),
            }
        )
    ]


def test_a_table_lasts(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.create_table("t", T, (), "a INTEGER, b VARCHAR DEFAULT 'none'")
    assert store.insert("t", pa.table({"a": [1, 1]}), ["a"]).count == 2
    store.close()
    again = open_store(tmp_path)
    again.create_table("t", T, (), "a INTEGER, b VARCHAR DEFAULT 'none'", keep=True)
    assert rows(again, "SELECT * FROM t") == [(1, "none"), (1, "none")]
    again.close()


def test_insert_overwrites_by_primary_key_and_logs_what_it_replaced(store: Store) -> None:
    store.create_table("t", T, ("a",), "a INTEGER PRIMARY KEY, b VARCHAR")
    store.insert("t", pa.table({"a": [1, 2], "b": ["x", "y"]}), ["a", "b"])
    changes = store.subscribe("t")
    assert Counter(r["b"] for b in changes.snapshot() for r in b.to_pylist()) == Counter("xy")
    store.insert("t", pa.table({"a": [1, 1, 3], "b": ["p", "q", "z"]}), ["a", "b"])
    assert sorted(rows(store, "SELECT * FROM t")) == [(1, "q"), (2, "y"), (3, "z")]
    logged = Counter()
    while (entry := changes.cursor.read(0)) is not None:
        for r in entry[1].to_pylist():
            logged[r["a"], r["b"]] += r["__weight"]
    assert logged == Counter({(1, "x"): -1, (1, "q"): 1, (3, "z"): 1})
    changes.close()


@pytest.mark.parametrize("primary_key", [(), ("a",)])
def test_an_insert_of_more_than_a_row_group_is_all_there(tmp_path: Path, primary_key: tuple[str, ...]) -> None:
    """With threads DuckDB writes big inserts by row groups, another way than small ones."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    store = Store(tmp_path, scratch, memory_limit_mb=512, threads=2)
    count = 250_000
    store.create_table("t", T, primary_key, "a INTEGER, b VARCHAR")
    given = pa.table({"a": pa.array(range(count), pa.int64()), "b": pa.nulls(count, pa.string())})
    changes = store.subscribe("t", snapshot=False)
    for _ in range(2):
        assert store.insert("t", given, ["a", "b"]).count == count
    total = count if primary_key else 2 * count
    assert rows(store, "SELECT count(a), count(DISTINCT a), max(a) FROM t") == [(total, count, count - 1)]
    logged = 0
    while (entry := changes.cursor.read(0)) is not None:
        logged += pc.sum(entry[1].column("__weight")).as_py()
    assert logged == total
    changes.close()
    store.close()


def test_a_failed_insert_changes_nothing(store: Store) -> None:
    store.create_table("t", T, (), "a INTEGER NOT NULL, b VARCHAR")
    with pytest.raises(duckdb.Error):
        store.insert("t", pa.table({"a": [1, None], "b": ["x", "y"]}), ["a", "b"])
    assert rows(store, "SELECT * FROM t") == []
    assert store.insert("t", pa.table({"a": [1], "b": ["x"]}), ["a", "b"]).count == 1


def test_rows_that_cannot_be_logged_are_not_inserted(store: Store, tmp_path: Path) -> None:
    """Else the views over a table would differ from it for ever."""
    store.create_table("t", T, (), "a INTEGER, b VARCHAR")
    changes = store.subscribe("t")
    in_the_way = tmp_path / "logs"
    in_the_way.touch()
    with pytest.raises(SqlError, match="table 't': the rows cannot be written: "):
        store.insert("t", pa.table({"a": [1]}), ["a"])
    assert rows(store, "SELECT * FROM t") == []
    in_the_way.unlink()
    store.insert("t", pa.table({"a": [2]}), ["a"])
    assert rows(store, "SELECT a FROM t") == [(2,)]
    entry = changes.cursor.read(0)
    assert entry is not None
    assert entry[1].column("a").to_pylist() == [2]
    assert changes.cursor.read(0) is None
    changes.close()


@pytest.mark.parametrize("key", [("k",), ()])
def test_a_view_follows_weighted_changes(store: Store, key: tuple[str, ...]) -> None:
    store.create_rows("v", V, append_only=False)
    rng = random.Random(5)
    truth: Counter[tuple[int | None, int]] = Counter()
    for epoch in range(1, 40):
        changes: list[tuple[int | None, int, int]] = []
        for _ in range(rng.randrange(1, 12)):
            k = rng.choice([None, 1, 2, 3, 4, 5])
            if key:  # at most one row a key
                for (old, n), count in list(truth.items()):
                    if old == k and count:
                        changes.append((old, n, -1))
                        truth[old, n] -= 1
                weight = 1
            else:
                weight = rng.randrange(1, 4)
                gone = rng.choice([x for x, c in truth.items() if c] or [None])
                if gone is not None:
                    changes.append((*gone, -1))
                    truth[gone] -= 1
            n = rng.randrange(3)
            changes.append((k, n, weight))
            truth[k, n] += weight
        store.apply("v", epoch, delta(*changes), key)
        assert Counter(rows(store, "SELECT * FROM v")) == +truth


def test_taking_away_what_is_not_there_is_an_error_and_changes_nothing(store: Store) -> None:
    store.create_rows("v", V, append_only=False)
    store.apply("v", 1, delta((1, 1, 1)), ("k",))
    with pytest.raises(InternalError, match="'v'"):
        store.apply("v", 2, delta((2, 1, -1), (3, 3, 1)), ("k",))
    assert rows(store, "SELECT * FROM v") == [(1, 1)]


def test_a_rebuilt_view_has_the_same_rows(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sabotd.state.store._REBUILD_DEAD_ROWS", 10)
    store.create_rows("v", V, append_only=False)
    for epoch in range(1, 50):
        old = [(1, epoch - 1, -1)] if epoch > 1 else []
        store.apply("v", epoch, delta(*old, (1, epoch, 1)), ("k",))
    assert rows(store, "SELECT * FROM v") == [(1, 49)]
    assert store.relation("v").dead_rows <= 11


def test_snapshot_and_log_join_without_a_gap(store: Store) -> None:
    store.create_rows("v", V, append_only=False)
    store.apply("v", 1, delta((1, 10, 1), (2, 20, 1)), ("k",))
    subscription = store.subscribe("v")
    store.apply("v", 2, delta((1, 10, -1), (1, 11, 1)), ("k",))
    seen: Counter[tuple[int, int]] = Counter()
    for batch in subscription.snapshot():
        seen.update({(r["k"], r["n"]): r["__weight"] for r in batch.to_pylist()})
    assert seen == Counter({(1, 10): 1, (2, 20): 1}), "the snapshot is of the epoch it was opened at"
    entry = subscription.cursor.read(0)
    assert entry is not None
    assert entry[0] == 2
    assert [(r["k"], r["n"], r["__weight"]) for r in entry[1].to_pylist()] == [(1, 10, -1), (1, 11, 1)]
    subscription.close()
    assert not store.relation("v").log.has_readers


def test_a_dropped_relation_fails_its_readers(store: Store) -> None:
    store.create_rows("v", V, append_only=False)
    subscription = store.subscribe("v", snapshot=False)
    store.drop("v")
    with pytest.raises(SqlError, match="dropped"):
        subscription.cursor.read(0)
    subscription.close()


def test_a_table_made_anew_has_nothing_of_one_that_a_killed_daemon_left(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.create_table("t", T, (), "a INTEGER, b VARCHAR")
    store.create_table("kept", T, (), "a INTEGER, b VARCHAR")
    for name in ("t", "kept"):
        store.insert(name, pa.table({"a": [1], "b": ["x"]}), ["a", "b"])
    store.close()
    again = open_store(tmp_path)
    again.drop_unknown_tables(["kept"])
    of_users = "SELECT table_name FROM duckdb_tables() WHERE database_name = 'durable' AND schema_name = 'main'"
    assert rows(again, of_users) == [("kept",)]
    again.create_table("kept", T, (), "a INTEGER, b VARCHAR, c INTEGER")
    assert rows(again, "SELECT * FROM kept") == []
    again.close()


def test_readers_that_come_while_rows_are_written_see_each_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sabotd.state.store._REBUILD_DEAD_ROWS", 50)
    monkeypatch.setattr("sabotd.state.stream_log.SEGMENT_BYTES", 4096)
    epochs = 150
    for name in ("v", "w"):  # two views that are rewritten at the same time
        store.create_rows(name, V, append_only=False)

    def write(name: str) -> None:
        for epoch in range(1, epochs + 1):
            old = [(k, epoch - 1, -1) for k in range(5)] if epoch > 1 else []
            if epoch % 20 == 0:
                started.put(pool.submit(read, name))
            store.apply(name, epoch, delta(*old, *((k, epoch, 1) for k in range(5))), ("k",))

    def read(name: str) -> Counter[tuple[int, int]]:
        subscription = store.subscribe(name)
        seen: Counter[tuple[int, int]] = Counter()

        def take(batch: pa.RecordBatch) -> None:
            for r in batch.to_pylist():
                seen[r["k"], r["n"]] += r["__weight"]

        for batch in subscription.snapshot():
            take(batch)
        while seen[0, epochs] == 0:
            if (entry := subscription.cursor.read(5.0)) is not None:
                take(entry[1])
        while (entry := subscription.cursor.read(0)) is not None:
            take(entry[1])
        subscription.close()
        return seen

    started: queue.SimpleQueue[Future[Counter[tuple[int, int]]]] = queue.SimpleQueue()
    with ThreadPoolExecutor(20) as pool:
        for writer in [pool.submit(write, name) for name in ("v", "w")]:
            writer.result()
        readers = [started.get().result() for _ in range(2 * (epochs // 20))]
    for seen in readers:
        assert +seen == Counter({(k, epochs): 1 for k in range(5)})
        assert not -seen


def test_the_errors_are_bounded(store: Store) -> None:
    for i in range(40):
        store.add_errors(pa.table({"job": ["j"] * 10, "offset": [str(i)] * 10}), most=100)
    ((count, last),) = rows(store, 'SELECT count(*), max("offset"::INT) FROM sabot_errors')
    assert 50 <= count <= 100
    assert last == 39


def test_who_waits_for_a_relation_that_is_dropped_is_told_so(store: Store) -> None:
    store.create_table("t", T, (), "a INTEGER, b VARCHAR")
    old = store.relation("t")
    with ThreadPoolExecutor(2) as pool, old.lock:
        inserting = pool.submit(store.insert, "t", pa.table({"a": [1]}), ["a"])
        subscribing = pool.submit(store.subscribe, "t")
        with store._lock:
            del store._relations["t"]
    for waiting in (inserting, subscribing):
        with pytest.raises(SqlError) as caught:
            waiting.result(30)
        assert caught.value.sqlstate == "42P01"
    store._relations["t"] = old


def test_what_is_forgotten_is_forgiven_and_the_log_tells_what_happened(store: Store) -> None:
    store.create_rows("v", V, append_only=False)
    cursor = store.subscribe("v", snapshot=False).cursor
    store.apply("v", 1, delta((1, 10, 1), (2, 20, 1)), ("k",), forgiving=True)
    # a group that was forgotten begins anew; a row that is not there is taken away; one that is there, by another value
    store.apply("v", 2, delta((1, 1, 1), (3, 5, -1), (2, 7, -1)), ("k",), forgiving=True)
    assert rows(store, "SELECT k, n FROM v ORDER BY k") == [(1, 1)]
    changes = []
    for _ in range(2):
        entry = cursor.read(1.0)
        assert entry is not None
        changes.append(sorted(tuple(row.values()) for row in entry[1].to_pylist()))
    assert changes == [[(1, 10, 1), (2, 20, 1)], [(1, 1, 1), (1, 10, -1), (2, 20, -1)]]


def test_without_a_key_only_equal_rows_that_stand_are_taken_away(store: Store) -> None:
    store.create_rows("v", V, append_only=False)
    store.apply("v", 1, delta((1, 10, 2), (None, 5, 1)), (), forgiving=True)
    store.apply("v", 2, delta((1, 10, -3), (None, 5, -1), (4, 4, -1), (4, 5, 2)), (), forgiving=True)
    assert rows(store, "SELECT k, n FROM v") == [(4, 5), (4, 5)]
