"""The execution graph: tasks, and the shuffle edges between the tasks of neighbouring operators."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from planner.distribution import AnyDistribution, Broadcast, Hash, Single, satisfies
from planner.job_graph import JobGraph, JobOperator
from sabot.ids import EdgeId, OperatorId, TaskId


class ShuffleEdgeType(enum.Enum):
    """How rows go from the tasks of one operator to those of the next."""

    FORWARD = "FORWARD"
    HASH = "HASH"
    BROADCAST = "BROADCAST"
    REBALANCE = "REBALANCE"
    RANGE = "RANGE"
    CUSTOM = "CUSTOM"


def detect_shuffle_edge_type(upstream: JobOperator, downstream: JobOperator, port: int = 0) -> ShuffleEdgeType:
    """Return the edge that input `port` of `downstream` needs.

    FORWARD is a property: the same tasks with the same key-group map, and rows that lie as required already. Equal
    parallelism alone never gives it to a keyed input.
    """
    requires = downstream.inputs[port].requires
    same_tasks = (
        upstream.parallelism == downstream.parallelism
        and upstream.max_parallelism == downstream.max_parallelism
        and upstream.pinned == downstream.pinned
    )
    match requires:
        case Broadcast():
            one_task = same_tasks and downstream.parallelism == 1
            return ShuffleEdgeType.FORWARD if one_task else ShuffleEdgeType.BROADCAST
        case AnyDistribution():
            return ShuffleEdgeType.FORWARD if same_tasks else ShuffleEdgeType.REBALANCE
        case Single() | Hash():
            in_place = downstream.parallelism == 1 or satisfies(upstream.distribution, requires)
            return ShuffleEdgeType.FORWARD if same_tasks and in_place else ShuffleEdgeType.HASH


@dataclass(frozen=True)
class Task:
    """One parallel instance of an operator."""

    task_id: TaskId
    operator_id: OperatorId
    index: int
    parallelism: int


@dataclass
class ShuffleEdge:
    """All channels from one operator's tasks to one input of another's.

    `keys` are the hash keys; a HASH edge without keys gathers into one task. `rows` and `bytes` count what went over
    it, in rows and in bytes of Arrow buffers.
    """

    edge_id: EdgeId
    type: ShuffleEdgeType
    keys: tuple[str, ...]
    upstream: OperatorId
    downstream: OperatorId
    port: int
    upstream_task_ids: tuple[TaskId, ...]
    downstream_task_ids: tuple[TaskId, ...]
    rows: int = 0
    bytes: int = 0

    @property
    def is_gather(self) -> bool:
        """Whether everything goes to one task."""
        return self.type is ShuffleEdgeType.HASH and not self.keys


@dataclass(frozen=True)
class ExecutionGraph:
    """A job graph, expanded: one task an operator and index, one edge an operator's input."""

    job_graph: JobGraph
    tasks: tuple[Task, ...]
    edges: tuple[ShuffleEdge, ...] = field(default=())

    def tasks_of(self, operator_id: OperatorId) -> tuple[Task, ...]:
        """Return the tasks of an operator by index."""
        return tuple(t for t in self.tasks if t.operator_id == operator_id)

    def edges_into(self, operator_id: OperatorId) -> tuple[ShuffleEdge, ...]:
        """Return the edges into an operator, by port."""
        return tuple(e for e in self.edges if e.downstream == operator_id)


def task_id(operator_id: OperatorId, index: int) -> TaskId:
    """Return the id of task `index` of an operator."""
    return TaskId(f"{operator_id}/{index}")


def expand(job_graph: JobGraph) -> ExecutionGraph:
    """Return the tasks and shuffle edges of `job_graph`."""
    ids = {
        op.operator_id: tuple(task_id(op.operator_id, i) for i in range(op.parallelism)) for op in job_graph.operators
    }
    tasks = tuple(
        Task(name, op.operator_id, i, op.parallelism)
        for op in job_graph.operators
        for i, name in enumerate(ids[op.operator_id])
    )
    edges = []
    for op in job_graph.operators:
        for port, given in enumerate(op.inputs):
            kind = detect_shuffle_edge_type(job_graph.operator(given.upstream), op, port)
            edges.append(
                ShuffleEdge(
                    EdgeId(f"{given.upstream}->{op.operator_id}#{port}"),
                    kind,
                    given.key_by if kind is ShuffleEdgeType.HASH else (),
                    given.upstream,
                    op.operator_id,
                    port,
                    ids[given.upstream],
                    ids[op.operator_id],
                )
            )
    return ExecutionGraph(job_graph, tasks, tuple(edges))
