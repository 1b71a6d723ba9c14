"""MQTT sources and sinks against a real broker."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import paho.mqtt.client as paho
import psutil
import pyarrow as pa
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from planner.task_spec import SinkOp, SourceOp
from sabot.errors import ConnectorError, SqlError
from sabot.ids import WEIGHT
from sabotd.connectors import mqtt_handover, registry
from sabotd.connectors.mqtt import CONNECTOR
from tests.support.fix_brokers import columns, read_to
from tests.support.servers import MosquittoServer, free_port


def source(cols: str, *, include: tuple[tuple[str, str], ...] = (), encode: str = "json", **opts: str) -> SourceOp:
    """Return a source; ``a_b`` in some options' names stands for ``a.b``."""
    return SourceOp("src", "mqtt", _options(opts), encode, columns(cols), columns(cols), include=include)


def sink(cols: str, *, weighted: bool = False, encode: str = "json", **opts: str) -> SinkOp:
    return SinkOp("snk", "mqtt", _options(opts), encode, columns(cols), weighted)


def _options(opts: Mapping[str, str]) -> dict[str, str]:
    dotted = {"topic_column": "topic.column", "tls_ca_file": "tls.ca_file"}
    return {dotted.get(name, name): value for name, value in opts.items()}


class Peer:
    """Another client of the broker: publishes, and collects what it subscribed to."""

    def __init__(self, port: int) -> None:
        self.client = paho.Client(CallbackAPIVersion.VERSION2)
        self.messages: list[tuple[str, bytes, bool]] = []
        self._changed = threading.Condition()
        self._subscribed = threading.Event()
        self.client.on_message = self._on_message
        self.client.on_subscribe = lambda *_: self._subscribed.set()
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def publish(self, topic: str, *payloads: bytes, qos: int = 1, retain: bool = False) -> None:
        """Publish and wait for the acknowledgements."""
        for info in [self.client.publish(topic, payload, qos, retain) for payload in payloads]:
            info.wait_for_publish(20)

    def subscribe(self, topic: str) -> None:
        """Subscribe and wait for the acknowledgement."""
        self._subscribed.clear()
        self.client.subscribe(topic, 2)
        assert self._subscribed.wait(10)

    def wait(self, n: int) -> list[tuple[str, bytes, bool]]:
        """Wait for `n` messages in all and return them."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.messages) >= n, 20), self.messages
            return list(self.messages)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def _on_message(self, _client: object, _userdata: object, message: paho.MQTTMessage) -> None:
        with self._changed:
            self.messages.append((message.topic, message.payload, message.retain))
            self._changed.notify_all()


@pytest.fixture
def peer(mosquitto: MosquittoServer) -> Iterator[Peer]:
    with closing(Peer(mosquitto.port)) as peer:
        yield peer


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages_become_rows_in_order(
    mosquitto: MosquittoServer, peer: Peer, mqtt_prefix: str, qos: int, protocol: str
) -> None:
    op = source("a BIGINT", url=mosquitto.url, topic=f"{mqtt_prefix}/x", qos=str(qos), protocol=protocol)
    CONNECTOR.validate(op)
    with closing(CONNECTOR.open_source(op, 0, 1)) as reader:
        peer.publish(f"{mqtt_prefix}/x", *(b'{"a":%d}' % i for i in range(300)), qos=qos or 1)
        assert reader.fence() == {"0": 300}
        assert [row["a"] for row in read_to(reader, max_rows=7).rows] == list(range(300))
        status = reader.status()
        assert (status.state, status.splits, status.rows) == ("", ("0",), 300)
        assert not reader.finished()


def test_filters_wildcards_and_what_is_included(mosquitto: MosquittoServer, peer: Peer, mqtt_prefix: str) -> None:
    op = source(
        "t VARCHAR, a BIGINT, q INTEGER, r BOOLEAN, raw BLOB",
        include=(("topic", "t"), ("qos", "q"), ("retain", "r"), ("payload", "raw")),
        host="127.0.0.1",
        port=str(mosquitto.port),
        topic=f"{mqtt_prefix}/+/temp, {mqtt_prefix}/alarm/#",
    )
    peer.publish(f"{mqtt_prefix}/alarm/old", b'{"a":0}', retain=True)
    with closing(CONNECTOR.open_source(op, 0, 1)) as reader:
        peer.publish(f"{mqtt_prefix}/k1/temp", b'[{"a":1},{"a":2}]')
        peer.publish(f"{mqtt_prefix}/k1/other", b'{"a":9}')
        peer.publish(f"{mqtt_prefix}/alarm/x/y", b'{"a":3}', qos=0)
        peer.publish(f"{mqtt_prefix}/alarm/x", b'{"a":4}', qos=2)
        rows = read_to(reader).rows
    both = {"t": f"{mqtt_prefix}/k1/temp", "q": 1, "r": False, "raw": b'[{"a":1},{"a":2}]'}
    assert sorted(rows, key=lambda row: str(row["a"])) == [
        {"t": f"{mqtt_prefix}/alarm/old", "a": 0, "q": 1, "r": True, "raw": b'{"a":0}'},
        both | {"a": 1},
        both | {"a": 2},
        {"t": f"{mqtt_prefix}/alarm/x/y", "a": 3, "q": 0, "r": False, "raw": b'{"a":3}'},
        {"t": f"{mqtt_prefix}/alarm/x", "a": 4, "q": 1, "r": False, "raw": b'{"a":4}'},
    ]


def test_raw_payloads_and_arrival_time(mosquitto: MosquittoServer, peer: Peer, mqtt_prefix: str) -> None:
    op = source(
        "v VARCHAR, at TIMESTAMP WITH TIME ZONE",
        include=(("timestamp", "at"),),
        encode="raw",
        url=mosquitto.url,
        topic=f"{mqtt_prefix}",
    )
    before = time.time()
    with closing(CONNECTOR.open_source(op, 0, 1)) as reader:
        peer.publish(mqtt_prefix, b"21.5 \xc2\xb0C")
        (row,) = read_to(reader).rows
    assert row["v"] == "21.5 °C"
    assert before <= row["at"].timestamp() <= time.time()  # type: ignore[attr-defined]


def test_bad_payloads_name_their_topic(mosquitto: MosquittoServer, peer: Peer, mqtt_prefix: str) -> None:
    with closing(
        CONNECTOR.open_source(source("a BIGINT", url=mosquitto.url, topic=f"{mqtt_prefix}/#"), 0, 1)
    ) as reader:
        peer.publish(f"{mqtt_prefix}/x", b'{"a":1}', b"nonsense", b'{"a":2}')
        got = read_to(reader)
    assert [row["a"] for row in got.rows] == [1, 2]
    assert [(e.offset, e.payload) for e in got.errors] == [(f"{mqtt_prefix}/x:1", b"nonsense")]


def test_a_reader_of_everything_does_not_see_the_fences_of_others(
    mosquitto: MosquittoServer, peer: Peer, mqtt_prefix: str
) -> None:
    op = source("v VARCHAR, t VARCHAR", include=(("topic", "t"),), encode="raw", url=mosquitto.url, topic="#")
    with closing(CONNECTOR.open_source(op, 0, 1)) as one, closing(CONNECTOR.open_source(op, 0, 1)) as two:
        two.fence()
        peer.publish(mqtt_prefix, b"x")
        topics = [str(row["t"]) for row in (*read_to(one).rows, *read_to(two).rows)]
    assert topics.count(mqtt_prefix) == 2
    assert not any(topic.startswith("sabot/") for topic in topics)


def test_one_task_reads_and_the_others_stay_idle(mosquitto: MosquittoServer, peer: Peer, mqtt_prefix: str) -> None:
    op = source("a BIGINT", url=mosquitto.url, topic=mqtt_prefix)
    readers = [CONNECTOR.open_source(op, index, 3) for index in range(3)]
    peer.publish(mqtt_prefix, b'{"a":1}')
    assert [len(read_to(reader).rows) for reader in readers] == [1, 0, 0]
    assert [reader.status().splits for reader in readers] == [("0",), (), ()]
    assert [reader.position() for reader in readers] == [{"0": 1}, {}, {}]
    for reader in readers:
        reader.close()


def test_a_shared_subscription_is_read_by_all_tasks(mosquitto: MosquittoServer, peer: Peer, mqtt_prefix: str) -> None:
    op = source("a BIGINT", url=mosquitto.url, topic=f"$share/g/{mqtt_prefix}")
    readers = [CONNECTOR.open_source(op, index, 2) for index in range(2)]
    peer.publish(mqtt_prefix, *(b'{"a":%d}' % i for i in range(100)))
    parts = [[row["a"] for row in read_to(reader).rows] for reader in readers]
    assert all(parts)
    assert sorted(parts[0] + parts[1]) == list(range(100))  # type: ignore[type-var]
    for reader in readers:
        reader.close()


def test_wake_ends_a_waiting_read(mosquitto: MosquittoServer, mqtt_prefix: str) -> None:
    with closing(CONNECTOR.open_source(source("a BIGINT", url=mosquitto.url, topic=mqtt_prefix), 0, 1)) as reader:
        thread = threading.Thread(target=reader.read, args=(10, 60))
        thread.start()
        reader.wake()
        thread.join(10)
        assert not thread.is_alive()


def test_user_and_password(mosquitto: MosquittoServer) -> None:
    def op(password: str) -> SourceOp:
        where = {"host": "127.0.0.1", "port": str(mosquitto.auth_port), "topic": "t"}
        return source("a BIGINT", **where, username=mosquitto.username, password=password)

    with closing(CONNECTOR.open_source(op(mosquitto.password), 0, 1)) as reader:
        assert reader.fence() == {"0": 0}
    with (
        closing(CONNECTOR.open_source(op("wrong"), 0, 1)) as reader,
        pytest.raises(ConnectorError, match="refused the connection"),
    ):
        reader.read(1, 1)
    writer = CONNECTOR.open_sink(
        sink("a BIGINT", host="127.0.0.1", port=str(mosquitto.auth_port), topic="t", username="x", password="y"), 0, 1
    )
    with closing(writer), pytest.raises(ConnectorError, match="refused the connection"):
        writer.write(pa.record_batch({"a": [1]}))


def test_tls(mosquitto: MosquittoServer, peer: Peer, mqtt_prefix: str) -> None:
    url = f"mqtts://localhost:{mosquitto.tls_port}"
    op = source("a BIGINT", url=url, tls_ca_file=str(mosquitto.ca_file), topic=mqtt_prefix)
    with closing(CONNECTOR.open_source(op, 0, 1)) as reader:
        peer.publish(mqtt_prefix, b'{"a":1}')
        assert len(read_to(reader).rows) == 1
    # an authority that is not trusted is not talked to
    with closing(CONNECTOR.open_source(source("a BIGINT", url=url, topic=mqtt_prefix), 0, 1)) as reader:
        read_to(reader, lambda r, _: "unreachable" in r.status().state)
        assert "certificate" in reader.status().state


def test_a_persistent_session_gets_what_came_while_it_was_away(
    mosquitto: MosquittoServer, peer: Peer, mqtt_prefix: str
) -> None:
    for protocol in ("3.1.1", "5"):
        op = source(
            "a BIGINT", url=mosquitto.url, topic=f"{mqtt_prefix}/{protocol}",
            client_id=f"{mqtt_prefix}-{protocol}", clean_session="false", protocol=protocol,
        )  # fmt: skip
        CONNECTOR.open_source(op, 0, 1).close()
        peer.publish(f"{mqtt_prefix}/{protocol}", b'{"a":1}', b'{"a":2}')
        with closing(CONNECTOR.open_source(op, 0, 1)) as reader:
            assert [row["a"] for row in read_to(reader, lambda _, got: len(got.rows) == 2).rows] == [1, 2]


def test_a_full_queue_holds_the_broker_up_and_loses_nothing(
    mosquitto: MosquittoServer, peer: Peer, mqtt_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt_handover.Handover.__init__, "__defaults__", (10_000,))
    # held up for longer than the keepalive, which must not break the connection: some seconds
    op = source("a BIGINT, b VARCHAR", url=mosquitto.url, topic=mqtt_prefix, keepalive="2")
    with closing(CONNECTOR.open_source(op, 0, 1)) as reader:
        peer.publish(mqtt_prefix, *(b'{"a":%d,"b":"%s"}' % (i, b"x" * 1000) for i in range(50)))
        assert not threading.Event().wait(4)
        assert reader._handover._bytes < 10_000 + 10 * 1400
        assert reader.status().state == ""
        assert reader.fence() == {"0": 50}
        assert [row["a"] for row in read_to(reader).rows] == list(range(50))


def test_an_unreachable_broker_is_told_and_costs_no_cpu() -> None:
    op = source("a BIGINT", host="127.0.0.1", port=str(free_port()), topic="t")
    with closing(CONNECTOR.open_source(op, 0, 1)) as reader:
        read_to(reader, lambda r, _: "retry in" in r.status().state)
        before = psutil.Process().cpu_times()
        assert reader.read(10, 1) is None
        after = psutil.Process().cpu_times()
        assert (after.user + after.system) - (before.user + before.system) < 0.3
        with pytest.raises(ConnectorError, match="unreachable") as caught:
            reader.fence()
        assert caught.value.retryable


def test_sink_publishes_rows_and_flush_waits_for_acknowledgements(
    mosquitto: MosquittoServer, peer: Peer, mqtt_prefix: str
) -> None:
    peer.subscribe(f"{mqtt_prefix}/#")
    sent = 0
    for qos in "012":
        op = sink("a BIGINT", url=mosquitto.url, topic=f"{mqtt_prefix}/{qos}", qos=qos)
        CONNECTOR.validate(op)
        with closing(CONNECTOR.open_sink(op, 0, 1)) as writer:
            writer.write(pa.record_batch({"a": pa.array(range(600), pa.int64())}))
            writer.flush(1)
            sent += 600
            messages = peer.wait(sent)[-600:]
            assert [m[:2] for m in messages] == [(f"{mqtt_prefix}/{qos}", b'{"a":%d}' % i) for i in range(600)]


def test_sink_takes_the_topic_from_a_column_and_may_retain(
    mosquitto: MosquittoServer, peer: Peer, mqtt_prefix: str
) -> None:
    op = sink("t VARCHAR, a BIGINT", url=mosquitto.url, topic=f"{mqtt_prefix}/rest", topic_column="t", retain="true")
    with closing(CONNECTOR.open_sink(op, 0, 1)) as writer:
        topics = [f"{mqtt_prefix}/one", None, f"{mqtt_prefix}/one"]
        writer.write(pa.record_batch({"t": topics, "a": pa.array([1, 2, 3], pa.int64())}))
        writer.flush(1)
        with pytest.raises(ConnectorError, match="not a topic to publish to"):
            writer.write(pa.record_batch({"t": ["a/#"], "a": pa.array([1], pa.int64())}))
    peer.subscribe(f"{mqtt_prefix}/#")
    told = {topic: (json.loads(payload)["a"], retain) for topic, payload, retain in peer.wait(2)}
    assert told == {f"{mqtt_prefix}/one": (3, True), f"{mqtt_prefix}/rest": (2, True)}


def test_sink_upserts_a_topic_a_key_and_clears_the_deleted(
    mosquitto: MosquittoServer, peer: Peer, mqtt_prefix: str
) -> None:
    peer.subscribe(f"{mqtt_prefix}/#")
    op = sink(
        "t VARCHAR, a BIGINT", weighted=True, url=mosquitto.url, topic_column="t", primary_key="t", format="upsert"
    )
    CONNECTOR.validate(op)
    t = f"{mqtt_prefix}/k"
    with closing(CONNECTOR.open_sink(op, 0, 1)) as writer:
        for epoch, (values, weights) in enumerate([([1], [1]), ([2, 1], [1, -1]), ([2], [-1])]):
            rows = {"t": [t] * len(values), "a": pa.array(values, pa.int64()), WEIGHT: pa.array(weights, pa.int32())}
            writer.write(pa.record_batch(rows))
            writer.flush(epoch)
    payloads = [payload for _, payload, _ in peer.wait(3)]
    assert [p and json.loads(p)["a"] for p in payloads] == [1, 2, b""]


def test_reader_and_writer_go_on_after_the_broker_was_away(tmp_path: Path) -> None:
    broker = MosquittoServer(tmp_path)
    broker.start()
    try:
        read_op, write_op = source("a BIGINT", url=broker.url, topic="t"), sink("a BIGINT", url=broker.url, topic="t")
        with (
            closing(CONNECTOR.open_source(read_op, 0, 1)) as reader,
            closing(CONNECTOR.open_sink(write_op, 0, 1)) as writer,
        ):
            writer.write(pa.record_batch({"a": pa.array([1], pa.int64())}))
            assert read_to(reader).rows == [{"a": 1}]
            broker.stop()
            read_to(reader, lambda r, _: "unreachable" in r.status().state)
            written = threading.Thread(target=writer.write, args=(pa.record_batch({"a": pa.array([2], pa.int64())}),))
            written.start()
            broker.restart()
            read_to(reader, lambda r, _: not r.status().state)
            written.join(20)
            # the writer may have been first, before the reader's subscription
            writer.write(pa.record_batch({"a": pa.array([3], pa.int64())}))
            assert {"a": 3} in read_to(reader).rows
    finally:
        broker.stop()


@pytest.mark.parametrize("how", ["wake", "close"])
def test_a_write_that_waits_for_a_broker_can_be_ended(how: str) -> None:
    writer = CONNECTOR.open_sink(sink("a BIGINT", host="127.0.0.1", port=str(free_port()), topic="t"), 0, 1)
    problems: list[str] = []

    def write() -> None:
        try:
            writer.write(pa.record_batch({"a": [1]}))
        except ConnectorError as problem:
            problems.append(problem.message)

    thread = threading.Thread(target=write)
    thread.start()
    getattr(writer, how)()
    thread.join(10)
    assert "closed" in problems[0]
    writer.close()


def test_threads_end_with_the_reader(mosquitto: MosquittoServer, mqtt_prefix: str) -> None:
    before = threading.active_count()
    for _ in range(3):
        reader = CONNECTOR.open_source(source("a BIGINT", url=mosquitto.url, topic=mqtt_prefix), 0, 1)
        reader.close()
        reader.close()
    assert threading.active_count() <= before


@pytest.mark.parametrize(
    ("op", "problem"),
    [
        (source("a BIGINT", topic="t"), "option 'url' is missing"),
        (source("a BIGINT", url="mqtt://h", host="h", topic="t"), "exclude each other"),
        (source("a BIGINT", url="http://h", topic="t"), "cannot be used as option 'url'"),
        (source("a BIGINT", url="mqtt://u:p@h", topic="t"), "holds a user name or password"),
        (source("a BIGINT", url="mqtt://h:99999", topic="t"), "port out of range"),
        (source("a BIGINT", url="mqtt://h", topic="a/#/b"), "not a topic filter"),
        (source("a BIGINT", url="mqtt://h", topic="a+"), "not a topic filter"),
        (source("a BIGINT", url="mqtt://h", topic=" , "), "option 'topic' is empty"),
        (source("a BIGINT", url="mqtt://h"), "needs option 'topic'"),
        (source("a BIGINT", url="mqtt://h", topic="t", qos="3"), "not one of"),
        (source("a BIGINT", url="mqtt://h", topic="t", keepalive="0"), "'keepalive' cannot be 0"),
        (source("a BIGINT", url="mqtts://h", topic="t", tls_ca_file="/nowhere"), "tls.* cannot be used"),
        (source("k VARCHAR", url="mqtt://h", topic="t", include=(("key", "k"),)), "nothing to INCLUDE as 'key'"),
        (source("t BIGINT", url="mqtt://h", topic="t", include=(("topic", "t"),)), "cannot be of type BIGINT"),
        (sink("a BIGINT", url="mqtt://h"), "option 'topic' is missing"),
        (sink("a BIGINT", url="mqtt://h", topic="a/+"), "not a topic to publish to"),
        (sink("a BIGINT", url="mqtt://h", topic_column="a"), "not a VARCHAR column"),
        (sink("a BIGINT", url="mqtt://h", topic="t", weighted=True), "FORMAT PLAIN cannot write a view"),
        (sink("a BIGINT", url="mqtt://h", topic="t", format="upsert", primary_key="a"), "needs a topic per key"),
    ],
)
def test_wrong_options_are_refused_at_create(op: SourceOp | SinkOp, problem: str) -> None:
    def check() -> None:
        registry.check(op)
        CONNECTOR.validate(op)

    with pytest.raises(SqlError, match=problem):
        check()
