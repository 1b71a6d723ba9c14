"""An error is shown with its line, its place marked by carets, and the hint."""

from __future__ import annotations

import unicodedata

from sabot.errors import ConfigError, Span, SqlError
from sql_frontend.render import line_and_column, render_error


def shown(text: str, place: str, hint: str | None = None) -> list[str]:
    start = text.index(place)
    return render_error(SqlError("bad", span=Span(start, start + len(place)), text=text, hint=hint)).split("\n")


def columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def test_an_error_on_one_line() -> None:
    assert shown("SELECT foo FROM t", "foo", "did you mean 'fee'?") == [
        "error: bad",
        "line 1, column 8",
        "  SELECT foo FROM t",
        "         ^^^",
        "hint: did you mean 'fee'?",
    ]


def test_only_the_first_line_of_a_place_is_shown() -> None:
    assert shown("SELECT a,\n  sum(b\n  )\nFROM t", "sum(b\n  )") == [
        "error: bad",
        "line 2, column 3",
        "    sum(b",
        "    ^^^^^",
    ]


def test_tabs_and_wide_characters_keep_the_carets_in_place() -> None:
    lines = shown("SELECT\t'日本語',\tfoo", "foo")
    assert lines[1] == "line 1, column 15"
    before = lines[2][: lines[2].index("foo")]
    assert lines[3] == " " * columns(before) + "^^^"
    assert "\t" not in lines[2]
    wide = shown("SELECT 日本 FROM t", "日本")
    assert wide[3] == "         ^^^^"


def test_combining_marks_have_no_width() -> None:
    lines = shown("SELECT 'e\u0301', foo", "foo")
    assert lines[3].index("^") == len("  SELECT 'e', ")


def test_a_long_line_is_cut_around_the_place() -> None:
    text = "SELECT " + ", ".join(f"column_{i}" for i in range(100)) + " FROM t"
    for place in ("column_0,", "column_50", "column_99"):
        lines = shown(text, place)
        assert len(lines[2]) <= 110
        start = lines[3].index("^")
        assert lines[2][start : start + len(place)] == place
        assert "..." in lines[2]
    whole = render_error(SqlError("bad", span=Span(0, len(text)), text=text)).split("\n")
    assert len(whole[2]) <= 110


def test_a_place_at_the_end() -> None:
    text = "SELECT 1 FROM\n"
    lines = render_error(SqlError("ends", span=Span(len(text), len(text)), text=text)).split("\n")
    assert lines[1:] == ["line 1, column 14", "  SELECT 1 FROM", "               ^"]


def test_errors_without_a_place() -> None:
    assert render_error(SqlError("bad")) == "error: bad"
    assert render_error(ConfigError("no such key", hint="see conf")) == "error: no such key\nhint: see conf"


def test_a_span_outside_the_text_does_not_break_it() -> None:
    assert "line 1" in render_error(SqlError("bad", span=Span(90, 99), text="abc"))
    assert "line 1" in render_error(SqlError("bad", span=Span(0, 0), text=""))


def test_line_and_column() -> None:
    assert line_and_column("ab\ncd", 4) == (2, 2)
    assert line_and_column("ab", 0) == (1, 1)
