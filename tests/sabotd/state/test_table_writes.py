"""UPDATE, DELETE and INSERT of every kind: a table's log always adds up to its rows, and these are DuckDB's."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from sabot.errors import SqlError
from sabot.schema import Field, Schema
from sabotd.state.store import Store
from sabotd.state.table_writes import OnConflict

T: Schema = (Field("a", "INTEGER"), Field("b", "VARCHAR"), Field("c", "INTEGER"))
Rows = Counter[tuple[object, ...]]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    opened = Store(tmp_path, scratch, memory_limit_mb=512, threads=1)
    yield opened
    opened.close()


def rows(store: Store) -> Rows:
    with store.reader() as con:
        return Counter(con.execute("SELECT * FROM t").fetchall())


def table(*given: tuple[int | None, str | None, int | None]) -> pa.Table:
    columns = list(zip(*given, strict=True))
    types = (pa.int64(), pa.string(), pa.int64())
    return pa.table({n: pa.array(c, k) for n, c, k in zip("abc", columns, types, strict=True)})


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_any_history_equals_duckdbs(store: Store, seed: int, keyed: bool) -> None:
    rng = random.Random(seed)
    store.create_table("t", T, ("a",) if keyed else (), "a INTEGER, b VARCHAR, c INTEGER DEFAULT 7")
    mirror = duckdb.connect()
    mirror.execute("CREATE TABLE t (a INTEGER, b VARCHAR, c INTEGER DEFAULT 7)")
    changes = store.subscribe("t", snapshot=False)
    logged: Rows = Counter()
    for _ in range(40):
        low = rng.randrange(12)
        condition = rng.choice([f"a = {low}", f"c > {low}", "b IS NULL", f"a IN (SELECT c FROM t WHERE a > {low})"])
        match rng.randrange(4):
            case 0 | 1:
                keys = rng.sample(range(12), 3) if keyed else [rng.choice([None, 1, 2, 3]) for _ in range(3)]
                given = [(k, rng.choice([None, "x", "y"]), rng.choice([None, 1, 5, 9])) for k in keys]
                store.insert("t", table(*given), ["a", "b", "c"])
                if keyed:
                    mirror.execute(f"DELETE FROM t WHERE a IN ({', '.join(map(str, keys))})")
                mirror.executemany("INSERT INTO t VALUES (?, ?, ?)", given)
            case 2:
                value = rng.choice(["c + a", "coalesce(c, 0) + 1", "(SELECT max(c) FROM t)"])
                count = store.update("t", [("c", value), ("b", "c::VARCHAR")], alias="t", condition=condition).count
                (expected,) = (
                    mirror.execute(f"UPDATE t SET c = {value}, b = c::VARCHAR WHERE {condition}").fetchone() or ()
                )
                assert count == expected
            case _:
                count = store.delete("t", alias="t", condition=condition).count
                (expected,) = mirror.execute(f"DELETE FROM t WHERE {condition}").fetchone() or ()
                assert count == expected
        while (entry := changes.cursor.read(0)) is not None:
            for *row, weight in zip(*(c.to_pylist() for c in entry[1].columns), strict=True):
                logged[tuple(row)] += weight
        now = rows(store)
        assert now == Counter(mirror.execute("SELECT * FROM t").fetchall())
        assert now == Counter({row: n for row, n in logged.items() if n})
    changes.close()


def test_returning_gives_the_rows_after_a_change_and_before_a_removal(store: Store) -> None:
    store.create_table("t", T, (), "a INTEGER, b VARCHAR, c INTEGER DEFAULT 7")
    inserted = store.insert("t", table((1, "x", 1)).select(["a", "b"]), ["a", "b"], returning="*, a + c AS total")
    assert inserted.returned is not None
    assert inserted.returned.to_pylist() == [{"a": 1, "b": "x", "c": 7, "total": 8}]
    updated = store.update("t", [("a", "u.a + 1"), ("c", None)], alias="u", condition="u.b = 'x'", returning="a, c")
    assert updated.returned is not None
    assert updated.returned.to_pylist() == [{"a": 2, "c": 7}]
    deleted = store.delete("t", alias="t", condition=None, returning="t.a")
    assert (deleted.count, deleted.returned and deleted.returned.to_pylist()) == (1, [{"a": 2}])
    assert not rows(store)


def test_conflicts_do_what_the_table_says(store: Store) -> None:
    def filled(on_conflict: str) -> Rows:
        store.create_table("t", T, ("a",), "a INTEGER PRIMARY KEY, b VARCHAR, c INTEGER", on_conflict=on_conflict)
        store.insert("t", table((1, "x", 1), (2, "y", 2)), ["a", "b", "c"])
        store.insert("t", table((1, "z", None), (1, None, 5), (3, "n", 3)), ["a", "b", "c"])
        return rows(store)

    assert filled("overwrite") == Counter([(1, None, 5), (2, "y", 2), (3, "n", 3)])
    store.drop("t")
    assert filled("ignore") == Counter([(1, "x", 1), (2, "y", 2), (3, "n", 3)])
    store.drop("t")
    assert filled("update_if_not_null") == Counter([(1, "z", 5), (2, "y", 2), (3, "n", 3)])
    assert store.insert("t", table((1, "q", 9), (4, "q", 9)), ["a", "b", "c"], on_conflict="ignore").count == 1


def test_a_conflict_changes_the_row_that_is_there(store: Store) -> None:
    store.create_table("t", T, ("a",), "a INTEGER PRIMARY KEY, b VARCHAR, c INTEGER")
    store.insert("t", table((1, "x", 1), (2, "y", 20)), ["a", "b", "c"])
    changes = store.subscribe("t", snapshot=False)
    more = OnConflict((("c", "t.c + excluded.c"), ("b", "excluded.b")), "t.c < 10")
    written = store.insert(
        "t", table((1, "z", 5), (2, "q", 5), (3, "n", 3)), ["a", "b", "c"], conflict=more, returning="a, c"
    )
    assert rows(store) == Counter([(1, "z", 6), (2, "y", 20), (3, "n", 3)])
    assert written.count == 2
    assert written.returned is not None
    assert sorted(written.returned.to_pylist(), key=str) == [{"a": 1, "c": 6}, {"a": 3, "c": 3}]
    entry = changes.cursor.read(0)
    assert entry is not None
    logged = list(zip(*(c.to_pylist() for c in entry[1].columns), strict=True))
    assert (1, "x", 1, -1) in logged
    before = rows(store)
    with pytest.raises(SqlError, match="a second time"):
        store.insert("t", table((1, "z", 5), (1, "q", 5)), ["a", "b", "c"], conflict=more)
    assert rows(store) == before
    changes.close()


@pytest.mark.parametrize("seed", range(3))
def test_update_and_delete_by_another_relation_are_duckdbs(store: Store, seed: int) -> None:
    rng = random.Random(seed)
    mirror = duckdb.connect()
    for name in ("t", "u"):
        store.create_table(name, T, (), "a INTEGER, b VARCHAR, c INTEGER")
        given = [(rng.choice([None, *range(5)]), rng.choice("xyz"), rng.randrange(9)) for _ in range(20)]
        store.insert(name, table(*given), ["a", "b", "c"])
        mirror.execute(f"CREATE TABLE {name} (a INTEGER, b VARCHAR, c INTEGER)")
        mirror.executemany(f"INSERT INTO {name} VALUES (?, ?, ?)", given)
    # one row for each row changed, so that the answer is determined
    source, condition = "(SELECT a, max(c) AS m FROM u GROUP BY a) AS s", "o.a = s.a AND s.m > 3"
    changed = store.update("t", [("c", "o.c + s.m")], alias="o", source=source, condition=condition)
    (count,) = mirror.execute(f"UPDATE t AS o SET c = o.c + s.m FROM {source} WHERE {condition}").fetchone() or ()
    assert changed.count == count
    assert rows(store) == Counter(mirror.execute("FROM t").fetchall())
    # several rows for one row
    gone = store.delete("t", alias="t", source="u", condition="t.a = u.a AND u.b = 'x'", returning="t.a")
    (count,) = mirror.execute("DELETE FROM t USING u WHERE t.a = u.a AND u.b = 'x'").fetchone() or ()
    assert gone.count == count == len(gone.returned or ())
    assert rows(store) == Counter(mirror.execute("FROM t").fetchall())
    assert store.update("t", [("b", "u.b")], alias="t", source="u", condition="true").count == sum(rows(store).values())


def test_a_failed_update_changes_nothing(store: Store) -> None:
    store.create_table("t", T, (), "a INTEGER NOT NULL, b VARCHAR, c INTEGER")
    store.insert("t", table((1, "x", 1), (2, "y", 2)), ["a", "b", "c"])
    before = rows(store)
    with pytest.raises(duckdb.Error):
        store.update("t", [("a", "NULLIF(a, 2)")], alias="t", condition=None)
    assert rows(store) == before
    assert store.update("t", [("a", "a + 1")], alias="t", condition=None).count == 2


def test_values_are_assigned_as_postgresql_does(store: Store) -> None:
    schema: Schema = (
        Field("l", "INTEGER[]"),
        Field("d", "BLOB"),
        Field("s", "STRUCT(x INTEGER, y STRUCT(z VARCHAR))"),
        Field("r", "STRUCT(x INTEGER)[]"),
    )
    store.create_table("t", schema, (), ", ".join(f"{f.name} {f.type}" for f in schema))
    with store.reader() as con:
        given = con.sql(
            r"SELECT '{1,NULL,3}' AS l, '\xde01' AS d, {'p': 1, 'q': {'r': 'in'}} AS s, [{'p': 5}, NULL] AS r "
            "UNION ALL SELECT NULL, 'text', NULL, NULL"
        ).to_arrow_table()
    store.insert("t", given, ["l", "d", "s", "r"])
    with store.reader() as con:
        assert con.execute("SELECT * FROM t").fetchall() == [
            ([1, None, 3], b"\xde\x01", {"x": 1, "y": {"z": "in"}}, [{"x": 5}, None]),
            (None, b"text", None, None),
        ]
