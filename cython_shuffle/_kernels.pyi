"""Whole-batch kernels; every call runs its loops without the GIL, on one core."""

from collections.abc import Sequence

import pyarrow as pa
from typing_extensions import Buffer

HASH_VERSION: int

def hash_rows(batch: pa.RecordBatch, columns: Sequence[int]) -> pa.Buffer:
    """Return the value hash of each row over `columns` (in that order) as uint64.

    Raises
    ------
    TypeError
        If a column's type has no hash.
    IndexError
        If a column is not there.
    """

def assign(batch: pa.RecordBatch, columns: Sequence[int], destination_of: Buffer) -> pa.Buffer:
    """Return each row's destination as uint16: ``destination_of[key group of the row]``.

    `destination_of` is a contiguous uint16 buffer with one entry a key group (1 to 65536 of them).
    """

def counting_sort(destinations: pa.Buffer, n_destinations: int) -> tuple[list[int], pa.Buffer, pa.Buffer]:
    """Sort rows by destination, keeping their order within each.

    Parameters
    ----------
    destinations : Buffer
        uint16, one a row.

    Returns
    -------
    bounds : list of int
        Destination d has the sorted rows ``bounds[d]`` to ``bounds[d + 1]``.
    order, target : Buffer
        uint32: sorted row i was row ``order[i]``; row i becomes sorted row ``target[i]``.

    Raises
    ------
    ValueError
        If a destination is out of range, before anything is written.
    """

def gather(
    batch: pa.RecordBatch, columns: Sequence[int], order: pa.Buffer, target: pa.Buffer
) -> list[list[pa.Buffer | None]]:
    """Return the buffers (validity, then data) of `columns` in sorted order; newly allocated.

    Fixed-width types, bool, strings and binaries with offsets; TypeError for any other.
    """
