"""The writing end of an edge: one upstream task's rows to the channels of its downstream tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa

from cython_shuffle.batcher import Batcher
from cython_shuffle.channel import Channel
from cython_shuffle.edge import Edge
from cython_shuffle.frames import Barrier
from cython_shuffle.heavy_keys import HEAVIEST, HeavyKeys
from cython_shuffle.hold import WriterPlace
from cython_shuffle.partitioner import RebalancePartitioner
from cython_shuffle.schema_check import SchemaCheck
from sabot.errors import ShuffleError


class ShuffleWriter:
    """Partitions, gathers small batches, and puts frames into channels. For one thread; `abort` from any.

    Within a channel rows keep the order in which they were written.
    """

    def __init__(self, edge: Edge, upstream_task: str, channels: Mapping[str, Channel], round_bytes: int) -> None:
        self.edge_id = edge.info.edge_id
        self.upstream_task = upstream_task
        # a broadcast goes once to each agent: several tasks there share a channel
        self._channels = tuple(dict.fromkeys(channels.values()))
        self._channel_of = {task: self._channels.index(channel) for task, channel in channels.items()}
        places = list(self._channel_of.values())
        self._part_of = [places.index(i) for i in range(len(self._channels))]
        self._check = SchemaCheck(edge.info.schema, f"edge {self.edge_id!r}")
        self._partitioner = edge.partitioner(edge.info.upstream.index(upstream_task))
        keys = edge.info.keys if edge.info.kind == "HASH" else ()
        self._heavy_keys = HeavyKeys(edge.info.schema, keys) if keys else None
        self._batcher = Batcher(round_bytes)
        self._rows = [0] * len(self._channels)
        self.bytes = 0
        self.batches = 0
        self.wait_ns = 0

    def rows_by_task(self) -> dict[str, int]:
        """Return the rows sent to each downstream task."""
        return {task: self._rows[i] for task, i in self._channel_of.items()}

    def heavy_keys(self) -> dict[str, int]:
        """Return the heaviest keys of a HASH edge, with about their rows."""
        return self._heavy_keys.heaviest(HEAVIEST) if self._heavy_keys is not None else {}

    def write(self, batch: pa.RecordBatch) -> None:
        """Send the rows; small batches wait for more or for the barrier. Blocks while channels are full.

        `batch` is kept and never changed.

        Raises
        ------
        ShuffleError
            The schema is another than the edge's, or the attempt is over (the peer is gone, the job unregistered).
        """
        self._send(self._batcher.add(self._check.conform(batch)))

    def place(self) -> WriterPlace:
        """Send what waits, and return where this will stand after the barrier that is to follow."""
        self._send(self._batcher.flush())
        cursor = self._partitioner.cursor if isinstance(self._partitioner, RebalancePartitioner) else 0
        return WriterPlace(tuple(c.next_sequence + 1 for c in self._channels), cursor)

    def resume(self, place: WriterPlace) -> None:
        """Deal rows as from `place` on; the channels have been brought there."""
        if isinstance(self._partitioner, RebalancePartitioner):
            self._partitioner.cursor = place.cursor

    def barrier(self, barrier: Barrier) -> None:
        """Send what waits, then `barrier` to every downstream task."""
        self._send(self._batcher.flush())
        for channel in self._channels:
            channel.put_barrier(barrier)

    def end(self) -> None:
        """Send what waits, then the end. Nothing may follow."""
        self._send(self._batcher.flush())
        for channel in self._channels:
            channel.put_end()

    def abort(self, message: str) -> None:
        """Fail every reader of this task with `message`; frames they have not taken are dropped."""
        for channel in self._channels:
            channel.abort(ShuffleError(message))

    def _send(self, rounds: Iterable[pa.RecordBatch]) -> None:
        for batch in rounds:
            if self._heavy_keys is not None:
                self._heavy_keys.observe(batch)
            parts = self._partitioner.partition(batch)
            # parts share the round's memory: a share by rows adds up to it, and costs nothing to find
            bytes_per_row = max(1.0, batch.nbytes / batch.num_rows)
            for i, place in enumerate(self._part_of):
                part = parts[place]
                if part is not None:
                    self._put(i, part, int(bytes_per_row * part.num_rows), 2 * part.num_rows < batch.num_rows)

    def _put(self, i: int, part: pa.RecordBatch, nbytes: int, shares_memory: bool) -> None:
        channel = self._channels[i]
        if shares_memory and channel.lags:
            # this reader lags: what it holds must not keep the other parts' memory alive
            part = _compact(part)
        self.wait_ns += channel.put_data(part, nbytes)
        self._rows[i] += part.num_rows
        self.bytes += nbytes
        self.batches += 1


def _compact(batch: pa.RecordBatch) -> pa.RecordBatch:
    if batch.num_columns == 0:
        return batch
    return pa.RecordBatch.from_arrays([pa.concat_arrays([c]) for c in batch.columns], schema=batch.schema)
