"""The writer's end of a link: all channels of one edge to the tasks of one other agent, over one stream.

Knows frames and credits, not Flight.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from cython_shuffle.frames import Frame, FrameKind
from cython_shuffle.remote_channels import OutgoingChannel
from cython_shuffle.tickets import Ticket
from sabot.errors import ShuffleError

_CANCEL_CHECK_S = 1.0
_GROUP_FRAMES = 1024


class OutLink:
    """Takes frames from channels in turn, one each, as their windows allow; a channel that is full holds up no other.

    Parameters
    ----------
    channels : sequence of OutgoingChannel
        In the order of the ticket's pairs.
    reconnect_s : float
        How long a reader whose connection broke may stay away; then the channels fail. 0: not at all.
    """

    def __init__(self, name: str, channels: Sequence[OutgoingChannel], reconnect_s: float) -> None:
        self.name = name
        self._channels = channels
        self._reconnect_s = reconnect_s
        # re-entrant: the collector may end a dropped stream on a thread that holds it
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._ready: deque[int] = deque()
        self._is_ready = [False] * len(channels)
        self._ended: set[int] = set()
        self._connection = -1
        self._streaming = False
        self._absence: threading.Timer | None = None
        self._closed = False

    @property
    def streaming(self) -> bool:
        """Whether a stream is open."""
        return self._streaming

    def attach(self, ticket: Ticket) -> int:
        """Let a connection take over: send on from what its reader has. Return its number, for `frames`.

        Raises
        ------
        ShuffleError
            A newer connection was there already, or the reader's place is none of ours.
        """
        with self._lock:
            if ticket.connection <= self._connection:
                raise ShuffleError(f"connection {ticket.connection} of link {self.name!r} is over")
            if len(ticket.received) != len(self._channels):
                raise ShuffleError(
                    f"link {self.name!r} has {len(self._channels)} channels, not {len(ticket.received)}",
                    hint="do both agents know the same edge",
                )
            first = self._connection < 0
            self._connection = ticket.connection
            absence, self._absence = self._absence, None
            self._ended.clear()
            for i, (channel, received) in enumerate(zip(self._channels, ticket.received, strict=True)):
                channel.window_bytes = ticket.window_bytes
                if channel.rewind(received):
                    self._ended.add(i)
            self._streaming = True
            self._changed.notify_all()
        if absence is not None:
            absence.cancel()
        for i, channel in enumerate(self._channels):
            if first:
                channel.set_listener(lambda i=i: self._mark(i))  # type: ignore[misc]
            self._mark(i)
        return ticket.connection

    def frames(self, connection: int, is_cancelled: Callable[[], bool]) -> Iterator[list[tuple[int, Frame]]]:
        """Give groups of (channel, frame), until every channel has ended, the reader is gone or a newer one came.

        Only the last frame of a group may have rows: the barriers and ends of many channels travel together.

        Raises
        ------
        SabotError
            A channel was aborted.
        """
        while self._await_ready(connection, is_cancelled):
            if group := self._take(connection):
                yield group

    def acknowledge(self, admitted: Sequence[tuple[int, int]]) -> None:
        """Take what the reader has booked room for: (channel, frames) each. Raises ShuffleError if it cannot be."""
        for i, count in admitted:
            if not 0 <= i < len(self._channels):
                raise ShuffleError(f"link {self.name!r} has no channel {i}")
            self._channels[i].acknowledge(count)
            self._mark(i)

    def fail(self, reason: str) -> None:
        """Abort all channels, since there is no reader any more."""
        for channel in self._channels:
            if not channel.acknowledged:
                channel.abort(ShuffleError(f"the reader of channel {channel.name!r} is gone: {reason}"))

    def close(self) -> None:
        """End; the channels have been aborted."""
        with self._lock:
            self._closed = True
            absence, self._absence = self._absence, None
            self._changed.notify_all()
        if absence is not None:
            absence.cancel()
            absence.join()

    def _mark(self, i: int) -> None:
        with self._lock:
            if not self._is_ready[i]:
                self._is_ready[i] = True
                self._ready.append(i)
                if len(self._ready) == 1:
                    self._changed.notify_all()

    def _await_ready(self, connection: int, is_cancelled: Callable[[], bool]) -> bool:
        """Wait until there may be something to take; False when there will not be."""
        with self._lock:
            while True:
                if self._connection != connection or len(self._ended) == len(self._channels):
                    return False
                if self._ready:
                    return True
                if self._closed or (not self._changed.wait(_CANCEL_CHECK_S) and is_cancelled()):
                    return False

    def _take(self, connection: int) -> list[tuple[int, Frame]]:
        """Take the next group, if there is any."""
        group: list[tuple[int, Frame]] = []
        # under one lock with `attach`: else an old connection could take what a new one has to send
        with self._lock:
            while self._ready and self._connection == connection and len(group) < _GROUP_FRAMES:
                i = self._ready.popleft()
                self._is_ready[i] = False
                frame = self._channels[i].next_to_send()
                if frame is None:
                    continue
                group.append((i, frame))
                if frame.kind is FrameKind.END:
                    self._ended.add(i)
                elif self._channels[i].depth:
                    self._is_ready[i] = True
                    self._ready.append(i)
                if frame.kind is FrameKind.DATA:
                    break
        return group

    def detach(self, connection: int) -> None:
        """The stream of `connection` has ended, in whatever way."""
        with self._lock:
            if self._connection != connection:
                return
            self._streaming = False
            if self._closed or all(c.acknowledged for c in self._channels):
                return
            if self._reconnect_s > 0:
                # after the last frame too: the reader may not have it
                self._absence = threading.Timer(self._reconnect_s, self._give_up, (connection,))
                self._absence.daemon = True
                self._absence.name = f"absence {self.name}"
                self._absence.start()
                return
            if len(self._ended) == len(self._channels):
                return
        self.fail("its stream was closed")

    def _give_up(self, connection: int) -> None:
        with self._lock:
            if self._connection != connection or self._closed:
                return
        self.fail(f"it did not come back in {self._reconnect_s:g} s")
