"""A session's transaction: READ ONLY holds one moment of all relations; READ WRITE only marks statements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from sabot.errors import SqlError
from sabotd.catalog_store import CatalogStore
from sql_frontend.statements import (
    CreateFunction,
    CreateJob,
    CreateSchema,
    CreateSink,
    CreateSource,
    CreateTable,
    CreateView,
    Delete,
    Drop,
    Insert,
    Rename,
    Statement,
    Update,
)

_MARKED_ONLY = "each statement commits by itself; ROLLBACK cannot undo them"

_CREATES = CreateSource | CreateTable | CreateView | CreateSink | CreateJob | CreateFunction


@dataclass
class Transaction:
    """What lies between BEGIN and COMMIT.

    `snapshot` is the connection whose reads all see the moment of BEGIN; None in a READ WRITE transaction.
    """

    snapshot: duckdb.DuckDBPyConnection | None
    wrote: bool = False

    @classmethod
    def begin(cls, connection: duckdb.DuckDBPyConnection | None) -> tuple[Transaction, Sequence[str]]:
        """Open a transaction (READ ONLY with a connection); return it and notices."""
        if connection is None:
            return cls(None), [_MARKED_ONLY]
        connection.execute("BEGIN")
        # each database's part of the snapshot is fixed by its first read, of its catalog too
        connection.execute("SELECT count(*) FROM duckdb_tables()").fetchall()
        return cls(connection), []

    def admit(self, statement: Statement, catalog: CatalogStore) -> None:
        """Refuse what a READ ONLY transaction may not do."""
        if not isinstance(statement, _CREATES | Insert | Update | Delete | Drop | Rename | CreateSchema):
            return
        if self.snapshot is None:
            self.wrote = True
            return
        if isinstance(statement, _CREATES) and statement.if_not_exists and catalog.get(statement.name) is not None:
            return
        msg = f"cannot execute {statement.text.split()[0].upper()} in a read-only transaction"
        raise SqlError(msg, hint="COMMIT first", sqlstate="25006", text=statement.text)

    def end(self, *, commit: bool, text: str) -> None:
        """Close it."""
        if self.snapshot is not None:
            self.snapshot.close()
        elif self.wrote and not commit:
            msg = "what the transaction wrote cannot be undone: each statement committed by itself"
            raise SqlError(msg, sqlstate="0A000", text=text)
