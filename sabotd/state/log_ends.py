"""Where the logs of relations end, on disk beside the rows: so a killed daemon finds its readers' places again."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import dataclass
from pathlib import Path

import duckdb

from sabotd.state.relation import LOG_ENDS, StoredRelation


@dataclass(frozen=True)
class LogEnd:
    """What a killed daemon left of a relation: its epoch, and its log's end and folder."""

    epoch: int
    position: int
    folder: Path


class LogEnds:
    """The rows of ``durable.sabot.log_ends`` and the folders of all logs.

    Parameters
    ----------
    db : duckdb.DuckDBPyConnection
        With the durable database attached.
    folder : Path
        Holds a folder a log; those that no row names are removed.
    """

    def __init__(self, db: duckdb.DuckDBPyConnection, folder: Path) -> None:
        self._db = db
        self._folder = folder
        db.execute("CREATE SCHEMA IF NOT EXISTS durable.sabot")
        db.execute(
            f"CREATE TABLE IF NOT EXISTS {LOG_ENDS} (name VARCHAR, epoch BIGINT, position BIGINT, folder VARCHAR)"
        )
        rows = db.execute(f"SELECT name, epoch, position, folder FROM {LOG_ENDS}").fetchall()
        self._left = {name: LogEnd(epoch, position, folder / where) for name, epoch, position, where in rows}
        used = {end.folder.name for end in self._left.values()}
        numbers = [0]
        if folder.is_dir():
            for path in folder.iterdir():
                numbers.append(int(path.suffix[1:] or 0))
                if path.name not in used:
                    shutil.rmtree(path, ignore_errors=True)
        self._numbers = itertools.count(max(numbers) + 1)

    def new_folder(self, name: str) -> Path:
        """Return a folder for a log of relation `name`; the number keeps it apart from older ones of that name."""
        return self._folder / f"{name.encode().hex()}.{next(self._numbers)}"

    def left(self, name: str) -> LogEnd | None:
        """Return what a killed daemon left of `name`, if it kept that relation's places."""
        return self._left.get(name)

    def keep(self, relation: StoredRelation) -> None:
        """Write down where a relation's log ends, now and with every change from now on. Under the relation's lock."""
        con = relation.connection
        con.execute("BEGIN")
        con.execute(f"DELETE FROM {LOG_ENDS} WHERE name = ?", [relation.name])
        con.execute(
            f"INSERT INTO {LOG_ENDS} VALUES (?, ?, ?, ?)",
            [relation.name, relation.epoch, relation.log.prepared_end, relation.log.folder.name],
        )
        con.execute("COMMIT")
        relation.keeps_place = True

    def forget(self, relation: StoredRelation) -> None:
        """Keep a relation's places no longer. Under its lock."""
        relation.keeps_place = False
        self._left.pop(relation.name, None)
        relation.connection.execute(f"DELETE FROM {LOG_ENDS} WHERE name = ?", [relation.name])
