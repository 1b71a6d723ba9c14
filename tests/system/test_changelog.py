"""A relation's changes as rows of a view: each change of a random history, told once and as what it was."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from sabot.errors import SqlError
from tests.support.fix_server import Server

Rows = Counter[tuple[Any, ...]]
_COUNTS = "SELECT k, changelog_op AS op, count(*) AS n, sum(v) AS s FROM c GROUP BY k, changelog_op"
_TOTAL = "SELECT k, count(*) AS n, max(v) AS top FROM t GROUP BY k"


def changes(before: Rows, after: Rows, key: int | None, *, update: bool) -> Rows:
    """What a change of a relation's rows is told as; `key` is the column that rows are known by."""
    new, old = after - before, before - after
    if key is None:
        return told(new, 3 if update else 1) + told(old, 4 if update else 2)
    both = {row[key] for row in new} & {row[key] for row in old}
    out: Rows = Counter()
    for rows, ops in ((new, (3, 1)), (old, (4, 2))):
        for row in rows.elements():
            out[*row, ops[row[key] not in both]] += 1
    return out


def told(rows: Rows, op: int) -> Rows:
    return Counter({(*row, op): n for row, n in rows.items()})


def counted(rows: Rows) -> list[tuple[Any, ...]]:
    groups: dict[tuple[Any, Any], list[tuple[Any, ...]]] = {}
    for row in rows.elements():
        groups.setdefault((row[1], row[3]), []).append(row)
    out = []
    for (k, op), members in groups.items():
        values = [row[2] for row in members if row[2] is not None]
        out.append((k, op, len(members), sum(values) if values else None))
    return out


def statements(rng: random.Random, turn: int) -> Iterable[str]:
    values = [f"({rng.randrange(9)}, {rng.randrange(3)}, {rng.choice(('NULL', 1, 2, 3))})" for _ in range(4)]
    yield f"INSERT INTO t VALUES {', '.join(values)}"
    yield f"UPDATE t SET v = coalesce(v, 0) + id % 2 WHERE k = {rng.randrange(3)}"
    yield f"UPDATE t SET v = v WHERE k = {turn % 3}"
    yield f"DELETE FROM t WHERE id = {rng.randrange(9)} OR v = {rng.randrange(5)}"


@pytest.mark.parametrize(
    ("parallelism", "key"), [(1, ""), (4, ""), (1, ", PRIMARY KEY (id)"), (4, ", PRIMARY KEY (id)")]
)
def test_each_change_is_told_once_and_as_what_it_was(server: Server, parallelism: int, key: str) -> None:
    rng = random.Random(f"{parallelism}{key}")
    server.run(f"SET parallelism = {parallelism}", f"CREATE TABLE t (id INT, k INT, v INT{key})")
    server.run("INSERT INTO t VALUES (1, 1, 10), (2, 2, NULL)")
    server.run(
        f"CREATE MATERIALIZED VIEW total AS {_TOTAL}",
        "CREATE MATERIALIZED VIEW log AS WITH c AS CHANGELOG FROM t SELECT * FROM c",
        f"CREATE MATERIALIZED VIEW counts AS WITH c AS CHANGELOG FROM public.t {_COUNTS}",
        "CREATE MATERIALIZED VIEW beside AS WITH u AS (SELECT k, n FROM total), c AS CHANGELOG FROM t"
        " SELECT c.id, changelog_op AS op, u.n FROM c JOIN u ON c.k = u.k JOIN t ON t.id = c.id",
        "CREATE MATERIALIZED VIEW totals AS WITH c AS CHANGELOG FROM total SELECT * FROM c",
        "RESET parallelism",
        "FLUSH",
    )
    rows, groups = Counter(server.rows("SELECT * FROM t")), Counter(server.rows("SELECT * FROM total"))
    log, totals = told(rows, 1), told(groups, 1)
    for turn in range(4):
        for statement in statements(rng, turn):
            if key and statement.startswith("INSERT"):
                # of several rows with one key in an INSERT the last counts
                statement = statement.replace(
                    "INSERT INTO t VALUES ", "INSERT INTO t SELECT DISTINCT ON (c0) * FROM (VALUES "
                )
                statement += ") AS w(c0, c1, c2) ORDER BY c0, c1, c2"
            server.run(statement, "FLUSH")
            now, then = Counter(server.rows("SELECT * FROM t")), Counter(server.rows("SELECT * FROM total"))
            log += changes(rows, now, 0 if key else None, update=statement.startswith("UPDATE"))
            totals += changes(groups, then, 0, update=False)
            rows, groups = now, then
            assert Counter(server.rows("SELECT * FROM log")) == log, statement
            assert Counter(server.rows("SELECT * FROM totals")) == totals, statement
        assert Counter(server.rows("SELECT * FROM counts")) == Counter(counted(log))
        joined = server.rows(
            "SELECT c.id, c.changelog_op, u.n FROM log c JOIN total u ON c.k = u.k JOIN t ON t.id = c.id"
        )
        assert Counter(server.rows("SELECT * FROM beside")) == Counter(joined)


