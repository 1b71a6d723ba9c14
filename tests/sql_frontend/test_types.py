"""Written types become DuckDB's canonical type text."""

import pytest

from sabot.errors import SqlError
from sabot.schema import arrow_type
from sql_frontend.types import type_text


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("int", "INTEGER"),
        ("INT8", "BIGINT"),
        ("smallint", "SMALLINT"),
        ("BIGINT UNSIGNED", "UBIGINT"),
        ("ubigint", "UBIGINT"),
        ("real", "FLOAT"),
        ("FLOAT", "DOUBLE"),
        ("double", "DOUBLE"),
        ("DOUBLE PRECISION", "DOUBLE"),
        ("numeric", "DECIMAL(38,10)"),
        ("NUMERIC(10,2)", "DECIMAL(10,2)"),
        ("decimal(5)", "DECIMAL(5,0)"),
        ("text", "VARCHAR"),
        ("CHARACTER VARYING(20)", "VARCHAR"),
        ("bytea", "BLOB"),
        ("bool", "BOOLEAN"),
        ("jsonb", "JSON"),
        ("uuid", "UUID"),
        ("interval", "INTERVAL"),
        ("date", "DATE"),
        ("time", "TIME"),
        ("TIMESTAMP(3)", "TIMESTAMP"),
        ("timestamp without time zone", "TIMESTAMP"),
        ("timestamptz", "TIMESTAMP WITH TIME ZONE"),
        ("TIMESTAMP WITH TIME ZONE", "TIMESTAMP WITH TIME ZONE"),
        ("int[]", "INTEGER[]"),
        ("int array", "INTEGER[]"),
        ("int[][]", "INTEGER[][]"),
        ("STRUCT<a INT, B VARCHAR>", "STRUCT(a INTEGER, b VARCHAR)"),
        ("ROW(a INT)", "STRUCT(a INTEGER)"),
        ('struct<"A b" struct<x int[]>>[]', 'STRUCT("A b" STRUCT(x INTEGER[]))[]'),
        ("map(varchar, int)", "MAP(VARCHAR, INTEGER)"),
    ],
)
def test_type_text(written: str, expected: str) -> None:
    assert type_text(written) == expected
    arrow_type(expected)


@pytest.mark.parametrize(
    ("written", "message", "hint"),
    [
        ("integr", "type 'integr' does not exist", "did you mean 'integer'?"),
        ("vector(3)", "does not exist", None),
        ("numeric(39,2)", "out of range", None),
        ("numeric(5,6)", "out of range", None),
        ("struct<int>", "needs a name and a type", None),
        ("int int", "does not exist", None),
    ],
)
def test_unknown_types(written: str, message: str, hint: str | None) -> None:
    with pytest.raises(SqlError, match=message.replace("(", r"\(")) as caught:
        type_text(written, text=f"x {written}", start=2)
    assert caught.value.span is not None
    assert caught.value.span.start == 2
    if hint:
        assert caught.value.hint == hint
