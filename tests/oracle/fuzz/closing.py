"""Random queries that show what has closed: windows, sessions, rows in turn; over relations with a watermark.

DuckDB's text reads ``$view_seen_e0``, the rows of ``e0`` with ``__place`` and the watermark ``__wm`` that each is
judged by, and ``$view_closed``, the watermark of the last barrier: a row counts for the windows that were open for it,
and what is shown is the batch answer over the windows that have closed.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.oracle.fuzz.aggregates import Aggregates
from tests.oracle.fuzz.choices import Choices
from tests.oracle.fuzz.expressions import Expressions, Ref, Scope
from tests.oracle.fuzz.queries import Query
from tests.oracle.fuzz.relations import Named, windows_in_duckdb

SESSIONS = re.compile(r"\$view_sessions_(e\d+)_(k|s|all)_(\d+)\b")
CLOSED = "(SELECT w FROM $view_closed)"
_ENDS = (Ref("window_end", "ts"), Ref("window_start", "ts"))


@dataclass(frozen=True)
class Stream(Named):
    """A relation with a watermark for ``ts``; `ordered`: its rows come in one order, as sessions need it."""

    ordered: bool = True


@dataclass(frozen=True)
class Closing(Query):
    """A query under EMIT ON WINDOW CLOSE, or in Flink's form, which closes by itself."""

    emit: bool = True
    late: str = ""
    """DuckDB's text for the time (of the row or of the end of its window) and the watermark of each late row; or ''."""
    late_time: str = ""
    streams: tuple[str, ...] = ()


def make_closing(known: Sequence[Named], rng: random.Random | None, given: Sequence[int] = ()) -> Closing:
    """Make a query over streams."""
    choices = Choices(rng, given)
    maker = _Maker(choices, [s for s in known if isinstance(s, Stream)])
    sql, batch, columns = maker.query()
    return Closing(
        sql,
        batch,
        columns,
        tuple(choices.taken),
        tuple(choices.spans),
        not maker.flink,
        maker.late,
        maker.late_time,
        tuple(dict.fromkeys(maker.read)),
    )


Made = tuple[str, str, tuple[Ref, ...]]


