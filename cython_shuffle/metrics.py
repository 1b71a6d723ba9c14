"""Figures of shuffle edges, as one agent sees them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class EdgeMetrics:
    """What one agent saw of an edge since it was registered; add up the agents' for the whole edge.

    `rows`, `bytes` and `batches` were written by the upstream tasks here (a broadcast row counts once a destination;
    its bytes and batches once an agent, and once a task in the writer's own). `wait_up_ns`: their time blocked for
    room. `wait_down_ns`: the time the downstream tasks here found nothing to read, added over channels.
    `rows_by_task`: rows written to each downstream task, for skew. `heavy_keys`: of a HASH edge, the heaviest keys as
    text, with about their rows; from a sample.
    """

    job_id: str
    edge_id: str
    attempt: int
    kind: str
    rows: int = 0
    bytes: int = 0
    batches: int = 0
    wait_up_ns: int = 0
    wait_down_ns: int = 0
    rows_by_task: dict[str, int] = field(default_factory=dict)
    heavy_keys: dict[str, int] = field(default_factory=dict)

    @property
    def skew(self) -> float | None:
        """The rows of the task that got most, over the mean of all; None before the first row."""
        total = sum(self.rows_by_task.values())
        return max(self.rows_by_task.values()) * len(self.rows_by_task) / total if total else None

    def to_dict(self) -> dict[str, object]:
        """Return the figures as plain data."""
        return dataclasses.asdict(self)
