"""Kafka sources against a real broker: where they start and end, what they include, what they survive."""

from __future__ import annotations

import datetime as dt
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import psutil
import pytest
from confluent_kafka import Producer

from sabot.errors import ConnectorError, SqlError
from sabotd.connectors import registry
from sabotd.connectors.kafka import CONNECTOR
from tests.support.fix_brokers import Topic, create_topic, read_to
from tests.support.servers import KafkaServer, free_port

NewTopicFn = Callable[..., Topic]


def numbers(start: int, end: int) -> Iterator[bytes]:
    return (b'{"a":%d}' % i for i in range(start, end))


def test_every_partition_is_read_once_by_any_number_of_tasks(new_topic: NewTopicFn) -> None:
    topic = new_topic(5)
    for partition in range(5):
        topic.produce(numbers(partition * 100, partition * 100 + 100), partition=partition)
    for parallelism in (1, 2, 7):
        seen = []
        for index in range(parallelism):
            with closing(CONNECTOR.open_source(topic.source("a BIGINT"), index, parallelism)) as reader:
                got = read_to(reader)
                assert reader.status().splits == tuple(str(p) for p in range(index, 5, parallelism))
                for rows in got.by_split.values():
                    assert rows == sorted(rows, key=lambda row: str(row["a"]).zfill(9))
                seen += [row["a"] for row in got.rows]
        assert sorted(seen) == list(range(500))


def test_small_reads_give_the_same_rows_and_exact_positions(new_topic: NewTopicFn) -> None:
    topic = new_topic(2)
    for partition in range(2):
        topic.produce(numbers(0, 50), partition=partition)
    with closing(CONNECTOR.open_source(topic.source("a BIGINT"), 0, 1)) as reader:
        assert reader.position() == {}
        counts = {"0": 0, "1": 0}
        while sum(counts.values()) < 100:
            batch = reader.read(7, 1)
            if batch is not None:
                assert batch.batch.num_rows <= 7
                assert batch.batch.column("a").to_pylist()[0] == counts[batch.split]
                counts[batch.split] += batch.batch.num_rows
                assert reader.position()[batch.split] == counts[batch.split]


def test_bad_records_and_tombstones_leave_the_others_alone(new_topic: NewTopicFn) -> None:
    topic = new_topic()
    topic.produce([b'{"a":1}', b'{"a":', None, b'[{"a":2},{"a":3}]', b'{"a":4}'])
    with closing(CONNECTOR.open_source(topic.source("a BIGINT"), 0, 1)) as reader:
        got = read_to(reader)
        assert [row["a"] for row in got.rows] == [1, 2, 3, 4]
        assert [(e.offset, e.payload) for e in got.errors] == [("0:1", b'{"a":')]
        assert reader.position() == {"0": 5}
        assert reader.status().bad_records == 1


def test_include_gives_what_the_broker_says_of_each_record(new_topic: NewTopicFn) -> None:
    topic = new_topic(2)
    topic.produce([b'[{"a":1},{"a":2}]'], partition=1, key=b"k\xff", timestamp=1_700_000_000_123, headers=[("h", b"v")])
    topic.produce([b'{"a":3}'], partition=1, timestamp=1_700_000_000_456)
    source = topic.source(
        "k VARCHAR, a BIGINT, p INTEGER, o BIGINT, t TIMESTAMP WITH TIME ZONE, h JSON, raw VARCHAR",
        include=[
            ("key", "k"), ("partition", "p"), ("offset", "o"), ("timestamp", "t"), ("headers", "h"), ("payload", "raw"),
        ],
    )  # fmt: skip
    CONNECTOR.validate(source)
    with closing(CONNECTOR.open_source(source, 0, 1)) as reader:
        rows = read_to(reader).rows
    time_of = dt.datetime(2023, 11, 14, 22, 13, 20, 123000, tzinfo=dt.UTC)
    header = json.dumps([{"key": "h", "value": "v"}])
    first = {"k": "k\\xff", "p": 1, "o": 0, "t": time_of, "h": header, "raw": '[{"a":1},{"a":2}]'}
    second = {"k": None, "p": 1, "o": 1, "t": time_of.replace(microsecond=456000), "h": None, "raw": '{"a":3}'}
    assert rows == [first | {"a": 1}, first | {"a": 2}, second | {"a": 3}]


