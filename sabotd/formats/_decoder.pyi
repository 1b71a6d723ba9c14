from typing import Any

import pyarrow as pa

from sabotd.formats.plan import ColumnPlan

class RowDecoder:
    def __init__(
        self, plans: tuple[ColumnPlan, ...], csv: tuple[int, int, bytes, tuple[int, ...]] | None = None
    ) -> None: ...
    def decode_lines(
        self, data: Any, max_records: int = -1, limit: int = -1, final: bool = True
    ) -> tuple[int, list[pa.Array], list[tuple[int, int, int, str]], int]: ...
    def decode_payloads(
        self, data: Any, offsets: Any, skip: Any = None
    ) -> tuple[int, list[pa.Array], list[tuple[int, int, int, str]], pa.Buffer]: ...
