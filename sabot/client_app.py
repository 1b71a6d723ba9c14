"""An application: submits graphs written by hand as jobs. All of it is SQL over the public wire."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from sabot.client import connect
from sabot.errors import ConfigError
from sabot.schema import literal, quote

if TYPE_CHECKING:
    from typing import Self

    from sabot.client_connection import Connection


class Graph(Protocol):
    """What can be submitted: `planner.JobGraph`."""

    name: str

    def to_json(self) -> str:
        """Return the graph as text."""
        ...


class App:
    """Runs graphs on a server, or on a private one that ends with the application.

    Parameters
    ----------
    name : str
        The name of a job whose graph has none.
    server : str, optional
        ``grpc://HOST:PORT`` or another location that `sabot.connect` takes. Without it a private server starts.
    data : path, optional
        Only without `server`: where the private one keeps its data.
    agents : int, optional
        Only without `server`: its agent processes.
    token, tls_root_certs
        As of `sabot.connect`.

    Raises
    ------
    ClientError
        When the server cannot be reached or does not start.
    """

    def __init__(
        self,
        name: str,
        *,
        server: str | None = None,
        data: str | Path | None = None,
        agents: int | None = None,
        token: str | None = None,
        tls_root_certs: bytes | None = None,
    ) -> None:
        if not name:
            msg = "an application needs a name"
            raise ConfigError(msg)
        self.name = name
        self._connection = connect(server, data=data, agents=agents, token=token, tls_root_certs=tls_root_certs)

    @property
    def connection(self) -> Connection:
        """The connection: for any other SQL."""
        return self._connection

    def submit(self, job: Graph) -> Job:
        """Start a job; it runs when this returns.

        Parameters
        ----------
        job : planner.JobGraph

        Raises
        ------
        SabotError
            The graph cannot run, its name is taken, or a task could not be started; nothing is left of it then.
        """
        name = job.name or self.name
        self._connection.execute(f"CREATE JOB {quote(name)} FROM GRAPH {literal(job.to_json())}").close()
        return Job(self._connection, name)

    def close(self) -> None:
        """End the connection, and with it a private server. On another server jobs go on."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Job:
    """A submitted job, by its name."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self.name = name

    def status(self) -> dict[str, object]:
        """Return the job's row of SHOW JOBS: state, rows_in, rows_out, tasks, message and more."""
        rows: list[dict[str, object]] = self._connection.sql("SHOW JOBS").arrow().to_pylist()
        mine = (f"mv:{self.name}", f"sink:{self.name}")
        return next((row for row in rows if row["job"] in mine), {})

    def wait(self) -> None:
        """Wait until all that the sources hold now is written and shown; that of a finite source is all: FLUSH.

        Raises
        ------
        JobError
            The job, or another one on the server, has failed.
        """
        self._connection.execute("FLUSH").close()

    def explain(self, *, analyze: bool = False) -> str:
        """Return the plan as text; with `analyze`, also the rows and bytes that went over each edge."""
        rows = self._connection.sql(f"EXPLAIN {'ANALYZE ' if analyze else ''}{quote(self.name)}").fetchall()
        return "\n".join(str(row[0]) for row in rows)

    def pause(self) -> None:
        """Have the job's sources read nothing more; all that they have read is visible when this returns."""
        self._connection.execute(f"PAUSE JOB {quote(self.name)}").close()

    def resume(self) -> None:
        """Have a paused job go on."""
        self._connection.execute(f"RESUME JOB {quote(self.name)}").close()

    def drop(self) -> None:
        """End the job and forget it, its view too."""
        self._connection.execute(f"DROP JOB {quote(self.name)}").close()
