"""One DuckDB database per task: prepared statements over Arrow batches, one connection an operator.

Knows no operator. Rows enter through a `Slot` (a view whose rows are replaced before each run, so that the plan is
kept) and leave as record batches of exactly the promised schema.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import duckdb
import pyarrow as pa
from duckdb.func import ARROW, SPECIAL

from sabot.errors import InternalError, JobError
from sabot.schema import literal, quote

# A prepared plan outlives what it knew of the data: join sides stand as written (right side: the delta, built), and
# nothing is concluded from statistics of the moment of preparing.
_DISABLED_OPTIMIZERS = "join_order,build_side_probe_side,statistics_propagation"
_OUTPUT_ROWS = 131_072


class Slot:
    """An Arrow stream under a fixed name whose rows change between runs."""

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self._batches: Sequence[pa.RecordBatch] = ()

    def fill(self, batches: Sequence[pa.RecordBatch]) -> None:
        """Set the rows of the next runs; `batches` have the slot's schema and are not copied."""
        self._batches = batches

    def clear(self) -> None:
        """Let the rows go."""
        self._batches = ()

    def __arrow_c_schema__(self) -> object:
        return self.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return pa.RecordBatchReader.from_batches(self.schema, self._batches).__arrow_c_stream__()


class Statement:
    """A prepared statement. Runs without the GIL."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, call: str, schema: pa.Schema | None) -> None:
        self._connection = connection
        self._call = call
        self._schema = schema
        self._exact: bool | None = None

    def run(self, *parameters: int) -> None:
        """Run for its effect."""
        self._submit(parameters, "rows").drain()

    def batches(self, *parameters: int) -> list[pa.RecordBatch]:
        """Run and return the rows; no batch is empty.

        Raises
        ------
        JobError
            If the data makes the statement fail (a cast, an overflow, memory).
        """
        table = self._submit(parameters, "arrow").arrow_table()
        if self._schema is None:
            return [batch for batch in table.to_batches() if batch.num_rows]
        if self._exact is None:
            self._settle(table.schema, self._schema)
        if not self._exact:
            try:
                table = table.cast(self._schema)
            except pa.ArrowInvalid as error:
                raise JobError(f"a value does not fit its column: {error}", sqlstate="22003") from error
        return [
            pa.RecordBatch.from_arrays(batch.columns, schema=self._schema)
            for batch in table.to_batches()
            if batch.num_rows
        ]

    def row(self, *parameters: int) -> tuple[Any, ...]:
        """Run and return the first row as Python values."""
        first: tuple[Any, ...] = self._submit(parameters, "rows").fetchall()[0]
        return first

    def result_schema(self) -> pa.Schema:
        """Run over what the slots hold now and return the schema as DuckDB gives it."""
        table: pa.Table = self._submit((), "arrow").arrow_table()
        schema: pa.Schema = table.schema
        return schema

    def _settle(self, got: pa.Schema, wanted: pa.Schema) -> None:
        """Compare the result with the promised schema, once."""
        if got.names != wanted.names:
            raise InternalError(f"statement gives columns {got.names!r} where {wanted.names!r} are planned")
        self._exact = True
        for field, kind in zip(got, wanted.types, strict=True):
            if field.type.equals(kind):
                continue
            self._exact = False
            if not _may_cast(field.type, kind):
                raise InternalError(f"statement gives {str(field)!r} where {str(kind)!r} is planned")

    def _submit(self, parameters: tuple[int, ...], form: Literal["rows", "arrow"]) -> Any:
        call = f"{self._call}({', '.join(map(str, parameters))})" if parameters else self._call
        try:
            # The relation API above this call binds the text anew each time: 0.6 ms against 0.17 ms.
            return self._connection._submit(call, None, form, _OUTPUT_ROWS)  # noqa: SLF001
        except duckdb.Error as error:
            raise as_job_error(error) from error


class Session:
    """One operator's connection: its own slots and prepared statements, tables shared with the task."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, prefix: str) -> None:
        self._connection = connection
        self._prefix = prefix
        self._statements = itertools.count()
        self._tables: list[str] = []

    def table(self, suffix: str) -> str:
        """Return a quoted table name of this session's own."""
        return quote(f"{self._prefix}_{suffix}")

    def slot(self, name: str, schema: pa.Schema) -> Slot:
        """Register an empty slot that statements of this session read as `name`."""
        slot = Slot(schema)
        try:
            self._connection.register(name, slot)
        except duckdb.Error as error:
            raise as_job_error(error) from error
        return slot

    def execute(self, sql: str) -> None:
        """Run a statement once for its effect."""
        try:
            self._connection._submit(sql, None, "rows").drain()  # noqa: SLF001
        except duckdb.Error as error:
            raise as_job_error(error) from error

    def query(self, sql: str, schema: pa.Schema) -> list[pa.RecordBatch]:
        """Run a statement once and return its rows under `schema`; 1 ms dearer than a prepared one."""
        return Statement(self._connection, sql, schema).batches()

    def begin(self) -> None:
        """Begin a transaction; a commit of several writes costs as much as one."""
        self._connection.begin()

    def commit(self) -> None:
        """Commit."""
        self._connection.commit()

    def prepare(self, sql: str, schema: pa.Schema | None = None) -> Statement:
        """Prepare `sql`; with `schema`, its batches will have exactly that one.

        Where DuckDB's type differs from the promised one (a sum is HUGEINT) the values are cast.

        Raises
        ------
        InternalError
            If the statement does not bind, or names differ from `schema`: the plan is wrong.
        """
        name = f"s{next(self._statements)}"
        try:
            self._connection.execute(f"PREPARE {name} AS {sql}")
        except duckdb.Error as error:
            msg = f"statement does not bind: {error}"
            raise InternalError(msg, hint=sql) from error
        statement = Statement(self._connection, f"EXECUTE {name}", schema)
        if schema is not None and "$1" not in sql:
            statement.batches()
        return statement

    def checkpoint(self) -> None:
        """Fold updates into the tables: 45 ms a million rows, after which they are read a quarter faster."""
        self.execute("CHECKPOINT")

    def rows(self, table: str) -> int:
        """Count a table's rows."""
        return int(self._connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0])

    def interrupt(self) -> None:
        """Make the statement that runs now fail; from any thread."""
        # one that has just been closed has nothing left to interrupt
        with contextlib.suppress(duckdb.ConnectionException):
            self._connection.interrupt()

    def close(self) -> None:
        """Close the connection; idempotent."""
        self._connection.close()


