"""Rewrites a logical plan by rules that keep its meaning; after each the schema is checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from planner.logical import LogicalNode, schema_of
from planner.rules.align_join_keys import align_join_keys
from planner.rules.cast_before_joins import cast_before_joins
from planner.rules.fold_constants import fold_constants
from planner.rules.merge_projects import merge_projects
from planner.rules.prune_columns import prune_columns
from planner.rules.push_filters import push_filters
from planner.rules.rank_own_extreme import rank_own_extreme
from planner.rules.split_clock_filters import split_clock_filters
from planner.rules.unify_scans import unify_scans
from sabot.errors import PlanError

Rule: TypeAlias = Callable[[LogicalNode], LogicalNode]

RULES: tuple[Rule, ...] = (
    unify_scans,
    align_join_keys,
    fold_constants,
    push_filters,
    merge_projects,
    rank_own_extreme,
    cast_before_joins,
    prune_columns,
    merge_projects,
    split_clock_filters,
)


def optimize(root: LogicalNode, rules: tuple[Rule, ...] = RULES) -> LogicalNode:
    """Return an equivalent plan with the same output fields.

    Raises
    ------
    PlanError
        If a rule changed the output's names or types; it is named.
    """
    expected = schema_of(root)
    for rule in rules:
        root = rule(root)
        got = schema_of(root)
        if got != expected:
            wrong = next((g for g, e in zip(got, expected, strict=False) if g != e), None)
            msg = f"rule {getattr(rule, '__name__', rule)!r} changed the plan's columns at {wrong!r}"
            raise PlanError(msg, hint="this is a bug of the planner, not of the query")
    return root
