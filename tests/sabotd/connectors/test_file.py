"""The file connector: each row once for any number of readers, growth and new files, bad input, sinks."""

import gzip
import json
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from planner.task_spec import ColumnSpec, SinkOp, SourceOp
from sabot.errors import ConnectorError, SqlError
from sabotd.connectors import registry
from sabotd.connectors.file import CONNECTOR
from sabotd.connectors.file_source import FileReader

COLUMNS = (ColumnSpec("i", "BIGINT"), ColumnSpec("s", "VARCHAR"))


def source(path, format="json", columns=COLUMNS, include=(), **options):
    options = {"connector": "file", "path": str(path), **{k.replace("__", "."): v for k, v in options.items()}}
    return SourceOp("f", "file", options, format, columns, columns, include=include)


def check(op):
    registry.check(op)
    CONNECTOR.validate(op)
    return op


def drain(reader, max_rows=1000):
    rows, errors = [], []
    while True:
        got = reader.read(max_rows, 0)
        if got is None:
            return rows, errors
        assert got.batch.num_rows <= max_rows
        rows += got.batch.to_pylist()
        errors += got.errors


def row(i):
    return {"i": i, "s": "x" * (i % 37)}


def write_lines(path, numbers, end="\n"):
    path.write_text("\n".join(json.dumps(row(i)) for i in numbers) + end)


@pytest.mark.parametrize("end", ["\n", "", "\r\n\n"])
@pytest.mark.parametrize("parallelism", [1, 2, 3, 4])
def test_each_line_is_read_once_by_one_reader(tmp_path, parallelism, end):
    path = tmp_path / "in.ndjson"
    write_lines(path, range(300), end)
    op = check(source(path))
    for chunk_bytes, block_bytes, max_rows in ((64, 16, 5), (1000, 128, 1000), (97, 4096, 3), (1 << 20, 1 << 20, 50)):
        rows = []
        for index in range(parallelism):
            reader = FileReader(op, index, parallelism, chunk_bytes=chunk_bytes, block_bytes=block_bytes)
            got, errors = drain(reader, max_rows)
            assert not errors
            assert got == sorted(got, key=lambda r: r["i"])
            assert reader.finished()
            assert reader.position() == reader.fence()
            rows += got
            reader.close()
        assert sorted(rows, key=lambda r: r["i"]) == [row(i) for i in range(300)]


def test_every_chunk_size_gives_each_line_once(tmp_path):
    path = tmp_path / "in.ndjson"
    write_lines(path, range(12))
    op = source(path)
    for chunk_bytes in range(1, 200):
        rows = []
        for index in range(3):
            reader = FileReader(op, index, 3, chunk_bytes=chunk_bytes, block_bytes=50)
            rows += drain(reader)[0]
            reader.close()
        assert sorted(r["i"] for r in rows) == list(range(12)), chunk_bytes


@pytest.mark.parametrize("kind", ["ndjson", "csv", "gz", "parquet"])
def test_a_position_goes_on_where_it_stood(tmp_path, kind):
    path = tmp_path / f"in.{kind}"
    lines = "".join(json.dumps(row(i)) + "\n" for i in range(200))
    match kind:
        case "ndjson":
            path.write_text(lines)
        case "csv":
            path.write_text("i,s\n" + "".join(f'{i},"{row(i)["s"]}"\n' for i in range(200)))
        case "gz":
            path.write_bytes(gzip.compress(lines.encode()))
        case _:
            pq.write_table(pa.Table.from_pylist([row(i) for i in range(200)]), path, row_group_size=30)
    op = source(path, {"gz": "json", "ndjson": "json"}.get(kind, kind))
    seen = []
    for index in range(2):
        reader = FileReader(op, index, 2, chunk_bytes=256, block_bytes=64)
        while not reader.finished():
            got = reader.read(7, 0)
            if got is not None:
                seen += got.batch.to_pylist()
            position = reader.position()
            reader.close()
            reader = FileReader(op, index, 2, chunk_bytes=256, block_bytes=64)
            reader.seek(position)
            if got is None:
                assert position == reader.fence()
                break
        reader.close()
    assert sorted(seen, key=lambda r: r["i"]) == [row(i) for i in range(200)]


def test_a_folder_is_read_with_all_below_it_and_split_over_readers(tmp_path):
    for n in range(9):
        folder = tmp_path / ("sub" if n % 3 else ".")
        folder.mkdir(exist_ok=True)
        write_lines(folder / f"part-{n}.json", range(n * 10, n * 10 + 10))
    (tmp_path / ".hidden.json").write_text("{}")
    (tmp_path / "half.tmp").write_text("{}")
    (tmp_path / "other.txt").write_text("{}")
    op = check(source(tmp_path, mode="once", match__pattern="*.json"))
    for parallelism in (1, 2, 4):
        readers = [CONNECTOR.open_source(op, i, parallelism) for i in range(parallelism)]
        rows = [r for reader in readers for r in drain(reader)[0]]
        assert sorted(r["i"] for r in rows) == list(range(90))
        assert all(r.finished() for r in readers)
    pattern = check(source(tmp_path / "**" / "part-[12].json", mode="once"))
    assert sorted(r["i"] for r in drain(CONNECTOR.open_source(pattern, 0, 1))[0]) == list(range(10, 30))


