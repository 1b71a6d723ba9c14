"""NEXMark events as Arrow columns or as lines of JSON; the loops run without the GIL."""

from typing import Any, Self

import pyarrow as pa
from typing_extensions import disjoint_base

from sabotd.formats.plan import ColumnPlan

@disjoint_base
class Generator:
    """Makes the columns of a plan for any events.

    Parameters
    ----------
    plans : tuple of ColumnPlan
        Columns of `table`, or of the table that has all three as STRUCTs.
    table : str or None
        person, auction or bid.
    start_ms : int
        Event time of event 0, milliseconds since 1970.
    event_rate : int
        Events a second of event time.
    """

    def __new__(
        cls, plans: tuple[ColumnPlan, ...], table: str | None, seed: int, start_ms: int, event_rate: int
    ) -> Self: ...
    def arrays(self, events: Any) -> list[pa.Array]:
        """Return an array a column with a row for each event number of `events` (int64, all of `table`)."""

    def json_lines(self, first: int, last: int) -> pa.Buffer:
        """Return events `first` to `last` - 1 as newline-ended JSON."""
