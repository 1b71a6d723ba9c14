"""Functions that graphs name by their path."""

from __future__ import annotations

import pyarrow as pa


def passed_on(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch
