"""A shuffle edge as the shuffle needs it: who writes to whom, and how rows choose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from cython_shuffle.partitioner import (
    DEFAULT_MAX_PARALLELISM,
    BatchPartitioner,
    BroadcastPartitioner,
    Partitioner,
    RebalancePartitioner,
)
from cython_shuffle.placed import CustomPartitioner, RangePartitioner
from sabot.errors import ShuffleError


@dataclass(frozen=True, slots=True)
class ShuffleEdgeInfo:
    """What makes an edge; the same on every agent.

    Parameters
    ----------
    kind : str
        FORWARD, HASH (by `keys`; without keys to the first task), BROADCAST, REBALANCE, RANGE or CUSTOM.
    keys : tuple of str
        Of HASH, and the one column of RANGE.
    upstream, downstream : tuple of str
        Task ids, in the order of their indices.
    bounds : tuple of pa.Scalar
        Of RANGE: the least key of every downstream task but the first; see `RangePartitioner`.
    partition : callable, optional
        Of CUSTOM: from a batch to one partition number a row; see `CustomPartitioner`.
    """

    edge_id: str
    kind: str
    keys: tuple[str, ...]
    schema: pa.Schema
    upstream: tuple[str, ...]
    downstream: tuple[str, ...]
    max_parallelism: int = DEFAULT_MAX_PARALLELISM
    bounds: tuple[pa.Scalar[Any], ...] = ()
    partition: Callable[[pa.RecordBatch], Any] | None = field(default=None, compare=False)


class Edge:
    """A checked edge.

    Raises
    ------
    ShuffleError
        If the kind is not known, a FORWARD's sides differ in size, a side is empty, or a key cannot be used.
    """

    def __init__(self, info: ShuffleEdgeInfo) -> None:
        self.info = info
        if not info.upstream or not info.downstream:
            raise ShuffleError(f"edge {info.edge_id!r} has no tasks on one side")
        if info.kind == "FORWARD" and len(info.upstream) != len(info.downstream):
            raise ShuffleError(
                f"FORWARD edge {info.edge_id!r} joins {len(info.upstream)} tasks to {len(info.downstream)}"
            )
        self.partitioner(0)

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Give the (upstream, downstream) task of every channel."""
        if self.info.kind == "FORWARD":
            yield from zip(self.info.upstream, self.info.downstream, strict=True)
            return
        for up in self.info.upstream:
            for down in self.info.downstream:
                yield up, down

    def partitioner(self, upstream_index: int) -> BatchPartitioner:
        """Make the partitioner of one upstream task, whose parts are in the order of its channels."""
        info = self.info
        match info.kind:
            case "FORWARD":
                return BroadcastPartitioner(1)
            case "BROADCAST":
                return BroadcastPartitioner(len(info.downstream))
            case "REBALANCE":
                # writers start at different tasks, else the first gets every writer's surplus
                return RebalancePartitioner(len(info.downstream), upstream_index)
            case "HASH":
                return Partitioner(info.schema, info.keys, len(info.downstream), info.max_parallelism)
            case "RANGE":
                if len(info.keys) != 1:
                    raise ShuffleError(f"RANGE edge {info.edge_id!r} has {len(info.keys)} keys", hint="give one column")
                return RangePartitioner(info.schema, info.keys[0], info.bounds, len(info.downstream))
            case "CUSTOM":
                if info.partition is None:
                    raise ShuffleError(f"CUSTOM edge {info.edge_id!r} has no function", hint="give `partition`")
                return CustomPartitioner(info.schema, info.partition, len(info.downstream), f"edge {info.edge_id!r}")
        raise ShuffleError(
            f"edge {info.edge_id!r} is of kind {info.kind!r}",
            hint="use FORWARD, HASH, BROADCAST, REBALANCE, RANGE or CUSTOM",
        )
