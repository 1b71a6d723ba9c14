"""Where a client starts: `connect`. Light to import; what it needs is loaded while a private server starts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sabot.embedded import Embedded
from sabot.errors import ConfigError

if TYPE_CHECKING:
    from sabot.client_connection import Connection, RelationInfo
    from sabot.client_result import Result
    from sabot.client_subscription import Subscription
    from sabot.dbapi import Cursor

__all__ = ["Connection", "Cursor", "RelationInfo", "Result", "Subscription", "connect"]


def connect(
    url: str | None = None,
    *,
    data: str | Path | None = None,
    agents: int | None = None,
    token: str | None = None,
    tls_root_certs: bytes | None = None,
    timeout_s: float = 10.0,
) -> Connection:
    """Connect to a server, or start a private one.

    Parameters
    ----------
    url : str, optional
        ``grpc://HOST:PORT``, ``grpc+tls://HOST:PORT`` or ``grpc+unix:///PATH``. Without it a sabotd of our own
        starts, and ends with the connection or with this process.
    data : path, optional
        Only without `url`: the folder where the private server keeps its data; made if missing. By default a
        temporary one, removed at the end.
    agents : int, optional
        Only without `url`: how many agent processes to start.
    token : str, optional
        The server's bearer token.
    tls_root_certs : bytes, optional
        PEM of the authorities to trust.
    timeout_s : float
        How long the server may take for its first answer; a private one may take 30 s to start besides.

    Raises
    ------
    ClientError
        When the server cannot be reached or does not start.
    ConfigError
        When the arguments do not go together.
    """
    if url is not None:
        if data is not None or agents is not None:
            msg = "'data' and 'agents' are for a private server, and 'url' names another"
            raise ConfigError(msg, hint="give one of them")
        from sabot.client_connection import Connection

        return Connection(url, token=token, tls_root_certs=tls_root_certs, timeout_s=timeout_s)
    server = Embedded(data=data, agents=agents)
    try:
        # loaded while the server starts
        from sabot.client_connection import Connection

        return Connection(server.wait_ready(), timeout_s=timeout_s, server=server)
    except BaseException:
        server.close()
        raise
