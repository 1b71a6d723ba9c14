import random
from collections import Counter

import pyarrow as pa
import pytest

from planner.task_spec import (
    BestRowsOp,
    ColumnSpec,
    FinalAggOp,
    JoinOp,
    PartialAggOp,
    PartialColumn,
    RecomputeOp,
    SortKey,
    TopNOp,
)
from tests.oracle.harness import Bag, History, Instances, batch_answer, columns, cuts, fold

ROWS = pa.schema([("k", pa.int64()), ("s", pa.string()), ("v", pa.int64()), ("f", pa.float64())])
KEY = columns(k="BIGINT", s="VARCHAR")
PARALLELISM = (1, 2, 4, 7)


def rows(rng: random.Random, keys: int = 12) -> tuple[object, ...]:
    """Skewed keys with NULLs, values with NULLs, duplicates; floats that sum without rounding."""
    k = None if rng.random() < 0.1 else min(rng.randrange(keys), rng.randrange(keys))
    s = rng.choice((None, "", "a", "b"))
    v = None if rng.random() < 0.2 else rng.randint(-5, 5)
    f = rng.choice((None, 0.5, -0.0, 0.0, 2.25, -3.5))
    return k, s, v, f


def partial_op(keys: bool, weighted: bool, minmax: bool) -> PartialAggOp:
    w = "__weight" if weighted else "1"
    items = ["k", "s"] if keys else []
    items += [
        f"coalesce(sum({w}), 0) AS __rows",
        f"sum(v * {w}) AS sv",
        f"coalesce(sum({w}) FILTER (v IS NOT NULL), 0) AS nv",
        f"sum(f * {w}) AS sf",
        f"coalesce(sum({w}) FILTER (f IS NOT NULL), 0) AS nf",
    ]
    partials = [("__rows", "BIGINT", "sum"), ("sv", "HUGEINT", "sum"), ("nv", "BIGINT", "sum")]
    partials += [("sf", "DOUBLE", "sum"), ("nf", "BIGINT", "sum")]
    if minmax:
        items += ["min(v) AS lo", "max(s) AS hi"]
        partials += [("lo", "BIGINT", "min"), ("hi", "VARCHAR", "max")]
    sql = f"SELECT {', '.join(items)} FROM input" + (" GROUP BY k, s" if keys else "")
    return PartialAggOp(sql, KEY if keys else (), tuple(PartialColumn(*p) for p in partials))


def final_op(partial: PartialAggOp, minmax: bool) -> FinalAggOp:
    results = [
        ("n", "BIGINT", "__rows"),
        ("total", "HUGEINT", "CASE WHEN nv = 0 THEN NULL ELSE sv END AS total"),
        ("mean", "DOUBLE", "CASE WHEN nf = 0 THEN NULL ELSE sf / nf END"),
    ]
    if minmax:
        results += [("lo", "BIGINT", "lo"), ("hi", "VARCHAR", "hi")]
    out = (*partial.keys, *(ColumnSpec(name, kind) for name, kind, _ in results))
    return FinalAggOp(partial.keys, partial.partials, tuple(sql for *_, sql in results), out)


