"""Names of things, told apart by type."""

from typing import NewType

JobId = NewType("JobId", str)
"""``mv:<name>`` or ``sink:<name>``: one job a materialized view or sink."""
OperatorId = NewType("OperatorId", str)
"""Deterministic in the SQL: ``<position>-<kind>`` within a job."""
TaskId = NewType("TaskId", str)
"""``<operator id>/<index>``."""
EdgeId = NewType("EdgeId", str)
"""``<upstream operator>-><downstream operator>#<input>``."""
AgentId = NewType("AgentId", str)
RelationName = NewType("RelationName", str)
"""A name in the catalog as the user would read it, lower case unless quoted at creation."""

WEIGHT = "__weight"
"""Column (int32) of a stream with retractions: +n inserts, -n deletes."""
ROW_WATERMARK = "__wm"
"""Column (timestamp[us]) beside rows of a watermarked source where an operator downstream judges
lateness: the watermark that holds for this row; NULL while there is none."""
