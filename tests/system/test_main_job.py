"""The main job, through real processes: source, shuffle, aggregate, view, sink, subscription."""

from __future__ import annotations

import datetime as dt
import json
import random
from collections import Counter
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

import sabot
from sabot.errors import SqlError
from tests.support.fix_server import Server


def write_orders(path: Path, count: int, seed: int) -> None:
    rng = random.Random(seed)
    with path.open("w") as file:
        for i in range(count):
            row = {
                "id": i,
                "customer": rng.choice([None, *(f"c{n}" for n in range(20))]),
                "amount": rng.randrange(1000) if rng.random() > 0.1 else None,
                "at": f"2026-01-01 00:{i // 60 % 60:02d}:{i % 60:02d}",
            }
            file.write(json.dumps(row) + "\n")


def batch(path: Path, query: str) -> Counter[tuple[object, ...]]:
    con = duckdb.connect()
    con.execute("SET integer_division = true")
    con.execute(
        f"""CREATE VIEW orders AS SELECT * FROM read_json('{path}', format = 'newline_delimited',
            columns = {{id: 'BIGINT', customer: 'VARCHAR', amount: 'BIGINT', "at": 'TIMESTAMP'}})"""
    )
    return Counter(con.execute(query).fetchall())


def orders_source(path: Path, extra: str = "") -> str:
    return (
        'CREATE SOURCE orders (id BIGINT, customer VARCHAR, amount BIGINT, "at" TIMESTAMP'
        f"{extra}) WITH (connector = 'file', path = '{path}', mode = 'once') FORMAT PLAIN ENCODE JSON"
    )


