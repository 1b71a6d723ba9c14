"""The rows of an input as state: appended with their weights, rewritten when retractions have piled up."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow.compute as pc

from planner.task_spec import Columns
from sabot.ids import WEIGHT
from sabot.schema import quote
from sabotd.operators.close_agg import close_us
from sabotd.operators.columns import DUE, HASH, Batches, consolidated, declarations, names, row_count
from sabotd.state.duckdb_state import Session

_COMPACT_RETRACTIONS = 65_536
_EXPIRE_ROWS = 16_384
_LEAST_BUCKET_US = 1_000_000


class WeightedRows:
    """A table of `columns` with ``__weight`` (BIGINT) if `weighted`, fed from the slot `delta`.

    `where` keeps rows out that never matter; `hashed` is the expression of the key's hash, which is kept beside.
    A row may stand in several pieces whose weights sum. `expires` is (time column, microseconds): by the watermark,
    rows go when their sum is behind it.
    """

    def __init__(
        self,
        session: Session,
        name: str,
        columns: Columns,
        delta: str,
        *,
        weighted: bool = True,
        where: str = "",
        hashed: str = "",
        expires: tuple[str, int] | None = None,
    ) -> None:
        self.table = session.table(name)
        self._session, self._columns, self._weighted = session, columns, weighted
        self._swap = session.table(f"{name}_swap")
        self._stored = self._retracted = 0
        self._declared = declarations(columns, weighted=weighted) + (f", {HASH} UBIGINT" if hashed else "")
        due = f"epoch_us({quote(expires[0])}) + {expires[1]}" if expires is not None else ""
        self._declared += f", {DUE} BIGINT" if due else ""
        self._expires = expires
        self._due: Counter[int] = Counter()  # rows by the slice of time in which they can go
        self._bucket_us = max(_LEAST_BUCKET_US, abs(expires[1]) // 64) if expires is not None else 1
        session.execute(f"CREATE TABLE {self.table} ({self._declared})")
        beside = [quote(WEIGHT)] * weighted + [hashed] * bool(hashed) + [due] * bool(due)
        listed = ", ".join([*names(columns), *beside])
        self._listed = listed
        self._append = session.prepare(f"INSERT INTO {self.table} SELECT {listed} FROM {delta}{where}")

    def append(self, delta: Batches) -> None:
        """Append what the slot holds: `delta`."""
        self._append.run()
        if self._expires is not None:
            self._note_due(delta, *self._expires)
        if not self._weighted:
            return
        self._stored += row_count(delta)
        self._retracted += sum(pc.sum(pc.less(batch.column(WEIGHT), 0)).as_py() for batch in delta)
        if self._retracted > max(_COMPACT_RETRACTIONS, self._stored // 4):
            self._compact()

    def _compact(self) -> None:
        session = self._session
        session.execute(f"CREATE TABLE {self._swap} ({self._declared})")
        rows = consolidated(self._columns, self.table, weighted=True)
        session.execute(f"INSERT INTO {self._swap} SELECT {self._listed} FROM ({rows})")
        session.execute(f"DROP TABLE {self.table}")
        session.execute(f"ALTER TABLE {self._swap} RENAME TO {self.table}")
        self._stored, self._retracted = session.rows(self.table), 0

    def expire(self, watermark_us: int | None) -> None:
        """Let rows go that the watermark has passed, once they are a quarter of all: each is copied few times."""
        if watermark_us is None or not self._due:
            return
        passed = [bucket for bucket in self._due if (bucket + 1) * self._bucket_us <= watermark_us]
        if sum(self._due[bucket] for bucket in passed) < max(_EXPIRE_ROWS, self._due.total() // 4):
            return
        self.keep(f"WHERE {DUE} >= {watermark_us}")
        for bucket in passed:
            del self._due[bucket]

    def keep(self, which: str) -> None:
        """Rewrite the table with the rows that `which` leaves: a condition or a join over the alias ``s``."""
        self._session.execute(f"CREATE TABLE {self._swap} ({self._declared})")
        self._session.execute(f"INSERT INTO {self._swap} SELECT s.* FROM {self.table} s {which}")
        self._session.execute(f"DROP TABLE {self.table}")
        self._session.execute(f"ALTER TABLE {self._swap} RENAME TO {self.table}")

    def _note_due(self, delta: Batches, column: str, after_us: int) -> None:
        for batch in delta:
            # rows without a time can go at once
            due = close_us(batch, column).fill_null(0).to_numpy(zero_copy_only=False) + after_us
            buckets, counts = np.unique(due // self._bucket_us, return_counts=True)
            self._due.update(dict(zip(buckets.tolist(), counts.tolist(), strict=True)))