@pytest.mark.parametrize("parallelism", PARALLELISM)
@pytest.mark.parametrize("keyed", [True, False], ids=["keyed", "global"])
@pytest.mark.parametrize("weighted", [True, False], ids=["weighted", "append-only"])
def test_aggregate_equals_batch_at_every_barrier(weighted: bool, keyed: bool, parallelism: int) -> None:
    rng = random.Random(f"{weighted}{keyed}{parallelism}")
    history = History(rng, ROWS, lambda: rows(rng), weighted=weighted)
    partial = partial_op(keyed, weighted, minmax=not weighted)
    final = final_op(partial, minmax=not weighted)
    source = ROWS.append(pa.field("__weight", pa.int32())) if weighted else ROWS
    keys = ("k", "s") if keyed else ()
    # partials run on whatever task has the rows: by value here, so that groups meet only in the final
    first = Instances(partial, [source], [("v",)], parallelism)
    shuffled = pa.schema([(c.name, t) for c, t in zip(final.keys, (pa.int64(), pa.string()), strict=False)])
    for p in partial.partials:
        shuffled = shuffled.append(pa.field(p.name, ARROW[p.type]))
    second = Instances(final, [shuffled], [keys], parallelism if keyed else 1)
    extra = "" if weighted else ", min(v), max(s)"
    by = "k, s, " if keyed else ""
    sql = f"SELECT {by}count(*), sum(v), avg(f){extra} FROM t" + (" GROUP BY k, s" if keyed else "")
    view: Bag = Counter()
    for epoch, size in enumerate((0, 40, 1, 200, 0, 120, 30)):
        for piece in cuts(rng, history.epoch(size), rng.randint(1, 5)):
            for out in first.feed(0, piece):
                second.feed(0, out)
        for out in first.barrier(epoch):
            for part in cuts(rng, out, 2):
                fold(view, second.feed(0, part))
        changes = second.barrier(epoch)
        assert_consolidated(changes)
        fold(view, changes)
        assert view == batch_answer(sql, {"t": history.table()})
        assert all(weight == 1 for weight in view.values())
    first.close()
    second.close()


ARROW = {
    "BIGINT": pa.int64(),
    "HUGEINT": pa.decimal128(38, 0),
    "DOUBLE": pa.float64(),
    "VARCHAR": pa.string(),
}


def assert_consolidated(changes: list[pa.RecordBatch]) -> None:
    """No row is both retracted and inserted, none has weight 0."""
    seen = [row[:-1] for batch in changes for row in zip(*(c.to_pylist() for c in batch.columns), strict=True)]
    assert len(seen) == len(set(seen))
    for batch in changes:
        assert batch.num_rows
        assert 0 not in batch.column("__weight").to_pylist()


LEFT = pa.schema([("a", pa.int64()), ("x", pa.string())])
RIGHT = pa.schema([("b", pa.int64()), ("y", pa.float64())])
RIGHT_LIKE_LEFT = pa.schema([("b", pa.int64()), ("z", pa.string())])


@pytest.mark.parametrize("parallelism", PARALLELISM)
@pytest.mark.parametrize("weighted", [(True, True), (True, False), (False, False)], ids=str)
@pytest.mark.parametrize("residual", [None, "y > 0 OR x = 'a'"])
def test_join_equals_batch_at_every_barrier(
    weighted: tuple[bool, bool], residual: str | None, parallelism: int
) -> None:
    rng = random.Random(f"{weighted}{residual}{parallelism}")
    left = History(rng, LEFT, lambda: rows(rng)[:2], weighted=weighted[0])
    right = History(rng, RIGHT, lambda: rows(rng)[::3], weighted=weighted[1])
    one, two = columns(a="BIGINT", x="VARCHAR"), columns(b="BIGINT", y="DOUBLE")
    op = JoinOp(one, two, ("a",), ("b",), weighted, one + two, residual)
    instances = Instances(op, [left.schema, right.schema], [("a",), ("b",)], parallelism)
    sql = "SELECT a, x, b, y FROM l JOIN r ON a = b" + (f" WHERE {residual}" if residual else "")
    view: Bag = Counter()
    for epoch, size in enumerate((0, 20, 40, 1, 60)):
        pieces = [(0, p) for p in cuts(rng, left.epoch(size), 3)]
        pieces += [(1, p) for p in cuts(rng, right.epoch(rng.randint(0, 40)), 3)]
        rng.shuffle(pieces)
        for port, piece in pieces:
            fold(view, instances.feed(port, piece))
        fold(view, instances.barrier(epoch))
        assert view == batch_answer(sql, {"l": left.table(), "r": right.table()})
    instances.close()


