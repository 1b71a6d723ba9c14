"""What fits at the cursor."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sql_frontend.completion import FUNCTIONS, KEYWORDS, completion_context, relations_in
from sql_frontend.duck import functions


@pytest.mark.parametrize(
    ("before", "after", "kinds", "of", "prefix"),
    [
        ("", "", "k", (), ""),
        ("sel", "", "k", (), "sel"),
        ("select ", " from bid b", "kc", ("bid",), ""),
        ("select au", " from bid, auction a", "kc", ("bid", "auction"), "au"),
        ("select b.", " from bid b", "c", ("bid",), ""),
        ("select b.pr", " from bid as b", "c", ("bid",), "pr"),
        ("select * from ", "", "r", (), ""),
        ("select * from bi", "", "r", (), "bi"),
        ("select * from bid w", "", "k", ("bid",), "w"),
        ("select * from bid where ", "", "kc", ("bid",), ""),
        ("select * from bid b join ", "", "r", (), ""),
        ("select * from bid b join auction a on ", "", "kc", ("bid", "auction"), ""),
        ("select * from bid, ", "", "r", ("bid",), ""),
        ("select a from bid group by ", "", "kc", ("bid",), ""),
        ("select * from tumble(", "", "r", (), ""),
        ("select * from tumble(bid, ", "", "rc", ("bid",), ""),
        ("insert into ", "", "r", (), ""),
        ("drop materialized view ", "", "r", (), ""),
        ("drop view if exists ", "", "r", (), ""),
        ("describe ", "", "r", (), ""),
        ("subscribe to ", "", "r", (), ""),
        ("explain ", "", "kr", (), ""),
        ("create materialized view x as select ", " from bid", "kc", ("bid",), ""),
        ("select 1; select * from ", "", "r", (), ""),
        ("show ", "", "k", (), ""),
        ("create ", "", "k", (), ""),
        ("alter ", "", "k", (), ""),
        ("alter materialized view ", "", "r", (), ""),
        ("alter job j", "", "r", (), "j"),
        ("alter sink s ", "", "k", (), ""),
        ("pause job ", "", "r", (), ""),
        ("select 'abc", "", "", (), ""),
        ("select 1 -- abc", "", "", (), ""),
        ('select "T".', ' from "T"', "c", ("T",), ""),
        ("select count(", " from bid", "kc", ("bid",), ""),
    ],
)
def test_context(before: str, after: str, kinds: str, of: tuple[str, ...], prefix: str) -> None:
    found = completion_context(before, after)
    got = {"k": found.keywords, "r": found.relations, "c": found.columns}
    assert {k for k, fits in got.items() if fits} == set(kinds)
    assert found.of == of
    assert found.prefix == prefix
    assert before[found.start :] == prefix


def test_likely_next_words() -> None:
    assert "MATERIALIZED VIEW" in completion_context("create ").after
    assert "JOBS" in completion_context("show j").after
    assert "MATERIALIZED VIEW" in completion_context("alter ").after
    assert completion_context("alter materialized view v ").after == ("PAUSE", "RESUME")
    assert completion_context("resume sink ").kinds == ("sink",)
    assert completion_context("").after[0] == "SELECT"


def test_only_what_a_statement_takes() -> None:
    assert completion_context("drop source ").kinds == ("source",)
    assert completion_context("drop materialized view if exists a, ").kinds == ("materialized view",)
    assert completion_context("insert into ").kinds == ("table",)
    assert completion_context("insert into t select * from ").kinds == ()
    assert "system table" not in completion_context("create sink s as select * from ").kinds


def test_lists_in_create() -> None:
    assert completion_context("create source s (").after == ("WATERMARK FOR",)
    assert completion_context("create table t (a decimal(1, 2), ").after == ("PRIMARY KEY",)
    for options in ("create source s (a int) with (", "create sink s from v with (connector = 'file', "):
        context = completion_context(options)
        assert (context.keywords, context.columns, context.after) == (False, False, ())
    assert completion_context("create materialized view v as select count(").columns


def test_relations_in_a_query() -> None:
    text = """SELECT a, b FROM bid b, HOP(auction, ts, INTERVAL '1 s', INTERVAL '2 s') h JOIN "P q" ON true
    WHERE x = 'from y' AND f(x, z) GROUP BY a, c"""
    assert relations_in(text) == ("bid", "auction", "P q")


def test_the_words_offered_exist() -> None:
    assert set(FUNCTIONS) - {"coalesce", "extract", "nullif", "position", "to_char", "to_date"} <= set(functions())
    assert sorted(KEYWORDS) == sorted(set(KEYWORDS))


def test_completion_imports_no_database() -> None:
    code = "import sys, sql_frontend.completion; sys.exit('duckdb' in sys.modules or 'sqlglot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
