"""How batches of a schema travel: as they are, or packed where Flight's streams cannot carry a type."""

from __future__ import annotations

import pyarrow as pa

from cython_shuffle.partitioner import empty_batch
from cython_shuffle.schema_check import SchemaCheck
from sabot.errors import ShuffleError

_PACKED = pa.schema([pa.field("ipc", pa.binary())])


class WireFormat:
    """Encodes and decodes batches of one schema.

    A Flight stream fed batch by batch sends no dictionaries; batches with dictionary columns travel as one IPC message
    in one binary cell.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._plain = schema
        self._packed = any(_has_dictionary(f.type) for f in schema)
        self.schema = _PACKED if self._packed else schema.remove_metadata()
        self.empty = empty_batch(self.schema)
        self._check = SchemaCheck(schema, "the stream")

    def check(self, schema: pa.Schema) -> None:
        """Raise ShuffleError if a stream of `schema` is not one of these batches."""
        SchemaCheck(self.schema, "the stream").check(schema)

    def encode(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return `batch` as it travels."""
        if not self._packed:
            return batch
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        cell = pa.array([sink.getvalue().to_pybytes()], pa.binary())
        return pa.RecordBatch.from_arrays([cell], schema=_PACKED)

    def decode(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the batch that was encoded; raises ShuffleError if it is of another schema."""
        if self._packed:
            if batch.num_rows != 1:
                raise ShuffleError(f"a packed frame has {batch.num_rows} cells, not one")
            try:
                with pa.ipc.open_stream(batch.column(0)[0].as_buffer()) as reader:
                    batch = reader.read_next_batch()
            except (pa.ArrowException, OSError, StopIteration) as error:
                raise ShuffleError(f"a packed frame cannot be read: {error}") from error
        return self._check.conform(batch)


def _has_dictionary(t: pa.DataType) -> bool:
    if isinstance(t, pa.BaseExtensionType):
        return _has_dictionary(t.storage_type)
    if pa.types.is_dictionary(t):
        return True
    return any(_has_dictionary(t.field(i).type) for i in range(t.num_fields))
