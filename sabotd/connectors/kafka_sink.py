"""Writes an epoch's rows to a Kafka topic: plain records, upserts by key, or Debezium's envelope."""

from __future__ import annotations

import threading
from typing import Final

import pyarrow as pa
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from planner.task_spec import SinkOp
from sabot.errors import ConnectorError
from sabot.ids import WEIGHT
from sabotd.connectors.base import SourceStatus
from sabotd.connectors.changes import ChangeBuffer, SinkShape, expand_weights, records, without_weight
from sabotd.connectors.kafka_client import ClusterHealth, RareLogger, client_config, setting_error
from sabotd.formats.encode import make_encoder

_WAIT_S: Final = 0.1


class KafkaWriter:
    """A `SinkWriter` with an idempotent producer; at least once over failures of the daemon.

    `wake` and `close` end a waiting `write` or `flush` with an error; from any thread.
    """

    def __init__(self, op: SinkOp) -> None:
        self._shape = SinkShape.of(op)
        self._topic = op.options["topic"]
        self._weighted = op.weighted
        self._values = make_encoder(op.format, op.columns, op.options)
        self._keys = self._shape.key_encoder(op) if self._shape.key and not self._shape.key_text else None
        self._changes = ChangeBuffer()
        config = client_config(op.options)
        self._health = ClusterHealth(str(config["bootstrap.servers"]), self._topic)
        try:
            self._producer = Producer(
                {
                    "acks": "all",
                    "enable.idempotence": "true",
                    "queue.buffering.max.kbytes": "65536",
                    # a broker that is away holds the sink up, and loses nothing
                    "message.timeout.ms": "0",
                    **config,
                    "delivery.report.only.error": True,
                    "on_delivery": self._on_delivery,
                    "error_cb": self._health.on_error,
                    "logger": RareLogger(),
                }
            )
        except (KafkaException, ValueError, TypeError) as problem:
            raise setting_error(problem) from problem
        self._failed: KafkaError | None = None
        self._stopped = threading.Event()
        self._closed = False
        self._busy = threading.Lock()
        self._rows = self._bytes = self._acknowledged = 0

    def write(self, batch: pa.RecordBatch) -> None:
        if self._weighted and self._shape.format == "plain":
            batch = expand_weights(batch)
        keys, values = self._encode(batch)
        if self._shape.format == "plain":
            with self._busy:
                self._produce(keys, values)
        else:
            weights = batch.column(WEIGHT) if self._weighted else pa.array([1] * batch.num_rows, pa.int32())
            self._changes.add(keys, values, weights)

    def flush(self, epoch: int) -> None:
        with self._busy:
            self._check()
            if self._shape.format != "plain":
                self._produce(*records(self._changes.take(), self._shape.format))
            while self._producer.flush(_WAIT_S) > 0:
                self._check()
            self._check()
            # an epoch without records says nothing about the cluster
            if self._rows > self._acknowledged:
                self._acknowledged = self._rows
                self._health.fine()

    def status(self) -> SourceStatus:
        return SourceStatus(self._health.state, rows=self._rows, bytes=self._bytes)

    def wake(self) -> None:
        self._stopped.set()

    def close(self) -> None:
        self._stopped.set()
        if not self._closed:
            self._closed = True
            self._producer.purge()
            with self._busy:  # whoever waits there sees that it is over within `_WAIT_S`
                self._producer.close()

    def _encode(self, batch: pa.RecordBatch) -> tuple[list[bytes | None], list[bytes | None]]:
        values = self._values.encode(without_weight(batch)).to_pylist()
        if self._keys is not None:
            return self._keys.encode(batch.select(list(self._shape.key))).to_pylist(), values
        if self._shape.key_text:
            return batch.column(self._shape.key[0]).cast(pa.string()).cast(pa.binary()).to_pylist(), values
        return [None] * len(values), values

    def _produce(self, keys: list[bytes | None], values: list[bytes | None]) -> None:
        self._check()
        produce, topic, poll = self._producer.produce, self._topic, self._producer.poll
        for i, (key, value) in enumerate(zip(keys, values, strict=True)):
            while True:
                try:
                    produce(topic, value, key)
                    break
                except BufferError:  # its queue is full: wait for acknowledgements
                    poll(_WAIT_S)
                    self._check()
                except KafkaException as problem:
                    raise self._failure(problem.args[0]) from problem
            if not i % 4096:
                poll(0)
        self._rows += len(values)
        self._bytes += sum(len(value) for value in values if value is not None)
        self._check()

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        if error is not None and self._failed is None:
            self._failed = error

    def _check(self) -> None:
        if self._stopped.is_set():
            msg = f"the sink to topic {self._topic!r} was stopped"
            raise ConnectorError(msg)
        if self._failed is not None:
            raise self._failure(self._failed)
        self._health.check()

    def _failure(self, error: KafkaError) -> ConnectorError:
        hint = None
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            hint = "raise properties.message.max.bytes, and the topic's max.message.bytes"
        msg = f"kafka topic {self._topic!r} did not take a record: {error.str()}"
        return ConnectorError(msg, hint=hint)
