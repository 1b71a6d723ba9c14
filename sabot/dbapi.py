"""Python's DB-API 2.0 (PEP 249) over a connection; knows no wire."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Protocol, Self

import pyarrow as pa

from sabot import errors
from sabot.client_result import Result, Row

apilevel: Final = "2.0"
threadsafety: Final = 2
paramstyle: Final = "qmark"

Date = dt.date
Time = dt.time
Timestamp = dt.datetime
Binary = bytes


def DateFromTicks(ticks: float) -> dt.date:  # noqa: N802  PEP 249's name
    """Return the local date of seconds since 1970."""
    return dt.date(*time.localtime(ticks)[:3])


def TimeFromTicks(ticks: float) -> dt.time:  # noqa: N802
    """Return the local time of day of seconds since 1970."""
    return dt.time(*time.localtime(ticks)[3:6])


def TimestampFromTicks(ticks: float) -> dt.datetime:  # noqa: N802
    """Return the local time of seconds since 1970."""
    return dt.datetime(*time.localtime(ticks)[:6])  # noqa: DTZ001  PEP 249 wants local time


class Warning(Exception):  # noqa: A001, N818  PEP 249's name
    """Never raised: notices are in `Cursor.messages`."""


# PEP 249 knows a tree; the errors of Sabot take the places in it that they fit
Error = errors.SabotError
InterfaceError = errors.ClientError
DatabaseError = errors.SabotError
DataError = errors.SqlError
OperationalError = errors.SabotError
IntegrityError = errors.SqlError
InternalError = errors.InternalError
ProgrammingError = errors.SqlError
NotSupportedError = errors.SqlError


class TypeObject:
    """Equal to every Arrow type of its group, as the type codes of `Cursor.description` are."""

    def __init__(self, name: str, *tests: Callable[[pa.DataType], bool]) -> None:
        self._name = name
        self._tests = tests

    def __eq__(self, other: object) -> bool:
        if isinstance(other, pa.DataType):
            return any(test(other) for test in self._tests)
        return self is other

    def __hash__(self) -> int:
        return hash(self._name)

    def __repr__(self) -> str:
        return self._name


STRING: Final = TypeObject("STRING", pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
BINARY: Final = TypeObject("BINARY", pa.types.is_binary, pa.types.is_large_binary)
NUMBER: Final = TypeObject(
    "NUMBER", pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean
)
DATETIME: Final = TypeObject("DATETIME", pa.types.is_timestamp, pa.types.is_date, pa.types.is_time)
ROWID: Final = TypeObject("ROWID")


class Runner(Protocol):
    """What a cursor needs of its connection."""

    def sql(self, query: str, parameters: Sequence[object] = ()) -> Result:
        """Run one statement."""
        ...

    def run_many(self, query: str, rows: Iterable[Sequence[object]]) -> int:
        """Run one statement for every row of parameters; return the rows changed."""
        ...


class Cursor:
    """A cursor: one statement's result at a time.

    Attributes
    ----------
    connection : Connection
    arraysize : int
        Rows that `fetchmany` takes by default.
    rowcount : int
        Rows that the last statement changed; -1 for a query.
    messages : list of (type, str)
        The notices of the last statement.
    """

    def __init__(self, connection: Runner) -> None:
        self.connection = connection
        self.arraysize = 1
        self.rowcount = -1
        self.messages: list[tuple[type[Warning], str]] = []
        self._result: Result | None = None
        self._closed = False

    @property
    def description(self) -> list[tuple[str, pa.DataType, None, None, None, None, bool]] | None:
        """The columns as (name, Arrow type, None, None, None, None, nullable), or None without rows."""
        if self._result is None or not self._result.is_query:
            return None
        return [(f.name, f.type, None, None, None, None, f.nullable) for f in self._result.schema]

    def execute(self, operation: str, parameters: Sequence[object] = ()) -> Cursor:
        """Run one statement; `parameters` stand for its ``?`` in order. Returns the cursor itself.

        Raises
        ------
        SabotError
        """
        self._reset()
        result = self.connection.sql(operation, parameters)
        self._result = result
        self.rowcount = result.rowcount
        self.messages = [(Warning, notice) for notice in result.notices]
        return self

    def executemany(self, operation: str, seq_of_parameters: Iterable[Sequence[object]]) -> Cursor:
        """Run one statement for every row of parameters; not a query. Returns the cursor itself."""
        self._reset()
        self.rowcount = self.connection.run_many(operation, seq_of_parameters)
        return self

    def fetchone(self) -> Row | None:
        """Return the next row, or None after the last."""
        return self._rows().fetchone()

    def fetchmany(self, size: int | None = None) -> list[Row]:
        """Return the next rows, at most `size` (`arraysize` by default)."""
        return self._rows().fetchmany(self.arraysize if size is None else size)

    def fetchall(self) -> list[Row]:
        """Return the rest of the rows."""
        return self._rows().fetchall()

    def fetch_arrow_table(self) -> pa.Table:
        """Return the rest of the rows as a table."""
        return self._rows().arrow()

    def fetch_record_batch(self) -> pa.RecordBatchReader:
        """Return the rest of the rows as a reader."""
        return self._rows().reader()

    def fetch_df(self) -> Any:
        """Return the rest of the rows as a pandas data frame."""
        return self._rows().df()

    def setinputsizes(self, sizes: Sequence[object]) -> None:
        """Do nothing: parameters have the types of their values."""

    def setoutputsize(self, size: int, column: int | None = None) -> None:
        """Do nothing: columns come whole."""

    def close(self) -> None:
        """Stop a query that still runs; the cursor cannot be used any more."""
        if not self._closed:
            self._reset()
            self._closed = True

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _reset(self) -> None:
        if self._closed:
            msg = "cursor is closed"
            raise errors.ClientError(msg, sqlstate="24000")
        if self._result is not None:
            self._result.close()
        self._result = None
        self.rowcount = -1
        self.messages = []

    def _rows(self) -> Result:
        if self._result is None or not self._result.is_query:
            msg = "there are no rows to fetch"
            raise errors.ClientError(msg, sqlstate="24000", hint="execute a query first")
        return self._result
