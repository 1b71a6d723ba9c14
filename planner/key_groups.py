"""Key groups: the unit in which keyed rows are routed and keyed state is kept and moved."""

from __future__ import annotations

from dataclasses import dataclass


def task_of_key_group(group: int, parallelism: int, max_parallelism: int) -> int:
    """Return the index of the task that has key group `group`; the same map as the shuffle's."""
    return group * parallelism // max_parallelism


def key_group_range(index: int, parallelism: int, max_parallelism: int) -> range:
    """Return the key groups of task `index`: ranges of neighbouring tasks are adjacent, all of them cover all groups.

    Parameters
    ----------
    index : int
        0 to ``parallelism - 1``.
    parallelism : int
        1 to `max_parallelism`; so no range is empty.
    max_parallelism : int
        Key groups of the job.
    """
    # the least g with g * parallelism // max_parallelism >= index
    return range(-(-index * max_parallelism // parallelism), -(-(index + 1) * max_parallelism // parallelism))


@dataclass(frozen=True)
class KeyGroupMove:
    """Key groups ``groups`` go from task `source` to task `target` of one operator (indices, before and after)."""

    groups: range
    source: int
    target: int


def moves(before: int, after: int, max_parallelism: int) -> tuple[KeyGroupMove, ...]:
    """Return which key groups change their task when an operator goes from `before` to `after` tasks.

    In the order of the groups; what stays where it is, is left out.
    """
    found = []
    for source in range(before):
        old = key_group_range(source, before, max_parallelism)
        for target in range(after):
            new = key_group_range(target, after, max_parallelism)
            common = range(max(old.start, new.start), min(old.stop, new.stop))
            if common and source != target:
                found.append(KeyGroupMove(common, source, target))
    return tuple(found)
