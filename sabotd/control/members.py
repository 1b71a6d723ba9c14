"""The table of agents that joined by themselves: their rows, heartbeats and what they find of the cluster.

Times are the database's, so that hosts' clocks do not matter. A row's states: UP, DRAINING, LOST (declared dead), LEFT.
An agent whose beat finds its row neither UP nor DRAINING has been declared dead and must end: its tasks run elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from sabot.errors import ConfigError
from sabotd.control.tables import metadata

members = sa.Table(
    "sabot_agents",
    metadata,
    sa.Column("incarnation", sa.String, primary_key=True),  # one start of one agent
    sa.Column("agent_id", sa.String, nullable=False),
    sa.Column("location", sa.String, nullable=False),
    sa.Column("host", sa.String, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("slots", sa.Integer, nullable=False),
    sa.Column("memory_mb", sa.Integer, nullable=False),
    sa.Column("version", sa.String, nullable=False),
    sa.Column("labels", sa.Text, nullable=False),  # JSON
    sa.Column("state", sa.String, nullable=False),
    sa.Column("beat", sa.Float, nullable=False),  # seconds since 1970
)
cluster = sa.Table(
    "sabot_cluster",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("version", sa.String, nullable=False),
    sa.Column("coordinator", sa.String, nullable=False),  # location that takes reports
)
refusals = sa.Table(
    "sabot_refusals",
    metadata,
    sa.Column("agent_id", sa.String, primary_key=True),
    sa.Column("location", sa.String, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
)


@dataclass(frozen=True)
class Member:
    """An agent's row; `silent_s` is the time since its last beat."""

    incarnation: str
    agent_id: str
    location: str
    host: str
    pid: int
    slots: int
    memory_mb: int
    version: str
    labels: Mapping[str, str]
    state: str
    silent_s: float = 0.0


class MemberTable:
    """Reads and writes the rows; each method is one transaction and lets ``sqlalchemy.exc.DBAPIError`` out."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        sqlite = engine.dialect.name == "sqlite"
        self._now = sa.text(
            "(julianday('now') - 2440587.5) * 86400.0" if sqlite else "extract(epoch from clock_timestamp())"
        )

    # -- the daemon's side

    def announce(self, version: str, coordinator: str) -> None:
        """Say which version the cluster runs and where reports go."""
        with self._engine.begin() as con:
            con.execute(sa.delete(cluster))
            con.execute(sa.insert(cluster).values(id=1, version=version, coordinator=coordinator))

    def present(self) -> list[Member]:
        """Return the rows that are UP or DRAINING, with how long each has been silent."""
        columns = [c for c in members.c if c.name != "beat"]
        silent = (sa.cast(self._now, sa.Float) - members.c.beat).label("silent_s")
        query = sa.select(*columns, silent).where(members.c.state.in_(("UP", "DRAINING"))).order_by(members.c.agent_id)
        with self._engine.begin() as con:
            rows = con.execute(query).mappings().all()
        return [Member(**{**row, "labels": json.loads(row["labels"])}) for row in rows]

    def move(self, incarnation: str, before: tuple[str, ...], state: str) -> bool:
        """Change a row's state if it is one of `before`; return whether it was."""
        with self._engine.begin() as con:
            done = con.execute(
                sa.update(members)
                .where(members.c.incarnation == incarnation, members.c.state.in_(before))
                .values(state=state)
            )
        return done.rowcount == 1

    def take_refusals(self) -> list[tuple[str, str, str]]:
        """Return name, location and reason of agents that could not join, once."""
        columns = (refusals.c.agent_id, refusals.c.location, refusals.c.reason)
        with self._engine.begin() as con:
            found = [(str(a), str(where), str(why)) for a, where, why in con.execute(sa.select(*columns))]
            if found:
                con.execute(sa.delete(refusals))
        return found

    def forget_older(self, seconds: float) -> None:
        """Delete rows of agents that are gone for so long."""
        with self._engine.begin() as con:
            con.execute(
                sa.delete(members).where(
                    members.c.state.in_(("LOST", "LEFT")), members.c.beat < sa.cast(self._now, sa.Float) - seconds
                )
            )

    # -- an agent's side

    def cluster_version(self) -> tuple[str, str]:
        """Return the cluster's version and where reports go.

        Raises
        ------
        ConfigError
            No sabotd has used this database yet.
        """
        with self._engine.begin() as con:
            row = con.execute(sa.select(cluster.c.version, cluster.c.coordinator)).one_or_none()
        if row is None:
            msg = "no sabotd has announced itself in this database"
            raise ConfigError(msg, hint="start sabotd with the same control.database first")
        return str(row[0]), str(row[1])

    def join(self, member: Member) -> None:
        """Insert the agent's row; an older incarnation of the same name is declared lost.

        Raises
        ------
        ConfigError
            An agent of that name is there and alive.
        """
        alive = sa.cast(self._now, sa.Float) - members.c.beat < 5.0
        same = sa.and_(members.c.agent_id == member.agent_id, members.c.state.in_(("UP", "DRAINING")))
        with self._engine.begin() as con:
            if con.execute(sa.select(members.c.host).where(same, alive)).first() is not None:
                msg = f"an agent called {member.agent_id!r} is there already"
                raise ConfigError(msg, hint="give this one another name with --id")
            con.execute(sa.update(members).where(same).values(state="LOST"))
            con.execute(
                sa.insert(members).values(
                    incarnation=member.incarnation,
                    agent_id=member.agent_id,
                    location=member.location,
                    host=member.host,
                    pid=member.pid,
                    slots=member.slots,
                    memory_mb=member.memory_mb,
                    version=member.version,
                    labels=json.dumps(dict(member.labels)),
                    state="UP",
                    beat=sa.cast(self._now, sa.Float),
                )
            )

    def tell_refusal(self, agent_id: str, location: str, reason: str) -> None:
        """Leave word for sabotd, which it logs, that this agent cannot join."""
        with self._engine.begin() as con:
            con.execute(sa.delete(refusals).where(refusals.c.agent_id == agent_id))
            con.execute(sa.insert(refusals).values(agent_id=agent_id, location=location, reason=reason))

    def state(self, incarnation: str) -> str:
        """Return a row's state."""
        with self._engine.begin() as con:
            found = con.execute(sa.select(members.c.state).where(members.c.incarnation == incarnation)).scalar()
        return str(found)

    def beat(self, incarnation: str) -> bool:
        """Say that the agent lives; False when it was declared dead or let go."""
        with self._engine.begin() as con:
            done = con.execute(
                sa.update(members)
                .where(members.c.incarnation == incarnation, members.c.state.in_(("UP", "DRAINING")))
                .values(beat=sa.cast(self._now, sa.Float))
            )
        return done.rowcount == 1
