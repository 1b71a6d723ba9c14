"""Hosts on one machine: network namespaces on one bridge, each with its own address; made and removed by the run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Self

_SUBNET = "10.77.0"


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


class Network:
    """Namespaces ``<prefix>-<name>`` joined by a bridge in one of their own; the machine's own stay untouched."""

    def __init__(self, names: Sequence[str]) -> None:
        if os.geteuid() != 0 or shutil.which("ip") is None:
            msg = "network namespaces need root and iproute2: run as root, apt-get install iproute2"
            raise SystemExit(msg)
        self._prefix = f"sabot{os.getpid()}"
        self._switch = f"{self._prefix}-switch"
        self.addresses = {name: f"{_SUBNET}.{i + 1}" for i, name in enumerate(names)}

    def __enter__(self) -> Self:
        try:
            _run("ip", "netns", "add", self._switch)
            _run("ip", "-n", self._switch, "link", "add", "br0", "type", "bridge")
            _run("ip", "-n", self._switch, "link", "set", "br0", "up")
            for i, (name, address) in enumerate(self.addresses.items()):
                namespace, port = self.namespace(name), f"p{i}"
                _run("ip", "netns", "add", namespace)
                _run("ip", "-n", self._switch, "link", "add", port, "type", "veth", "peer", "eth0", "netns", namespace)
                _run("ip", "-n", self._switch, "link", "set", port, "master", "br0", "up")
                _run("ip", "-n", namespace, "addr", "add", f"{address}/24", "dev", "eth0")
                _run("ip", "-n", namespace, "link", "set", "eth0", "up")
                _run("ip", "-n", namespace, "link", "set", "lo", "up")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove all namespaces, and with them their links."""
        for namespace in [*(self.namespace(n) for n in self.addresses), self._switch]:
            subprocess.run(["ip", "netns", "delete", namespace], check=False, capture_output=True)

    def namespace(self, name: str) -> str:
        """Return a host's namespace."""
        return f"{self._prefix}-{name}"

    def link(self, name: str, *, up: bool) -> None:
        """Plug a host in or out."""
        _run("ip", "-n", self.namespace(name), "link", "set", "eth0", "up" if up else "down")


class Process:
    """A command on a host, its output in a file; started again with the same words."""

    def __init__(
        self, network: Network, host: str, command: Sequence[str], log: Path, prefix: Sequence[str] = ()
    ) -> None:
        self._command = ["ip", "netns", "exec", network.namespace(host), *prefix, *command]
        self._log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def send(self, sig: signal.Signals) -> None:
        """Send a signal if it lives."""
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, sig)

    def ended(self) -> bool:
        """Whether it is not running."""
        return self.process is None or self.process.poll() is not None

    def end(self, sig: signal.Signals = signal.SIGTERM, timeout_s: float = 20.0) -> int:
        """Send a signal and wait; SIGKILL when that does not help."""
        if self.process is None:
            return 0
        self.send(sig)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
