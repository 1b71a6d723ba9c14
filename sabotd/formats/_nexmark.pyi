from typing import Any

import pyarrow as pa

from sabotd.formats.plan import ColumnPlan

class Generator:
    def __init__(
        self, plans: tuple[ColumnPlan, ...], table: str | None, seed: int, start_ms: int, event_rate: int
    ) -> None: ...
    def arrays(self, events: Any) -> list[pa.Array]: ...
    def json_lines(self, first: int, last: int) -> pa.Buffer: ...