def test_only_included_columns_may_be_read(new_topic: NewTopicFn) -> None:
    topic = new_topic()
    topic.produce(numbers(0, 3))
    with closing(CONNECTOR.open_source(topic.source("o BIGINT", include=[("offset", "o")]), 0, 1)) as reader:
        assert read_to(reader).rows == [{"o": 0}, {"o": 1}, {"o": 2}]


def test_latest_reads_what_comes_after_the_source_was_opened(new_topic: NewTopicFn) -> None:
    topic = new_topic(2)
    topic.produce(numbers(0, 10))
    with closing(CONNECTOR.open_source(topic.source("a BIGINT", scan_startup_mode="latest"), 0, 1)) as reader:
        topic.produce(numbers(10, 12))
        topic.produce(numbers(12, 13), partition=1)
        assert sorted(str(row["a"]) for row in read_to(reader).rows) == ["10", "11", "12"]


def test_timestamp_starts_at_the_first_record_not_before_it(new_topic: NewTopicFn) -> None:
    topic = new_topic()
    for i in range(4):
        topic.produce([b'{"a":%d}' % i], timestamp=1000 + i)
    for millis, first in ((1002, 2), (0, 0), (5000, 4)):
        source = topic.source("a BIGINT", scan_startup_mode="timestamp", scan_startup_timestamp_millis=str(millis))
        with closing(CONNECTOR.open_source(source, 0, 1)) as reader:
            assert [row["a"] for row in read_to(reader).rows] == list(range(first, 4))


def test_a_bounded_source_ends_where_the_topic_ended_when_it_started(new_topic: NewTopicFn) -> None:
    topic = new_topic(3)
    topic.produce(numbers(0, 100))
    topic.produce(numbers(100, 150), partition=1)
    source = topic.source("a BIGINT", scan_bounded_mode="latest-offset")
    assert registry.is_finite(source)
    readers = [CONNECTOR.open_source(source, index, 4) for index in range(4)]
    assert [reader.fence() for reader in readers] == [{"0": 100}, {"1": 50}, {"2": 0}, {}]
    topic.produce(numbers(1000, 1100))
    seen = []
    for reader in readers:
        seen += [row["a"] for row in read_to(reader, lambda r, _: r.finished(), max_rows=30).rows]
        assert reader.position() == reader.fence()
        reader.close()
    assert sorted(seen) == list(range(150))


def test_the_end_is_reached_behind_aborted_and_committed_transactions(new_topic: NewTopicFn) -> None:
    topic = new_topic()
    config = {"bootstrap.servers": topic.bootstrap, "transactional.id": topic.name, "log_level": 0}
    producer = Producer(config)
    producer.init_transactions(20)
    for i, end in enumerate((producer.commit_transaction, producer.abort_transaction)):
        producer.begin_transaction()
        producer.produce(topic.name, b'{"a":%d}' % i)
        producer.flush(20)
        end(20)
    with closing(CONNECTOR.open_source(topic.source("a BIGINT"), 0, 1)) as reader:
        assert reader.fence() == {"0": 4}  # two records, two markers
        assert read_to(reader).rows == [{"a": 0}]
        # an open transaction is not yet there to be waited for
        producer.begin_transaction()
        producer.produce(topic.name, b'{"a":9}')
        producer.flush(20)
        assert reader.fence() == {"0": 4}
        assert reader.read(10, 0) is None
        producer.commit_transaction(20)  # its marker may come a moment after
        assert read_to(reader, lambda _, got: len(got.rows) == 1).rows == [{"a": 9}]
        source = topic.source("a BIGINT", scan_bounded_mode="latest-offset")
        with closing(CONNECTOR.open_source(source, 0, 1)) as bounded:
            assert read_to(bounded, lambda r, _: r.finished()).rows == [{"a": 0}, {"a": 9}]


def test_new_partitions_are_found_and_read_from_their_beginning(new_topic: NewTopicFn) -> None:
    topic = new_topic()
    source = topic.source("a BIGINT", scan_startup_mode="latest")
    with closing(CONNECTOR.open_source(source, 0, 1)) as reader:
        topic.add_partitions(2)
        topic.produce(numbers(0, 3), partition=1)
        # a fence asks the broker, and so is enough to find it
        assert [row["a"] for row in read_to(reader).rows] == [0, 1, 2]
        assert reader.status().splits == ("0", "1")


