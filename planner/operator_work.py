"""What an operator of a hand-written graph does: plain data, as it travels to the daemon."""

from __future__ import annotations

from typing import TypeAlias

import msgspec


class SqlWork(msgspec.Struct, frozen=True, tag="sql", forbid_unknown_fields=True):
    """A query over the table ``input`` (``input_1`` for a second input), or the short form of the operator's type."""

    sql: str


class PythonWork(msgspec.Struct, frozen=True, tag="python", forbid_unknown_fields=True):
    """A function from RecordBatch to RecordBatch, or an object with `process` and perhaps `barrier`.

    Either `path`, ``module:qualname`` to be imported by the agents, or `pickled`. `columns` are what it returns.
    With `changes` it takes and returns the column ``__weight`` too.
    """

    columns: dict[str, str]
    path: str = ""
    pickled: bytes = b""
    changes: bool = False


class ConnectorWork(msgspec.Struct, frozen=True, tag="connector", forbid_unknown_fields=True):
    """A connector to read from (with `columns`, unless it has its own) or to write to."""

    connector: str
    options: dict[str, str] = {}
    format: str | None = None
    columns: dict[str, str] = {}


class RelationWork(msgspec.Struct, frozen=True, tag="relation", forbid_unknown_fields=True):
    """Reads a source, table or view that the catalog has."""

    relation: str


Work: TypeAlias = SqlWork | PythonWork | ConnectorWork | RelationWork
