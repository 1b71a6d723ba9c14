"""Random aggregates and OVER calls whose value the rows determine."""

from __future__ import annotations

from collections.abc import Callable

from tests.oracle.fuzz.choices import Choices
from tests.oracle.fuzz.expressions import Expressions, Ref, Scope, of_kind, sortable

NUMBERS = ("int", "num", "float")


class Aggregates:
    """Makes calls over the columns of a scope."""

    def __init__(self, choices: Choices, expressions: Expressions) -> None:
        self.choices, self.expressions = choices, expressions

    def call(self, scope: Scope) -> Ref:
        """Make an aggregate, with FILTER now and then."""
        with self.choices.span():
            ref = self._bare(scope)
            if self.choices.chance(20):
                return Ref(f"{ref.text} FILTER (WHERE {self.expressions.condition(scope)})", ref.kind)
            return ref

    def _bare(self, scope: Scope) -> Ref:
        refs = sortable(scope)
        if not refs or self.choices.chance(15):
            return Ref("count(*)", "int")
        x = self.choices.pick(refs)
        distinct = "DISTINCT " if self.choices.chance(25) else ""
        numbers = [r for r in refs if r.kind in NUMBERS]
        makers: list[Callable[[], Ref]] = [
            lambda: Ref(f"count({distinct}{x.text})", "int"),
            lambda: Ref(f"max({x.text})", x.kind),
            lambda: Ref(f"min({x.text})", x.kind),
            lambda: self._list(x, distinct),
            lambda: self._string_agg(refs, distinct),
            lambda: Ref(f"approx_count_distinct({x.text})", "int"),
            lambda: self._picked(scope, x),
        ]
        if numbers:
            n = self.choices.pick(numbers)
            makers += [lambda: Ref(f"sum({distinct}{n.text})", summed(n.kind))] * 3
            makers += [lambda: Ref(f"avg({distinct}{n.text})", "real")]
            makers += [lambda: self._statistic(n, numbers)] * 2
        ints = of_kind(refs, "int")
        if ints:
            i = self.choices.pick(ints)
            makers += [lambda: Ref(f"{self.choices.pick(('bit_and', 'bit_or', 'bit_xor'))}({i})", "int")]
        bools = of_kind(refs, "bool")
        if bools:
            b = self.choices.pick(bools)
            makers += [lambda: Ref(f"{self.choices.pick(('bool_and', 'bool_or'))}({b})", "bool")] * 2
        return self.choices.pick(makers)()

    def _list(self, x: Ref, distinct: str) -> Ref:
        kind = {"int": "ints", "text": "texts"}.get(x.kind, "other")
        if x.kind == "int":
            kind = "other" if self.choices.chance(50) else "ints"
        way = self.choices.pick(("", " DESC", " NULLS FIRST"))
        return Ref(f"array_agg({distinct}{x.text} ORDER BY {x.text}{way})", kind)

    def _string_agg(self, refs: Scope, distinct: str) -> Ref:
        texts = of_kind(refs, "text")
        if not texts:
            return Ref("count(*)", "int")
        t = self.choices.pick(texts)
        return Ref(f"string_agg({distinct}{t}, '|' ORDER BY {t}{self.choices.pick(('', ' DESC'))})", "text")

    def _picked(self, scope: Scope, x: Ref) -> Ref:
        """The value of the row that is first by an order that leaves nothing open."""
        by = self.expressions.order([x, *(r for r in sortable(scope) if r != x)], total=True)
        if self.choices.chance(50):
            return Ref(f"{self.choices.pick(('first', 'last'))}({x.text} ORDER BY {by})", x.kind)
        key = ", ".join(["0", x.text, *(r.text for r in sortable(scope) if r != x)])
        return Ref(f"{self.choices.pick(('arg_max', 'arg_min'))}({x.text}, ({key}))", x.kind)

    def _statistic(self, n: Ref, numbers: list[Ref]) -> Ref:
        other = self.choices.pick(numbers)
        return self.choices.pick(
            (
                Ref(f"median({n.text})", "real"),
                Ref(f"percentile_cont(0.25) WITHIN GROUP (ORDER BY {n.text})", "real"),
                Ref(f"percentile_disc(0.5) WITHIN GROUP (ORDER BY {n.text})", n.kind),
                Ref(f"quantile_disc({n.text}, 0.75)", n.kind),
                Ref(f"mode({n.text} ORDER BY {n.text})", n.kind),
                Ref(f"stddev_samp({n.text})", "real"),
                Ref(f"var_pop({n.text})", "real"),
                Ref(f"covar_pop({n.text}, {other.text})", "real"),
            )
        )

    def over(self, scope: Scope) -> Ref:
        """Make a window call; the scope must be sortable throughout."""
        with self.choices.span():
            x = self.choices.pick(list(scope))
            parts = []
            if not self.choices.chance(20):
                some = [self.choices.pick(list(scope)).text for _ in range(1 + self.choices.below(2))]
                parts.append(f"PARTITION BY {', '.join(dict.fromkeys(some))}")
            shape = self.choices.below(6)
            if shape == 0:
                return self._over_all(scope, parts)
            if shape == 1:
                return self._rank(scope, parts)
            if shape == 2:
                return self._placed(scope, parts, x)
            return self._framed(scope, parts, x)

    def _over_all(self, scope: Scope, parts: list[str]) -> Ref:
        ref = self.call_in_frame(scope)
        return Ref(f"{ref.text} OVER ({' '.join(parts)})", ref.kind)

    def call_in_frame(self, scope: Scope) -> Ref:
        """Make an aggregate that takes a frame."""
        numbers = [r for r in scope if r.kind in NUMBERS]
        x = self.choices.pick(list(scope))
        makers = [Ref(f"count({x.text})", "int"), Ref("count(*)", "int")]
        makers += [Ref(f"max({x.text})", x.kind), Ref(f"min({x.text})", x.kind)]
        if numbers:
            n = self.choices.pick(numbers)
            makers += [Ref(f"sum({n.text})", summed(n.kind)), Ref(f"avg({n.text})", "real")]
        ref = self.choices.pick(makers)
        if self.choices.chance(15):
            return Ref(f"{ref.text} FILTER (WHERE {self.expressions.condition(scope, 0)})", ref.kind)
        return ref

    def _rank(self, scope: Scope, parts: list[str]) -> Ref:
        name, kind = self.choices.pick(
            (("rank()", "int"), ("dense_rank()", "int"), ("percent_rank()", "real"), ("cume_dist()", "real"))
        )
        order = self.expressions.order(scope, total=False)
        return Ref(f"{name} OVER ({' '.join([*parts, 'ORDER BY ' + order])})", kind)

    def _placed(self, scope: Scope, parts: list[str], x: Ref) -> Ref:
        ignoring = self.choices.pick(("", "", " IGNORE NULLS"))
        name, kind = self.choices.pick(
            (
                ("row_number()", "int"),
                (f"lag({x.text}{ignoring})", x.kind),
                (f"lead({x.text}, 2)", x.kind),
                (f"first_value({x.text}{ignoring})", x.kind),
                (f"last_value({x.text}{ignoring})", x.kind),
                (f"nth_value({x.text}, 2)", x.kind),
                ("ntile(3)", "int"),
            )
        )
        order = self.expressions.order(scope, total=True)
        return Ref(f"{name} OVER ({' '.join([*parts, 'ORDER BY ' + order])})", kind)

    def _framed(self, scope: Scope, parts: list[str], x: Ref) -> Ref:
        starts = ("UNBOUNDED PRECEDING", "1 PRECEDING", "2 PRECEDING", "CURRENT ROW")
        ends = ("CURRENT ROW", "1 FOLLOWING", "UNBOUNDED FOLLOWING", "2 FOLLOWING")
        frame = f"BETWEEN {self.choices.pick(starts)} AND {self.choices.pick(ends)}"
        unit = self.choices.pick(("ROWS", "RANGE", "GROUPS"))
        ref = self.call_in_frame(scope)
        exclude = self.choices.pick(("", "", "", " EXCLUDE CURRENT ROW", " EXCLUDE GROUP", " EXCLUDE TIES"))
        if unit == "ROWS":
            order = self.expressions.order(scope, total=True)
        elif unit == "RANGE":
            by = [r.text for r in scope if r.kind in ("int", "num")]
            if not by:
                return self._rank(scope, parts)
            order = f"{self.choices.pick(by)}{self.choices.pick(('', ' DESC'))}"
        else:
            order = self.expressions.order(scope, total=False)
        if exclude and unit == "ROWS":
            exclude = " EXCLUDE CURRENT ROW"
        return Ref(f"{ref.text} OVER ({' '.join([*parts, f'ORDER BY {order} {unit} {frame}{exclude}'])})", ref.kind)


def summed(kind: str) -> str:
    """Return the family of a sum."""
    return "big" if kind == "int" else kind
