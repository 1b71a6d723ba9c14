"""One streaming operator with what is derived of it, and where its rows end; the words of the streaming plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from planner.carried import StreamKey
from planner.changelog import Changelog, Monotone
from planner.distribution import Distribution, Single
from planner.render import motion_type
from planner.task_spec import Columns, ColumnSpec, MaterializeOp, Operator, SinkOp, TableSinkOp
from sabot.ids import WEIGHT
from sabot.schema import Schema


@dataclass(frozen=True, eq=False)
class StreamInput:
    """An operator's input, and how that operator requires its rows to lie."""

    node: StreamNode
    requires: Distribution


@dataclass(frozen=True, eq=False)
class StreamNode:
    """One streaming operator with its derived properties; compared by identity, shared by its consumers."""

    op: Operator
    inputs: tuple[StreamInput, ...]
    schema: Schema
    changelog: Changelog
    stream_key: StreamKey
    distribution: Distribution
    parallelism: int
    pinned: bool = False
    stateful: bool = False
    monotone: Monotone | None = None
    """Of a retracting stream, if its rows never go but only grow or shrink."""
    inserts_only: bool = False
    """Rows carry ``__weight``, but it is always 1: whoever reads them may leave it out."""

    @property
    def retracting(self) -> bool:
        """Whether rows carry ``__weight``."""
        return self.changelog is Changelog.RETRACT

    @property
    def columns(self) -> Columns:
        """The columns as they travel, ``__weight`` included."""
        return travelling(self.schema, weighted=self.retracting)


@dataclass(frozen=True)
class SinkTarget:
    """Where a sink writes: the connector of CREATE SINK with its options and format."""

    relation: str
    connector: str
    options: dict[str, str] = field(default_factory=dict)
    format: str | None = None


@dataclass(frozen=True)
class TableTarget:
    """The table that a sink writes into. `rereads`: an attempt of its job gives all rows again."""

    relation: str
    table: str
    rereads: bool = True


SINGLE_TASK_CONNECTORS = ("file", "print")
"""Sinks whose output is one thing: written by one task."""
ORDERLESS_CONNECTORS = ("blackhole",)
"""Sinks that nobody reads the order of changes from."""


def column_specs(schema: Schema) -> Columns:
    """Return `schema` as plain columns, in the types in which they travel between tasks."""
    return tuple(ColumnSpec(f.name, motion_type(f.type)) for f in schema)


def travelling(schema: Schema, *, weighted: bool) -> Columns:
    """Return `schema` as columns between tasks, with ``__weight`` last where rows may be retracted."""
    return column_specs(schema) + ((ColumnSpec(WEIGHT, "INTEGER"),) if weighted else ())


def partition_bounds(options: Mapping[str, str]) -> tuple[str, ...]:
    """Return where the ranges of a sink that is partitioned by range begin, the first left out."""
    return tuple(b.strip() for b in options.get("partition_bounds", "").split(",") if b.strip())


def sink_op(node: StreamNode, target: SinkTarget) -> SinkOp:
    """Return what writes the rows of `node` to `target`."""
    columns = column_specs(node.schema)
    return SinkOp(target.relation, target.connector, dict(target.options), target.format, columns, node.retracting)


def table_sink(node: StreamNode, target: TableTarget, *, forgiving: bool = False) -> StreamNode:
    """Return the operator that writes the rows of `node` into a table."""
    op = TableSinkOp(
        target.relation,
        target.table,
        column_specs(node.schema),
        node.retracting,
        target.rereads,
        forgiving and node.retracting,
    )
    return replace(
        node,
        op=op,
        inputs=(StreamInput(node, Single()),),
        distribution=Single(),
        parallelism=1,
        pinned=True,
        stateful=True,
        monotone=None,
    )


def view_operator(node: StreamNode, relation: str, *, forgiving: bool = False) -> StreamNode:
    """Return the operator that keeps the rows of `node` as view `relation`."""
    return StreamNode(
        MaterializeOp(
            relation, column_specs(node.schema), node.retracting, node.stream_key or (), forgiving and node.retracting
        ),
        (StreamInput(node, Single()),),
        node.schema,
        node.changelog,
        node.stream_key,
        Single(),
        1,
        pinned=True,
        stateful=True,
    )
