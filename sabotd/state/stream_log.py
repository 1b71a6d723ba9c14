"""A relation's changelog: epoch-stamped Arrow batches in segment files, read by cursors at their own pace.

Only what some cursor has still to read is kept. Entries are ``<epoch int64><length int64>`` and an encapsulated Arrow
IPC record batch message; a segment is closed at `SEGMENT_BYTES` and removed when every cursor is past it.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa

from sabot.errors import InternalError, SqlError

SEGMENT_BYTES = 32 << 20
_HEADER = struct.Struct("<qq")


class StreamLog:
    """The log of one relation. `append` comes from one writer at a time; cursors are independent.

    Parameters
    ----------
    folder : Path
        Made when the first entry is written, removed by `close`.
    schema : pyarrow.Schema
        Of every batch, ``__weight`` included where the relation has retractions.
    end : int, optional
        Go on with what a killed process left in `folder`, up to this position; what stands behind it was never seen.
    """

    def __init__(self, folder: Path, schema: pa.Schema, end: int | None = None) -> None:
        self.schema = schema
        self.folder = folder
        self._lock = threading.Condition()
        self._cursors: set[LogCursor] = set()
        self._segments: dict[int, Path] = {}  # by the position of its first byte
        self._file: int | None = None
        self._segment_start = 0
        self._end = 0  # bytes ever published: the log's position
        self._prepared = 0  # bytes behind it that nobody sees yet
        self._finished = False
        self._failed: str | None = None
        self._reservation: LogCursor | None = None
        if end is not None:
            self._recover(end)

    @property
    def prepared_end(self) -> int:
        """The log's end once what has been prepared is published."""
        with self._lock:
            return self._end + self._prepared

    @property
    def has_readers(self) -> bool:
        """Whether anybody reads; without readers nothing need be written."""
        with self._lock:
            return bool(self._cursors)

    def append(self, epoch: int, batches: Sequence[pa.RecordBatch]) -> None:
        """Write the changes of `epoch`, all of them at once to readers; dropped when nobody reads.

        Raises
        ------
        OSError
            They cannot be written; the log is as it was.
        """
        self.prepare(epoch, batches)
        self.publish()

    def prepare(self, epoch: int, batches: Sequence[pa.RecordBatch]) -> None:
        """Write the changes of `epoch` where no reader sees them; then `publish` them or `forget` them.

        Raises
        ------
        OSError
            They cannot be written; the log is as it was.
        """
        with self._lock:
            if not self._cursors or not batches:
                return
            parts = []
            for batch in batches:
                if not batch.schema.equals(self.schema):
                    msg = f"batch of schema {batch.schema} in a log of schema {self.schema}"
                    raise InternalError(msg)
                body = batch.serialize()
                parts += [_HEADER.pack(epoch, body.size), body]
            try:
                self._write(parts)
            except OSError:
                self._cut()
                raise

    def publish(self) -> None:
        """Show what has been prepared to the readers."""
        with self._lock:
            if not self._prepared:
                return
            self._end += self._prepared
            self._prepared = 0
            listeners = [c.listener for c in self._cursors if c.listener is not None]
            self._lock.notify_all()
        for listener in listeners:
            listener()

    def forget(self) -> None:
        """Take away what has been prepared."""
        with self._lock:
            self._cut()

    def finish(self) -> None:
        """Say that no more changes will come (the job behind a view has finished)."""
        with self._lock:
            self._finished = True
            listeners = [c.listener for c in self._cursors if c.listener is not None]
            self._lock.notify_all()
        for listener in listeners:
            listener()

    def subscribe(self, position: int | None = None) -> LogCursor:
        """Open a cursor at the end, or at `position`; what stands behind it is kept for it.

        Raises
        ------
        SqlError
            What stands at `position` is not there (any more).
        """
        with self._lock:
            at = self._end if position is None else position
            if at > self._end or (at < self._end and not any(start <= at for start in self._segments)):
                msg = f"the log has no position {at}"
                raise SqlError(msg, hint="read the relation from the start", sqlstate="55000")
            cursor = LogCursor(self, at)
            self._cursors.add(cursor)
            return cursor

    def close(self, reason: str = "the relation was dropped") -> None:
        """Remove all files; cursors that still read get an error that says `reason`."""
        with self._lock:
            self._failed = reason
            self._prepared = 0
            if self._file is not None:
                os.close(self._file)
                self._file = None
            for path in self._segments.values():
                path.unlink(missing_ok=True)
            self._segments.clear()
            with contextlib.suppress(OSError):
                self.folder.rmdir()
            listeners = [c.listener for c in self._cursors if c.listener is not None]
            self._lock.notify_all()
        for listener in listeners:
            listener()

    def _recover(self, end: int) -> None:
        """Take over the files, and hold all of them until the reservation is given up by `release`."""
        self._end = end
        for path in sorted(self.folder.glob("*.log")):
            start = int(path.stem)
            if start >= end:
                path.unlink()
                continue
            self._segments[start] = path
        if self._segments:
            self._segment_start = max(self._segments)
            self._file = os.open(self._segments[self._segment_start], os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
            if os.fstat(self._file).st_size < end - self._segment_start:
                # the machine stopped, not the process alone
                os.close(self._file)
                self._file = None
                for path in self._segments.values():
                    path.unlink()
                self._segments.clear()
            else:
                self._cut()
        self._reservation = LogCursor(self, min(self._segments, default=end))
        self._cursors.add(self._reservation)

    def release(self) -> None:
        """Keep only what cursors have still to read: those of the process before are back, or will not come."""
        reservation, self._reservation = self._reservation, None
        if reservation is not None:
            reservation.close()

    # -- under the lock

    def _write(self, parts: Sequence[bytes | pa.Buffer]) -> None:
        if self._file is None or self._end - self._segment_start >= SEGMENT_BYTES:
            self._roll()
        assert self._file is not None
        data = b"".join(memoryview(p) for p in parts)
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]
        self._prepared = len(data)

    def _cut(self) -> None:
        """End the file where the log ends: part of an entry may stand behind it."""
        self._prepared = 0
        if self._file is not None:
            os.ftruncate(self._file, self._end - self._segment_start)
            os.lseek(self._file, 0, os.SEEK_END)

    def _roll(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{self._end:020d}.log"
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        if self._file is not None:
            os.close(self._file)
        self._file = opened
        self._segment_start = self._end
        self._segments[self._end] = path

    def _trim(self) -> None:
        """Remove segments that no cursor needs."""
        if not self._segments:
            return
        needed = min((c.needed for c in self._cursors), default=self._end)
        starts = sorted(self._segments)
        for start, following in zip(starts, starts[1:] + [self._end], strict=True):
            if following <= needed and start != self._segment_start:
                self._segments.pop(start).unlink(missing_ok=True)
        if not self._cursors and self._file is not None:
            os.close(self._file)
            self._file = None
            self._prepared = 0
            self._segments.pop(self._segment_start).unlink(missing_ok=True)


class LogCursor:
    """A reader's place in a log. One thread reads; `close` may come from any."""

    def __init__(self, log: StreamLog, position: int) -> None:
        self._log = log
        self.position = position
        """Byte position of the next entry."""
        self.kept_from: int | None = None
        """What stands from here on is kept, though it has been read: a process that takes this one's place needs it."""
        self.within_epoch = False
        """Whether more of the epoch of the last entry follows."""
        self.listener: Callable[[], None] | None = None
        self._file: int | None = None
        self._file_start = -1
        self._closed = False
        self._woken = False

    @property
    def log_name(self) -> str:
        """Which log it reads: no two have one name."""
        return self._log.folder.name

    @property
    def needed(self) -> int:
        """The first position that is to be kept for this cursor."""
        return self.position if self.kept_from is None else min(self.kept_from, self.position)

    @property
    def end(self) -> int:
        """The log's end now."""
        with self._log._lock:  # noqa: SLF001
            return self._log._end  # noqa: SLF001

    def finished(self) -> bool:
        """Whether the log has ended and all of it has been read."""
        log = self._log
        with log._lock:  # noqa: SLF001
            return log._finished and self.position >= log._end  # noqa: SLF001

    def read(self, timeout_s: float) -> tuple[int, pa.RecordBatch] | None:
        """Return the next (epoch, batch), or None when there is none within `timeout_s`.

        Raises
        ------
        SqlError
            The relation was dropped, or is made anew.
        """
        log = self._log
        with log._lock:  # noqa: SLF001
            if self._woken or self.position < log._end or log._finished or log._failed:  # noqa: SLF001
                self._woken = False
            elif timeout_s > 0:
                log._lock.wait(timeout_s)  # noqa: SLF001
                self._woken = False
            if log._failed or self._closed:  # noqa: SLF001
                msg = log._failed or "the cursor is closed"  # noqa: SLF001
                raise SqlError(msg, sqlstate="55000")
            if self.position >= log._end:  # noqa: SLF001
                return None
            start = max(s for s in log._segments if s <= self.position)  # noqa: SLF001
            path = log._segments[start]  # noqa: SLF001
            if start != self._file_start:
                self._open(path, start)
        assert self._file is not None
        offset = self.position - start
        epoch, length = _HEADER.unpack(os.pread(self._file, _HEADER.size, offset))
        body = os.pread(self._file, length, offset + _HEADER.size)
        batch = pa.ipc.read_record_batch(pa.py_buffer(body), log.schema)
        with log._lock:  # noqa: SLF001
            self.position += _HEADER.size + length
            # what is written at once lies in one segment
            end = min((s for s in log._segments if s > start), default=log._end)  # noqa: SLF001
            if self.position >= start + SEGMENT_BYTES:
                log._trim()  # noqa: SLF001
        self.within_epoch = False
        if self.position < end:
            following, _ = _HEADER.unpack(os.pread(self._file, _HEADER.size, self.position - start))
            self.within_epoch = following == epoch
        return epoch, batch

    def _open(self, path: Path, start: int) -> None:
        if self._file is not None:
            os.close(self._file)
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._file_start = start

    def wake(self) -> None:
        """End a waiting `read` early, or the next one that would wait."""
        with self._log._lock:  # noqa: SLF001
            self._woken = True
            self._log._lock.notify_all()  # noqa: SLF001

    def close(self) -> None:
        """Give up the place; idempotent."""
        log = self._log
        with log._lock:  # noqa: SLF001
            self._closed = True
            log._cursors.discard(self)  # noqa: SLF001
            log._trim()  # noqa: SLF001
            log._lock.notify_all()  # noqa: SLF001
        if self._file is not None:
            os.close(self._file)
            self._file = None
