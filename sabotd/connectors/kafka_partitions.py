"""Which partitions of a topic a task owns and from where to where it reads them: asked without ever waiting."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import IsolationLevel, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from sabot.errors import ConnectorError
from sabotd.connectors.kafka_client import ClusterHealth, setting_error

_REQUEST_TIMEOUT_S: Final = 5.0
_AGAIN_S: Final = 1.0
"""How soon a failed request is made again."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a partition: its beginning, its end, or the first record at or after `millis` since 1970."""

    name: str
    millis: int = 0

    def spec(self) -> OffsetSpec:
        """Return it as an admin request has it."""
        spec: OffsetSpec
        match self.name:
            case "earliest":
                spec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
            case "latest":
                spec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
            case _:
                spec = OffsetSpec.for_timestamp(self.millis)
        return spec


EARLIEST: Final = Place("earliest")
LATEST: Final = Place("latest")


@dataclass(frozen=True, slots=True)
class PartitionRange:
    """A partition, its first offset to read, and where reading ends (None: never)."""

    partition: int
    start: int
    end: int | None


def make_admin(config: Mapping[str, str | int], health: ClusterHealth) -> AdminClient:
    """Make an admin client; nothing is connected yet.

    Raises
    ------
    SqlError
        A setting is wrong.
    """
    try:
        return AdminClient({**config, "log_level": 0}, error_cb=health.on_error)
    except (KafkaException, ValueError, TypeError) as problem:
        raise setting_error(problem) from problem


class PartitionFinder:
    """Finds the partitions of task `index` (partition % parallelism == index) and resolves their offsets.

    Parameters
    ----------
    startup : Place
        Where the first reading starts; partitions found later are new and start at their beginning.
    bounded : bool
        Whether to fix the ends when a partition is found, and to look for no more after that.
    interval_s : float
        Time between two looks for new partitions.
    """

    def __init__(
        self,
        config: Mapping[str, str | int],
        health: ClusterHealth,
        *,
        index: int,
        parallelism: int,
        startup: Place,
        bounded: bool,
        interval_s: float,
    ) -> None:
        self._admin = make_admin(config, health)
        self._health = health
        self._index = index
        self._parallelism = parallelism
        self._startup = startup
        self._bounded = bounded
        self._interval_s = interval_s
        self._next_s = 0.0
        self._describing: Future[Any] | None = None
        self._starts: dict[int, Future[Any]] = {}
        self._ends: dict[int, Future[Any]] = {}
        self._known: set[int] = set()
        self.complete = False
        """Whether all partitions were found once and their offsets resolved."""

    def poll(self) -> list[PartitionRange]:
        """Go on as far as answers are there; return the partitions that became ready."""
        if self._describing is None and not self._starts:
            if time.monotonic() >= self._next_s and not (self._bounded and self.complete):
                self._describing = self._describe()
            return []
        if self._describing is not None and self._describing.done():
            request, self._describing = self._describing, None
            self._next_s = time.monotonic() + _AGAIN_S
            if (problem := request.exception()) is not None:
                self._health.on_exception(problem)
                return []
            self._resolve([p for p in self._own(request.result()) if p not in self._known])
        if self._describing is None and all(f.done() for f in (*self._starts.values(), *self._ends.values())):
            return self._ready()
        return []

    def wait(self, timeout_s: float) -> bool:
        """Wait for an answer, at most `timeout_s`; return whether `poll` has something to go on with."""
        open_requests = [f for f in (self._describing, *self._starts.values(), *self._ends.values()) if f is not None]
        if not open_requests:
            # between two tries
            time.sleep(timeout_s)
            return False
        done = not wait(open_requests, timeout_s).not_done
        self._admin.poll(0)
        return done

    def hurry(self, within_s: float = _AGAIN_S) -> None:
        """Ask again soon: something is wrong, or a partition is new."""
        self._next_s = min(self._next_s, time.monotonic() + within_s)

    def close(self) -> None:
        """Free the connections and threads."""
        self._admin.__exit__(None, None, None)

    def ends_now(self) -> dict[int, int]:
        """Return where each of the task's partitions ends at this moment (last stable offset); waits for the broker.

        Raises
        ------
        ConnectorError
            The broker does not answer.
        """
        try:
            # a cluster that is known to be away gets a short chance
            timeout_s = 1.0 if self._health.state else _REQUEST_TIMEOUT_S
            own = self._own(self._describe(timeout_s).result())
            ends = self._offsets(own, LATEST, timeout_s)
            return {partition: future.result().offset for partition, future in ends.items()}
        except KafkaException as problem:
            self._health.on_exception(problem)
            self._health.check()
            msg = f"cannot tell where topic {self._health.topic!r} ends: {problem.args[0].str()}"
            raise ConnectorError(msg, retryable=True, hint="try again when the broker answers") from problem

    def _describe(self, timeout_s: float = _REQUEST_TIMEOUT_S) -> Future[Any]:
        topic = self._health.topic
        asked = self._admin.describe_topics(TopicCollection([topic]), request_timeout=timeout_s)
        return asked[topic]

    def _own(self, description: Any) -> list[int]:
        return sorted(p.id for p in description.partitions if p.id % self._parallelism == self._index)

    def _offsets(
        self, partitions: list[int], place: Place, timeout_s: float = _REQUEST_TIMEOUT_S
    ) -> dict[int, Future[Any]]:
        if not partitions:
            return {}
        asked = self._admin.list_offsets(
            {TopicPartition(self._health.topic, p): place.spec() for p in partitions},
            isolation_level=IsolationLevel.READ_COMMITTED,
            request_timeout=timeout_s,
        )
        return {where.partition: future for where, future in asked.items()}

    def _resolve(self, partitions: list[int]) -> None:
        self._starts = self._offsets(partitions, EARLIEST if self.complete else self._startup)
        # a timestamp after the last record has no offset: its place is the end
        self._ends = self._offsets(partitions, LATEST)

    def _ready(self) -> list[PartitionRange]:
        starts, ends = self._starts, self._ends
        self._starts, self._ends = {}, {}
        for future in (*starts.values(), *ends.values()):
            if (problem := future.exception()) is not None:
                self._health.on_exception(problem)
                return []
        self._health.fine()
        self._next_s = time.monotonic() + self._interval_s
        self.complete = True
        self._known |= starts.keys()
        ready = []
        for partition, future in sorted(starts.items()):
            end, start = ends[partition].result().offset, future.result().offset
            ready.append(PartitionRange(partition, end if start < 0 else start, end if self._bounded else None))
        return ready
