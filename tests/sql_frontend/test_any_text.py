"""Whatever the text: a statement and a plan, or an error with a place in the text."""

from __future__ import annotations

import random

import pytest

from bench import nexmark_queries
from sabot.errors import SqlError
from sql_frontend.binder import bind_source
from sql_frontend.completion import completion_context
from sql_frontend.parse import parse_statement
from sql_frontend.render import render_error
from sql_frontend.split import is_complete, tokenize
from sql_frontend.statements import CreateSource, CreateView
from tests.support import meaning_queries
from tests.support.memory_catalog import MemoryCatalog

DDL = """
CREATE TABLE t (a INT, b BIGINT, s VARCHAR, d DOUBLE PRECISION, n NUMERIC(10,2), ts TIMESTAMP, j JSONB,
  st STRUCT<x INT, y VARCHAR>, arr INT[], flag BOOLEAN);
CREATE TABLE u (id INT, a INT, s VARCHAR, v BIGINT, ts TIMESTAMP);
CREATE VIEW odd (k, val) AS SELECT a, b FROM t WHERE a % 2 = 1;
"""
STATEMENTS = [
    nexmark_queries.GENERATOR_SOURCE,
    "CREATE TABLE t (a INT PRIMARY KEY, b VARCHAR DEFAULT 'x', c STRUCT<a INT, b NUMERIC(3,2)>[])",
    "CREATE SINK s FROM t WITH (connector = 'x', a.b = 1) FORMAT PLAIN ENCODE JSON",
    "DROP VIEW IF EXISTS a, b CASCADE",
    "SET a.b = 'x'",
    "EXPLAIN SELECT 1",
    "SUBSCRIBE TO a WITH (snapshot = false)",
    "INSERT INTO t (a) VALUES (1)",
    *("CREATE MATERIALIZED VIEW v AS " + q for q in meaning_queries.SAME.strip().split("\n\n")),
]
ODD = ["'", '"', "$$", "/*", "--", "\t", "日本", "\x00", "(", ")", ";", "`", "\\", "::", "->", "> >", ",", ",,", "."]
WORDS = [s[t.start : t.end + 1] for s in STATEMENTS for t in tokenize(s)]


def mutated(text: str, rng: random.Random) -> str:
    tokens = [text[t.start : t.end + 1] for t in tokenize(text)]
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(tokens))
        change = rng.random()
        if change < 0.3 and len(tokens) > 1:
            del tokens[at]
        elif change < 0.6:
            tokens.insert(at, rng.choice(WORDS))
        else:
            tokens[at] = rng.choice(WORDS if change < 0.9 else ODD)
    return " ".join(tokens)


def refusal(text: str, catalog: MemoryCatalog) -> SqlError | None:
    try:
        statement = parse_statement(text)
        if isinstance(statement, CreateSource):
            bind_source(statement)
        elif isinstance(statement, CreateView):
            catalog.bind_view(statement)
    except SqlError as error:
        return error
    return None


@pytest.mark.parametrize("seed", range(4))
def test_a_broken_statement_is_an_error_with_a_place(seed: int) -> None:
    rng = random.Random(seed)
    catalog = MemoryCatalog(DDL)
    outcomes = {True: 0, False: 0}
    for _ in range(150):
        text = mutated(rng.choice(STATEMENTS), rng)
        is_complete(text)
        completion_context(text[: rng.randrange(len(text) + 1)])
        error = refusal(text, catalog)
        outcomes[error is None] += 1
        if error is not None:
            assert error.span is not None, text
            assert error.text is not None, text
            assert 0 <= error.span.start <= error.span.end <= len(error.text), text
            assert render_error(error).startswith("error: ")
    assert all(outcomes.values())
