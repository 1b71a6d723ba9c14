"""Random typed expressions over the columns in scope; each has one value, whatever the order of the rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.oracle.fuzz.choices import Choices
from tests.oracle.fuzz.values import KINDS, SORTABLE, literal


@dataclass(frozen=True)
class Ref:
    """A column that can be named: its text, and the family of its type.

    ``real`` is the family of floats whose last digits depend on the order of adding: they are shown, never compared.
    """

    text: str
    kind: str


Scope = Sequence[Ref]


def of_kind(scope: Scope, kind: str) -> list[str]:
    return [r.text for r in scope if r.kind == kind]


def sortable(scope: Scope) -> list[Ref]:
    return [r for r in scope if r.kind in SORTABLE]


class Expressions:
    """Makes expressions from choices."""

    def __init__(self, choices: Choices) -> None:
        self.choices = choices

    def some(self, scope: Scope) -> Ref:
        """Make an expression of any kind, mostly of one that the columns have."""
        usable = [r for r in scope if r.kind != "real"]
        if not usable:
            return Ref("1", "int")
        with self.choices.span():
            ref = self.choices.pick(usable)
            if ref.kind not in KINDS or not self.choices.chance(45):
                return ref
            kind = self.choices.pick((ref.kind, "int", "text", "bool", "num", "float", "ts", "date"))
            return Ref(self.value(kind, scope, 2), kind)

    def value(self, kind: str, scope: Scope, depth: int = 1) -> str:
        """Make an expression of a kind."""
        with self.choices.span():
            columns = of_kind(scope, kind)
            if columns and not self.choices.chance(40):
                return self.choices.pick(columns)
            make = getattr(self, f"_{kind}", None)
            if depth <= 0 or self.choices.chance(25):
                return literal(self.choices, kind)
            if self.choices.chance(25) or make is None:
                return self._any(kind, scope, depth - 1)
            text: str = make(lambda k: self.value(k, scope, depth - 1))
            return text

    def _any(self, kind: str, scope: Scope, depth: int) -> str:
        value = self.value(kind, scope, depth)
        other = literal(self.choices, kind)
        match self.choices.below(4):
            case 0:
                return f"coalesce({value}, {other})"
            case 1:
                return (
                    f"CASE WHEN {self.condition(scope, depth)} THEN {value} ELSE {self.value(kind, scope, depth)} END"
                )
            case 2:
                return f"CASE WHEN {self.condition(scope, depth)} THEN {value} END"
            case _:
                return value if kind in ("json", "map") else f"nullif({value}, {other})"

    def _int(self, of: Callable[[str], str]) -> str:
        shapes: tuple[Callable[[], str], ...] = (
            lambda: f"({of('int')} + {of('int')})",
            lambda: f"({of('int')} - {of('int')})",
            lambda: f"({of('int')} * {self.choices.pick(('2', '-1', '3'))})",
            lambda: f"({of('int')} / {self.choices.pick(('2', '3', '-2'))})",
            lambda: f"({of('int')} % {self.choices.pick(('2', '3', '5'))})",
            lambda: f"abs({of('int')})",
            lambda: f"greatest({of('int')}, {of('int')})",
            lambda: f"least({of('int')}, {of('int')})",
            lambda: f"length({of('text')})",
            lambda: f"cardinality({of('ints')})",
            lambda: f"extract(day FROM {of('date')})",
            lambda: f"extract(hour FROM {of('ts')})",
            lambda: f"({of('struct')}).n",
            lambda: f"({of('date')} - {of('date')})",
            lambda: f"({of('ints')})[1]",
            lambda: f"CAST({of('bool')} AS INTEGER)",
        )
        return self.choices.pick(shapes)()

    def _num(self, of: Callable[[str], str]) -> str:
        shapes: tuple[Callable[[], str], ...] = (
            lambda: f"({of('num')} + {of('num')})",
            lambda: f"({of('num')} - 1.5)",
            lambda: f"CAST({of('int')} AS NUMERIC(12,2))",
            lambda: f"abs({of('num')})",
            lambda: f"(- {of('num')})",
        )
        return self.choices.pick(shapes)()

    def _float(self, of: Callable[[str], str]) -> str:
        shapes: tuple[Callable[[], str], ...] = (
            lambda: f"({of('float')} + {of('float')})",
            lambda: f"({of('float')} * 0.5::DOUBLE PRECISION)",
            lambda: f"CAST({of('int')} AS DOUBLE PRECISION)",
            lambda: f"abs({of('float')})",
        )
        return self.choices.pick(shapes)()

    def _text(self, of: Callable[[str], str]) -> str:
        shapes: tuple[Callable[[], str], ...] = (
            lambda: f"upper({of('text')})",
            lambda: f"({of('text')} || {of('text')})",
            lambda: f"substr({of('text')}, 1, 2)",
            lambda: f"CAST({of('int')} AS VARCHAR)",
            lambda: f"replace({of('text')}, 'a', 'x')",
            lambda: f"trim({of('text')})",
            lambda: f"({of('struct')}).s",
            lambda: f"concat({of('text')}, '-', {of('int')})",
            lambda: f"({of('json')} ->> 'a')",
            lambda: f"CAST({of('date')} AS VARCHAR)",
            lambda: f"({of('texts')})[2]",
            lambda: f"CAST({of('num')} AS VARCHAR)",
            lambda: f"left({of('text')}, 1)",
        )
        return self.choices.pick(shapes)()

    def _bool(self, of: Callable[[str], str]) -> str:
        shapes: tuple[Callable[[], str], ...] = (
            lambda: f"({of('int')} > {of('int')})",
            lambda: f"({of('text')} = {of('text')})",
            lambda: f"({of('int')} IS NULL)",
            lambda: f"(NOT {of('bool')})",
            lambda: f"({of('num')} < {of('int')})",
        )
        return self.choices.pick(shapes)()

    def _date(self, of: Callable[[str], str]) -> str:
        shapes: tuple[Callable[[], str], ...] = (
            lambda: f"CAST({of('ts')} AS DATE)",
            lambda: f"({of('date')} + 1)",
            lambda: f"CAST(date_trunc('month', {of('date')}) AS DATE)",
        )
        return self.choices.pick(shapes)()

    def _ts(self, of: Callable[[str], str]) -> str:
        shapes: tuple[Callable[[], str], ...] = (
            lambda: f"date_trunc('minute', {of('ts')})",
            lambda: f"({of('ts')} + INTERVAL '7 seconds')",
            lambda: f"({of('ts')} - {of('interval')})",
            lambda: f"CAST({of('date')} AS TIMESTAMP)",
        )
        return self.choices.pick(shapes)()

    def _interval(self, of: Callable[[str], str]) -> str:
        return f"({of('ts')} - {of('ts')})"

    def _ints(self, of: Callable[[str], str]) -> str:
        return f"ARRAY[{of('int')}, {of('int')}]"

    def condition(self, scope: Scope, depth: int = 1) -> str:
        """Make a condition; the simplest is one comparison."""
        with self.choices.span():
            if depth > 0 and self.choices.chance(30):
                left, right = self.condition(scope, depth - 1), self.condition(scope, depth - 1)
                return f"({left} {self.choices.pick(('AND', 'OR'))} {right})"
            if self.choices.chance(12):
                return f"(NOT {self.condition(scope, depth - 1)})"
            return self._atom(scope, depth - 1)

    def _atom(self, scope: Scope, depth: int) -> str:
        usable = sortable(scope)
        if not usable:
            return "true"
        ref = self.choices.pick(usable)
        compared = self.choices.pick(("=", "<", ">", "<=", ">=", "<>"))
        other = self.value(ref.kind, scope, depth) if self.choices.chance(40) else literal(self.choices, ref.kind)
        shape = self.choices.below(12)
        if shape == 1:
            return f"({ref.text} IS NULL)"
        if shape == 2:
            return f"({ref.text} IS NOT NULL)"
        if shape == 3:
            return f"({ref.text} IS NOT DISTINCT FROM {other})"
        if shape == 4:
            return f"({ref.text} IS DISTINCT FROM {other})"
        if shape == 5:
            return f"({ref.text} IN ({literal(self.choices, ref.kind)}, {other}))"
        if shape == 6:
            return f"({ref.text} NOT IN ({literal(self.choices, ref.kind)}, {other}))"
        if shape == 7:
            return f"({ref.text} BETWEEN {literal(self.choices, ref.kind)} AND {other})"
        if shape == 8 and of_kind(scope, "text"):
            pattern = self.choices.pick(("'%a%'", "'a%'", "'_'"))
            return f"({self.choices.pick(of_kind(scope, 'text'))} LIKE {pattern})"
        if shape == 9 and of_kind(scope, "bool"):
            wanted = self.choices.pick(("", " IS TRUE", " IS NOT TRUE", " IS FALSE"))
            return f"({self.choices.pick(of_kind(scope, 'bool'))}{wanted})"
        return f"({ref.text} {compared} {other})"

    def order(self, scope: Scope, *, total: bool) -> str:
        """Make the list of an ORDER BY: of every column where the order must leave nothing open."""
        refs = sortable(scope)
        start = self.choices.below(len(refs))
        refs = [*refs[start:], *refs[:start]]
        if not total:
            refs = refs[: 1 + self.choices.below(2)]
        return ", ".join(f"{r.text}{self._direction()}" for r in refs)

    def _direction(self) -> str:
        return self.choices.pick(("", "", " DESC", " ASC", " DESC NULLS LAST", " NULLS FIRST", " ASC NULLS LAST"))


def complete(scope: Scope) -> bool:
    """Whether rows can be ordered without leaving anything open: equal rows are equal in all that is shown."""
    return bool(scope) and all(r.kind in SORTABLE for r in scope)
