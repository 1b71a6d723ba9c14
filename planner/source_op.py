"""What reads a source: its columns as the plan pruned them, and its watermark where the query waits for it."""

from __future__ import annotations

from planner.logical import CHANGELOG_OP, Relation, RelationKind
from planner.rules.prune_columns import watermark_columns
from planner.task_spec import ChangelogSpec, ColumnSpec, SourceOp
from sabot.errors import PlanError
from sabot.schema import Schema


def watermark_sql(relation: Relation, fields: Schema, *, watermarks: bool) -> str | None:
    """Return the watermark's expression, where the query waits for `watermarks` and its columns are read."""
    if not watermarks or relation.watermark is None:
        return None
    read = {f.name for f in fields}
    return relation.watermark.expression if set(watermark_columns(relation)) <= read else None


def source_op(relation: Relation, fields: Schema, *, watermarks: bool, judge: bool) -> SourceOp:
    """Return the operator that reads `fields` of `relation`.

    `watermarks`: whether the query waits for them; `judge`: whether each row carries the one that holds for it.
    """
    if relation.connector is None:
        msg = f"source {relation.name!r} has no connector"
        raise PlanError(msg)
    names = {f.name for f in fields}
    return SourceOp(
        relation.name,
        relation.connector,
        dict(relation.options),
        relation.format,
        # as declared: a connector reads JSON otherwise than text
        tuple(ColumnSpec(f.name, f.type) for f in fields),
        tuple(ColumnSpec(f.name, f.type) for f in relation.schema),
        watermark_sql=watermark_sql(relation, fields, watermarks=watermarks),
        judge_lateness=judge,
        include=tuple((kind, name) for kind, name in relation.include if name in names),
        changes=relation.changes,
        finite=relation.finite,
        key=relation.stream_key if relation.changes else (),
    )


def changelog_spec(relation: Relation) -> ChangelogSpec | None:
    """Return how the changes of `relation` are told as rows, if it stands for its changelog."""
    if not relation.changelog:
        return None
    key = relation.stream_key_of_rows
    return ChangelogSpec(CHANGELOG_OP, key, by_statement=relation.kind is RelationKind.TABLE and not key)
