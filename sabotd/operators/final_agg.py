"""Merges partial aggregates into the state by key and tells each touched group's change.

An epoch is one lookup (state probed with the epoch's keys), one statement for the changes and up to three writes,
whatever the number of groups.
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from cython_shuffle.frames import Barrier
from planner.task_spec import FinalAggOp, PartialColumn
from sabot.ids import WEIGHT
from sabot.schema import quote
from sabotd.operators.columns import (
    HASH,
    Batches,
    Gathered,
    any_null,
    arrow_columns,
    declarations,
    has_null,
    key_hash,
    names,
    same_hashed_key,
    same_key,
)
from sabotd.operators.partial_agg import merge_sql, partial_columns
from sabotd.operators.touched_keys import TouchedKeys
from sabotd.state.duckdb_state import Statement, TaskDatabase

_PENDING_ROWS = 524_288
# Updated rows pile up beside their table; folding them in costs as much as the table is long.
_FOLD_ROWS = 1_048_576
_ROWS = "__rows"


class FinalAgg:
    """A grouped (or global) aggregate that shows its changes at every barrier."""

    def __init__(self, op: FinalAggOp, db: TaskDatabase, schema: pa.Schema) -> None:
        self._keys = [k.name for k in op.keys]
        self._global = not op.keys
        self._begun = False
        self._pending: Batches = []
        self._gathered = Gathered(_PENDING_ROWS)
        self._inserted = self._updated = 0
        self._session = session = db.session()
        columns = partial_columns(op.keys, op.partials)
        table = session.table("groups")
        hashed = key_hash(op.keys)
        extra = f", {HASH} UBIGINT" if hashed else ""
        session.execute(f"CREATE TABLE {table} ({declarations(columns)}{extra})")
        self._slot = session.slot("input", schema)
        self._premerge = session.prepare(merge_sql(op.keys, op.partials, "input"), arrow_columns(columns))
        self._lookups = [session.prepare(_lookup_sql(op, table, nulls=nulls)) for nulls in (False, True)]
        self._changes_slot = session.slot("merged", self._lookups[0].result_schema())
        self._changes = session.prepare(_changes_sql(op), arrow_columns(op.columns, weighted=True))
        self._has_rows = any(p.name == _ROWS for p in op.partials) and not self._global
        sets = ", ".join(f"{quote(p.name)} = {_new(i)}" for i, p in enumerate(op.partials))
        live = f"{_dead(op)} IS NOT TRUE"
        # extremes stand still for most rows: only what they move is written
        self._still = not any(p.merge == "sum" for p in op.partials)
        moved = ' AND "#moved"' if self._still else ""
        self._update = session.prepare(
            f'UPDATE {table} SET {sets} FROM merged WHERE {table}.rowid = "#rid" AND {live}{moved}'
        )
        keys = [_key(i) for i in range(len(op.keys))]
        items = _list(keys, (_new(i) for i in range(len(op.partials))), [f"hash({_list(keys)})"] if hashed else [])
        self._insert = session.prepare(
            f'INSERT INTO {table} SELECT {items} FROM merged WHERE "#rid" IS NULL AND {live}'
        )
        self._delete = session.prepare(
            f'DELETE FROM {table} WHERE rowid IN (SELECT "#rid" FROM merged WHERE "#rid" IS NOT NULL AND {_dead(op)})'
        )

        self._touched = TouchedKeys(session, op.keys, op.ttl_us) if op.ttl_us is not None else None
        if self._touched is not None:
            self._touch = self._touched.statement("merged" if op.keys else "", keys, quoted=True)
            alive = self._touched.alive(self._keys)
            stay = f"SELECT s.rid FROM (SELECT *, rowid AS rid FROM {table}) s {alive}"
            self._forget = session.prepare(f"DELETE FROM {table} WHERE rowid NOT IN ({stay})")

    def process(self, port: int, batch: pa.RecordBatch) -> Iterable[pa.RecordBatch]:
        """Gather."""
        if batch.num_rows:
            self._pending.append(batch)
            if self._gathered.are_enough(self._pending):
                self._slot.fill(self._pending)
                self._pending = self._gathered.merged(self._premerge.batches())
                self._slot.clear()
        return []

    def barrier(self, barrier: Barrier) -> Iterable[pa.RecordBatch]:
        """Merge the epoch and return its changes: -1 the old row, +1 the new one, nothing where both are equal."""
        out = self._merge(barrier.now_us)
        if self._touched is not None and self._touched.expire(barrier.now_us):
            self._forget.run()
            self._session.checkpoint()
        return out

    def _merge(self, now_us: int) -> Batches:
        if not self._pending and (self._begun or not self._global):
            return []
        self._begun = True
        self._slot.fill(self._pending)
        try:
            merged = self._lookups[has_null(self._pending, self._keys)].batches()
        finally:
            self._slot.clear()
            self._pending = []
        if not merged:
            return []
        self._changes_slot.fill(merged)
        try:
            changes = self._changes.batches()
            self._write(merged)
            if self._touched is not None:
                self._touch.run(now_us)
        finally:
            self._changes_slot.clear()
        return changes

    def close(self) -> None:
        """Close the connection and let rows go."""
        self._pending = []
        self._session.close()

    def _write(self, merged: Batches) -> None:
        new = sum(batch.column("#rid").null_count for batch in merged)
        old = sum(pc.sum(batch.column("#moved")).as_py() for batch in merged) - new
        writes: list[Statement] = []
        if old:
            writes.append(self._update)
            if self._has_rows and any(_any_dead(batch.column("#rows")) for batch in merged):
                writes.append(self._delete)
        if new:
            writes.append(self._insert)
        if len(writes) > 1:
            self._session.begin()
        for write in writes:
            write.run()
        if len(writes) > 1:
            self._session.commit()
        self._inserted += new
        self._updated += old
        if self._updated > max(_FOLD_ROWS, self._inserted):
            self._session.checkpoint()
            self._updated = 0


def _any_dead(column: pa.Array) -> bool:
    return bool(pc.any(pc.less_equal(column, 0)).as_py())


def _key(i: int) -> str:
    return f'"#k{i}"'


def _new(i: int) -> str:
    return f'"#n{i}"'


def _dead(op: FinalAggOp) -> str:
    has_rows = any(p.name == _ROWS for p in op.partials) and op.keys
    # of a group that was forgotten rows may be taken away
    return f'("#rows" {"=" if op.ttl_us is None else "<="} 0)' if has_rows else "false"


def _combine(partial: PartialColumn, old: str, delta: str) -> str:
    # least and greatest leave NULL out, as min and max do
    merged = {
        "sum": f"coalesce({old} + {delta}, {old}, {delta})",
        "min": f"least({old}, {delta})",
        "max": f"greatest({old}, {delta})",
    }[partial.merge]
    if partial.name == _ROWS:
        merged = f"coalesce({merged}, 0)"
    return f"CAST({merged} AS {partial.type})"


def _lookup_sql(op: FinalAggOp, table: str, *, nulls: bool) -> str:
    """Return the SELECT over ``input`` and the state: row id, keys, new partials, new results, old results.

    `nulls`: whether the input may hold NULL keys, which are looked up apart.
    """
    keys = [_key(i) for i in range(len(op.keys))]
    olds = [f'"#o{i}"' for i in range(len(op.partials))]
    news = [_new(i) for i in range(len(op.partials))]
    joined = _list(
        ['s."#rid"'],
        (f"d.{quote(k.name)} AS {key}" for k, key in zip(op.keys, keys, strict=True)),
        (f"s.{quote(p.name)} AS {old}" for p, old in zip(op.partials, olds, strict=True)),
        (
            f"{_combine(p, f's.{quote(p.name)}', f'd.{quote(p.name)}')} AS {new}"
            for p, new in zip(op.partials, news, strict=True)
        ),
    )

    hashed = key_hash(op.keys)

    def join(where: str, *, null_safe: bool) -> str:
        delta = merge_sql(op.keys, op.partials, "input", where)
        on = same_key(names(op.keys, "s."), names(op.keys, "d."), null_safe=null_safe)
        if hashed:
            delta = f"SELECT *, {hashed} AS {HASH} FROM ({delta})"
            on = same_hashed_key("s", "d", on)
        state = f'SELECT *, rowid AS "#rid" FROM {table}{where}'
        return f"SELECT {joined} FROM ({state}) s RIGHT JOIN ({delta}) d ON {on}"

    source = join("", null_safe=bool(hashed))
    if nulls and not hashed:
        some = any_null(names(op.keys))
        apart = join(f" WHERE NOT ({some})", null_safe=False), join(f" WHERE {some}", null_safe=True)
        source = " UNION ALL ".join(apart)
    results = op.columns[len(op.keys) :]
    carried = ['"#rid"', *keys, *olds, *news]
    for prefix, partials in (("#r", news), ("#q", olds)):
        named = [f"{key} AS {quote(k.name)}" for k, key in zip(op.keys, keys, strict=True)]
        named += [f"{column} AS {quote(p.name)}" for p, column in zip(op.partials, partials, strict=True)]
        aliases = [f'"{prefix}{i}"' for i in range(len(results))]
        # the items may or may not carry an alias: named by position
        inner = f"SELECT {_list(carried, op.result_sql)} FROM (SELECT {_list(carried, named)} FROM ({source}))"
        source = f"SELECT * FROM ({inner}) AS t({_list(carried, aliases)})"
        carried += aliases
    rows = next((new for p, new in zip(op.partials, news, strict=True) if p.name == _ROWS), "1")
    moved = " OR ".join(f"{new} IS DISTINCT FROM {old}" for new, old in zip(news, olds, strict=True))
    still = not any(p.merge == "sum" for p in op.partials)
    tail = [f'{rows} AS "#rows"', f'("#rid" IS NULL OR {moved if still else "true"}) AS "#moved"']
    for prefix in ("#r", "#q"):
        tail += [f'CAST("{prefix}{i}" AS {c.type}) AS "{prefix}{i}"' for i, c in enumerate(results)]
    head = ['"#rid"']
    return f"SELECT {_list(head, keys, news, tail)} FROM ({source})"


def _list(*parts: Iterable[str]) -> str:
    return ", ".join(item for part in parts for item in part)


def _changes_sql(op: FinalAggOp) -> str:
    results = op.columns[len(op.keys) :]
    differs = " OR ".join(f'"#r{i}" IS DISTINCT FROM "#q{i}"' for i in range(len(results))) or "false"
    dead = _dead(op)

    def row(prefix: str, weight: int) -> str:
        items = [f"{_key(i)} AS {quote(c.name)}" for i, c in enumerate(op.columns[: len(op.keys)])]
        items += [f'"{prefix}{i}" AS {quote(c.name)}' for i, c in enumerate(results)]
        return ", ".join([*items, f"CAST({weight} AS INTEGER) AS {quote(WEIGHT)}"])

    return (
        f'SELECT {row("#q", -1)} FROM merged WHERE "#rid" IS NOT NULL AND ({dead} OR {differs}) UNION ALL '
        f'SELECT {row("#r", 1)} FROM merged WHERE NOT {dead} AND ("#rid" IS NULL OR {differs})'
    )
