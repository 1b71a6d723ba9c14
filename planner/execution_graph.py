"""The execution graph: tasks, and the shuffle edges between the tasks of neighbouring operators."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field

from planner.distribution import (
    AnyDistribution,
    Broadcast,
    Custom,
    Distribution,
    Hash,
    Range,
    Rebalance,
    Single,
    satisfies,
)
from planner.job_graph import JobGraph, StreamOperatorNode
from planner.key_groups import KeyGroupMove, key_group_range, moves
from sabot.errors import PlanError
from sabot.ids import EdgeId, OperatorId, TaskId


class ShuffleEdgeType(enum.Enum):
    """How rows go from the tasks of one operator to those of the next."""

    FORWARD = "FORWARD"
    HASH = "HASH"
    BROADCAST = "BROADCAST"
    REBALANCE = "REBALANCE"
    RANGE = "RANGE"
    CUSTOM = "CUSTOM"


def detect_shuffle_edge_type(
    upstream: StreamOperatorNode, downstream: StreamOperatorNode, port: int = 0
) -> ShuffleEdgeType:
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
        case Rebalance():
            return ShuffleEdgeType.REBALANCE
        case Range():
            return ShuffleEdgeType.RANGE
        case Custom():
            return ShuffleEdgeType.CUSTOM
        case AnyDistribution():
            return ShuffleEdgeType.FORWARD if same_tasks else ShuffleEdgeType.REBALANCE
        case Single() | Hash():
            in_place = downstream.parallelism == 1 or satisfies(upstream.distribution, requires)
            return ShuffleEdgeType.FORWARD if same_tasks and in_place else ShuffleEdgeType.HASH


@dataclass(frozen=True)
class Task:
    """One parallel instance of an operator; the key groups that are its own, of `max_parallelism`."""

    task_id: TaskId
    operator_id: OperatorId
    index: int
    parallelism: int
    max_parallelism: int = 128

    @property
    def key_groups(self) -> range:
        """The key groups whose rows come here by a HASH edge."""
        return key_group_range(self.index, self.parallelism, self.max_parallelism)


@dataclass
class ShuffleEdge:
    """All channels from one operator's tasks to one input of another's.

    `keys` are the hash keys; a HASH edge without keys gathers into one task. Of RANGE `keys` is the column, and
    `requires` has its bounds; of CUSTOM the function. `rows` and `bytes` count what went over it, in rows and in bytes
    of Arrow buffers.
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
    requires: Distribution = field(default_factory=AnyDistribution)

    @property
    def is_gather(self) -> bool:
        """Whether everything goes to one task."""
        return self.type is ShuffleEdgeType.HASH and not self.keys


@dataclass(frozen=True)
class Rescale:
    """What `ExecutionGraph.rescale_operator` did: the tasks before and after, and the key groups that change hands."""

    operator_id: OperatorId
    before: tuple[Task, ...]
    after: tuple[Task, ...]
    moves: tuple[KeyGroupMove, ...]


