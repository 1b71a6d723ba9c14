from __future__ import annotations

import pytest

from planner.logical import (
    Aggregate,
    Filter,
    Join,
    LogicalNode,
    NamedExpr,
    Over,
    Project,
    Scan,
    Union,
    Window,
    schema_of,
)
from planner.optimizer import RULES, optimize
from planner.render import motion_type, render, render_as
from planner.rules.align_join_keys import align_join_keys, common_type
from planner.rules.fold_constants import fold_constants
from planner.rules.merge_projects import merge_projects
from planner.rules.prune_columns import prune_columns, watermark_columns
from planner.rules.push_filters import push_filters
from planner.rules.rank_own_extreme import rank_own_extreme
from planner.rules.unify_scans import unify_scans
from planner.tree import consumer_counts, unique_nodes
from sabot.errors import PlanError, SqlError
from sabot.schema import Field
from tests.support.plan_builder import expr, group, hop, join, project, scan, source, table, tumble, where

ROWS = source(
    "rows", 'a BIGINT, b VARCHAR, s STRUCT(x BIGINT, y STRUCT(p BIGINT, q VARCHAR), "Z z" BIGINT), t TIMESTAMP'
)
OTHER = table("other", "c BIGINT, d VARCHAR")


def scans(node: LogicalNode) -> dict[str, tuple[Field, ...]]:
    return {n.relation.name: n.fields for n in unique_nodes(node) if isinstance(n, Scan)}


def test_only_what_is_read_is_scanned() -> None:
    pruned = prune_columns(project(where(scan(ROWS), "b = 'k'"), "a"))
    assert scans(pruned)["rows"] == (Field("a", "BIGINT"), Field("b", "VARCHAR"))


@pytest.mark.parametrize(
    ("item", "type_text"),
    [
        ("v: BIGINT = s.x", "STRUCT(x BIGINT)"),
        ("v: VARCHAR = s.y.q", "STRUCT(y STRUCT(q VARCHAR))"),
        ("v: VARCHAR = s.Y.Q", "STRUCT(y STRUCT(q VARCHAR))"),
        ("v: BIGINT = s.x + s.y.p", "STRUCT(x BIGINT, y STRUCT(p BIGINT))"),
        ('v: BIGINT = s."Z z"', 'STRUCT("Z z" BIGINT)'),
        ("v: BIGINT = struct_extract(s, 'x')", "STRUCT(x BIGINT)"),
        ("v: VARCHAR = CAST(s AS VARCHAR)", 'STRUCT(x BIGINT, y STRUCT(p BIGINT, q VARCHAR), "Z z" BIGINT)'),
        ("s", 'STRUCT(x BIGINT, y STRUCT(p BIGINT, q VARCHAR), "Z z" BIGINT)'),
    ],
)
def test_structs_are_pruned_inside(item: str, type_text: str) -> None:
    (field,) = scans(prune_columns(project(scan(ROWS), item)))["rows"]
    assert field == Field("s", type_text)


def test_a_struct_passed_on_is_pruned_by_who_reads_it() -> None:
    root = project(project(scan(ROWS), "renamed = s", "a"), "v: BIGINT = renamed.y.p")
    pruned = prune_columns(root)
    assert scans(pruned)["rows"] == (Field("s", "STRUCT(y STRUCT(p BIGINT))"),)
    assert schema_of(pruned.input) == (Field("renamed", "STRUCT(y STRUCT(p BIGINT))"),)  # type: ignore[union-attr]


def test_a_tables_structs_stay_whole() -> None:
    relation = table("facts", "s STRUCT(x BIGINT, y BIGINT)")
    assert scans(prune_columns(project(scan(relation), "v: BIGINT = s.x")))["facts"] == relation.schema


def test_counting_rows_reads_the_cheapest_column() -> None:
    assert scans(prune_columns(group(scan(source("r", "v VARCHAR, n BIGINT")), "", "c = count(*)")))["r"] == (
        Field("n", "BIGINT"),
    )


def test_calls_that_nobody_reads_are_not_computed() -> None:
    pruned = prune_columns(project(group(scan(ROWS), "b", "n = count(*)", "m = max(t)"), "n"))
    (aggregate,) = (n for n in unique_nodes(pruned) if isinstance(n, Aggregate))
    assert [c.name for c in aggregate.calls] == ["n"]
    assert [f.name for f in scans(pruned)["rows"]] == ["b"]


