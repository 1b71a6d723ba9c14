"""The cluster as the doors see it: `sabotd.engine.Engine`."""

from __future__ import annotations

from collections.abc import Sequence

from sabot.schema import arrow_schema
from sabotd import system_tables
from sabotd.cluster import Cluster
from sabotd.engine import TableInfo
from sabotd.session import SqlSession
from sql_frontend.cursor import bare_name, schema_of


class ClusterEngine:
    """Opens sessions on a cluster and lists what they may name."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def open_session(self) -> SqlSession:
        """Open a session with default settings; waits until the catalog is back after a start."""
        self._cluster.await_start()
        return SqlSession(self._cluster)

    def tables(self) -> Sequence[TableInfo]:
        """List every relation a client may name."""
        objects = self._cluster.catalog.all()
        named = [(schema_of(o.name), bare_name(o.name), o) for o in objects]
        return [
            *(TableInfo(schema, name, o.kind.upper(), arrow_schema(o.columns)) for schema, name, o in named),
            *system_tables.infos(self._cluster),
        ]
