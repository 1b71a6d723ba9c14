"""What the daemon keeps on disk of an attempt that outlives it, and how its own tasks stood when it was killed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from cython_shuffle.hold import Hold, WriterPlace
from planner import task_spec as spec
from sabot.errors import JobError
from sabotd.agent import messages as msg
from sabotd.agent.places import EpochFile, PlaceLog, writers_at


def folder(held_dir: Path, job_id: str, attempt: int) -> Path:
    """Return the folder of an attempt."""
    return held_dir / f"{file_name(job_id)}.{attempt}"


def file_name(text: str) -> str:
    """Return `text` fit for a file's name; two texts may have one."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in text)


def own_end(held_dir: Path, command: msg.RegisterShuffles, hold: Hold) -> Hold:
    """Return what the shuffle needs to keep, or to go on from, at the daemon's ends of an attempt's edges.

    Raises
    ------
    JobError
        It is to go on, and something is missing for that.
    """
    assert command.hold is not None
    kept = folder(held_dir, command.job_id, command.attempt)
    epoch = command.hold.resume_epoch
    if epoch is None:
        kept.mkdir(parents=True, exist_ok=True)
        return replace(hold, folder=kept)
    if not kept.is_dir():
        text = f"nothing of attempt {command.attempt} of job {command.job_id!r} is kept"
        raise JobError(text)
    writers: dict[tuple[str, str], WriterPlace] = {}
    for path in kept.glob("*.places"):
        places = PlaceLog(path, resume=True)
        places.close()
        tasks = {t for e in command.edges for t in e.upstream if file_name(t) == path.stem}
        for task in tasks:
            writers.update(writers_at(task, places.at(epoch)))
    return replace(hold, folder=kept, epoch=epoch, writers=writers)


def standing(
    held_dir: Path,
    job_id: str,
    attempt: int,
    tasks: Sequence[spec.TaskSpec],
    epoch_on_disk: Callable[[spec.MaterializeOp], int | None],
) -> msg.Standing:
    """Return how the daemon's own tasks of an attempt stood when it was killed; nothing is changed.

    Raises
    ------
    JobError
        Something that they need to go on is not there.
    """
    kept = folder(held_dir, job_id, attempt)
    found = []
    for task in tasks:
        name = file_name(task.task_id)
        injected = None
        if (kept / f"{name}.places").exists():
            log = PlaceLog(kept / f"{name}.places", resume=True)
            log.close()
            injected = log.places[-1].inject if log.places else None
        epoch_file = kept / f"{name}.epoch"
        if not epoch_file.exists():
            text = f"nothing of task {task.task_id!r} of job {job_id!r} is kept"
            raise JobError(text)
        completed = _read(epoch_file)
        for node in task.nodes:
            if isinstance(node.op, spec.MaterializeOp):
                on_disk = epoch_on_disk(node.op)
                if on_disk is None:
                    text = f"the rows of view {node.op.relation!r} are not on disk"
                    raise JobError(text)
                completed = max(completed, on_disk)  # killed between the one and the other
        found.append(msg.TaskStanding(task.task_id, injected, None, completed))
    return msg.Standing(tuple(found))


def _read(path: Path) -> int:
    file = EpochFile(path)
    try:
        return file.read()
    finally:
        file.close()
