"""Runs one statement on a thread of its own, so that Ctrl-C is heard while it runs; knows nothing of output."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pyarrow as pa

from sabot.errors import SabotError

if TYPE_CHECKING:
    from sabot.client import Connection, Result

EPOCH, WEIGHT = "__epoch", "__weight"
"""The columns by which a SUBSCRIBE's result is known."""
CANCEL_AGAIN_S = 0.2


class Query:
    """A statement under way.

    Parameters
    ----------
    connection : sabot.Connection
        Serves this statement alone until :meth:`close`.
    sql : str
        One statement.
    on_wait : callable, optional
        Called on the consumer's thread about every `wait_s` seconds while nothing comes.
    """

    def __init__(
        self,
        connection: Connection,
        sql: str,
        on_wait: Callable[[], None] | None = None,
        wait_s: float = 0.1,
    ) -> None:
        self._connection = connection
        self._sql = sql
        self.on_wait = on_wait
        self._wait_s = wait_s
        self._items: queue.Queue[Result | pa.RecordBatch | Exception | None] = queue.Queue(maxsize=4)
        self._stopped = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._work, name="query", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            result = self._connection.sql(self._sql)
            try:
                self._items.put(result)
                if result.is_query:
                    for batch in result.batches():
                        if self._stopped.is_set():
                            break
                        self._items.put(batch)
            finally:
                result.close()
        except (SabotError, pa.ArrowException, OSError) as error:
            self._items.put(error)
        finally:
            self._items.put(None)

    def result(self) -> Result:
        """Wait for the answer: its columns and tag.

        Raises
        ------
        SabotError
            What the daemon said.
        """
        item = self._next()
        assert item is not None
        assert not isinstance(item, pa.RecordBatch)
        return item

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Give the rows as they come; raises as :meth:`result`, on the way too."""
        while (item := self._next()) is not None:
            yield item

    def _next(self) -> Result | pa.RecordBatch | None:
        while True:
            try:
                item = self._items.get(timeout=self._wait_s if self.on_wait else None)
            except queue.Empty:
                if self.on_wait:
                    self.on_wait()
                continue
            if item is None:
                self._ended = True
            elif isinstance(item, Exception):
                raise item
            return item

    def close(self) -> None:
        """Stop the statement if it runs, and wait until it has stopped; the connection is free then."""
        if not self._ended:
            self._stopped.set()
            self._drain()
            self._ended = True
        self._thread.join()

    def _drain(self) -> None:
        while True:
            # again and again: the first may come before there is something to cancel
            if self._thread.is_alive():
                self._connection.cancel()
            try:
                while self._items.get(timeout=CANCEL_AGAIN_S) is not None:
                    pass
            except queue.Empty:
                continue
            return


def is_subscription(schema: pa.Schema) -> bool:
    """Tell whether a result is a changelog that does not end."""
    return bool(schema.names and schema.names[0] == EPOCH and schema.names[-1] == WEIGHT)
