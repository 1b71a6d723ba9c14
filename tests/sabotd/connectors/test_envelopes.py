"""Records that tell changes: what rows and weights come of them, and which tell none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from planner.task_spec import Columns, ColumnSpec, SourceOp
from sabot.errors import SqlError
from sabotd.connectors import registry
from sabotd.connectors.base import BadRecord

COLUMNS = (ColumnSpec("id", "INTEGER"), ColumnSpec("name", "VARCHAR"), ColumnSpec("price", "DECIMAL(10,2)"))
Rows = list[tuple[object, ...]]


def source(path: Path, changes: str, *, key: tuple[str, ...] = (), columns: Columns = COLUMNS) -> SourceOp:
    options = {"connector": "file", "path": str(path), "mode": "once", "format": changes}
    return SourceOp("s", "file", options, "json", columns, COLUMNS, changes=changes, key=key)


def read(op: SourceOp) -> tuple[Rows, list[BadRecord]]:
    registry.validate_source(op)
    reader = registry.open_source(op, 0, 1)
    rows: Rows = []
    errors: list[BadRecord] = []
    while not reader.finished():
        got = reader.read(1000, 0.1)
        if got is None:
            continue
        assert got.batch.schema.names == [*(c.name for c in op.columns), "__weight"]
        rows += zip(*(c.to_pylist() for c in got.batch.columns), strict=True)
        errors += got.errors
    assert reader.status().bad_records == len(errors)
    reader.close()
    return [tuple(str(v) if i == 2 and v is not None else v for i, v in enumerate(r)) for r in rows], errors


def written(tmp_path: Path, *records: object) -> Path:
    path = tmp_path / "changes.ndjson"
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return path


def row(id_: int, name: str | None = "a", price: str = "1.50") -> dict[str, object]:
    return {"id": id_, "name": name, "price": price}


@pytest.mark.parametrize("nested", [False, True])
def test_debezium_tells_the_row_before_and_the_row_after(tmp_path: Path, nested: bool) -> None:
    records: list[dict[str, object]] = [
        {"op": "c", "before": None, "after": row(1), "ts_ms": 5},
        {"op": "r", "after": row(2)},
        {"op": "u", "before": row(1), "after": row(1, "b")},
        {"op": "d", "before": row(2), "after": None},
        {"op": "m", "message": {"prefix": "x"}},
    ]
    given = [{"schema": {}, "payload": r} for r in records] if nested else records
    rows, errors = read(source(written(tmp_path, *given), "debezium"))
    assert rows == [
        (1, "a", "1.50", 1),
        (2, "a", "1.50", 1),
        (1, "a", "1.50", -1),
        (1, "b", "1.50", 1),
        (2, "a", "1.50", -1),
    ]
    assert not errors


def test_a_change_without_what_it_ends_is_a_bad_record_unless_there_is_a_key(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        {"op": "u", "before": None, "after": row(1, "b")},
        {"op": "d", "before": {"id": 2}, "after": None},
        {"op": "d", "before": None},
        {"op": "z", "after": row(3)},
        {"op": "c", "before": row(4)},
    )
    rows, errors = read(source(path, "debezium"))
    assert rows == [(2, None, None, -1)]
    reasons = [e.reason for e in errors]
    assert sorted(r.split(":")[0] for r in reasons) == [
        "op 'c' without after",
        "op 'd' without before",
        "op 'u' without before",
        "op 'z' is none of c, r, u, d",
    ]
    assert any(b'"name": "b"' in e.payload for e in errors)
    rows, errors = read(source(path, "debezium", key=("id",)))
    assert rows == [(1, "b", "1.50", 1), (2, None, None, -1)]
    assert len(errors) == 3


def test_flink_marks_each_row(tmp_path: Path) -> None:
    kinds = ("+I", "-U", "+U", "-D", "?", None)
    path = written(tmp_path, *({"op": kind, **row(i)} for i, kind in enumerate(kinds)))
    rows, errors = read(source(path, "flink_changelog"))
    assert [(r[0], r[-1]) for r in rows] == [(0, 1), (1, -1), (2, 1), (3, -1)]
    assert [e.reason for e in errors] == ["'?' is none of +I, -U, +U, -D", "None is none of +I, -U, +U, -D"]


def test_only_columns_that_are_read_are_decoded(tmp_path: Path) -> None:
    path = written(tmp_path, {"op": "u", "before": row(1), "after": row(1, "b")})
    for changes, expected in (("debezium", [("a", -1), ("b", 1)]),):
        rows, _ = read(source(path, changes, columns=(COLUMNS[1],)))
        assert rows == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "debezium", "connector": "datagen"}, "has no FORMAT DEBEZIUM"),
        ({"format": "debezium", "encode": "csv"}, "FORMAT DEBEZIUM ENCODE CSV is not supported"),
        ({"format": "flink_changelog", "column": "op"}, "what the records of FORMAT FLINK_CHANGELOG"),
    ],
)
def test_what_cannot_tell_changes_is_refused(tmp_path: Path, options: dict[str, str], message: str) -> None:
    columns = (*COLUMNS, ColumnSpec(options.pop("column", "x"), "VARCHAR"))
    encode, changes = options.pop("encode", "json"), options["format"]
    given = {"connector": "file", "path": str(written(tmp_path)), **options}
    if given["connector"] == "datagen":
        del given["path"]
    op = SourceOp("s", given["connector"], given, encode, columns, columns, changes=changes)
    with pytest.raises(SqlError, match=message):
        registry.validate_source(op)
