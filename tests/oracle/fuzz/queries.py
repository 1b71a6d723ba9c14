"""Random queries whose rows the data determine, in Sabot's text and DuckDB's."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.oracle.fuzz.aggregates import Aggregates
from tests.oracle.fuzz.choices import Choices
from tests.oracle.fuzz.expressions import Expressions, Ref, Scope, complete, of_kind, sortable
from tests.oracle.fuzz.relations import Item, Named, Relations
from tests.oracle.fuzz.values import KINDS, SORTABLE

_MARK = re.compile("\x01(\\d+)\x02")


@dataclass(frozen=True)
class Query:
    """A query for a view: Sabot's text, DuckDB's, and the columns; `taken` makes it again."""

    sql: str
    batch: str
    columns: tuple[Ref, ...]
    taken: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]


def make_query(known: Sequence[Named], rng: random.Random | None, given: Sequence[int] = ()) -> Query:
    """Make a query over the `known` relations."""
    choices = Choices(rng, given)
    maker = _Maker(choices, known)
    named = maker.query(2)
    return Query(
        maker.rendered(named.name, 0),
        maker.rendered(named.name, 1),
        named.columns,
        tuple(choices.taken),
        tuple(choices.spans),
    )


class _Maker:
    def __init__(self, choices: Choices, known: Sequence[Named]) -> None:
        self.choices = choices
        self.expressions = Expressions(choices)
        self.aggregates = Aggregates(choices, self.expressions)
        self._texts: list[tuple[str, str]] = []
        self.relations = Relations(choices, self.expressions, self.query, self.both)
        self.relations.known = list(known)
        self.dependent = self.relations.dependent
        self._ctes = 0

    def both(self, stream: str, batch: str) -> str:
        """Return a mark for a text that the two write differently."""
        self._texts.append((stream, batch))
        return f"\x01{len(self._texts) - 1}\x02"

    def rendered(self, text: str, which: int) -> str:
        while _MARK.search(text):
            text = _MARK.sub(lambda m: self._texts[int(m[1])][which], text)
        return text

    def query(self, depth: int) -> Named:
        """Make a query; its text stands as the name."""
        with self.choices.span():
            if depth == 2 and self.choices.chance(15):
                return self._with(depth)
            shapes: tuple[Callable[[int], Named], ...] = (
                self._plain,
                self._grouped,
                self._grouped,
                self._plain,
                self._over,
                self._first_rows,
                self._top,
                self._set,
                self._distinct_on,
                self._sets_of_groups,
                self._subquery_in_select,
                self._global,
                self._values,
            )
            return self.choices.pick(shapes)(depth)

    def _with(self, depth: int) -> Named:
        inner = self.query(depth - 1)
        name = f"w{self._ctes}"
        self._ctes += 1
        before = self.relations.known
        # itself first, and twice at least is what WITH is for
        self.relations.known = [Named(name, inner.columns), *before]
        outer = self.query(1)
        self.relations.known = before
        return Named(f"WITH {name} AS ({inner.name}) {outer.name}", outer.columns)

    def _select(self, items: Sequence[Ref], rest: str, *, distinct: bool = False) -> Named:
        columns = tuple(Ref(f"o{i}", r.kind) for i, r in enumerate(items))
        listed = ", ".join(f"{r.text} AS {c.text}" for r, c in zip(items, columns, strict=True))
        return Named(f"SELECT {'DISTINCT ' if distinct else ''}{listed} {rest}", columns)

    def _items(self, scope: Scope) -> list[Ref]:
        return [self.expressions.some(scope) for _ in range(1 + self.choices.below(4))]

    def _where(self, item: Item, depth: int) -> str:
        with self.choices.span():
            if not self.choices.chance(45):
                return ""
            conditions = []
            if self.choices.chance(55):
                conditions.append(self.expressions.condition(item.scope))
            if not conditions or self.choices.chance(20):
                conditions.append(self._subquery_condition(item.scope, depth))
            return f" WHERE {' AND '.join(conditions)}"

    def _subquery_condition(self, outer: Scope, depth: int) -> str:
        """Make IN, NOT IN, EXISTS, NOT EXISTS, ANY or a comparison with a scalar subquery."""
        with self.choices.span():
            if self.choices.chance(35):
                return self.dependent.condition(outer)
            inner = self.relations.item(min(depth - 1, 0))
            usable = [r for r in outer if r.kind in SORTABLE]
            pairs = [(a, b) for a in usable for b in inner.scope if a.kind == b.kind and a.kind in KINDS]
            if not pairs:
                return "true"
            a, b = self.choices.pick(pairs)
            correlated = self.relations._equal(outer, inner.scope)
            more = f" AND {self.expressions.condition((*inner.scope, *outer), 0)}" if self.choices.chance(30) else ""
            own = f" WHERE {self.expressions.condition(inner.scope, 0)}" if self.choices.chance(50) else ""
            shape = self.choices.below(11)
            if shape == 0:
                return f"{a.text} IN (SELECT {b.text} FROM {inner.text}{own})"
            if shape == 1:
                return f"{a.text} NOT IN (SELECT {b.text} FROM {inner.text}{own})"
            if shape == 2:
                return f"EXISTS (SELECT 1 FROM {inner.text} WHERE {correlated}{more})"
            if shape == 3:
                return f"NOT EXISTS (SELECT 1 FROM {inner.text} WHERE {correlated}{more})"
            if shape == 4:
                return f"{a.text} >= (SELECT max({b.text}) FROM {inner.text}{own})"
            if shape == 5:
                return f"{a.text} <= (SELECT max({b.text}) FROM {inner.text} WHERE {correlated})"
            if shape == 6:
                return f"{a.text} IN (SELECT {b.text} FROM {inner.text} WHERE {correlated}{more})"
            if shape == 7:
                other = self.expressions.condition(outer, 0)
                return f"({a.text} = ANY (SELECT {b.text} FROM {inner.text}{own}) OR {other})"
            if shape == 8:
                return f"{a.text} NOT IN (SELECT {b.text} FROM {inner.text} WHERE {correlated})"
            if shape == 9:
                return f"(SELECT count(*) FROM {inner.text} WHERE {correlated}{more}) > 1"
            return f"{a.text} <> ALL (SELECT {b.text} FROM {inner.text}{own})"

    def _plain(self, depth: int) -> Named:
        item = self.relations.from_(depth)
        items = self._items(item.scope)
        where = self._where(item, depth)
        distinct = self.choices.chance(12) and all(r.kind != "real" for r in items)
        if distinct and self.choices.chance(25) and (numbers := of_kind(item.scope, "int")):
            items.append(Ref(f"unnest(ARRAY[{self.choices.pick(numbers)}, 7])", "int"))
        return self._select(items, f"FROM {item.text}{where}", distinct=distinct)

    def _subquery_in_select(self, depth: int) -> Named:
        """Scalar subqueries, EXISTS and IN among the items."""
        item = self.relations.item(depth)
        inner = self.relations.item(0)
        where = self.relations._equal(item.scope, inner.scope)
        cells = sortable(inner.scope)
        items = self._items(item.scope)
        if cells:
            picked = self.choices.pick(cells)
            own = self.expressions.condition(inner.scope, 0)
            same = [r for r in item.scope if r.kind == picked.kind]
            made = [
                Ref(f"(SELECT max({picked.text}) FROM {inner.text} WHERE {where})", picked.kind),
                Ref(f"(SELECT count(*) FROM {inner.text} WHERE {where} AND {own})", "int"),
                Ref(f"EXISTS (SELECT 1 FROM {inner.text} WHERE {where})", "bool"),
                Ref(f"(SELECT min({picked.text}) FROM {inner.text} WHERE {own})", picked.kind),
                Ref(f"(SELECT coalesce(sum(1), 0) + 1 FROM {inner.text} WHERE {where})", "int"),
            ]
            if same:
                one = self.choices.pick(same)
                made.append(Ref(f"{one.text} IN (SELECT {picked.text} FROM {inner.text})", "bool"))
                made.append(Ref(f"{one.text} NOT IN (SELECT {picked.text} FROM {inner.text} WHERE {own})", "bool"))
                made.append(Ref(f"{one.text} IN (SELECT {picked.text} FROM {inner.text} WHERE {where})", "bool"))
            items.append(self.choices.pick(made))
        if self.choices.chance(50):
            items.append(self.dependent.value(item.scope))
        return self._select(items, f"FROM {item.text}{self._where(item, 0)}")

    def _keys(self, scope: Scope) -> list[Ref]:
        keys = []
        for _ in range(1 + self.choices.below(2)):
            ref = self.expressions.some(scope)
            if ref.kind in SORTABLE and ref.text not in [k.text for k in keys] and ref.text[:1] not in "-0123456789":
                keys.append(ref)
        return keys

    def _grouped(self, depth: int) -> Named:
        item = self.relations.from_(depth)
        keys = self._keys(item.scope)
        if not keys:
            return self._global(depth)
        where = self._where(item, depth)
        calls = [self.aggregates.call(item.scope) for _ in range(self.choices.below(4))]
        having = ""
        if self.choices.chance(20):
            having = f" HAVING {self.choices.pick(('count(*) > 1', 'count(*) < 3', self._having(item.scope)))}"
        return self._select([*keys, *calls], f"FROM {item.text}{where} GROUP BY {self._listed(keys)}{having}")

    def _having(self, scope: Scope) -> str:
        numbers = of_kind(scope, "int")
        return f"sum({self.choices.pick(numbers)}) > 1" if numbers else "count(*) <> 2"

    def _listed(self, keys: Sequence[Ref]) -> str:
        return ", ".join(k.text for k in keys)

    def _global(self, depth: int) -> Named:
        item = self.relations.from_(depth)
        calls = [self.aggregates.call(item.scope) for _ in range(1 + self.choices.below(3))]
        return self._select(calls, f"FROM {item.text}{self._where(item, depth)}")

    def _sets_of_groups(self, depth: int) -> Named:
        item = self.relations.item(depth)
        keys = sortable(item.scope)[:3]
        if len(keys) < 2:
            return self._global(depth)
        a, b = keys[0].text, keys[1].text
        sets = self.choices.pick(
            (
                f"ROLLUP ({a}, {b})",
                f"CUBE ({a}, {b})",
                f"GROUPING SETS (({a}), ({b}), ())",
                f"GROUPING SETS (({a}, {b}), ({a}))",
                f"{a}, ROLLUP ({b})",
            )
        )
        calls = [self.aggregates.call(item.scope) for _ in range(1 + self.choices.below(2))]
        if self.choices.chance(40):
            calls.append(Ref(f"grouping({a}, {b})", "int"))
        where = self._where(item, 0)
        having = " HAVING count(*) > 1" if self.choices.chance(15) else ""
        return self._select([*keys[:2], *calls], f"FROM {item.text}{where} GROUP BY {sets}{having}")

    def _narrow(self, depth: int) -> Item:
        """Make an item whose rows can be put into one order."""
        item = self.relations.from_(depth)
        if complete(item.scope) and len(item.scope) <= 5:
            return item
        cells = sortable(item.scope)
        start = self.choices.below(max(len(cells) - 3, 1))
        made = self._select(cells[start : start + 4] or [Ref("1", "int")], f"FROM {item.text}")
        return self.relations._aliased(f"({made.name})", made.columns)

    def _over(self, depth: int) -> Named:
        item = self._narrow(depth)
        calls = [self.aggregates.over(item.scope) for _ in range(1 + self.choices.below(2))]
        where = self._where(item, 0)
        return self._select([*self._items(item.scope), *calls], f"FROM {item.text}{where}")

    def _top(self, depth: int) -> Named:
        """Rows by their rank: in a subquery's condition, or by QUALIFY."""
        item = self._narrow(depth)
        part = self.choices.pick(list(item.scope)).text
        parts = "" if self.choices.chance(20) else f"PARTITION BY {part} "
        name = self.choices.pick(("row_number()", "rank()", "dense_rank()"))
        order = self.expressions.order(item.scope, total=name == "row_number()")
        limit = self.choices.pick(("= 1", "<= 2", "< 3", "= 2", "BETWEEN 2 AND 3"))
        over = f"{name} OVER ({parts}ORDER BY {order})"
        if self.choices.chance(40):
            return self._select(self._items(item.scope), f"FROM {item.text} QUALIFY {over} {limit}")
        inner = self._select([*item.scope, Ref(over, "int")], f"FROM {item.text}")
        outer = self.relations._aliased(f"({inner.name})", inner.columns)
        items = [*outer.scope[:-1], outer.scope[-1]] if self.choices.chance(40) else list(outer.scope[:-1])
        return self._select(items, f"FROM {outer.text} WHERE {outer.scope[-1].text} {limit}")

    def _first_rows(self, depth: int) -> Named:
        item = self._narrow(depth)
        where = self._where(item, 0)
        number = self.choices.pick((3, 1, 7, 0))
        if self.choices.chance(25):
            order = self.expressions.order(item.scope, total=False)
            shown = self._select(item.scope, f"FROM {item.text}{where}")
            ranked = self._select(
                [*item.scope, Ref(f"rank() OVER (ORDER BY {order})", "int")], f"FROM {item.text}{where}"
            )
            names = ", ".join(c.text for c in shown.columns)
            stream = f"{shown.name} ORDER BY {order} FETCH FIRST {number} ROWS WITH TIES"
            batch = f"SELECT {names} FROM ({ranked.name}) AS r WHERE {ranked.columns[-1].text} <= {number}"
            return Named(self.both(stream, batch), shown.columns)
        offset = f" OFFSET {1 + self.choices.below(3)}" if self.choices.chance(30) else ""
        order = self.expressions.order(item.scope, total=True)
        return self._select(self._items(item.scope), f"FROM {item.text}{where} ORDER BY {order} LIMIT {number}{offset}")

    def _distinct_on(self, depth: int) -> Named:
        item = self._narrow(depth)
        order = self.expressions.order(item.scope, total=True)
        first = re.sub(r" (ASC|DESC|NULLS).*", "", order.split(", ")[0])
        made = self._select(item.scope, f"FROM {item.text}{self._where(item, 0)} ORDER BY {order}")
        return Named(made.name.replace("SELECT ", f"SELECT DISTINCT ON ({first}) ", 1), made.columns)

    def _set(self, depth: int) -> Named:
        word = self.choices.pick(("UNION ALL", "UNION", "INTERSECT", "EXCEPT", "INTERSECT ALL", "EXCEPT ALL"))
        left = self.relations.item(depth)
        right = self.relations.item(depth)
        pairs = [(a, b) for a in left.scope for b in right.scope if a.kind == b.kind and a.kind in SORTABLE]
        if not pairs:
            return self._plain(depth)
        picked = [self.choices.pick(pairs) for _ in range(1 + self.choices.below(2))]
        one = self._select([a for a, _ in picked], f"FROM {left.text}{self._where(left, 0)}")
        two = self._select([b for _, b in picked], f"FROM {right.text}{self._where(right, 0)}")
        return Named(f"{one.name} {word} {two.name}", one.columns)

    def _values(self, depth: int) -> Named:
        item = self.relations.item(0)
        ints = of_kind(item.scope, "int")
        if not ints:
            return self._plain(depth)
        alias = self.relations.alias()
        on = f"{self.choices.pick(ints)} = {alias}.x"
        joined = Item(
            f"(VALUES (1, 'a'), (2, 'b'), (NULL, 'c')) AS {alias}(x, y) LEFT JOIN {item.text} ON {on}",
            (Ref(f"{alias}.x", "int"), Ref(f"{alias}.y", "text"), *item.scope),
        )
        return self._select(self._items(joined.scope), f"FROM {joined.text}")
