"""Fixtures of the shuffle: both kernels, and agents (endpoint and manager) in this process that must leave nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cython_shuffle import _fallback, _kernels
from cython_shuffle.shuffle_manager import ShuffleManager
from cython_shuffle.transport import PLAIN, FlightEndpoint, Security

_TLS = Path(__file__).parent / "tls"


@pytest.fixture(params=[_kernels, _fallback], ids=["compiled", "plain"])
def kernels(request: pytest.FixtureRequest) -> Any:
    return request.param


@dataclass
class ShuffleAgent:
    """An agent without tasks."""

    endpoint: FlightEndpoint
    manager: ShuffleManager

    @property
    def location(self) -> str:
        return self.endpoint.location

    def stop(self) -> None:
        self.manager.stop()
        self.endpoint.stop()


@pytest.fixture
def security() -> Security:
    """A token, and a certificate for localhost that only tests trust."""
    certificate = (_TLS / "certificate.pem").read_bytes()
    return Security("s3cret", certificate, (_TLS / "key.pem").read_bytes(), certificate)


@pytest.fixture
def make_agent(tmp_path: Path) -> Iterator[Callable[..., ShuffleAgent]]:
    """Give a function that starts agents; all are stopped at the end and no thread of ours may be left."""
    before = set(threading.enumerate())
    agents: list[ShuffleAgent] = []

    def make(
        name: str,
        *,
        location: str | None = None,
        pool_bytes: int = 16 << 20,
        security: Security = PLAIN,
        compression: str = "none",
        **options: Any,
    ) -> ShuffleAgent:
        location = location or f"grpc+unix://{tmp_path}/{name}.sock"
        endpoint = FlightEndpoint(location, name=name, security=security, compression=compression)
        endpoint.start()
        manager = ShuffleManager(name, endpoint, pool_bytes, **options)
        manager.start()
        agents.append(ShuffleAgent(endpoint, manager))
        return agents[-1]

    yield make
    for agent in agents:
        agent.manager.stop()
    for agent in agents:
        agent.endpoint.stop()
        metrics = agent.manager.pool_metrics()
        assert metrics.used_bytes == 0
    # gRPC's threads that ran our handlers show up as dummies for as long as they live
    left = [t for t in set(threading.enumerate()) - before if not isinstance(t, threading._DummyThread)]
    assert left == []
