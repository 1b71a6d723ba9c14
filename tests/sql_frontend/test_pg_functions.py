"""PostgreSQL's functions: the macros that SELECT finds, and views' expressions, say what PostgreSQL says."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest

from sql_frontend.pg_functions import TEMPLATES, macros


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        for statement in macros():
            opened.execute(statement)
        yield opened


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("array_join([1, NULL, 3], ',')", "1,3"),
        ("array_join([1, NULL, 3], ',', '*')", "1,*,3"),
        ("array_join([]::INT[], ',')", ""),
        ("array_join([1, 2], NULL)", None),
        ("array_min([3, 1, NULL])", 1),
        ("array_overlaps(['a', 'b'], ['b'])", True),
        ("string_to_array('a b c', ' ', 'a')", [None, "b", "c"]),
        ("string_to_array('abc', NULL)", ["a", "b", "c"]),
        ("string_to_array('a b', '')", ["a b"]),
        ("string_to_array('', ',')", []),
        ("format('%s-%s %%', 'a', NULL)", "a- %"),
        ("format(NULL, 'a')", None),
        ("booleq('true', false)", False),
        ("substr('abcdef', -1, 4)", "ab"),
        ("substring('abcdef', 3)", "cdef"),
        ("substr('abcdef', 2, 3)", "bcd"),
        ("substr('abcdef', NULL, 3)", None),
        ("substr('abcdef', -2147483645, 2147483647)", "a"),
    ],
)
def test_a_call_gives(con: duckdb.DuckDBPyConnection, call: str, expected: object) -> None:
    assert con.execute(f"SELECT {call}").fetchall() == [(expected,)]


def test_a_negative_length_is_refused(con: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(duckdb.Error, match="negative substring length"):
        con.execute("SELECT substr('abc', 1, -1)").fetchall()


def test_arguments_are_named_in_order() -> None:
    for (_, count), body in TEMPLATES.items():
        assert all(f"p{i + 1}" in body for i in range(count))
        assert f"p{count + 1}" not in body
