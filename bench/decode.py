"""What decoding costs: NEXMark events as JSON, CSV and Parquet, beside DuckDB's and pyarrow's readers in the same run.

CPU-seconds per million events, user and system, of the whole process; one thread each.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from planner.task_spec import Columns, ColumnSpec, SourceOp
from sabotd.connectors.file_source import FileReader
from sabotd.connectors.nexmark import NexmarkReader, table_columns, write_ndjson
from sabotd.formats.decode import make_decoder
from sabotd.formats.encode import make_encoder

FOUR: Columns = (ColumnSpec("bid", "STRUCT(auction BIGINT, bidder BIGINT, price BIGINT, date_time TIMESTAMP)"),)
ALL: Columns = table_columns(None)[:-1]


def cpu_s(work: Callable[[], object]) -> float:
    """Return the least CPU time of three runs."""
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def read_files(path: Path, format: str, columns: Columns, reader_type: type = FileReader) -> int:
    """Read a file through its connector; returns the rows."""
    options = {"connector": "file", "path": str(path)}
    reader = reader_type(SourceOp("b", "file", options, format, columns, columns), 0, 1)
    rows = 0
    while (got := reader.read(131_072, 0)) is not None:
        rows += got.batch.num_rows
    reader.close()
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    events = parser.parse_args().events
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, {events:,} events")

    def show(name: str, seconds: float, rows: int = events) -> None:
        print(f"  {name:<58} {seconds / rows * 1e6:7.3f}  {rows / seconds / 1e6:7.2f} M/s")

    print(f"  {'':<58} {'CPU s/M':>7}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.ndjson"
        start = time.process_time()
        size = write_ndjson(path, events, {"seed": "42"})
        show(f"write NDJSON ({size / events:.0f} bytes an event)", time.process_time() - start)

        def generate(columns: Columns) -> None:
            options = {"connector": "nexmark", "events": str(events), "seed": "42"}
            reader = NexmarkReader(SourceOp("n", "nexmark", options, None, columns, columns), 0, 1)
            while not reader.finished():
                reader.read(65_536, 0)

        show("nexmark source, four fields of the bids", cpu_s(lambda: generate(FOUR)))
        show("nexmark source, everything", cpu_s(lambda: generate(ALL)))

        con = duckdb.connect(config={"threads": 1})
        spec = f"columns = {{bid: '{FOUR[0].type}'}}, format = 'newline_delimited'"
        query = f"SELECT sum(bid.auction + bid.bidder + bid.price), max(bid.date_time) FROM read_json('{path}', {spec})"
        duck = con.execute(query).fetchall()
        batch = make_decoder("json", FOUR, FOUR, {}).decode_buffer(path.read_bytes()).batch
        con.register("decoded", pa.Table.from_batches([batch]))
        ours = con.execute(query.split(" FROM ", maxsplit=1)[0] + " FROM decoded").fetchall()
        assert ours == duck, (ours, duck)

        show("file source, JSON, four fields", cpu_s(lambda: read_files(path, "json", FOUR)))
        show("file source, JSON, everything", cpu_s(lambda: read_files(path, "json", ALL)))
        show("DuckDB read_json, four fields", cpu_s(lambda: con.execute(query).fetchall()))

        data = path.read_bytes()
        lines = np.flatnonzero(np.frombuffer(data, np.uint8) == 10) + 1
        offsets = np.concatenate(([0], lines))
        decoder = make_decoder("json", FOUR, FOUR, {})
        show("payloads (buffer and offsets), four fields", cpu_s(lambda: decoder.decode_payloads((data, offsets))))

        bids = table_columns("bid")
        options = {"connector": "nexmark", "events": str(events), "seed": "42", "table": "bid"}
        reader = NexmarkReader(SourceOp("n", "nexmark", options, None, bids, bids), 0, 1)
        batches = []
        while (got := reader.read(65_536, 0)) is not None:
            batches.append(got.batch)
        table = pa.Table.from_batches(batches)
        rows = table.num_rows
        for name in ("json", "csv"):
            encoder = make_encoder(name, bids, {})
            show(f"encode the bids as {name.upper()}", cpu_s(lambda e=encoder: [e.encode(b) for b in batches]), rows)
        csv_path, parquet_path = Path(folder) / "bids.csv", Path(folder) / "bids.parquet"
        pyarrow.csv.write_csv(table, csv_path)
        pyarrow.parquet.write_table(table, parquet_path)
        four = tuple(c for c in bids if c.name in ("auction", "bidder", "price", "date_time"))
        show("file source, CSV, four of seven columns", cpu_s(lambda: read_files(csv_path, "csv", four)), rows)
        names = [c.name for c in four]
        read = pyarrow.csv.ReadOptions(use_threads=False)
        convert = pyarrow.csv.ConvertOptions(include_columns=names)
        show(
            "pyarrow.csv, the same",
            cpu_s(lambda: pyarrow.csv.read_csv(csv_path, read_options=read, convert_options=convert)),
            rows,
        )
        show("file source, Parquet, the same", cpu_s(lambda: read_files(parquet_path, "parquet", four)), rows)


if __name__ == "__main__":
    main()
