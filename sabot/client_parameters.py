"""Rows of Python values to one Arrow batch."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import pyarrow as pa

from sabot.errors import SqlError


def parameter_batch(rows: Sequence[Sequence[object]]) -> pa.RecordBatch:
    """Return the rows as a batch with columns ``1``, ``2``, ...; types follow the values.

    Raises
    ------
    SqlError
        When rows differ in length, or a column's values have no Arrow type in common.
    """
    width = len(rows[0])
    for number, row in enumerate(rows, 1):
        if len(row) != width:
            msg = f"row {number} has {len(row)} parameters, the first has {width}"
            raise SqlError(msg, sqlstate="07001")
    columns = []
    for number, values in enumerate(zip(*rows, strict=True), 1):
        try:
            columns.append(pa.array([str(v) if isinstance(v, uuid.UUID) else v for v in values]))
        except (pa.ArrowException, OverflowError) as exc:
            msg = f"parameter {number} has no Arrow type: {exc}"
            raise SqlError(msg, sqlstate="22000", hint="use values of one type for one parameter") from exc
    return pa.record_batch(columns, names=[str(i + 1) for i in range(width)])
