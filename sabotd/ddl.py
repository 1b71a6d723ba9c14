"""Creates and drops: from a statement to an object of the catalog, its rows in the store and its job."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import duckdb

from planner.logical import Relation
from sabot.errors import Span, SqlError
from sabot.schema import quote
from sabotd.catalog_store import CatalogObject, CatalogStore, in_use
from sabotd.control.coordinator import Coordinator
from sabotd.control.tables import RENAME, SCHEMA, ControlTables, ObjectRow, schema_row
from sabotd.defining import CreateStatement, Defining
from sabotd.range_bounds import with_sampled_bounds
from sabotd.select_guard import check_select
from sabotd.settings import Settings
from sabotd.state.store import RESERVED_NAMES, Store
from sql_frontend.binder import bind_select
from sql_frontend.catalog import FunctionDefinition
from sql_frontend.cursor import RelationName, bare_name
from sql_frontend.parse import parse_statement
from sql_frontend.select_text import for_duckdb
from sql_frontend.statements import (
    CreateFunction,
    CreateJob,
    CreateSchema,
    CreateSink,
    CreateTable,
    CreateView,
    Drop,
    Pause,
    Rename,
)
from sql_frontend.user_functions import function_macro

_JOB_PREFIX = {"materialized view": "mv", "sink": "sink"}

_OWN_SCHEMAS = frozenset({"public", "main"})
_MIRRORED = ("table", "materialized view", "view")


@dataclass
class Definitions:
    """Carries out CREATE and DROP, one at a time."""

    catalog: CatalogStore
    store: Store
    tables: ControlTables
    coordinator: Coordinator
    lock: threading.RLock
    """Held by whoever changes the catalog or restarts jobs."""
    defining: Defining

    # -- create

    def create(self, statement: CreateStatement, settings: Settings) -> list[str]:
        """Create an object; its job runs when this returns. Returns notices.

        Raises
        ------
        SabotError
            Nothing was created.
        """
        with self.lock:
            self._need_schema(statement.name, statement.text)
            present = self.catalog.get(statement.name)
            if present is not None:
                if statement.if_not_exists:
                    return [f"{present.kind} {present.name!r} is there already, skipped"]
                replaceable = {"view": CreateView, "function": CreateFunction}.get(present.kind)
                if (
                    isinstance(statement, CreateView | CreateFunction)
                    and statement.or_replace
                    and replaceable is type(statement)
                ):
                    if dependents := self.catalog.dependents(present.key):
                        raise in_use(present.name, dependents)
                    self._forget([present])
                else:
                    msg = f"{present.kind} {present.name!r} is there already"
                    hint = f"DROP {present.kind.upper()} {present.name} removes it"
                    raise SqlError(msg, hint=hint, sqlstate="42P07", text=statement.text)
            self._refuse_twins(statement.name, statement.text)
            if isinstance(statement, CreateSink):
                statement = with_sampled_bounds(statement, self.catalog, self.store)
            obj = self._defined(statement, settings, self._free_key(statement.name))
            self._open(obj, statement, keep=False)
            try:
                self.tables.add_object(ObjectRow(obj.key, obj.kind, obj.sql, settings.to_json()), obj.job_id)
            except BaseException:
                self._close(obj)
                raise
            self.catalog.add(obj)
            if obj.job_id is not None:
                try:
                    self.coordinator.deploy(obj.job_id)
                except BaseException:
                    self._forget([obj])
                    raise
            return list(obj.notices)

    def create_schema(self, statement: CreateSchema, settings: Settings) -> list[str]:
        """Make a schema: names of relations are apart in it. Returns notices."""
        with self.lock:
            name = statement.name
            if name in self.catalog.schemas or name in _OWN_SCHEMAS:
                if statement.if_not_exists:
                    return [f"schema {name!r} is there already, skipped"]
                raise SqlError(f"schema {name!r} is there already", sqlstate="42P06", text=statement.text)
            twin = next((s for s in (*self.catalog.schemas, *_OWN_SCHEMAS) if s.lower() == name.lower()), None)
            if twin is not None or name.lower() in RESERVED_NAMES or "." in name:
                msg = f"schema {name!r} cannot be told from what the system knows"
                raise SqlError(msg, hint="choose another name", sqlstate="42939", text=statement.text)
            self.store.create_schema(name)
            self.tables.add_schema(name, statement.text)
            self.catalog.schemas.add(name)
        return []

    def _drop_schema(self, name: str, statement: Drop) -> list[str]:
        if name not in self.catalog.schemas:
            if statement.if_exists:
                return [f"schema {name!r} is not there, skipped"]
            hint = "it stays" if name in _OWN_SCHEMAS else None
            raise SqlError(f"schema {name!r} does not exist", hint=hint, sqlstate="3F000", text=statement.text)
        inside = [o for o in self.catalog.all() if isinstance(o.name, RelationName) and o.name.schema == name]
        found = {d.key: d for o in inside for d in (o, *self.catalog.dependents(o.key))}
        if found and not statement.cascade:
            raise in_use(name, list(found.values()))
        gone = [o for o in self.catalog.all() if o.key in found]
        self._forget(list(reversed(self._writers_last(gone))))
        self.tables.remove_objects([schema_row(name)], [])
        self.store.drop_schema(name)
        self.catalog.schemas.discard(name)
        return [f"{d.kind} {d.name!r} was dropped too" for d in gone]

    def _writers_last(self, objects: Sequence[CatalogObject]) -> list[CatalogObject]:
        """Return `objects` in the order of creation, sinks last: they write into what is older or newer than they."""
        return sorted(objects, key=lambda o: o.writes is not None)

    def _need_schema(self, name: str, text: str) -> None:
        if isinstance(name, RelationName) and name.schema not in self.catalog.schemas:
            msg = f"schema {name.schema!r} does not exist"
            raise SqlError(msg, hint=f"CREATE SCHEMA {name.schema}", sqlstate="3F000", text=text)

    def _free_key(self, name: str) -> str:
        """Return what a new object `name` is known by: another may have begun with this name."""
        key, number = name, 2
        while self.catalog.by_key(key) is not None:
            key, number = f"{name}#{number}", number + 1
        return key

    def _defined(self, statement: CreateStatement, settings: Settings, key: str) -> CatalogObject:
        """Define an object that the store and its job know by `key`."""
        if key == statement.name:
            return self.defining.define(statement, settings)
        return _called(self.defining.define(replace(statement, name=key), settings), statement.name)

    def _refuse_twins(self, name: str, text: str, *, but: str = "") -> None:
        """Refuse names that differ from another only by case: DuckDB, which answers SELECT, takes them for one."""
        folded = name.lower()
        twin = next((o for o in self.catalog.all() if o.name.lower() == folded and o.key != but), None)
        if twin is not None:
            msg = f"{name!r} differs from {twin.kind} {twin.name!r} only by upper and lower case"
            raise SqlError(msg, hint="choose another name", sqlstate="42P07", text=text)
        if folded in RESERVED_NAMES:
            msg = f"{name!r} has a meaning of its own in the system"
            raise SqlError(msg, hint="choose another name", sqlstate="42939", text=text)

    # -- rows and jobs of an object

    def _open(
        self, obj: CatalogObject, statement: CreateStatement, *, keep: bool, paused: Collection[str] = ()
    ) -> None:
        """Make what an object needs in the store, and make its job known."""
        try:
            match statement:
                case CreateTable():
                    definitions = statement.ddl.removeprefix(f"CREATE TABLE {quote(statement.name)} (").removesuffix(
                        ")"
                    )
                    self._check_defaults(definitions)
                    self.store.create_table(
                        obj.key,
                        obj.columns,
                        statement.primary_key,
                        definitions,
                        append_only=statement.append_only,
                        on_conflict=statement.on_conflict,
                        keep=keep,
                        shown=obj.name,
                    )
                case CreateView(materialized=True) | CreateJob() if isinstance(obj.relation, Relation):
                    self.store.create_rows(
                        obj.key, obj.columns, append_only=obj.relation.append_only, keep=keep, shown=obj.name
                    )
                case CreateSink() if obj.writes is not None:
                    self.store.sinks.make(obj.key, obj.columns, keep=keep)
                case CreateFunction():
                    assert isinstance(obj.relation, FunctionDefinition)
                    spec = obj.relation.spec if obj.relation.language == "python" else None
                    self.store.define_function(spec, function_macro(obj.relation, self.catalog))
                case CreateView():
                    if not _reads_sources(self.catalog, obj):
                        names = [c.name for c in obj.columns]
                        self.store.create_plain_view(obj.name, self._meant(statement.query), names)
                case _:
                    pass
            if isinstance(obj.name, RelationName) and obj.kind in _MIRRORED and not _reads_sources(self.catalog, obj):
                self.store.mirror(obj.name.schema, obj.name.bare)
        except duckdb.Error as error:
            msg = str(error).splitlines()[0].partition("Error: ")[2] or str(error)
            raise SqlError(msg.rstrip("."), text=statement.text, sqlstate="42000") from error
        if obj.planned is not None:
            self.coordinator.register(obj.planned.spec, paused=obj.job_id in paused)

    def _meant(self, query: str) -> str:
        """Return what DuckDB is to run for a plain view: what a SELECT of the same text would."""
        try:
            return bind_select(query, self.catalog).sql
        except SqlError:
            # `_view` has asked DuckDB about what the front end does not know
            return for_duckdb(query)

    def _check_defaults(self, definitions: str) -> None:
        """Refuse defaults that tell what SELECT may not tell."""
        with self.store.reader() as con:
            con.execute(f"CREATE TEMP TABLE sabot_check ({definitions})")
            found = con.execute(
                "SELECT column_default FROM duckdb_columns() WHERE table_name = 'sabot_check' "
                "AND database_name = 'temp' AND column_default IS NOT NULL"
            ).fetchall()
            for (default,) in found:
                check_select(con, f"SELECT {default}")

    def _close(self, obj: CatalogObject) -> None:
        """Undo `_open`: the job first, then its rows."""
        if obj.broken is not None:
            if obj.kind == "table":
                self.store.forget_table(obj.key)
            return
        if obj.job_id is not None:
            self.coordinator.remove(obj.job_id)
        if isinstance(obj.name, RelationName) and obj.kind in _MIRRORED:
            self.store.unmirror(obj.name.schema, obj.name.bare)
        match obj.kind:
            case "table" | "materialized view":
                self.store.drop(obj.key)
            case "view":
                self.store.drop_plain_view(obj.name)
            case "sink" if obj.writes is not None:
                self.store.sinks.forget(obj.key)
            case "function":
                assert isinstance(obj.relation, FunctionDefinition)
                spec = obj.relation.spec if obj.relation.language == "python" else None
                self.store.forget_function(obj.name, spec)

    def restore(self, row: ObjectRow, paused: Collection[str]) -> None:
        """Bring an object back after a restart; its job is still to be deployed, unless it is one of `paused`."""
        statement = parse_statement(row.sql)
        if isinstance(statement, CreateSchema):
            self.store.create_schema(statement.name)
            self.catalog.schemas.add(statement.name)
            return
        if isinstance(statement, Rename):
            renamed = self.catalog.by_key(row.settings)
            if renamed is not None:
                self._rename(renamed, statement.new_name)
            return
        assert isinstance(statement, CreateStatement)
        obj = self._defined(statement, Settings.from_json(row.settings), row.name)
        self._open(obj, statement, keep=True, paused=paused)
        self.catalog.add(obj)

    def keep_broken(self, row: ObjectRow, reason: str) -> None:
        """Keep the name of an object that could not be brought back, so that it can be seen and dropped."""
        if row.kind in (RENAME, SCHEMA):
            return
        try:
            statement = parse_statement(row.sql)
            name = statement.name if isinstance(statement, CreateStatement) else row.name
        except SqlError:
            name = row.name
        self.catalog.add(CatalogObject(name, row.kind, row.sql, None, (), broken=reason, key=row.name))

    # -- drop

    def drop(self, statement: Drop) -> list[str]:
        """Drop objects, with what reads them under CASCADE. Returns notices."""
        notices = []
        with self.lock:
            for name in statement.names:
                if statement.kind == "schema":
                    notices += self._drop_schema(name, statement)
                    continue
                obj = self.catalog.get(name)
                if obj is None:
                    if not statement.if_exists:
                        raise self.unknown(name, statement.kind, statement.text)
                    notices.append(f"{statement.kind} {name!r} is not there, skipped")
                    continue
                if obj.kind != statement.kind and not (obj.is_graph and statement.kind == "job"):
                    msg = f"{name!r} is a {obj.kind}, not a {statement.kind}"
                    hint = f"DROP {obj.kind.upper()} {name}"
                    raise SqlError(msg, hint=hint, sqlstate="42809", text=statement.text)
                dependents = self.catalog.dependents(obj.key)
                if dependents and not statement.cascade:
                    raise in_use(name, dependents)
                self._forget([*reversed(dependents), obj])
                notices += [f"{d.kind} {d.name!r} was dropped too" for d in dependents]
        return notices

    # -- rename

    def rename(self, statement: Rename) -> None:
        """Give a table, materialized view or sink another name; what reads it goes on.

        Raises
        ------
        SqlError
            The name is taken, or a view or function has the present one in its text.
        """
        with self.lock:
            obj = self.catalog.get(statement.name)
            if obj is None:
                raise self.unknown(statement.name, statement.kind, statement.text)
            if obj.kind != statement.kind:
                msg = f"{obj.name!r} is a {obj.kind}, not a {statement.kind}"
                raise SqlError(msg, hint=f"ALTER {obj.kind.upper()} {obj.name}", sqlstate="42809", text=statement.text)
            if obj.broken is not None:
                msg = f"{obj.kind} {obj.name!r} could not be brought back at start"
                raise SqlError(msg, hint="it can only be dropped", sqlstate="55000", text=statement.text)
            if isinstance(statement.new_name, RelationName):
                msg = "RENAME into another schema is not supported"
                raise SqlError(msg, hint=f"RENAME TO {statement.new_name.bare}", sqlstate="0A000", text=statement.text)
            taken = self.catalog.get(_beside(obj.name, statement.new_name))
            if taken is not None:
                msg = f"{taken.kind} {taken.name!r} is there already"
                raise SqlError(msg, hint="choose another name", sqlstate="42P07", text=statement.text)
            self._refuse_twins(_beside(obj.name, statement.new_name), statement.text, but=obj.key)
            # these are read anew each time that they are used
            written = [o for o in self.catalog.all() if obj.key in o.reads and o.kind in ("view", "function")]
            if written:
                used = ", ".join(f"{o.kind} {o.name!r}" for o in written)
                msg = f"cannot rename {obj.name!r}: its name stands in the text of {used}"
                raise SqlError(msg, hint="DROP that, and CREATE it again after", sqlstate="2BP01", text=statement.text)
            self._rename(obj, statement.new_name)
            try:
                self.tables.add_rename(obj.key, statement.text)
            except BaseException:
                self._rename(_called(obj, statement.new_name), bare_name(obj.name))
                raise

    def _rename(self, obj: CatalogObject, name: str) -> None:
        name = _beside(obj.name, name)
        if obj.broken is None and obj.kind in ("table", "materialized view"):
            self.store.rename(obj.key, name)
            if isinstance(obj.name, RelationName) and isinstance(name, RelationName):
                self.store.unmirror(obj.name.schema, obj.name.bare)
                self.store.mirror(name.schema, name.bare)
        self.catalog.add(_called(obj, name))

    # -- pause and resume

    def pause(self, statement: Pause, cancelled: threading.Event) -> list[str]:
        """Have a job read nothing more, or go on. Returns notices.

        A pause returns when all that the job has read is visible; `cancelled` ends the wait, not the pause.
        """
        with self.lock:
            obj = self.catalog.get(statement.name)
            if obj is None:
                raise self.unknown(statement.name, statement.kind, statement.text)
            if obj.job_id is None or statement.kind not in (obj.kind, "job"):
                is_job = obj.job_id is not None
                msg = f"{statement.name!r} is a {obj.kind}, not a {statement.kind}"
                hint = f"write {obj.kind.upper()} {obj.name}" if is_job else "materialized views and sinks have jobs"
                raise SqlError(msg, hint=hint, sqlstate="42809", text=statement.text)
            job = self.coordinator.job(obj.job_id)
            phase = job.phase if job is not None else "there no more"
            if (phase == "PAUSED") == statement.paused or phase == "FINISHED":
                return [f"{obj.kind} {obj.name!r} is {phase.lower()} already"]
            if phase == "FAILED":
                msg = f"{obj.kind} {obj.name!r} has failed"
                raise SqlError(msg, hint="SHOW JOBS tells why", sqlstate="55000", text=statement.text)
            if not statement.paused:
                self.coordinator.unpause(obj.job_id)
                return []
            self.coordinator.pause(obj.job_id)
        self.coordinator.pauses.await_paused(obj.job_id, cancelled)
        return []

    def _forget(self, objects: Sequence[CatalogObject]) -> None:
        """Drop objects in the order given, readers first; the tables say so before anything is torn down."""
        job_ids = [o.job_id or f"{_JOB_PREFIX.get(o.kind, o.kind)}:{o.key}" for o in objects]
        self.tables.remove_objects([o.key for o in objects], job_ids)
        for obj in objects:
            if self.catalog.by_key(obj.key) is not None:
                self.catalog.remove(obj.key)
            self._close(obj)

    def unknown(self, name: str, kind: str, text: str) -> SqlError:
        """Make the error for a name that is not there, with the nearest that is."""
        near = difflib.get_close_matches(name, [o.name for o in self.catalog.all()], n=1)
        at = text.find(name)
        return SqlError(
            f"{kind} {name!r} does not exist",
            hint=f"did you mean {near[0]!r}?" if near else None,
            sqlstate="42P01",
            text=text,
            span=Span(at, at + len(name)) if at >= 0 else None,
        )


def _beside(name: str, new: str) -> str:
    """Return the name `new` in the schema of `name`."""
    return RelationName.of(name.schema, new) if isinstance(name, RelationName) else new


def _called(obj: CatalogObject, name: str) -> CatalogObject:
    """Return an object under another name."""
    relation = replace(obj.relation, shown=name) if isinstance(obj.relation, Relation) else obj.relation
    return replace(obj, name=name, relation=relation)


def _reads_sources(catalog: CatalogStore, obj: CatalogObject) -> bool:
    pending = list(obj.reads)
    while pending:
        found = catalog.by_key(pending.pop())
        if found is None:
            continue
        if found.kind == "source":
            return True
        if found.kind == "view":
            pending += found.reads
    return False
