"""A logical plan as one DuckDB statement that answers it once, over relations by their names."""

from __future__ import annotations

from collections import Counter

from sqlglot import exp

from planner.aggregates import value_sql
from planner.keyed_sql import asof_sql, over_sql
from planner.logical import (
    Aggregate,
    Filter,
    Join,
    LogicalNode,
    Over,
    Project,
    Scan,
    Timeline,
    Union,
    Unnest,
    Window,
    schema_of,
)
from planner.render import render
from planner.sql import named, unnest_sql, window_sql
from planner.timeline_sql import timeline_sql
from planner.tree import children
from sabot.schema import quote


def batch_sql(root: LogicalNode) -> str:
    """Return a SELECT of the root's fields, in order.

    A scan named ``rows(n)`` is a table of n rows with their number as column ``row``, one of connector ``values`` has
    its SQL as its name. What several nodes read is computed once, in a WITH query.
    """
    return _Batch(root).statement()


class _Batch:
    def __init__(self, root: LogicalNode) -> None:
        self._root = root
        self._shared: dict[int, str] = {}
        self._ctes: list[str] = []
        self._readers: Counter[int] = Counter()
        self._count(root)

    def _count(self, root: LogicalNode) -> None:
        pending = [root]
        while pending:
            node = pending.pop()
            self._readers[id(node)] += 1
            if self._readers[id(node)] == 1:
                pending += children(node)

    def statement(self) -> str:
        """Return the whole statement."""
        body = self._select(self._root)
        with_ = f"WITH {', '.join(self._ctes)} " if self._ctes else ""
        return f"{with_}{body}"

    def _source(self, node: LogicalNode) -> str:
        """Return what stands for `node` after FROM; its columns have the fields' names."""
        if isinstance(node, Scan):
            if node.relation.connector == "values":
                return node.relation.name
            count = _row_count(node)
            return (
                f'(SELECT range AS "row" FROM range({count}))'
                if count is not None
                else quote(node.relation.shown or node.relation.name)
            )
        if self._readers[id(node)] > 1:
            if id(node) not in self._shared:
                select = self._select(node)
                name = f"__shared{len(self._ctes)}"
                self._shared[id(node)] = name
                self._ctes.append(f"{quote(name)} AS ({select})")
            return quote(self._shared[id(node)])
        return f"({self._select(node)})"

    def _select(self, node: LogicalNode) -> str:
        match node:
            case Scan():
                names = ", ".join(quote(f.name) for f in node.fields)
                return f"SELECT {names} FROM {self._source(node)}"
            case Project(input=child, exprs=exprs):
                items = ", ".join(named(render(e.expr), e.name) for e in exprs)
                if isinstance(child, Filter) and self._readers[id(child)] == 1:
                    return f"SELECT {items} FROM {self._source(child.input)} WHERE {render(child.predicate)}"
                return f"SELECT {items} FROM {self._source(child)}"
            case Filter(input=child, predicate=predicate):
                return f"SELECT * FROM {self._source(child)} WHERE {render(predicate)}"
            case Window(input=child):
                return window_sql(node, self._source(child), ())
            case Timeline(input=child):
                return f"WITH input AS (SELECT * FROM {self._source(child)}) {timeline_sql(node)}"
            case Aggregate():
                return self._aggregate(node)
            case Join(left=left, right=right, asof=asof) if asof is not None:
                inputs = (
                    f"input AS (SELECT * FROM {self._source(left)}), input_1 AS (SELECT * FROM {self._source(right)})"
                )
                return f"WITH {inputs} {asof_sql(node)}"
            case Join():
                return self._join(node)
            case Over(input=child):
                return over_sql(node, self._source(child))
            case Unnest(input=Project() as child) if (series := _series(node, child)) is not None:
                return self._series(node, child, series)
            case Unnest(input=child):
                return unnest_sql(node, self._source(child), ())
            case Union(inputs=inputs):
                names = ", ".join(quote(f.name) for f in schema_of(node))
                return " UNION ALL ".join(f"SELECT {names} FROM {self._source(kid)}" for kid in inputs)

    def _series(self, node: Unnest, child: Project, series: exp.Expression) -> str:
        """Take a series between constants from DuckDB's table function: as a list it would be in memory as a whole."""
        ((field, name, type_),) = node.lists
        kept = [named(render(e.expr), e.name) for e in child.exprs if e.name != field]
        items = ", ".join([*kept, f"NULL AS {quote(field)}", f'CAST("__series"."at" AS {type_}) AS {quote(name)}'])
        return f'SELECT {items} FROM {self._source(child.input)}, {render(series)} AS "__series"("at")'

    def _aggregate(self, node: Aggregate) -> str:
        types = {f.name: f.type for f in schema_of(node.input)}
        items = [quote(k) for k in node.keys]
        for call in node.calls:
            where = f" FILTER (WHERE {quote(call.filter)})" if call.filter is not None else ""
            items.append(f"CAST({value_sql(call, types, call.order, where)} AS {call.type}) AS {quote(call.name)}")
        by = f" GROUP BY {', '.join(quote(k) for k in node.keys)}" if node.keys else ""
        return f"SELECT {', '.join(items)} FROM {self._source(node.input)}{by}"

    def _join(self, node: Join) -> str:
        on = [f"l.{quote(a)} {sign} r.{quote(b)}" for a, sign, b in node.key_pairs]
        on += [f"({render(node.residual)})"] if node.residual is not None else []
        names = ", ".join(quote(f.name) for f in schema_of(node))
        return (
            f"SELECT {names} FROM {self._source(node.left)} AS l {node.kind.value.upper()} JOIN "
            f"{self._source(node.right)} AS r ON {' AND '.join(on) or 'true'}"
        )


def _series(node: Unnest, child: Project) -> exp.Expression | None:
    """Return the call of a series of whole numbers between constants, if that is all that `node` unnests."""
    if len(node.lists) != 1 or node.ordinality is not None or node.outer:
        return None
    field, _, type_ = node.lists[0]
    call = next(e.expr for e in child.exprs if e.name == field)
    whole = isinstance(call, exp.Anonymous) and call.name.lower() in ("range", "generate_series")
    if not whole or type_ not in ("INTEGER", "BIGINT") or not all(_is_whole(a) for a in call.expressions):
        return None
    return call


def _is_whole(node: exp.Expr) -> bool:
    inner = node.this if isinstance(node, exp.Neg) else node
    return isinstance(inner, exp.Literal) and not inner.is_string and inner.name.isdigit()


def _row_count(scan: Scan) -> str | None:
    name = scan.relation.name
    return name[5:-1] if scan.relation.connector == "datagen" and name.startswith("rows(") else None
