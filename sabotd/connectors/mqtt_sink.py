"""Publishes an epoch's rows to MQTT topics, one message a row, and waits for their acknowledgement."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import aiomqtt
import pyarrow as pa

from planner.task_spec import SinkOp
from sabot.errors import ConnectorError, SqlError
from sabot.ids import WEIGHT
from sabotd.connectors.base import SourceStatus
from sabotd.connectors.changes import ChangeBuffer, SinkShape, expand_weights, records, without_weight
from sabotd.connectors.mqtt_link import LinkSettings, MqttLink
from sabotd.connectors.options import read_bool, read_int
from sabotd.formats.encode import make_encoder

_WAIT_S: Final = 1.0
_WINDOW: Final = 256
"""Messages published together; what is sent again after a lost connection."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where messages go: `topic`, or the text of `column` where that is not NULL."""

    topic: str | None
    column: str | None
    qos: int
    retain: bool

    @classmethod
    def of(cls, op: SinkOp, shape: SinkShape) -> Destination:
        """Read the WITH options.

        Raises
        ------
        SqlError
        """
        topic, column = op.options.get("topic"), op.options.get("topic.column")
        if topic is None and column is None:
            msg = "option 'topic' is missing"
            raise SqlError(msg, hint="give topic, or topic.column for a topic per row")
        if topic is not None and not _is_topic(topic):
            msg = f"{topic!r} is not a topic to publish to"
            raise SqlError(msg, hint="wildcards are for sources")
        types = {c.name: c.type for c in op.columns}
        if column is not None and types.get(column) != "VARCHAR":
            msg = f"topic.column {column!r} is not a VARCHAR column of the sink"
            raise SqlError(msg, hint=f"its columns are {', '.join(types)}", sqlstate="42703")
        if shape.format == "upsert" and shape.key != (column,):
            msg = "FORMAT UPSERT over mqtt needs a topic per key"
            raise SqlError(msg, hint="make topic.column the primary_key: an empty message then deletes")
        return cls(topic, column, read_int(op.options, "qos", 1) or 0, read_bool(op.options, "retain"))


def _is_topic(text: str) -> bool:
    return bool(text) and not {"+", "#", "\0"} & set(text) and len(text.encode()) < 65536


class MqttWriter:
    """A `SinkWriter` that publishes in order; at least once with QoS 1 and 2, also over reconnects.

    `wake` and `close` end a waiting `write` or `flush` with an error; from any thread.
    """

    def __init__(self, op: SinkOp, index: int) -> None:
        self._shape = SinkShape.of(op)
        self._to = Destination.of(op, self._shape)
        self._weighted = op.weighted
        self._encoder = make_encoder(op.format, op.columns, op.options)
        self._keys = self._shape.key_encoder(op)
        self._changes = ChangeBuffer()
        self._rows = self._bytes = 0
        settings = LinkSettings.of(op.options, op.relation, f"-{index}" if index else "")
        self._link = MqttLink(settings)

    def write(self, batch: pa.RecordBatch) -> None:
        if self._weighted and self._shape.format == "plain":
            batch = expand_weights(batch)
        payloads: list[bytes | None] = self._encoder.encode(without_weight(batch)).to_pylist()
        topics = self._topics(batch)
        if self._shape.format == "plain":
            self._publish(topics, payloads)
        else:
            weights = batch.column(WEIGHT) if self._weighted else pa.array([1] * batch.num_rows, pa.int32())
            keys = self._keys.encode(batch.select(list(self._shape.key))).to_pylist()
            self._changes.add(
                [b"%b\0%b" % (t.encode(), k) for t, k in zip(topics, keys, strict=True)], payloads, weights
            )

    def flush(self, epoch: int) -> None:
        if self._shape.format != "plain":
            keys, values = records(self._changes.take(), self._shape.format)
            self._publish([(key or b"").partition(b"\0")[0].decode() for key in keys], values)
        self._link.check()

    def status(self) -> SourceStatus:
        return SourceStatus(self._link.state, rows=self._rows, bytes=self._bytes)

    def wake(self) -> None:
        self._link.stop()

    def close(self) -> None:
        self._link.close()

    def _topics(self, batch: pa.RecordBatch) -> list[str]:
        fixed, column = self._to.topic, self._to.column
        if column is None:
            return [fixed or ""] * batch.num_rows
        topics: list[str] = []
        for text in batch.column(column).to_pylist():
            topic = fixed if text is None else text
            if topic is None or not _is_topic(topic):
                msg = f"column {column!r} holds {topic!r}, which is not a topic to publish to"
                raise ConnectorError(msg, hint="leave such rows out with WHERE, or give a topic for NULL")
            topics.append(topic)
        return topics

    def _publish(self, topics: Sequence[str], payloads: Sequence[bytes | None]) -> None:
        for start in range(0, len(topics), _WINDOW):
            part = slice(start, start + _WINDOW)
            self._send(list(zip(topics[part], payloads[part], strict=True)))
        self._rows += len(topics)
        self._bytes += sum(len(p) for p in payloads if p is not None)

    def _send(self, messages: Sequence[tuple[str, bytes | None]]) -> None:
        """Publish up to a window of messages; all again, in order, where the connection broke in between."""
        qos, retain = self._to.qos, self._to.retain

        async def publish(client: aiomqtt.Client) -> None:
            sent = (client.publish(topic, payload, qos, retain, timeout=math.inf) for topic, payload in messages)
            await asyncio.gather(*sent)

        while True:
            try:
                self._link.call(publish)
            except ConnectorError as problem:
                if not problem.retryable:
                    raise
                self._link.up.wait(_WAIT_S)
            else:
                return