def test_watching_picks_up_new_files_and_growth(tmp_path):
    write_lines(tmp_path / "a.json", range(5))
    op = check(source(tmp_path, scan__interval="0ms"))
    assert not CONNECTOR.is_finite(op.options)
    times = {"now": 0.0}
    reader = FileReader(op, 0, 1, now=lambda: times["now"])  # before any file's time: nothing has settled
    assert [r["i"] for r in drain(reader)[0]] == [0, 1, 2, 3, 4]
    write_lines(tmp_path / "b.json", range(5, 8))
    with (tmp_path / "a.json").open("a") as file:
        file.write(json.dumps(row(8)) + "\n" + '{"i": 9,')
    assert sorted(r["i"] for r in drain(reader)[0]) == [5, 6, 7, 8]
    assert reader.position() == reader.fence()
    with (tmp_path / "a.json").open("a") as file:
        file.write(' "s": "late"}')
    assert drain(reader) == ([], [])
    times["now"] = 1e12  # nobody writes any more: the last line counts without its newline
    fence = reader.fence()
    assert drain(reader)[0] == [{"i": 9, "s": "late"}]
    assert reader.position() == fence
    assert not reader.finished()


def test_a_file_that_is_replaced_or_cut_begins_anew(tmp_path):
    path = tmp_path / "log.json"
    write_lines(path, range(5))
    reader = CONNECTOR.open_source(source(tmp_path, scan__interval="0ms"), 0, 1)
    assert len(drain(reader)[0]) == 5
    write_lines(path, [7])
    assert drain(reader)[0] == [row(7)]
    new = tmp_path / ".new"
    write_lines(new, range(3))
    new.rename(path)
    assert [r["i"] for r in drain(reader)[0]] == [0, 1, 2]


