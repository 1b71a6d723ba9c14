"""INSERT, UPDATE and DELETE of a stored table: its rows and its log, or neither. The caller holds its lock."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa

from sabot.errors import SqlError
from sabot.ids import WEIGHT
from sabot.schema import literal, quote
from sabotd.state.coerce import assigned
from sabotd.state.relation import StoredRelation, conform, transaction

_ROWID = "__rowid"


@dataclass(frozen=True)
class OnConflict:
    """What becomes of a row whose key is there: SQL expressions over it and ``excluded``, where `condition` holds."""

    assignments: Sequence[tuple[str, str | None]]
    condition: str | None


@dataclass(frozen=True)
class Written:
    """How many rows a statement wrote or took away, and what its RETURNING gives."""

    count: int
    returned: pa.Table | None = None


def insert(
    relation: StoredRelation,
    rows: pa.Table,
    columns: Sequence[str],
    *,
    on_conflict: str | None = None,
    conflict: OnConflict | None = None,
    returning: str | None = None,
    timezone: str = "UTC",
    alias: str | None = None,
) -> Written:
    """Insert `rows` for `columns`; see `Store.insert`. Expressions call the table `alias`."""
    con = relation.connection
    types = {f.name: f.type for f in relation.schema}
    ignores = conflict is not None or (on_conflict or relation.on_conflict) == "ignore"
    with _zone(relation, timezone):
        # through a table of the target's types, so that defaults and casts are in the log too; made outside of the
        # transaction: with threads, DuckDB 2.0 loses what is inserted into a table that its transaction made
        # by CREATE TABLE AS, once that is more than a row group
        con.execute(f"CREATE OR REPLACE TEMP TABLE __taken AS SELECT * FROM {relation.path} LIMIT 0")
        con.register("__new_rows", rows)
        try:
            with written(relation):
                values = [
                    assigned(c, rows.schema.field(c).type, relation.arrow.field(c).type, types[c]) for c in columns
                ]
                fill_taken(relation, columns, "__new_rows", values)
                _refuse_null_keys(relation)
                removed = []
                if conflict is not None:
                    removed = _change_present(relation, conflict, alias or relation.alias)
                elif relation.primary_key:
                    removed = resolve(relation, on_conflict or relation.on_conflict)
                con.execute(f"INSERT INTO {relation.path} SELECT * FROM __taken")
                return finish(relation, removed, "__taken", returning, None if ignores else len(rows), alias)
        finally:
            con.unregister("__new_rows")


def fill_taken(relation: StoredRelation, columns: Sequence[str], source: str, values: Sequence[str] = ()) -> None:
    """Put the `columns` of `source`, by `values` where given, into ``__taken``; others get their defaults."""
    defaults = [(c, d) for c, d in _defaults(relation).items() if c not in columns]
    items = ", ".join([*(values or map(quote, columns)), *(d for _, d in defaults)])
    targets = ", ".join(quote(c) for c in [*columns, *(c for c, _ in defaults)])
    relation.connection.execute(f"INSERT INTO __taken ({targets}) SELECT {items} FROM {source}")


def _refuse_null_keys(relation: StoredRelation) -> None:
    """Refuse rows of ``__taken`` without a key, as PostgreSQL does; what a sink writes may have none."""
    for key in relation.primary_key:
        if relation.connection.execute(f"SELECT 1 FROM __taken WHERE {quote(key)} IS NULL LIMIT 1").fetchone():
            msg = f"NULL in column {key!r}, which is of the primary key of table {relation.alias!r}"
            raise SqlError(msg, hint="every row needs its key", sqlstate="23502")


def resolve(relation: StoredRelation, on_conflict: str, *, null_safe: bool = False) -> list[pa.RecordBatch]:
    """Leave one row of each key in ``__taken``, take away the rows that these replace; return those.

    `null_safe`: NULL may be among the keys.
    """
    con = relation.connection
    keys = ", ".join(quote(k) for k in relation.primary_key)
    same = same_key(relation, null_safe=null_safe)
    if on_conflict == "ignore":
        con.execute(f"DELETE FROM __taken WHERE rowid NOT IN (SELECT min(rowid) FROM __taken GROUP BY {keys})")
        con.execute(f"DELETE FROM __taken n USING {relation.path} t WHERE {same}")
        return []
    if on_conflict == "update_if_not_null":
        names = [f.name for f in relation.schema if f.name not in relation.primary_key]
        last = [f"arg_max({quote(c)}, rowid) FILTER ({quote(c)} IS NOT NULL) AS {quote(c)}" for c in names]
        merged = [f"coalesce(n.{quote(c)}, t.{quote(c)})" for c in names]
        given = [f"n.{quote(k)}" for k in relation.primary_key]
        order = [*relation.primary_key, *names]
        con.execute("CREATE OR REPLACE TEMP TABLE __given AS SELECT *, rowid AS __at FROM __taken")
        con.execute("DELETE FROM __taken")
        con.execute(
            f"INSERT INTO __taken ({', '.join(quote(c) for c in order)}) SELECT {', '.join([*given, *merged])} "
            f"FROM (SELECT {', '.join([keys, *last]).replace('rowid', '__at')} FROM __given GROUP BY {keys}) n "
            f"LEFT JOIN {relation.path} t ON {same}"
        )
    else:
        con.execute(f"DELETE FROM __taken WHERE rowid NOT IN (SELECT max(rowid) FROM __taken GROUP BY {keys})")
    removed = fetch(relation, f"SELECT t.* FROM {relation.path} t SEMI JOIN __taken n ON {same}")
    con.execute(f"DELETE FROM {relation.path} t USING __taken n WHERE {same}")
    return removed


def same_key(relation: StoredRelation, *, null_safe: bool = False) -> str:
    """Return the condition that rows ``t`` and ``n`` have the same key; a NULL is like a NULL if `null_safe`."""
    is_same = "IS NOT DISTINCT FROM" if null_safe else "="
    return " AND ".join(f"t.{quote(k)} {is_same} n.{quote(k)}" for k in relation.primary_key)


def _change_present(relation: StoredRelation, conflict: OnConflict, alias: str) -> list[pa.RecordBatch]:
    """Leave in ``__taken`` the rows whose key is new, and what the present ones become; return these as they were."""
    con = relation.connection
    keys = ", ".join(quote(k) for k in relation.primary_key)
    if con.execute(f"SELECT 1 FROM __taken GROUP BY {keys} HAVING count(*) > 1").fetchone():
        msg = "ON CONFLICT DO UPDATE cannot change a row a second time"
        raise SqlError(msg, hint="two of the rows have the same key", sqlstate="21000")
    table = quote(alias)
    same = " AND ".join(f"{table}.{quote(k)} = excluded.{quote(k)}" for k in relation.primary_key)
    where = f" WHERE ({conflict.condition})" if conflict.condition is not None else ""
    present = f"FROM {relation.path} AS {table} JOIN __given AS excluded ON {same}{where}"
    con.execute("CREATE OR REPLACE TEMP TABLE __given AS SELECT * FROM __taken")
    con.execute("DELETE FROM __taken")
    new = f"FROM __given AS excluded ANTI JOIN {relation.path} AS {table} ON {same}"
    con.execute(f"INSERT INTO __taken SELECT excluded.* {new}")
    con.execute(f"CREATE OR REPLACE TEMP TABLE __changed AS SELECT {table}.* {present}")
    values = ", ".join(_new_values(relation, conflict.assignments, alias))
    con.execute(f"INSERT INTO __taken SELECT {values} {present}")
    con.execute(f"DELETE FROM {relation.path} t USING __changed n WHERE {same_key(relation)}")
    return fetch(relation, "SELECT * FROM __changed")


def _new_values(relation: StoredRelation, assignments: Sequence[tuple[str, str | None]], alias: str) -> list[str]:
    changed, defaults = dict(assignments), _defaults(relation)
    return [
        f"{quote(alias)}.{quote(f.name)}"
        if f.name not in changed
        else f"({changed[f.name]})"
        if changed[f.name] is not None
        else defaults.get(f.name, "NULL")
        for f in relation.schema
    ]


def update(
    relation: StoredRelation,
    assignments: Sequence[tuple[str, str | None]],
    *,
    alias: str,
    condition: str | None,
    source: str | None = None,
    returning: str | None = None,
    timezone: str = "UTC",
) -> Written:
    """Give columns new values (SQL expressions over the row before; None is the default) where `condition` holds.

    `source` is more of FROM, which both may read. Of several of its rows for one row some one counts.
    """
    con = relation.connection
    with _zone(relation, timezone):
        for name in ("__taken", "__gone"):
            con.execute(
                f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT rowid AS {_ROWID}, * FROM {relation.path} LIMIT 0"
            )
        with written(relation):
            values = ", ".join(_new_values(relation, assignments, alias))
            con.execute(
                f"INSERT INTO __taken SELECT {_place(alias)}, {values} {_from(relation, alias, condition, source)}"
            )
            _refuse_null_keys(relation)
            _take_gone(relation, f"SELECT {_ROWID} FROM __taken")
            new = f"(SELECT * EXCLUDE ({_ROWID}) FROM __taken ORDER BY {_ROWID})"
            removed = _take_away(relation)
            con.execute(f"INSERT INTO {relation.path} SELECT * FROM {new}")
            return finish(relation, removed, new, returning, sum(b.num_rows for b in removed), alias)


def delete(
    relation: StoredRelation,
    *,
    alias: str,
    condition: str | None,
    source: str | None = None,
    returning: str | None = None,
    timezone: str = "UTC",
) -> Written:
    """Take away the rows where `condition` holds, all of them without one; it may read `source` too."""
    con = relation.connection
    with _zone(relation, timezone):
        con.execute(f"CREATE OR REPLACE TEMP TABLE __gone AS SELECT rowid AS {_ROWID}, * FROM {relation.path} LIMIT 0")
        with written(relation):
            _take_gone(relation, f"SELECT {_place(alias)} {_from(relation, alias, condition, source)}")
            removed = _take_away(relation)
            count = sum(b.num_rows for b in removed)
            old = f"(SELECT * EXCLUDE ({_ROWID}) FROM __gone ORDER BY {_ROWID})"
            return finish(relation, removed, old, returning, count, alias, added=False)


def _place(alias: str) -> str:
    return f"{quote(alias)}.rowid"


def _from(relation: StoredRelation, alias: str, condition: str | None, source: str | None) -> str:
    """The rows that a statement is about, each once."""
    beside = f", {source}" if source is not None else ""
    where = f" WHERE ({condition})" if condition is not None else ""
    once = f" QUALIFY row_number() OVER (PARTITION BY {_place(alias)}) = 1" if source is not None else ""
    return f"FROM {relation.path} AS {quote(alias)}{beside}{where}{once}"


def _take_gone(relation: StoredRelation, places: str) -> None:
    relation.connection.execute(f"INSERT INTO __gone SELECT rowid, * FROM {relation.path} WHERE rowid IN ({places})")


def _take_away(relation: StoredRelation) -> list[pa.RecordBatch]:
    removed = fetch(relation, f"SELECT * EXCLUDE ({_ROWID}) FROM __gone ORDER BY {_ROWID}")
    relation.connection.execute(f"DELETE FROM {relation.path} WHERE rowid IN (SELECT {_ROWID} FROM __gone)")
    return removed


def finish(
    relation: StoredRelation,
    removed: list[pa.RecordBatch],
    source: str,
    returning: str | None,
    count: int | None,
    alias: str | None = None,
    *,
    added: bool = True,
) -> Written:
    """Put what was taken away and added into the log, and read what RETURNING asks for."""
    new = fetch(relation, f"SELECT * FROM {source}") if added else []
    batches = new if relation.append_only else [*(_weigh(b, -1) for b in removed), *(_weigh(b, 1) for b in new)]
    returned = None
    if returning is not None:
        sql = f"SELECT {returning} FROM {source} AS {quote(alias or relation.alias)}"
        returned = relation.connection.sql(sql).to_arrow_table()
    relation.log.prepare(relation.epoch + 1, batches)
    return Written(sum(b.num_rows for b in new) if count is None else count, returned)


@contextmanager
def _zone(relation: StoredRelation, timezone: str) -> Iterator[None]:
    """Let the statement see times in its session's zone."""
    if timezone == "UTC":
        yield
        return
    relation.connection.execute(f"SET TimeZone = {literal(timezone)}")
    try:
        yield
    finally:
        relation.connection.execute("SET TimeZone = 'UTC'")


