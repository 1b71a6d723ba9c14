"""The items of FROM, and how they come by the columns of the domain that a subquery is read through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlglot import exp

from planner.logical import Join, JoinKind, LogicalNode, schema_of
from sql_frontend import build
from sql_frontend.dependent import crossed
from sql_frontend.join_conditions import fields_of, is_null_safe, links, sameness
from sql_frontend.lower_rows import in_place
from sql_frontend.origin import Origin
from sql_frontend.scope import Domain, RelationInScope
from sql_frontend.subqueries import keyed


@dataclass
class Item:
    """One item of FROM: its plan with fields unique in the whole FROM."""

    node: LogicalNode
    relation: RelationInScope
    source: exp.Expr
    outer: tuple[str, ...] = ()
    """The fields that have the domain's columns, where it has them."""

    @property
    def fields(self) -> set[str]:
        return {f.name for f in schema_of(self.node)}


@dataclass
class Group:
    """Items that JOIN binds together, and the conditions that stand for all of them; commas are between groups."""

    items: list[Item]
    pool: list[exp.Expression]
    lateral: bool = False
    """Begun by a comma and an item that reads what stands before it: its joins happen for each row of that."""


class DomainInFrom:
    """Gives items of one FROM the columns of its `domain`, if it has one."""

    def __init__(self, domain: Domain | None, origin: Origin) -> None:
        self.domain = domain
        self.origin = origin

    def read_by(self, pool: Sequence[exp.Expression]) -> bool:
        names = set(self.domain.fields) if self.domain is not None else set()
        return any(fields_of(p) & names for p in pool)

    def leaf(self) -> Item:
        """The domain as an item of FROM."""
        assert self.domain is not None
        return Item(self.domain.leaf, RelationInScope(None, ()), exp.Null(), tuple(self.domain.fields))

    def carried(self, item: Item) -> Item:
        """Return `item` with the domain's columns in the domain's own fields."""
        if self.domain is None or item.outer == tuple(self.domain.fields):
            return item
        if not item.outer:
            return replace(item, node=crossed(item.node, self.domain), outer=tuple(self.domain.fields))
        return self._called(item, self.domain.fields)

    def _called(self, item: Item, names: Sequence[str]) -> Item:
        """Return `item` with the domain's columns by other names."""
        renamed = dict(zip(item.outer, names, strict=True))
        items = [(renamed.get(f.name, f.name), build.column(f.name)) for f in schema_of(item.node)]
        return replace(item, node=build.project(item.node, items, self.origin), outer=tuple(names))

    def _apart(self, item: Item, taken: set[str]) -> Item:
        """Return `item` with the domain's columns by names that nothing has."""
        names: list[str] = []
        for field in item.outer:
            names.append(build.fresh(f"{field}_of", [*taken, *item.fields, *names]))
        return self._called(item, names)

    def met(self, items: Sequence[Item], pool: Sequence[exp.Expression]) -> tuple[list[Item], list[exp.Expression]]:
        """Have items with the domain's columns meet in them; it is an item itself where only conditions read it."""
        carriers = [item for item in items if item.outer]
        if self.domain is None or not (carriers or self.read_by(pool)):
            return list(items), list(pool)
        fields = self.domain.fields
        if not carriers:
            return [*items, self.leaf()], list(pool)
        first = next((c for c in carriers if c.outer == tuple(fields)), None)
        if first is None:
            items = [self.carried(item) if item is carriers[0] else item for item in items]
        met = [
            exp.NullSafeEQ(this=build.column(a), expression=build.column(b))
            for item in carriers
            if item is not (first or carriers[0])
            for a, b in zip(fields, item.outer, strict=True)
        ]
        return list(items), [*met, *pool]

    def both_met(
        self, left: Item, right: Item, pool: list[exp.Expression], kind: JoinKind
    ) -> tuple[Item, Item, list[exp.Expression]]:
        """Give the side whose rows stay the domain's columns, if either has them or the condition reads them."""
        if self.domain is None or not (left.outer or right.outer or self.read_by(pool)):
            return left, right, pool
        if kind is JoinKind.FULL:
            left = self._apart(self.carried(left), right.fields)
            right = self._apart(self.carried(right), left.fields)
            if self.read_by(pool):
                # both sides have them in a pair of rows
                own = dict(zip(self.domain.fields, left.outer, strict=True))
                pool = [in_place(p, own) for p in pool]
        elif kind is JoinKind.RIGHT:
            left = self._apart(left, right.fields) if left.outer else left
            right = self.carried(right)
        else:
            right = self._apart(right, left.fields) if right.outer else right
            left = self.carried(left)
        met: list[exp.Expression] = []
        if left.outer and right.outer:
            met = [
                exp.NullSafeEQ(this=build.column(a), expression=build.column(b))
                for a, b in zip(left.outer, right.outer, strict=True)
            ]
        return left, right, [*met, *pool]


def joined_items(
    items: list[Item], pool: list[exp.Expression], origin: Origin
) -> tuple[LogicalNode, list[exp.Expression]]:
    """Join the items, each next one by an equality with those before it if there is any.

    Returns the predicates that are left.
    """
    node = items[0].node
    placed = set(items[0].fields)
    waiting = items[1:]
    pool = sorted(pool, key=lambda p: not is_null_safe(p))
    while waiting:
        for item in waiting:
            keys = [k for p in pool if (k := sameness(p, placed, item.fields)) is not None]
            if keys:
                break
        else:
            # by another condition, or all with all
            keys = []
            item = next((i for i in waiting if any(links(p, placed, i.fields) for p in pool)), waiting[0])
        null_safe = sum(is_null_safe(p) for p in pool if sameness(p, placed, item.fields) is not None)
        pool = [p for p in pool if sameness(p, placed, item.fields) is None]
        waiting.remove(item)
        own = set(item.fields)
        node, left_keys = keyed(node, [k[0] for k in keys], placed | own, origin)
        right, right_keys = keyed(item.node, [k[1] for k in keys], placed | own | set(left_keys), origin)
        placed |= own
        fields = schema_of(node) + schema_of(right)
        residual = [p for p in pool if (used := fields_of(p)) <= placed and used & own and used - own]
        pool = [p for p in pool if not any(p is r for r in residual)]
        condition = build.conjunction(fields, residual, origin) if residual else None
        pairs = [
            exp.EQ(this=build.column(a), expression=build.column(b)) for a, b in zip(left_keys, right_keys, strict=True)
        ]
        if pairs:
            build.conjunction(fields, pairs, origin)
        node = Join(node, right, tuple(left_keys), tuple(right_keys), condition, null_safe=null_safe)
    return node, pool
