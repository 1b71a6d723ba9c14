"""The streaming operator of windows that show once what is said of them: planned alike for groups, joins and OVER."""

from __future__ import annotations

from planner.carried import StreamKey
from planner.changelog import Changelog
from planner.closing_over import closing_over_sql
from planner.distribution import AnyDistribution, Distribution, Hash, Single
from planner.logical import Join, JoinKind, Over, schema_of
from planner.stream_node import StreamInput, StreamNode, column_specs
from planner.task_spec import CloseOverOp, CloseRecomputeOp
from sabot.errors import SqlError
from sabot.schema import Schema


def joined_distribution(
    node: Join, need_left: Distribution, need_right: Distribution, parallelism: int
) -> Distribution:
    """Return how the rows of a join lie that is made key by key."""
    if parallelism == 1:
        return Single()
    if isinstance(need_left, Hash) and isinstance(need_right, Hash):
        if node.kind is JoinKind.INNER:
            return Hash(need_left.keys, also=(need_right.keys,))
        if node.kind in (JoinKind.LEFT, JoinKind.SEMI, JoinKind.ANTI):
            return Hash(need_left.keys)
        if node.kind is JoinKind.RIGHT:
            return Hash(need_right.keys)
    return AnyDistribution()


def closed_windows(
    given: tuple[StreamInput, ...],
    close_columns: tuple[str, ...],
    sql: str,
    fields: Schema,
    key: StreamKey,
    distribution: Distribution,
    parallelism: int,
    *,
    ordered: bool = False,
) -> StreamNode:
    """Return what says `sql` of the rows of windows once they have closed."""
    op = CloseRecomputeOp(
        tuple(column_specs(i.node.schema) for i in given),
        close_columns,
        tuple(i.node.retracting for i in given),
        sql,
        column_specs(fields),
        ordered=ordered,
    )
    return StreamNode(op, given, fields, Changelog.APPEND_ONLY, key, distribution, parallelism, stateful=True)


def told_in_turn(
    node: Over, time: str, given: tuple[StreamInput], distribution: Distribution, parallelism: int
) -> StreamNode:
    """Return what tells the rows of `node` in the order of `time`.

    Raises
    ------
    SqlError
        Rows may be taken back: what has been told of others cannot.
    """
    below = given[0].node
    if below.retracting:
        msg = "emit on window close of a window function needs rows that stay as they are"
        raise SqlError(msg, sqlstate="0A000", hint="leave EMIT ON WINDOW CLOSE out: the view then follows every change")
    sql, history = closing_over_sql(node)
    fields = schema_of(node)
    op = CloseOverOp(column_specs(below.schema), node.partition, time, sql, column_specs(fields), history)
    return StreamNode(
        op, given, fields, Changelog.APPEND_ONLY, below.stream_key, distribution, parallelism, stateful=True
    )
