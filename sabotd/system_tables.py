"""The tables that tell of the system itself: ``sabot_errors`` and ``sabot_catalog``."""

from __future__ import annotations

import re

import pyarrow as pa

from sabotd import show
from sabotd.cluster import Cluster
from sabotd.engine import TableInfo

_CATALOG = {
    "jobs": show.jobs,
    "agents": show.agents,
    "relations": show.relations,
    "shuffle_edges": show.shuffle_edges,
    "workflows": show.workflows,
    "workflow_steps": show.workflow_steps,
}
_schemas: dict[str, pa.Schema] = {}
_CATALOG_WORD = re.compile(r"\bsabot_catalog\b", re.IGNORECASE)


def refresh(cluster: Cluster, sql: str) -> None:
    """Bring those tables of ``sabot_catalog`` up to date that `sql` may read."""
    if _CATALOG_WORD.search(sql):
        words = {w.lower() for w in re.findall(r"\w+", sql)}
        for name in words & set(_CATALOG):
            cluster.store.put_system_table(name, _CATALOG[name](cluster))


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