def test_a_shared_node_keeps_what_either_consumer_reads_and_is_cut_before_a_join() -> None:
    counts = group(scan(ROWS), "b", "n = count(*)", "m = max(a)")
    right = project(group(project(counts, "b", "m"), "b", "hi = max(m)"), "b2 = b", "hi")
    root = project(join(counts, right, "b = b2"), "b", "n", "hi")
    best = optimize(root)
    shared = [n for n, count in consumer_counts(best).items() if count > 1]
    assert [type(n) for n in shared] == [Aggregate]
    (joined,) = (n for n in unique_nodes(best) if isinstance(n, Join))
    assert [f.name for f in schema_of(joined.left)] == ["b", "n"]


def test_scans_of_a_relation_are_one() -> None:
    narrow = Scan(ROWS, ROWS.schema[:1])
    root = join(narrow, project(Scan(ROWS, ROWS.schema[1:2]), "b", "c: BIGINT = 1"), "a = c")
    unified = unify_scans(root)
    assert schema_of(unified) == schema_of(root)
    assert scans(unified)["rows"] == ROWS.schema[:2]
    assert sum(isinstance(n, Scan) for n in unique_nodes(unified)) == 1


def test_filters_reach_the_scan_through_projections_and_unions() -> None:
    one = project(scan(ROWS), "v = a", "w: VARCHAR = s.y.q")
    root = where(Union((one, project(scan(OTHER), "v = c", "w = d"))), "v > 1 AND w = 'x'")
    pushed = push_filters(root)
    assert isinstance(pushed, Union)
    filters = [render(n.predicate) for n in unique_nodes(pushed) if isinstance(n, Filter)]
    assert set(filters) == {'"a" > 1 AND ("s")."y"."q" = \'x\'', '"c" > 1 AND "d" = \'x\''} or set(filters) == {
        '"a" > 1 AND "s"."y"."q" = \'x\'',
        '"c" > 1 AND "d" = \'x\'',
    }
    assert all(isinstance(n.input, Scan) for n in unique_nodes(pushed) if isinstance(n, Filter))


def test_filters_split_over_joins_windows_and_groups() -> None:
    windowed = group(tumble(scan(ROWS), "t", 10), "b, window_end", "n = count(*)")
    root = where(
        join(windowed, scan(OTHER), "b = d"),
        "n > 1 AND b = 'x' AND c > 2 AND n < c AND window_end > TIMESTAMP '2020-01-01'",
    )
    pushed = push_filters(root)
    assert isinstance(pushed, Join)
    assert pushed.residual is not None
    assert render(pushed.residual) == '"n" < "c"'
    found = {render(n.predicate): type(n.input) for n in unique_nodes(pushed) if isinstance(n, Filter)}
    assert found == {
        '"n" > 1': Aggregate,
        "\"b\" = 'x'": Scan,
        '"c" > 2': Scan,
        "\"window_end\" > CAST('2020-01-01' AS TIMESTAMP)": Window,
    }


def test_a_filter_does_not_enter_a_node_that_others_read() -> None:
    counts = group(scan(ROWS), "b", "n = count(*)")
    root = join(where(counts, "b = 'x'"), project(counts, "b2 = b", "n2 = n"), "b = b2")
    pushed = push_filters(root)
    assert sum(isinstance(n, Aggregate) for n in unique_nodes(pushed)) == 1
    alone = push_filters(where(counts, "b = 'x'"))
    assert isinstance(alone, Aggregate)


def test_a_constant_filter_stays_above_a_global_aggregate() -> None:
    root = where(group(scan(ROWS), "", "n = count(*)"), "FALSE")
    assert isinstance(push_filters(root), Filter)


def test_costly_expressions_are_not_evaluated_twice() -> None:
    costly = project(scan(ROWS), "v: VARCHAR = regexp_replace(b, 'x', 'y')")
    assert isinstance(push_filters(where(costly, "v = 'k'")), Filter)
    twice = project(costly, "one = v", "two = v")
    assert merge_projects(twice) == twice
    once = merge_projects(project(costly, "one = v"))
    assert isinstance(once, Project)
    assert isinstance(once.input, Scan)