@contextmanager
def written(relation: StoredRelation) -> Iterator[None]:
    """Write the relation's next epoch: all that the block does, and its log, or nothing."""
    try:
        with transaction(relation, relation.epoch + 1):
            yield
    except OSError as error:
        msg = f"table {relation.alias!r}: the rows cannot be written: {(error.strerror or str(error)).lower()}"
        raise SqlError(msg, sqlstate="53100" if error.errno == errno.ENOSPC else "58030") from error
    relation.epoch += 1


def _defaults(relation: StoredRelation) -> dict[str, str]:
    found = relation.connection.execute(
        "SELECT column_name, column_default FROM duckdb_columns() WHERE database_name = 'durable' "
        "AND table_name = ? AND column_default IS NOT NULL",
        [relation.name],
    ).fetchall()
    return dict(found)


def fetch(relation: StoredRelation, sql: str) -> list[pa.RecordBatch]:
    """Return rows of all the relation's columns, in the types of its log."""
    table = relation.connection.sql(sql).to_arrow_table()
    return [conform(b, relation.arrow) for b in table.to_batches() if b.num_rows]


def _weigh(batch: pa.RecordBatch, weight: int) -> pa.RecordBatch:
    return batch.append_column(WEIGHT, pa.repeat(pa.scalar(weight, pa.int32()), batch.num_rows))
