"""What the coordinator tells agents and what tasks report back: plain data, JSON on the wire."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from planner.task_spec import EdgeSpec, TaskSpec


class HoldTerms(msgspec.Struct, frozen=True):
    """The attempt outlives the daemon at `location`, for `away_s` seconds.

    To the daemon's own agent: `resume_epoch`, the last epoch that was complete everywhere, when it takes over from one
    that was killed.
    """

    location: str
    away_s: float
    resume_epoch: int | None = None


class RegisterShuffles(msgspec.Struct, frozen=True):
    """Begin an attempt of a job here: make its `edges` known. `locations` has every task of the job. Idempotent."""

    job_id: str
    attempt: int
    edges: tuple[EdgeSpec, ...]
    locations: dict[str, str]
    hold: HoldTerms | None = None


class Deploy(msgspec.Struct, frozen=True):
    """Start `tasks` of an attempt that was begun here; `edges` are those that they read and write. Idempotent."""

    job_id: str
    attempt: int
    tasks: tuple[TaskSpec, ...]
    edges: tuple[EdgeSpec, ...]


class Cancel(msgspec.Struct, frozen=True):
    """Stop what runs of the job, up to `attempt`. Idempotent.

    `halt`: only have the tasks leave quietly when their peers go; sent to all agents before the first of them cancels.
    """

    job_id: str
    attempt: int
    halt: bool = False


class TakeOver(msgspec.Struct, frozen=True):
    """Tell how the tasks of an attempt stand (`Standing`), for a daemon at `location` that was started again."""

    job_id: str
    attempt: int
    location: str


class SplitWatermark(msgspec.Struct, frozen=True):
    """A split's running watermark (microseconds, None before the first row) and whether it has been silent for long."""

    relation: str
    split: str
    watermark_us: int | None
    idle: bool


class InjectBarrier(msgspec.Struct, frozen=True):
    """End the epoch at the sources of a job. `watermarks_us` by relation; `splits` as of the barrier before.

    `now_us` is what now() means in the epoch.
    """

    job_id: str
    attempt: int
    epoch: int
    watermarks_us: dict[str, int | None]
    splits: tuple[SplitWatermark, ...]
    final: bool = False
    now_us: int = 0


class Fence(msgspec.Struct, frozen=True):
    """Tell when all that the sources held when this arrived has been read."""

    job_id: str
    attempt: int
    fence_id: int


class Pause(msgspec.Struct, frozen=True):
    """Have the job's sources read nothing more, or go on. Idempotent.

    Each source task that stops tells by `FenceReached` with which barrier all goes out that it has read.
    """

    job_id: str
    attempt: int
    paused: bool
    fence_id: int = 0


class SourceDirty(msgspec.Struct, frozen=True, tag="dirty"):
    """A source task has something that waits for a barrier."""

    job_id: str
    attempt: int
    task_id: str


class SourcePassed(msgspec.Struct, frozen=True, tag="passed"):
    """A source task has sent barrier `epoch`. `rows`, `bytes` and `bad_records` are totals of the attempt."""

    job_id: str
    attempt: int
    task_id: str
    epoch: int
    splits: tuple[SplitWatermark, ...]
    finished: bool
    rows: int
    bytes: int
    bad_records: int


class FenceReached(msgspec.Struct, frozen=True, tag="fence"):
    """All before the fence goes out with barrier `epoch` at the latest; or `error` says why that is not known."""

    job_id: str
    attempt: int
    task_id: str
    fence_id: int
    epoch: int
    error: str | None = None


class EpochDone(msgspec.Struct, frozen=True, tag="done"):
    """A task without outputs (a sink, a materialized view) has taken all of `epoch`."""

    job_id: str
    attempt: int
    task_id: str
    epoch: int
    rows: int


class TaskFailed(msgspec.Struct, frozen=True, tag="failed"):
    """A task has failed; `error` is ``SabotError.to_wire()``."""

    job_id: str
    attempt: int
    task_id: str
    error: dict[str, object]


class BadRecordReport(msgspec.Struct, frozen=True, tag="bad"):
    """Records that did not decode, at most some hundred a message; `total` of the task with those not shown.

    `computed`: rows on which an expression failed.
    """

    job_id: str
    attempt: int
    task_id: str
    source: str
    records: tuple[tuple[str, bytes, str], ...]
    total: int
    computed: bool = False


class TaskStanding(msgspec.Struct, frozen=True):
    """How a task stands: the last barrier that its sources were told of and passed, the last epoch it completed.

    `completed` counts for tasks without outputs. `error`: it has failed.
    """

    task_id: str
    injected: InjectBarrier | None = None
    passed: SourcePassed | None = None
    completed: int = 0
    error: dict[str, object] | None = None


class Standing(msgspec.Struct, frozen=True):
    """How the tasks of an attempt stand at one agent."""

    tasks: tuple[TaskStanding, ...]


class LateReport(msgspec.Struct, frozen=True, tag="late"):
    """Rows came too late at operator `place` of the task: `total` so far, and the newest as an Arrow IPC stream."""

    job_id: str
    attempt: int
    task_id: str
    place: int
    total: int
    rows: bytes = b""


Report: TypeAlias = LateReport | SourceDirty | SourcePassed | FenceReached | EpochDone | TaskFailed | BadRecordReport


class Reports(msgspec.Struct, frozen=True):
    """Reports of one agent in the order they were made."""

    agent_id: str
    reports: tuple[Report, ...]


STANDING: msgspec.json.Decoder[Standing] = msgspec.json.Decoder(Standing)
REPORTS: msgspec.json.Decoder[Reports] = msgspec.json.Decoder(Reports)
"""Made at import, on one thread: msgspec crashes when two threads are the first to decode a type."""