@pytest.mark.parametrize("parallelism", PARALLELISM)
@pytest.mark.parametrize("null_safe", [1, 2])
@pytest.mark.parametrize("keys", [(("a", "x"), ("b", "z")), (("x", "a"), ("z", "b")), (("a",), ("b",))], ids=str)
def test_null_meets_null_in_keys_that_are_null_safe(
    keys: tuple[tuple[str, ...], tuple[str, ...]], null_safe: int, parallelism: int
) -> None:
    mine, others = keys
    null_safe = min(null_safe, len(mine))
    rng = random.Random(f"{keys}{null_safe}{parallelism}")
    left = History(rng, LEFT, lambda: rows(rng, 4)[:2], weighted=True)
    right = History(rng, RIGHT_LIKE_LEFT, lambda: rows(rng, 4)[:2], weighted=True)
    one, two = columns(a="BIGINT", x="VARCHAR"), columns(b="BIGINT", z="VARCHAR")
    op = JoinOp(one, two, mine, others, (True, True), one + two, null_safe=null_safe)
    instances = Instances(op, [left.schema, right.schema], [mine, others], parallelism)
    signs = ["IS NOT DISTINCT FROM" if i < null_safe else "=" for i in range(len(mine))]
    on = " AND ".join(f"{a} {sign} {b}" for a, sign, b in zip(mine, signs, others, strict=True))
    view: Bag = Counter()
    for epoch, size in enumerate((0, 20, 40, 1, 60)):
        for piece in cuts(rng, left.epoch(size), 3):
            fold(view, instances.feed(0, piece))
        for piece in cuts(rng, right.epoch(rng.randint(0, 40)), 3):
            fold(view, instances.feed(1, piece))
        fold(view, instances.barrier(epoch))
        assert view == batch_answer(f"SELECT a, x, b, z FROM l JOIN r ON {on}", {"l": left.table(), "r": right.table()})
    instances.close()


RECOMPUTED = {
    "median": ("SELECT k, median(v) AS m, string_agg(s, ',' ORDER BY s) AS t FROM input GROUP BY k", "k"),
    "top 2": (
        "SELECT k, s, v FROM input QUALIFY row_number() OVER (PARTITION BY k ORDER BY v DESC NULLS LAST, s, f) <= 2",
        "k",
    ),
    "distinct": ("SELECT DISTINCT k, s FROM input", "k"),
    "global": ("SELECT count(*) AS n, min(v) AS lo FROM input", ""),
    "with": ("WITH a AS (SELECT k, sum(v) AS n FROM input GROUP BY k) SELECT k, n FROM a WHERE n > 2", "k"),
}
RECOMPUTED_COLUMNS = {
    "median": columns(k="BIGINT", m="DOUBLE", t="VARCHAR"),
    "top 2": columns(k="BIGINT", s="VARCHAR", v="BIGINT"),
    "distinct": columns(k="BIGINT", s="VARCHAR"),
    "global": columns(n="BIGINT", lo="BIGINT"),
    "with": columns(k="BIGINT", n="HUGEINT"),
}


@pytest.mark.parametrize("name", RECOMPUTED)
@pytest.mark.parametrize("parallelism", [1, 4])
@pytest.mark.parametrize("weighted", [True, False], ids=["weighted", "append-only"])
def test_recompute_equals_batch_at_every_barrier(name: str, weighted: bool, parallelism: int) -> None:
    sql, key = RECOMPUTED[name]
    rng = random.Random(f"{name}{weighted}{parallelism}")
    history = History(rng, ROWS, lambda: rows(rng), weighted=weighted)
    inputs = columns(k="BIGINT", s="VARCHAR", v="BIGINT", f="DOUBLE")
    keys = (key,) if key else ()
    op = RecomputeOp((inputs,), (keys,), sql, RECOMPUTED_COLUMNS[name])
    instances = Instances(op, [history.schema], [keys], parallelism if key else 1)
    view: Bag = Counter()
    for epoch, size in enumerate((0, 30, 1, 60, 0, 30)):
        for piece in cuts(rng, history.epoch(size), 3):
            instances.feed(0, piece)
        changes = instances.barrier(epoch)
        assert_consolidated(changes)
        fold(view, changes)
        assert view == batch_answer(sql.replace("input", "t"), {"t": history.table()})
    instances.close()


