"""DBOS behind one door: the durable workflows that change the cluster, and their start and stop.

Workflows are short and move what the tables say; nothing waits in one. Steps take and give plain JSON, because a
workflow that a killed daemon left behind is replayed by the next one.
"""

from __future__ import annotations

import logging
from typing import Protocol

import sqlalchemy as sa
from dbos import DBOS, DBOSPortableJSONSerializer, SetWorkflowID

from sabot.errors import SabotError, error_from_wire

CONTROL_PROTOCOL = "ctl-2"
"""Version of the workflows' shape; raise it when their steps change."""


class ClusterActions(Protocol):
    """What the steps do; all of it is idempotent by (job, generation)."""

    def place(self, job_id: str, generation: int) -> dict[str, str]:
        """Choose an agent for each task; returns task id to agent id and records it."""
        ...

    def register_shuffles(self, job_id: str, generation: int) -> None:
        """Make the job's edges known to all agents that have tasks of it."""
        ...

    def start_tasks(self, job_id: str, generation: int, agent_id: str) -> None:
        """Start the tasks that are placed on an agent."""
        ...

    def begin(self, job_id: str, generation: int) -> None:
        """All tasks are up: let barriers flow."""
        ...

    def stop_tasks(self, job_id: str, generation: int) -> None:
        """Stop the job's tasks, up to `generation`, wherever they are."""
        ...

    def record(self, job_id: str, generation: int, state: str, error: str | None) -> None:
        """Write the job's state to the tables."""
        ...


_actions: ClusterActions | None = None


def _cluster() -> ClusterActions:
    assert _actions is not None, "workflows run between start() and stop()"
    return _actions


@DBOS.step(name="place")
def _place(job_id: str, generation: int) -> dict[str, str]:
    return _cluster().place(job_id, generation)


@DBOS.step(name="register_shuffles")
def _register_shuffles(job_id: str, generation: int) -> dict[str, object] | None:
    """Return the error as data; see `_start_tasks`."""
    try:
        _cluster().register_shuffles(job_id, generation)
    except SabotError as error:
        return error.to_wire()
    return None


@DBOS.step(name="start_tasks")
def _start_tasks(job_id: str, generation: int, agent_id: str) -> dict[str, object] | None:
    """Return the error as data: a failed start is an answer, which a replay must give again."""
    try:
        _cluster().start_tasks(job_id, generation, agent_id)
    except SabotError as error:
        return error.to_wire()
    return None


@DBOS.step(name="begin")
def _begin(job_id: str, generation: int) -> None:
    _cluster().begin(job_id, generation)


@DBOS.step(name="stop_tasks")
def _stop_tasks(job_id: str, generation: int) -> None:
    _cluster().stop_tasks(job_id, generation)


@DBOS.step(name="record")
def _record(job_id: str, generation: int, state: str, error: str | None) -> None:
    _cluster().record(job_id, generation, state, error)


@DBOS.workflow(name="deploy", max_recovery_attempts=None)
def _deploy(job_id: str, generation: int) -> dict[str, object] | None:
    placement = _place(job_id, generation)
    error = _register_shuffles(job_id, generation)
    for agent_id in sorted(set(placement.values())):
        error = error or _start_tasks(job_id, generation, agent_id)
    if error is not None:
        _stop_tasks(job_id, generation)
        _record(job_id, generation, "FAILED", str(error["message"]))
        return error
    _record(job_id, generation, "RUNNING", None)
    _begin(job_id, generation)
    return None


@DBOS.workflow(name="stop", max_recovery_attempts=None)
def _stop(job_id: str, generation: int, state: str, error: str | None) -> None:
    if state == "FINISHED":  # said before the tasks go: a daemon that finds neither would begin the job again
        _record(job_id, generation, state, error)
    _stop_tasks(job_id, generation)
    if state != "FINISHED":
        _record(job_id, generation, state, error)


def start(engine: sa.Engine, url: str, actions: ClusterActions) -> None:
    """Launch DBOS on `engine`; workflows that a dead daemon left resume at once."""
    global _actions  # noqa: PLW0603  (DBOS itself is one to a process)
    _actions = actions
    _route_logs()
    DBOS(
        config={
            "name": "sabot",
            "system_database_url": url,
            "system_database_engine": engine,
            "executor_id": "coord",
            "application_version": CONTROL_PROTOCOL,
            "max_executor_threads": 16,
            "log_level": "ERROR",
            "notification_listener_polling_interval_sec": 1.0,
            "scheduler_polling_interval_sec": 3600.0,
            "serializer": DBOSPortableJSONSerializer(),
        }
    )
    DBOS.listen_queues([])
    DBOS.launch()
    _route_logs()


def _route_logs() -> None:
    logger = logging.getLogger("dbos")
    logger.handlers.clear()
    logger.propagate = True


def deploy(job_id: str, generation: int) -> None:
    """Run the deploy workflow of one attempt to its end; the same attempt runs once however often it is asked.

    Raises
    ------
    SabotError
        A task could not be started; the job's other tasks are stopped again.
    """
    with SetWorkflowID(f"deploy:{job_id}:{generation}"):
        error = _deploy(job_id, generation)
    if error is not None:
        raise error_from_wire(error)


def stop_job(job_id: str, generation: int, state: str, error: str | None = None) -> None:
    """Run the stop workflow: tasks end, then the tables say `state`."""
    with SetWorkflowID(f"stop:{job_id}:{generation}:{state}"):
        _stop(job_id, generation, state, error)


def prune(keep_s: float) -> int:
    """Delete ended workflows older than `keep_s` seconds; return how many."""
    import time

    before = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - keep_s))
    ended = DBOS.list_workflows(
        status=["SUCCESS", "ERROR", "CANCELLED"],
        completed_before=before,
        load_input=False,
        load_output=False,
        limit=500,
    )
    if ended:
        DBOS.delete_workflows([w.workflow_id for w in ended])
    return len(ended)


def history(limit: int = 200) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Return the newest workflows, newest first, and their steps in order, as plain rows."""
    workflows: list[dict[str, object]] = []
    steps: list[dict[str, object]] = []
    for found in DBOS.list_workflows(sort_desc=True, limit=limit, load_input=True, load_output=False):
        workflows.append(
            {
                "workflow_id": found.workflow_id,
                "name": found.name,
                "status": found.status,
                "created": found.created_at,
                "updated": found.updated_at,
                "attempts": found.recovery_attempts,
            }
        )
        steps += [
            {
                "workflow_id": found.workflow_id,
                "step": step["function_id"],
                "name": step["function_name"],
                "error": str(step["error"]) if step.get("error") is not None else None,
                "started": step.get("started_at_epoch_ms"),
                "completed": step.get("completed_at_epoch_ms"),
            }
            for step in DBOS.list_workflow_steps(found.workflow_id)
        ]
    return workflows, steps
