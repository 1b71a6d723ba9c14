import pytest
from hypothesis import given
from hypothesis import strategies as st

from repl.script import Command, Statement, read_script
from sabot.errors import Span, SqlError


def read(text: str) -> list[Statement | Command]:
    return list(read_script(text.splitlines(keepends=True)))


def test_statements_come_when_their_semicolon_does():
    given_lines = iter(["select 1;\n", "select\n", " 2; select 3\n", "; \n"])
    items = read_script(given_lines)
    assert next(items).text == "select 1"
    assert next(given_lines) == "select\n"  # nothing is read ahead
    assert [item.text for item in items] == ["2", "select 3"]


def test_semicolons_in_strings_comments_and_dollar_quotes_end_nothing():
    text = "select ';' -- a;b\n, $$;$$ /* ; */ -- c;\n; select \"a;b\""
    assert [item.text for item in read(text)] == ["select ';' -- a;b\n, $$;$$", 'select "a;b"']


def test_commands_stand_between_statements():
    text = "\\x\nselect 1\n\\ 2;\n  \\dt  \nselect 3"
    assert read(text) == [
        Command("x"),
        Statement("select 1\n\\ 2", 1),
        Command("dt"),
        Statement("select 3", 4),
    ]


def test_an_error_is_placed_in_the_script():
    text = "select 1;\n\n select 2; select\n x"
    last = read(text)[-1]
    assert last == Statement("select\n x", 2, " select 2; ")
    error = last.placed(SqlError("no x", span=Span(8, 9), text="select\n x", hint="h", sqlstate="42703"))
    assert (error.hint, error.sqlstate) == ("h", "42703")
    assert error.text is not None
    assert error.span is not None
    assert error.text[error.span.start : error.span.end] == "x"
    assert error.text.count("\n", 0, error.span.start) == text.count("\n", 0, text.index("x"))
    elsewhere = SqlError("in a view", span=Span(0, 1), text="other text")
    assert last.placed(elsewhere) is elsewhere


def test_an_open_string_is_told_at_the_end_with_its_line():
    with pytest.raises(SqlError, match="unterminated string") as info:
        read("select 1;\nselect 'abc")
    error = info.value
    assert error.text is not None
    assert error.span is not None
    assert error.text.count("\n", 0, error.span.start) == 1


@given(st.lists(st.sampled_from(["select 1", "select ';'", "a\nb", "-- c;\nx", "/* ; */ y"])), st.booleans())
def test_any_script_gives_its_statements_in_order(statements, closed):
    text = ";\n".join(statements) + (";" if closed and statements else "")
    texts = [item.text for item in read(text)]
    assert texts == [s.removeprefix("-- c;\n").removeprefix("/* ; */ ") for s in statements]
