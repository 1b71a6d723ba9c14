"""Runs a case in this process: each view bound, planned and shuffled as in a job, over the real operators."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa

from planner.logical import Relation, RelationKind, Watermark
from planner.plan import PlannedJob, plan_view
from planner.task_spec import SourceOp
from sabot.errors import SabotError, SqlError
from sabot.ids import WEIGHT, JobId
from sabot.schema import arrow_schema
from sabotd.state.duckdb_state import TaskDatabase
from sabotd.state.relation import conform
from sql_frontend.binder import bind_query
from tests.oracle.fuzz.closing import Closing
from tests.oracle.fuzz.history import Case, Change, DropView, Flush, Insert, MakeView, Tick
from tests.oracle.fuzz.mirror import Mirror, TooManyRowsError, columns_of
from tests.oracle.fuzz.splits import Splits
from tests.oracle.fuzz.tables import Table
from tests.oracle.harness import Bag
from tests.oracle.test_queries import OneDatabase, ShufflingRunner
from tests.support import job_runner

_NAMES = re.compile(r"'[^']*'|\b[a-z]+\d+\b|\d+")


@dataclass
class Failure:
    """What went wrong: `kind` tells failures of one cause from others, roughly."""

    kind: str
    view: str
    sql: str
    problem: str
    wanted: Bag | None = None
    got: Bag | None = None


@dataclass
class Outcome:
    """What became of the views of one case."""

    failure: Failure | None = None
    compared: int = 0
    views: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """Views that Sabot does not take (0A000), by reason."""
    no_queries: Counter[str] = field(default_factory=Counter)
    """Queries that DuckDB does not take either: the generator's own mistakes, and rows without number."""


class _Catalog:
    def __init__(self) -> None:
        self.relations: dict[str, Relation] = {}

    def lookup(self, name: str) -> Relation | None:
        return self.relations.get(name)

    def names(self) -> list[str]:
        return sorted(self.relations)


class _Runner(ShufflingRunner):
    """Keeps what it emits, for the views that read this one."""

    def __init__(self, planned: PlannedJob, seed: int) -> None:
        super().__init__(planned.spec, seed)
        self.fresh: list[pa.RecordBatch] = []

    def _take(self, batch: pa.RecordBatch) -> None:
        super()._take(batch)
        self.fresh.append(batch)


class _View:
    def __init__(self, planned: PlannedJob, seed: int) -> None:
        self.runner = _Runner(planned, seed)
        self.relation = planned.output
        self.reads = {
            n.op.relation for t in planned.spec.tasks for n in t.nodes if getattr(n.op, "relation", None) is not None
        }
        # VALUES, and a SELECT without FROM
        self.constants = {
            n.op.relation: n.op
            for t in planned.spec.tasks
            for n in t.nodes
            if isinstance(n.op, SourceOp) and dict(n.op.options)
        }.values()
        self.emitted: list[pa.RecordBatch] = []
        self.splits: Splits | None = None
        """Where it reads relations with a watermark."""
        self.late: Bag = Counter()

    def barrier(self) -> None:
        """End an epoch."""
        if self.splits is None:
            self.runner.barrier()
        else:
            self.splits.tick()

    def close(self) -> None:
        """Close what is open."""
        self.runner.close()
        if self.splits is not None:
            self.splits.close()

    def take_fresh(self) -> list[pa.RecordBatch]:
        fresh, self.runner.fresh = self.runner.fresh, []
        self.emitted += fresh
        return fresh

    def snapshot(self) -> pa.RecordBatch:
        """Return the rows of this moment as the store gives them to a new reader: each as often as it is there."""
        schema = arrow_schema(self.relation.schema)
        if not self.relation.append_only:
            schema = schema.append(pa.field(WEIGHT, pa.int32()))
        if not self.emitted:
            return pa.RecordBatch.from_pylist([], schema=schema)
        rows = pa.Table.from_batches(self.emitted)
        if WEIGHT in rows.schema.names:
            with duckdb.connect() as con:
                con.register("rows", rows)
                rows = con.sql(
                    f"SELECT * EXCLUDE ({WEIGHT}), sum({WEIGHT})::INTEGER AS {WEIGHT} FROM rows "
                    f"GROUP BY ALL HAVING sum({WEIGHT}) <> 0"
                ).to_arrow_table()
        batches = rows.combine_chunks().to_batches()
        return conform(batches[0], schema) if batches else pa.RecordBatch.from_pylist([], schema=schema)