class TaskDatabase:
    """The DuckDB database of one task.

    Parameters
    ----------
    folder : Path or None
        Where state that outgrows the limit spills to, under `name`; None for the system's temporary folder.
        What an earlier process left there is removed.
    memory_limit_mb : int
        What DuckDB may hold in memory before it spills.
    name : str
        Unique within `folder`.
    spill_bytes : int
        What it may take there; 0 for what the disk has free.

    Notes
    -----
    The database is in memory, whose tables spill too (10 M rows of 55 bytes under a limit of 200 MB: 0.8 s to insert,
    2.3 s into a file). A database file would also write a log that nobody reads: state comes back from the job's
    own checkpoints.
    """

    def __init__(self, folder: Path | None, memory_limit_mb: int, name: str, *, spill_bytes: int = 0) -> None:
        self.tell_failures: Callable[[str, Sequence[tuple[str, bytes, str]], int], None] | None = None
        """Takes rows on which an expression failed: what failed, some of the rows with reasons, how many there were."""
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._sessions: list[Session] = []
        self._count = itertools.count()
        safe = "".join(ch if ch.isalnum() else "_" for ch in name)
        if folder is None:
            self._scratch = tempfile.TemporaryDirectory(prefix=f"sabot-{safe}-")
            spill = Path(self._scratch.name)
        else:
            spill = folder / safe
            if spill.exists():
                shutil.rmtree(spill)
            spill.mkdir(parents=True)
        self._spill = spill
        try:
            self._connection = duckdb.connect(
                ":memory:", config={"threads": 1, "async_threads": 1, "memory_limit": f"{memory_limit_mb}MB"}
            )
            for setting in (
                f"temp_directory = {literal(str(spill))}",
                *([f"max_temp_directory_size = '{spill_bytes}B'"] if spill_bytes else []),
                # automatic checkpoints rewrite whole tables while a commit waits
                "checkpoint_threshold = '1TB'",
                "integer_division = true",
                "error_on_division_by_zero = false",
                # on one thread it costs nothing, and sources read watermarks row by row
                "preserve_insertion_order = true",
                "TimeZone = 'UTC'",
                "python_enable_replacements = false",
                "autoinstall_known_extensions = false",
                "autoload_known_extensions = false",
                f"disabled_optimizers = {literal(_DISABLED_OPTIMIZERS)}",
                "enable_external_access = false",
                "lock_configuration = true",
            ):
                self._connection.execute(f"SET GLOBAL {setting}")
        except duckdb.Error as error:
            self.close()
            raise as_job_error(error) from error

    def session(self) -> Session:
        """Open a session for one operator."""
        session = Session(self._connection.cursor(), f"op{next(self._count)}")
        self._sessions.append(session)
        return session

    def define(self, name: str, function: Callable[..., pa.Array], types: Sequence[str], returns: str) -> None:
        """Make a function that takes and gives Arrow arrays known to the statements of all sessions."""
        try:
            self._connection.create_function(name, function, list(types), returns, type=ARROW, null_handling=SPECIAL)
        except duckdb.Error as error:
            raise as_job_error(error) from error

    def interrupt(self) -> None:
        """Make the statements that run now fail; from any thread."""
        for session in self._sessions:
            session.interrupt()

    def close(self) -> None:
        """Close everything, the scratch folder too; idempotent."""
        for session in self._sessions:
            session.close()
        if hasattr(self, "_connection"):
            self._connection.close()
        if self._scratch is not None:
            self._scratch.cleanup()
        elif self._spill.exists():
            shutil.rmtree(self._spill)