def test_neighbours_merge() -> None:
    root = where(where(project(project(scan(ROWS), "a", "b"), "b", "c: BIGINT = a * 2"), "c > 1 OR c < 0"), "b = 'x'")
    merged = merge_projects(root)
    assert isinstance(merged, Filter)
    assert render(merged.predicate) == '("c" > 1 OR "c" < 0) AND "b" = \'x\''
    assert isinstance(merged.input, Project)
    assert isinstance(merged.input.input, Scan)
    same = project(scan(OTHER), "c", "d")
    assert merge_projects(same) == scan(OTHER)


def test_parentheses_come_where_precedence_asks_for_them() -> None:
    inner = project(scan(ROWS), "v: BIGINT = a + 1")
    merged = merge_projects(project(inner, "w: BIGINT = v * 2", "u: BIGINT = -v"))
    assert merged == project(inner, "w: BIGINT = v * 2", "u: BIGINT = -v")
    merged = merge_projects(project(inner, "w: BIGINT = v * 2"))
    assert isinstance(merged, Project)
    assert render(merged.exprs[0].expr) == '("a" + 1) * 2'


def test_what_is_always_true_goes() -> None:
    assert fold_constants(where(scan(ROWS), "TRUE AND 1 = 1")) == scan(ROWS)
    left = fold_constants(where(scan(ROWS), "a > 1 AND (TRUE)"))
    assert isinstance(left, Filter)
    assert render(left.predicate) == '"a" > 1'
    for kept in ("FALSE", "a = a", "NULL", "1 = 2"):
        assert fold_constants(where(scan(ROWS), kept)) == where(scan(ROWS), kept)
    joined = fold_constants(join(scan(ROWS), scan(OTHER), "a = c", "TRUE"))
    assert isinstance(joined, Join)
    assert joined.residual is None


