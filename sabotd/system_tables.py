"""The tables that tell of the system itself: ``sabot_errors`` and ``sabot_catalog``."""

from __future__ import annotations

import difflib
import re

import pyarrow as pa

from sabot.errors import SqlError
from sabotd import show
from sabotd.cluster import Cluster
from sabotd.engine import TableInfo
from sql_frontend.select_text import LATE_OF

_CATALOG = {
    "jobs": show.jobs,
    "agents": show.agents,
    "relations": show.relations,
    "shuffle_edges": show.shuffle_edges,
    "workflows": show.workflows,
    "workflow_steps": show.workflow_steps,
}
_schemas: dict[str, pa.Schema] = {}
_LATE = re.compile(rf'"{LATE_OF}((?:[^"]|"")+)"')
_CATALOG_WORD = re.compile(r"\bsabot_catalog\b", re.IGNORECASE)


def refresh(cluster: Cluster, sql: str) -> None:
    """Bring those tables of ``sabot_catalog`` up to date that `sql` may read.

    Raises
    ------
    SqlError
        ``sabot_late`` of what is neither a materialized view nor a sink.
    """
    if _CATALOG_WORD.search(sql):
        for name in set(_LATE.findall(sql)):
            _refresh_late(cluster, name.replace('""', '"'), sql)
        words = {w.lower() for w in re.findall(r"\w+", sql)}
        for name in words & set(_CATALOG):
            cluster.store.put_system_table(name, _CATALOG[name](cluster))


def _refresh_late(cluster: Cluster, name: str, sql: str) -> None:
    found = cluster.catalog.get(name)
    if found is None or found.planned is None:
        jobs = [o.name for o in cluster.catalog.all() if o.planned is not None]
        near = difflib.get_close_matches(name, jobs, n=1)
        msg = f"{name!r} is no materialized view or sink"
        hint = f"did you mean {near[0]!r}?" if near else "sabot_late('view') has the rows that came too late for it"
        raise SqlError(msg, hint=hint, sqlstate="42P01", text=sql)
    cluster.store.put_system_table(f"{LATE_OF}{name}", cluster.coordinator.late.table(found.planned.spec))


def describe(cluster: Cluster, name: str) -> pa.Table | None:
    """List the columns of a system table; None if `name` is none."""
    schema, _, table = name.rpartition(".")
    if name != "sabot_errors" and (schema != "sabot_catalog" or table not in _CATALOG):
        return None
    refresh(cluster, name)
    with cluster.store.reader() as con:
        found = con.execute(f"DESCRIBE {name}").fetchall()
    return pa.table({"column": [r[0] for r in found], "type": [r[1] for r in found]})


def infos(cluster: Cluster) -> list[TableInfo]:
    """List them as metadata calls do."""
    with cluster.store.reader() as con:
        errors = con.sql("SELECT * FROM sabot_errors LIMIT 0").to_arrow_table().schema
    for name, make in _CATALOG.items():
        if name not in _schemas:
            _schemas[name] = make(cluster).schema
    system = [TableInfo("sabot_catalog", name, "SYSTEM TABLE", schema) for name, schema in _schemas.items()]
    return [TableInfo("main", "sabot_errors", "SYSTEM TABLE", errors), *system]
