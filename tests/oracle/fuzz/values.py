"""The types of columns: how SQL writes them, and values that meet, repeat, are missing and are odd."""

from __future__ import annotations

from dataclasses import dataclass

from tests.oracle.fuzz.choices import Choices


@dataclass(frozen=True)
class Kind:
    """A family of types that expressions treat alike."""

    name: str
    types: tuple[str, ...]
    values: tuple[str, ...]
    """Literals that Sabot and DuckDB read alike; the first few are the usual ones."""
    sortable: bool = True


# floats are sums of powers of two, so that no order of adding them changes a sum
KINDS = {
    k.name: k
    for k in (
        Kind("int", ("BIGINT", "INTEGER", "SMALLINT"), ("1", "2", "0", "3", "-1", "7", "-3", "100")),
        # what sums of whole numbers are: HUGEINT to DuckDB, NUMERIC to Sabot
        Kind("big", (), ("1", "2", "0", "10", "-3")),
        Kind("text", ("VARCHAR",), ("'a'", "'b'", "'ab'", "''", "'aé'", "'B'", "' x '", "'a_b%'")),
        Kind("num", ("NUMERIC(10,2)", "NUMERIC(18,4)"), ("1.25", "2.00", "-0.75", "0.01", "99.99", "1234.50")),
        Kind("float", ("DOUBLE PRECISION", "REAL"), ("0.5", "2.25", "-8", "1024", "0", "3.75")),
        Kind("bool", ("BOOLEAN",), ("true", "false")),
        Kind("date", ("DATE",), tuple(f"DATE '{d}'" for d in ("2024-02-29", "2024-03-01", "1969-12-31", "2024-01-31"))),
        Kind(
            "ts",
            ("TIMESTAMP",),
            tuple(
                f"TIMESTAMP '{t}'"
                for t in (
                    "2024-05-01 12:00:00",
                    "2024-05-01 12:00:07",
                    "2024-05-01 12:00:10",
                    "2024-05-01 12:00:16.5",
                    "2024-05-01 12:01:00",
                    "1969-12-31 23:59:58.25",
                )
            ),
        ),
        Kind(
            "tstz",
            ("TIMESTAMPTZ",),
            ("TIMESTAMPTZ '2024-05-01 12:00:00+00'", "TIMESTAMPTZ '2024-05-01 15:30:00+03:30'"),
        ),
        Kind("time", ("TIME",), ("TIME '12:30:00'", "TIME '00:00:00'", "TIME '23:59:59.5'")),
        Kind("interval", ("INTERVAL",), ("INTERVAL '90 seconds'", "INTERVAL '2 days'", "INTERVAL '-1 hour'")),
        Kind("bytes", ("BYTEA",), ("'ab'::BYTEA", "unhex('01FF')", "''::BYTEA")),
        Kind(
            "uuid",
            ("UUID",),
            ("'00000000-0000-0000-0000-000000000001'::UUID", "'ffffffff-0000-4000-8000-000000000002'::UUID"),
        ),
        Kind("ints", ("INTEGER[]",), ("[1, 2]", "[2]", "[]::INTEGER[]", "[NULL, 3]", "[3, 1, 3]")),
        Kind("texts", ("VARCHAR[]",), ("['a']", "['b', 'a']", "['a', NULL]")),
        Kind(
            "struct",
            ("STRUCT(n INTEGER, s VARCHAR)",),
            ("{'n': 1, 's': 'a'}", "{'n': 2, 's': NULL}"),
        ),
        Kind("json", ("JSON",), ("""'{"a": "x", "b": 1}'""", """'{"a": 2}'""", "'[1, 2]'", "'null'"), sortable=False),
        Kind("map", ("MAP(VARCHAR, INTEGER)",), ("MAP {'a': 1}", "MAP {'b': 2}"), sortable=False),
    )
}
OF_COLUMNS = tuple(k.name for k in KINDS.values() if k.types)
SORTABLE = tuple(k.name for k in KINDS.values() if k.sortable)


def literal(choices: Choices, kind: str) -> str:
    """Choose a value, skewed to the first ones."""
    values = KINDS[kind].values
    return values[min(choices.below(len(values)), choices.below(len(values)))]


def cell(choices: Choices, kind: str) -> str:
    """Choose a value of a row: NULL now and then."""
    return "NULL" if choices.chance(15) else literal(choices, kind)
