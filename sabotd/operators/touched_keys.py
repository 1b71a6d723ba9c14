"""State by key that goes when nothing has touched the key for long: WITH (state_ttl = ...)."""

from __future__ import annotations

from collections.abc import Sequence

from planner.task_spec import Columns
from sabot.schema import quote
from sabotd.state.duckdb_state import Session, Statement, stored_type

_CHECKS = 8
"""How often in the length of the TTL old keys are looked for; each time what stays is copied."""


class TouchedKeys:
    """When each key was touched last, by the barriers' clock. Without key columns there is one key."""

    def __init__(self, session: Session, keys: Columns, ttl_us: int) -> None:
        self._session, self._ttl_us = session, ttl_us
        self._types = [stored_type(k.type) for k in keys]
        self._next_us: int | None = None
        self.table = session.table("touched")
        self._swap = session.table("touched_swap")
        self._names = [f'"#k{i}"' for i in range(len(keys))]
        columns = "".join(f"{n} {t}, " for n, t in zip(self._names, self._types, strict=True))
        session.execute(f'CREATE TABLE {self.table} ({columns}"#at" BIGINT)')

    def statement(self, slot: str, keys: Sequence[str], *, quoted: bool = False) -> Statement:
        """Return the statement that touches the keys of the rows in `slot` at ``$1``; without keys, the only one."""
        listed = "".join(f"{k if quoted else quote(k)}, " for k in keys)
        rows = f"SELECT DISTINCT {listed}CAST($1 AS BIGINT) FROM {slot}" if keys else "SELECT CAST($1 AS BIGINT)"
        return self._session.prepare(f"INSERT INTO {self.table} {rows}")

    def expire(self, now_us: int) -> bool:
        """Forget keys that were not touched for the length of the TTL; return whether there were any."""
        if self._next_us is None:
            self._next_us = now_us + self._ttl_us // _CHECKS
        if now_us < self._next_us:
            return False
        self._next_us = now_us + self._ttl_us // _CHECKS
        listed = "".join(f"{n}, " for n in self._names)
        group = f" GROUP BY {listed.removesuffix(', ')}" if self._names else ""
        latest = f'SELECT {listed}max("#at") AS "#at" FROM {self.table}{group}'
        self._session.execute(f"CREATE TABLE {self._swap} AS {latest}")
        before = self._session.rows(self._swap)
        self._session.execute(f'DELETE FROM {self._swap} WHERE "#at" <= {now_us - self._ttl_us} OR "#at" IS NULL')
        left = self._session.rows(self._swap)
        self._session.execute(f"DROP TABLE {self.table}")
        self._session.execute(f"ALTER TABLE {self._swap} RENAME TO {self.table}")
        return left < before

    def alive(self, keys: Sequence[str]) -> str:
        """Return the join that leaves the rows ``s`` whose key is still there."""
        on = " AND ".join(f"s.{quote(k)} IS NOT DISTINCT FROM k.{n}" for k, n in zip(keys, self._names, strict=True))
        return f"SEMI JOIN {self.table} k ON {on or 'true'}"
