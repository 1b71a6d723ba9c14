"""Rankings of which only the first rows of each partition are asked for: what to keep of input that only grows."""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp

from planner.expressions import conjunction, conjuncts, fields_read
from planner.keyed_sql import ranking_order
from planner.logical import LogicalNode, OrderBy, Over, Project, schema_of
from planner.render import as_declared, render
from planner.stream_node import column_specs
from planner.task_spec import BestRowsOp, SortKey, TopNOp
from planner.tree import children, unique_nodes
from sabot.schema import Schema

_RANKINGS = ("row_number", "rank", "dense_rank")
"""A row more never lowers a row's place by these, so what is beyond the limit once never comes back."""
_MOST_ROWS = 10_000


@dataclass(frozen=True)
class TopN:
    """The first `limit` places of each partition by `function` in the `order`; `rest` is what else is asked."""

    function: str
    order: tuple[OrderBy, ...]
    limit: int
    place: str
    rest: exp.Expression | None

    def stream_key(self, partition: tuple[str, ...], *, shown: bool) -> tuple[str, ...] | None:
        """Return what identifies a ranked row by its place, if that does."""
        if self.function != "row_number" or not (shown or self.limit == 1):
            return None
        return partition if self.limit == 1 else (*partition, self.place)


def top_n(node: Over) -> TopN | None:
    """Return `node` as a ranking with a limit, or None where it is more than that."""
    if len(node.calls) != 1 or node.condition is None:
        return None
    (over,) = node.calls
    call = over.call
    if call.function not in _RANKINGS or call.filter is not None or call.argument is not None:
        return None
    limits, rest = [], []
    for predicate in conjuncts(node.condition):
        limit = _limit(predicate, over.name)
        if limit is None:
            rest.append(predicate)
        else:
            limits.append(limit)
    # a great limit keeps nearly everything: the rows themselves are kept no worse by the operator that recomputes
    if not limits or min(limits) > _MOST_ROWS:
        return None
    limit = max(min(limits), 0)
    return TopN(call.function, ranking_order(node, over), limit, over.name, conjunction(rest) if rest else None)


def place_is_read(root: LogicalNode, node: Over, ranking: TopN) -> bool:
    """Whether anything above `node`, or its own condition beside the limit, reads the place of a row."""
    if ranking.rest is not None and ranking.place in fields_read(ranking.rest):
        return True
    consumers = [n for n in unique_nodes(root) if node in children(n)]
    return not consumers or any(
        not isinstance(n, Project) or any(ranking.place in fields_read(e.expr) for e in n.exprs) for n in consumers
    )


def top_n_op(node: Over, ranking: TopN, *, shown: bool) -> tuple[TopNOp, Schema]:
    """Return the operator that keeps the best rows of `node`, and its fields: with the place if that is `shown`."""
    fields = tuple(f for f in schema_of(node) if shown or f.name != ranking.place)
    op = TopNOp(
        column_specs(schema_of(node.input)),
        node.partition,
        ranking.function,
        tuple(map(_sort_key, ranking.order)),
        ranking.limit,
        column_specs(fields),
        place=ranking.place if shown else None,
        condition_sql=render(as_declared(ranking.rest, fields)) if ranking.rest is not None else None,
    )
    return op, fields


def best_rows_op(node: Over, ranking: TopN) -> BestRowsOp | None:
    """Return what leaves rows out before they are ranked, or None where their order does not say which."""
    if not ranking.order or not ranking.limit or (ranking.function == "dense_rank" and ranking.limit > 1):
        return None
    columns = column_specs(schema_of(node.input))
    return BestRowsOp(columns, node.partition, _sort_key(ranking.order[0]), ranking.limit)


def _sort_key(order: OrderBy) -> SortKey:
    return SortKey(order.field, order.descending, order.nulls_first)


def _limit(predicate: exp.Expression, place: str) -> int | None:
    """Return n of ``place <= n``, ``place < n + 1`` or ``place = 1``."""
    bound = predicate.unnest()
    if isinstance(bound, exp.LTE | exp.LT | exp.EQ):
        left, right = bound.left.unnest(), bound.right.unnest()
    elif isinstance(bound, exp.GTE | exp.GT):
        left, right = bound.right.unnest(), bound.left.unnest()
    else:
        return None
    if isinstance(bound, exp.EQ) and isinstance(left, exp.Literal):
        left, right = right, left
    if not isinstance(left, exp.Column) or left.name != place or not isinstance(right, exp.Literal):
        return None
    if right.is_string or not right.name.isdigit():
        return None
    n = int(right.name)
    if isinstance(bound, exp.EQ):
        return 1 if n == 1 else None
    return n - 1 if isinstance(bound, exp.LT | exp.GT) else n