@pytest.mark.parametrize(
    ("left", "right", "common"),
    [
        ("BIGINT", "UBIGINT", "DECIMAL(38,0)"),
        ("UINTEGER", "INTEGER", "BIGINT"),
        ("INTEGER", "DECIMAL(10,2)", "DECIMAL(12,2)"),
        ("DECIMAL(38,0)", "DECIMAL(10,2)", "DECIMAL(38,2)"),
        ("BIGINT", "DOUBLE", "DOUBLE"),
        ("FLOAT", "DOUBLE", "DOUBLE"),
        ("FLOAT", "DECIMAL(4,1)", "DOUBLE"),
        ("DATE", "TIMESTAMP", "TIMESTAMP"),
        ("DATE", "TIMESTAMP_S", "TIMESTAMP"),
        ("TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "TIMESTAMP WITH TIME ZONE"),
        ("UUID", "VARCHAR", "VARCHAR"),
        ("BIGINT", "VARCHAR", None),
        ("DOUBLE", "VARCHAR", None),
        ("BLOB", "VARCHAR", None),
    ],
)
def test_common_types_of_join_keys(left: str, right: str, common: str | None) -> None:
    assert common_type(left, right) == common
    assert common_type(right, left) == common


def test_join_keys_of_one_kind_are_left_alone() -> None:
    node = join(scan(ROWS), scan(table("small", "k INTEGER")), "a = k")
    assert align_join_keys(node) == node
    with pytest.raises(SqlError, match=r"join keys 'a' \(BIGINT\) and 'd' \(VARCHAR\)"):
        align_join_keys(join(scan(ROWS), scan(OTHER), "a = d"))


def test_a_rule_that_changes_the_columns_is_named() -> None:
    def lose(node: LogicalNode) -> LogicalNode:
        return project(node, "a", "b")

    with pytest.raises(PlanError, match="rule 'lose' changed the plan's columns"):
        optimize(scan(ROWS), (*RULES, lose))


def test_watermark_columns_are_found_in_its_text() -> None:
    relation = source("r", "t TIMESTAMP, delay BIGINT, other BIGINT", watermark="t")
    assert watermark_columns(relation) == ("t",)
    assert watermark_columns(ROWS) == ()


def test_division_is_rendered_plain() -> None:
    divided = expr("a / b")
    divided.set("typed", True)
    divided.set("safe", True)
    assert render(divided) == '"a" / "b"'
    assert render_as(divided, "BIGINT") == 'CAST("a" / "b" AS BIGINT)'
    assert render_as(expr("CAST(a AS DECIMAL(10, 2))"), "DECIMAL(10,2)") == 'CAST("a" AS DECIMAL(10, 2))'
    assert render_as(expr("CAST(a AS INT)"), "INTEGER") == 'CAST("a" AS INT)'
    assert render_as(expr("a > 1"), "BOOLEAN") == '"a" > 1'
    assert render(expr("((s)).x + ((1))")) == '("s")."x" + 1'


@pytest.mark.parametrize(
    ("given", "travels"),
    [
        ("HUGEINT", "DECIMAL(38,0)"),
        ("JSON", "VARCHAR"),
        ("UUID[]", "VARCHAR[]"),
        ("STRUCT(a UUID, b HUGEINT[2])", "STRUCT(a VARCHAR, b DECIMAL(38,0)[2])"),
        ("ENUM('x', 'y')", "VARCHAR"),
        ('"NULL"', "INTEGER"),
        ("BIGINT", "BIGINT"),
    ],
)
def test_types_between_tasks(given: str, travels: str) -> None:
    assert motion_type(given) == travels


def test_hop_over_a_filter_pushes_nothing_past_its_window() -> None:
    root = where(hop(scan(ROWS), "t", 10, 5), "window_start < t AND a > 1")
    pushed = push_filters(root)
    assert isinstance(pushed, Filter)
    assert render(pushed.predicate) == '"window_start" < "t"'
    assert isinstance(pushed.input, Window)
    assert NamedExpr("a", expr("a"), "BIGINT") == NamedExpr("a", expr("a"), "BIGINT")


def best_of(rows: LogicalNode, of: LogicalNode, on: str, residual: str = "", call: str = "m = max(a)") -> LogicalNode:
    best = project(group(of, "b", call), "key = b", "m")
    return rank_own_extreme(join(rows, best, on, residual))


def test_rows_with_their_own_maximum_are_ranked() -> None:
    ranked = best_of(scan(ROWS), project(scan(ROWS), "b", "a"), "a = m, b = key")
    assert isinstance(ranked, Project)
    over = ranked.input
    assert isinstance(over, Over)
    assert over.partition == ("b",)
    assert [(o.field, o.descending) for o in over.calls[0].call.order] == [("a", True)]
    assert {f.name for f in schema_of(ranked)} == {"a", "b", "s", "t", "key", "m"}
    assert isinstance(best_of(scan(ROWS), scan(ROWS), "a = m, b = key", "a > 1"), Filter)


def test_rows_with_the_maximum_of_their_window_are_ranked() -> None:
    best = project(group(tumble(scan(ROWS), "t", 10), "window_start, window_end", "m = max(a)"), "m", "window_start")
    for residual, ranks in (
        ("t >= s0 AND t < e0", True),
        ("s0 <= t AND e0 > t", True),
        ("t > s0 AND t < e0", False),
        ("t >= s0 AND t <= e0", False),
        ("t >= s0", False),
    ):
        wide = project(best.input, "m", "s0 = window_start", "e0 = window_end")
        joined = rank_own_extreme(join(scan(ROWS), wide, "a = m", residual))
        assert isinstance(joined, Join) is not ranks


@pytest.mark.parametrize(
    ("rows", "of", "on", "call"),
    [
        (scan(ROWS), where(scan(ROWS), "a > 1"), "a = m, b = key", "m = max(a)"),
        (where(scan(ROWS), "a > 1"), scan(ROWS), "a = m, b = key", "m = max(a)"),
        (scan(ROWS), scan(ROWS), "a = m", "m = max(a)"),
        (scan(ROWS), scan(ROWS), "a = m, b = key", "m = sum(a)"),
        (scan(OTHER), project(scan(OTHER), "a = c", "b = d"), "c = m, d = key", "m = max(a)"),
    ],
    ids=["fewer", "more", "no key", "no extreme", "a table"],
)
def test_other_joins_with_a_maximum_stay_joins(rows: LogicalNode, of: LogicalNode, on: str, call: str) -> None:
    assert isinstance(best_of(rows, of, on, call=call), Join)
