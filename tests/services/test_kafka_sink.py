"""Kafka sinks against a real broker: what arrives, in which shape, and what a failure looks like."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest

from planner.task_spec import SinkOp
from sabot.errors import ConnectorError, SabotError, SqlError
from sabot.ids import WEIGHT
from sabotd.connectors import registry
from sabotd.connectors.kafka import CONNECTOR
from tests.support.fix_brokers import Topic, create_topic, read_to
from tests.support.servers import KafkaServer, free_port

NewTopicFn = Callable[..., Topic]


def weighted(rows: list[tuple[int, str, int]]) -> pa.RecordBatch:
    """Return rows of (k, v, weight)."""
    k, v, w = zip(*rows, strict=True)
    return pa.record_batch({"k": pa.array(k, pa.int64()), "v": list(v), WEIGHT: pa.array(w, pa.int32())})


def plain(start: int, end: int) -> pa.RecordBatch:
    return pa.record_batch({"k": pa.array(range(start, end), pa.int64()), "v": [f"v{i}" for i in range(start, end)]})


def test_plain_rows_arrive_in_order_when_flush_returns(new_topic: NewTopicFn) -> None:
    topic = new_topic()
    sink = topic.sink("k BIGINT, v VARCHAR", key="k")
    CONNECTOR.validate(sink)
    with closing(CONNECTOR.open_sink(sink, 0, 1)) as writer:
        writer.write(plain(0, 5000))
        writer.flush(1)
        records = topic.records()
        assert [json.loads(r.value()) for r in records] == plain(0, 5000).to_pylist()
        assert [json.loads(r.key()) for r in records] == [{"k": i} for i in range(5000)]
        writer.write(plain(5000, 5001))
        writer.flush(2)
        writer.flush(3)
        assert len(topic.records()) == 5001


def test_a_text_key_is_the_text_of_its_column(new_topic: NewTopicFn) -> None:
    topic = new_topic()
    with closing(CONNECTOR.open_sink(topic.sink("k BIGINT, v VARCHAR", key="v", key_encode="text"), 0, 1)) as writer:
        writer.write(plain(0, 2))
        writer.flush(1)
    assert [r.key() for r in topic.records()] == [b"v0", b"v1"]


def test_upsert_tells_the_last_row_of_a_key_and_deletions(new_topic: NewTopicFn) -> None:
    topic = new_topic()
    sink = topic.sink("k BIGINT, v VARCHAR", weighted=True, primary_key="k", format="upsert")
    CONNECTOR.validate(sink)
    with closing(CONNECTOR.open_sink(sink, 0, 1)) as writer:
        writer.write(weighted([(1, "a", 1), (2, "b", 1)]))
        writer.flush(1)
        # the new row before the old one, a row that comes and goes, a deletion
        writer.write(weighted([(1, "A", 1), (3, "c", 1), (2, "b", -1)]))
        writer.write(weighted([(1, "a", -1), (3, "c", -1)]))
        writer.flush(2)
    told = [(json.loads(r.key())["k"], r.value() and json.loads(r.value())["v"]) for r in topic.records()]
    assert told == [(1, "a"), (2, "b"), (1, "A"), (2, None)]


def test_debezium_tells_before_and_after(new_topic: NewTopicFn) -> None:
    topic = new_topic()
    sink = topic.sink("k BIGINT, v VARCHAR", weighted=True, primary_key="k", format="debezium")
    with closing(CONNECTOR.open_sink(sink, 0, 1)) as writer:
        writer.write(weighted([(1, "a", 1)]))
        writer.flush(1)
        writer.write(weighted([(1, "b", 1), (1, "a", -1)]))
        writer.flush(2)
        writer.write(weighted([(1, "b", -1)]))
        writer.flush(3)
    told = [json.loads(r.value()) for r in topic.records()]
    a, b = {"k": 1, "v": "a"}, {"k": 1, "v": "b"}
    assert [(t["op"], t["before"], t["after"]) for t in told] == [("c", None, a), ("u", a, b), ("d", b, None)]


def test_forced_append_only_leaves_deletions_out(new_topic: NewTopicFn) -> None:
    topic = new_topic()
    sink = topic.sink("k BIGINT, v VARCHAR", weighted=True, force_append_only="true")
    with closing(CONNECTOR.open_sink(sink, 0, 1)) as writer:
        writer.write(weighted([(1, "a", -1), (1, "b", 1), (2, "c", 2)]))
        writer.flush(1)
    assert [json.loads(r.value())["v"] for r in topic.records()] == ["b", "c", "c"]


def test_what_a_sink_writes_a_source_reads(new_topic: NewTopicFn) -> None:
    topic = new_topic(3)
    with closing(CONNECTOR.open_sink(topic.sink("k BIGINT, v VARCHAR", key="k"), 0, 1)) as writer:
        writer.write(plain(0, 300))
        writer.flush(1)
    with closing(CONNECTOR.open_source(topic.source("k BIGINT, v VARCHAR"), 0, 1)) as reader:
        got = read_to(reader)
    assert len(got.by_split) == 3
    assert sorted(got.rows, key=lambda row: int(str(row["k"]))) == plain(0, 300).to_pylist()


def test_a_record_that_is_too_large_fails_the_sink(new_topic: NewTopicFn) -> None:
    topic = new_topic(max_message_bytes="2000")
    with closing(CONNECTOR.open_sink(topic.sink("v VARCHAR"), 0, 1)) as writer:
        writer.write(pa.record_batch({"v": ["x" * 5000]}))
        with pytest.raises(ConnectorError, match="did not take a record"):
            writer.flush(1)


@pytest.mark.parametrize("how", ["wake", "close"])
def test_a_flush_that_waits_for_a_broker_can_be_ended(how: str) -> None:
    topic = Topic("t", f"127.0.0.1:{free_port()}")
    writer = CONNECTOR.open_sink(topic.sink("v VARCHAR"), 0, 1)
    writer.write(pa.record_batch({"v": ["x"]}))
    problems: list[SabotError] = []

    def flush() -> None:
        try:
            writer.flush(1)
        except SabotError as problem:
            problems.append(problem)

    thread = threading.Thread(target=flush)
    thread.start()
    while "unreachable" not in writer.status().state:
        threading.Event().wait(0.01)
    assert thread.is_alive()
    getattr(writer, how)()
    thread.join(10)
    assert "stopped" in problems[0].message
    writer.close()


def test_an_epoch_without_rows_does_not_make_a_broker_reachable() -> None:
    with closing(CONNECTOR.open_sink(Topic("t", "127.0.0.1:1").sink("k BIGINT, v VARCHAR"), 0, 1)) as writer:
        for epoch in range(1, 1000):
            writer.flush(epoch)
            if "unreachable" in writer.status().state:
                break
            threading.Event().wait(0.01)
        assert "unreachable" in writer.status().state


@pytest.mark.parametrize(
    ("columns", "options", "problem"),
    [
        ("k BIGINT", {"weighted": True}, "FORMAT PLAIN cannot write a view whose rows change"),
        ("k BIGINT", {"weighted": True, "format": "upsert"}, "FORMAT UPSERT needs a key"),
        ("k BIGINT", {"format": "avro"}, "has no FORMAT AVRO"),
        ("k BIGINT", {"key": "nope"}, "key column 'nope' is not in the sink"),
        ("k BIGINT, v BIGINT", {"key": "k, v", "key_encode": "text"}, "takes one key column"),
        ("k BIGINT", {"scan_startup_mode": "latest"}, "not for a sink"),
    ],
)
def test_wrong_sinks_are_refused_at_create(columns: str, options: dict[str, object], problem: str) -> None:
    sink: SinkOp = Topic("t", "127.0.0.1:1").sink(columns, **options)  # type: ignore[arg-type]

    def check() -> None:
        registry.check(sink)
        CONNECTOR.validate(sink)

    with pytest.raises(SqlError, match=problem):
        check()


def test_reader_and_writer_go_on_after_the_broker_was_away(tmp_path: Path) -> None:
    """Starts a broker of its own and takes it down: some seconds."""
    broker = KafkaServer(tmp_path)
    broker.start()
    try:
        topic = create_topic(broker.bootstrap, "t")
        sink, source = topic.sink("k BIGINT, v VARCHAR"), topic.source("k BIGINT")
        with closing(CONNECTOR.open_source(source, 0, 1)) as reader, closing(CONNECTOR.open_sink(sink, 0, 1)) as writer:
            writer.write(plain(0, 10))
            writer.flush(1)
            assert len(read_to(reader).rows) == 10
            broker.stop()
            writer.write(plain(10, 20))
            read_to(reader, lambda r, _: "unreachable" in r.status().state)
            broker.restart()
            writer.flush(2)
            assert writer.status().state == ""
            got = read_to(reader, lambda r, got: len(got.rows) >= 10 and not r.status().state)
            assert [row["k"] for row in got.rows] == list(range(10, 20))
            assert reader.fence() == reader.position() == {"0": 20}
    finally:
        broker.stop()


def client_threads() -> int:
    """Return how many threads librdkafka has in this process."""
    return sum(path.read_text().startswith("rdk:") for path in Path("/proc/self/task").glob("*/comm"))


def test_readers_and_writers_leave_no_threads(new_topic: NewTopicFn) -> None:
    topic = new_topic()
    before = client_threads()
    writer = CONNECTOR.open_sink(topic.sink("k BIGINT, v VARCHAR"), 0, 1)
    writer.write(plain(0, 3))
    writer.flush(1)
    reader = CONNECTOR.open_source(topic.source("k BIGINT"), 0, 1)
    read_to(reader)
    assert client_threads() > before
    for each in (reader, writer, reader, writer):
        each.close()
    assert client_threads() == before