def test_statements_without_a_flush_between_them_are_told_apart(server: Server) -> None:
    server.run("CREATE TABLE t (id INT, doc JSON, l INT[])")
    server.run(
        "CREATE MATERIALIZED VIEW log AS WITH c AS CHANGELOG FROM t SELECT id, changelog_op AS op FROM c", "FLUSH"
    )
    server.run(
        """INSERT INTO t VALUES (1, '{"a": 1}', [1, NULL]), (1, '{"a": 1}', [1, NULL])""",
        "UPDATE t SET id = 2",
        "DELETE FROM t",
        "INSERT INTO t VALUES (2, NULL, NULL)",
        "FLUSH",
    )
    assert (
        sorted(server.rows("SELECT * FROM log")) == [(1, 1)] * 2 + [(1, 4)] * 2 + [(2, 1)] + [(2, 2)] * 2 + [(2, 3)] * 2
    )


def test_a_table_that_is_only_added_to_has_insertions_alone(server: Server) -> None:
    server.run("CREATE TABLE t (id INT) APPEND ONLY", "INSERT INTO t VALUES (1)")
    server.run("CREATE MATERIALIZED VIEW v AS WITH c AS CHANGELOG FROM t SELECT * FROM c")
    server.run("INSERT INTO t SELECT range FROM range(300000)", "FLUSH")
    assert server.rows("SELECT changelog_op, count(*) FROM v GROUP BY changelog_op") == [(1, 300_001)]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("WITH c AS CHANGELOG FROM plain SELECT * FROM c", "changelog of view 'plain'"),
        ("WITH c AS CHANGELOG FROM s SELECT * FROM c", "changelog of source 's'"),
        ("WITH c AS CHANGELOG FROM nowhere SELECT * FROM c", "'nowhere' does not exist"),
        ("WITH c AS CHANGELOG FROM op SELECT * FROM c", "has a column 'changelog_op'"),
        ("WITH c AS CHANGELOG FROM SELECT * FROM c", "syntax|changelog|expected|does not exist"),
    ],
)
def test_what_has_no_changelog_is_refused(server: Server, query: str, message: str) -> None:
    server.run(
        "CREATE TABLE t (id INT)",
        "CREATE TABLE op (changelog_op INT)",
        "CREATE VIEW plain AS SELECT * FROM t",
        "CREATE SOURCE s (a INT) WITH (connector = 'datagen', rows = 1)",
    )
    with pytest.raises(SqlError, match=message):
        server.run(f"CREATE MATERIALIZED VIEW v AS {query}")
    with pytest.raises(SqlError, match="no rows to select"):
        server.rows("WITH c AS CHANGELOG FROM t SELECT * FROM c")
    # the word is a name elsewhere
    assert server.rows("SELECT 1 AS changelog FROM (VALUES (1)) AS t(a)") == [(1,)]
