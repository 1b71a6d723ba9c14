"""What a connector offers: readers that own splits of a source, and writers that end epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import pyarrow as pa

from planner.task_spec import Columns, SinkOp, SourceOp


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that did not decode. `offset` is the connector's own (Kafka ``3:1742``, file ``name:byte``)."""

    offset: str
    payload: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class SourceBatch:
    """Rows of one split in its order: exactly the columns of ``SourceOp.columns``, in their Arrow types.

    Rows of a snapshot are not `ordered`: none of them comes late.
    """

    split: str
    batch: pa.RecordBatch
    errors: Sequence[BadRecord] = ()
    ordered: bool = True


@dataclass(slots=True)
class SourceStatus:
    """What a reader tells the control plane.

    `state` in one line ('' when all is well, else e.g. 'broker unreachable, retry in 4 s'); `splits` it owns now, by
    the names of its batches; rows and bytes read; records that did not decode.
    """

    state: str = ""
    splits: tuple[str, ...] = ()
    rows: int = 0
    bytes: int = 0
    bad_records: int = 0


Position = dict[str, int]
"""Split to the next offset to read (in the connector's own counting)."""


class SourceReader(Protocol):
    """Reads the splits of one source task. One thread calls it, but `wake`.

    Splits are divided without talking: task `index` of `parallelism` owns split s if
    ``stable_hash(s) % parallelism == index`` (or by another rule of the connector that needs no coordination).
    """

    def read(self, max_rows: int, timeout_s: float) -> SourceBatch | None:
        """Return the next rows, or None when there are none within `timeout_s` (0 polls) or `wake` was called.

        A transient failure (broker away) is not raised: retried with backoff, told in `status`.

        Raises
        ------
        ConnectorError
            What no retry mends (a file of another format, authentication refused); the job fails with it.
        """
        ...

    def finished(self) -> bool:
        """Whether a finite source has given everything."""
        ...

    def position(self) -> Position:
        """Return where each split stands."""
        ...

    def fence(self) -> Position:
        """Return what each split holds now: the position after the last row that exists at this moment.

        For FLUSH. A finite source's fence is its end. May ask the broker; raises ConnectorError when it cannot tell.
        """
        ...

    def status(self) -> SourceStatus:
        """Return figures and state; cheap."""
        ...

    def wake(self) -> None:
        """End a waiting `read` early; from any thread."""
        ...

    def close(self) -> None:
        """Free everything; idempotent."""
        ...


@runtime_checkable
class ChangesReader(Protocol):
    """A `SourceReader` whose rows come in changes that a barrier must not cut in two."""

    def within_change(self) -> bool:
        """Whether the change that the last batch belongs to goes on; the rest can be read at once."""
        ...


class SinkWriter(Protocol):
    """Writes one sink task's rows. One thread calls it."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Take rows (``SinkOp.columns``, and ``__weight`` if weighted); may buffer; may block (back pressure)."""
        ...

    def flush(self, epoch: int) -> None:
        """End `epoch`: everything taken so far is delivered and acknowledged when this returns."""
        ...

    def status(self) -> SourceStatus:
        """Return state and figures, as a reader does; cheap; from any thread."""
        return SourceStatus()

    def wake(self) -> None:
        """The task stops: end a waiting `write` or `flush` at once (it may raise ConnectorError); from any thread."""
        ...

    def close(self) -> None:
        """Free everything; idempotent; drops what was not flushed."""
        ...


class Connector(Protocol):
    """A module-level object ``CONNECTOR`` per connector module, found through ``sabotd.connectors.registry``.

    Subclass it to inherit the defaults of `validate`, `default_schema`, `is_finite` and `rereads`.
    """

    name: str
    options: dict[str, OptionSpec]
    sink_formats: tuple[str, ...] = ("plain",)
    """What FORMAT may be in CREATE SINK."""
    source_formats: tuple[str, ...] = ("plain",)
    """What FORMAT may be in CREATE SOURCE."""

    def validate(self, op: SourceOp | SinkOp) -> None:
        """Check at CREATE what the options' kinds cannot tell (a path, a broker, columns, a weighted stream).

        The option names, kinds and required ones were checked before (``registry.check``). The columns of a source
        are the declared ones.

        Raises
        ------
        SqlError
            The statement is wrong.
        ConnectorError
            What it names is not there.
        """

    def default_schema(self, options: Mapping[str, str]) -> Columns | None:
        """Return the columns of a source declared without columns; None if it must declare them."""
        return None

    def is_finite(self, options: Mapping[str, str]) -> bool:
        """Whether a source with these options ends by itself."""
        return False

    def rereads(self, options: Mapping[str, str]) -> bool:
        """Whether a source with these options gives what it has given once more, when it is read anew."""
        return True

    def open_source(self, op: SourceOp, index: int, parallelism: int) -> SourceReader:
        """Open the reader of source task `index` of `parallelism`."""
        ...

    def open_sink(self, op: SinkOp, index: int, parallelism: int) -> SinkWriter:
        """Open the writer of sink task `index` of `parallelism`."""
        ...


@dataclass(frozen=True, slots=True)
class OptionSpec:
    """An option of WITH (...): for checking at CREATE, completion and docs.

    `kind`: str, int, float, bool, duration, enum.
    """

    kind: str
    default: str | None = None
    required: bool = False
    choices: tuple[str, ...] = ()
    doc: str = ""
    prefix: bool = False
    """The option is a prefix, as ``properties.`` is: any key that starts with it."""
    secret: bool = False
    """Never shown (passwords)."""
    of: tuple[str, ...] = field(default=("source", "sink"))
