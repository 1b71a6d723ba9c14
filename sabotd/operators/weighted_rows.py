"""The rows of an input as state: appended with their weights, rewritten when retractions have piled up."""

from __future__ import annotations

import pyarrow.compute as pc

from planner.task_spec import Columns
from sabot.ids import WEIGHT
from sabot.schema import quote
from sabotd.operators.columns import HASH, Batches, consolidated, declarations, names, row_count
from sabotd.state.duckdb_state import Session

_COMPACT_RETRACTIONS = 65_536


class WeightedRows:
    """A table of `columns` with ``__weight`` (BIGINT) if `weighted`, fed from the slot `delta`.

    `where` keeps rows out that never matter; `hashed` is the expression of the key's hash, which is kept beside.
    A row may stand in several pieces whose weights sum.
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
    ) -> None:
        self.table = session.table(name)
        self._session, self._columns, self._weighted = session, columns, weighted
        self._swap = session.table(f"{name}_swap")
        self._stored = self._retracted = 0
        self._declared = declarations(columns, weighted=weighted) + (f", {HASH} UBIGINT" if hashed else "")
        session.execute(f"CREATE TABLE {self.table} ({self._declared})")
        listed = ", ".join([*names(columns), *([quote(WEIGHT)] if weighted else []), *([hashed] if hashed else [])])
        self._listed = listed
        self._append = session.prepare(f"INSERT INTO {self.table} SELECT {listed} FROM {delta}{where}")

    def append(self, delta: Batches) -> None:
        """Append what the slot holds: `delta`."""
        self._append.run()
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
