"""The tables that tell of the system itself: ``sabot_errors`` and ``sabot_catalog``."""

from __future__ import annotations

import re

from sabotd import show
from sabotd.cluster import Cluster
from sabotd.engine import TableInfo

_CATALOG = {
    "jobs": show.jobs,
    "agents": show.agents,
    "relations": show.relations,
    "shuffle_edges": show.shuffle_edges,
}
_CATALOG_WORD = re.compile(r"\bsabot_catalog\b", re.IGNORECASE)


def refresh(cluster: Cluster, sql: str) -> None:
    """Bring ``sabot_catalog`` up to date if `sql` may read it."""
    if _CATALOG_WORD.search(sql):
        for name, make in _CATALOG.items():
            cluster.store.put_system_table(name, make(cluster))


def infos(cluster: Cluster) -> list[TableInfo]:
    """List them as metadata calls do."""
    with cluster.store.reader() as con:
        errors = con.sql("SELECT * FROM sabot_errors LIMIT 0").to_arrow_table().schema
    found = [TableInfo("main", "sabot_errors", "SYSTEM TABLE", errors)]
    return found + [TableInfo("sabot_catalog", n, "SYSTEM TABLE", make(cluster).schema) for n, make in _CATALOG.items()]
