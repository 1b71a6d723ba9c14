"""Fixtures over the brokers: a topic of one's own, records in it, and reading to a fence."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from planner.task_spec import Columns, ColumnSpec, SinkOp, SourceOp
from sabotd.connectors.base import BadRecord, SourceReader
from tests.support.servers import KafkaServer, MosquittoServer

_names = itertools.count()


def columns(text: str) -> Columns:
    """Return the columns of ``name TYPE, name TYPE``."""
    return tuple(ColumnSpec(*part.strip().split(" ", 1)) for part in text.split(",") if part.strip())


@dataclass
class Topic:
    """A Kafka topic that belongs to one test."""

    name: str
    bootstrap: str

    def produce(self, values: Iterable[bytes | None], *, partition: int = 0, **more: object) -> None:
        """Produce `values` and wait until they are acknowledged; `more` goes to ``Producer.produce``."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "log_level": 0})
        for value in values:
            producer.produce(self.name, value, partition=partition, **more)  # type: ignore[arg-type]
        assert producer.flush(20) == 0

    def records(self, *, isolation: str = "read_committed") -> list[Message]:
        """Return every record of every partition."""
        config = {
            "bootstrap.servers": self.bootstrap,
            "group.id": "test",
            "log_level": 0,
            "enable.partition.eof": "true",
            "isolation.level": isolation,
        }
        found = []
        with closing(Consumer(config)) as consumer:
            left = set(consumer.list_topics(self.name, timeout=10).topics[self.name].partitions)
            consumer.assign([TopicPartition(self.name, p, 0) for p in left])
            while left:
                message = consumer.poll(20)
                assert message is not None
                if (error := message.error()) is None:
                    found.append(message)
                else:
                    assert error.code() == KafkaError._PARTITION_EOF
                    left.discard(message.partition())
        return found

    def add_partitions(self, total: int) -> None:
        """Let the topic have `total` partitions."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        for future in admin.create_partitions([NewPartitions(self.name, total)]).values():
            future.result(20)

    def source(
        self, cols: str, *, include: Iterable[tuple[str, str]] = (), encode: str = "json", **opts: str
    ) -> SourceOp:
        """Return a source of the topic; ``a_b`` in an option's name stands for ``a.b``."""
        options = self._options(opts)
        return SourceOp("src", "kafka", options, encode, columns(cols), columns(cols), include=tuple(include))

    def sink(self, cols: str, *, weighted: bool = False, **opts: str) -> SinkOp:
        """Return a sink into the topic."""
        return SinkOp("snk", "kafka", self._options(opts), "json", columns(cols), weighted)

    def _options(self, opts: dict[str, str]) -> dict[str, str]:
        named = {k if k in {"primary_key", "force_append_only"} else k.replace("_", "."): v for k, v in opts.items()}
        return {"topic": self.name, "properties.bootstrap.servers": self.bootstrap} | named


@pytest.fixture
def new_topic(kafka: KafkaServer) -> Callable[..., Topic]:
    def create(partitions: int = 1, **config: str) -> Topic:
        return create_topic(kafka.bootstrap, f"topic-{next(_names)}", partitions, **config)

    return create


def create_topic(bootstrap: str, name: str, partitions: int = 1, **config: str) -> Topic:
    """Create a topic; ``a_b`` in a setting's name stands for ``a.b``."""
    settings = {key.replace("_", "."): value for key, value in config.items()}
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    for future in admin.create_topics([NewTopic(name, partitions, 1, config=settings)]).values():
        future.result(20)
    return Topic(name, bootstrap)


@pytest.fixture
def mqtt_prefix(mosquitto: MosquittoServer) -> Iterator[str]:
    """A level of topics that belongs to one test."""
    return f"test-{next(_names)}"


@dataclass
class Rows:
    """What `read_to` read: rows as dicts, bad records, and the rows of each split in order."""

    rows: list[dict[str, object]]
    errors: list[BadRecord]
    by_split: dict[str, list[dict[str, object]]]


def read_to(
    reader: SourceReader, until: Callable[[SourceReader, Rows], bool] | None = None, max_rows: int = 1000
) -> Rows:
    """Read until `until` says so: by default up to the fence as it is now. No test hangs: 30 s without any row fail."""
    if until is None:
        fence = reader.fence()

        def until(reader: SourceReader, _: Rows) -> bool:
            position = reader.position()
            return all(position.get(split, 0) >= offset for split, offset in fence.items())

    got = Rows([], [], {})
    empty = 0
    while not until(reader, got):
        batch = reader.read(max_rows, 0.3)
        if batch is None:
            empty += 1
            assert empty < 100, (reader.status(), reader.position())
            continue
        rows = batch.batch.to_pylist()
        got.rows += rows
        got.errors += batch.errors
        got.by_split.setdefault(batch.split, []).extend(rows)
    return got
