"""The ``mqtt`` connector: its options, what CREATE checks, and how readers and writers are opened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from planner.task_spec import SinkOp, SourceOp
from sabot.errors import SqlError
from sabotd.connectors.base import Connector, OptionSpec
from sabotd.connectors.changes import FORMATS, SHAPE_OPTIONS, SinkShape
from sabotd.connectors.envelopes import CHANGES
from sabotd.connectors.mqtt_link import LINK_OPTIONS, LinkSettings
from sabotd.connectors.mqtt_sink import Destination, MqttWriter
from sabotd.connectors.mqtt_source import MqttReader, topic_filters
from sabotd.connectors.payloads import RecordAssembler, check_include

INCLUDE_TYPES: Final = {
    "topic": ("VARCHAR",),
    "qos": ("INTEGER", "SMALLINT", "BIGINT"),
    "retain": ("BOOLEAN",),
    "timestamp": ("TIMESTAMP WITH TIME ZONE", "TIMESTAMP"),
    "payload": ("VARCHAR", "BLOB"),
}
_OPTIONS: Final[dict[str, OptionSpec]] = {
    "topic": OptionSpec("str", doc="source: topic filters with + and #, by comma; sink: the topic"),
    "topic.column": OptionSpec("str", doc="the column that holds each row's topic", of=("sink",)),
    "qos": OptionSpec("enum", "1", choices=("0", "1", "2"), doc="quality of service"),
    "retain": OptionSpec("bool", "false", doc="the broker keeps the last message of each topic", of=("sink",)),
    **LINK_OPTIONS,
    **{name: spec for name, spec in SHAPE_OPTIONS.items() if name in {"primary_key", "force_append_only"}},
}


class MqttConnector(Connector):
    """Topics of an MQTT broker as sources and sinks."""

    name = "mqtt"
    source_formats = CHANGES
    options = _OPTIONS
    sink_formats = FORMATS

    def validate(self, op: SourceOp | SinkOp) -> None:
        LinkSettings.of(op.options, op.relation)
        if isinstance(op, SinkOp):
            Destination.of(op, SinkShape.of(op))
            return
        if "topic" not in op.options:
            msg = "connector 'mqtt' needs option 'topic'"
            raise SqlError(msg, hint="topics or filters, by comma: WITH (..., topic = 'plant/+/temperature')")
        topic_filters(op.options)
        check_include(op, INCLUDE_TYPES)
        RecordAssembler(op)

    def rereads(self, options: Mapping[str, str]) -> bool:
        return False  # the broker forgets what it has handed over

    def open_source(self, op: SourceOp, index: int, parallelism: int) -> MqttReader:
        return MqttReader(op, index, parallelism)

    def open_sink(self, op: SinkOp, index: int, parallelism: int) -> MqttWriter:
        return MqttWriter(op, index)


CONNECTOR: Final = MqttConnector()
