"""The ``file`` connector: files, folders and patterns as sources, folders of files or one file as sinks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pyarrow as pa

from cython_shuffle.placed import RangePartitioner
from planner.job_columns import columns_schema
from planner.stream_node import partition_bounds
from planner.task_spec import SinkOp, SourceOp
from sabot.errors import ConnectorError, ShuffleError, SqlError
from sabotd.connectors.base import Connector, OptionSpec, SinkWriter
from sabotd.connectors.envelopes import CHANGES
from sabotd.connectors.file_listing import file_format, is_pattern, is_watched
from sabotd.connectors.file_sink import CHANGE_COLUMN, AppendWriter, FileWriter, sink_columns
from sabotd.connectors.file_source import FileReader, check_first_file
from sabotd.connectors.options import did_you_mean, read_bool
from sabotd.connectors.payloads import check_include
from sabotd.formats.decode import make_decoder
from sabotd.formats.encode import make_encoder

_SOURCE: Final = ("source",)
_SINK: Final = ("sink",)
_OPTIONS: Final[dict[str, OptionSpec]] = {
    "path": OptionSpec("str", required=True, doc="a file, a folder or a pattern"),
    "mode": OptionSpec(
        "enum",
        choices=("once", "watch"),
        doc="once: what is there, then end; watch: new files and growth too; by default once for one file, else watch",
        of=_SOURCE,
    ),
    "match.pattern": OptionSpec("str", doc="of a folder only files whose name matches", of=_SOURCE),
    "scan.interval": OptionSpec("duration", "500ms", doc="how often to look for new files", of=_SOURCE),
    "csv.multiline": OptionSpec(
        "bool", "true", doc="quoted fields may hold newlines; false lets tasks share a large CSV file", of=_SOURCE
    ),
    "csv.changes": OptionSpec(
        "bool", "false", doc=f"write a stream with retractions as CSV, with the column {CHANGE_COLUMN!r}", of=_SINK
    ),
    "layout": OptionSpec(
        "enum",
        choices=("folder", "append"),
        doc="a file an epoch, or one file that grows; by the path's ending",
        of=_SINK,
    ),
    "partition_by": OptionSpec("str", doc="the column by whose ranges rows are divided over tasks and files", of=_SINK),
    "partitions": OptionSpec(
        "int",
        doc="how many ranges, about equal in the rows that are there at CREATE, where no bounds are given",
        of=_SINK,
    ),
    "partition_bounds": OptionSpec("str", doc="where the second and each further range begins, by comma", of=_SINK),
}
INCLUDE_TYPES: Final = {"file": ("VARCHAR",)}


def _appends(op: SinkOp) -> bool:
    """Whether the sink is one file that grows: as `layout` says, else if the path has an ending."""
    layout = op.options.get("layout", "").lower()
    return layout == "append" if layout else bool(Path(op.options["path"]).suffix)


def check_ranges(op: SinkOp) -> None:
    """Check the options by which rows are divided into ranges; SqlError names the wrong one."""
    column, bounds = op.options.get("partition_by"), partition_bounds(op.options)
    if column is None and not bounds and "partitions" not in op.options:
        return
    if column is None or not bounds:
        given, missing = ("partition_by", "partition_bounds") if column else ("partition_bounds", "partition_by")
        msg = f"option {given!r} needs option {missing!r}"
        hint = "partition_by = 'n', partition_bounds = '100, 200' makes three; partitions = 3 chooses them"
        raise SqlError(msg, hint=hint, sqlstate="22023")
    if op.options.get("partitions", str(len(bounds) + 1)) != str(len(bounds) + 1):
        msg = f"option 'partitions' is {op.options['partitions']}, {len(bounds)} bounds make {len(bounds) + 1}"
        raise SqlError(msg, hint="leave one of them out", sqlstate="22023")
    if all(c.name != column for c in op.columns):
        msg = f"option 'partition_by' is {column!r}, which is no column of the sink"
        raise SqlError(msg, hint=did_you_mean(column, [c.name for c in op.columns]), sqlstate="42703")
    try:
        RangePartitioner(columns_schema(op.columns), column, tuple(map(pa.scalar, bounds)), len(bounds) + 1)
    except ShuffleError as error:
        msg = f"option 'partition_bounds': {error.message}"
        raise SqlError(msg, hint=error.hint, sqlstate="22023") from error


class FileConnector(Connector):
    """Files on the machine of the agent."""

    name = "file"
    source_formats = CHANGES
    options = _OPTIONS

    def validate(self, op: SourceOp | SinkOp) -> None:
        path = op.options["path"]
        if not path:
            msg = "option 'path' is empty"
            raise SqlError(msg, sqlstate="22023")
        if isinstance(op, SinkOp):
            self._validate_sink(op, path)
            return
        check_include(op, INCLUDE_TYPES)
        included = {column for _, column in op.include}
        columns = tuple(c for c in op.columns if c.name not in included)
        if is_pattern(path):
            folder = path.split("*")[0].split("?")[0].split("[")[0].rpartition(os.sep)[0] or "."
            if not Path(folder).is_dir():
                raise ConnectorError(f"folder {folder!r} of path {path!r} does not exist")
        elif not Path(path).exists():
            raise ConnectorError(
                f"path {path!r} does not exist", hint="a folder must be there before its first file", sqlstate="58P01"
            )
        if file_format(op.format, path) != "parquet":
            make_decoder(file_format(op.format, path), columns, columns, op.options)
        check_first_file(op, columns, columns)

    def _validate_sink(self, op: SinkOp, path: str) -> None:
        kind = file_format(op.format, path)
        columns = sink_columns(op)
        if op.weighted and any(c.name == CHANGE_COLUMN for c in op.columns):
            msg = f"the sink's rows change, so its files need the column {CHANGE_COLUMN!r}, which the view has itself"
            raise SqlError(msg, hint=f"rename the column: SELECT {CHANGE_COLUMN} AS another", sqlstate="42701")
        if op.weighted and kind in ("csv", "raw") and not (kind == "csv" and read_bool(op.options, "csv.changes")):
            msg = f"{kind.upper()} files cannot tell rows that change or vanish"
            hint = f"use ENCODE JSON or PARQUET, or csv.changes = true for a column {CHANGE_COLUMN!r} of + and -"
            raise SqlError(msg, hint=hint, sqlstate="0A000")
        check_ranges(op)
        if kind == "parquet":
            if _appends(op):
                msg = f"a Parquet file cannot grow: path {path!r} must be a folder"
                raise SqlError(msg, hint="leave the ending out, or set layout = 'folder'", sqlstate="0A000")
        else:
            make_encoder(kind, columns, op.options)
        target = Path(path)
        if not _appends(op) and target.exists() and not target.is_dir():
            raise ConnectorError(f"path {path!r} is a file", hint="a folder takes a file an epoch")
        parent = target if target.is_dir() else next(p for p in target.absolute().parents if p.exists())
        if not os.access(parent, os.W_OK):
            raise ConnectorError(f"folder {str(parent)!r} is not writable", sqlstate="42501")

    def is_finite(self, options: Mapping[str, str]) -> bool:
        return not is_watched(options)

    def open_source(self, op: SourceOp, index: int, parallelism: int) -> FileReader:
        return FileReader(op, index, parallelism)

    def open_sink(self, op: SinkOp, index: int, parallelism: int) -> SinkWriter:
        if not _appends(op):
            return FileWriter(op, index)
        if parallelism > 1:
            # two tasks must not write one file
            path = Path(op.options["path"])
            options = {**op.options, "path": str(path.with_name(f"{path.stem}-{index}{path.suffix}"))}
            op = SinkOp(op.relation, op.connector, options, op.format, op.columns, op.weighted)
        return AppendWriter(op)


CONNECTOR: Final = FileConnector()
