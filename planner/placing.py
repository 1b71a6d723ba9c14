"""Where the rows of an operator go: how many tasks it has, and what it requires of its inputs."""

from __future__ import annotations

from dataclasses import dataclass

from planner.distribution import AnyDistribution, Broadcast, Distribution, Hash, Single
from planner.estimates import broadcast_side
from planner.logical import Join, JoinKind, Scan
from planner.stream_node import StreamNode
from planner.tree import unique_nodes

Needs = tuple[Distribution, Distribution, int]
"""What a join requires of its left and right side, and its parallelism."""


@dataclass(frozen=True)
class Placing:
    """What is the same for all operators of a job.

    Parameters
    ----------
    parallelism : int
        Tasks of every operator that can be spread.
    given : bool
        The inputs are another plan's operators: keyed work has `parallelism` tasks then, whatever its input has.
    asked_broadcast : str, optional
        Of these inputs, the one that goes to every task of a join.
    """

    parallelism: int
    given: bool = False
    asked_broadcast: str | None = None

    def spread(self, node: StreamNode) -> int:
        """Return the parallelism of work on the rows of `node`: a pinned task only reads or writes."""
        return self.parallelism if node.pinned else node.parallelism

    def after_any(self, node: StreamNode) -> Distribution:
        """Return how the rows of `node` lie in an operator that takes them as they come."""
        if self.spread(node) == 1:
            return Single()
        return node.distribution if self.spread(node) == node.parallelism else AnyDistribution()

    def keyed(self, keys: tuple[str, ...], provided: Distribution, parallelism: int) -> tuple[Distribution, int]:
        """Return what grouping by `keys` requires, and its parallelism."""
        if not keys:
            return Single(), 1
        return Hash(keys), 1 if isinstance(provided, Single) and not self.given else parallelism

    def co_partition(self, node: Join, left: StreamNode, right: StreamNode) -> Needs:
        """Return what a join requires of its sides: the same key columns of each, in the same order."""
        in_one = left.distribution == right.distribution == Single() and not (left.pinned or right.pinned)
        if in_one and not self.given:
            return Single(), Single(), 1
        pairs = list(zip(node.left_keys, node.right_keys, strict=True))
        if node.kind is not JoinKind.INNER and not pairs:
            # a row without a partner is known as such only where all of the other side is
            if node.kind is JoinKind.FULL:
                return Single(), Single(), 1
            return self._with_broadcast(0 if node.kind is JoinKind.RIGHT else 1, left, right)
        for side, child in enumerate((node.left, node.right) if node.kind is JoinKind.INNER else ()):
            if {n.relation.name for n in unique_nodes(child) if isinstance(n, Scan)} == {self.asked_broadcast}:
                return self._with_broadcast(side, left, right)
        if not pairs:
            return self._with_broadcast(broadcast_side(node, keyed=False) or 0, left, right)
        for side, stream in enumerate((left, right)):
            if stream.pinned or stream.parallelism != self.parallelism or not isinstance(stream.distribution, Hash):
                continue
            # already partitioned by some of the join's keys: the other side follows
            for keys in stream.distribution.alternatives():
                chosen = [next((p for p in pairs if p[side] == k), None) for k in keys]
                if keys and all(p is not None for p in chosen):
                    kept = [p for p in chosen if p is not None]
                    return (
                        Hash(tuple(p[0] for p in kept), exact=True),
                        Hash(tuple(p[1] for p in kept), exact=True),
                        self.parallelism,
                    )
        inner = node.kind is JoinKind.INNER
        small = broadcast_side(node, keyed=True) if inner and not self.given else None
        if small is not None and self.spread(left if small else right) > 1:
            return self._with_broadcast(small, left, right)
        return Hash(node.left_keys, exact=True), Hash(node.right_keys, exact=True), self.parallelism

    def _with_broadcast(self, side: int, left: StreamNode, right: StreamNode) -> Needs:
        """Return what a join requires one side of which goes to every task of the other."""
        kept = left if side else right
        parallelism = self.parallelism if self.given else self.spread(kept)
        if parallelism == 1:
            return Single(), Single(), 1
        need: Distribution = AnyDistribution()
        if kept.retracting and not isinstance(self.after_any(kept), Hash):
            # a row and its retraction meet in one task's state
            need = Hash(kept.stream_key or tuple(f.name for f in kept.schema))
        return (need, Broadcast(), parallelism) if side else (Broadcast(), need, parallelism)
