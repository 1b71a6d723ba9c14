"""Subqueries that read the row around them in every way: what they are computed for differs from row to row."""

from __future__ import annotations

from collections.abc import Callable

from tests.oracle.fuzz.choices import Choices
from tests.oracle.fuzz.expressions import Expressions, Ref, Scope, complete, of_kind
from tests.oracle.fuzz.values import KINDS, SORTABLE, literal

SIGNS = ("<", ">=", "<>", ">", "<=", "=")


def cells(scope: Scope) -> list[Ref]:
    return [r for r in scope if r.kind in KINDS and r.kind in SORTABLE]


class Dependent:
    """Makes correlated subqueries; `item` makes what they read."""

    def __init__(
        self,
        choices: Choices,
        expressions: Expressions,
        item: Callable[[], tuple[str, Scope]],
        alias: Callable[[], str],
    ) -> None:
        self.choices, self.expressions = choices, expressions
        self._item, self._alias = item, alias

    def correlation(self, outer: Scope, inner: Scope) -> str:
        """Make a condition over both."""
        with self.choices.span():
            pairs = [(a.text, b.text) for a in cells(outer) for b in cells(inner) if a.kind == b.kind]
            if not pairs:
                return "true"
            pairs.sort(key=lambda p: (not p[0].endswith(".k"), not p[1].endswith(".k")))
            a, b = self.choices.pick(pairs)
            text = f"{b} {self.choices.pick(SIGNS)} {a}"
            if self.choices.chance(35):
                c, d = self.choices.pick(pairs)
                text = f"{c} = {d} AND {text}"
            elif self.choices.chance(20):
                text = f"({text} OR {self.choices.pick(list(outer)).text} IS NULL)"
            if self.choices.chance(20):
                text += f" AND {self.expressions.condition((*inner, *outer), 0)}"
            return text

    def value(self, outer: Scope) -> Ref:
        """Make a value of a subquery."""
        with self.choices.span():
            text, inner = self._item()
            mine, others = cells(inner), cells(outer)
            if not mine or not others:
                return Ref("1", "int")
            where = f"FROM {text} WHERE {self.correlation(outer, inner)}"
            x, o = self.choices.pick(mine), self.choices.pick(others)
            shapes: list[Callable[[], Ref]] = [
                lambda: Ref(f"(SELECT max({x.text}) {where})", x.kind),
                lambda: Ref(f"(SELECT count(*) {where})", "int"),
                lambda: Ref(f"(SELECT count(*) FILTER (WHERE {self._over(inner, outer)}) {where})", "int"),
                lambda: Ref(f"(SELECT max(CASE WHEN {self._over(inner, outer)} THEN {x.text} END) {where})", x.kind),
                lambda: Ref(
                    f"(SELECT coalesce({o.text}, {literal(self.choices, o.kind)}) FROM (SELECT 1) AS {self._alias()})",
                    o.kind,
                ),
                lambda: Ref(
                    f"(SELECT count(*) {where} HAVING count(*) {self.choices.pick(('> 1', '< 2', '= 0'))})", "int"
                ),
                lambda: Ref(
                    f"(SELECT max(n) FROM (SELECT {x.text}, count(*) AS n {where} GROUP BY {x.text}) AS t)", "int"
                ),
                lambda: Ref(f"(SELECT count(*) FROM (SELECT DISTINCT {x.text} {where}) AS t)", "int"),
                lambda: self._first(x, inner, where),
                lambda: self._set(x, outer, where),
                lambda: self._with(x, where),
                lambda: self._levels(inner, outer, where),
                lambda: self._sum(inner, outer, where),
                lambda: Ref(self.condition(outer), "bool"),
                lambda: Ref(self.condition(outer), "bool"),
            ]
            return self.choices.pick(shapes)()

    def condition(self, outer: Scope) -> str:
        """Make a condition with a subquery, or with ANY or ALL of an array."""
        with self.choices.span():
            text, inner = self._item()
            pairs = [(a, b) for a in cells(outer) for b in cells(inner) if a.kind == b.kind]
            if not pairs:
                return "true"
            a, b = self.choices.pick(pairs)
            where = f"FROM {text} WHERE {self.correlation(outer, inner)}"
            own = f"FROM {text} WHERE {self.expressions.condition(inner, 0)}"
            of = self.choices.pick((where, where, own))
            negated = self.choices.pick(("", "NOT "))
            sign = self.choices.pick(SIGNS)
            shapes: list[Callable[[], str]] = [
                lambda: f"{negated}EXISTS (SELECT 1 {where})",
                lambda: f"({a.text} {negated}IN (SELECT {b.text} {where}))",
                lambda: f"({a.text} {sign} {self.choices.pick(('ANY', 'ALL', 'SOME'))} (SELECT {b.text} {of}))",
                lambda: f"({a.text} {sign} {self.choices.pick(('ANY', 'ALL'))} ({self._array(a, outer)}))",
                lambda: f"({a.text} {negated}IN (SELECT max({b.text}) {where}))",
                lambda: f"{negated}EXISTS (SELECT max({b.text}) {where} HAVING count(*) > 1)",
                lambda: self._rows(pairs, own, negated),
                lambda: f"({self._levels(inner, outer, where).text} > 0)",
            ]
            return self.choices.pick(shapes)()

    def lateral(self, outer: Scope) -> tuple[str, tuple[Ref, ...], str]:
        """Make what stands in LATERAL (...), its columns, and a condition for ON."""
        text, inner = self._item()
        mine = cells(inner)
        if not mine:
            return "SELECT 1 AS x", (Ref("x", "int"),), "true"
        x = self.choices.pick(mine)
        where = f"FROM {text} WHERE {self.correlation(outer, inner)}"
        shapes: list[Callable[[], tuple[str, Ref]]] = [
            lambda: (f"SELECT {x.text} AS x {where}", x),
            lambda: (f"SELECT count(*) AS x {where}", Ref("", "int")),
            lambda: (f"SELECT max({x.text}) AS x {where}", x),
            lambda: (f"SELECT DISTINCT {x.text} AS x {where}", x),
            lambda: (f"SELECT count(*) AS x {where} GROUP BY {x.text}", Ref("", "int")),
        ]
        if complete(inner):
            order = self.expressions.order(inner, total=True)
            limit = self.choices.pick((1, 2))
            shapes.append(lambda: (f"SELECT {x.text} AS x {where} ORDER BY {order} LIMIT {limit}", x))
        body, shown = self.choices.pick(shapes)()
        same = [r.text for r in cells(outer) if r.kind == shown.kind]
        on = f"x {self.choices.pick(SIGNS)} {self.choices.pick(same)}" if same else "x IS NOT NULL"
        return body, (Ref("x", shown.kind),), on

    def _over(self, inner: Scope, outer: Scope) -> str:
        """Make a condition that reads the subquery's own rows: an aggregate of the row around alone is of that."""
        own = self.choices.pick(cells(inner)).text
        return f"({self.expressions.condition((*outer, *inner), 0)} AND coalesce({own} = {own}, true))"

    def _sum(self, inner: Scope, outer: Scope, where: str) -> Ref:
        mine, others = of_kind(inner, "int"), of_kind(outer, "int")
        if not mine or not others:
            return Ref(f"(SELECT count(*) {where})", "int")
        a, b = self.choices.pick(mine), self.choices.pick(others)
        call = self.choices.pick((f"max({a} + {b})", f"count({a} + {b})", f"max({a}) - {b}", f"min({b} - {a})"))
        return Ref(f"(SELECT {call} {where})", "int")

    def _first(self, x: Ref, inner: Scope, where: str) -> Ref:
        if not complete(inner):
            return Ref(f"(SELECT min({x.text}) {where})", x.kind)
        order = self.expressions.order(inner, total=True)
        return Ref(f"(SELECT {x.text} {where} ORDER BY {order} LIMIT 1)", x.kind)

    def _set(self, x: Ref, outer: Scope, where: str) -> Ref:
        same = [r.text for r in cells(outer) if r.kind == x.kind]
        other = self.choices.pick(same) if same else literal(self.choices, x.kind)
        word = self.choices.pick(("UNION", "UNION ALL", "INTERSECT", "EXCEPT", "EXCEPT ALL"))
        return Ref(f"(SELECT count(*) FROM (SELECT {x.text} {where} {word} SELECT {other}) AS t)", "int")

    def _with(self, x: Ref, where: str) -> Ref:
        return Ref(
            f"(WITH c AS (SELECT {x.text} AS x {where}) SELECT count(*) FROM c AS a JOIN c AS b ON a.x = b.x)", "int"
        )

    def _levels(self, inner: Scope, outer: Scope, where: str) -> Ref:
        """Make a subquery in a subquery that reads both around it."""
        text, innermost = self._item()
        both = f"{self.correlation((*inner, *outer), innermost)} AND {self.correlation(outer, innermost)}"
        return Ref(f"(SELECT count(*) {where} AND EXISTS (SELECT 1 FROM {text} WHERE {both}))", "int")

    def _array(self, like: Ref, outer: Scope) -> str:
        same = [r.text for r in cells(outer) if r.kind == like.kind]
        return f"ARRAY[{self.choices.pick(same)}, {self.choices.pick((literal(self.choices, like.kind), 'NULL'))}]"

    def _rows(self, pairs: list[tuple[Ref, Ref]], own: str, negated: str) -> str:
        (a, b), (c, d) = self.choices.pick(pairs), self.choices.pick(pairs)
        return f"(({a.text}, {c.text}) {negated}IN (SELECT {b.text}, {d.text} {own}))"
