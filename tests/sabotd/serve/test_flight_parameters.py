"""Rows of parameters become few statements, and only where that changes nothing."""

from __future__ import annotations

import pyarrow as pa
import pytest

from sabotd.serve.flight_parameters import insert_text, rows_of, statements


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t VALUES (?, ?)",
        "insert into t values(?,?);",
        '  INSERT INTO "my ""t" ("a b", c)\n VALUES ( ? , ? ) ; ',
        "INSERT INTO s.t (a, b) VALUES (?, ?)",
    ],
)
def test_many_rows_go_into_one_insert(sql: str) -> None:
    ((text, values),) = statements(sql, [(1, "a"), (2, "b"), (3, None)])
    assert text.endswith(" SELECT unnest(?), unnest(?)")
    assert sql.startswith(text.partition(" SELECT ")[0].rstrip())
    assert values == ([1, 2, 3], ["a", "b", None])


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t VALUES (?, 1)",
        "INSERT INTO t VALUES (?, upper(?))",
        "INSERT INTO t VALUES (?, ?), (?, ?)",
        "INSERT INTO t VALUES (?, ?) RETURNING a",
        "INSERT INTO t SELECT ?, ?",
        "INSERT INTO t VALUES ($1, $2)",
        "DELETE FROM t WHERE a = ? AND b = ?",
        "INSERT INTO t -- VALUES (?, ?)",
    ],
)
def test_other_statements_stay_as_they_are(sql: str) -> None:
    assert list(statements(sql, [(1, 2), (3, 4)])) == [(sql, (1, 2)), (sql, (3, 4))]


def test_one_row_stays_as_it_is() -> None:
    assert list(statements("INSERT INTO t VALUES (?)", [(1,)])) == [("INSERT INTO t VALUES (?)", (1,))]


def test_statements_have_a_limited_number_of_rows() -> None:
    made = list(statements("INSERT INTO t VALUES (?, ?)", [(i, -i) for i in range(50_000)]))
    assert [len(values[0]) for _, values in made] == [20_000, 20_000, 10_000]
    assert [v for _, values in made for v in values[0]] == list(range(50_000))


def test_row_of_another_width_is_left_to_the_engine() -> None:
    assert list(statements("INSERT INTO t VALUES (?, ?)", [(1, 2), (3,)])) == [("INSERT INTO t VALUES (?, ?)", (3,))]


def test_rows_of_a_batch() -> None:
    batch = pa.record_batch([pa.array([1, None]), pa.array(["x", "y"])], names=["a", "a"])
    assert rows_of(batch) == [(1, "x"), (None, "y")]


def test_insert_quotes_names() -> None:
    assert insert_text('a"b', ["x", "y z"]) == 'INSERT INTO "a""b" ("x", "y z") VALUES (?, ?)'