def test_wake_ends_a_waiting_read(new_topic: NewTopicFn) -> None:
    topic = new_topic()
    with closing(CONNECTOR.open_source(topic.source("a BIGINT"), 0, 1)) as reader:
        read_to(reader)
        done = threading.Event()
        thread = threading.Thread(target=lambda: (reader.read(10, 60), done.set()))
        thread.start()
        reader.wake()
        assert done.wait(10)
        thread.join()


def test_a_topic_that_is_not_there_is_refused_at_create(kafka: KafkaServer) -> None:
    missing = Topic("no-such-topic", kafka.bootstrap)
    for op in (missing.source("a BIGINT"), missing.sink("a BIGINT")):
        with pytest.raises(ConnectorError, match="topic 'no-such-topic' does not exist"):
            CONNECTOR.validate(op)


def test_a_topic_made_later_is_read_as_soon_as_it_is_there(kafka: KafkaServer) -> None:
    name = f"later-{time.time_ns()}"
    with closing(CONNECTOR.open_source(Topic(name, kafka.bootstrap).source("a BIGINT"), 0, 1)) as reader:
        read_to(reader, lambda r, _: "does not exist" in r.status().state)
        create_topic(kafka.bootstrap, name).produce(numbers(0, 2))
        assert len(read_to(reader, lambda _, got: len(got.rows) == 2).rows) == 2
        assert reader.status().state == ""


def test_an_unreachable_broker_is_told_and_costs_no_cpu(capfd: pytest.CaptureFixture[str]) -> None:
    topic = Topic("t", f"127.0.0.1:{free_port()}")
    CONNECTOR.validate(topic.source("a BIGINT"))  # it may come later
    with closing(CONNECTOR.open_source(topic.source("a BIGINT"), 0, 1)) as reader:
        assert reader.status().splits == ()
        read_to(reader, lambda r, _: "unreachable" in r.status().state)
        assert f"broker unreachable at {topic.bootstrap}" in reader.status().state
        before = psutil.Process().cpu_times()
        assert reader.read(10, 1) is None
        after = psutil.Process().cpu_times()
        assert (after.user + after.system) - (before.user + before.system) < 0.3
        with pytest.raises(ConnectorError, match="cannot tell where topic 't' ends") as caught:
            reader.fence()
        assert caught.value.retryable
    assert capfd.readouterr().err == ""


def test_refused_credentials_fail_for_good(kafka: KafkaServer, new_topic: NewTopicFn) -> None:
    topic = new_topic()
    topic.produce(numbers(0, 3))
    sasl = Topic(topic.name, kafka.sasl_bootstrap)
    common = {"properties_security_protocol": "SASL_PLAINTEXT", "properties_sasl_mechanism": "PLAIN"}
    user = {"properties_sasl_username": kafka.username}
    right = sasl.source("a BIGINT", **common, **user, properties_sasl_password=kafka.password)
    CONNECTOR.validate(right)
    with closing(CONNECTOR.open_source(right, 0, 1)) as reader:
        assert len(read_to(reader).rows) == 3
    wrong = sasl.source("a BIGINT", **common, **user, properties_sasl_password="wrong")
    with closing(CONNECTOR.open_source(wrong, 0, 1)) as reader, pytest.raises(ConnectorError, match="authentication"):
        read_to(reader, lambda _, __: False)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"properties_no_such": "1"}, "no such configuration property"),
        ({"properties_plugin_library_paths": "x"}, "not allowed"),
        ({"scan_startup_mode": "timestamp"}, "scan.startup.timestamp.millis' is missing"),
        ({"scan_startup_mode": "latest", "scan_startup_timestamp_millis": "1"}, "has no meaning"),
        ({"scan_startup_mode": "sometimes"}, "not one of"),
        ({"scan_startup": "1"}, "not known to connector 'kafka'"),
        ({"primary_key": "a"}, "not for a source"),
    ],
)
def test_wrong_options_are_refused_at_create(new_topic: NewTopicFn, options: dict[str, str], problem: str) -> None:
    source = new_topic().source("a BIGINT", **options)

    def check() -> None:
        registry.check(source)
        CONNECTOR.validate(source)

    with pytest.raises(SqlError, match=problem):
        check()
