"""Aggregate calls in two phases: the partial columns, and the result over the merged ones."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from planner.aggregate_forms import JSONB_OBJECT, form
from planner.changelog import Monotone
from planner.logical import AggCall, Aggregate, OrderBy, schema_of
from planner.numeric import is_decimal, quotient_sql
from planner.render import motion_type
from planner.task_spec import ColumnSpec, PartialColumn
from sabot.ids import WEIGHT
from sabot.schema import quote

ROWS = "__rows"
_DECIMAL = re.compile(r"DECIMAL\((\d+),\s*(\d+)\)\Z")
_SMALL_WHOLE = ("BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "UTINYINT", "USMALLINT")
_LARGE_WHOLE = ("UINTEGER", "BIGINT", "UBIGINT", "HUGEINT")
FLOATING = ("FLOAT", "DOUBLE")


def mergeable(
    call: AggCall,
    argument_type: str | None,
    *,
    retracting: bool,
    keys: tuple[str, ...] = (),
    monotone: Monotone | None = None,
) -> bool:
    """Whether `call` can be computed from partials of its rows, exactly.

    Over retracting input a minimum cannot be taken back (unless the input only ever moves towards it), and neither can
    a floating-point sum: rounding stays behind, and an infinity never leaves. Those are recomputed from the rows.
    """
    # the least of different values is the least of all
    if (call.distinct and call.function not in ("min", "max")) or call.more or call.constants or call.order:
        return False
    if call.function == "count":
        return True
    if call.function in ("min", "max"):
        if not retracting:
            return True
        if (
            monotone is None
            or not set(keys) <= monotone.fixed
            or (call.filter is not None and call.filter not in monotone.fixed)
        ):
            return False
        return call.argument in monotone.fixed | (monotone.rising if call.function == "max" else monotone.falling)
    if argument_type is None or call.function not in ("sum", "avg"):
        return False
    if argument_type in FLOATING:
        return not retracting
    return sum_type(argument_type) is not None


def sum_type(argument_type: str) -> str | None:
    """Return the type in which sums of `argument_type` are exact (DOUBLE: as exact as DuckDB's own)."""
    if argument_type in _SMALL_WHOLE or argument_type in _LARGE_WHOLE:
        return "DECIMAL(38,0)"
    if match := _DECIMAL.match(argument_type):
        return f"DECIMAL(38,{match[2]})"
    return "DOUBLE" if argument_type in FLOATING else None


@dataclass(frozen=True)
class TwoPhase:
    """An aggregate cut in two.

    `items` are the SELECT items of the partial statement after the keys, `partials` their columns; `results` are the
    SELECT items over the merged partials, in the order of the calls.
    """

    items: tuple[str, ...]
    partials: tuple[PartialColumn, ...]
    results: tuple[str, ...]


def two_phase(node: Aggregate, *, retracting: bool, prefix: str = "__", rows: bool | None = None) -> TwoPhase:
    """Cut the calls of `node`, all of them mergeable, in two phases.

    The partials' names begin with `prefix`. `rows`: whether ``__rows`` is among them; by default where something reads
    it, or a group may go.
    """
    return _Builder({f.name: f.type for f in schema_of(node.input)}, retracting, prefix).build(node, rows)


def presence(flags: tuple[AggCall, ...], *, retracting: bool) -> TwoPhase:
    """Return the phases of flags (``bool_or`` of a BOOLEAN field, or of any row): whether such a row is there."""
    items, partials, results = [], [], []
    if retracting:
        items.append(f"CAST(sum({WEIGHT}) AS BIGINT) AS {quote(ROWS)}")
        partials.append(PartialColumn(ROWS, "BIGINT", "sum"))
    for i, flag in enumerate(flags):
        name = f"__s{i}"
        condition = quote(flag.argument) if flag.argument is not None else "true"
        if retracting:
            items.append(f"coalesce(CAST(sum({WEIGHT}) FILTER (WHERE {condition}) AS BIGINT), 0) AS {quote(name)}")
            partials.append(PartialColumn(name, "BIGINT", "sum"))
        else:
            items.append(f"max(CASE WHEN {condition} THEN 1 ELSE 0 END) AS {quote(name)}")
            partials.append(PartialColumn(name, "INTEGER", "max"))
        results.append(f"{quote(name)} > 0 AS {quote(flag.name)}")
    return TwoPhase(tuple(items), tuple(partials), tuple(results))


class _Builder:
    """Collects partial columns; equal ones are computed once."""

    def __init__(self, types: dict[str, str], retracting: bool, prefix: str) -> None:
        self._types = types
        self._retracting = retracting
        self._prefix = prefix
        self._by_sql: dict[str, PartialColumn] = {}

    def build(self, node: Aggregate, rows: bool | None) -> TwoPhase:
        if rows is None:
            # without it a maximum that stands still changes nothing in the state
            counted = any(c.function == "count" and c.argument is None and c.filter is None for c in node.calls)
            rows = self._retracting or not node.keys or not node.calls or counted
        if rows:
            sql = f"CAST(sum({WEIGHT}) AS BIGINT)" if self._retracting else "count(*)"
            if self._retracting and not node.keys:
                sql = f"coalesce({sql}, 0)"
            self._by_sql[sql] = PartialColumn(ROWS, "BIGINT", "sum")
        results = tuple(f"{self._result(call)} AS {quote(call.name)}" for call in node.calls)
        items = tuple(f"{sql} AS {quote(column.name)}" for sql, column in self._by_sql.items())
        return TwoPhase(items, tuple(self._by_sql.values()), results)

    def _result(self, call: AggCall) -> str:
        target = motion_type(call.type)
        if call.function == "count":
            return _cast(self._count(call), "BIGINT", target)
        if call.function in ("min", "max"):
            argument, type_text = self._argument(call)
            # only what is inserted counts: retracting input is monotone, or the call would not be mergeable
            conditions = [f"{WEIGHT} > 0"] if self._retracting else []
            conditions += [quote(call.filter)] if call.filter is not None else []
            where = f" FILTER (WHERE {' AND '.join(conditions)})" if conditions else ""
            sql = f"{call.function}({argument}){where}"
            return _cast(self._partial(sql, type_text, call.function), type_text, target)
        total, count = self._sum(call), self._count(call)
        exact = sum_type(self._types[call.argument or ""]) or ""
        if call.function == "sum":
            value = _cast(total, exact, target)
        else:
            value = _mean(total, exact, count, call.type)
        # no row that counts: NULL, as SQL has it
        return f"CASE WHEN {count} > 0 THEN {value} END"

    def _argument(self, call: AggCall) -> tuple[str, str]:
        name = call.argument or ""
        return quote(name), motion_type(self._types[name])

    def _count(self, call: AggCall) -> str:
        if call.argument is None and call.filter is None:
            return quote(ROWS)
        if not self._retracting:
            argument = "*" if call.argument is None else quote(call.argument)
            return self._partial(f"count({argument}){_filter(call)}", "BIGINT", "sum")
        conditions = [f"{quote(call.argument)} IS NOT NULL"] if call.argument is not None else []
        conditions += [quote(call.filter)] if call.filter is not None else []
        where = " AND ".join(conditions)
        return self._partial(f"coalesce(CAST(sum({WEIGHT}) FILTER (WHERE {where}) AS BIGINT), 0)", "BIGINT", "sum")

    def _sum(self, call: AggCall) -> str:
        argument, type_text = self._argument(call)
        exact = sum_type(type_text) or ""
        if type_text == "BOOLEAN":
            argument, type_text = f"CAST({argument} AS INTEGER)", "INTEGER"
        if self._retracting:
            # the product in a type that holds it: BIGINT for what fits 32 bits, else 128 bits
            wide = "BIGINT" if type_text in _SMALL_WHOLE else "HUGEINT" if type_text in _LARGE_WHOLE else exact
            argument = f"CAST({argument} AS {wide}) * {WEIGHT}"
        zeroed = f"CAST(coalesce(sum({argument}){_filter(call)}, 0) AS {exact})"
        return self._partial(zeroed, exact, "sum")

    def _partial(self, sql: str, type_text: str, merge: str) -> str:
        if sql not in self._by_sql:
            self._by_sql[sql] = PartialColumn(f"{self._prefix}p{len(self._by_sql)}", type_text, merge)
        return quote(self._by_sql[sql].name)


def _filter(call: AggCall) -> str:
    return f" FILTER (WHERE {quote(call.filter)})" if call.filter is not None else ""


def _cast(sql: str, from_type: str, to_type: str) -> str:
    return sql if from_type == to_type else f"CAST({sql} AS {to_type})"


def monotone_result(node: Aggregate, *, retracting: bool, below: Monotone | None) -> Monotone | None:
    """Return how the groups of a two-phase aggregate that emits on update change, if they never go."""
    if retracting and (below is None or not set(node.keys) <= below.fixed):
        return None
    rises = ("max",) if retracting else ("max", "count")
    return Monotone(
        frozenset(node.keys),
        frozenset(c.name for c in node.calls if c.function in rises),
        frozenset(c.name for c in node.calls if c.function == "min"),
    )


def whole_rows_sql(node: Aggregate) -> str:
    """Return the aggregate as one statement over its rows, for the operator that recomputes groups."""
    items = [quote(k) for k in node.keys]
    types = {f.name: f.type for f in schema_of(node.input)}
    for call in node.calls:
        value = value_sql(call, types, settled(call), _filter(call))
        items.append(f"CAST({value} AS {motion_type(call.type)}) AS {quote(call.name)}")
    group = f" GROUP BY {', '.join(quote(k) for k in node.keys)}" if node.keys else ""
    return f"SELECT {', '.join(items)} FROM input{group}"


_ORDERED = frozenset(
    ["first", "last", "any_value", "arbitrary", "list", "array_agg", "string_agg", "group_concat", "listagg", "mode"]
    + ["arg_min", "arg_max", "min_by", "max_by", "argmin", "argmax", "json_group_array", "arg_min_null", "arg_max_null"]
    + ["array_concat_agg", "approx_quantile", "histogram", "map_agg", "json_group_object", JSONB_OBJECT]
    + ["arg_min_nulls_last", "arg_max_nulls_last", "approx_top_k", "lttb"]
)


def settled(call: AggCall) -> tuple[OrderBy, ...]:
    """Return the order of a call's rows, settled where SQL leaves it open: the same rows give the same answer."""
    if not call.order and call.function not in _ORDERED:
        return ()
    known = {o.field for o in call.order}
    named = (call.argument, *call.more)
    # of the values of one key the last stays, which is to be one that is there
    nulls_first = call.function == JSONB_OBJECT
    rest = (OrderBy(f, nulls_first=nulls_first) for f in dict.fromkeys(named) if f is not None and f not in known)
    return (*call.order, *rest)


def call_sql(call: AggCall, types: Mapping[str, str], order: tuple[OrderBy, ...] = ()) -> str:
    """Return the call itself, without FILTER, over columns of `types` as they travel."""
    named = [n for n in (call.argument, *call.more) if n is not None]
    arguments = [_as_value(n, types.get(n, ""), call.function) for n in named] + list(call.constants)
    if not arguments and call.function == "count":
        arguments = ["*"]
    distinct = "DISTINCT " if call.distinct else ""
    sort = f" ORDER BY {order_sql(order)}" if order else ""
    return f"{call.function}({distinct}{', '.join(arguments)}{sort})"


def value_sql(
    call: AggCall, types: Mapping[str, str], order: tuple[OrderBy, ...] = (), around: str = "", nulls: str = ""
) -> str:
    """Return a call with what stands around it: `around` after it (FILTER, OVER), `nulls` inside (IGNORE NULLS).

    The average of exact numbers is their sum by their count, exact; DuckDB's own is DOUBLE.
    """
    if call.function == "avg" and is_decimal(call.type):
        total, count = (call_sql(replace(call, function=f), types, order) for f in ("sum", "count"))
        exact = sum_type(types[call.argument or ""]) or ""
        return _mean(f"CAST({total}{around} AS {exact})", exact, f"nullif({count}{around}, 0)", call.type)
    named = [n for n in (call.argument, *call.more) if n is not None]

    def listed(value: str, before: Sequence[str]) -> str:
        sort = ", ".join([*before, *([order_sql(order)] if order else [])])
        distinct = "DISTINCT " if call.distinct else ""
        return f"list({distinct}{value}{f' ORDER BY {sort}' if sort else ''}{nulls}){around}"

    arguments = [_as_value(n, types.get(n, ""), call.function) for n in named] + list(call.constants)
    formed = form(call.function, [types.get(n, "") for n in named], arguments, listed)
    if formed is not None:
        return formed
    bare = call_sql(call, types, order)
    return f"{bare[:-1]}{nulls}){around}" if nulls else f"{bare}{around}"


def _mean(total: str, total_type: str, count: str, type_text: str) -> str:
    if not is_decimal(type_text):
        return _cast(f"CAST({total} AS DOUBLE) / {count}", "DOUBLE", motion_type(type_text))
    return quotient_sql(total, total_type, count, "BIGINT")


def order_sql(order: tuple[OrderBy, ...], of: str = "") -> str:
    """Return what stands after ORDER BY; `of` goes before each field (``t.``)."""
    return ", ".join(
        f"{of}{quote(o.field)}{' DESC' if o.descending else ''} NULLS {'FIRST' if o.nulls_first else 'LAST'}"
        for o in order
    )


def _as_value(name: str, type_text: str, function: str) -> str:
    """Return an argument; JSON travels as text, which only an aggregate of JSON must see as what it is."""
    if type_text.upper() == "JSON" and function.startswith("json"):
        return f"TRY_CAST({quote(name)} AS JSON)"
    return quote(name)


def key_columns(node: Aggregate) -> tuple[ColumnSpec, ...]:
    """Return the group keys as columns."""
    types = {f.name: f.type for f in schema_of(node.input)}
    return tuple(ColumnSpec(k, types[k]) for k in node.keys)


def by_order(node: Aggregate) -> bool:
    """Whether the answer may depend on the order of the rows: of anything but counts, extremes and exact sums."""
    types = {f.name: f.type for f in schema_of(node.input)}
    exact = ("count", "min", "max", "bool_and", "bool_or", "bit_and", "bit_or", "bit_xor")
    return any(
        c.function not in exact and (c.function not in ("sum", "avg") or types.get(c.argument or "") in FLOATING)
        for c in node.calls
    )
