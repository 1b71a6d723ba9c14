"""What stands in FROM: relations, subqueries, joins of them, and what is joined to each row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.oracle.fuzz.choices import Choices
from tests.oracle.fuzz.dependent import Dependent
from tests.oracle.fuzz.expressions import Expressions, Ref, Scope, of_kind
from tests.oracle.fuzz.values import KINDS, SORTABLE

NUMBERS = ("int", "num", "float", "big")


@dataclass(frozen=True)
class Named:
    """A relation that a query may read: a table, a view, a WITH query."""

    name: str
    columns: tuple[Ref, ...]


@dataclass(frozen=True)
class Item:
    """An item of FROM, and the columns that it gives by its alias."""

    text: str
    scope: tuple[Ref, ...]


class Relations:
    """Makes FROM clauses.

    `query` makes a query of a given depth for a subquery, `both` a text that Sabot and DuckDB write differently.
    """

    def __init__(
        self,
        choices: Choices,
        expressions: Expressions,
        query: Callable[[int], Named],
        both: Callable[[str, str], str],
    ) -> None:
        self.choices, self.expressions = choices, expressions
        self._query, self._both = query, both
        self._aliases = 0
        self.dependent = Dependent(choices, expressions, self._read, self.alias)
        self.known: list[Named] = []

    def alias(self) -> str:
        self._aliases += 1
        return f"r{self._aliases}"

    def _read(self) -> tuple[str, Scope]:
        item = self.item(0)
        return item.text, item.scope

    def item(self, depth: int) -> Item:
        """Make one item: a relation by name, or a subquery."""
        with self.choices.span():
            if depth > 0 and self.choices.chance(25):
                made = self._query(depth - 1)
                return self._aliased(f"({made.name})", made.columns)
            if self.choices.chance(6):
                return self._windowed()
            named = self.choices.pick(self.known)
            return self._aliased(named.name, named.columns)

    def _aliased(self, text: str, columns: tuple[Ref, ...]) -> Item:
        alias = self.alias()
        return Item(f"{text} AS {alias}", tuple(Ref(f"{alias}.{c.text}", c.kind) for c in columns))

    def _windowed(self) -> Item:
        """Make TUMBLE, HOP or CUMULATE of a relation with a time."""
        timed = [n for n in self.known if of_kind(n.columns, "ts")]
        if not timed:
            named = self.choices.pick(self.known)
            return self._aliased(named.name, named.columns)
        named = self.choices.pick(timed)
        at = self.choices.pick(of_kind(named.columns, "ts"))
        if any(c.text.startswith("window_") for c in named.columns):
            return self._aliased(named.name, named.columns)
        ends = (Ref("window_start", "ts"), Ref("window_end", "ts"))
        kind, size, slide = self.choices.pick(
            (("TUMBLE", 10, 10), ("HOP", 15, 5), ("TUMBLE", 7, 7), ("CUMULATE", 15, 5), ("SESSION", 8, 8))
        )
        if kind == "SESSION":
            keys = [c.text for c in named.columns if c.kind in ("int", "text")]
            key = self.choices.pick(keys) if keys and not self.choices.chance(25) else None
            by = f" PARTITION BY {key}" if key is not None else ""
            stream = f"SESSION({named.name}{by}, {at}, INTERVAL '{size} seconds')"
            batch = sessions_in_duckdb(named.name, at, key, size)
            return self._aliased(self._both(stream, batch), (*named.columns, *ends))
        offset = self.choices.pick((0, 0, 2))
        lengths = (slide, size) if kind != "TUMBLE" else (size,)
        if offset:
            lengths = (*lengths, offset)
        arguments = ", ".join([named.name, at, *(f"INTERVAL '{n} seconds'" for n in lengths)])
        stream = f"{kind}({arguments})"
        batch = windows_in_duckdb(named.name, at, kind, size, slide, offset)
        return self._aliased(self._both(stream, batch), (*named.columns, *ends))

    def from_(self, depth: int) -> Item:
        """Make a FROM clause: mostly one item or a join of two, now and then of up to six."""
        with self.choices.span():
            first = self.item(depth)
            many = self.choices.pick((0, 1, 0, 1, 1, 2, 1, 0, 5)) if depth > 0 else self.choices.pick((0, 0, 1))
            if many == 1 and self.choices.chance(15):
                return self._using(first)
            for number in range(many):
                last = number == many - 1
                first = self._beside(first, last) if self.choices.chance(12) else self._join(first, depth, number)
            return first

    def _join(self, left: Item, depth: int, number: int) -> Item:
        with self.choices.span():
            right = self.item(depth) if number < 2 else self._grouped()
            kind = self.choices.pick(("JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "SEMI JOIN", "ANTI JOIN"))
            if self.choices.chance(5):
                return self._nearest(left)
            both = (*left.scope, *right.scope)
            if number == 0 and self.choices.chance(6):
                return Item(f"{left.text} CROSS JOIN {right.text}", both)
            condition = self._on(left.scope, right.scope)
            shown = left.scope if kind in ("SEMI JOIN", "ANTI JOIN") else both
            return Item(f"{left.text} {kind} {right.text} ON {condition}", shown)

    def _nearest(self, left: Item) -> Item:
        """Join each row with the nearest of its key; there is one row a key and value, so no two are as near."""
        named = self.choices.pick([n for n in self.known if len(of_kind(n.columns, "int")) > 1] or self.known)
        ints, mine = of_kind(named.columns, "int"), of_kind(left.scope, "int")
        if len(ints) < 2 or not mine:
            return left
        key, by = ints[0], ints[1]
        text = f"(SELECT {key} AS k, {by} AS b, count(*) AS n FROM {named.name} GROUP BY {key}, {by})"
        right = self._aliased(text, (Ref("k", "int"), Ref("b", "int"), Ref("n", "int")))
        nearer = self.choices.pick((">=", ">", "<=", "<"))
        equal = f"{self.choices.pick(mine)} = {right.scope[0].text}"
        on = f"{equal} AND {self.choices.pick(mine)} {nearer} {right.scope[1].text}"
        kind = self.choices.pick(("ASOF JOIN", "ASOF LEFT JOIN"))
        return Item(f"{left.text} {kind} {right.text} ON {on}", (*left.scope, *right.scope))

    def _grouped(self) -> Item:
        """One row a key, so that a long chain of joins stays small."""
        named = self.choices.pick([n for n in self.known if of_kind(n.columns, "int")])
        key = self.choices.pick(of_kind(named.columns, "int"))
        text = f"(SELECT {key} AS k, count(*) AS n FROM {named.name} GROUP BY {key})"
        return self._aliased(text, (Ref("k", "int"), Ref("n", "int")))

    def _on(self, left: Scope, right: Scope) -> str:
        keys = [self._equal(left, right)]
        if self.choices.chance(25):
            keys.append(self._equal(left, right))
        if self.choices.chance(25):
            keys.append(self.expressions.condition((*left, *right), 1))
        if self.choices.chance(8):
            # without an equality
            pair = self._pair(left, right)
            if pair is not None:
                keys = [f"{pair[0]} {self.choices.pick(('<', '>=', '<>'))} {pair[1]}"]
        return " AND ".join(keys)

    def _pair(self, left: Scope, right: Scope) -> tuple[str, str] | None:
        pairs = [
            (a.text, b.text)
            for a in left
            for b in right
            if a.kind in SORTABLE and (a.kind == b.kind or (a.kind in NUMBERS and b.kind in NUMBERS))
        ]
        # the whole numbers that tables share first
        pairs.sort(key=lambda p: (not p[0].endswith(".k"), not p[1].endswith(".k")))
        return pairs[min(self.choices.below(len(pairs)), self.choices.below(len(pairs)))] if pairs else None

    def _equal(self, left: Scope, right: Scope) -> str:
        pair = self._pair(left, right)
        if pair is None:
            return "true"
        if self.choices.chance(10) and of_kind(left, "int") and of_kind(right, "int"):
            a, b = self.choices.pick(of_kind(left, "int")), self.choices.pick(of_kind(right, "int"))
            return f"{a} + 1 = {b}"
        return f"{pair[0]} = {pair[1]}"

    def _using(self, left: Item) -> Item:
        """Join by USING (k): the key is named without a relation then."""
        right = self.item(0)
        if not (_has(left, "k") and _has(right, "k")):
            return left
        kind = self.choices.pick(("JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"))
        rest = [r for r in (*left.scope, *right.scope) if not r.text.endswith(".k")]
        return Item(f"{left.text} {kind} {right.text} USING (k)", (Ref("k", "int"), *rest))

    def _beside(self, left: Item, last: bool) -> Item:
        """Join each row with what depends on it: unnest, generate_series, LATERAL."""
        # a join behind a comma would bind closer
        comma = ", " if last and self.choices.chance(50) else " CROSS JOIN "
        with self.choices.span():
            ints, lists = of_kind(left.scope, "int"), of_kind(left.scope, "ints")
            shape = self.choices.below(6)
            alias = self.alias()
            if shape > 3:
                return self._dependent(left, alias, comma)
            if shape == 0 and ints:
                listed = self.choices.pick(lists) if lists else f"ARRAY[{self.choices.pick(ints)}, 7, NULL]"
                if self.choices.chance(30):
                    text = f"{left.text}{comma}unnest({listed}) WITH ORDINALITY AS {alias}(x, o)"
                    return Item(text, (*left.scope, Ref(f"{alias}.x", "int"), Ref(f"{alias}.o", "int")))
                return Item(
                    f"{left.text}{comma}unnest({listed}) AS {alias}(x)", (*left.scope, Ref(f"{alias}.x", "int"))
                )
            if shape == 1 and ints:
                text = f"{left.text}{comma}generate_series(1, least({self.choices.pick(ints)}, 4)) AS {alias}(g)"
                return Item(text, (*left.scope, Ref(f"{alias}.g", "int")))
            return self._lateral(left, alias, comma, inner_first=shape == 2)

    def _dependent(self, left: Item, alias: str, comma: str) -> Item:
        body, columns, on = self.dependent.lateral(left.scope)
        shown = tuple(Ref(f"{alias}.{c.text}", c.kind) for c in columns)
        join = self.choices.pick((comma, " LEFT JOIN ", " JOIN "))
        if join == comma:
            return Item(f"{left.text}{comma}LATERAL ({body}) AS {alias}", (*left.scope, *shown))
        condition = "true" if self.choices.chance(40) else on.replace("x ", f"{alias}.x ", 1)
        return Item(f"{left.text}{join}LATERAL ({body}) AS {alias} ON {condition}", (*left.scope, *shown))

    def _lateral(self, left: Item, alias: str, comma: str, *, inner_first: bool) -> Item:
        inner = self.item(0)
        where = self._equal(left.scope, inner.scope)
        cells = [r for r in inner.scope if r.kind in KINDS and r.kind in SORTABLE]
        if where == "true" or not cells:
            return left
        if inner_first and len(cells) == len(inner.scope):
            picked = self.choices.pick(cells)
            order = self.expressions.order(cells, total=True)
            body = f"SELECT {picked.text} AS x FROM {inner.text} WHERE {where} ORDER BY {order} LIMIT 2"
            shown = (Ref(f"{alias}.x", picked.kind),)
        else:
            picked = self.choices.pick(cells)
            body = f"SELECT count(*) AS n, max({picked.text}) AS x FROM {inner.text} WHERE {where}"
            shown = (Ref(f"{alias}.n", "int"), Ref(f"{alias}.x", picked.kind))
        if self.choices.chance(40):
            return Item(f"{left.text} LEFT JOIN LATERAL ({body}) AS {alias} ON true", (*left.scope, *shown))
        return Item(f"{left.text}{comma}LATERAL ({body}) AS {alias}", (*left.scope, *shown))


def _has(item: Item, name: str) -> bool:
    """Whether exactly one column of an item is called `name`."""
    return sum(r.text.endswith(f".{name}") or r.text == name for r in item.scope) == 1 and all(
        r.text != name for r in item.scope
    )


def windows_in_duckdb(relation: str, at: str, kind: str, size: int, slide: int, offset: int) -> str:
    """Return DuckDB's text for the rows of TUMBLE, HOP and CUMULATE; seconds."""
    micro = 1_000_000
    shifted = f"(epoch_us({at}) - {offset * micro})"
    if kind == "CUMULATE":
        start = f"(floor({shifted} / {size * micro}.0)::BIGINT * {size * micro} + {offset * micro})"
        return (
            f"(SELECT * EXCLUDE (w0, w1), make_timestamp(w0) AS window_start, make_timestamp(w0 + w1 * {slide * micro})"
            f" AS window_end FROM (SELECT *, {start} AS w0, unnest(range(1, {size // slide + 1})) AS w1"
            f" FROM {relation} WHERE {at} IS NOT NULL) WHERE w0 + w1 * {slide * micro} > epoch_us({at}))"
        )
    first = f"floor(({shifted} - {size * micro}) / {slide * micro}.0)::BIGINT + 1"
    last = f"floor({shifted} / {slide * micro}.0)::BIGINT"
    return (
        f"(SELECT * EXCLUDE (w0), make_timestamp(w0 * {slide * micro} + {offset * micro}) AS window_start,"
        f" make_timestamp(w0 * {slide * micro} + {(offset + size) * micro}) AS window_end"
        f" FROM (SELECT *, unnest(range({first}, {last} + 1)) AS w0 FROM {relation} WHERE {at} IS NOT NULL))"
    )


def sessions_in_duckdb(relation: str, at: str, key: str | None, gap: int) -> str:
    """Return DuckDB's text for the rows of SESSION; seconds."""
    by = f"PARTITION BY {key} " if key is not None else ""
    each = f"PARTITION BY {key}, w1" if key is not None else "PARTITION BY w1"
    begins = f"coalesce({at} - lag({at}) OVER ({by}ORDER BY {at}) >= INTERVAL '{gap} seconds', true)"
    return (
        f"(SELECT * EXCLUDE (w0, w1), min({at}) OVER ({each}) AS window_start,"
        f" max({at}) OVER ({each}) + INTERVAL '{gap} seconds' AS window_end FROM"
        f" (SELECT *, count_if(w0) OVER ({by}ORDER BY {at} RANGE UNBOUNDED PRECEDING) AS w1 FROM"
        f" (SELECT *, {begins} AS w0 FROM {relation} WHERE {at} IS NOT NULL)))"
    )
