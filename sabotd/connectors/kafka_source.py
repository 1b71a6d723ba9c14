"""Reads the partitions of a Kafka topic that one task owns; offsets are the daemon's, no consumer group is joined."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from planner.task_spec import SourceOp
from sabot.errors import ConnectorError
from sabotd.connectors.base import Position, SourceBatch, SourceStatus
from sabotd.connectors.kafka_client import ClusterHealth, RareLogger, client_config, setting_error
from sabotd.connectors.kafka_partitions import LATEST, PartitionFinder, PartitionRange, Place
from sabotd.connectors.options import read_duration_s
from sabotd.connectors.payloads import Include, RecordAssembler

_SLICE_S: Final = 0.05
"""librdkafka's wait cannot be ended from outside, so it is cut: what `wake` and new errors wait at most."""
_OPEN_S: Final = 5.0
_FENCE_S: Final = 10.0

_Pending: TypeAlias = tuple[int, Sequence[Message] | int]
"""A partition with messages of it in order, or with the offset at which it has come to its end."""


class KafkaReader:
    """A `SourceReader` of a Kafka topic. A split is a partition's number, its position the next offset."""

    def __init__(self, op: SourceOp, index: int, parallelism: int, *, startup: Place, bounded: bool) -> None:
        options = op.options
        self._topic = options["topic"]
        self._bounded = bounded
        self._assembler = RecordAssembler(op)
        config = client_config(options)
        self._health = ClusterHealth(str(config["bootstrap.servers"]), self._topic)
        self._config = consumer_config(op, self._health)
        self._consumer: Consumer | None = None
        self._finder = PartitionFinder(
            config,
            self._health,
            index=index,
            parallelism=parallelism,
            startup=startup,
            bounded=bounded,
            interval_s=read_duration_s(options, "scan.topic-partition-discovery.interval", 30),
        )
        self._position: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._reading: set[int] = set()
        self._pending: deque[_Pending] = deque()
        self._woken = threading.Event()
        self._closed = False
        self._rows = self._bytes = self._bad_records = 0
        if startup == LATEST:
            # what is produced after CREATE has returned is to be read
            self._find(_OPEN_S)

    def read(self, max_rows: int, timeout_s: float) -> SourceBatch | None:
        deadline = time.monotonic() + timeout_s
        while True:
            self._health.check()
            while self._pending:
                if (batch := self._take()) is not None:
                    return batch
            self._assign(self._finder.poll())
            if self._health.state:
                self._finder.hurry()
            if self.finished():
                return None
            left_s = max(0.0, deadline - time.monotonic())
            if self._poll(max_rows, min(left_s, _SLICE_S)):
                continue
            if self._woken.is_set() or left_s == 0.0:
                self._woken.clear()
                return None

    def finished(self) -> bool:
        return self._bounded and self._finder.complete and not self._reading and not self._pending

    def position(self) -> Position:
        return {str(partition): offset for partition, offset in self._position.items()}

    def fence(self) -> Position:
        self._health.check()
        if self._bounded:
            if not self._find(_FENCE_S):
                msg = f"cannot tell where topic {self._topic!r} ends: {self._health.state or 'no answer'}"
                raise ConnectorError(msg, retryable=True, hint="try again when the broker answers")
            ends = self._ends
        else:
            ends = self._finder.ends_now()
            if ends.keys() - self._position.keys():
                self._finder.hurry(0)
        return {str(partition): offset for partition, offset in ends.items()}

    def status(self) -> SourceStatus:
        splits = tuple(str(partition) for partition in sorted(self._position))
        return SourceStatus(self._health.state, splits, self._rows, self._bytes, self._bad_records)

    def wake(self) -> None:
        self._woken.set()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._pending.clear()
            self._finder.close()
            if self._consumer is not None:
                self._consumer.close()

    def _find(self, timeout_s: float) -> bool:
        """Wait until the partitions are known, at most `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while not self._finder.complete and time.monotonic() < deadline:
            self._health.check()
            self._assign(self._finder.poll())
            if not self._finder.complete:
                self._poll(1, 0.01)
        return self._finder.complete

    def _assign(self, ranges: Sequence[PartitionRange]) -> None:
        wanted = []
        for found in ranges:
            self._position[found.partition] = found.start
            if found.end is not None:
                self._ends[found.partition] = found.end
                if found.start >= found.end:
                    continue
            self._reading.add(found.partition)
            wanted.append(TopicPartition(self._topic, found.partition, found.start))
        if not wanted:
            return
        if self._consumer is None:
            # made when there is something to read: one that has idled since its start takes up to a second to connect
            self._consumer = make_consumer(self._config)
        self._consumer.incremental_assign(wanted)

    def _poll(self, max_rows: int, wait_s: float) -> bool:
        """Move what has come into `_pending`; wait up to `wait_s` for the first record. Whether there was something."""
        if self._consumer is None:
            return self._finder.wait(wait_s)
        # consume() alone would wait for the whole number or the whole time
        first = self._consumer.poll(wait_s)
        if first is None:
            return False
        messages = [first]
        if max_rows > 1:
            messages += self._consumer.consume(min(max_rows, 100_000) - 1, 0)
        self._sort(messages)
        return True

    def _sort(self, messages: list[Message]) -> None:
        """Queue `messages` by partition, events apart; the order within a partition is kept."""
        events = [m for m in messages if m.error() is not None]
        if events:
            messages = [m for m in messages if m.error() is None]
        if messages:
            partitions = np.array([m.partition() for m in messages], np.int32)
            if (partitions == partitions[0]).all():
                self._pending.append((int(partitions[0]), messages))
            else:
                order = np.argsort(partitions, kind="stable")
                cuts = np.flatnonzero(np.diff(partitions[order])) + 1
                for run in np.split(order, cuts):
                    self._pending.append((int(partitions[run[0]]), [messages[i] for i in run.tolist()]))
        for event in events:
            error = event.error()
            assert error is not None
            if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                self._pending.append((event.partition() or 0, event.offset() or 0))
            else:
                self._health.on_error(error)

    def _take(self) -> SourceBatch | None:
        partition, what = self._pending.popleft()
        if partition not in self._reading:
            return None
        if isinstance(what, int):
            # the last offsets may be of markers or compacted away: nothing but this tells that they are passed
            self._advance(partition, what)
            return None
        return self._decode(partition, what)

    def _decode(self, partition: int, messages: Sequence[Message]) -> SourceBatch | None:
        end = self._ends.get(partition)
        next_offset = (messages[-1].offset() or 0) + 1
        if end is not None and next_offset > end:
            messages = messages[: int(np.searchsorted([m.offset() or 0 for m in messages], end))]
            next_offset = end
        payloads = pa.array([m.value() for m in messages], pa.binary())
        batch, errors = self._assembler.assemble(payloads, _Names(messages), _include(partition, messages))
        self._advance(partition, next_offset)
        self._rows += batch.num_rows
        self._bytes += payloads.nbytes
        self._bad_records += len(errors)
        if batch.num_rows == 0 and not errors:
            return None
        return SourceBatch(str(partition), batch, errors)

    def _advance(self, partition: int, offset: int) -> None:
        self._position[partition] = max(self._position[partition], offset)
        end = self._ends.get(partition)
        if end is not None and self._position[partition] >= end:
            self._position[partition] = end
            self._reading.discard(partition)
            assert self._consumer is not None
            self._consumer.incremental_unassign([TopicPartition(self._topic, partition)])


def consumer_config(op: SourceOp, health: ClusterHealth) -> dict[str, Any]:
    """Return the consumer's whole configuration."""
    return {
        "group.id": f"sabot-{op.relation}",
        # refilling the local queue waits this long (1 s by default) once it was full
        "fetch.queue.backoff.ms": "10",
        "queued.max.messages.kbytes": "32768",
        # a gap in what is read is an error unless asked for
        "auto.offset.reset": "error",
        **client_config(op.options),
        "enable.auto.commit": "false",
        "enable.partition.eof": "true",
        "error_cb": health.on_error,
        "logger": RareLogger(),
    }


