"""Runs a case on a sabotd with its agents: the script as a user would type it, each view compared at every FLUSH."""

from __future__ import annotations

import contextlib
import re
from collections import Counter

import duckdb
import pyarrow as pa

from sabot.client_connection import Connection
from sabot.client_result import Result
from sabot.embedded import Embedded
from sabot.errors import SabotError
from tests.oracle.fuzz.closing import Closing
from tests.oracle.fuzz.conflicts import Returning, Upsert
from tests.oracle.fuzz.history import Case, Change, DropView, Flush, Insert, MakeView, Statement, Tick
from tests.oracle.fuzz.in_process import Failure, Outcome, alike
from tests.oracle.fuzz.mirror import Mirror, TooManyRowsError
from tests.oracle.harness import Bag
from tests.support.job_runner import freeze


class Server:
    """A private sabotd; a case finds it empty and leaves it so."""

    def __init__(self, agents: int = 2) -> None:
        self._embedded = Embedded(agents=agents)
        self._con = Connection(self._embedded.wait_ready())

    def close(self) -> None:
        self._con.close()
        self._embedded.close()

    def run(self, case: Case) -> Outcome:
        """Run a case until a view differs from DuckDB's answer, or a statement fails."""
        mirror = Mirror(case.tables)
        try:
            return _Run(case, mirror, self._con).run()
        finally:
            mirror.close()
            for kind in ("materialized view", "table"):
                for name, *_ in self._con.sql(f"SHOW {kind}s").fetchall():
                    self._con.sql(f"DROP {kind} IF EXISTS {name} CASCADE").close()


class _Run:
    def __init__(self, case: Case, mirror: Mirror, con: Connection) -> None:
        self._case, self._mirror, self._con = case, mirror, con
        self._outcome = Outcome()
        self._views: dict[str, MakeView] = {}
        self._gone: set[str] = set()

    def run(self) -> Outcome:
        for table in self._case.tables:
            self._con.sql(table.ddl()).close()
        for statement in self._case.statements:
            self._step(statement)
            if self._outcome.failure is not None:
                break
        return self._outcome

    def _step(self, statement: Statement) -> None:
        if isinstance(statement, MakeView) and not self._makes(statement):
            return
        if isinstance(statement, DropView) and statement.name not in self._views:
            return
        try:
            with contextlib.closing(self._con.sql(statement.sql())) as result:
                told = _bag(result) if isinstance(statement, Upsert | Returning) and statement.returning else Counter()
        except SabotError as error:
            if isinstance(statement, MakeView) and error.sqlstate == "0A000":
                self._outcome.refused[alike(error.message)] += 1
                self._gone.add(statement.name)
                return
            self._fail(getattr(statement, "name", ""), statement.sql(), f"error: {error.message}")
            return
        match statement:
            case Insert() | Change():
                self._mirror.change(statement)
                if told != self._mirror.returned:
                    problem = f"RETURNING gives {dict(told)}, not {dict(self._mirror.returned)}"
                    self._fail("", statement.sql(), problem)
                    self._outcome.failure.kind = "returning"
            case MakeView(name=name):
                self._views[name] = statement
            case DropView(name=name):
                del self._views[name]
                self._mirror.drop_view(name)
            case Tick():
                self._mirror.tick()
            case Flush():
                self._mirror.tick()
                for name in self._views:
                    self._compare(name)

    def _makes(self, made: MakeView) -> bool:
        if set(re.findall(r"\bv\d+\b", made.query.sql)) & self._gone:
            self._gone.add(made.name)
            return False
        self._outcome.views += 1
        try:
            self._mirror.make_view(made)
            self._mirror.answer(made.name)
        except (duckdb.Error, TooManyRowsError) as error:
            self._outcome.no_queries[alike(str(error).splitlines()[0])] += 1
            self._gone.add(made.name)
            return False
        return True

    def _compare(self, name: str) -> None:
        if self._outcome.failure is not None:
            return
        made = self._views[name]
        try:
            wanted = self._mirror.answer(name)
        except (duckdb.Error, TooManyRowsError):
            return
        got = self._rows(f"SELECT * FROM {name}")
        self._outcome.compared += 1
        kind = "wrong rows"
        if got == wanted and isinstance(made.query, Closing) and made.query.late:
            kind = "wrong late rows"
            wanted = self._mirror.late(name)
            got = self._rows(f"SELECT {made.query.late_time}, watermark FROM sabot_late('{name}')")
        if got != wanted:
            missing, extra = wanted - got, got - wanted
            problem = f"{kind}: missing {dict(missing.most_common(5))}, too many {dict(extra.most_common(5))}"
            self._outcome.failure = Failure(kind, name, made.query.sql, problem, wanted, got)

    def _rows(self, sql: str) -> Bag:
        with contextlib.closing(self._con.sql(sql)) as result:
            return _bag(result)

    def _fail(self, view: str, sql: str, problem: str) -> None:
        self._outcome.failure = Failure(alike(problem), view, sql, problem)


def _bag(result: Result) -> Bag:
    shown: pa.Table = result.arrow()
    return Counter(map(freeze, zip(*(c.to_pylist() for c in shown.columns), strict=True)))
