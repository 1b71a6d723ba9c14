"""Makes a failing case small: fewer statements, views and rows, simpler queries, as long as it fails alike."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from tests.oracle.fuzz.choices import simpler
from tests.oracle.fuzz.history import Case, Insert, MakeView, Statement
from tests.oracle.fuzz.in_process import Failure

T = TypeVar("T")
Fails = Callable[[Case], Failure | None]


class Shrinker:
    """Shrinks one case.

    Parameters
    ----------
    fails : callable
        Runs a case and gives what failed, or None.
    runs : int
        How often it may run a case.
    """

    def __init__(self, case: Case, failure: Failure, fails: Fails, runs: int) -> None:
        self.case, self.failure = case, failure
        self._fails, self._runs = fails, runs

    def shrink(self) -> tuple[Case, Failure]:
        """Return the smallest case found, and its failure."""
        before = None
        while before != self.case and self._runs > 0:
            before = self.case
            self._fewer_statements()
            self._fewer_rows()
            self._simpler_queries()
            self._one_task()
        return self.case, self.failure

    def _try(self, case: Case) -> bool:
        if self._runs <= 0 or case == self.case:
            return False
        self._runs -= 1
        failure = self._fails(case)
        if failure is None or failure.kind != self.failure.kind:
            return False
        self.case, self.failure = case, failure
        return True

    def _fewer_statements(self) -> None:
        self._fewer(lambda: self.case.statements, self.case.with_statements)

    def _fewer_rows(self) -> None:
        for at, statement in enumerate(self.case.statements):
            if isinstance(statement, Insert):
                self._fewer(partial(self._rows, at), partial(self._with_rows, at))

    def _rows(self, at: int) -> tuple[tuple[str, ...], ...]:
        return self._insert(at).rows

    def _with_rows(self, at: int, rows: Sequence[tuple[str, ...]]) -> Case:
        return self._put(at, replace(self._insert(at), rows=tuple(rows))) if rows else self.case

    def _insert(self, at: int) -> Insert:
        statement = self.case.statements[at]
        assert isinstance(statement, Insert)
        return statement

    def _put(self, at: int, statement: Statement) -> Case:
        statements = self.case.statements
        return self.case.with_statements([*statements[:at], statement, *statements[at + 1 :]])

    def _fewer(self, have: Callable[[], Sequence[T]], with_: Callable[[Sequence[T]], Case]) -> None:
        """Leave out halves, quarters, ... and single ones, from the end on."""
        size = max(len(have()) // 2, 1)
        while size:
            at = len(have()) - size
            while at > -size:
                now = have()
                start = max(at, 0)
                self._try(with_([*now[:start], *now[start + size :]]))
                at -= size
            size //= 2

    def _simpler_queries(self) -> None:
        for at, statement in enumerate(self.case.statements):
            if isinstance(statement, MakeView):
                while self._simpler_query(at):
                    pass

    def _simpler_query(self, at: int) -> bool:
        made = self.case.statements[at]
        assert isinstance(made, MakeView)
        read = any(
            isinstance(s, MakeView) and re.search(rf"\b{made.name}\b", s.query.sql) for s in self.case.statements
        )
        seen = {made.query.sql}
        for candidate in self._candidates(made):
            again = made.again(candidate)
            query = again.query
            smaller = len(query.sql) < len(made.query.sql)
            kept = not read or [c.kind for c in query.columns] == [c.kind for c in made.query.columns]
            if query.sql in seen or not smaller or not kept:
                continue
            seen.add(query.sql)
            if self._try(self._put(at, again)):
                return True
        return False

    def _candidates(self, made: MakeView) -> Iterator[list[int]]:
        return simpler(made.query.taken, made.query.spans)

    def _one_task(self) -> None:
        for at, statement in enumerate(self.case.statements):
            if isinstance(statement, MakeView):
                for parallelism in (1, 2):
                    if parallelism < statement.parallelism and self._try(
                        self._put(at, replace(statement, parallelism=parallelism))
                    ):
                        break


def script(case: Case, failure: Failure) -> str:
    """Return SQL for the prompt that shows the failure, and what is wrong in its last rows."""
    lines = [f"-- seed {case.seed}"]
    texts = " ".join(s.sql() for s in case.statements)
    lines += [f"{t.ddl()};" for t in case.tables if re.search(rf"\b{t.name}\b", texts)]
    lines += [f"-- {t.name} has {t.splits} splits, by id % {t.splits}" for t in case.tables if t.splits]
    parallelism = None
    for statement in case.statements:
        if isinstance(statement, MakeView) and statement.parallelism != parallelism:
            parallelism = statement.parallelism
            lines.append(f"SET parallelism = {parallelism};")
        lines.append(f"{statement.sql()};")
    if failure.view:
        lines.append(f"SELECT * FROM {failure.view};")
    lines.append(f"-- {failure.problem}")
    if failure.wanted is not None and failure.got is not None:
        lines += [f"-- wanted {count} x {row}" for row, count in list(failure.wanted.items())[:20]]
        lines += [f"-- got    {count} x {row}" for row, count in list(failure.got.items())[:20]]
    return "\n".join(lines)