_NO_ROOM = ("failed to offload", "max_temp_directory_size", "No space left on device")


def as_job_error(error: duckdb.Error) -> JobError:
    """Return DuckDB's error as ours, its first line as the message; state that finds no room on the disk is told so."""
    text = str(error)
    first = text.splitlines()[0] if text else type(error).__name__
    if any(words in text for words in _NO_ROOM):
        said = first.partition("Error: ")[2] or first
        msg = f"the state has outgrown the disk: {said}"
        hint = "EXPLAIN of the view tells what bounds its state; or give agents.state_dir, agents.spill_limit more room"
        return JobError(msg, hint=hint, sqlstate="53100")
    advice = "raise the task's memory limit" if isinstance(error, duckdb.OutOfMemoryException) else None
    return JobError(first, hint=advice)


def is_data_error(error: JobError) -> bool:
    """Whether a statement failed by the values of its rows, not by what the machine or the plan lacks."""
    return isinstance(
        error.__cause__, (duckdb.ConversionException, duckdb.OutOfRangeException, duckdb.InvalidInputException)
    )


def stored_type(type_text: str) -> str:
    """Return the type a state table uses for a column: text types that DuckDB would check again stay text."""
    return "VARCHAR" if type_text.upper() in {"JSON", "JSONB"} or type_text.upper().startswith("ENUM") else type_text


def _may_cast(got: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether a planned type may differ from DuckDB's: the same kind of value, checked for range when cast."""
    for kinds in (
        (pa.types.is_integer, pa.types.is_decimal),
        (pa.types.is_floating,),
        (pa.types.is_string, pa.types.is_dictionary),
        (pa.types.is_timestamp,),
    ):
        if any(is_kind(got) for is_kind in kinds) and any(is_kind(wanted) for is_kind in kinds):
            return True
    if pa.types.is_nested(got) and got.id == wanted.id and got.num_fields == wanted.num_fields:
        return all(_may_cast_field(got.field(i).type, wanted.field(i).type) for i in range(got.num_fields))
    return bool(pa.types.is_null(got))


def _may_cast_field(got: pa.DataType, wanted: pa.DataType) -> bool:
    return bool(got.equals(wanted)) or _may_cast(got, wanted)
