"""Names with quotes, semicolons and capitals all the way to DuckDB and back; what definitions may not smuggle in."""

from __future__ import annotations

from pathlib import Path

import pytest

import sabot
from tests.support.fix_server import Server


def test_names_are_names_whatever_is_in_them(server: Server, tmp_path: Path) -> None:
    table, view = '"a""b\'c; DROP"', '"V\'""; DROP TABLE q; --"'
    server.run(
        "CREATE TABLE q (a INT)",
        f'CREATE TABLE {table} ("x""y\'z" INT, "select" VARCHAR DEFAULT \'it\'\'s\', "Größe" INT)',
        f'INSERT INTO {table} ("Größe", "x""y\'z") VALUES (5, 1), (6, 1)',
        f'CREATE MATERIALIZED VIEW {view} AS SELECT "x""y\'z" AS "k\'""k", "select", sum("Größe") AS "n;--" '
        f"FROM {table} GROUP BY 1, 2",
        f'CREATE MATERIALIZED VIEW "On \'top" AS SELECT max("n;--") AS m FROM {view}',
        f"CREATE SINK \"s'\"\"k\" FROM {view} WITH (connector = 'file', path = '{tmp_path}/o''ut') "
        "FORMAT PLAIN ENCODE JSON",
        "FLUSH",
    )
    assert server.rows(f"SELECT * FROM {view}") == [(1, "it's", 11)]
    assert server.rows(f'SELECT "k\'""k" FROM {view} WHERE "n;--" > 3') == [(1,)]
    assert server.rows('SELECT m FROM "On \'top"') == [(11,)]
    (file,) = (tmp_path / "o'ut").iterdir()
    assert '"n;--":11' in file.read_text().replace(" ", "")
    assert [r[0] for r in server.rows(f"DESCRIBE {view}")] == ["k'\"k", "select", "n;--"]
    assert server.rows("SHOW TABLES")[0][0] == "q"
    server.run(f"DROP TABLE {table} CASCADE")
    assert [r[0] for r in server.rows("SHOW TABLES")] == ["q"]
    assert server.rows("SHOW JOBS") == []


@pytest.mark.parametrize("name", ["taken", "new_rows", "delta", "net", "input", "n", "t", "r"])
def test_names_that_the_store_uses_are_free(server: Server, name: str) -> None:
    server.run(
        f"CREATE TABLE {name} (a INT PRIMARY KEY, b INT)",
        f"INSERT INTO {name} VALUES (1, 1), (2, 2)",
        f"CREATE MATERIALIZED VIEW v AS SELECT b, count(*) AS {name} FROM {name} GROUP BY b",
        f"INSERT INTO {name} SELECT a, 7 FROM {name}",
        "FLUSH",
    )
    assert server.rows(f"SELECT b, {name} FROM v") == [(7, 2)]


def test_names_that_differ_by_case_only_are_refused(server: Server) -> None:
    server.run("CREATE TABLE Orders (a INT)", "INSERT INTO orders VALUES (1)")
    with pytest.raises(sabot.Error, match="only by upper and lower case"):
        server.run('CREATE TABLE "ORDERS" (b VARCHAR)')
    assert server.rows("SELECT a FROM ORDERS") == [(1,)]


@pytest.mark.parametrize("name", ["sabot_errors", "sabot_catalog", '"Durable"'])
def test_names_of_the_system_are_refused(server: Server, name: str) -> None:
    with pytest.raises(sabot.Error, match="meaning of its own"):
        server.run(f"CREATE TABLE {name} (a INT)")


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE VIEW spy AS SELECT * FROM duckdb_settings()",
        "CREATE VIEW spy AS SELECT median(a), max(current_setting('temp_directory')) FROM given",
        "CREATE TABLE spy (a VARCHAR DEFAULT current_setting('temp_directory'), b INT)",
        "INSERT INTO given SELECT length(current_setting('temp_directory'))",
    ],
)
def test_definitions_tell_no_more_than_select_may(server: Server, statement: str) -> None:
    server.run("CREATE TABLE given (a INT)")
    with pytest.raises(sabot.Error, match="is not available") as caught:
        server.run(statement)
    assert caught.value.sqlstate == "42501"