def make_consumer(config: dict[str, Any]) -> Consumer:
    """Make a consumer; nothing is connected yet.

    Raises
    ------
    SqlError
        A setting is wrong.
    """
    try:
        return Consumer(config)
    except (KafkaException, ValueError, TypeError) as problem:
        raise setting_error(problem) from problem


class _Names(Sequence[str]):
    """Names records ``partition:offset``, when one is asked for."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self._messages = messages

    def __getitem__(self, i: Any) -> Any:  # never a slice
        return f"{self._messages[i].partition()}:{self._messages[i].offset()}"

    def __len__(self) -> int:
        return len(self._messages)


def _include(partition: int, messages: Sequence[Message]) -> Mapping[str, Include]:
    n = len(messages)
    return {
        "key": lambda: pa.array([m.key() for m in messages], pa.binary()),
        "payload": lambda: pa.array([m.value() for m in messages], pa.binary()),
        "partition": lambda: pa.array(np.full(n, partition, np.int32)),
        "offset": lambda: pa.array([m.offset() for m in messages], pa.int64()),
        "timestamp": lambda: _timestamps(messages),
        "headers": lambda: pa.array([_headers(m) for m in messages], HEADERS),
    }


HEADERS: Final = pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))


def _timestamps(messages: Sequence[Message]) -> pa.Array:
    """Milliseconds since 1970 as timestamptz; a record without a time (type 0) gives NULL."""
    pairs = [m.timestamp() for m in messages]
    millis = np.fromiter((ms for _, ms in pairs), np.int64, len(pairs))
    absent = np.fromiter((kind == 0 for kind, _ in pairs), np.bool_, len(pairs))
    return pa.array(millis * 1000, pa.timestamp("us", tz="UTC"), mask=absent)


def _headers(message: Message) -> list[dict[str, object]] | None:
    headers = message.headers()
    if headers is None:
        return None
    pairs = headers.items() if isinstance(headers, dict) else headers
    return [{"key": k, "value": v.encode() if isinstance(v, str) else v} for k, v in pairs]
