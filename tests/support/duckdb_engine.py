"""A small engine over one in-memory DuckDB, for tests of the doors: real statements, no streaming jobs.

Beside DuckDB's SQL it takes ``SET name = value`` (a session's own), ``SHOW name``, ``FLUSH`` (waits until
`release_flush` is set or the statement is cancelled), ``FAIL`` (a query that fails after two rows) and
``SUBSCRIBE name [WITH (snapshot = false)]`` (the table's rows, then those that INSERT adds).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import duckdb
import pyarrow as pa

from sabot.errors import ClientError, JobError, Span, SqlError
from sabotd.engine import PreparedInfo, StatementResult, TableInfo

_EMPTY = pa.schema([])
_CANCELED = "57014"


class DuckdbResult:
    """A result whose rows come from a callable; counts itself with the engine while open."""

    def __init__(
        self,
        engine: DuckdbEngine,
        tag: str,
        schema: pa.Schema | None = None,
        rows: Iterator[pa.RecordBatch] | None = None,
        rows_affected: int = 0,
        notices: Sequence[str] = (),
    ) -> None:
        self.schema = _EMPTY if schema is None else schema
        self.is_query = schema is not None
        self.rows_affected = rows_affected
        self.notices = notices
        self.tag = tag
        self.cancelled = threading.Event()
        self._engine = engine
        self._rows = rows
        self._closed = False
        with engine.changed:
            engine.open_results += 1

    def batches(self) -> Iterator[pa.RecordBatch]:
        assert self._rows is not None
        yield from self._rows

    def cancel(self) -> None:
        self.cancelled.set()
        with self._engine.changed:
            self._engine.changed.notify_all()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            with self._engine.changed:
                self._engine.open_results -= 1
                self._engine.changed.notify_all()


class DuckdbSession:
    """One client's settings over a cursor of the engine's database."""

    def __init__(self, engine: DuckdbEngine) -> None:
        self._engine = engine
        self._con = engine.con.cursor()
        self._settings: dict[str, str] = {}
        self._cancelled = threading.Event()
        self.closed = False

    def execute(self, sql: str, parameters: Sequence[object] = ()) -> StatementResult:
        engine = self._engine
        self._cancelled.clear()
        engine.statements.append(sql)
        text = sql.strip().rstrip(";").strip()
        if match := re.fullmatch(r"set (\w+) = (\w+)", text, re.IGNORECASE):
            self._settings[match[1]] = match[2]
            return DuckdbResult(engine, "SET", notices=[f"{match[1]} is now {match[2]}"])
        if match := re.fullmatch(r"show (\w+)", text, re.IGNORECASE):
            table = pa.table({match[1]: [self._settings.get(match[1], "default")]})
            return DuckdbResult(engine, "SHOW", table.schema, iter(table.to_batches()))
        if text.upper() == "FLUSH":
            return self._flush()
        if text.upper() == "FAIL":
            return DuckdbResult(engine, "SELECT", pa.schema([("a", pa.int64())]), _fail())
        if match := re.fullmatch(r"subscribe (\w+)(\s+with \(snapshot = false\))?", text, re.IGNORECASE):
            return self._subscribe(match[1], snapshot=match[2] is None)
        return self._duckdb(sql, text, parameters)

    def prepare(self, sql: str) -> PreparedInfo:
        text = sql.strip().rstrip(";").strip()
        none = pa.schema([])
        if match := re.match(r"subscribe (\w+)", text, re.IGNORECASE):
            return PreparedInfo(self._columns(f"SELECT * FROM {match[1]}", 0), none, is_query=True)
        if match := re.fullmatch(r"show (\w+)", text, re.IGNORECASE):
            return PreparedInfo(pa.schema([(match[1], pa.string())]), none, is_query=True)
        if text.upper() == "FAIL":
            return PreparedInfo(pa.schema([("a", pa.int64())]), none, is_query=True)
        if re.match(r"set |flush$", text, re.IGNORECASE):
            return PreparedInfo(none, none, is_query=False)
        with _duckdb_errors(sql):
            statement = self._con.extract_statements(sql)[0]
            count = len(statement.named_parameters)
            parameters = pa.schema([pa.field(str(i + 1), pa.null()) for i in range(count)])
            if statement.type != duckdb.StatementType.SELECT:
                return PreparedInfo(_EMPTY, parameters, is_query=False)
            return PreparedInfo(self._columns(text, count), parameters, is_query=True)

    def _columns(self, query: str, parameters: int) -> pa.Schema:
        rows = self._con.sql(f"SELECT * FROM ({query}) LIMIT 0", params=[None] * parameters)
        return rows.to_arrow_table().schema

    def cancel(self) -> None:
        self._cancelled.set()
        self._con.interrupt()
        with self._engine.changed:
            self._engine.changed.notify_all()

    def close(self) -> None:
        self.closed = True
        self._con.close()
        with self._engine.changed:
            self._engine.open_sessions -= 1
            self._engine.changed.notify_all()

    def _flush(self) -> StatementResult:
        engine = self._engine
        engine.flushing.set()
        with engine.changed:
            engine.changed.wait_for(lambda: engine.release_flush or self._cancelled.is_set())
            if self._cancelled.is_set():
                engine.cancelled_flushes += 1
                engine.changed.notify_all()
        if self._cancelled.is_set():
            raise ClientError("statement was cancelled", sqlstate=_CANCELED)
        return DuckdbResult(engine, "FLUSH")

    def _subscribe(self, name: str, *, snapshot: bool) -> StatementResult:
        engine = self._engine
        con = engine.con.cursor()
        read = f"SELECT rowid AS position, * FROM {name} WHERE rowid >= ? ORDER BY rowid"
        schema = con.sql(f"SELECT * FROM {name} LIMIT 0").to_arrow_table().schema
        last = con.sql(f"SELECT coalesce(max(rowid), -1) FROM {name}").fetchall()[0][0]
        result = DuckdbResult(engine, "SUBSCRIBE", schema)

        def news(seen: int) -> bool:
            return engine.version != seen or result.cancelled.is_set()

        def rows() -> Iterator[pa.RecordBatch]:
            position = 0 if snapshot else last + 1
            while not result.cancelled.is_set():
                seen = engine.version
                for batch in con.sql(read, params=[position]).to_arrow_table().to_batches():
                    if batch.num_rows:
                        position = batch.column(0)[-1].as_py() + 1
                        yield pa.RecordBatch.from_arrays(batch.columns[1:], schema=schema)
                with engine.changed:
                    engine.changed.wait_for(partial(news, seen))
            con.close()

        result._rows = rows()
        return result

    def _duckdb(self, sql: str, text: str, parameters: Sequence[object]) -> StatementResult:
        engine = self._engine
        with _duckdb_errors(sql):
            found = self._con.extract_statements(sql)
            if len(found) != 1:
                raise SqlError("one statement at a time", text=sql)
            if found[0].type == duckdb.StatementType.SELECT:
                table = self._con.sql(text, params=list(parameters)).to_arrow_table()
                return DuckdbResult(engine, "SELECT", table.schema, iter(table.to_batches(max_chunksize=100_000)))
            done = self._con.execute(sql, list(parameters)).fetchall()
        verb = text.split(maxsplit=1)[0].upper()
        if verb not in {"INSERT", "UPDATE", "DELETE"}:
            return DuckdbResult(engine, " ".join(text.upper().split()[:2]))
        with engine.changed:
            engine.version += 1
            engine.changed.notify_all()
        tag = f"INSERT 0 {done[0][0]}" if verb == "INSERT" else f"{verb} {done[0][0]}"
        return DuckdbResult(engine, tag, rows_affected=done[0][0])


@contextmanager
def _duckdb_errors(sql: str) -> Iterator[None]:
    try:
        yield
    except duckdb.InterruptException as exc:
        raise ClientError("statement was cancelled", sqlstate=_CANCELED) from exc
    except duckdb.Error as exc:
        name = re.search(r'"(\w+)"', str(exc))
        at = sql.find(name[1]) if name else -1
        span = Span(at, at + len(name[1])) if name and at >= 0 else Span(0, len(sql))
        raise SqlError(str(exc).partition("\n")[0].lower(), span=span, text=sql) from exc


class DuckdbEngine:
    """One database for all sessions; counts what is open."""

    def __init__(self) -> None:
        self.con = duckdb.connect(":memory:")
        self.changed = threading.Condition()
        self.version = 0
        self.open_results = 0
        self.open_sessions = 0
        self.release_flush = False
        self.cancelled_flushes = 0
        self.flushing = threading.Event()
        self.statements: list[str] = []

    def open_session(self) -> DuckdbSession:
        with self.changed:
            self.open_sessions += 1
        return DuckdbSession(self)

    def tables(self) -> Sequence[TableInfo]:
        con = self.con.cursor()
        found = con.execute(
            "SELECT table_name, table_type FROM information_schema.tables ORDER BY table_name"
        ).fetchall()
        kinds = {"BASE TABLE": "TABLE", "VIEW": "VIEW"}
        return [
            TableInfo("public", name, kinds[kind], con.sql(f"SELECT * FROM {name} LIMIT 0").to_arrow_table().schema)
            for name, kind in found
        ]

    def wait_idle(self, timeout_s: float = 10.0) -> bool:
        """Wait until no result is open; return whether that came."""
        with self.changed:
            return self.changed.wait_for(lambda: self.open_results == 0, timeout_s)


def _fail() -> Iterator[pa.RecordBatch]:
    yield pa.record_batch({"a": [1, 2]})
    raise JobError("job 'mv:v' failed", hint="see SHOW JOBS")
