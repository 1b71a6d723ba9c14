"""The registry, option checks, datagen, print and blackhole."""

import io
from decimal import Decimal

import pyarrow as pa
import pytest

from planner.task_spec import ColumnSpec, SinkOp, SourceOp
from sabot.errors import SqlError
from sabotd.connectors import blackhole, datagen, print_, registry
from sabotd.connectors.base import OptionSpec
from sabotd.connectors.options import check_options, read_bool, read_duration_s

COLUMNS = (
    ColumnSpec("id", "BIGINT"),
    ColumnSpec("v", "INTEGER"),
    ColumnSpec("u", "UBIGINT"),
    ColumnSpec("s", "VARCHAR"),
    ColumnSpec("d", "DECIMAL(10,2)"),
    ColumnSpec("f", "DOUBLE"),
    ColumnSpec("t", "TIMESTAMP"),
    ColumnSpec("b", "BOOLEAN"),
    ColumnSpec("x", "STRUCT(a DOUBLE, l BIGINT[])"),
)
OPTIONS = {
    "connector": "datagen",
    "fields.id.kind": "sequence",
    "fields.id.start": "1",
    "fields.id.end": "25",
    "fields.v.min": "-5",
    "fields.v.max": "5",
    "fields.u.max": str(2**64 - 1),
    "fields.s.length": "4",
    "fields.d.max": "9.5",
    "fields.t.kind": "sequence",
    "fields.t.start": "2026-01-01 00:00:00",
    "fields.t.step": "10s",
    "fields.x.l.length": "2",
}


def generated(options, columns=COLUMNS, parallelism=1, max_rows=7):
    op = SourceOp("d", "datagen", options, None, columns, COLUMNS)
    registry.check(op)
    datagen.CONNECTOR.validate(op)
    rows = []
    for index in range(parallelism):
        reader = datagen.CONNECTOR.open_source(op, index, parallelism)
        while not reader.finished():
            got = reader.read(max_rows, 0)
            if got is not None:
                got.batch.validate(full=True)
                rows += got.batch.to_pylist()
    return rows


def test_datagen_rows_follow_their_rules_in_any_cut():
    rows = generated(OPTIONS)
    assert [r["id"] for r in rows] == list(range(1, 26))
    assert all(-5 <= r["v"] <= 5 and 0 <= r["d"] < Decimal("9.51") and len(r["s"]) == 4 for r in rows)
    assert all(len(r["x"]["l"]) == 2 for r in rows)
    assert str(rows[2]["t"]) == "2026-01-01 00:00:20"
    assert len({r["u"] for r in rows}) == 25
    assert sorted(generated(OPTIONS, parallelism=3, max_rows=2), key=lambda r: r["id"]) == rows
    assert generated({**OPTIONS, "seed": "9"}) != rows
    pruned = generated(OPTIONS, (ColumnSpec("s", "VARCHAR"),))
    assert pruned == [{"s": r["s"]} for r in rows]


def test_datagen_ends_by_rows_or_sequence_only():
    assert datagen.CONNECTOR.is_finite(OPTIONS)
    assert datagen.CONNECTOR.is_finite({"rows": "3"})
    assert not datagen.CONNECTOR.is_finite({"rate": "5"})
    assert len(generated({**OPTIONS, "rows": "3"})) == 3
    assert generated({**OPTIONS, "rows": "0"}) == []


@pytest.mark.parametrize(("options", "match", "hint"), [
    ({"fields.vv.min": "1"}, "of no column", "did you mean 'v'"),
    ({"fields.v.mim": "1"}, "no rule 'mim'", "did you mean 'min'"),
    ({"fields.v.kind": "sequences"}, "not random or sequence", "did you mean 'sequence'"),
    ({"fields.v.min": "8", "fields.v.max": "5"}, "at least min", None),
    ({"fields.b.kind": "sequence"}, "no sequence of bool", None),
    ({"rate": "0"}, "not above 0", None),
])  # fmt: skip
def test_datagen_says_what_is_wrong(options, match, hint):
    with pytest.raises(SqlError, match=match) as caught:
        generated({"connector": "datagen", **options})
    assert hint is None or hint in (caught.value.hint or "")


def test_registry_finds_connectors_and_names_the_nearest():
    for name in registry.names():
        found = registry.connector(name)
        assert found.name == name
        assert all(isinstance(s, OptionSpec) for s in found.options.values())
    with pytest.raises(SqlError, match="'kafak' is not known") as caught:
        registry.connector("kafak")
    assert caught.value.hint == "did you mean 'kafka'?"


def test_options_are_checked_by_name_kind_and_role():
    op = SourceOp("n", "nexmark", {"connector": "nexmark", "evnets": "5"}, None, (), ())
    with pytest.raises(SqlError, match="'evnets' is not known") as caught:
        registry.check(op)
    assert caught.value.hint == "did you mean 'events'?"
    specs = {
        "n": OptionSpec("int"),
        "mode": OptionSpec("enum", choices=("once", "watch")),
        "t": OptionSpec("duration"),
        "properties.": OptionSpec("str", prefix=True, required=True, doc="settings"),
        "w": OptionSpec("str", of=("sink",)),
    }
    good = {"n": "1_0", "mode": "ONCE", "t": "10s", "properties.x": "1"}
    check_options(good, specs, role="source", connector="c")
    for change, match in (
        ({"n": "x"}, "not a whole number"),
        ({"mode": "twice"}, "one of once, watch"),
        ({"t": "10 parsecs"}, "not a duration"),
        ({"w": "1"}, "not for a source"),
    ):
        with pytest.raises(SqlError, match=match):
            check_options({**good, **change}, specs, role="source", connector="c")
    with pytest.raises(SqlError, match=r"needs option 'properties\.'"):
        check_options({}, specs, role="source", connector="c")
    assert read_duration_s({"t": "250ms"}, "t") == 0.25
    assert read_bool({"b": "off"}, "b", default=True) is False


def sink(weighted):
    return SinkOp("out", "print", {"connector": "print"}, None, (ColumnSpec("a", "BIGINT"),), weighted)


def test_print_writes_changes_at_the_end_of_the_epoch():
    out = io.StringIO()
    writer = print_.PrintWriter(sink(weighted=True), out)
    batch = pa.record_batch([pa.array([1, 2], pa.int64()), pa.array([2, -1], pa.int32())], names=["a", "__weight"])
    writer.write(batch)
    assert out.getvalue() == ""
    writer.flush(1)
    assert out.getvalue() == 'out> +{"a":1}\nout> +{"a":1}\nout> -{"a":2}\n'
    writer.write(batch)
    writer.close()
    writer.flush(2)
    assert out.getvalue().count("\n") == 3


def test_blackhole_counts_and_reads_nothing():
    writer = blackhole.CONNECTOR.open_sink(sink(weighted=False), 0, 1)
    writer.write(pa.record_batch([pa.array([1, 2])], names=["a"]))
    writer.flush(1)
    writer.close()
    assert (writer.rows, writer.epochs) == (2, 1)
    with pytest.raises(SqlError, match="for sinks only"):
        blackhole.CONNECTOR.validate(SourceOp("x", "blackhole", {}, None, (), ()))
