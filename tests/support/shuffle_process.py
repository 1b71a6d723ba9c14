"""A second process with an agent, for shuffle tests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from cython_shuffle.shuffle_manager import ShuffleEdgeInfo
from cython_shuffle.transport import ClientPool
from tests.support.fix_shuffle import ShuffleAgent
from tests.support.shuffle_io import edge

JOB = "mv:j"
ROOT = Path(__file__).parents[2]


class PeerProcess:
    def __init__(self, location: str, pool_bytes: int, clients: ClientPool) -> None:
        self.location = location
        self._clients = clients
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.shuffle_peer", location, str(pool_bytes)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def do(self, action: str, **arguments: Any) -> Any:
        return json.loads(self._clients.call_action(self.location, action, json.dumps(arguments).encode(), 60.0))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        status = self.process.wait(30)
        self.process.stdout.close()
        return status


def connect(
    here: ShuffleAgent, peer: PeerProcess, name: str, kind: str, n_up: int, n_down: int, *, up_here: bool
) -> ShuffleEdgeInfo:
    """Register an edge between this process and the other at both."""

    info = edge(name, kind, n_up, n_down)
    up, down = (here.location, peer.location) if up_here else (peer.location, here.location)
    where = dict.fromkeys(info.upstream, up) | dict.fromkeys(info.downstream, down)
    here.manager.register_shuffle(JOB, 1, info, where)
    peer.do("register", name=name, kind=kind, n_up=n_up, n_down=n_down, locations=where)
    return info
