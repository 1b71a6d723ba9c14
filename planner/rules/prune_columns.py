"""Keeps only what is read: columns everywhere, and fields inside STRUCT columns of sources."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeAlias

from sqlglot import exp

from planner.expressions import Path, column, paths_read, renamed_field
from planner.logical import (
    AggCall,
    Aggregate,
    Filter,
    GapFill,
    Join,
    JoinKind,
    LogicalNode,
    NamedExpr,
    Over,
    OverCall,
    Project,
    Relation,
    RelationKind,
    Scan,
    Timeline,
    Union,
    Unnest,
    Window,
    schema_of,
)
from planner.render import struct_type
from planner.tree import unique_nodes
from sabot.ids import ROW_WATERMARK
from sabot.schema import Field, struct_fields

Needs: TypeAlias = dict[str, set[Path]]
_Build: TypeAlias = Callable[[LogicalNode], LogicalNode]

_WHOLE: Path = ()
_LEFT, _RIGHT = "__left", "__right"
_CHEAP_TO_DECODE = ("BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "DOUBLE", "FLOAT", "DATE", "TIMESTAMP")


def prune_columns(root: LogicalNode) -> LogicalNode:
    """Drop fields that nothing above reads. A node with several consumers keeps what any of them reads."""
    needs: dict[LogicalNode, Needs] = {root: {f.name: {_WHOLE} for f in schema_of(root)}}
    # consumers come before their inputs, so a node's needs are complete when it is reached
    for node in unique_nodes(root):
        for kid, wanted in _input_needs(node, needs[node]):
            merged = needs.setdefault(kid, {})
            for name, paths in wanted.items():
                merged.setdefault(name, set()).update(paths)
    done: dict[LogicalNode, LogicalNode] = {}

    def build(node: LogicalNode) -> LogicalNode:
        if node not in done:
            done[node] = _rebuilt(node, needs[node], build)
        return done[node]

    return build(root)


def _whole(names: Iterable[str]) -> Needs:
    return {name: {_WHOLE} for name in names}


def _merge(into: Needs, more: Needs) -> None:
    for name, paths in more.items():
        into.setdefault(name, set()).update(paths)


def _input_needs(node: LogicalNode, needs: Needs) -> list[tuple[LogicalNode, Needs]]:
    """Return what `node`, asked for `needs`, reads from each input."""
    match node:
        case Scan():
            return []
        case Project(input=child):
            wanted: Needs = {}
            for e in _kept_exprs(node, needs):
                source = renamed_field(e.expr)
                _merge(wanted, {source: needs.get(e.name, {_WHOLE})} if source is not None else paths_read(e.expr))
            return [(child, wanted)]
        case Filter(input=child, predicate=predicate):
            wanted = {name: set(paths) for name, paths in needs.items()}
            _merge(wanted, paths_read(predicate))
            return [(child, wanted)]
        case Window(input=child):
            wanted = {k: set(v) for k, v in needs.items() if k not in (node.start_name, node.end_name)}
            _merge(wanted, _whole([node.time_column]))
            return [(child, wanted)]
        case Timeline(input=child, work=work):
            added = set() if isinstance(work, GapFill) else {work.start_name, work.end_name}
            wanted = {k: set(v) for k, v in needs.items() if k not in added}
            _merge(wanted, _whole([*node.partition, node.time_column, *([ROW_WATERMARK] if node.closing else [])]))
            return [(child, wanted)]
        case Aggregate(input=child):
            read = [n for c in _kept_calls(node, needs) for n in c.reads]
            return [(child, _whole([*node.keys, *read]))]
        case Join(left=left, right=right):
            wanted = {name: set(paths) for name, paths in needs.items()}
            if node.residual is not None:
                _merge(wanted, paths_read(node.residual))
            closes = node.close_columns or ()
            nearest = [node.asof.left, node.asof.right] if node.asof is not None else []
            expiring = [name for name, _ in node.expiry or ()]
            _merge(wanted, _whole([*node.left_keys, *node.right_keys, *nearest, *closes, *expiring]))
            of_left = {f.name for f in schema_of(left)}
            if node.kind in (JoinKind.SEMI, JoinKind.ANTI):
                of_right = {f.name for f in schema_of(right)}
                residual = paths_read(node.residual) if node.residual is not None else {}
                right_needs = {k: v for k, v in residual.items() if k in of_right and k not in of_left}
                _merge(right_needs, _whole([*node.right_keys, *closes[1:], *expiring[1:]]))
                return [(left, {k: v for k, v in wanted.items() if k in of_left}), (right, right_needs)]
            return [
                (left, {k: v for k, v in wanted.items() if k in of_left}),
                (right, {k: v for k, v in wanted.items() if k not in of_left}),
            ]
        case Over(input=child):
            kept = _kept_over(node, needs)
            added = {c.name for c in node.calls}
            wanted = {k: set(v) for k, v in needs.items() if k not in added}
            _merge(wanted, _whole([*node.partition, *(n for c in kept for n in c.call.reads)]))
            if node.condition is not None:
                _merge(wanted, {k: v for k, v in paths_read(node.condition).items() if k not in added})
            return [(child, wanted)]
        case Unnest(input=child, lists=lists):
            added = {name for _, name, _ in lists} | {node.ordinality or ""}
            wanted = {k: set(v) for k, v in needs.items() if k not in added}
            _merge(wanted, _whole([field for field, _, _ in lists]))
            return [(child, wanted)]
        case Union(inputs=inputs):
            return [(kid, _whole(_union_order(node, needs))) for kid in inputs]


def _rebuilt(node: LogicalNode, needs: Needs, build: _Build) -> LogicalNode:
    match node:
        case Scan():
            return _pruned_scan(node, needs)
        case Project(input=child):
            below = build(child)
            types = {f.name: f.type for f in schema_of(below)}
            exprs = []
            for e in _kept_exprs(node, needs):
                source = renamed_field(e.expr)
                exprs.append(replace(e, type=types[source]) if source is not None else e)
            return replace(node, input=below, exprs=tuple(exprs))
        case Over(input=child):
            ((_, wanted),) = _input_needs(node, needs)
            # rows that are alike in what is read are one row with a weight, so nothing else may stay beside
            return replace(node, input=_narrow(build(child), wanted), calls=_kept_over(node, needs))
        case Timeline(input=child, work=work):
            ((_, wanted),) = _input_needs(node, needs)
            if isinstance(work, GapFill):
                work = replace(work, fills=tuple((f, how) for f, how in work.fills if f in wanted))
            return replace(node, input=_narrow(build(child), wanted), work=work)
        case Filter(input=child) | Window(input=child) | Unnest(input=child):
            return replace(node, input=build(child))
        case Aggregate(input=child):
            return replace(node, input=build(child), calls=_kept_calls(node, needs))
        case Join(left=left, right=right):
            (_, of_left), (_, of_right) = _input_needs(node, needs)
            joined = replace(node, left=_narrow(build(left), of_left), right=_narrow(build(right), of_right))
            if node.kind is JoinKind.INNER or (schema_of(joined.left) and schema_of(joined.right)):
                return joined
            # of a global aggregate that nobody reads: that its row is there has to be kept in something
            marked = replace(joined, left=_marked(joined.left, _LEFT), right=_marked(joined.right, _RIGHT))
            return _select(marked, [f.name for f in schema_of(joined)])
        case Union(inputs=inputs):
            order = _union_order(node, needs)
            return replace(node, inputs=tuple(_select(build(kid), order) for kid in inputs))


def _marked(node: LogicalNode, name: str) -> LogicalNode:
    """Give rows without columns one of a constant."""
    return node if schema_of(node) else Project(node, (NamedExpr(name, exp.Boolean(this=True), "BOOLEAN"),))


def _kept_exprs(node: Project, needs: Needs) -> tuple[NamedExpr, ...]:
    kept = tuple(e for e in node.exprs if e.name in needs)
    # rows without columns cannot be counted, so one column stays
    return kept or node.exprs[:1]


def _kept_calls(node: Aggregate, needs: Needs) -> tuple[AggCall, ...]:
    return tuple(c for c in node.calls if c.name in needs)


def _kept_over(node: Over, needs: Needs) -> tuple[OverCall, ...]:
    read = paths_read(node.condition) if node.condition is not None else {}
    # a window without calls still filters
    return tuple(c for c in node.calls if c.name in needs or c.name in read)


def _narrow(node: LogicalNode, needs: Needs) -> LogicalNode:
    """Cut a shared input down to what this consumer reads, before it is shuffled and kept."""
    names = [f.name for f in schema_of(node) if f.name in needs]
    return _select(node, names) if names else node


def _select(node: LogicalNode, names: list[str]) -> LogicalNode:
    fields = {f.name: f for f in schema_of(node)}
    if list(fields) == names:
        return node
    return Project(node, tuple(NamedExpr(n, column(n), fields[n].type) for n in names))


def _union_order(node: Union, needs: Needs) -> list[str]:
    return [f.name for f in schema_of(node) if f.name in needs] or [schema_of(node)[0].name]


def _pruned_scan(node: Scan, needs: Needs) -> Scan:
    needs = dict(needs)
    relation = node.relation
    if any(f.name == ROW_WATERMARK for f in node.fields):
        # the watermark is computed where the rows come from, read by the query or not
        for name in watermark_columns(relation):
            needs[name] = {_WHOLE}
    if relation.changes:
        # what a change ends is found by its key
        for name in relation.stream_key:
            needs[name] = {_WHOLE}
    # the rows of a source of changes lie within records of their own
    inside = relation.kind is RelationKind.SOURCE and not relation.changes
    fields = [_pruned_field(f, needs[f.name]) if inside else f for f in node.fields if f.name in needs]
    if not fields:
        cheap = [f for f in node.fields if f.type in _CHEAP_TO_DECODE]
        fields = [(cheap or list(node.fields))[0]]
    return replace(node, fields=tuple(fields))


def _pruned_field(field: Field, paths: set[Path]) -> Field:
    return replace(field, type=_pruned_type(field.type, paths))


def _pruned_type(type_text: str, paths: set[Path]) -> str:
    """Keep of a STRUCT the fields that begin a path in `paths`; ``()`` keeps everything."""
    text = type_text.strip()
    if _WHOLE in paths or not text.upper().startswith("STRUCT(") or not text.endswith(")"):
        return type_text
    kept = []
    for name, inner in struct_fields(text):
        deeper = {path[1:] for path in paths if path[0] == name.lower()}
        if deeper:
            kept.append((name, _pruned_type(inner, deeper)))
    return struct_type(kept) if kept else type_text


def watermark_columns(relation: Relation) -> tuple[str, ...]:
    """Return the columns that the watermark's SQL reads (or may: a word in it that is a column's name)."""
    if relation.watermark is None:
        return ()
    words = {w.lower() for w in re.findall(r"\w+", relation.watermark.expression)}
    quoted = set(re.findall(r'"((?:[^"]|"")+)"', relation.watermark.expression))
    names = (f.name for f in relation.schema)
    read = tuple(n for n in names if n.lower() in words or n.replace('"', '""') in quoted)
    return tuple(dict.fromkeys((relation.watermark.column, *read)))
