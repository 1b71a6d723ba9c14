"""What a statement gave, on the client: rows as Arrow, tuples or a data frame."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Self

import pyarrow as pa
from pyarrow import flight

from sabot.client_calls import Calls
from sabot.errors import ClientError
from sabot.text_table import text_table

Row = tuple[Any, ...]

_SHOWN_ROWS = 40


class Result:
    """One statement's outcome.

    Rows come as the server sends them and can be read once, in order; `arrow` alone keeps what it read.
    Closing it, or dropping it, cancels a query that still runs.

    Attributes
    ----------
    schema : pyarrow.Schema
        Of the rows; empty where there are none.
    tag : str
        What was done: ``SELECT``, ``INSERT 0 3``, ``CREATE MATERIALIZED VIEW``; empty if the server tells none.
    notices : tuple of str
        What the server wants the user to know besides.
    rowcount : int
        Rows that the statement changed; -1 for a query.
    is_query : bool
    """

    def __init__(
        self,
        calls: Calls,
        info: flight.FlightInfo,
        *,
        sql: str,
        tag: str,
        notices: Sequence[str],
        is_query: bool,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self.schema: pa.Schema = info.schema if info.schema is not None else pa.schema([])
        self.tag = tag
        self.notices = tuple(notices)
        self.is_query = is_query
        self.rowcount = -1 if is_query else info.total_records
        self._calls = calls
        self._sql = sql
        self._on_close = on_close
        self._endpoints = list(info.endpoints) if is_query else []
        self._stream: flight.FlightStreamReader | None = None
        self._drop: Callable[[], object] = _nothing
        self._ended = not is_query
        self._table: pa.Table | None = None
        # no generator over this object is kept: it would hold it alive, and the query with it
        self._kept: Iterator[pa.RecordBatch] | None = None
        self._rows: Iterator[Row] | None = None
        self._current: pa.RecordBatch | None = None
        self._taken = 0
        self._begun = False
        if self._endpoints:
            try:
                self._open_next()
            except BaseException:
                self.close()
                raise
        else:
            self._ended = True
            self.close()

    # ---- rows ---------------------------------------------------------------------------------------------

    def read_batch(self) -> pa.RecordBatch | None:
        """Return the next batch, or None after the last; blocks until the server sends one.

        Raises
        ------
        SabotError
            When the query failed or was cancelled.
        """
        if self._current is not None:
            rest = self._current.slice(self._taken)
            self._current = self._rows = None
            if rest.num_rows:
                return rest
        while self._stream is not None:
            batch = self._read(self._stream)
            if batch is not None:
                self._begun = True
                return batch
            if self._endpoints:
                self._open_next()
            else:
                self._ended = True
                self.close()
        if not self._ended:
            msg = "result is closed"
            raise ClientError(msg, sqlstate="24000", hint="run the statement again")
        return None

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rest of the rows as batches."""
        while (batch := self.read_batch()) is not None:
            yield batch

    def reader(self) -> pa.RecordBatchReader:
        """Return the rest of the rows as a reader."""
        return pa.RecordBatchReader.from_batches(self.schema, self.batches())

    def arrow(self) -> pa.Table:
        """Return the rest of the rows as a table; all of them, and again at the next call, if none were read before."""
        if self._table is None:
            begun = self._begun
            table = pa.Table.from_batches(list(self.batches()), self.schema)
            if begun:
                return table
            self._table = table
        return self._table

    def df(self) -> Any:
        """Return `arrow` as a pandas data frame (needs pandas)."""
        return self.arrow().to_pandas()

    def fetchone(self) -> Row | None:
        """Return the next row, or None after the last."""
        return next(self, None)

    def fetchmany(self, size: int) -> list[Row]:
        """Return the next rows, at most `size`."""
        return list(islice(self, size))

    def fetchall(self) -> list[Row]:
        """Return the rest of the rows."""
        return list(self)

    def __iter__(self) -> Iterator[Row]:
        return self

    def __next__(self) -> Row:
        while True:
            if self._rows is not None and (row := next(self._rows, None)) is not None:
                self._taken += 1
                return row
            if self._table is not None and self._kept is None:
                self._kept = iter(self._table.to_batches())
            if self._kept is not None:
                batch = next(self._kept, None)
            else:
                batch = self._current = self.read_batch()
                self._taken = 0
            if batch is None:
                raise StopIteration
            self._rows = _rows_of(batch)

    # ---- end ----------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """Stop the query, from any thread; whoever reads it gets `ClientError` (57014)."""
        self._drop()

    def close(self) -> None:
        """Stop the query if it still runs and free it; idempotent."""
        self._drop()
        self._stream = None
        self._endpoints = []
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.reader().__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        if not self.is_query:
            return self.tag or "done"
        if self.tag == "SUBSCRIBE" or (self._begun and self._table is None):
            return f"<sabot.Result {self.tag} ({', '.join(self.schema.names)})>"
        return text_table(self.arrow(), _SHOWN_ROWS)

    def _open_next(self) -> None:
        stream = self._calls.read(self._endpoints.pop(0), self._sql)
        self._stream = stream
        self.schema = stream.schema
        # the server goes on for as long as nobody says that the rows are not wanted
        self._drop = weakref.finalize(self, stream.cancel)

    def _read(self, stream: flight.FlightStreamReader) -> pa.RecordBatch | None:
        try:
            with self._calls.errors(self._sql):
                return self._calls.wait(lambda: _next_batch(stream), stream.cancel)
        except BaseException:
            self.close()
            raise


def _next_batch(stream: flight.FlightStreamReader) -> pa.RecordBatch | None:
    try:
        while (batch := stream.read_chunk().data) is None:
            pass  # metadata alone
    except StopIteration:
        return None
    return batch


def _nothing() -> None:
    """Do nothing: there is no stream."""


def _rows_of(batch: pa.RecordBatch) -> Iterator[Row]:
    return zip(*(column.to_pylist() for column in batch.columns), strict=True)
