"""The truth of the cluster: objects, jobs and tasks in the control database, beside DBOS's own tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from sabot.errors import ConfigError

metadata = sa.MetaData()

_CONNECT_S = 10
"""A host that does not even refuse (a firewall, a link that is down) is given up after so long."""

objects = sa.Table(
    "sabot_objects",
    metadata,
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=True),  # order of creation
    sa.Column("name", sa.String, nullable=False, unique=True),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("sql", sa.Text, nullable=False),
    sa.Column("settings", sa.Text, nullable=False),  # JSON: the session's settings it was made under
)
jobs = sa.Table(
    "sabot_jobs",
    metadata,
    sa.Column("job_id", sa.String, primary_key=True),
    sa.Column("generation", sa.Integer, nullable=False),  # attempt number; fences off older ones
    sa.Column("desired", sa.String, nullable=False),  # running | paused
    sa.Column("state", sa.String, nullable=False),
    sa.Column("error", sa.Text),
)
tasks = sa.Table(
    "sabot_tasks",
    metadata,
    sa.Column("job_id", sa.String, primary_key=True),
    sa.Column("task_id", sa.String, primary_key=True),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("agent_id", sa.String, nullable=False),
)

counters = sa.Table(
    "sabot_counters",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("value", sa.Integer, nullable=False),
)


SCHEMA = "schema"
"""The kind of a row that is a schema; `schema_row` names it."""
RENAME = "rename"
"""The kind of a row that is a renaming, of the object that `settings` names: later statements know it by that name."""


@dataclass(frozen=True)
class ObjectRow:
    """An object of the catalog as it is kept: the statement that made it, and the settings it was made under.

    Its name is its key, which stays; rows of kind `RENAME` stand between where it was given another.
    """

    name: str
    kind: str
    sql: str
    settings: str


def open_engine(database: str, data_dir: Path) -> tuple[sa.Engine, str]:
    """Open the control database: SQLite in `data_dir` where `database` is empty. Returns the engine and its URL.

    Raises
    ------
    ConfigError
        The database cannot be opened.
    """
    url = database or f"sqlite:///{data_dir / 'control.sqlite'}"
    engine = connect_engine(url)
    try:
        metadata.create_all(engine)
    except sa.exc.OperationalError as error:
        reason = str(error.orig).splitlines()[0]
        msg = f"cannot open the control database {engine.url.render_as_string()!r}: {reason}"
        raise ConfigError(msg) from error
    return engine, url


def connect_engine(url: str) -> sa.Engine:
    """Return an engine for a control database; nothing is asked of it yet.

    Raises
    ------
    ConfigError
        The URL is none, or of a database that is not supported.
    """
    if url.startswith("postgresql://"):
        url = "postgresql+psycopg" + url.removeprefix("postgresql")
    try:
        is_postgres = url.startswith("postgresql")
        limit = {"connect_timeout": _CONNECT_S} if is_postgres else {}
        engine = sa.create_engine(url, pool_pre_ping=True, connect_args=limit)
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError) as error:
        msg = f"{url!r} is no URL of a control database"
        raise ConfigError(msg, hint="write postgresql://USER@HOST/NAME or sqlite:////PATH") from error
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def _prepare(connection: Any, record: Any) -> None:
            connection.isolation_level = "IMMEDIATE"  # DBOS relies on it
            for pragma in ("busy_timeout=30000", "foreign_keys=ON", "journal_mode=WAL", "synchronous=NORMAL"):
                connection.execute(f"pragma {pragma}")

    return engine


class ControlTables:
    """Reads and writes the tables; each method is one transaction."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def add_object(self, row: ObjectRow, job_id: str | None) -> None:
        """Record an object, and its job as one that is to run."""
        with self._engine.begin() as con:
            con.execute(sa.insert(objects).values(name=row.name, kind=row.kind, sql=row.sql, settings=row.settings))
            if job_id is not None:
                con.execute(sa.insert(jobs).values(job_id=job_id, generation=0, desired="running", state="CREATING"))

    def add_schema(self, name: str, sql: str) -> None:
        """Record a schema."""
        with self._engine.begin() as con:
            con.execute(sa.insert(objects).values(name=schema_row(name), kind=SCHEMA, sql=sql, settings=""))

    def add_rename(self, key: str, sql: str) -> None:
        """Record that an object has another name from now on."""
        with self._engine.begin() as con:
            # no name that an object could have
            name = f"\x01rename {_next(con, 'change')}"
            con.execute(sa.insert(objects).values(name=name, kind=RENAME, sql=sql, settings=key))

    def remove_objects(self, names: Sequence[str], job_ids: Sequence[str]) -> None:
        """Forget objects, their names and their jobs."""
        with self._engine.begin() as con:
            con.execute(sa.delete(objects).where(objects.c.kind == RENAME, objects.c.settings.in_(names)))
            con.execute(sa.delete(objects).where(objects.c.name.in_(names)))
            con.execute(sa.delete(jobs).where(jobs.c.job_id.in_(job_ids)))
            con.execute(sa.delete(tasks).where(tasks.c.job_id.in_(job_ids)))

    def desire(self, job_id: str, desired: str) -> None:
        """Say whether a job is to be ``running`` or ``paused``."""
        with self._engine.begin() as con:
            con.execute(sa.update(jobs).where(jobs.c.job_id == job_id).values(desired=desired))

    def paused_jobs(self) -> set[str]:
        """Return the jobs that are to be paused."""
        with self._engine.begin() as con:
            return set(con.execute(sa.select(jobs.c.job_id).where(jobs.c.desired == "paused")).scalars())

    def all_objects(self) -> list[ObjectRow]:
        """Return the objects in the order of their creation."""
        with self._engine.begin() as con:
            rows = con.execute(sa.select(objects).order_by(objects.c.position)).all()
        return [ObjectRow(r.name, r.kind, r.sql, r.settings) for r in rows]

    def next_generation(self, job_id: str) -> int:
        """Return a new attempt number for the job.

        It grows over all jobs, so that a job dropped and made again under its old name is never taken for the old one.
        """
        with self._engine.begin() as con:
            generation = _next(con, "generation")
            con.execute(sa.update(jobs).where(jobs.c.job_id == job_id).values(generation=generation, error=None))
        return generation

    def next_change(self) -> int:
        """Return a number that tells one change of the cluster from another."""
        with self._engine.begin() as con:
            return _next(con, "change")

    def place(self, job_id: str, generation: int, placement: dict[str, str]) -> None:
        """Record where the tasks of one attempt run; an older attempt's rows go."""
        with self._engine.begin() as con:
            con.execute(sa.delete(tasks).where(tasks.c.job_id == job_id, tasks.c.generation <= generation))
            rows = [
                {"job_id": job_id, "task_id": t, "generation": generation, "agent_id": a} for t, a in placement.items()
            ]
            con.execute(sa.insert(tasks), rows)

    def running_attempt(self, job_id: str) -> tuple[int, dict[str, str]] | None:
        """Return a job's attempt and its placement (task to agent) if its tasks were all started, else None."""
        with self._engine.begin() as con:
            row = con.execute(sa.select(jobs.c.generation, jobs.c.state).where(jobs.c.job_id == job_id)).one_or_none()
            if row is None or row.state not in ("RUNNING", "PAUSED"):
                return None
            placed = con.execute(
                sa.select(tasks.c.task_id, tasks.c.agent_id).where(
                    tasks.c.job_id == job_id, tasks.c.generation == row.generation
                )
            ).all()
        return int(row.generation), {r.task_id: r.agent_id for r in placed}

    def finished_attempt(self, job_id: str) -> int | None:
        """Return the attempt in which a job has finished; None if it has not."""
        with self._engine.begin() as con:
            found = con.execute(
                sa.select(jobs.c.generation).where(jobs.c.job_id == job_id, jobs.c.state == "FINISHED")
            ).scalar()
        return None if found is None else int(found)

    def set_state(self, job_id: str, generation: int, state: str, error: str | None = None) -> None:
        """Record a job's state unless a newer attempt has begun."""
        with self._engine.begin() as con:
            con.execute(
                sa.update(jobs)
                .where(jobs.c.job_id == job_id, jobs.c.generation <= generation)
                .values(state=state, error=error)
            )


def schema_row(name: str) -> str:
    """Return the name of a schema's row: one that no relation could have."""
    return f"\x01schema {name}"


def _next(con: sa.Connection, counter: str) -> int:
    mine = counters.c.name == counter
    if con.execute(sa.update(counters).where(mine).values(value=counters.c.value + 1)).rowcount == 0:
        con.execute(sa.insert(counters).values(name=counter, value=1))
    return int(con.execute(sa.select(counters.c.value).where(mine)).scalar_one())
