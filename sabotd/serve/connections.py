"""The connections of a listening address in this process, closed from outside of gRPC.

gRPC's server waits at its end for calls that write to clients who do not read, and pyarrow gives it no time limit.
"""

from __future__ import annotations

import os
import socket
import stat
from contextlib import suppress
from pathlib import Path


def close_connections(address: int | str) -> int:
    """Shut down every accepted connection of a TCP port or a Unix socket's path; return how many there were."""
    count = 0
    for name in os.listdir("/dev/fd"):  # noqa: PTH208  numbers, not paths
        with suppress(OSError):  # the descriptor was closed meanwhile
            fd = os.dup(int(name))
            if not stat.S_ISSOCK(os.fstat(fd).st_mode):
                os.close(fd)
                continue
            with socket.socket(fileno=fd) as found:
                if _is_accepted(found, address):
                    found.shutdown(socket.SHUT_RDWR)
                    count += 1
    return count


def _is_accepted(found: socket.socket, address: int | str) -> bool:
    if found.type != socket.SOCK_STREAM or found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return False
    name = found.getsockname()
    if found.family == socket.AF_UNIX:
        return isinstance(address, str) and name == str(Path(address))
    return isinstance(address, int) and found.family in {socket.AF_INET, socket.AF_INET6} and name[1] == address
