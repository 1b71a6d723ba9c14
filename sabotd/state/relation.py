"""A stored relation: rows, log and writer's lock; a transaction over the two."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa

from sabot.schema import Schema, arrow_schema, quote
from sabotd.state.stream_log import StreamLog

LOG_ENDS = "durable.sabot.log_ends"
"""By relation: its epoch, and where its log ends with it."""


@dataclass
class StoredRelation:
    """A table or a view's rows, with what writing them needs."""

    name: str
    schema: Schema
    append_only: bool
    primary_key: tuple[str, ...]
    durable: bool
    log: StreamLog
    connection: duckdb.DuckDBPyConnection
    keeps_place: bool = False
    """Whether each change writes down where the log ends with it, so that a reader outlives a kill of this process."""
    on_conflict: str = "overwrite"
    """What an INSERT does with a row whose key is there: overwrite, ignore, or update_if_not_null."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    shown: str = ""
    """What clients call it, if that is another name by now."""
    epoch: int = 0
    live_rows: int = 0
    dead_rows: int = 0

    @property
    def path(self) -> str:
        """The qualified SQL name of the rows."""
        return f"durable.main.{quote(self.name)}" if self.durable else self.public

    @property
    def alias(self) -> str:
        """What clients call it."""
        return self.shown or self.name

    @property
    def public(self) -> str:
        """The qualified SQL name by which clients read the rows."""
        return f"memory.main.{quote(self.alias)}"

    @property
    def arrow(self) -> pa.Schema:
        """The Arrow schema of the rows, without ``__weight``."""
        return arrow_schema(self.schema)


@contextlib.contextmanager
def transaction(relation: StoredRelation, epoch: int) -> Iterator[None]:
    """Commit what the block writes and show what it prepared in the log, or neither; it makes `epoch`."""
    relation.connection.execute("BEGIN")
    try:
        yield
        if relation.keeps_place:
            relation.connection.execute(
                f"UPDATE {LOG_ENDS} SET epoch = ?, position = ? WHERE name = ?",
                [epoch, relation.log.prepared_end, relation.name],
            )
        relation.connection.execute("COMMIT")
    except BaseException:
        relation.log.forget()
        # a COMMIT that failed has rolled back by itself
        with contextlib.suppress(duckdb.TransactionException):
            relation.connection.execute("ROLLBACK")
        raise
    relation.log.publish()


def conform(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return `batch` in exactly `schema`: DuckDB's Arrow types differ in details (time zone names, JSON)."""
    if batch.schema.equals(schema):
        return batch
    arrays = []
    for column, target in zip(batch.columns, schema, strict=True):
        array = column.storage if isinstance(column, pa.ExtensionArray) else column
        arrays.append(array if array.type.equals(target.type) else array.cast(target.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
