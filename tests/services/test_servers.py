"""The servers that tests stand on answer, each in its own protocol."""

from __future__ import annotations

import psycopg
from confluent_kafka.admin import AdminClient

from tests.support.servers import KafkaServer, MosquittoServer, PostgresServer


def test_postgresql_answers(postgres: PostgresServer) -> None:
    with psycopg.connect(postgres.dsn) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("sabot",)
    with psycopg.connect(host=str(postgres.socket_dir), port=postgres.port, user="sabot", dbname="postgres") as local:
        assert local.execute("SELECT 1").fetchone() == (1,)


def test_kafka_answers(kafka: KafkaServer) -> None:
    brokers = AdminClient({"bootstrap.servers": kafka.bootstrap}).list_topics(timeout=10).brokers
    assert [broker.port for broker in brokers.values()] == [kafka.port]


def test_mosquitto_answers(mosquitto: MosquittoServer) -> None:
    assert mosquitto.process is not None
    assert mosquitto.process.poll() is None
