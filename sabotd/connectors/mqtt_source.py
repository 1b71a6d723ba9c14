"""Reads MQTT topic filters: one task subscribes, or each of them to its share of a shared subscription."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Final

import aiomqtt
import numpy as np
import pyarrow as pa

from planner.task_spec import SourceOp
from sabot.errors import ConnectorError, SqlError
from sabotd.connectors.base import Position, SourceBatch, SourceStatus
from sabotd.connectors.mqtt_handover import MARK_PREFIX, Handover, Received, queue_into
from sabotd.connectors.mqtt_link import LinkSettings, MqttLink
from sabotd.connectors.options import read_int
from sabotd.connectors.payloads import Include, RecordAssembler

_OPEN_S: Final = 5.0
_FENCE_S: Final = 10.0
_FENCE_TRY_S: Final = 2.0
_SHARED: Final = "$share/"


def topic_filters(options: Mapping[str, str]) -> tuple[str, ...]:
    """Return the filters of option ``topic``.

    Raises
    ------
    SqlError
        One is not a filter.
    """
    filters = tuple(part.strip() for part in options["topic"].split(",") if part.strip())
    if not filters:
        msg = "option 'topic' is empty"
        raise SqlError(msg, hint="give topics or filters, as in topic = 'plant/+/temperature, alarms/#'")
    for text in filters:
        if not _is_filter(text):
            msg = f"{text!r} is not a topic filter"
            raise SqlError(msg, hint="'+' stands for one whole level, '#' for the rest, at the end only")
    return filters


def _is_filter(text: str) -> bool:
    levels = text.split("/")
    if levels[0] == "$share":
        if len(levels) < 3 or not levels[1] or {"+", "#"} & set(levels[1]):
            return False
        levels = levels[2:]
    whole = all(level in {"+", "#"} or not {"+", "#"} & set(level) for level in levels)
    return whole and "#" not in levels[:-1] and "\0" not in text and levels != [""] and len(text.encode()) < 65536


class MqttReader:
    """A `SourceReader` of topic filters. Its split is the task's number, its position the messages given out.

    Positions count from the start of this reader: a broker keeps no offsets.
    """

    def __init__(self, op: SourceOp, index: int, parallelism: int) -> None:
        filters = topic_filters(op.options)
        shared = all(f.startswith(_SHARED) for f in filters)
        self._active = index == 0 or shared
        self._filters = filters
        self._split = str(index)
        self._qos = read_int(op.options, "qos", 1) or 0
        self._assembler = RecordAssembler(op)
        self._taken = 0
        self._rows = self._bytes = self._bad_records = 0
        settings = LinkSettings.of(op.options, op.relation, f"-{index}" if shared and parallelism > 1 else "")
        self._mark_topic = f"{MARK_PREFIX}{settings.client_id}"
        self._can_mark = False
        self._pings: set[asyncio.Task[None]] = set()
        self._handover = Handover(settings.keepalive_s / 3, self._speak)
        self._link: MqttLink | None = None
        if self._active:
            self._link = MqttLink(settings, self._subscribe, queue_into(self._handover))
            # what is published after CREATE has returned is to be read
            self._link.tried.wait(_OPEN_S)

    def read(self, max_rows: int, timeout_s: float) -> SourceBatch | None:
        deadline_s = time.monotonic() + timeout_s
        messages = self._handover.take(max_rows, deadline_s)
        if not messages:
            if self._link is not None:
                self._link.check()
            return None
        offsets = _Offsets(self._taken, messages)
        payloads = pa.array([m.payload for m in messages], pa.binary())
        batch, errors = self._assembler.assemble(payloads, offsets, _include(messages))
        self._taken += len(messages)
        self._rows += batch.num_rows
        self._bytes += payloads.nbytes
        self._bad_records += len(errors)
        return SourceBatch(self._split, batch, errors) if batch.num_rows or errors else None

    def finished(self) -> bool:
        return False

    def position(self) -> Position:
        return {self._split: self._taken} if self._active else {}

    def fence(self) -> Position:
        """Return what the broker has handed to this client when a message of our own comes back behind it.

        Raises
        ------
        ConnectorError
            Retryable: no connection, or so much on the way that the end did not come in 10 s.
        """
        link = self._link
        if link is None:
            return {}
        deadline_s = time.monotonic() + _FENCE_S
        mark = f"{id(self):x}-{time.monotonic_ns():x}".encode()
        link.tried.wait(_FENCE_S / 2)
        with self._handover.expecting(mark) as wait:
            while (left_s := deadline_s - time.monotonic()) > 0:
                if self._can_mark:
                    # a broker with a full queue drops it: sent again
                    link.call(lambda client: client.publish(self._mark_topic, mark, qos=self._qos), left_s)
                else:
                    link.call(lambda client: client.unsubscribe(self._mark_topic), left_s)
                    self._handover.note(mark)
                if (count := wait(min(left_s, _FENCE_TRY_S))) is not None:
                    return {self._split: count}
        msg = f"cannot tell in {_FENCE_S:g} s what the mqtt broker at {link.where} holds"
        raise ConnectorError(msg, retryable=True, hint="the source is behind; try again later")

    def status(self) -> SourceStatus:
        state = self._link.state if self._link is not None else ""
        splits = (self._split,) if self._active else ()
        return SourceStatus(state, splits, self._rows, self._bytes, self._bad_records)

    def wake(self) -> None:
        self._handover.wake()

    def close(self) -> None:
        self._handover.close()
        if self._link is not None:
            self._link.close()

    async def _subscribe(self, client: aiomqtt.Client) -> None:
        for text in self._filters:
            granted = await client.subscribe(text, qos=self._qos)
            if _code(granted) >= 128:
                msg = f"mqtt broker refused the subscription to {text!r}"
                raise ConnectorError(msg, hint="the user may lack the permission", sqlstate="42501")
        self._can_mark = _code(await client.subscribe(self._mark_topic, qos=self._qos)) < 128

    def _speak(self) -> None:
        """Send something while reading is held up, so that the broker does not give up; in the connection's thread."""
        link = self._link
        if link is not None and (client := link.client) is not None:
            task = asyncio.get_running_loop().create_task(_ping(client, f"{self._mark_topic}/alive"))
            self._pings.add(task)
            task.add_done_callback(self._pings.discard)


async def _ping(client: aiomqtt.Client, topic: str) -> None:
    try:
        await client.unsubscribe(topic, timeout=float("inf"))
    except aiomqtt.MqttError:
        return  # the link notices by itself


def _code(granted: Sequence[object]) -> int:
    code = granted[0]
    return code if isinstance(code, int) else int(getattr(code, "value", 128))


class _Offsets(Sequence[str]):
    """Names messages ``topic:number``, when one is asked for."""

    def __init__(self, first: int, messages: Sequence[Received]) -> None:
        self._first = first
        self._messages = messages

    def __getitem__(self, i: int) -> str:  # type: ignore[override] # never a slice
        return f"{self._messages[i].topic}:{self._first + i}"

    def __len__(self) -> int:
        return len(self._messages)


def _include(messages: Sequence[Received]) -> Mapping[str, Include]:
    n = len(messages)
    return {
        "topic": lambda: pa.array([m.topic for m in messages], pa.string()),
        "payload": lambda: pa.array([m.payload for m in messages], pa.binary()),
        "qos": lambda: pa.array([m.qos for m in messages], pa.int32()),
        "retain": lambda: pa.array([m.retain for m in messages], pa.bool_()),
        "timestamp": lambda: pa.array(
            np.fromiter((m.time_ns // 1000 for m in messages), np.int64, n), pa.timestamp("us", tz="UTC")
        ),
    }
