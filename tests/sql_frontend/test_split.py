"""A script falls into statements at the right semicolons, and lexemes stand where they say."""

import pytest

from sabot.errors import SqlError
from sql_frontend.split import LexemeKind, find_unterminated, is_complete, lexemes, split_statements


def test_semicolons_inside_literals_and_comments_do_not_split() -> None:
    script = "select ';' -- a;b\n; select \"x;y\", `p;q` /* ; /* ; */ */; select $$;$$, $t$ ; $$ $t$, E'\\';'"
    pieces = split_statements(script)
    assert [p.text for p in pieces] == [
        "select ';'",
        'select "x;y", `p;q`',
        "select $$;$$, $t$ ; $$ $t$, E'\\';'",
    ]
    assert [p.terminated for p in pieces] == [True, True, False]
    assert all(script[p.span.start : p.span.end] == p.text for p in pieces)


def test_commands_do_not_swallow_what_follows_them() -> None:
    script = "SHOW jobs; EXPLAIN SELECT ';'; DESCRIBE t; FETCH x"
    assert [p.text for p in split_statements(script)] == ["SHOW jobs", "EXPLAIN SELECT ';'", "DESCRIBE t", "FETCH x"]


@pytest.mark.parametrize("script", ["", " ; ;; ", "-- only a comment\n", "/* ; */ ;"])
def test_empty_statements_are_left_out(script: str) -> None:
    assert split_statements(script) == []


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("select 1;", True),
        ("select 1; -- done", True),
        ("select 1; /* more */  ", True),
        ("select 1", False),
        ("", False),
        ("select ';", False),
        ("select 1; /* ;", False),
        ("select $$ ;", False),
        ("select $a$ ; $$;", False),
        ('select "a;', False),
        ("select `a;", False),
        ("select 'it''s;'", False),
        ("select 'it''s';", True),
        ("select e'\\';", False),
        ("select a$1;", True),
        ("select '日本;語';", True),
    ],
)
def test_is_complete(text: str, complete: bool) -> None:
    assert is_complete(text) is complete


@pytest.mark.parametrize(
    ("text", "what"),
    [("select 1, 'abc", "string"), ('select 1, "abc', "quoted name"), ("select 1, /* abc", "comment"),
     ("select 1, $$abc", "dollar-quoted string"), ("select 1, e'abc\\'", "string")],
)  # fmt: skip
def test_what_has_no_end_is_an_error_where_it_begins(text: str, what: str) -> None:
    assert find_unterminated(text) == 10
    with pytest.raises(SqlError, match=f"unterminated {what}") as caught:
        split_statements(text)
    assert caught.value.span is not None
    assert caught.value.span.start == 10


def test_lexemes_have_values_and_places() -> None:
    text = "create table \"A b\" (x int primary  key, `c` text) with (a.b-c = 'it''s', n = -1.5)"
    found = lexemes(text)
    values = [(lexeme.kind, lexeme.value) for lexeme in found]
    assert (LexemeKind.QUOTED, "A b") in values
    assert (LexemeKind.QUOTED, "c") in values
    assert (LexemeKind.STRING, "it's") in values
    assert (LexemeKind.NUMBER, "1.5") in values
    assert values.count((LexemeKind.WORD, "key")) == 1
    for lexeme in found:
        if lexeme.kind is LexemeKind.WORD:
            assert text[lexeme.start : lexeme.end] == lexeme.value


def test_positions_count_characters_not_bytes() -> None:
    text = "select '日本', é_1 from t"
    assert [text[x.start : x.end] for x in lexemes(text)] == ["select", "'日本'", ",", "é_1", "from", "t"]
