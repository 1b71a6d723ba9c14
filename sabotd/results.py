"""What statements give back: nothing, rows at hand, a DuckDB query, or the changes of a view without end."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence

import duckdb
import pyarrow as pa

from sabot.errors import SabotError
from sabot.ids import WEIGHT
from sabotd.select_guard import DIVISION_HINT, lowered
from sabotd.state.relation import conform
from sabotd.state.store import Subscription

EPOCH = "__epoch"
_WAIT_S = 0.1


def cancelled_error() -> SabotError:
    """Make the error of a statement that was stopped on request."""
    return SabotError("canceled by the user", sqlstate="57014")


class Done:
    """A statement that has been carried out; may carry a small table."""

    def __init__(
        self, tag: str, *, rows: pa.Table | None = None, rows_affected: int = -1, notices: Sequence[str] = ()
    ) -> None:
        self._rows = rows
        self.schema = rows.schema if rows is not None else pa.schema([])
        self.is_query = rows is not None
        self.rows_affected = rows_affected
        self.notices = notices
        self.tag = tag

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Give the rows."""
        if self._rows is not None:
            yield from self._rows.to_batches()

    def cancel(self) -> None:
        """Do nothing: it is done."""

    def close(self) -> None:
        """Do nothing."""


class QueryResult:
    """A SELECT that DuckDB runs while it is read. Owns its connection, unless that is to be kept.

    A kept connection runs more than one query, so each is run to its end at once.
    """

    is_query = True
    rows_affected = -1
    tag = "SELECT"

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[object], *, keep: bool = False
    ) -> None:
        self._connection = connection
        self._keep = keep
        self.notices: Sequence[str] = ()
        self._cancelled = False
        relation = connection.sql(sql, params=list(parameters) or None)
        self._reader = relation.to_arrow_table().to_reader() if keep else relation.to_arrow_reader(131_072)
        self.schema = plain_schema(self._reader.schema)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Give the rows as DuckDB finds them."""
        try:
            for batch in self._reader:
                yield conform(batch, self.schema)
        except (duckdb.Error, pa.ArrowException) as error:
            if self._cancelled:
                raise cancelled_error() from error
            raise query_error(error) from error

    def cancel(self) -> None:
        """Interrupt the query."""
        self._cancelled = True
        # one that has just been read to its end has nothing left to interrupt
        with contextlib.suppress(duckdb.ConnectionException):
            self._connection.interrupt()

    def close(self) -> None:
        """Close the reader and the connection."""
        if not self._keep:
            self._connection.close()


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Return `schema` without extension types and dictionaries."""
    return pa.schema([pa.field(f.name, _plain(f.type)) for f in schema])


def _plain(kind: pa.DataType) -> pa.DataType:
    """Return the storage of an extension type (DuckDB marks JSON and UUID so), the values' of a dictionary (ENUM)."""
    if isinstance(kind, pa.BaseExtensionType):
        return kind.storage_type
    return kind.value_type if pa.types.is_dictionary(kind) else kind


class SubscribeResult:
    """The changes of a relation: its snapshot first unless told otherwise, then each epoch's rows, until cancelled."""

    is_query = True
    rows_affected = -1
    tag = "SUBSCRIBE"

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self.notices: Sequence[str] = ()
        fields = [pa.field(EPOCH, pa.int64()), *subscription.relation.arrow, pa.field(WEIGHT, pa.int32())]
        self.schema = pa.schema(fields)
        self._cancelled = threading.Event()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Give the changes; waits for more until `cancel`, or until the relation can change no more."""
        subscription = self._subscription
        for batch in subscription.snapshot():
            yield self._stamp(subscription.epoch, batch)
        while not self._cancelled.is_set() and not subscription.cursor.finished():
            entry = subscription.cursor.read(_WAIT_S)
            if entry is not None:
                yield self._stamp(*entry)
        if self._cancelled.is_set():
            raise cancelled_error()

    def _stamp(self, epoch: int, batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = list(batch.columns)
        if self._subscription.relation.append_only:
            columns.append(pa.repeat(pa.scalar(1, pa.int32()), batch.num_rows))
        stamp = pa.repeat(pa.scalar(epoch, pa.int64()), batch.num_rows)
        return pa.RecordBatch.from_arrays([stamp, *columns], schema=self.schema)

    def cancel(self) -> None:
        """End the stream."""
        self._cancelled.set()
        self._subscription.cursor.wake()

    def close(self) -> None:
        """Give up the snapshot and the place in the log."""
        self._cancelled.set()
        self._subscription.close()


def query_error(error: Exception) -> SabotError:
    """Turn what DuckDB says at run time into our words."""
    text = str(error).strip().splitlines()[0]
    _, _, reason = text.partition("Error: ")
    if reason.startswith("Division by zero"):
        return SabotError("division by zero", hint=DIVISION_HINT, sqlstate="22012")
    if reason.startswith("Python exception"):
        # of a user's function, which is told in our words
        return SabotError(reason.partition("JobError: ")[2] or lowered(reason), sqlstate="38000")
    return SabotError(lowered((reason or text).rstrip(".")), sqlstate="22000")
