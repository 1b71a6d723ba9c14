"""The streaming operators of joins: of both sides' changes, by keys made anew, and of windows that have closed."""

from __future__ import annotations

from planner.changelog import Changelog
from planner.closing_plan import closed_windows, joined_distribution
from planner.distribution import Broadcast, Distribution, Hash, Single
from planner.keyed_sql import join_sql
from planner.logical import Join, JoinKind, schema_of
from planner.placing import Placing
from planner.render import as_declared, render
from planner.stream_node import StreamInput, StreamNode, column_specs
from planner.task_spec import JoinOp, RecomputeOp


def inner_join(node: Join, left: StreamNode, right: StreamNode, placing: Placing, ttl_us: int | None) -> StreamNode:
    """Return the operator of an inner join: the changes of each side with what the other has."""
    fields = schema_of(node)
    need_left, need_right, parallelism = placing.co_partition(node, left, right)
    retracting = left.retracting or right.retracting
    key = None if left.stream_key is None or right.stream_key is None else left.stream_key + right.stream_key
    distribution: Distribution = Single()
    if parallelism > 1 and isinstance(need_left, Hash) and isinstance(need_right, Hash):
        distribution = Hash(need_left.keys, also=(need_right.keys,))
    elif parallelism > 1:
        kept, need = (right, need_right) if isinstance(need_left, Broadcast) else (left, need_left)
        distribution = Hash(need.keys) if isinstance(need, Hash) else placing.after_any(kept)
    op = JoinOp(
        column_specs(left.schema),
        column_specs(right.schema),
        node.left_keys,
        node.right_keys,
        (left.retracting, right.retracting),
        column_specs(fields),
        residual_sql=render(as_declared(node.residual, fields)) if node.residual is not None else None,
        expires=_expires(node, left, right),
        ttl_us=ttl_us,
        null_safe=node.null_safe,
    )
    return StreamNode(
        op,
        (StreamInput(left, need_left), StreamInput(right, need_right)),
        fields,
        Changelog.RETRACT if retracting else Changelog.APPEND_ONLY,
        key,
        distribution,
        parallelism,
        stateful=True,
    )


def closed_join(node: Join, left: StreamNode, right: StreamNode, placing: Placing) -> StreamNode:
    """Return the operator of a join of windows that is made once they have closed."""
    assert node.close_columns is not None
    need_left, need_right, parallelism = placing.co_partition(node, left, right)
    key = None if left.stream_key is None or right.stream_key is None else left.stream_key + right.stream_key
    if node.kind is not JoinKind.INNER:
        key = left.stream_key if node.kind in (JoinKind.SEMI, JoinKind.ANTI) else None
    given = (StreamInput(left, need_left), StreamInput(right, need_right))
    distribution = joined_distribution(node, need_left, need_right, parallelism)
    return closed_windows(given, node.close_columns, join_sql(node), schema_of(node), key, distribution, parallelism)


def keyed_join(node: Join, left: StreamNode, right: StreamNode, placing: Placing, ttl_us: int | None) -> StreamNode:
    """Return the operator of an outer, semi or anti join: the keys that change are joined anew."""
    fields = schema_of(node)
    need_left, need_right, parallelism = placing.co_partition(node, left, right)
    distribution = joined_distribution(node, need_left, need_right, parallelism)
    return StreamNode(
        RecomputeOp(
            (column_specs(left.schema), column_specs(right.schema)),
            (node.left_keys, node.right_keys),
            join_sql(node),
            column_specs(fields),
            expires=_expires(node, left, right),
            ttl_us=ttl_us,
        ),
        (StreamInput(left, need_left), StreamInput(right, need_right)),
        fields,
        Changelog.RETRACT,
        left.stream_key if node.kind in (JoinKind.SEMI, JoinKind.ANTI) else None,
        distribution,
        parallelism,
        stateful=True,
    )


def _expires(node: Join, left: StreamNode, right: StreamNode) -> tuple[tuple[str, int], ...]:
    # a row that may be taken back is needed for that
    return () if node.expiry is None or left.retracting or right.retracting else node.expiry
