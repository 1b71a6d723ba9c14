"""How a task finds the rows on which an expression fails: such expressions are NULL in a view, and are told of.

What is planned never fails: the front end has put what may into TRY and the like, and marked that. From the marks comes
the same expression that fails (`failing`), and from that a chain's statement as it is tried first, and the checks for
the batches on which that raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from sqlglot import exp

from planner.expressions import conjuncts, fields_read
from planner.logical import Filter, LogicalNode, Project, Unnest, Window, schema_of
from planner.numeric import readable
from planner.render import as_declared, render
from planner.sql import rows_below
from planner.task_spec import FailureCheck
from sabot.ids import WEIGHT
from sabot.schema import Schema, quote

GUARD = "guard"
"""The mark, in sqlglot's meta, of what stands in the place of something that may fail: copies of a node keep it."""

IsInput = Callable[[LogicalNode], bool]


def failing(expression: exp.Expression) -> exp.Expression | None:
    """Return `expression` failing where it would be NULL for a failure; None if it cannot fail.

    It fails by casts alone: TRY does not take ``error(...)``, which is volatile.
    """
    return _unguarded(expression, _divisor_that_fails, _raised)


def _plain(expression: exp.Expression) -> exp.Expression:
    """Return `expression` as it was written, for people."""
    found = _unguarded(expression, lambda divisor: divisor, _raised) or expression
    return found.unnest()  # type: ignore[return-value]


def _unguarded(
    expression: exp.Expression,
    divisor: Callable[[exp.Expression], exp.Expression],
    raised: Callable[[str], exp.Expression],
) -> exp.Expression | None:
    found = False

    def swapped(node: exp.Expr) -> exp.Expr:
        nonlocal found
        # from the leaves: what stands in the place of a node holds children that have been swapped
        for child in list(node.iter_expressions()):
            new = swapped(child)
            if new is not child:
                child.replace(new)
        if (guard := node.meta.get(GUARD)) is None:
            return node
        found = True
        match node:
            case exp.TryCast():
                return exp.Cast(this=node.this, to=node.args["to"])
            case exp.Nullif():
                return divisor(node.this)
            case exp.Null():
                return raised(str(guard))
            case exp.Anonymous() if node.name.upper() == "TRY":
                return exp.paren(node.expressions[0], copy=False)
            case _:
                node.set("this", guard)
                return node

    made = swapped(expression.copy())
    assert isinstance(made, exp.Expression)
    return made if found else None


def _divisor_that_fails(divisor: exp.Expression) -> exp.Expression:
    zero = exp.EQ(this=exp.paren(divisor.copy()), expression=exp.Literal.number(0))
    return exp.paren(exp.Case(ifs=[exp.If(this=zero, true=_raised("division by zero"))], default=divisor.copy()))


def _raised(message: str) -> exp.Expression:
    """Return an expression that fails with `message`, as a cast that does."""
    return exp.cast(exp.Literal.string(message), exp.DataType.build("BIGINT"))


_NULL_OF_ITS_OWN = (exp.Case, exp.If, exp.Coalesce, exp.Nullif, exp.Is, exp.Null, exp.Anonymous, exp.And, exp.Or)


def _passes_null_on(plain: exp.Expression) -> bool:
    """Whether an expression is surely NULL where a field of it is, and for no other reason but failure."""
    return not any(plain.find_all(*_NULL_OF_ITS_OWN))


@dataclass(frozen=True)
class ToldFailures:
    """A chain that fails on rows of which it has to be told, and what finds them; None if none can."""

    chain: LogicalNode | None
    checks: tuple[FailureCheck, ...]


def told_failures(node: LogicalNode, is_input: IsInput, *, weighted: bool, top_shows: bool) -> ToldFailures:
    """Return how failures in the chain from `node` down to its input are found.

    Parameters
    ----------
    top_shows : bool
        A NULL in a column of the topmost projection is seen in the result: that needs no other statement.
    """
    levels = list(_levels(node, is_input))
    top = next((n for n in levels if not isinstance(n, Filter)), None)
    checks: list[FailureCheck] = []
    unseen = False
    for level in levels:
        found = tuple(_checks(level, is_input, weighted=weighted))
        unseen = unseen or (bool(found) and not (top_shows and level is top))
        checks += found
    return ToldFailures(_failing(node, is_input) if unseen else None, tuple(checks))


def _levels(node: LogicalNode, is_input: IsInput) -> Iterator[LogicalNode]:
    while not is_input(node) and isinstance(node, Project | Filter | Window | Unnest):
        yield node
        node = node.input


def _failing(node: LogicalNode, is_input: IsInput) -> LogicalNode:
    """Return the chain with expressions that fail in the place of those that are NULL."""
    if is_input(node) or not isinstance(node, Project | Filter | Window | Unnest):
        return node
    below = _failing(node.input, is_input)
    if isinstance(node, Project):
        exprs = tuple(replace(e, expr=failing(e.expr) or e.expr) for e in node.exprs)
        return Project(below, exprs)
    if isinstance(node, Filter):
        return Filter(below, failing(node.predicate) or node.predicate)
    return replace(node, input=below)


def _checks(level: LogicalNode, is_input: IsInput, *, weighted: bool) -> Iterator[FailureCheck]:
    if isinstance(level, Project):
        for e in level.exprs:
            if (fails := failing(e.expr)) is not None:
                yield _check(level.input, is_input, e.name, e.expr, fails, (), weighted=weighted)
    elif isinstance(level, Filter):
        parts = conjuncts(level.predicate)
        for part in parts:
            if (fails := failing(part)) is not None:
                others = [p for p in parts if p is not part]
                yield _check(level.input, is_input, None, part, fails, others, weighted=weighted)


def _check(
    below: LogicalNode,
    is_input: IsInput,
    column: str | None,
    expression: exp.Expression,
    fails: exp.Expression,
    others: Sequence[exp.Expression],
    *,
    weighted: bool,
) -> FailureCheck:
    """Return the check of one expression over the rows of `below`; rows that `others` leave out do not matter.

    An expression that passes NULL on, with none of its fields NULL, is NULL for a reason: only such rows are computed
    again.
    """
    source, conditions = rows_below(below, is_input, weighted=weighted)
    fields = schema_of(below)
    sql, plain = _sql(fails, fields), _plain(expression)
    read = sorted(fields_read(plain) & {f.name for f in fields})
    conditions += [f"({_sql(other, fields)}) IS NOT FALSE" for other in others]
    conditions.append(f"({_sql(expression, fields)}) IS NULL")
    if _passes_null_on(plain):
        conditions += [f"{quote(name)} IS NOT NULL" for name in read]
    if weighted:
        conditions.append(f"{WEIGHT} > 0")
    conditions.append(f"TRY(struct_pack(v := {sql})) IS NULL")
    where = " AND ".join(conditions)
    row = ", ".join(f"{quote(n)} := CAST({quote(n)} AS VARCHAR)" for n in read)
    payload = f"CAST(to_json(struct_pack({row})) AS VARCHAR)" if row else "'{}'"
    return FailureCheck(
        column,
        readable(render(plain)),
        f"SELECT {payload} AS payload FROM {source} WHERE {where}",
        f"SELECT {sql} AS v FROM (SELECT * FROM {source} WHERE {where} LIMIT 1 OFFSET $1)",
    )


def _sql(expression: exp.Expression, fields: Schema) -> str:
    return render(as_declared(expression, fields))
