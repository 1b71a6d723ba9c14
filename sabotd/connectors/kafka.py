"""The ``kafka`` connector: its options, what CREATE checks, and how readers and writers are opened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from planner.task_spec import SinkOp, SourceOp
from sabot.errors import ConnectorError, SqlError
from sabotd.connectors.base import Connector, OptionSpec
from sabotd.connectors.changes import FORMATS, SHAPE_OPTIONS, SinkShape
from sabotd.connectors.envelopes import CHANGES
from sabotd.connectors.kafka_client import CLIENT_OPTIONS, ClusterHealth, client_config
from sabotd.connectors.kafka_partitions import EARLIEST, LATEST, Place, make_admin
from sabotd.connectors.kafka_sink import KafkaWriter
from sabotd.connectors.kafka_source import KafkaReader, consumer_config, make_consumer
from sabotd.connectors.payloads import RecordAssembler, check_include

_ASK_S: Final = 2.0
_SOURCE: Final = ("source",)

INCLUDE_TYPES: Final = {
    "key": ("VARCHAR", "BLOB"),
    "partition": ("INTEGER", "BIGINT", "VARCHAR"),
    "offset": ("BIGINT", "VARCHAR"),
    "timestamp": ("TIMESTAMP WITH TIME ZONE", "TIMESTAMP"),
    "headers": ("JSON", "STRUCT(key VARCHAR, value BLOB)[]"),
    "payload": ("VARCHAR", "BLOB"),
}


_OPTIONS: Final[dict[str, OptionSpec]] = {
    **CLIENT_OPTIONS,
    "scan.startup.mode": OptionSpec(
        "enum",
        "earliest",
        choices=("earliest", "latest", "timestamp", "earliest-offset", "latest-offset"),
        doc="where reading starts",
        of=_SOURCE,
    ),
    "scan.startup.timestamp.millis": OptionSpec(
        "int", doc="start at the first record at or after this time, milliseconds since 1970", of=_SOURCE
    ),
    "scan.bounded.mode": OptionSpec(
        "enum",
        "unbounded",
        choices=("unbounded", "latest-offset"),
        doc="latest-offset: read what is there at the start, then end",
        of=_SOURCE,
    ),
    "scan.topic-partition-discovery.interval": OptionSpec(
        "duration", "30s", doc="time between two looks for new partitions", of=_SOURCE
    ),
    **SHAPE_OPTIONS,
}


class KafkaConnector(Connector):
    """Topics of a Kafka cluster as sources and sinks."""

    name = "kafka"
    source_formats = CHANGES
    options = _OPTIONS
    sink_formats = FORMATS

    def validate(self, op: SourceOp | SinkOp) -> None:
        config = client_config(op.options)
        if isinstance(op, SinkOp):
            SinkShape.of(op)
        else:
            check_include(op, INCLUDE_TYPES)
            RecordAssembler(op)
            _startup(op.options)
        health = ClusterHealth(str(config["bootstrap.servers"]), op.options["topic"])
        if isinstance(op, SourceOp):
            make_consumer(consumer_config(op, health)).close()
        with make_admin(config, health) as admin:
            _ask_for_topic(admin, health, op)

    def is_finite(self, options: Mapping[str, str]) -> bool:
        return options.get("scan.bounded.mode", "unbounded") != "unbounded"

    def rereads(self, options: Mapping[str, str]) -> bool:
        return _startup(options) != LATEST

    def open_source(self, op: SourceOp, index: int, parallelism: int) -> KafkaReader:
        return KafkaReader(op, index, parallelism, startup=_startup(op.options), bounded=self.is_finite(op.options))

    def open_sink(self, op: SinkOp, index: int, parallelism: int) -> KafkaWriter:
        return KafkaWriter(op)


CONNECTOR: Final = KafkaConnector()


def _startup(options: Mapping[str, str]) -> Place:
    mode = options.get("scan.startup.mode")
    millis = options.get("scan.startup.timestamp.millis")
    if mode == "timestamp" or (mode is None and millis is not None):
        if millis is None:
            msg = "option 'scan.startup.timestamp.millis' is missing"
            raise SqlError(msg, hint="scan.startup.mode = 'timestamp' starts at that time")
        return Place("timestamp", int(millis))
    if millis is not None:
        msg = f"option 'scan.startup.timestamp.millis' has no meaning with scan.startup.mode = {mode!r}"
        raise SqlError(msg, hint="use scan.startup.mode = 'timestamp'")
    return LATEST if mode in {"latest", "latest-offset"} else EARLIEST


def _ask_for_topic(admin: AdminClient, health: ClusterHealth, op: SourceOp | SinkOp) -> None:
    """Refuse a topic that the cluster says is not there; a cluster that is away may come back."""
    try:
        if isinstance(op, SinkOp):
            # as a producer asks: a cluster that makes topics by itself makes it now
            error = admin.list_topics(health.topic, timeout=_ASK_S).topics[health.topic].error
        else:
            admin.describe_topics(TopicCollection([health.topic]), request_timeout=_ASK_S)[health.topic].result()
            error = None
    except KafkaException as problem:
        error = problem.args[0]
    if error is None:
        return
    if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
        msg = f"topic {health.topic!r} does not exist at {health.servers}"
        raise ConnectorError(msg, hint="create it first", sqlstate="42704")
    if error.code() == KafkaError.TOPIC_EXCEPTION:
        msg = f"{health.topic!r} is not the name of a topic"
        raise ConnectorError(msg, hint="use letters, digits, '.', '_' and '-'", sqlstate="42602")
    health.on_error(error)
    health.check()