def test_a_keyed_aggregate_over_a_file_crosses_processes_and_equals_batch(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "orders.ndjson"
    write_orders(path, 5000, 1)
    query = "SELECT customer, count(*) AS n, sum(amount) AS total, max(amount) AS most FROM orders GROUP BY customer"
    server.run(orders_source(path), f"CREATE MATERIALIZED VIEW totals AS {query}", "FLUSH")
    assert Counter(server.rows("SELECT * FROM totals")) == batch(path, query)
    edges = server.db.sql("SELECT type, keys, rows, bytes FROM sabot_catalog.shuffle_edges").fetchall()
    keyed = [e for e in edges if e[0] == "HASH" and e[1] == "customer"]
    assert keyed, edges
    assert keyed[0][2] > 0
    assert keyed[0][3] > 0
    ((state,),) = server.rows("SELECT state FROM sabot_catalog.jobs")
    assert state == "FINISHED", "a finite source ends its job"


@pytest.mark.parametrize("parallelism", [1, 2, 4, 7])
def test_every_parallelism_gives_the_same(server: Server, tmp_path: Path, parallelism: int) -> None:
    path = tmp_path / "orders.ndjson"
    write_orders(path, 3000, parallelism)
    query = """
        WITH big AS (SELECT * FROM orders WHERE amount > 100)
        SELECT a.customer, a.n, b.most FROM
          (SELECT customer, count(*) AS n FROM orders GROUP BY customer) a
          JOIN (SELECT customer, max(amount) AS most FROM big GROUP BY customer) b ON a.customer = b.customer
        WHERE a.n > 10"""
    server.run(
        f"SET parallelism = {parallelism}", orders_source(path), f"CREATE MATERIALIZED VIEW j AS {query}", "FLUSH"
    )
    server.run("RESET parallelism")
    assert Counter(server.rows("SELECT * FROM j")) == batch(path, query)


def test_tables_feed_views_that_feed_views(server: Server) -> None:
    server.run(
        "CREATE TABLE t (k INT, v INT)",
        "INSERT INTO t VALUES (1, 10), (2, 20)",
        "CREATE MATERIALIZED VIEW per_key AS SELECT k, sum(v) AS total FROM t GROUP BY k",
        "CREATE MATERIALIZED VIEW overall AS SELECT count(*) AS keys, sum(total) AS total FROM per_key",
        "FLUSH",
    )
    assert server.rows("SELECT * FROM overall") == [(2, 30)]
    server.run("INSERT INTO t VALUES (1, 5), (3, 7), (NULL, NULL)", "FLUSH")
    assert sorted(server.rows("SELECT * FROM per_key"), key=repr) == [(1, 15), (2, 20), (3, 7), (None, None)]
    assert server.rows("SELECT * FROM overall") == [(4, 42)]


def test_a_column_may_be_called_as_in_postgresql(server: Server) -> None:
    """DuckDB has a use of its own for ``at``."""
    server.run(
        "CREATE TABLE calls (at TIMESTAMP, n INT)",
        "INSERT INTO calls VALUES ('1969-07-20', 1)",
        "INSERT INTO calls SELECT max(at) + INTERVAL '1 day', 2 FROM calls",
        "CREATE VIEW days AS SELECT date_trunc('day', at) AS day, at FROM calls",
        "CREATE MATERIALIZED VIEW last AS SELECT max(at) AS at FROM days",
        "FLUSH",
    )
    july_21 = dt.datetime(1969, 7, 21)
    assert server.rows("SELECT at FROM last") == [(july_21,)]
    assert server.rows("SELECT max(at) AS at FROM days WHERE at > '1969-07-20'") == [(july_21,)]


def test_numbers_are_written_alike_in_a_view_and_in_a_select(server: Server) -> None:
    """A SELECT runs where ``format`` is PostgreSQL's function, not DuckDB's."""
    query = "SELECT to_char(n, 'FM9,999.00') AS n, regexp_matches(s, '([a-z])([0-9])', 'g') AS m FROM t"
    server.run(
        "CREATE TABLE t (n NUMERIC(12, 3), s VARCHAR)",
        f"CREATE MATERIALIZED VIEW v AS {query}",
        "INSERT INTO t VALUES (1234.565, 'a1-b2')",
        "FLUSH",
    )
    wanted = [("1,234.57", ["a", "1"]), ("1,234.57", ["b", "2"])]
    assert sorted(server.rows("SELECT * FROM v")) == wanted
    assert sorted(server.rows(query)) == wanted


def test_a_primary_key_overwrites_and_views_follow(server: Server) -> None:
    server.run(
        "CREATE TABLE price (item VARCHAR PRIMARY KEY, cents INT)",
        "CREATE MATERIALIZED VIEW dearest AS SELECT max(cents) AS cents, count(*) AS items FROM price",
        "INSERT INTO price VALUES ('tea', 300), ('cake', 450)",
        "FLUSH",
    )
    assert server.rows("SELECT * FROM dearest") == [(450, 2)]
    server.run("INSERT INTO price VALUES ('cake', 200)", "FLUSH")
    assert server.rows("SELECT * FROM dearest") == [(300, 2)]


def test_windows_close_on_the_watermark_and_at_the_end(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "orders.ndjson"
    write_orders(path, 3000, 3)
    query = """SELECT window_start, customer, count(*) AS n FROM TUMBLE(orders, "at", INTERVAL '1 minute')
               GROUP BY window_start, customer"""
    server.run(
        orders_source(path, """, WATERMARK FOR "at" AS "at" - INTERVAL '5 seconds'"""),
        f"CREATE MATERIALIZED VIEW w AS {query} EMIT ON WINDOW CLOSE",
        "FLUSH",
    )
    expected = batch(
        path,
        """SELECT time_bucket(INTERVAL '1 minute', "at") AS s, customer, count(*) FROM orders GROUP BY ALL""",
    )
    assert Counter(server.rows("SELECT * FROM w")) == expected


def test_a_subscription_gives_the_snapshot_then_the_changes(server: Server) -> None:
    server.run(
        "CREATE TABLE t (k INT, v INT)",
        "INSERT INTO t VALUES (1, 10)",
        "CREATE MATERIALIZED VIEW s AS SELECT k, sum(v) AS total FROM t GROUP BY k",
        "FLUSH",
    )
    seen: Counter[tuple[int, int]] = Counter()
    with server.db.subscribe("s") as changes:
        server.run("INSERT INTO t VALUES (1, 5), (2, 7)")
        for batch_ in changes:
            for row in batch_.to_pylist():
                seen[row["k"], int(row["total"])] += row["__weight"]
            if +seen == Counter({(1, 15): 1, (2, 7): 1}):
                break
    assert seen[1, 10] == 0


def test_a_file_sink_writes_what_the_view_would_hold(server: Server, tmp_path: Path) -> None:
    path, out = tmp_path / "orders.ndjson", tmp_path / "out"
    write_orders(path, 1000, 5)
    server.run(
        orders_source(path),
        f"""CREATE SINK big AS SELECT id, amount FROM orders WHERE amount >= 500
            WITH (connector = 'file', path = '{out}') FORMAT PLAIN ENCODE JSON""",
        "FLUSH",
    )
    written = Counter(
        (r["id"], r["amount"]) for f in out.iterdir() for r in map(json.loads, f.read_text().splitlines())
    )
    assert written == batch(path, "SELECT id, amount FROM orders WHERE amount >= 500")


def test_a_sink_partitioned_by_range_gives_each_file_its_range(server: Server, tmp_path: Path) -> None:
    path, out = tmp_path / "orders.ndjson", tmp_path / "out"
    write_orders(path, 1000, 6)
    create = f"""CREATE SINK ranged AS SELECT id, amount FROM orders
        WITH (connector = 'file', path = '{out}', partition_by = '%s', partition_bounds = '%s')
        FORMAT PLAIN ENCODE JSON"""
    server.run(orders_source(path))
    for column, bounds, message in (("nobody", "1", "no column of the sink"), ("amount", "9, 5", "do not ascend")):
        with pytest.raises(sabot.SqlError, match=message):
            server.run(create % (column, bounds))
    server.run(create % ("amount", "200, 500"), "FLUSH")
    ranges: dict[str, set[int | None]] = {}
    ids = Counter[int]()
    for file in out.iterdir():
        for row in map(json.loads, file.read_text().splitlines()):
            ranges.setdefault(file.stem.partition("-")[2], set()).add(row["amount"])
            ids[row["id"]] += 1
    assert ids == Counter(range(1000))
    assert None in ranges["2"]
    ranges["2"].discard(None)
    limits = [(min(r, key=int), max(r, key=int)) for _, r in sorted(ranges.items())]  # type: ignore[arg-type]
    assert [[int(v or 0) // 100 for v in pair] for pair in limits] == [[0, 1], [2, 4], [5, 9]]
    text = "\n".join(str(r[0]) for r in server.rows("EXPLAIN ranged"))
    assert "RANGE by amount: 200, 500" in text
    assert "x 3" in text


def test_bounds_are_sampled_from_what_is_there(server: Server, tmp_path: Path) -> None:
    server.run(
        "CREATE TABLE t (id INT, day DATE)", "INSERT INTO t SELECT i, DATE '2026-01-01' + i::INT FROM range(300) r(i)"
    )
    create = (
        "CREATE SINK s FROM {} WITH (connector = 'file', path = '{}', partition_by = '{}', {}) FORMAT PLAIN ENCODE JSON"
    )
    out = tmp_path / "out"
    for relation, column, options, message in (
        ("t", "nobody", "partitions = 3", "'nobody' cannot be sampled .*does not exist"),
        ("t", "day", "partitions = 1", "takes a number from 2"),
        ("t", "id", "partitions = 4, partition_bounds = '5, 9'", "2 bounds make 3"),
    ):
        with pytest.raises(sabot.SqlError, match=message):
            server.run(create.format(relation, out, column, options))
    server.run("CREATE TABLE empty (id INT)")
    with pytest.raises(sabot.SqlError, match="without keys") as caught:
        server.run(create.format("empty", out, "id", "partitions = 2"))
    assert "partition_bounds" in str(caught.value.hint)
    server.run(create.format("t", out, "day", "partitions = 3"), "FLUSH")
    sizes = Counter[str]()
    for file in out.iterdir():
        sizes[file.stem.partition("-")[2]] += len(file.read_text().splitlines())
    assert sizes == {"0": 100, "1": 100, "2": 100}
    text = "\n".join(str(r[0]) for r in server.rows("EXPLAIN s"))
    assert "RANGE by day: 2026-04-11, 2026-07-20" in text


def test_bad_records_are_kept_and_the_job_goes_on(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "orders.ndjson"
    path.write_text('{"id": 1, "amount": 5}\n{"id": oops}\n{"id": 2, "amount": 6}\n{"id": 3, "amount": "x"}\n')
    server.run(orders_source(path), "CREATE MATERIALIZED VIEW n AS SELECT sum(amount) AS a FROM orders", "FLUSH")
    assert server.rows("SELECT a FROM n") == [(11,)]
    errors = server.rows("SELECT source, payload FROM sabot_errors WHERE job = 'mv:n' ORDER BY \"offset\"")
    assert Counter(errors) == Counter([("orders", '{"id": oops}'), ("orders", '{"id": 3, "amount": "x"}')])
    ((bad,),) = server.rows("SELECT bad_records FROM sabot_catalog.jobs WHERE job = 'mv:n'")
    assert bad == 2


FAILING = {
    "SELECT k FROM t WHERE s::int > 1": [(1,)],
    "SELECT k, max(s) AS s FROM t GROUP BY k HAVING max(s)::int > 1": [(1, "5")],
    "SELECT sum(s::int) AS m FROM t": [(5,)],
    "SELECT median(s::int) AS m FROM t": [(5.0,)],
    "SELECT t.k, d.w FROM t JOIN d ON t.k = d.k AND t.s::int > d.w": [(1, 3)],
    "SELECT t.k, d.w FROM t LEFT JOIN d ON t.k = d.k AND t.s::int > d.w": [(1, 3), (2, None)],
    "SELECT t.k, d.w FROM t JOIN d ON t.s::int = d.w + 2": [(1, 3)],
    "SELECT t.k, d.w FROM t JOIN d ON t.s::int > d.w": [(1, 3)],
    "SELECT d.w FROM d WHERE EXISTS (SELECT 1 FROM t WHERE t.k = d.k AND t.s::int > 0)": [(3,)],
}


def test_what_fails_on_a_row_is_told_wherever_it_stands(server: Server) -> None:
    server.run("CREATE TABLE t (k INT, s VARCHAR)", "CREATE TABLE d (k INT, w INT)")
    for i, query in enumerate(FAILING):
        server.run(f"CREATE MATERIALIZED VIEW m{i} AS {query}")
    server.run("INSERT INTO t VALUES (1, '5'), (2, 'x')", "INSERT INTO d VALUES (1, 3), (2, 7)", "FLUSH")
    for i, (query, rows) in enumerate(FAILING.items()):
        assert Counter(server.rows(f"SELECT * FROM m{i}")) == Counter(rows), query
        errors = server.rows(f"SELECT payload, reason FROM sabot_errors WHERE job = 'mv:m{i}'")
        assert [p for p, _ in errors] == ['{"s":"x"}'], query
        assert "'x'" in str(errors[0][1]), query


def test_system_tables_are_described(server: Server) -> None:
    for name in ("sabot_errors", "sabot_catalog.jobs", "sabot_catalog.relations", "sabot_catalog.shuffle_edges"):
        columns = server.db.sql(f"SELECT * FROM {name}").schema.names
        assert [row[0] for row in server.rows(f"DESCRIBE {name}")] == columns
    with pytest.raises(SqlError, match=r"sabot_catalog[.]nope' does not exist"):
        server.rows("DESCRIBE sabot_catalog.nope")


def test_many_rows_of_parameters_of_every_type(server: Server) -> None:
    zone = dt.UTC
    rows: list[tuple[object, ...]] = [
        (1, "ü", Decimal("1.25"), dt.datetime(1960, 1, 1), True, b"\0\xff", dt.date(1900, 1, 1), 0.5, None),
        (None,) * 9,
        (2**63 - 1, "", Decimal("-0.01"), dt.datetime(2020, 1, 1), False, b"", dt.date(2020, 2, 29), -1e300, None),
    ]
    nested: list[tuple[object, ...]] = [
        ([1, None], {"x": 1, "y": "a"}, dt.time(1, 2, 3), dt.datetime(2020, 1, 1, tzinfo=zone)),
        (None, None, None, None),
        ([], {"x": None, "y": None}, dt.time(0), dt.datetime(1969, 1, 1, tzinfo=zone)),
    ]
    server.run(
        "CREATE TABLE p (a BIGINT, b TEXT, c DECIMAL(10, 2), d TIMESTAMP, e BOOLEAN, f BYTEA, g DATE, h DOUBLE, i INT)",
        "CREATE TABLE q (a BIGINT[], b STRUCT<x INT, y VARCHAR>, c TIME, d TIMESTAMPTZ)",
        "CREATE TABLE none (a STRUCT<x INT>, b VARCHAR[], c BYTEA, d UUID)",
    )
    server.db.executemany("INSERT INTO p VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
    server.db.executemany("INSERT INTO q VALUES (?, ?, ?, ?)", nested)
    server.db.executemany("INSERT INTO none (d, c, b, a) VALUES (?, ?, ?, ?)", [(None,) * 4] * 3)
    assert server.rows("SELECT * FROM p") == rows
    assert server.rows("SELECT * FROM q") == nested
    assert server.rows("SELECT * FROM none") == [(None,) * 4] * 3
    with pytest.raises(sabot.Error, match="could not convert string 'x'"):
        server.db.executemany("INSERT INTO p (a, b) VALUES (?, ?)", [("1", "a"), ("x", "b")])
    assert server.rows("SELECT count(*) FROM p") == [(3,)]


def test_order_by_all_is_left_to_duckdb(server: Server) -> None:
    server.run("CREATE TABLE t (k INT, v INT)", "INSERT INTO t VALUES (2, 1), (1, 7)")
    assert server.rows("SELECT k, v FROM t ORDER BY ALL") == [(1, 7), (2, 1)]
    with pytest.raises(sabot.Error, match="column 'w' does not exist"):
        server.rows("SELECT w FROM t")
