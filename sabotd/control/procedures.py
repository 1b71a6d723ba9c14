"""The durable workflows: short procedures that move what the tables say, by steps that the rest of the daemon offers.

Each is finished exactly once, whatever dies meanwhile: a step that was recorded is not done again, one that was not is
done again and so must be idempotent. Steps take and give plain JSON, because the daemon that replays a workflow is
another process. It has none of the tasks that the dead one started (its agents died with it): where a replay finds an
attempt that it never placed, it begins the next one.
"""

from __future__ import annotations

from collections.abc import Callable

from dbos import DBOS

from sabot.errors import SabotError
from sabotd.control.actions import NO_AGENT, Affected, ClusterActions, ForgottenAttemptError, JobActions

CONTROL_PROTOCOL = "ctl-4"
"""Version of the workflows' shape; raise it when their steps change."""

_PAUSES_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Between the tries to deploy a job anew: an agent that comes back takes a second, on a busy machine many."""
_FORGOTTEN: dict[str, object] = {"forgotten": True}

_actions: tuple[JobActions, ClusterActions] | None = None


def bind(jobs: JobActions, cluster: ClusterActions) -> None:
    """Say who carries out the steps (DBOS itself is one to a process)."""
    global _actions  # noqa: PLW0603
    _actions = (jobs, cluster)


def _jobs() -> JobActions:
    assert _actions is not None, "workflows run after bind()"
    return _actions[0]


def _cluster() -> ClusterActions:
    assert _actions is not None, "workflows run after bind()"
    return _actions[1]


def _answer(call: Callable[[], object]) -> dict[str, object] | None:
    """Return an error as data: a failed start is an answer, which a replay must give again."""
    try:
        call()
    except ForgottenAttemptError:
        return _FORGOTTEN
    except SabotError as error:
        return error.to_wire()
    return None


# -- steps


@DBOS.step(name="next_attempt")
def _next_attempt(job_id: str) -> int | None:
    return _jobs().next_attempt(job_id)


@DBOS.step(name="place")
def _place(job_id: str, generation: int) -> dict[str, object]:
    placement: dict[str, str] = {}
    error = _answer(lambda: placement.update(_jobs().place(job_id, generation)))
    return {"agents": sorted(set(placement.values())), "error": error}


@DBOS.step(name="register_shuffles")
def _register_shuffles(job_id: str, generation: int) -> dict[str, object] | None:
    return _answer(lambda: _jobs().register_shuffles(job_id, generation))


@DBOS.step(name="start_tasks")
def _start_tasks(job_id: str, generation: int, agent_id: str) -> dict[str, object] | None:
    return _answer(lambda: _jobs().start_tasks(job_id, generation, agent_id))


@DBOS.step(name="begin")
def _begin(job_id: str, generation: int) -> dict[str, object] | None:
    return _answer(lambda: _jobs().begin(job_id, generation))


@DBOS.step(name="stop_tasks")
def _stop_tasks(job_id: str, generation: int) -> None:
    _jobs().stop_tasks(job_id, generation)


@DBOS.step(name="record")
def _record(job_id: str, generation: int, state: str, error: str | None) -> None:
    _jobs().record(job_id, generation, state, error)


@DBOS.step(name="desire")
def _desire(job_id: str, desired: str) -> None:
    _jobs().desire(job_id, desired)


@DBOS.step(name="pause_sources")
def _pause_sources(job_id: str) -> None:
    _jobs().pause_sources(job_id)


@DBOS.step(name="resume_sources")
def _resume_sources(job_id: str) -> bool:
    return _jobs().resume_sources(job_id)


@DBOS.step(name="suspend")
def _suspend(job_id: str, generation: int) -> None:
    _jobs().suspend(job_id, generation)


@DBOS.step(name="give_up")
def _give_up(job_id: str, reason: str) -> None:
    _jobs().give_up(job_id, reason)


@DBOS.step(name="affected")
def _affected(job_ids: list[str]) -> Affected:
    return _cluster().affected(job_ids)


@DBOS.step(name="affected_by_drain")
def _affected_by_drain(agent_id: str) -> Affected:
    return _cluster().affected_by_drain(agent_id)


@DBOS.step(name="refusal")
def _refusal(job_id: str) -> str | None:
    return _cluster().refusal(job_id)


@DBOS.step(name="put_off")
def _put_off(job_id: str) -> None:
    _cluster().put_off(job_id)


@DBOS.step(name="reset")
def _reset(job_id: str) -> None:
    _cluster().reset(job_id)


@DBOS.step(name="wait")
def _wait(seconds: float) -> bool:
    return _cluster().wait(seconds)


@DBOS.step(name="stop_placing")
def _stop_placing(agent_id: str, incarnation: str) -> bool:
    return _cluster().stop_placing(agent_id, incarnation)


@DBOS.step(name="let_go")
def _let_go(agent_id: str, incarnation: str) -> None:
    _cluster().let_go(agent_id, incarnation)


# -- workflows


@DBOS.workflow(name="deploy", max_recovery_attempts=None)
def deploy(job_id: str, generation: int) -> dict[str, object] | None:
    """Bring a job up; the error as data if that fails."""
    return _bring_up(job_id, generation)


@DBOS.workflow(name="stop", max_recovery_attempts=None)
def stop(job_id: str, generation: int, state: str, error: str | None) -> None:
    """End a job's tasks, and say how it ended."""
    if state == "FINISHED":  # said before the tasks go: a daemon that finds neither would begin the job again
        _record(job_id, generation, state, error)
    _stop_tasks(job_id, generation)
    if state != "FINISHED":
        _record(job_id, generation, state, error)