class ExecutionGraph:
    """A job graph, expanded: one task an operator and index, one edge an operator's input.

    What is changed here (`add_shuffle_edge`, `rescale_operator`) is changed in `job_graph` too, so that the two never
    tell different things. The graph that it was made from stays as it is.
    """

    def __init__(self, job_graph: JobGraph) -> None:
        self._expand(job_graph, {})

    def _expand(self, job_graph: JobGraph, known: dict[EdgeId, ShuffleEdge]) -> None:
        self.job_graph = job_graph
        operators = job_graph.operators
        self.tasks: tuple[Task, ...] = tuple(
            Task(task_id(op.operator_id, i), op.operator_id, i, op.parallelism, op.max_parallelism)
            for op in operators
            for i in range(op.parallelism)
        )
        by_id = {op.operator_id: op for op in operators}
        edges = []
        for op in operators:
            for port in range(len(op.inputs)):
                edge = _edge(by_id[op.inputs[port].upstream], op, port)
                before = known.get(edge.edge_id)
                if before is not None:
                    edge.rows, edge.bytes = before.rows, before.bytes
                edges.append(edge)
        self.edges: tuple[ShuffleEdge, ...] = tuple(edges)

    def tasks_of(self, operator_id: str) -> tuple[Task, ...]:
        """Return the tasks of an operator by index."""
        return tuple(t for t in self.tasks if t.operator_id == operator_id)

    def edges_into(self, operator_id: str) -> tuple[ShuffleEdge, ...]:
        """Return the edges into an operator, by port."""
        return tuple(e for e in self.edges if e.downstream == operator_id)

    def get_shuffle_edges_for_operator(self, operator_id: str) -> tuple[ShuffleEdge, ...]:
        """Return the edges into an operator by port, then those out of it.

        Raises
        ------
        PlanError
            If it is not there.
        """
        self.job_graph.operator(operator_id)
        return self.edges_into(operator_id) + tuple(e for e in self.edges if e.upstream == operator_id)

    def detect_shuffle_edge_type(self, upstream: str, downstream: str, port: int = 0) -> ShuffleEdgeType:
        """Return the type of edge that input `port` of `downstream` needs, if `upstream` feeds it.

        Raises
        ------
        PlanError
            If an operator is not there, or has no such input.
        """
        above, below = self.job_graph.operator(upstream), self.job_graph.operator(downstream)
        if not 0 <= port < len(below.inputs):
            msg = f"{downstream!r} has no input {port}"
            raise PlanError(msg)
        return detect_shuffle_edge_type(above, below, port)

    def add_shuffle_edge(
        self,
        upstream: str,
        downstream: str,
        type: ShuffleEdgeType | None = None,
        keys: Iterable[str] = (),
        port: int | None = None,
        *,
        requires: Distribution | None = None,
    ) -> ShuffleEdge:
        """Feed the next input of `downstream` from `upstream`.

        Parameters
        ----------
        upstream, downstream : str
            Operator ids.
        type : ShuffleEdgeType, optional
            By default what the operators need: HASH with `keys`, else FORWARD or REBALANCE.
        keys : columns
            Of a HASH edge.
        port : int, optional
            The input's number, to be checked.
        requires : Distribution, optional
            Instead of keys: `planner.distribution.Range` and `Custom` say how their edges cut.

        Raises
        ------
        PlanError
            If the edge cannot be: of a type that the two operators do not allow, into an input that is fed already.
        """
        keys = tuple(keys)
        below = self.job_graph.operator(downstream)
        graph = _copied(self.job_graph)
        graph.connect(
            upstream,
            downstream,
            len(below.inputs) if port is None else port,
            keys if type in (None, ShuffleEdgeType.HASH) else (),
            requires=requires or _required(type, keys, below),
        )
        known = {e.edge_id: e for e in self.edges}
        made = ExecutionGraph(graph)
        edge = made.edges_into(below.operator_id)[-1]
        if type is not None and edge.type is not type:
            msg = f"edge {edge.edge_id!r} is {edge.type.value}, not {type.value}"
            raise PlanError(msg, hint="FORWARD joins as many tasks as there are, whose rows lie as required already")
        self._expand(graph, known)
        return self.edges_into(below.operator_id)[-1]

    def rescale_operator(self, operator_id: str, parallelism: int) -> Rescale:
        """Give an operator another number of tasks: its tasks, all edges at it, and what lies below, follow.

        Edges keep their ids and figures; their types are found anew. State does not move here: `Rescale.moves` tells
        which key groups have to.

        Raises
        ------
        PlanError
            If it cannot have so many tasks; nothing has changed then.
        """
        operator = self.job_graph.operator(operator_id)
        before = self.tasks_of(operator.operator_id)
        graph = self.job_graph.rescaled(operator_id, parallelism)
        self._expand(graph, {e.edge_id: e for e in self.edges})
        moved = moves(operator.parallelism, parallelism, operator.max_parallelism)
        return Rescale(operator.operator_id, before, self.tasks_of(operator.operator_id), moved)


def task_id(operator_id: OperatorId, index: int) -> TaskId:
    """Return the id of task `index` of an operator."""
    return TaskId(f"{operator_id}/{index}")


def _edge(upstream: StreamOperatorNode, downstream: StreamOperatorNode, port: int) -> ShuffleEdge:
    kind = detect_shuffle_edge_type(upstream, downstream, port)
    requires = downstream.inputs[port].requires
    keys = downstream.inputs[port].key_by if kind is ShuffleEdgeType.HASH else ()
    return ShuffleEdge(
        EdgeId(f"{upstream.operator_id}->{downstream.operator_id}#{port}"),
        kind,
        (requires.column,) if isinstance(requires, Range) else keys,
        upstream.operator_id,
        downstream.operator_id,
        port,
        tuple(task_id(upstream.operator_id, i) for i in range(upstream.parallelism)),
        tuple(task_id(downstream.operator_id, i) for i in range(downstream.parallelism)),
        requires=requires,
    )


def _copied(graph: JobGraph) -> JobGraph:
    out = JobGraph(graph.name, max_parallelism=graph.max_parallelism)
    for operator in graph.operators:
        out.add(operator)
    return out


def _required(type: ShuffleEdgeType | None, keys: tuple[str, ...], below: StreamOperatorNode) -> Distribution | None:
    """Return the distribution that an edge of `type` gives; None where `keys` and the operator say it."""
    if keys and type is not None and type is not ShuffleEdgeType.HASH:
        msg = f"an edge of type {type.value} has no keys"
        raise PlanError(msg, hint="keys are of HASH")
    match type:
        case None:
            return None
        case ShuffleEdgeType.HASH:
            return None if keys else Single()
        case ShuffleEdgeType.BROADCAST:
            return Broadcast()
        case ShuffleEdgeType.REBALANCE:
            return Rebalance()
        case ShuffleEdgeType.FORWARD:
            return Single() if below.stateful and below.parallelism == 1 else AnyDistribution()
        case ShuffleEdgeType.RANGE | ShuffleEdgeType.CUSTOM:
            msg = f"an edge of type {type.value} needs to know how it cuts"
            raise PlanError(msg, hint="give requires=Range(column, bounds) or Custom(path)")
