"""The rows of relations with a watermark as one view meets them, beside a case's tables in DuckDB."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import duckdb
import pyarrow as pa

from tests.oracle.fuzz.closing import SESSIONS, Closing
from tests.oracle.fuzz.lateness import Judged, Lateness, pass_barriers, sessions
from tests.oracle.fuzz.tables import Table

_EPOCH = dt.datetime(1970, 1, 1)
_US = dt.timedelta(microseconds=1)


class Seen:
    """Keeps ``view_seen_e0``, ``view_closed`` and the sessions that DuckDB's text of a closing view reads.

    `by_split`: sources have splits and are read from their start; else all are tables.
    """

    def __init__(
        self, con: duckdb.DuckDBPyConnection, view: str, query: Closing, tables: Sequence[Table], *, by_split: bool
    ) -> None:
        self._con, self._view, self._query = con, view, query
        self._tables = {t.name: t for t in tables if t.name in query.streams}
        self._splits = {t.name: t.splits if by_split else 0 for t in self._tables.values()}
        self._of = {t.name: Lateness((t.delay_s or 0) * 1_000_000, self._splits[t.name]) for t in self._tables.values()}
        for name in self._tables:
            con.execute(
                f"CREATE TABLE {view}_seen_{name} AS SELECT *, 0::BIGINT AS __place, NULL::TIMESTAMP AS __wm"
                f" FROM {name} LIMIT 0"
            )
        con.execute(f"CREATE TABLE {view}_closed AS SELECT NULL::TIMESTAMP AS w")
        self._sessions = sorted(set(SESSIONS.findall(query.batch)))
        for stream, key, gap in self._sessions:
            con.execute(
                f"CREATE TABLE {view}_sessions_{stream}_{key}_{gap} "
                "(place BIGINT, window_start TIMESTAMP, window_end TIMESTAMP)"
            )
        for name, splits in self._splits.items():
            self._take(name, ordered=splits > 0)

    def take(self) -> None:
        """Take the rows that have come."""
        for name in self._tables:
            self._take(name, ordered=True)

    def _take(self, name: str, *, ordered: bool) -> None:
        lateness = self._of[name]
        sql = f"SELECT id, epoch_us(ts) FROM {name} WHERE rowid >= {len(lateness.rows)} ORDER BY rowid"
        for number, at_us in self._con.execute(sql).fetchall():
            lateness.add(number % max(self._splits[name], 1), at_us, ordered=ordered)

    def tick(self) -> None:
        """Pass a barrier."""
        pass_barriers(list(self._of.values()))

    def refresh(self) -> None:
        """Write down what is so by now."""
        view = self._view
        for name, lateness in self._of.items():
            marks = pa.table(
                {
                    "place": pa.array(range(len(lateness.rows)), pa.int64()),
                    "wm": pa.array([r.watermark_us for r in lateness.rows], pa.int64()).cast(pa.timestamp("us")),
                }
            )
            self._con.register("marks", marks)
            self._con.execute(
                f"DELETE FROM {view}_seen_{name}; INSERT INTO {view}_seen_{name}"
                f" SELECT r.*, m.place, m.wm FROM {name} AS r JOIN marks AS m ON r.rowid = m.place"
            )
            self._con.unregister("marks")
        self._con.execute(f"UPDATE {view}_closed SET w = make_timestamp(?)", [self._closed()])
        for stream, key, gap in self._sessions:
            self._write_sessions(stream, key, int(gap))

    def _closed(self) -> int | None:
        barriers = [lateness.barrier_us for lateness in self._of.values()]
        known = [b for b in barriers if b is not None]
        return min(known) if len(known) == len(barriers) else None

    def _write_sessions(self, stream: str, key: str, gap_s: int) -> None:
        rows: list[Judged] = self._of[stream].rows
        shown = "0" if key == "all" else key
        keys = [k for (k,) in self._con.execute(f"SELECT {shown} FROM {stream} ORDER BY rowid").fetchall()]
        table = f"{self._view}_sessions_{stream}_{key}_{gap_s}"
        self._con.execute(f"DELETE FROM {table}")
        for one in sessions(rows, keys, gap_s * 1_000_000, self._closed()):
            ends = [None, None] if one.session is None else [_EPOCH + t * _US for t in one.session]
            self._con.execute(f"INSERT INTO {table} VALUES (?, ?, ?)", [one.place, *ends])

    def late(self) -> list[tuple[object, ...]]:
        """Return time and watermark of each late row, in no order; [] where the query does not say."""
        if not self._query.late:
            return []
        return self._con.execute(self._query.late.replace("$view", self._view)).fetchall()
