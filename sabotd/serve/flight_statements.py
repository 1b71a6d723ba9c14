"""Statements on the way through the engine: run, kept for their stream, streamed, cancelled, freed."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
from pyarrow import flight

from sabot.errors import ClientError, SabotError
from sabot.flight_sql import schemas
from sabotd.engine import PreparedInfo, StatementResult
from sabotd.serve.flight_calls import Call, Calls, Context
from sabotd.serve.flight_errors import flight_error
from sabotd.serve.flight_parameters import Row, statements
from sabotd.serve.flight_sessions import ClientSession, Sessions

# Go's clients refuse messages over 16 MiB
_MAX_BATCH_BYTES = 8 * 1024 * 1024
UNCLAIMED_S = 60.0


@dataclass(frozen=True)
class Outcome:
    """What a statement gave. `handle` names the stream of a query; it is empty where there is nothing to read."""

    handle: bytes
    schema: pa.Schema
    rows_affected: int
    is_query: bool
    notices: tuple[str, ...]
    tag: str

    def metadata(self) -> bytes:
        """Return what goes beside the schema: JSON with tag, notices, is_query."""
        return json.dumps({"tag": self.tag, "notices": self.notices, "is_query": self.is_query}).encode()


@dataclass
class _Pending:
    """A query's results that wait for their reader; holds its session open."""

    client: ClientSession
    results: list[StatementResult]
    sql: str
    deadline: float


class Statements:
    """Runs statements in their sessions and keeps what they opened until it is read, cancelled or forgotten."""

    def __init__(self, sessions: Sessions, calls: Calls) -> None:
        self._sessions = sessions
        self._calls = calls
        self._lock = threading.Lock()
        self._pending: dict[bytes, _Pending] = {}

    def run(self, context: Context, client: ClientSession, name: bytes, sql: str, rows: Sequence[Row]) -> Outcome:
        """Run `sql` once for every row of parameters, in order.

        Parameters
        ----------
        context : Context
            Of the call that waits for it; when its client goes away the statement is cancelled.
        client : ClientSession
            Entered; the caller leaves it.
        name : bytes
            The command as it came: what a cancel request may call it by.

        Raises
        ------
        flight.FlightError
            What the engine raised; the rows before the failing one stay done.
        """
        if not rows:
            msg = "no parameter row is bound"
            raise ClientError(msg, sqlstate="07001", hint="bind one row of parameters for each run")
        results: list[StatementResult] = []
        notices: list[str] = []
        affected, tag = 0, ""
        try:
            with self._turn(context, client, name, sql) as call, self._calls.running(call, client.session.cancel):
                for text, values in statements(sql, rows):
                    call.check()
                    result = client.session.execute(text, values)
                    results.append(result)
                    notices += result.notices
                    tag = result.tag
                    if not result.is_query:
                        affected += result.rows_affected
                        results.pop().close()
        except BaseException:
            for result in results:
                result.close()
            raise
        handle, schema = b"", schemas.EMPTY
        if results:
            handle, schema = uuid.uuid4().bytes, results[0].schema
            self._sessions.hold(client)
            with self._lock:
                self._pending[handle] = _Pending(client, results, sql, time.monotonic() + UNCLAIMED_S)
        return Outcome(handle, schema, affected, bool(results), tuple(notices), tag)

    def update(
        self, context: Context, client: ClientSession, name: bytes, sql: str, parts: Iterable[Sequence[Row]]
    ) -> int:
        """Run `sql` for the rows of all parts; return the rows affected, -1 if it was a query."""
        count = 0
        for rows in parts:
            if not rows:
                continue
            outcome = self.run(context, client, name, sql, rows)
            if outcome.is_query:
                self.forget(outcome.handle)
                return -1
            count += outcome.rows_affected
        return count

    def prepare(self, context: Context, client: ClientSession, sql: str) -> PreparedInfo:
        """Check `sql` in the session's turn without running it; raises as `run` does."""
        with self._turn(context, client, b"", sql):
            return client.session.prepare(sql)

    def stream(self, context: Context, handle: bytes) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """Return the rows that wait under `handle`; what they hold is freed when the iterator ends or goes.

        Raises
        ------
        ClientError
            When nothing waits under it (34000).
        """
        pending = self._take(handle)
        if pending is None:
            msg = "ticket is not valid"
            hint = f"a ticket can be read once, and within {UNCLAIMED_S:.0f} s"
            raise ClientError(msg, sqlstate="34000", hint=hint)
        batches = self._batches(context, handle, pending)
        next(batches)  # inside its `finally` from here on
        return pending.results[0].schema, batches

    def forget(self, handle: bytes) -> bool:
        """Free the results that wait under `handle`; whether there were any."""
        pending = self._take(handle)
        if pending is None:
            return False
        self._free(pending)
        return True

    def forget_session(self, key: str) -> None:
        """Free whatever waits for the session's client."""
        self._forget(lambda p: p.client.key == key)

    def forget_all(self) -> None:
        """Free whatever waits."""
        self._forget(lambda _: True)

    def expire(self) -> None:
        """Free what nobody came for."""
        now = time.monotonic()
        self._forget(lambda p: p.deadline < now)

    def _batches(self, context: Context, handle: bytes, pending: _Pending) -> Iterator[pa.RecordBatch]:
        """Yield None once to be ready, then the batches."""
        current = pending.results[0]
        call = Call(context, pending.client.key, handle, lambda: current.cancel())  # noqa: PLW0108
        try:
            self._calls.add(call)
            yield None
            for current in pending.results:
                call.check()
                for batch in current.batches():
                    yield from _slices(batch)
                call.check()
        except SabotError as exc:
            raise _translated(exc, pending.sql, call) from exc
        finally:
            self._calls.remove(call)
            self._free(pending)

    @contextmanager
    def _turn(self, context: Context, client: ClientSession, name: bytes, sql: str) -> Iterator[Call]:
        """Wait for the session's turn; the block may use its engine session. Errors leave as Flight's."""
        call = Call(context, client.key, name, None)
        try:
            self._calls.add(call)
            client.take_turn(call)
            try:
                yield call
                call.check()
            finally:
                client.give_turn()
        except SabotError as exc:
            raise _translated(exc, sql, call) from exc
        finally:
            self._calls.remove(call)

    def _take(self, handle: bytes) -> _Pending | None:
        with self._lock:
            return self._pending.pop(handle, None)

    def _free(self, pending: _Pending) -> None:
        for result in pending.results:
            result.close()
        self._sessions.leave(pending.client)

    def _forget(self, choose: Callable[[_Pending], bool]) -> None:
        with self._lock:
            chosen = [handle for handle, pending in self._pending.items() if choose(pending)]
        for handle in chosen:
            self.forget(handle)


def _translated(error: SabotError, sql: str, call: Call) -> flight.FlightError:
    """Return `error` as Flight's; whatever a cancelled engine said is a cancelled statement."""
    if call.cancelled:
        try:
            call.check()
        except ClientError as cancelled:
            error = cancelled
    return flight_error(error, sql)


def _slices(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Yield `batch` in pieces that a client's message limit lets through; nothing for an empty one."""
    if batch.num_rows == 0:
        return
    pieces = -(-batch.nbytes // _MAX_BATCH_BYTES) or 1
    rows = -(-batch.num_rows // pieces)
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)
