"""The operator that writes a job's rows out: how many tasks of it there are, and which rows each gets."""

from __future__ import annotations

from planner.carried import result_distribution
from planner.distribution import AnyDistribution, Distribution, Hash, Range, Single
from planner.placing import Placing
from planner.stream_node import (
    ORDERLESS_CONNECTORS,
    SINGLE_TASK_CONNECTORS,
    SinkTarget,
    StreamInput,
    StreamNode,
    partition_bounds,
    sink_op,
)


def sink_node(node: StreamNode, target: SinkTarget, placing: Placing) -> StreamNode:
    """Return the operator that writes the rows of `node` to `target`."""
    requires: Distribution = AnyDistribution()
    parallelism = placing.spread(node)
    ordered = node.retracting and target.connector not in ORDERLESS_CONNECTORS
    if bounds := partition_bounds(target.options):
        # equal values are in one range, so a row's changes stay in order
        requires, parallelism = Range(target.options.get("partition_by", ""), bounds), len(bounds) + 1
    elif target.connector in SINGLE_TASK_CONNECTORS or (ordered and not node.stream_key):
        requires, parallelism = Single(), 1
    elif ordered and node.stream_key:
        # the changes of a row stay in order: one writer a key, of the target's key where it has its own
        key = tuple(k.strip() for k in target.options.get("primary_key", "").split(",") if k.strip())
        names = {f.name for f in node.schema}
        requires = Hash(key if key and names.issuperset(key) else node.stream_key)
    return StreamNode(
        sink_op(node, target),
        (StreamInput(node, requires),),
        node.schema,
        node.changelog,
        node.stream_key,
        Single() if parallelism == 1 else result_distribution(requires, placing.after_any(node), parallelism),
        parallelism,
    )