@DBOS.workflow(name="pause", max_recovery_attempts=None)
def pause(job_id: str) -> None:
    """Have a job read nothing more, also after a restart."""
    _desire(job_id, "paused")
    _pause_sources(job_id)


@DBOS.workflow(name="resume", max_recovery_attempts=None)
def resume(job_id: str) -> None:
    """Have a paused job go on; one that has lost its tasks meanwhile begins anew."""
    _desire(job_id, "running")
    if not _resume_sources(job_id):
        _restart(_affected([job_id]))


@DBOS.workflow(name="recover", max_recovery_attempts=None)
def recover(job_ids: list[str]) -> None:
    """Deploy jobs anew whose tasks were lost, with all that reads their rows."""
    _restart(_affected(job_ids))


@DBOS.workflow(name="drain", max_recovery_attempts=None)
def drain(agent_id: str, incarnation: str) -> bool:
    """Move an agent's tasks to the others and let it go; False if it is not there."""
    if not _stop_placing(agent_id, incarnation):
        return False
    _restart(_affected_by_drain(agent_id))
    _let_go(agent_id, incarnation)
    return True


def _bring_up(job_id: str, generation: int) -> dict[str, object] | None:
    while (error := _attempt(job_id, generation)) == _FORGOTTEN:
        _reset(job_id)  # of what its tasks had written
        following = _next_attempt(job_id)
        if following is None:
            return None  # dropped since
        generation = following
    if error is not None:
        _stop_tasks(job_id, generation)
        _record(job_id, generation, "FAILED", str(error["message"]))
    return error


def _attempt(job_id: str, generation: int) -> dict[str, object] | None:
    placed = _place(job_id, generation)
    error = placed["error"] or _register_shuffles(job_id, generation)
    agents = placed["agents"]
    assert isinstance(agents, list)
    for agent_id in agents:
        error = error or _start_tasks(job_id, generation, agent_id)
    if error is None:
        _record(job_id, generation, "RUNNING", None)
        error = _begin(job_id, generation)
    assert error is None or isinstance(error, dict)
    return error


def _restart(affected: Affected) -> None:
    """Stop jobs, readers first, and begin them anew, readers last."""
    for job_id, generation, _ in reversed(affected):
        _suspend(job_id, generation)
    for job_id, _, anew in affected:
        if anew:
            _begin_anew(job_id)


def _begin_anew(job_id: str) -> None:
    if (refusal := _refusal(job_id)) is not None:
        _give_up(job_id, refusal)
        return
    _reset(job_id)
    error: dict[str, object] | None = None
    for pause_s in _PAUSES_S:
        if pause_s and not _wait(pause_s):
            return  # the daemon stops; the next one deploys every job
        generation = _next_attempt(job_id)
        if generation is None:
            return  # dropped since
        error = _bring_up(job_id, generation)
        if error is None:
            return
        if error["sqlstate"] == NO_AGENT:
            _put_off(job_id)
            return
    assert error is not None
    _give_up(job_id, f"cannot be started again: {error['message']}")