def test_a_waiting_read_is_woken_and_a_lost_folder_is_told(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    reader = CONNECTOR.open_source(source(folder, scan__interval="0ms"), 0, 1)
    folder.rmdir()
    assert reader.read(10, 0) is None
    assert "cannot be read" in reader.status().state
    folder.mkdir()
    assert reader.read(10, 0) is None
    assert reader.status().state == ""
    reader = CONNECTOR.open_source(source(folder, scan__interval="1h"), 0, 1)
    thread = threading.Thread(target=reader.wake)
    thread.start()
    assert reader.read(10, 60) is None
    thread.join()


def test_bad_records_have_the_place_of_their_first_byte(tmp_path):
    path = tmp_path / "in.json"
    path.write_text('{"i": 1}\nnonsense\n{"i": "x"}\n{"i": 2}\n')
    reader = CONNECTOR.open_source(check(source(path)), 0, 1)
    rows, errors = drain(reader)
    assert [r["i"] for r in rows] == [1, 2]
    assert [(e.offset, e.payload) for e in errors] == [("in.json:9", b"nonsense"), ("in.json:18", b'{"i": "x"}')]
    assert reader.status().bad_records == 2


@pytest.mark.parametrize("multiline", ["true", "false"])
def test_csv_files_with_headers_in_any_order(tmp_path, multiline):
    one = "s,i,more\n" + "".join(f'"line {i}",{i},\n' for i in range(50))
    (tmp_path / "a.csv").write_text(one)
    (tmp_path / "b.csv").write_text('I;s\n50;"x"\n'.replace(";", ","))
    op = check(source(tmp_path, "csv", mode="once", csv__multiline=multiline))
    rows = []
    for index in range(3):
        got, errors = drain(FileReader(op, index, 3, chunk_bytes=100, block_bytes=64))
        assert not errors
        rows += got
    assert sorted(r["i"] for r in rows) == list(range(51))


def test_csv_with_newlines_in_quotes(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("".join(f'{i},"a\n""{i}"",\n"\n' for i in range(40)))
    op = check(source(path, "csv", csv__header="false"))
    for block_bytes in (8, 50, 1 << 20):
        rows, errors = drain(FileReader(op, 0, 1, block_bytes=block_bytes), 3)
        assert not errors
        assert rows == [{"i": i, "s": f'a\n"{i}",\n'} for i in range(40)]


def test_parquet_reads_only_the_needed_fields(tmp_path):
    table = pa.table(
        {
            "st": [{"a": i, "b": "x", "c": {"d": i}} if i % 3 else None for i in range(100)],
            "i": pa.array(range(100), pa.int32()),
            "unused": ["y"] * 100,
        }
    )
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=10)
    columns = (ColumnSpec("i", "BIGINT"), ColumnSpec("st", "STRUCT(c STRUCT(d BIGINT), a BIGINT)"))
    op = check(source(tmp_path, "parquet", columns, mode="once"))
    rows = [r for index in range(3) for r in drain(CONNECTOR.open_source(op, index, 3), 7)[0]]
    assert sorted(rows, key=lambda r: r["i"]) == [
        {"i": i, "st": {"c": {"d": i}, "a": i} if i % 3 else None} for i in range(100)
    ]
    assert len(drain(CONNECTOR.open_source(source(tmp_path, "parquet", (), mode="once"), 0, 1))[0]) == 100


def test_include_file_gives_the_name(tmp_path):
    write_lines(tmp_path / "a.json", [1])
    columns = (*COLUMNS, ColumnSpec("name", "VARCHAR"))
    op = check(source(tmp_path, columns=columns, include=(("file", "name"),), mode="once"))
    assert drain(CONNECTOR.open_source(op, 0, 1))[0] == [{**row(1), "name": "a.json"}]


@pytest.mark.parametrize(("name", "options", "error", "match"), [
    ("missing", {}, ConnectorError, "does not exist"),
    ("no/*.json", {}, ConnectorError, "does not exist"),
    ("a.csv", {"format": "csv"}, ConnectorError, "'s' is not among the fields 'i'"),
    ("a.parquet", {"format": "parquet"}, ConnectorError, "is not Parquet"),
    ("a.csv", {"mode": "twice"}, SqlError, "one of once, watch"),
    ("a.csv", {"format": "csv", "csv__delimiter": "ab"}, SqlError, "not one character"),
])  # fmt: skip
def test_what_is_wrong_is_said_at_create(tmp_path, name, options, error, match):
    (tmp_path / "a.csv").write_text("i\n1\n")
    (tmp_path / "a.parquet").write_text("no")
    with pytest.raises(error, match=match):
        check(source(tmp_path / name, **options))


def test_damaged_files_fail_the_job(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(b'{"i": 1}\n' * 1000)[:-20])
    reader = CONNECTOR.open_source(source(tmp_path / "a.gz"), 0, 1)
    with pytest.raises(ConnectorError, match="not whole gzip"):
        drain(reader)


def sink(path, format="json", weighted=False, **options):
    options = {"connector": "file", "path": str(path), **{k.replace("__", "."): v for k, v in options.items()}}
    op = SinkOp("out", "file", options, format, COLUMNS, weighted)
    registry.check(op)
    CONNECTOR.validate(op)
    return op


def batch(numbers, weights=None):
    arrays = [pa.array(numbers, pa.int64()), pa.array([f"r{i}" for i in numbers])]
    names = ["i", "s"]
    if weights is not None:
        arrays.append(pa.array(weights, pa.int32()))
        names.append("__weight")
    return pa.record_batch(arrays, names=names)


@pytest.mark.parametrize("format", ["json", "csv", "parquet"])
def test_a_sink_folder_gets_a_file_an_epoch_that_reads_back(tmp_path, format):
    folder = tmp_path / "out"
    op = sink(folder, format)
    writers = [CONNECTOR.open_sink(op, index, 2) for index in range(2)]
    for index, writer in enumerate(writers):
        writer.write(batch([index * 10, index * 10 + 1]))
        writer.write(batch([index * 10 + 2]))
        assert not [p for p in folder.iterdir() if not p.name.startswith(".")]
    for writer in writers:
        writer.flush(7)
        writer.flush(8)
        writer.write(batch([99]))
        writer.close()
    ending = {"json": "jsonl"}.get(format, format)
    assert sorted(p.name for p in folder.iterdir()) == [f"000000000007-{i}.{ending}" for i in range(2)]
    rows, errors = drain(CONNECTOR.open_source(check(source(folder, format, mode="once")), 0, 1))
    assert not errors
    assert sorted(r["i"] for r in rows) == [0, 1, 2, 10, 11, 12]


def test_a_sink_file_grows_by_the_epoch(tmp_path):
    path = tmp_path / "out.csv"
    for epoch in range(2):
        writer = CONNECTOR.open_sink(sink(path, "csv"), 0, 1)
        writer.write(batch([epoch]))
        writer.flush(epoch)
        writer.write(batch([50]))
        writer.close()
    assert path.read_text() == "i,s\n0,r0\n1,r1\n"


def test_changes_are_told_in_a_column(tmp_path):
    writer = CONNECTOR.open_sink(sink(tmp_path / "out.json", weighted=True), 0, 1)
    writer.write(batch([1, 2], [2, -1]))
    writer.flush(1)
    writer.close()
    lines = (tmp_path / "out.json").read_text().splitlines()
    assert lines == ['{"op":"+","i":1,"s":"r1"}'] * 2 + ['{"op":"-","i":2,"s":"r2"}']
    with pytest.raises(SqlError, match="cannot tell rows that change"):
        sink(tmp_path / "x.csv", "csv", weighted=True)
    sink(tmp_path / "x.csv", "csv", weighted=True, csv__changes="true")


def test_sinks_that_cannot_be_are_refused(tmp_path):
    (tmp_path / "plain").write_text("")
    with pytest.raises(ConnectorError, match="is a file"):
        sink(tmp_path / "plain")
    with pytest.raises(SqlError, match="a Parquet file cannot grow"):
        sink(tmp_path / "x.parquet", "parquet")