def alike(message: str) -> str:
    """Return a message without names and numbers: what failures of one cause have in common."""
    return _NAMES.sub("?", message)[:80]


def run(case: Case) -> Outcome:
    """Run a case; every view is compared with DuckDB's answer at each FLUSH, until one differs."""
    mirror = Mirror(case.tables, by_split=True)
    try:
        with _one_database() as database:
            return _Run(case, mirror, database).run()
    finally:
        mirror.close()


class _Run:
    def __init__(self, case: Case, mirror: Mirror, database: TaskDatabase) -> None:
        self._case, self._mirror, self._database = case, mirror, database
        self._catalog = _Catalog()
        self._views: dict[str, _View] = {}
        self._queries: dict[str, MakeView] = {}
        self._outcome = Outcome()
        self._gone: set[str] = set()
        for table in case.tables:
            self._catalog.relations[table.name] = _relation(table)

    def run(self) -> Outcome:
        try:
            for statement in self._case.statements:
                match statement:
                    case Insert() | Change():
                        self._feed(statement.table.name, self._mirror.change(statement))
                    case MakeView():
                        self._make(statement)
                    case DropView(name=name):
                        self._drop(name)
                    case Tick():
                        self._mirror.tick()
                        for name in list(self._views):
                            self._flush_view(name)
                    case Flush():
                        self._mirror.tick()
                        self._flush()
                if self._outcome.failure is not None:
                    break
        finally:
            for view in self._views.values():
                view.close()
        return self._outcome

    def _fail(self, made: MakeView, problem: str, wanted: Bag | None = None, got: Bag | None = None) -> None:
        kind = alike(problem)
        self._outcome.failure = Failure(kind, made.name, made.query.sql, problem, wanted, got)

    def _make(self, made: MakeView) -> None:
        if set(re.findall(r"\bv\d+\b", made.query.sql)) & self._gone:
            self._gone.add(made.name)
            return
        self._outcome.views += 1
        try:
            self._mirror.make_view(made)
            self._mirror.answer(made.name)
        except duckdb.Error as error:
            self._outcome.no_queries[alike(str(error).splitlines()[0])] += 1
            self._gone.add(made.name)
            return
        except TooManyRowsError:
            self._outcome.no_queries["too many rows"] += 1
            self._gone.add(made.name)
            return
        try:
            emit = isinstance(made.query, Closing) and made.query.emit
            query = bind_query(made.query.sql, self._catalog, emit_on_window_close=emit)
            planned = plan_view(
                query, job_id=JobId(f"mv:{made.name}"), relation=made.name, parallelism=made.parallelism
            )
            view = _View(planned, self._case.seed)
            self._split(made, view, planned)
        except SqlError as error:
            if error.sqlstate == "0A000":
                self._outcome.refused[alike(error.message)] += 1
                self._gone.add(made.name)
            else:
                self._fail(made, f"error: {error.message}")
            return
        except (SabotError, AssertionError) as error:
            self._fail(made, f"error: {type(error).__name__}: {error}")
            return
        # what the views that it reads have still to say belongs into their snapshots
        for name in list(self._views):
            if name in view.reads:
                self._mirror.tick(name)
                self._flush_view(name)
        snapshots = [(name, other.snapshot()) for name, other in self._views.items() if name in view.reads]
        snapshots += [(t.name, self._mirror.rows(t)) for t in self._case.tables if t.name in view.reads]
        for op in view.constants:
            schema = arrow_schema(op.declared)
            numbers = pa.array(range(int(dict(op.options)["rows"])), schema.field(0).type)
            snapshots.append((op.relation, pa.RecordBatch.from_arrays([numbers], schema=schema)))
        self._views[made.name] = view
        self._queries[made.name] = made
        self._catalog.relations[made.name] = planned.output
        for name, rows in snapshots:
            self._feed_one(made, name, rows, snapshot=True)

    def _split(self, made: MakeView, view: _View, planned: PlannedJob) -> None:
        if isinstance(made.query, Closing):
            splits = {t.name: t.splits for t in self._case.tables if t.name in made.query.streams}
            view.splits = Splits(planned.spec, view.runner, splits, self._database)

    def _drop(self, name: str) -> None:
        view = self._views.pop(name, None)
        if view is not None:
            view.close()
            self._mirror.drop_view(name)
            del self._queries[name]
            del self._catalog.relations[name]

    def _feed(self, relation: str, batch: pa.RecordBatch) -> None:
        for name, view in self._views.items():
            if relation in view.reads and batch.num_rows:
                self._feed_one(self._queries[name], relation, batch)

    def _feed_one(self, made: MakeView, relation: str, batch: pa.RecordBatch, *, snapshot: bool = False) -> None:
        if self._outcome.failure is not None:
            return
        view = self._views[made.name]
        try:
            if view.splits is not None and relation in view.splits.splits:
                view.splits.feed_all(relation, batch, snapshot=snapshot)
            else:
                view.runner.feed(relation, batch)
        except (SabotError, AssertionError, duckdb.Error) as error:
            self._fail(made, f"error: {type(error).__name__}: {error}")

    def _flush_view(self, name: str) -> None:
        """End the epoch of a view, and give what it emits to those that read it."""
        if self._outcome.failure is not None:
            return
        view = self._views[name]
        try:
            view.barrier()
        except (SabotError, AssertionError, duckdb.Error) as error:
            self._fail(self._queries[name], f"error: {type(error).__name__}: {error}")
            return
        for batch in view.take_fresh():
            self._feed(name, batch)

    def _flush(self) -> None:
        for name in list(self._views):
            self._flush_view(name)
            if self._outcome.failure is None:
                self._compare(name)

    def _compare(self, name: str) -> None:
        made = self._queries[name]
        try:
            wanted = self._mirror.answer(name)
        except TooManyRowsError:
            return
        except duckdb.Error as error:
            self._outcome.no_queries[alike(str(error).splitlines()[0])] += 1
            return
        got = self._views[name].runner.result
        self._outcome.compared += 1
        kind = "wrong rows"
        if got == wanted and isinstance(made.query, Closing) and made.query.late:
            kind = "wrong late rows"
            wanted, got = self._mirror.late(name), self._late(name, made.query.late_time)
        if got != wanted:
            missing, extra = wanted - got, got - wanted
            problem = f"{kind}: missing {dict(missing.most_common(5))}, too many {dict(extra.most_common(5))}"
            self._fail(made, problem, wanted, got)
            assert self._outcome.failure is not None
            self._outcome.failure.kind = kind

    def _late(self, name: str, time: str) -> Bag:
        view = self._views[name]
        assert view.splits is not None
        for rows in view.splits.late():
            view.late.update(zip(rows[time].to_pylist(), rows["watermark"].to_pylist(), strict=True))
        return view.late


def _relation(table: Table) -> Relation:
    columns, watermark = columns_of(table), None
    if table.delay_s is not None:
        watermark = Watermark("ts", f"\"ts\" - INTERVAL '{table.delay_s} seconds'")
    if table.splits:
        kind = RelationKind.SOURCE
        return Relation(table.name, kind, columns, append_only=True, watermark=watermark, connector="datagen")
    return Relation(table.name, RelationKind.TABLE, columns, table.append_only, table.key, watermark=watermark)


@contextmanager
def _one_database() -> Iterator[TaskDatabase]:
    """All tasks share a database: opening one for each would be most of the time."""
    database = TaskDatabase(None, 512, "fuzz")
    before = job_runner.TaskDatabase
    job_runner.TaskDatabase = lambda *_: OneDatabase(database)  # type: ignore[assignment,misc]
    try:
        yield database
    finally:
        job_runner.TaskDatabase = before  # type: ignore[misc]
        database.close()
