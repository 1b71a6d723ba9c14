"""Temporal joins: each left row keeps the right rows of its epoch, whatever happens to these later."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest

from planner.plan import PlannedJob, plan_view
from sabot.errors import SqlError
from sabot.ids import JobId
from sabot.schema import arrow_schema
from sabotd.operators import temporal_join
from sabotd.state.duckdb_state import TaskDatabase
from sql_frontend.binder import bind_query
from tests.oracle.harness import Bag, History, Row
from tests.oracle.test_queries import EVENTS, ITEMS, PARALLELISM, Catalog, OneDatabase, ShufflingRunner, event, item
from tests.support import job_runner

AS_OF = "FOR SYSTEM_TIME AS OF PROCTIME()"
Matches = Callable[[dict[str, Any], dict[str, Any]], bool]


@pytest.fixture(autouse=True)
def one_database(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    database = TaskDatabase(None, 512, "temporal")
    monkeypatch.setattr(job_runner, "TaskDatabase", lambda *_: OneDatabase(database))
    yield
    database.close()


def plan(sql: str, parallelism: int) -> PlannedJob:
    return plan_view(bind_query(sql, Catalog()), job_id=JobId("mv:v"), relation="v", parallelism=parallelism)


def same(a: Any, b: Any) -> bool:
    return a is not None and a == b


def above(a: Any, b: Any) -> bool:
    return a is not None and b is not None and a > b


CASES: dict[str, tuple[str, str, list[str], list[str], Matches, bool]] = {
    "append-only, left": (
        f"SELECT e.id, e.k, i.label, i.rate FROM events e LEFT JOIN items {AS_OF} i ON e.k = i.k AND e.v > i.rate",
        "events",
        ["id", "k"],
        ["label", "rate"],
        lambda e, i: same(e["k"], i["k"]) and above(e["v"], i["rate"]),
        True,
    ),
    "append-only, inner": (
        f"SELECT e.id, i.label FROM events e JOIN items {AS_OF} AS i ON i.k = e.k",
        "events",
        ["id"],
        ["label"],
        lambda e, i: same(e["k"], i["k"]),
        False,
    ),
    "append-only, by an inequality": (
        f"SELECT e.id, i.label FROM events e JOIN items {AS_OF} i ON e.v > i.rate",
        "events",
        ["id"],
        ["label"],
        lambda e, i: above(e["v"], i["rate"]),
        False,
    ),
    "append-only, with all": (
        f"SELECT e.id, i.label FROM events e CROSS JOIN items {AS_OF} i WHERE i.rate > 2",
        "events",
        ["id"],
        ["label"],
        lambda e, i: above(i["rate"], 2),
        False,
    ),
    "retracting, left": (
        f"SELECT a.label, a.k, b.label AS other, b.weight FROM items a LEFT JOIN items {AS_OF} b ON a.k = b.rate",
        "items",
        ["label", "k"],
        ["label", "weight"],
        lambda a, b: same(a["k"], b["rate"]),
        True,
    ),
    "retracting, inner": (
        f"SELECT a.label, a.rate, b.weight FROM items a JOIN items {AS_OF} b ON a.k = b.k AND a.rate > b.rate",
        "items",
        ["label", "rate"],
        ["weight"],
        lambda a, b: same(a["k"], b["k"]) and above(a["rate"], b["rate"]),
        False,
    ),
    "retracting, left by an inequality": (
        f"SELECT a.label, b.k FROM items a LEFT JOIN items {AS_OF} b ON a.rate > b.rate AND b.label = 'a'",
        "items",
        ["label"],
        ["k"],
        lambda a, b: above(a["rate"], b["rate"]) and b["label"] == "a",
        True,
    ),
}


class Model:
    """The rows that came, with what they met."""

    def __init__(self, matches: Matches, left: list[str], right: list[str], *, outer: bool) -> None:
        self._matches, self._left, self._right, self._outer = matches, left, right, outer
        self._versions: Counter[Row] = Counter()
        self._arrived: list[tuple[Row, list[Row]]] = []

    def epoch(self, left: Bag, right: Bag, names: tuple[list[str], list[str]]) -> Bag:
        self._versions.update(right)
        for row, weight in left.items():
            shown = dict(zip(names[0], row, strict=True))
            for _ in range(weight):
                met = [
                    tuple(version[c] for c in self._right)
                    for values in self._versions.elements()
                    if self._matches(shown, version := dict(zip(names[1], values, strict=True)))
                ]
                self._arrived.append((row, met))
            for _ in range(-weight):
                first = next(i for i, (value, _) in enumerate(self._arrived) if value == row)
                del self._arrived[first]
        out: Bag = Counter()
        for row, met in self._arrived:
            shown = dict(zip(names[0], row, strict=True))
            kept = tuple(shown[c] for c in self._left)
            for values in met or ([(None,) * len(self._right)] if self._outer else []):
                out[kept + values] += 1
        return out


def net(batch: pa.RecordBatch, names: list[str]) -> Bag:
    rows: Bag = Counter()
    for row in batch.to_pylist():
        rows[tuple(row[n] for n in names)] += row.get("__weight", 1)
    return Counter({row: weight for row, weight in rows.items() if weight})


@pytest.mark.parametrize("parallelism", PARALLELISM)
@pytest.mark.parametrize("case", CASES)
def test_a_left_row_keeps_the_right_rows_of_its_epoch(
    case: str, parallelism: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(temporal_join, "_REWRITE_ROWS", 3)
    sql, relation, left, right, matches, outer = CASES[case]
    rng = random.Random(f"{case}{parallelism}")
    numbers = iter(range(10_000))
    events = History(rng, arrow_schema(EVENTS), lambda: event(rng, next(numbers)), weighted=False)
    items = History(rng, arrow_schema(ITEMS), lambda: item(rng), weighted=True)
    # what the query does not read tells no rows apart
    read = {"events": ["id", "k", "v"], "items": ["k", "label", "rate", "weight"]}
    if relation == "items":
        read = {"items": [c for c in read["items"] if f"a.{c}" in sql or f"b.{c}" in sql]}
    names = [c for c in read[relation] if relation == "events" or f"a.{c}" in sql]
    model = Model(matches, left, right, outer=outer)
    runner = ShufflingRunner(plan(sql, parallelism).spec, parallelism)
    try:
        for size in (0, 12, 1, 25, 0, 10, 14):
            batches = {"items": items.epoch(rng.randint(0, 12))}
            if relation == "events":
                batches["events"] = events.epoch(size)
            for name, batch in rng.sample(sorted(batches.items(), key=lambda b: b[0]), len(batches)):
                half = rng.randint(0, batch.num_rows)
                runner.feed(name, batch.slice(0, half))
                runner.feed(name, batch.slice(half))
            shown = runner.barrier()
            of_items = net(batches["items"], read["items"])
            wanted = model.epoch(net(batches[relation], names), of_items, (names, read["items"]))
            assert shown == wanted, (shown - wanted, wanted - shown)
    finally:
        runner.close()


def test_a_join_with_an_append_only_left_side_is_append_only() -> None:
    job = plan(CASES["append-only, left"][0], 4)
    assert job.output.append_only
    join = job.explain().partition("3-temporal_join: ")[2]
    assert "append-only, stream key unknown, distribution hash(k)" in join.partition("on k = k_1")[0]
    assert not plan(CASES["retracting, left"][0], 4).output.append_only


@pytest.mark.parametrize(
    ("sql", "at", "hint"),
    [
        (f"SELECT e.id FROM events e RIGHT JOIN items {AS_OF} i ON e.k = i.k", "items", "LEFT JOIN"),
        (f"SELECT e.id FROM events e, items {AS_OF} i WHERE e.k = i.k", "items", "ON ..."),
        (f"SELECT id FROM events {AS_OF}", "events", "right side"),
        ("SELECT e.id FROM events e JOIN items FOR SYSTEM_TIME AS OF e.ts i ON e.k = i.k", "e.ts", "ASOF JOIN"),
    ],
)
def test_other_forms_are_refused_with_what_works(sql: str, at: str, hint: str) -> None:
    with pytest.raises(SqlError) as refused:
        bind_query(sql, Catalog())
    assert refused.value.sqlstate == "0A000"
    assert refused.value.span is not None
    assert at in sql[refused.value.span.start : refused.value.span.end]
    assert hint in (refused.value.hint or "")
