"""From an event in Kafka to a subscriber that sees it counted: the delay of every event, at a steady rate.

    python bench/latency.py [--rate 50000] [--seconds 20]

A producer of its own process sends events that carry the moment they were sent, each as soon as it is due. A
materialized view counts them by that moment; a SUBSCRIBE sees the counts grow. An event's delay is the time between its
moment and the arrival of the change that counts it. Needs Kafka (`make services`).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from confluent_kafka.admin import AdminClient, NewTopic

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import sabot  # noqa: E402
from tests.support.servers import KafkaServer  # noqa: E402

_PRODUCER = """
import sys, time
from confluent_kafka import Producer
servers, rate, seconds = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
producer = Producer({"bootstrap.servers": servers, "linger.ms": 5, "queue.buffering.max.messages": 1000000})
begin, sent = time.time(), 0
while (now := time.time()) < begin + seconds:
    due = int((now - begin) * rate)
    moment = int(now * 1000)
    for n in range(sent, due):
        producer.produce("events", b'{"k":%d,"ms":%d}' % (n % 1000, moment))
    sent = max(sent, due)
    producer.poll(0)
    time.sleep(0.002)
producer.flush()
print(sent)
"""


def main() -> None:
    """Run and print the percentiles."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=50_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sabot-latency-") as folder:
        kafka = KafkaServer(Path(folder))
        kafka.start()
        try:
            with sabot.connect(agents=2) as db:
                delays, counts, sent = measure(db, kafka.bootstrap, args.rate, args.seconds)
        finally:
            kafka.stop()
    order = np.argsort(delays)
    share = np.cumsum(counts[order]) / counts.sum()
    marks = {p: delays[order][np.searchsorted(share, p / 100)] for p in (50, 90, 99, 99.9)}
    figures = ", ".join(f"p{p:g} {ms:.0f} ms" for p, ms in marks.items())
    print(f"{sent:,} events at {args.rate:,} a second, {counts.sum():,} seen: {figures}, most {delays.max():.0f} ms")


def measure(db: sabot.Connection, servers: str, rate: int, seconds: float) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the delays seen (ms), how many events each stands for, and how many were sent."""
    admin = AdminClient({"bootstrap.servers": servers})
    topic = admin.create_topics([NewTopic("events", num_partitions=2)])
    topic["events"].result(30)
    for statement in (
        f"""CREATE SOURCE events (k BIGINT, ms BIGINT) WITH (connector = 'kafka', topic = 'events',
            properties.bootstrap.servers = '{servers}', scan.startup.mode = 'latest') FORMAT PLAIN ENCODE JSON""",
        "CREATE MATERIALIZED VIEW counted AS SELECT ms, count(*) AS n FROM events GROUP BY ms",
        "FLUSH",
    ):
        db.execute(statement).close()
    delays: list[np.ndarray] = []
    counts: list[np.ndarray] = []
    seen, sent = 0, -1
    with db.subscribe("counted", snapshot=False) as changes:
        producer = subprocess.Popen(
            [sys.executable, "-c", _PRODUCER, servers, str(rate), str(seconds)], stdout=subprocess.PIPE, text=True
        )
        begin = time.time()
        for batch in changes:
            now = time.time() * 1000
            weight = batch.column("__weight").to_numpy(zero_copy_only=False)
            grown = weight * batch.column("n").cast(pa.int64()).to_numpy(zero_copy_only=False)
            moments, where = np.unique(batch.column("ms").to_numpy(zero_copy_only=False), return_inverse=True)
            fresh = np.bincount(where, weights=grown).astype(np.int64)
            if begin + 2 < now / 1000:  # the first seconds warm up
                delays.append(now - moments[fresh > 0])
                counts.append(fresh[fresh > 0])
            seen += int(fresh.sum())
            if sent < 0 and producer.poll() is not None:
                assert producer.stdout is not None
                sent = int(producer.stdout.read())
                producer.stdout.close()
            if 0 <= sent <= seen:
                break
    return np.concatenate(delays), np.concatenate(counts), sent


if __name__ == "__main__":
    main()
