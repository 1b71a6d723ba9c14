"""Records as text (JSON, CSV) into Arrow arrays; the loops run without the GIL."""

from typing import Any, Self

import pyarrow as pa
from typing_extensions import disjoint_base

from sabotd.formats.plan import ColumnPlan

@disjoint_base
class RowDecoder:
    """Decodes JSON or CSV records into the columns of a plan, for one thread at a time.

    Parameters
    ----------
    plans : tuple of ColumnPlan
        The columns to give.
    csv : tuple or None
        None for JSON; else (delimiter byte, quote byte or -1, NULL text, field map), where field map entry i is the
        column that field i gives, or -1.
    """

    def __new__(
        cls, plans: tuple[ColumnPlan, ...], csv: tuple[int, int, bytes, tuple[int, ...]] | None = None
    ) -> Self: ...
    def decode_lines(
        self, data: Any, max_records: int = -1, limit: int = -1, final: bool = True
    ) -> tuple[int, list[pa.Array], list[tuple[int, int, int, str]], int]:
        """Decode newline-separated records.

        Parameters
        ----------
        max_records : int
            Stop after so many; -1: no limit.
        limit : int
            Begin no record at this byte or after; -1: no limit.
        final : bool
            Nothing follows the buffer: its last record needs no newline. Else a record without its end is left.

        Returns
        -------
        rows : int
        arrays : list of Array
            They own their memory.
        errors : list of (int, int, int, str)
            Record number in the call, first byte, byte past the end, and what is wrong.
        consumed : int
            Bytes used up.
        """

    def decode_payloads(
        self, data: Any, offsets: Any, skip: Any = None
    ) -> tuple[int, list[pa.Array], list[tuple[int, int, int, str]], pa.Buffer]:
        """Decode payloads ``data[offsets[i]:offsets[i + 1]]``; `skip`: a byte a payload, not 0 where it is NULL.

        Returns
        -------
        rows, arrays, errors
            As of `decode_lines`, the errors' numbers being payloads.
        payload_index : Buffer
            int32, one a row.

        Raises
        ------
        ValueError
            The offsets do not ascend within the buffer.
        """
