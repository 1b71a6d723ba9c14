"""PEP 249."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pytest

import sabot
from sabot.errors import ClientError, SabotError


@pytest.fixture
def cursor(flight_db: sabot.Connection) -> sabot.Cursor:
    made = flight_db.cursor()
    made.execute("CREATE TABLE t (a BIGINT, b VARCHAR)")
    made.executemany("INSERT INTO t VALUES (?, ?)", [(1, "x"), (2, None), (3, "z")])
    return made


def test_module() -> None:
    assert (sabot.apilevel, sabot.threadsafety, sabot.paramstyle) == ("2.0", 2, "qmark")
    assert issubclass(sabot.ProgrammingError, sabot.DatabaseError)
    assert issubclass(sabot.DatabaseError, sabot.Error)
    assert sabot.Error is SabotError
    assert sabot.TimestampFromTicks(0).tzinfo is None
    assert isinstance(sabot.DateFromTicks(0), dt.date)
    assert isinstance(sabot.TimeFromTicks(0), dt.time)


def test_every_name_loads() -> None:
    for name in sabot.__all__:
        assert getattr(sabot, name) is not None
    assert set(sabot.__all__) <= set(dir(sabot))
    with pytest.raises(AttributeError, match="nope"):
        sabot.nope  # noqa: B018


def test_rowcount_and_description(cursor: sabot.Cursor) -> None:
    assert cursor.rowcount == 3
    assert cursor.description is None
    cursor.execute("SELECT a, b, 1.5 AS c, DATE '2024-01-01' AS d FROM t")
    assert cursor.rowcount == -1
    assert cursor.description is not None
    assert [column[0] for column in cursor.description] == ["a", "b", "c", "d"]
    codes = [column[1] for column in cursor.description]
    assert codes == [sabot.NUMBER, sabot.STRING, sabot.NUMBER, sabot.DATETIME]
    assert codes[0] != sabot.STRING
    assert pa.binary() == sabot.BINARY
    assert len({sabot.NUMBER, sabot.STRING, sabot.ROWID}) == 3


def test_fetch(cursor: sabot.Cursor) -> None:
    assert cursor.execute("SELECT a FROM t ORDER BY a").fetchone() == (1,)
    assert cursor.fetchmany() == [(2,)]
    assert cursor.fetchall() == [(3,)]
    assert cursor.fetchall() == []
    cursor.arraysize = 2
    assert len(cursor.execute("SELECT a FROM t").fetchmany()) == 2
    assert list(cursor.execute("SELECT b FROM t WHERE a = ?", [3])) == [("z",)]
    assert cursor.execute("SELECT a FROM t").fetch_arrow_table().num_rows == 3
    assert cursor.execute("SELECT a FROM t").fetch_record_batch().read_all().num_rows == 3
    assert len(cursor.execute("SELECT a FROM t").fetch_df()) == 3


def test_nothing_to_fetch(cursor: sabot.Cursor) -> None:
    with pytest.raises(ClientError, match="no rows to fetch"):
        cursor.fetchone()
    cursor.execute("INSERT INTO t VALUES (9, 'q')")
    with pytest.raises(ClientError, match="no rows to fetch"):
        cursor.fetchall()


def test_notices_are_messages(cursor: sabot.Cursor) -> None:
    cursor.execute("SET speed = high")
    assert cursor.messages == [(sabot.Warning, "speed is now high")]
    cursor.execute("SELECT 1")
    assert cursor.messages == []


def test_close(cursor: sabot.Cursor, flight_db: sabot.Connection) -> None:
    cursor.close()
    cursor.close()
    with pytest.raises(ClientError, match="cursor is closed"):
        cursor.execute("SELECT 1")
    with flight_db.cursor() as other:
        other.setinputsizes([1])
        other.setoutputsize(1)
        assert other.connection is flight_db


def test_transactions(flight_db: sabot.Connection) -> None:
    flight_db.commit()
    with pytest.raises(ClientError, match="no transactions"):
        flight_db.rollback()
    assert flight_db.execute("SELECT 1").fetchall() == [(1,)]
    flight_db.sql("CREATE TABLE u (a INT)")
    assert flight_db.executemany("INSERT INTO u VALUES (?)", [(1,), (2,)]).rowcount == 2
