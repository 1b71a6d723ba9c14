"""INSERT with many rows: the short way gives the statement that the long way gives."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sabot.errors import SqlError
from sql_frontend import bulk_values
from sql_frontend.parse import parse_statement
from sql_frontend.statements import Insert

ROWS = ", ".join(f"({i}, 'it''s {i}; --', -{i}.5e-3, NULL, true)" for i in range(1000))
LONG = "/* " + "x" * 5000 + " */"


def slowly(text: str) -> Insert:
    """Read `text` the long way: with a comment in it, the short one does not know it."""
    statement = parse_statement(text)
    assert isinstance(statement, Insert)
    return statement


@pytest.mark.parametrize(
    "head",
    [
        "INSERT INTO t VALUES ",
        '  insert into t\n(a, "B c") values',
        'INSERT INTO "T" VALUES',
        "INSERT INTO public.t VALUES ",
    ],
)
@pytest.mark.parametrize("tail", ["", ";", "  ; \n"])
def test_both_ways_read_the_same(head: str, tail: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = head + ROWS + tail
    quick = bulk_values.read(text, parse_statement)
    assert quick is not None
    monkeypatch.setattr(bulk_values, "_LEAST_CHARS", len(text) + 1)
    assert quick == replace(slowly(text), constant=True)


@pytest.mark.parametrize(
    "text",
    [
        f"INSERT INTO t VALUES {ROWS}, (1 / 2, '', 0, NULL, true)",
        f"INSERT INTO t VALUES {ROWS}, ('1'::int, '', 0, NULL, true)",
        f"INSERT INTO t VALUES {ROWS}, (E'\\n', '', 0, NULL, true)",
        f"INSERT INTO t VALUES {ROWS} RETURNING *",
        f"INSERT INTO t VALUES {ROWS} ON CONFLICT DO NOTHING",
        f"INSERT INTO t VALUES {ROWS}; SELECT 1",
        f"INSERT INTO t SELECT * FROM (VALUES {ROWS}) v",
        f"INSERT INTO t VALUES {LONG} (1), (2)",
        f"SELECT {LONG} 1",
        f"INSERT INTO t VALUES {ROWS}, (1, 'not ended",
    ],
)
def test_what_is_more_than_constants_goes_the_long_way(text: str) -> None:
    assert bulk_values.read(text, parse_statement) is None


def test_an_error_is_told_of_the_whole_statement() -> None:
    text = f"INSERT INTO t.u.v.w VALUES {ROWS}"
    with pytest.raises(SqlError) as caught:
        parse_statement(text)
    assert caught.value.text == text
