"""What the README tells to paste works: its SQL against real brokers, its Python, and the examples."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import threading
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

import sabot
from sql_frontend.split import split_statements
from tests.support.fix_brokers import create_topic
from tests.support.fix_server import Server
from tests.support.servers import KafkaServer, MosquittoServer

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "README.md").read_text(encoding="utf-8")


def block(section: str, language: str) -> str:
    """Return the first code block of `language` under the title `section`."""
    found = re.search(rf"^#+ {section}\n.*?^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert found, (section, language)
    return found[1]


def statements(text: str) -> list[str]:
    return [piece.text for piece in split_statements(text)]


def test_the_first_statements(server: Server) -> None:
    results = [server.db.sql(s) for s in statements(block("Use it", "sql"))]
    rows, plan = results[-2].fetchall(), "\n".join(line for (line,) in results[-1].fetchall())
    assert sorted(rows) == [("cake", 1, 450), ("tea", 2, 600)]
    assert "HASH by item" in plan


def test_the_kafka_example(server: Server, kafka: KafkaServer) -> None:
    script = block("Kafka", "sql")
    assert script == (ROOT / "examples" / "kafka.sql").read_text(encoding="utf-8")
    orders, revenue = create_topic(kafka.bootstrap, "orders"), create_topic(kafka.bootstrap, "revenue")
    server.run(*statements(script.replace("localhost:9092", kafka.bootstrap)))
    feed = [line.encode() for line in block("Kafka", "sh").splitlines() if line.startswith("{")]
    assert len(feed) == 3
    orders.produce(feed)
    with server.db.subscribe("revenue") as changes:  # the window closes an epoch after its last row
        assert next(changes).num_rows == 1
    server.run("FLUSH")
    ((_, customer, count, amount),) = server.rows("SELECT * FROM revenue")
    assert (customer, count, float(str(amount))) == ("ada", 2, 15)
    (record,) = revenue.records()
    assert json.loads(record.key() or b"") == {"customer": "ada"}
    assert json.loads(record.value() or b"") == {
        "window_start": "2026-05-01 10:00:00",
        "customer": "ada",
        "orders": 2,
        "amount": 15.0,
    }


def test_the_mqtt_example(server: Server, mosquitto: MosquittoServer) -> None:
    script = block("MQTT", "sql")
    assert script == (ROOT / "examples" / "mqtt.sql").read_text(encoding="utf-8")
    server.run(*statements(script.replace("localhost:1883", f"127.0.0.1:{mosquitto.port}")))
    subscribed, alarmed, alarms = threading.Event(), threading.Event(), []

    def on_message(client: object, data: object, message: paho.MQTTMessage) -> None:
        alarms.append(json.loads(message.payload))
        alarmed.set()

    peer = paho.Client(CallbackAPIVersion.VERSION2)
    peer.on_message = on_message
    peer.on_connect = lambda *_: peer.subscribe("plant/alarms", 1)
    peer.on_subscribe = lambda *_: subscribed.set()
    peer.connect("127.0.0.1", mosquitto.port)
    peer.loop_start()
    try:
        assert subscribed.wait(20)
        for line in block("MQTT", "sh").splitlines():
            command, *words = shlex.split(line)
            assert command == "mosquitto_pub"
            options = dict(zip(words[::2], words[1::2], strict=True))
            peer.publish(options["-t"], options["-m"], 1).wait_for_publish(20)
        server.run("FLUSH")
        rows = server.rows("SELECT * FROM machines ORDER BY machine")
        assert rows == [("press1", 1, 81.5, 81.5), ("press2", 1, 60.0, 60.0)]
        assert alarmed.wait(20)
        assert alarms == [{"machine": "press1", "celsius": 81.5}]
    finally:
        peer.disconnect()
        peer.loop_stop()


def test_the_python_example(tmp_path: Path) -> None:
    done = run_python("-c", block("Python", "python"), folder=tmp_path)
    assert '["cake","tea"]' in re.sub(r"\s", "", done)
    assert "[[450,300]]" in re.sub(r"\s", "", done)


def test_the_client_program(shared_server: Server, tmp_path: Path) -> None:
    done = run_python(str(ROOT / "examples" / "python_client.py"), shared_server.db.url, folder=tmp_path)
    assert sorted(done.splitlines()[-4:]) == sorted(["+ cake 450", "+ tea 600", "- cake 450", "+ cake 900"])


def run_python(*arguments: str, folder: Path) -> str:
    root = str(Path(sabot.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONPATH": root},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
