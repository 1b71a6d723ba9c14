"""DBOS behind one door: its start and stop, the running of workflows by name, their history.

What the workflows do is in `procedures`.
"""

from __future__ import annotations

import datetime as dt
import logging
import time

import sqlalchemy as sa
from dbos import DBOS, DBOSPortableJSONSerializer, SetWorkflowID

from sabot.errors import error_from_wire
from sabotd.control import procedures
from sabotd.control.actions import ClusterActions, JobActions
from sabotd.control.procedures import CONTROL_PROTOCOL

log = logging.getLogger("sabot.workflows")

_UNFINISHED = ["PENDING", "ENQUEUED", "DELAYED"]
_ENDED = ["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]
_AT_ONCE = 500
_LOOK_EVERY_S = 0.05


def start(engine: sa.Engine, url: str, jobs: JobActions, cluster: ClusterActions) -> None:
    """Launch DBOS on `engine`, and finish the workflows that a dead daemon left; returns when they have ended.

    Those of another version of the control protocol cannot be replayed and are cancelled: the tables hold the truth,
    from which the daemon goes on.
    """
    procedures.bind(jobs, cluster)
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
    _finish_what_was_left()


def _finish_what_was_left() -> None:
    left = DBOS.list_workflows(status=_UNFINISHED, load_input=False, load_output=False)
    if old := [w.workflow_id for w in left if w.app_version != CONTROL_PROTOCOL]:
        log.warning("workflows of another version were left unfinished and are given up: %s", ", ".join(old))
        DBOS.cancel_workflows(old)
    mine = [w.workflow_id for w in left if w.app_version == CONTROL_PROTOCOL]
    while mine and DBOS.list_workflows(workflow_ids=mine, status=_UNFINISHED, load_input=False, load_output=False):
        time.sleep(_LOOK_EVERY_S)
    if mine:
        log.info("finished what was left: %s", ", ".join(mine))


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
        error = procedures.deploy(job_id, generation)
    if error is not None:
        raise error_from_wire(error)


def stop_job(job_id: str, generation: int, state: str, error: str | None = None) -> None:
    """Run the stop workflow: tasks end, then the tables say `state`."""
    with SetWorkflowID(f"stop:{job_id}:{generation}:{state}"):
        procedures.stop(job_id, generation, state, error)


def pause(job_id: str, change: int) -> None:
    """Run a pause workflow; `change` tells one from another."""
    with SetWorkflowID(f"pause:{job_id}:{change}"):
        procedures.pause(job_id)


def resume(job_id: str, change: int) -> None:
    """Run a resume workflow."""
    with SetWorkflowID(f"resume:{job_id}:{change}"):
        procedures.resume(job_id)


def recover(job_ids: list[str], change: int) -> None:
    """Run a recover workflow."""
    with SetWorkflowID(f"recover:{change}"):
        procedures.recover(job_ids)


def drain(agent_id: str, incarnation: str, change: int) -> bool:
    """Run a drain workflow; False if the agent is not there."""
    with SetWorkflowID(f"drain:{agent_id}:{change}"):
        return procedures.drain(agent_id, incarnation)


def prune(before_s: float) -> int:
    """Delete workflows that ended before a moment (seconds since 1970); return how many."""
    before = dt.datetime.fromtimestamp(before_s, dt.UTC).isoformat()
    gone = 0
    while ended := DBOS.list_workflows(
        status=_ENDED, completed_before=before, load_input=False, load_output=False, limit=_AT_ONCE
    ):
        DBOS.delete_workflows([w.workflow_id for w in ended])
        gone += len(ended)
    return gone


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
