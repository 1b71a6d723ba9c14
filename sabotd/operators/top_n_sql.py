"""The statements of the operator that keeps the best rows of each key."""

from __future__ import annotations

from planner.task_spec import Columns, SortKey, TopNOp
from sabot.ids import WEIGHT
from sabot.schema import quote
from sabotd.operators.columns import (
    HASH,
    any_null,
    is_fixed_width,
    key_hash,
    names,
    same_hashed_key,
    same_key,
)

_ID, _POS, _OLD, _NEW = '"#rid"', '"#pos"', '"#old"', '"#new"'


def key_columns(op: TopNOp) -> Columns:
    """Return the columns of the key."""
    by_name = {c.name: c for c in op.inputs}
    return tuple(by_name[k] for k in op.keys)


def narrow_order(op: TopNOp) -> tuple[SortKey, ...]:
    """Return the order up to the first column that is not of fixed width."""
    types = {c.name: c.type for c in op.inputs}
    wide = next((i for i, key in enumerate(op.order) if not is_fixed_width(types[key.name])), len(op.order))
    return op.order[:wide]


def kept_sql(op: TopNOp) -> str:
    """Return the SELECT of the rows of ``raw`` that have a place among themselves."""
    listed = ", ".join(names(op.inputs))
    return f"SELECT {listed} FROM raw QUALIFY {_place(op, op.function, op.order)} <= {op.limit}"


def ranked_sql(op: TopNOp, table: str, order: tuple[SortKey, ...], *, nulls: bool) -> str:
    """Return the SELECT that ranks the kept rows of the keys in ``input`` with the rows of ``input``.

    Its columns are ``#rid`` (of a kept row), ``#pos`` (of a new one), ``#old`` (the place before, if it is shown),
    ``#new`` (the place), ``#row`` and ``#rank`` (which differ where rows are equal by `order`). Of the new rows only
    those within the limit, or equal to one that is. `nulls`: whether the input may hold NULL keys.
    """
    read = {key.name for key in order} | set(op.keys)
    columns = tuple(c for c in op.inputs if c.name in read)
    listed = ", ".join(names(columns))
    comma = ", " if listed else ""
    kept = _touched_sql(op, table, columns, nulls=nulls) if op.keys else f"SELECT rowid AS {_ID}, * FROM {table}"
    old = none = ""
    if op.place is not None:
        old, none = f", {_place(op, op.function, order, _ID)} AS {_OLD}", f", CAST(NULL AS BIGINT) AS {_OLD}"
    both = (
        f"SELECT {_ID}, CAST(NULL AS BIGINT) AS {_POS}{comma}{listed}{old} FROM kept UNION ALL "
        f"SELECT CAST(NULL AS BIGINT) AS {_ID}, {_POS}{comma}{listed}{none} FROM input"
    )
    places = [f"{_place(op, op.function, order, f'{_ID}, {_POS}')} AS {_NEW}"]
    places += [f'{_place(op, "row_number", order)} AS "#row"', f'{_place(op, "rank", order)} AS "#rank"']
    shown = _OLD if op.place is not None else f"CAST(NULL AS BIGINT) AS {_OLD}"
    ranked = f"SELECT *, {', '.join(places)} FROM ({both})"
    # by the whole order a row is within the limit by its place; by a part of it also if it is equal to one that is
    within = f"{_NEW} <= {op.limit}" if order == op.order else f'least({_NEW}, "#rank") <= {op.limit}'
    ranked = f'SELECT {_ID}, {_POS}, {shown}, {_NEW}, "#row", "#rank" FROM ({ranked})'
    # right below a window function the scan of the state is not pruned by the range of the keys: 11 ns a row
    return f"WITH kept AS MATERIALIZED ({kept}) {ranked} WHERE {_ID} IS NOT NULL OR {within}"


def _touched_sql(op: TopNOp, table: str, columns: Columns, *, nulls: bool) -> str:
    """Return the SELECT of the kept rows whose key is in ``input``, with their ``#rid``."""
    keys = key_columns(op)
    hashed = key_hash(keys)
    items = ", ".join([f"s.{_ID}", *names(columns, "s.")])

    def join(where: str, *, null_safe: bool) -> str:
        delta = f"SELECT DISTINCT {', '.join(names(keys))} FROM input{where}"
        on = same_key(names(keys, "s."), names(keys, "d."), null_safe=null_safe)
        if hashed:
            delta = f"SELECT *, {hashed} AS {HASH} FROM ({delta})"
            on = same_hashed_key("s", "d", on)
        return f"SELECT {items} FROM (SELECT *, rowid AS {_ID} FROM {table}{where}) s JOIN ({delta}) d ON {on}"

    if not nulls or hashed:
        return join("", null_safe=bool(hashed))
    some = any_null(names(keys))
    return f"{join(f' WHERE NOT ({some})', null_safe=False)} UNION ALL {join(f' WHERE {some}', null_safe=True)}"


def _place(op: TopNOp, function: str, order: tuple[SortKey, ...], tie: str = "") -> str:
    """Return the place of a row within its key; of equal rows that have a place each, the one by `tie` is first."""
    items = [sort_key(key) for key in order]
    if tie and function == "row_number":
        items.append(tie)
    by = f"PARTITION BY {', '.join(map(quote, op.keys))}" if op.keys else ""
    sort = f" ORDER BY {', '.join(items)}" if items else ""
    return f"{function}() OVER ({by}{sort})"


def sort_key(key: SortKey) -> str:
    """Return an item of ORDER BY."""
    return f"{quote(key.name)}{' DESC' if key.descending else ''} NULLS {'FIRST' if key.nulls_first else 'LAST'}"


def leaving_sql(op: TopNOp, table: str) -> str:
    """Return the SELECT of kept rows that lose their place (-1) or have another one, if it is shown (-1, then +1)."""
    if op.place is None:
        return _shown(op, _rows(op, table, "", -1, f"{_NEW} > {op.limit}"))
    gone = _rows(op, table, _OLD, -1, f"{_NEW} <> {_OLD} OR {_NEW} > {op.limit}")
    moved = _rows(op, table, _NEW, 1, f"{_NEW} <> {_OLD} AND {_NEW} <= {op.limit}")
    return _shown(op, f"{gone} UNION ALL {moved}")


def _rows(op: TopNOp, table: str, place: str, sign: int, where: str) -> str:
    items = [f"{place} AS {quote(c.name)}" if c.name == op.place else f"s.{quote(c.name)}" for c in op.columns]
    return (
        f"SELECT {', '.join(items)}, CAST({sign} AS INTEGER) AS {quote(WEIGHT)} FROM {table} s"
        f" JOIN (SELECT * FROM ranked WHERE {_ID} IS NOT NULL AND ({where})) r ON s.rowid = r.{_ID}"
    )


def coming_sql(op: TopNOp) -> str:
    """Return the SELECT of the new rows that have a place, from ``come``."""
    items = [f"{_NEW} AS {quote(c.name)}" if c.name == op.place else quote(c.name) for c in op.columns]
    return _shown(op, f"SELECT {', '.join(items)}, CAST(1 AS INTEGER) AS {quote(WEIGHT)} FROM come")


def _shown(op: TopNOp, changes: str) -> str:
    return f"SELECT * FROM ({changes}) WHERE {op.condition_sql}" if op.condition_sql else changes


def delete_sql(op: TopNOp, table: str) -> str:
    """Return the statement that forgets the kept rows that lose their place."""
    lost = f"SELECT {_ID} FROM ranked WHERE {_ID} IS NOT NULL AND {_NEW} > {op.limit}"
    return f"DELETE FROM {table} WHERE rowid IN ({lost})"
