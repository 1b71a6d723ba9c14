"""The streaming operators of joins by time: with the right side as of a row's arrival, and with the nearest row."""

from __future__ import annotations

from planner.changelog import Changelog
from planner.distribution import AnyDistribution, Distribution, Hash, Single
from planner.keyed_sql import asof_sql
from planner.logical import Join, JoinKind, schema_of
from planner.placing import Needs
from planner.render import as_declared, render
from planner.stream_node import StreamInput, StreamNode, column_specs
from planner.task_spec import RecomputeOp, TemporalJoinOp


def temporal_join(node: Join, left: StreamNode, right: StreamNode, needs: Needs, ttl_us: int | None) -> StreamNode:
    """Return the operator that joins each left row with the right side as it is when the row comes."""
    fields = schema_of(node)
    op = TemporalJoinOp(
        column_specs(left.schema),
        column_specs(right.schema),
        node.left_keys,
        node.right_keys,
        (left.retracting, right.retracting),
        column_specs(fields),
        outer=node.kind is JoinKind.LEFT,
        residual_sql=render(as_declared(node.residual, fields)) if node.residual is not None else None,
        ttl_us=ttl_us,
    )
    # what the right side identifies by the keys is one row at most
    one = right.stream_key is not None and set(right.stream_key) <= set(node.right_keys)
    return StreamNode(
        op,
        (StreamInput(left, needs[0]), StreamInput(right, needs[1])),
        fields,
        Changelog.RETRACT if left.retracting else Changelog.APPEND_ONLY,
        left.stream_key if one else None,
        _by_the_left(needs),
        needs[2],
        stateful=True,
    )


def asof_join(node: Join, left: StreamNode, right: StreamNode, needs: Needs, ttl_us: int | None) -> StreamNode:
    """Return the operator that joins each left row with the nearest of the right: the keys that change anew."""
    fields = schema_of(node)
    return StreamNode(
        RecomputeOp(
            (column_specs(left.schema), column_specs(right.schema)),
            (node.left_keys, node.right_keys),
            asof_sql(node),
            column_specs(fields),
            ttl_us=ttl_us,
        ),
        (StreamInput(left, needs[0]), StreamInput(right, needs[1])),
        fields,
        Changelog.RETRACT,
        left.stream_key,
        _by_the_left(needs),
        needs[2],
        stateful=True,
    )


def _by_the_left(needs: Needs) -> Distribution:
    need, _, parallelism = needs
    if parallelism == 1:
        return Single()
    return Hash(need.keys) if isinstance(need, Hash) else AnyDistribution()
