"""Builds logical plans by hand: expressions are DuckDB SQL over the input's fields."""

from __future__ import annotations

import re

import sqlglot
from sqlglot import exp

from planner.logical import (
    AggCall,
    Aggregate,
    Filter,
    Join,
    LogicalNode,
    NamedExpr,
    Project,
    Relation,
    RelationKind,
    Scan,
    Watermark,
    Window,
    WindowKind,
    schema_of,
)
from sabot.schema import Field, struct_fields


def expr(text: str) -> exp.Expression:
    parsed = sqlglot.parse_one(text, read="duckdb")
    assert isinstance(parsed, exp.Expression)

    # in a plan a dotted name is a struct's field, never a table's column
    def dots(node: exp.Expression) -> exp.Expression:
        if not isinstance(node, exp.Column) or len(node.parts) == 1:
            return node
        result: exp.Expression = exp.Column(this=node.parts[0])
        for part in node.parts[1:]:
            result = exp.Dot(this=result, expression=part)
        return result

    parsed = parsed.transform(dots)
    for identifier in parsed.find_all(exp.Identifier):
        identifier.set("quoted", True)
    return parsed


def fields(text: str) -> tuple[Field, ...]:
    """``a BIGINT, b STRUCT(x BIGINT, y VARCHAR)`` as fields."""
    columns = struct_fields(f"STRUCT({text})")
    return tuple(Field(name, type_text) for name, type_text in columns)


def source(name: str, columns: str, watermark: str | None = None, **more: object) -> Relation:
    mark = Watermark(watermark, f"\"{watermark}\" - INTERVAL '4 seconds'") if watermark else None
    options = {"connector": "blackhole", "format": "json"} | more
    return Relation(name, RelationKind.SOURCE, fields(columns), True, watermark=mark, **options)  # type: ignore[arg-type]


def table(name: str, columns: str, key: tuple[str, ...] = (), *, append_only: bool = False) -> Relation:
    return Relation(name, RelationKind.TABLE, fields(columns), append_only, key)


def scan(relation: Relation) -> Scan:
    return Scan(relation, relation.schema)


def project(node: LogicalNode, *items: str) -> Project:
    """Items are ``name`` (passed on), ``name: TYPE = expression``, or ``new = old`` (renamed)."""
    types = {f.name: f.type for f in schema_of(node)}
    exprs = []
    for item in items:
        if match := re.fullmatch(r"(\w+)\s*:\s*(.+?)\s+=\s+(.+)", item):
            exprs.append(NamedExpr(match[1], expr(match[3]), match[2]))
        else:
            name, _, old = (part.strip() for part in item.partition("="))
            exprs.append(NamedExpr(name, expr(old or name), types[old or name]))
    return Project(node, tuple(exprs))


def where(node: LogicalNode, predicate: str) -> Filter:
    return Filter(node, expr(predicate))


def tumble(node: LogicalNode, time: str, seconds: float, offset_us: int = 0) -> Window:
    size = int(seconds * 1_000_000)
    return Window(node, WindowKind.TUMBLE, time, size, size, offset_us)


def hop(node: LogicalNode, time: str, size: float, slide: float) -> Window:
    return Window(node, WindowKind.HOP, time, int(size * 1_000_000), int(slide * 1_000_000))


def group(node: LogicalNode, keys: str, *calls: str) -> Aggregate:
    """Calls are ``name = count(*)``, ``name = sum(distinct x) filter f``."""
    types = {f.name: f.type for f in schema_of(node)}
    made = []
    for call in calls:
        match = re.fullmatch(r"(\w+) = (\w+)\((distinct )?(\*|\w+)\)(?: filter (\w+))?", call)
        assert match is not None, call
        argument = None if match[4] == "*" else match[4]
        made.append(
            AggCall(
                match[1],
                match[2],
                argument,
                _result_type(match[2], types.get(argument or "")),
                bool(match[3]),
                match[5],
            )
        )
    return Aggregate(node, tuple(k.strip() for k in keys.split(",") if k.strip()), tuple(made))


def _result_type(function: str, argument: str | None) -> str:
    if function == "count":
        return "BIGINT"
    if function == "avg":
        return "DOUBLE"
    if function in ("min", "max"):
        return str(argument)
    if argument in ("DOUBLE", "FLOAT"):
        return "DOUBLE"
    scale = match[1] if (match := re.fullmatch(r"DECIMAL\(\d+,(\d+)\)", str(argument))) else "0"
    return f"DECIMAL(38,{scale})"


def join(left: LogicalNode, right: LogicalNode, on: str, residual: str | None = None) -> Join:
    """`on` is ``a = b, c = d``: left field = right field."""
    pairs = [tuple(p.strip() for p in pair.split("=")) for pair in on.split(",") if pair.strip()]
    return Join(
        left, right, tuple(p[0] for p in pairs), tuple(p[1] for p in pairs), expr(residual) if residual else None
    )
