"""Whether a batch has the schema it must have."""

from __future__ import annotations

import pyarrow as pa

from sabot.errors import ShuffleError


class SchemaCheck:
    """Lets batches of one schema through. Metadata and whether a column may be NULL do not count."""

    def __init__(self, schema: pa.Schema, where: str) -> None:
        self._schema = schema
        self._where = where
        self._seen: pa.Schema | None = None

    def conform(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return `batch` under the schema itself; nothing is copied.

        Raises
        ------
        ShuffleError
            Names or types differ.
        """
        schema = batch.schema
        if schema.equals(self._schema, check_metadata=True):
            return batch
        if self._seen is None or not schema.equals(self._seen, check_metadata=True):
            self.check(schema)
            self._seen = schema
        if batch.num_columns == 0:
            return batch
        return pa.RecordBatch.from_arrays(batch.columns, schema=self._schema)

    def check(self, schema: pa.Schema) -> None:
        """Raise ShuffleError if names or types differ, naming the first column that does."""
        if len(schema) != len(self._schema):
            raise ShuffleError(
                f"{self._where} takes {len(self._schema)} columns, not {len(schema)}",
                hint=f"it takes {', '.join(self._schema.names)}",
            )
        for given, wanted in zip(schema, self._schema, strict=True):
            if given.name != wanted.name or given.type != wanted.type:
                raise ShuffleError(
                    f"{self._where} takes column {wanted.name!r} of type {wanted.type}, not {given.name!r} of type "
                    f"{given.type}"
                )
