"""Tasks on agents: free slots first, in proportion when there are none, equal indexes together."""

from __future__ import annotations

from collections import Counter

from planner.placement import AgentSlots, place_tasks, slots_used
from planner.task_spec import TaskSpec


def tasks(*operators: tuple[str, int], pinned: bool = False) -> list[TaskSpec]:
    return [TaskSpec(f"{o}/{i}", o, i, n, (), (), pinned) for o, n in operators for i in range(n)]


def counts(count: int, *agents: AgentSlots) -> Counter[str]:
    return Counter(place_tasks(tasks(("a", count)), agents, "own").values())


def test_tasks_of_equal_index_are_together_and_pinned_ones_at_home() -> None:
    job = [*tasks(("scan", 3), ("agg", 2)), *tasks(("view", 1), pinned=True)]
    placed = place_tasks(job, [AgentSlots("a1", 1, 0), AgentSlots("a2", 1, 0)], "own")
    assert placed == {"scan/0": "a1", "scan/1": "a2", "scan/2": "a1", "agg/0": "a1", "agg/1": "a2", "view/0": "own"}
    assert slots_used(job, placed) == {"a1": 2, "a2": 1}


def test_free_slots_go_first() -> None:
    busy, free = AgentSlots("a1", 4, 3), AgentSlots("a2", 2, 0)
    assert place_tasks(tasks(("a", 3)), [busy, free], "own") == {"a/0": "a2", "a/1": "a1", "a/2": "a2"}


def test_no_agent_is_overcommitted_while_another_has_a_free_slot() -> None:
    agents = (AgentSlots("a", 1, 0), AgentSlots("b", 7, 2), AgentSlots("c", 3, 3))
    placed = counts(6, *agents)
    assert placed == {"a": 1, "b": 5}


def test_the_rest_is_shared_out_in_proportion() -> None:
    assert counts(30, AgentSlots("a", 1, 0), AgentSlots("b", 2, 0), AgentSlots("c", 3, 0)) == {"a": 5, "b": 10, "c": 15}


def test_jobs_of_one_task_do_not_all_go_to_the_first_agent() -> None:
    used = Counter[str]()
    for _ in range(6):
        agents = [AgentSlots(name, 2, used[name]) for name in ("a1", "a2", "a3")]
        used.update(place_tasks(tasks(("a", 1)), agents, "own").values())
    assert used == {"a1": 2, "a2": 2, "a3": 2}