BEST = {
    "first": ("row_number", "v DESC NULLS LAST, s, f", 1, ("k",)),
    "three": ("row_number", "v NULLS FIRST, s, f", 3, ("k",)),
    "by text": ("row_number", "v, f", 2, ("k", "s")),
    "text first": ("row_number", "s DESC NULLS LAST, v, f", 2, ("k",)),
    "rank with text": ("rank", "v, s NULLS FIRST", 3, ("k",)),
    "rank": ("rank", "v DESC NULLS LAST", 2, ("k",)),
    "dense rank": ("dense_rank", "v, s", 2, ("s",)),
    "no order": ("rank", "", 1, ("k",)),
    "all": ("row_number", "f DESC NULLS LAST, k, s, v", 5, ()),
    "none": ("row_number", "v, k, s, f", 0, ("k",)),
}


def sort_keys(order: str) -> tuple[SortKey, ...]:
    items = [item.strip() for item in order.split(",") if item.strip()]
    return tuple(SortKey(item.split()[0], " DESC" in item, "NULLS FIRST" in item) for item in items)


@pytest.mark.parametrize("shown", [True, False], ids=["place shown", "place hidden"])
@pytest.mark.parametrize("condition", [None, "v > 0"])
@pytest.mark.parametrize("name", BEST)
def test_top_n_equals_batch_at_every_barrier(
    name: str, condition: str | None, shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sabotd.operators.top_n._COMPACT_ROWS", 8)
    monkeypatch.setattr("sabotd.operators.top_n._PENDING_ROWS", 25)
    function, order, limit, keys = BEST[name]
    inputs = columns(k="BIGINT", s="VARCHAR", v="BIGINT", f="DOUBLE")
    out = inputs + (columns(place="BIGINT") if shown else ())
    op = TopNOp(inputs, keys, function, sort_keys(order), limit, out, "place" if shown else None, condition)
    by = f"PARTITION BY {', '.join(keys)}" if keys else ""
    over = f"{function}() OVER ({by}{f' ORDER BY {order}' if order else ''})"
    listed = ", ".join(c.name for c in out)
    where = f"place <= {limit}" + (f" AND {condition}" if condition else "")
    sql = f"SELECT {listed} FROM (SELECT *, {over} AS place FROM t) WHERE {where}"
    for parallelism in PARALLELISM if keys else (1,):
        rng = random.Random(f"{name}{condition}{shown}{parallelism}")
        history = History(rng, ROWS, lambda: rows(rng), weighted=False)  # noqa: B023
        instances = Instances(op, [history.schema], [keys], parallelism)
        view: Bag = Counter()
        for epoch, size in enumerate((0, 30, 1, 90, 0, 30, 60)):
            for piece in cuts(rng, history.epoch(size), 4):
                assert not instances.feed(0, piece)
            fold(view, instances.barrier(epoch))
            assert view == batch_answer(sql, {"t": history.table()})
        instances.close()


@pytest.mark.parametrize("nulls_first", [True, False], ids=["nulls first", "nulls last"])
@pytest.mark.parametrize("descending", [True, False], ids=["desc", "asc"])
@pytest.mark.parametrize("keys", [("k",), ("s", "k"), ()], ids=str)
@pytest.mark.parametrize("lead", ["v", "s", "f"])
def test_what_is_left_out_is_never_among_the_best(
    lead: str, keys: tuple[str, ...], descending: bool, nulls_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sabotd.operators.best_rows._ROWS", 20)
    monkeypatch.setattr("sabotd.operators.best_rows._LEAST_TOLD", 10)
    inputs = columns(k="BIGINT", s="VARCHAR", v="BIGINT", f="DOUBLE")
    by = f"PARTITION BY {', '.join(keys)} " if keys else ""
    order = f"{lead}{' DESC' if descending else ''} NULLS {'FIRST' if nulls_first else 'LAST'}"
    left_out = 0
    for limit in (1, 3):
        rng = random.Random(f"{lead}{keys}{descending}{nulls_first}{limit}")
        history = History(rng, ROWS, lambda: rows(rng), weighted=False)  # noqa: B023
        op = BestRowsOp(inputs, keys, SortKey(lead, descending, nulls_first), limit)
        instances = Instances(op, [history.schema], [()], 1)
        ranked = f"SELECT * FROM t QUALIFY rank() OVER ({by}ORDER BY {order}) <= {limit}"
        for epoch, size in enumerate((0, 1, 30, 90, 200)):
            given = history.epoch(size)
            out = [b for piece in cuts(rng, given, 4) for b in instances.feed(0, piece)]
            out += instances.barrier(epoch)
            kept = fold(Counter(), out)
            wanted = batch_answer(ranked, {"t": pa.Table.from_batches([given])})
            assert wanted <= kept <= fold(Counter(), [given])
            left_out += size - kept.total()
        instances.close()
    assert left_out or lead in keys


def test_recompute_of_two_inputs_is_an_outer_join() -> None:
    rng = random.Random(5)
    left = History(rng, LEFT, lambda: rows(rng)[:2], weighted=True)
    right = History(rng, RIGHT, lambda: rows(rng)[::3], weighted=False)
    one, two = columns(a="BIGINT", x="VARCHAR"), columns(b="BIGINT", y="DOUBLE")
    sql = "SELECT a, x, b, y FROM input LEFT JOIN input_1 ON a = b"
    op = RecomputeOp((one, two), (("a",), ("b",)), sql, one + two)
    instances = Instances(op, [left.schema, right.schema], [("a",), ("b",)], 2)
    view: Bag = Counter()
    for epoch in range(4):
        for port, history in enumerate((left, right)):
            for piece in cuts(rng, history.epoch(25), 2):
                instances.feed(port, piece)
        fold(view, instances.barrier(epoch))
        batch = "SELECT a, x, b, y FROM l LEFT JOIN r ON a = b"
        assert view == batch_answer(batch, {"l": left.table(), "r": right.table()})
    instances.close()


def test_a_long_life_of_updates_and_retractions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sabotd.operators.final_agg._FOLD_ROWS", 40)
    monkeypatch.setattr("sabotd.operators.weighted_rows._COMPACT_RETRACTIONS", 20)
    rng = random.Random(9)
    history = History(rng, ROWS, lambda: rows(rng), weighted=True)
    partial = partial_op(keys=True, weighted=True, minmax=False)
    final = final_op(partial, minmax=False)
    out = columns(k="BIGINT", s="VARCHAR", v="BIGINT", f="DOUBLE")
    join = JoinOp(out, columns(b="BIGINT"), ("k",), ("b",), (True, False), (*out, ColumnSpec("b", "BIGINT")))
    right = pa.RecordBatch.from_pydict({"b": pa.array([1, 2, 2, None], pa.int64())})
    first = Instances(partial, [history.schema], [()], 1)
    schema = pa.schema([("k", pa.int64()), ("s", pa.string())])
    for p in partial.partials:
        schema = schema.append(pa.field(p.name, ARROW[p.type]))
    second = Instances(final, [schema], [("k", "s")], 1)
    joined = Instances(join, [history.schema, right.schema], [("k",), ("b",)], 1)
    joined.feed(1, right)
    view: Bag = Counter()
    pairs: Bag = Counter()
    for epoch in range(40):
        batch = history.epoch(30, retract=0.6)
        first.feed(0, batch)
        for partials in first.barrier(epoch):
            second.feed(0, partials)
        fold(view, second.barrier(epoch))
        joined.feed(0, batch)
        fold(pairs, joined.barrier(epoch))
        tables = {"t": history.table(), "r": pa.Table.from_batches([right])}
        assert view == batch_answer("SELECT k, s, count(*), sum(v), avg(f) FROM t GROUP BY k, s", tables)
        assert pairs == batch_answer("SELECT t.*, b FROM t JOIN r ON k = b", tables)
    for instances in (first, second, joined):
        instances.close()