class _Maker:
    def __init__(self, choices: Choices, streams: Sequence[Stream]) -> None:
        self.choices, self.streams = choices, streams
        self.expressions = Expressions(choices)
        self.aggregates = Aggregates(choices, self.expressions)
        self.flink = False
        self.late = self.late_time = ""
        self.read: list[str] = []

    def query(self) -> Made:
        """Make one."""
        shapes: tuple[Callable[[], Made], ...] = (
            self._groups,
            self._groups,
            self._first_rows,
            self._join,
            self._over_windows,
            self._session_groups,
            self._sessions,
            self._in_turn,
            self._in_turn,
            self._by_time,
            self._rows,
            self._twice,
        )
        shape = self.choices.pick(shapes)
        self.flink = shape not in (self._in_turn, self._by_time, self._rows) and self.choices.chance(25)
        return shape()

    # what stands in FROM

    def _stream(self) -> Stream:
        stream = self.choices.pick(self.streams)
        self.read.append(stream.name)
        return stream

    def _window(self) -> tuple[str, int, int, int]:
        kind, size, slide = self.choices.pick(
            (("TUMBLE", 10, 10), ("HOP", 15, 5), ("CUMULATE", 15, 5), ("TUMBLE", 4, 4), ("HOP", 4, 4))
        )
        return kind, size, slide, self.choices.pick((0, 0, 0, 3))

    def _windows(self, stream: Stream, window: tuple[str, int, int, int], where: str = "") -> tuple[str, str]:
        """Return the rows of the windows of a stream, as an item without alias: Sabot's text and DuckDB's."""
        kind, size, slide, offset = window
        lengths = [*((slide, size) if kind != "TUMBLE" else (size,)), *([offset] if offset else [])]
        seconds = [f"INTERVAL '{n}' SECOND" for n in lengths]
        if self.flink:
            sql = f"TABLE({kind}(TABLE {stream.name}, DESCRIPTOR(ts), {', '.join(seconds)}))"
        else:
            sql = f"{kind}({stream.name}, ts, {', '.join(seconds)})"
        rows = windows_in_duckdb(f"$view_seen_{stream.name}", "ts", kind, size, slide, offset)
        own = f" AND {where}" if where else ""
        late = f"SELECT window_end, __wm FROM {rows} WHERE window_end <= __wm{own}"
        self.late = f"{self.late} UNION ALL {late}" if self.late else late
        self.late_time = "window_end"
        shown = f"(SELECT * EXCLUDE (__wm, __place) FROM {rows} WHERE (__wm IS NULL OR window_end > __wm)"
        return sql, f"{shown} AND window_end <= {CLOSED})"

    def _where(self, scope: Scope) -> str:
        with self.choices.span():
            return self.expressions.condition(scope) if self.choices.chance(30) else ""

    # shapes

    def _select(self, items: Sequence[Ref], sql: str, batch: str, rest: str, *, distinct: bool = False) -> Made:
        columns = tuple(Ref(f"o{i}", r.kind) for i, r in enumerate(items))
        head = "SELECT DISTINCT " if distinct else "SELECT "
        head += ", ".join(f"{r.text} AS {c.text}" for r, c in zip(items, columns, strict=True))
        return f"{head} FROM {sql}{rest}", f"{head} FROM {batch}{rest}", columns

    def _keys(self) -> list[Ref]:
        ends = [[_ENDS[0], _ENDS[1]], [_ENDS[0]], [_ENDS[1]]]
        keys = list(self.choices.pick(ends))
        if keys == [_ENDS[1]] and self.flink:
            keys = [*_ENDS]
        if self.choices.chance(60):
            keys.append(self.choices.pick((Ref("k", "int"), Ref("s", "text"))))
        return keys

    def _groups(self) -> Made:
        stream = self._stream()
        keys = self._keys()
        window = self._window()
        if _ENDS[0] not in keys and window[0] == "CUMULATE":
            # several windows begin together
            keys = [_ENDS[0], *keys]
        where = self._where(stream.columns)
        sql, batch = self._windows(stream, window, where)
        if self.choices.chance(10):
            items = [*keys, self.choices.pick((Ref("k", "int"), Ref("n", "int")))]
            return self._select(items, sql, batch, f" WHERE {where}" if where else "", distinct=True)
        calls = [self.aggregates.call(stream.columns) for _ in range(1 + self.choices.below(3))]
        by = ", ".join(k.text for k in keys)
        if self.choices.chance(10):
            by = f"{by}, ROLLUP (n)"
            calls.append(Ref("n", "int"))
        rest = (f" WHERE {where}" if where else "") + f" GROUP BY {by}"
        if self.choices.chance(20):
            rest += f" HAVING {self.choices.pick(('count(*) > 1', 'count(*) < 3', 'sum(n) > 1'))}"
        return self._select([*keys, *calls], sql, batch, rest)

    def _twice(self) -> Made:
        """Groups of groups of a window."""
        stream = self._stream()
        sql, batch = self._windows(stream, self._window())
        inner = "SELECT window_start, window_end, k, count(*) AS c, max(n) AS m FROM {} GROUP BY 1, 2, 3"
        rest = " AS i GROUP BY window_start, window_end"
        if self.choices.chance(40):
            inner = inner.replace("GROUP", "WHERE n IS NOT NULL GROUP")
            self.late = ""
        keys = [*_ENDS, Ref("count(*)", "int"), Ref("sum(c)", "big"), Ref("max(m)", "int")]
        return self._select(keys, f"({inner.format(sql)})", f"({inner.format(batch)})", rest)

    def _first_rows(self) -> Made:
        stream = self._stream()
        sql, batch = self._windows(stream, self._window())
        key = ", k" if self.choices.chance(60) else ""
        name = self.choices.pick(("row_number()", "rank()", "dense_rank()"))
        order = self.choices.pick(("id", "id DESC", "n DESC NULLS LAST, id", "ts DESC, id", "ts, id"))
        if name != "row_number()":
            order = order.removesuffix(", id")
        over = f"{name} OVER (PARTITION BY window_start, window_end{key} ORDER BY {order}) AS place"
        limit = self.choices.pick(("= 1", "<= 2", "BETWEEN 2 AND 3"))
        inner = f"SELECT id, k, n, ts, window_start, window_end, {over} FROM "
        items = [Ref("window_end", "ts"), Ref("id", "int"), Ref("n", "int")]
        if self.choices.chance(40):
            items.append(Ref("place", "int"))
        return self._select(items, f"({inner}{sql})", f"({inner}{batch})", f" AS i WHERE place {limit}")

    def _over_windows(self) -> Made:
        stream = self._stream()
        sql, batch = self._windows(stream, self._window())
        key = ", k" if self.choices.chance(50) else ""
        part = f"PARTITION BY window_start, window_end{key}"
        calls = [
            self.choices.pick(
                (
                    Ref(f"count(*) OVER ({part})", "int"),
                    Ref(f"sum(n) OVER ({part} ORDER BY id)", "big"),
                    Ref(f"max(ts) OVER ({part})", "ts"),
                    Ref(f"lead(n) OVER ({part} ORDER BY ts, id)", "int"),
                    Ref(f"lag(s, 2) OVER ({part} ORDER BY ts, id)", "text"),
                    Ref(f"count(n) OVER ({part} ORDER BY id ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING)", "int"),
                )
            )
            for _ in range(1 + self.choices.below(2))
        ]
        return self._select([Ref("id", "int"), Ref("window_end", "ts"), *calls], sql, batch, "")

    def _join(self) -> Made:
        left, right = self._stream(), self._stream()
        window = self._window()
        (a_sql, a_batch), (b_sql, b_batch) = self._windows(left, window), self._windows(right, window)
        self.late = ""
        kind = self.choices.pick(("JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "SEMI JOIN", "ANTI JOIN"))
        on = "a.window_start = b.window_start AND a.window_end = b.window_end"
        if self.choices.chance(80):
            on += " AND a.k = b.k"
        if self.choices.chance(20):
            on += " AND a.n < b.n"
        wheres = [self._where(s.columns) for s in (left, right)]
        parts = []
        for sql, alias, where in zip((a_sql, b_sql), "ab", wheres, strict=True):
            parts.append((sql, alias, where))
        shown = [Ref("a.window_end", "ts"), Ref("a.id", "int")]
        if kind not in ("SEMI JOIN", "ANTI JOIN"):
            shown = [*shown, Ref("b.id", "int"), Ref("b.window_end", "ts")]
            if self.flink:
                shown[0] = Ref("coalesce(a.window_end, b.window_end)", "ts")

        def text(a: str, b: str) -> str:
            items = [
                f"(SELECT * FROM {item}{f' WHERE {where}' if where else ''}) AS {alias}"
                for item, alias, where in zip((a, b), "ab", wheres, strict=True)
            ]
            return f"{items[0]} {kind} {items[1]} ON {on}"

        return self._select(shown, text(a_sql, b_sql), text(a_batch, b_batch), "")

    def _session_item(self) -> tuple[Stream, str, str, str]:
        ordered = [s for s in self.streams if s.ordered]
        if not ordered:
            return self.streams[0], "", "", ""
        stream = self.choices.pick(ordered)
        self.read.append(stream.name)
        key = self.choices.pick(("k", "s", "all"))
        gap = self.choices.pick((4, 2, 7))
        by = "" if key == "all" else f" PARTITION BY {key}"
        sql = f"SESSION({stream.name}{by}, ts, INTERVAL '{gap}' SECOND)"
        if self.flink:
            sql = f"TABLE(SESSION(TABLE {stream.name}{by}, DESCRIPTOR(ts), INTERVAL '{gap}' SECOND))"
        found = f"$view_sessions_{stream.name}_{key}_{gap}"
        columns = "r.* EXCLUDE (__wm, __place), f.window_start, f.window_end"
        joined = f"{found} AS f JOIN $view_seen_{stream.name} AS r ON r.__place = f.place"
        self.late = f"SELECT r.ts, r.__wm FROM {joined} WHERE f.window_end IS NULL"
        self.late_time = "ts"
        return stream, key, sql, f"(SELECT {columns} FROM {joined} WHERE f.window_end IS NOT NULL)"

    def _sessions(self) -> Made:
        _, _, sql, batch = self._session_item()
        if not sql:
            return self._rows()
        items = [Ref("id", "int"), Ref("k", "int"), Ref("ts", "ts"), *_ENDS]
        return self._select(items, sql, batch, "")

    def _session_groups(self) -> Made:
        stream, key, sql, batch = self._session_item()
        if not sql:
            return self._groups()
        keys = [*_ENDS, *([] if key == "all" else [Ref(key, "int" if key == "k" else "text")])]
        calls = [self.aggregates.call(stream.columns) for _ in range(1 + self.choices.below(2))]
        return self._select([*keys, *calls], sql, batch, f" GROUP BY {', '.join(k.text for k in keys)}")

    def _rows(self) -> Made:
        """The bare rows of a window."""
        self.flink = False
        stream = self._stream()
        where = self._where(stream.columns)
        sql, batch = self._windows(stream, self._window(), where)
        return self._select([Ref("id", "int"), Ref("ts", "ts"), *_ENDS], sql, batch, f" WHERE {where}" if where else "")

    def _by_time(self) -> Made:
        """Groups by the watermark's own column: no row of the watermark's very time is late."""
        stream = self._stream()
        calls = [self.aggregates.call(stream.columns) for _ in range(1 + self.choices.below(2))]
        seen = f"$view_seen_{stream.name}"
        self.late, self.late_time = f"SELECT ts, __wm FROM {seen} WHERE ts < __wm", "ts"
        batch = f"(FROM {seen} WHERE (__wm IS NULL OR ts >= __wm) AND ts < {CLOSED})"
        key = [self.choices.pick((Ref("k", "int"), Ref("s", "text")))] if self.choices.chance(60) else []
        keys = [Ref("ts", "ts"), *key]
        return self._select([*keys, *calls], stream.name, batch, f" GROUP BY {', '.join(k.text for k in keys)}")

    def _in_turn(self) -> Made:
        """Functions over the rows in their order: each row once, when what it waits for has passed."""
        stream = self._stream()
        key = self.choices.pick(("k", "s", ""))
        by = f"PARTITION BY {key} " if key else ""
        order = f"{by}ORDER BY ts, id"
        behind = 0
        calls = []
        for _ in range(1 + self.choices.below(2)):
            call, waits = self.choices.pick(
                (
                    (Ref(f"row_number() OVER ({order})", "int"), 0),
                    (Ref(f"sum(n) OVER ({order})", "big"), 0),
                    (Ref(f"lag(n, 2) OVER ({order})", "int"), 0),
                    (Ref(f"rank() OVER ({by}ORDER BY ts)", "int"), 0),
                    (Ref(f"count(*) OVER ({by}ORDER BY ts)", "int"), 0),
                    (Ref(f"max(n) OVER ({order} ROWS BETWEEN 2 PRECEDING AND CURRENT ROW)", "int"), 0),
                    (Ref(f"first_value(s) OVER ({order})", "text"), 0),
                    (Ref(f"lead(n) OVER ({order})", "int"), 1),
                    (Ref(f"lead(id, 2) OVER ({order})", "int"), 2),
                    (Ref(f"sum(n) OVER ({order} ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING)", "big"), 1),
                    (Ref(f"count(*) OVER ({order} ROWS BETWEEN CURRENT ROW AND 2 FOLLOWING)", "int"), 2),
                )
            )
            calls.append(call)
            behind = max(behind, waits)
        seen = f"$view_seen_{stream.name}"
        self.late, self.late_time = f"SELECT ts, __wm FROM {seen} WHERE ts < __wm", "ts"
        batch = f"(FROM {seen} WHERE (__wm IS NULL OR ts >= __wm) AND ts < {CLOSED})"
        items = [Ref("id", "int"), Ref("ts", "ts"), Ref("k", "int"), *calls]
        sql, text, columns = self._select(items, stream.name, batch, "")
        if behind:
            text += f" QUALIFY lead(1, {behind}) OVER ({order}) IS NOT NULL"
        return sql, text, columns
