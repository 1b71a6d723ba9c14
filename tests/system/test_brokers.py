"""Kafka and MQTT through the whole system: topics in, topics out, brokers that are away."""

from __future__ import annotations

import json
import threading
import uuid
from collections import Counter

import paho.mqtt.client as paho
import psutil
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

import sabot
from tests.support.fix_server import Server
from tests.support.servers import KafkaServer, MosquittoServer, free_port


def make_topic(kafka: KafkaServer, partitions: int) -> str:
    name = f"t-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.create_topics([NewTopic(name, num_partitions=partitions)])[name].result(30)
    return name


def produce(kafka: KafkaServer, topic: str, rows: list[dict[str, object]]) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for i, row in enumerate(rows):
        producer.produce(topic, json.dumps(row), str(i))
    assert producer.flush(30) == 0


def consume(kafka: KafkaServer, topic: str, count: int) -> list[dict[str, object]]:
    consumer = Consumer(
        {"bootstrap.servers": kafka.bootstrap, "group.id": uuid.uuid4().hex, "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([topic])
    got: list[dict[str, object]] = []
    while len(got) < count:
        message = consumer.poll(30)
        assert message is not None, f"{len(got)} of {count} came"
        assert message.error() is None
        got.append(json.loads(message.value() or b"null"))
    consumer.close()
    return got


def kafka_source(kafka: KafkaServer, topic: str) -> str:
    return f"""CREATE SOURCE orders (customer VARCHAR, amount BIGINT)
        WITH (connector = 'kafka', topic = '{topic}', properties.bootstrap.servers = '{kafka.bootstrap}',
              scan.startup.mode = 'earliest') FORMAT PLAIN ENCODE JSON"""


def test_a_topic_becomes_a_view_and_flush_is_a_fence(server: Server, kafka: KafkaServer) -> None:
    topic = make_topic(kafka, 3)
    server.run(
        kafka_source(kafka, topic),
        """CREATE MATERIALIZED VIEW totals AS
           SELECT customer, count(*) AS n, sum(amount) AS a FROM orders GROUP BY customer""",
    )
    truth: Counter[str] = Counter()
    for round_ in range(4):
        rows = [{"customer": f"c{i % 5}", "amount": i + round_} for i in range(500)]
        for row in rows:
            truth[str(row["customer"])] += int(str(row["amount"]))
        produce(kafka, topic, rows)
        server.run("FLUSH")
        assert {c: int(str(a)) for c, _, a in server.rows("SELECT * FROM totals")} == truth


def test_a_topic_flows_into_another(server: Server, kafka: KafkaServer) -> None:
    source, target = make_topic(kafka, 2), make_topic(kafka, 1)
    produce(kafka, source, [{"customer": f"c{i % 3}", "amount": i} for i in range(300)])
    server.run(
        kafka_source(kafka, source),
        f"""CREATE SINK big AS SELECT customer, amount FROM orders WHERE amount >= 250
            WITH (connector = 'kafka', topic = '{target}', properties.bootstrap.servers = '{kafka.bootstrap}')
            FORMAT PLAIN ENCODE JSON""",
        "FLUSH",
    )
    got = consume(kafka, target, 50)
    assert Counter((r["customer"], r["amount"]) for r in got) == Counter((f"c{i % 3}", i) for i in range(250, 300))


def test_mqtt_topics_become_a_view_and_a_sink(server: Server, mosquitto: MosquittoServer) -> None:
    base = f"plant-{uuid.uuid4().hex[:8]}"
    where = f"host = '127.0.0.1', port = '{mosquitto.port}'"
    alarms: list[str] = []
    arrived = threading.Event()
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)

    def on_message(_: object, __: object, message: paho.MQTTMessage) -> None:
        alarms.append(message.payload.decode())
        arrived.set()

    client.on_message = on_message
    client.connect("127.0.0.1", mosquitto.port)
    client.subscribe(f"{base}/alarm", 1)
    client.loop_start()
    server.run(
        f"""CREATE SOURCE sensors (celsius DOUBLE) INCLUDE topic AS topic
            WITH (connector = 'mqtt', {where}, topic = '{base}/+/temperature', qos = '1') FORMAT PLAIN ENCODE JSON""",
        "CREATE MATERIALIZED VIEW hottest AS SELECT topic, max(celsius) AS celsius FROM sensors GROUP BY topic",
        f"""CREATE SINK alarm AS SELECT topic, celsius FROM sensors WHERE celsius > 90
            WITH (connector = 'mqtt', {where}, topic = '{base}/alarm', qos = '1') FORMAT PLAIN ENCODE JSON""",
        "FLUSH",  # subscribed now
    )
    for oven, payload in (("a", '{"celsius": 20.5}'), ("a", '[{"celsius": 99.5}, {"celsius": 30}]'), ("b", "{")):
        client.publish(f"{base}/{oven}/temperature", payload, 1).wait_for_publish(30)
    server.run("FLUSH")
    assert server.rows("SELECT * FROM hottest") == [(f"{base}/a/temperature", 99.5)]
    assert arrived.wait(30)
    assert json.loads(alarms[0]) == {"topic": f"{base}/a/temperature", "celsius": 99.5}
    errors = server.rows("SELECT payload FROM sabot_errors WHERE job = 'mv:hottest' AND source = 'sensors'")
    assert errors == [("{",)]
    client.loop_stop()
    client.disconnect()


def test_a_broker_that_is_away_is_told_and_costs_nothing(server: Server) -> None:
    port = free_port()
    server.run(
        f"""CREATE SOURCE orders (customer VARCHAR) WITH (connector = 'kafka', topic = 'x',
            properties.bootstrap.servers = '127.0.0.1:{port}') FORMAT PLAIN ENCODE JSON""",
        f"""CREATE SOURCE sensors (celsius DOUBLE)
            WITH (connector = 'mqtt', host = '127.0.0.1', port = '{port}', topic = 'x') FORMAT PLAIN ENCODE JSON""",
        "CREATE MATERIALIZED VIEW k AS SELECT count(*) AS n FROM orders",
        "CREATE MATERIALIZED VIEW m AS SELECT count(*) AS n FROM sensors",
        "CREATE TABLE t (k INT)",
        "CREATE MATERIALIZED VIEW others AS SELECT count(*) AS n FROM t",
        "INSERT INTO t VALUES (1)",
    )
    told: dict[str, str] = {}
    while not (told.get("mv:k") and told.get("mv:m")):
        told = dict(server.db.sql("SELECT job, message FROM sabot_catalog.jobs").fetchall())
    assert str(port) in told["mv:k"]
    assert str(port) in told["mv:m"]
    states = dict(server.db.sql("SELECT job, state FROM sabot_catalog.jobs").fetchall())
    assert set(states.values()) == {"RUNNING"}
    with pytest.raises(sabot.Error, match="cannot tell"):
        server.run("FLUSH")
    daemon = psutil.Process(server.pid)
    agents = daemon.children(recursive=True)

    def used() -> float:
        return sum(sum(p.cpu_times()[:2]) for p in agents)

    before = used()
    threading.Event().wait(3)  # CPU time is what is asked for: it has to pass
    assert used() - before < 0.6, "no busy loop"
    ((n,),) = server.rows("SELECT n FROM others")
    assert n == 1, "a table's view is not held up by the others"
