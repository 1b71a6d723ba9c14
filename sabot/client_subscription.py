"""A view's changes as a RecordBatchReader that can be closed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import pyarrow as pa
from pyarrow import ipc

from sabot.client_result import Result

# the start of a message that never comes
_BROKEN_OFF = b"\xff\xff\xff\xff\x10\x00\x00\x00"


class Subscription(ipc.RecordBatchStreamReader):  # type: ignore[misc]  # pyarrow has no types
    """The batches of a SUBSCRIBE as they come; blocks until the next, ends when closed or cancelled.

    pyarrow's own readers over Python iterators ignore `close`, so this one is filled from Python. What reads the
    reader underneath from C++, past these methods, gets an error; ``pyarrow.RecordBatchReader.from_stream`` and
    everything that takes the Arrow stream protocol work.

    Raises
    ------
    SabotError
        While reading: the job failed, the statement was cancelled (57014), the connection broke.
    """

    def __init__(self, result: Result) -> None:
        super().__init__(pa.BufferReader(result.schema.serialize().to_pybytes() + _BROKEN_OFF))
        self._result = result

    @property
    def schema(self) -> pa.Schema:
        """The view's columns, and ``__weight`` where rows can be taken back."""
        return self._result.schema

    def read_next_batch(self) -> pa.RecordBatch:
        """Return the next batch; `StopIteration` after the last."""
        batch = self._result.read_batch()
        if batch is None:
            raise StopIteration
        return batch

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self

    def __next__(self) -> pa.RecordBatch:
        return self.read_next_batch()

    def read_all(self) -> pa.Table:
        """Return all batches until the subscription ends."""
        return self._plain().read_all()

    def read_pandas(self, **options: Any) -> Any:
        """Return all rows until the subscription ends as a data frame."""
        return self._plain().read_pandas(**options)

    def read_next_batch_with_custom_metadata(self) -> Any:
        """Return the next batch; it has no metadata."""
        return self._plain().read_next_batch_with_custom_metadata()

    def iter_batches_with_custom_metadata(self) -> Any:
        """Yield the batches; they have no metadata."""
        return self._plain().iter_batches_with_custom_metadata()

    def cast(self, target_schema: pa.Schema) -> pa.RecordBatchReader:
        """Return a reader of the batches in other types."""
        return self._plain().cast(target_schema)

    def close(self) -> None:
        """End the subscription on the server too; idempotent."""
        self._result.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._plain().__arrow_c_stream__(requested_schema)

    def _export_to_c(self, out_ptr: int) -> None:
        self._plain()._export_to_c(out_ptr)  # noqa: SLF001

    def _plain(self) -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(self.schema, self)
