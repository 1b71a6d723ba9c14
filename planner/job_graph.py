"""The job graph: operators with their parallelism, and what each of their inputs requires.

The planner makes one of every query, and a user may write one by hand (docs/graph-api.md).
"""

from __future__ import annotations

import datetime as dt
import enum
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from planner.distribution import AnyDistribution, Broadcast, Distribution, Hash, Range, Rebalance, Single
from planner.operator_work import ConnectorWork, PythonWork, RelationWork, SqlWork, Work
from sabot.errors import PlanError
from sabot.ids import OperatorId

if TYPE_CHECKING:
    from planner.execution_graph import ExecutionGraph

DEFAULT_MAX_PARALLELISM = 128
MOST_KEY_GROUPS = 32_768
_QUERY = re.compile(r"[\s(]*(SELECT|WITH|FROM)\b", re.IGNORECASE)
_NAME = re.compile(r"\w[\w .-]{0,62}\Z")


class OperatorType(enum.Enum):
    """What an operator does.

    The first are the words of graphs written by hand, the rest the planner's own; the planner's values are the tags of
    :mod:`planner.task_spec`.
    """

    SOURCE = "source"
    MAP = "map"
    FILTER = "filter"
    FLAT_MAP = "flat_map"
    KEY_BY = "key_by"
    GROUP_BY = "group_by"
    AGGREGATE = "aggregate"
    WINDOW = "window"
    JOIN = "join"
    UNION = "union"
    SINK = "sink"
    MATERIALIZE = "materialize"

    LOG_SOURCE = "log_source"
    SQL = "sql"
    PYTHON = "python"
    PARTIAL_AGG = "partial_agg"
    FINAL_AGG = "final_agg"
    RECOMPUTE = "recompute"
    TEMPORAL_JOIN = "temporal_join"
    TOP_N = "top_n"
    BEST_ROWS = "best_rows"
    TEMPORAL_FILTER = "temporal_filter"
    CLOSE_FILTER = "close_filter"
    CLOSE_OVER = "close_over"
    CLOSE_RECOMPUTE = "close_recompute"
    CLOSE_SESSIONS = "close_sessions"
    UPSERT = "upsert"
    LATE = "late"
    TABLE_SINK = "table_sink"


_MAY_REWRITE_KEYS = (
    OperatorType.MAP,
    OperatorType.FLAT_MAP,
    OperatorType.WINDOW,
    OperatorType.SQL,
    OperatorType.PYTHON,
)


@dataclass(frozen=True)
class JobInput:
    """Input of an operator: who feeds it, and how it requires the rows to lie."""

    upstream: OperatorId
    requires: Distribution = field(default_factory=AnyDistribution)

    @property
    def key_by(self) -> tuple[str, ...]:
        """The columns by which rows must be together; empty if there are none."""
        return self.requires.keys if isinstance(self.requires, Hash) else ()


@dataclass(frozen=True)
class StreamOperatorNode:
    """One operator of a job.

    `distribution` is how its *output* lies over its tasks. `work` is what an operator of a graph written by hand does;
    without it a graph can be looked at but not run.
    """

    operator_id: OperatorId
    type: OperatorType
    parallelism: int
    max_parallelism: int = DEFAULT_MAX_PARALLELISM
    stateful: bool = False
    inputs: tuple[JobInput, ...] = ()
    distribution: Distribution = field(default_factory=AnyDistribution)
    pinned: bool = False
    work: Work | None = None

    @property
    def name(self) -> str:
        """The operator's id, as text."""
        return self.operator_id

    @property
    def is_source(self) -> bool:
        """Whether rows enter the job here."""
        return not self.inputs


class JobGraph:
    """Operators and what feeds them.

    Parameters
    ----------
    name : str
        Under which the job is submitted; may be left to the application.
    max_parallelism : int
        Key groups: the most tasks that an operator may ever have; 1 to 32,768.

    Raises
    ------
    PlanError
        If `max_parallelism` is out of range.
    """

    def __init__(self, name: str = "", *, max_parallelism: int = DEFAULT_MAX_PARALLELISM) -> None:
        if not _is_whole(max_parallelism) or not 1 <= max_parallelism <= MOST_KEY_GROUPS:
            msg = f"max_parallelism {max_parallelism!r} is out of range"
            raise PlanError(msg, hint=f"choose 1 to {MOST_KEY_GROUPS}")
        self.name = name
        self.max_parallelism = max_parallelism
        self._operators: dict[OperatorId, StreamOperatorNode] = {}

    @property
    def operators(self) -> tuple[StreamOperatorNode, ...]:
        """All operators, each after its inputs; where free to choose, in the order in which they were added."""
        order: dict[OperatorId, StreamOperatorNode] = {}
        waiting = dict(self._operators)
        while waiting:
            ready = next(n for n, op in waiting.items() if all(i.upstream in order for i in op.inputs))
            order[ready] = waiting.pop(ready)
        return tuple(order.values())

    def operator(self, operator_id: str) -> StreamOperatorNode:
        """Return the operator of that id.

        Raises
        ------
        PlanError
            If there is none.
        """
        found = self._operators.get(OperatorId(operator_id))
        if found is None:
            msg = f"operator {operator_id!r} does not exist"
            raise PlanError(msg, hint=f"there are {', '.join(self._operators)}" if self._operators else None)
        return found

    def consumers(self, operator_id: str) -> tuple[StreamOperatorNode, ...]:
        """Return the operators that read `operator_id`."""
        return tuple(op for op in self.operators if any(i.upstream == operator_id for i in op.inputs))

    def add(self, operator: StreamOperatorNode) -> StreamOperatorNode:
        """Add an operator whose inputs are there already.

        Raises
        ------
        PlanError
            If the id is taken, an input unknown, or the parallelism impossible.
        """
        name = operator.operator_id
        if name in self._operators:
            msg = f"operator {name!r} is there already"
            raise PlanError(msg)
        if not _NAME.match(name):
            msg = f"operator name {name!r} is not a word"
            raise PlanError(msg, hint="letters, digits, and in between blanks, dots and dashes, at most 63")
        for given in operator.inputs:
            if given.upstream not in self._operators:
                msg = f"operator {name!r} reads {given.upstream!r}, which does not exist"
                raise PlanError(msg)
        _check_parallelism(operator)
        self._operators[name] = operator
        return operator

    def add_operator(
        self,
        name: str,
        type: OperatorType,
        parallelism: int = 1,
        *,
        sql: str | None = None,
        function: Callable[..., Any] | object | str | None = None,
        connector: str | None = None,
        options: Mapping[str, object] | None = None,
        format: str | None = None,
        relation: str | None = None,
        columns: Mapping[str, str] | None = None,
        changes: bool = False,
        stateful: bool = False,
        upstream: str | StreamOperatorNode | None = None,
        key_by: Iterable[str] = (),
        broadcast: bool = False,
        max_parallelism: int | None = None,
    ) -> StreamOperatorNode:
        """Add an operator written by hand.

        Parameters
        ----------
        name : str
            Unique in the graph; names its tasks.
        type : OperatorType
        parallelism : int
            Its tasks.
        sql : str
            What it does, over the table ``input`` (``input_1`` for a second one): a SELECT, or by type the short form:
            a condition for FILTER, a select list for MAP, FLAT_MAP, AGGREGATE and GROUP_BY.
        function : callable, class, object or str
            Instead of `sql`, with `columns`: see `planner.python_function.python_work`.
        connector, options, format, columns
            Of a SOURCE or SINK, as in CREATE SOURCE and CREATE SINK; `columns` are names to SQL types.
        relation : str
            Instead of a connector: a SOURCE that the catalog has.
        changes : bool
            `function` takes and gives ``__weight``, the sign of rows that may be taken back.
        stateful : bool
            It keeps something between batches; without a key it then needs all rows in one task.
        upstream, key_by, broadcast
            Short for `connect` to its only input.
        max_parallelism : int, optional
            Of the graph by default.

        Raises
        ------
        PlanError
            If it cannot be: name taken, parallelism impossible, more than one kind of work.
        """
        work = _work(name, sql, function, connector, options, format, relation, columns, changes)
        operator = self.add(
            StreamOperatorNode(
                OperatorId(name),
                type,
                parallelism,
                max_parallelism or self.max_parallelism,
                stateful,
                distribution=Single() if parallelism == 1 else AnyDistribution(),
                work=work,
            )
        )
        if upstream is None:
            return operator
        try:
            return self.connect(upstream, operator, key_by=key_by, broadcast=broadcast)
        except PlanError:
            del self._operators[operator.operator_id]
            raise

    def connect(
        self,
        up: str | StreamOperatorNode,
        down: str | StreamOperatorNode,
        input: int = 0,
        key_by: Iterable[str] = (),
        *,
        broadcast: bool = False,
        rebalance: bool = False,
        range_by: str | None = None,
        bounds: Iterable[object] = (),
        partition: Callable[..., Any] | str | None = None,
        requires: Distribution | None = None,
    ) -> StreamOperatorNode:
        """Let operator `up` feed an input of `down`; return `down` as it is then.

        Parameters
        ----------
        up, down : str or StreamOperatorNode
        input : int
            0 for the first. An input is fed by one operator: UNION joins several.
        key_by : columns of `up`
            Rows with equal values come to one task of `down`.
        broadcast : bool
            Every task of `down` gets all rows.
        rebalance : bool
            Rows are dealt evenly, where they would else stay in place.
        range_by : column of `up`
            Rows are cut by its order at `bounds`, one less than `down` has tasks, ascending: task i has those from
            ``bounds[i - 1]`` up to ``bounds[i]``, which is the first of the next. NULL goes to the last.
        partition : callable or str
            From a RecordBatch to an array of task indices, one a row; named or pickled as an operator's function.
        requires : Distribution, optional
            Instead of all of these.

        Raises
        ------
        PlanError
            If an operator is not there, the input is taken, or the graph would be a circle.
        """
        above = self.operator(up if isinstance(up, str) else up.operator_id)
        below = self.operator(down if isinstance(down, str) else down.operator_id)
        keys = (key_by,) if isinstance(key_by, str) else tuple(key_by)
        ways = (bool(keys), broadcast, rebalance, range_by is not None, partition is not None, requires is not None)
        if sum(ways) > 1:
            msg = f"input {input} of {below.name!r} is asked for in {sum(ways)} ways"
            raise PlanError(msg, hint="give one of key_by, broadcast, rebalance, range_by, partition and requires")
        if range_by is not None:
            requires = Range(
                range_by, tuple(b.isoformat(" ") if isinstance(b, dt.datetime) else str(b) for b in bounds)
            )
        elif partition is not None:
            from planner.python_function import custom_partition

            requires = custom_partition(below.name, partition)
        if input != len(below.inputs):
            taken = input < len(below.inputs)
            msg = f"input {input} of {below.name!r} is fed already" if taken else f"{below.name!r} has no input {input}"
            raise PlanError(msg, hint=f"the next is input {len(below.inputs)}")
        if below.operator_id == above.operator_id or self._feeds(below.operator_id, above.operator_id):
            msg = f"{above.name!r} reads {below.name!r} already: the graph would be a circle"
            raise PlanError(msg)
        if requires is None:
            requires = _required(below, keys, broadcast=broadcast, rebalance=rebalance)
        connected = replace(below, inputs=(*below.inputs, JobInput(above.operator_id, requires)))
        _check_parallelism(connected)
        connected = replace(connected, distribution=written_distribution(connected))
        self._operators[below.operator_id] = connected
        return connected

    def rescaled(self, operator_id: str, parallelism: int) -> JobGraph:
        """Return the same graph with another parallelism of one operator.

        What is known of how rows lie is known anew below it, so that no edge counts as FORWARD by a promise that
        another number of tasks does not keep.

        Raises
        ------
        PlanError
            If the operator is not there, or cannot have so many tasks.
        """
        changed = replace(self.operator(operator_id), parallelism=parallelism)
        _check_parallelism(changed)
        if changed.pinned and parallelism != 1:
            msg = f"operator {operator_id!r} is the daemon's own and has one task"
            raise PlanError(msg)
        out = JobGraph(self.name, max_parallelism=self.max_parallelism)
        stale: set[OperatorId] = set()
        for operator in self.operators:
            if operator.operator_id == operator_id:
                operator = changed
            if operator.operator_id == operator_id or any(i.upstream in stale for i in operator.inputs):
                # a source's rows lie as before; of the rest only their own requirements are certain
                operator = replace(operator, distribution=written_distribution(operator))
                stale.add(operator.operator_id)
            out.add(operator)
        return out

    def to_execution_graph(self) -> ExecutionGraph:
        """Return the graph's tasks, and the shuffle edges between them."""
        from planner.execution_graph import ExecutionGraph

        return ExecutionGraph(self)

    def to_json(self) -> str:
        """Return the graph as a statement carries it: ``CREATE JOB name FROM GRAPH '...'``."""
        from planner.graph_json import encode_graph

        return encode_graph(self)

    @classmethod
    def from_json(cls, text: str) -> JobGraph:
        """Read `to_json`'s text.

        Raises
        ------
        PlanError
            If it is no graph.
        """
        from planner.graph_json import decode_graph

        return decode_graph(text)

    def _feeds(self, above: OperatorId, below: OperatorId) -> bool:
        """Whether rows of `above` reach `below`."""
        return any(i.upstream == above or self._feeds(above, i.upstream) for i in self._operators[below].inputs)


def written_distribution(operator: StreamOperatorNode) -> Distribution:
    """Return how an operator's output lies by what its inputs require, all else unknown.

    A keyed operator's rows stay with their key, unless it may rewrite it.
    """
    if operator.parallelism == 1:
        return Single()
    if operator.type in _MAY_REWRITE_KEYS or isinstance(operator.work, PythonWork) or _selects(operator.work):
        return AnyDistribution()
    needed = [i.requires for i in operator.inputs if not isinstance(i.requires, Broadcast)]
    keys = [requires.keys for requires in needed if isinstance(requires, Hash)]
    if not keys or len(keys) < len(needed):
        return AnyDistribution()
    # both sides of a join are hashed by columns that are equal; rows of a union must have the same ones
    return Hash(keys[0]) if operator.type is OperatorType.JOIN or len(set(keys)) == 1 else AnyDistribution()


def _selects(work: Work | None) -> bool:
    return isinstance(work, SqlWork) and is_query(work.sql)


def is_query(sql: str) -> bool:
    """Whether an operator's SQL is a whole query, not the short form of its type."""
    return _QUERY.match(sql) is not None


def _required(operator: StreamOperatorNode, keys: tuple[str, ...], *, broadcast: bool, rebalance: bool) -> Distribution:
    if broadcast:
        return Broadcast()
    if rebalance:
        return Rebalance()
    if keys:
        return Hash(keys)
    # a view is kept in one task
    return Single() if operator.stateful or operator.type is OperatorType.MATERIALIZE else AnyDistribution()


def _check_parallelism(operator: StreamOperatorNode) -> None:
    name = operator.operator_id
    if not _is_whole(operator.parallelism) or not 1 <= operator.parallelism <= operator.max_parallelism:
        msg = f"operator {name!r} has parallelism {operator.parallelism!r}"
        raise PlanError(msg, hint=f"choose 1 to {operator.max_parallelism} (max_parallelism)")
    for given in operator.inputs:
        requires = given.requires
        if isinstance(requires, Range) and len(requires.bounds) != operator.parallelism - 1:
            msg = f"operator {name!r} has parallelism {operator.parallelism}, its range {len(requires.bounds)} bounds"
            raise PlanError(msg, hint="one bound less than there are tasks")
    if operator.parallelism > 1 and any(isinstance(i.requires, Single) for i in operator.inputs):
        msg = f"operator {name!r} needs all rows in one task but has parallelism {operator.parallelism}"
        raise PlanError(msg, hint="give it a key, or parallelism 1")


def _is_whole(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)


def _work(
    name: str,
    sql: str | None,
    function: object,
    connector: str | None,
    options: Mapping[str, object] | None,
    format: str | None,
    relation: str | None,
    columns: Mapping[str, str] | None,
    changes: bool,
) -> Work | None:
    kinds = {"sql": sql, "function": function, "connector": connector, "relation": relation}
    given = [kind for kind, value in kinds.items() if value is not None]
    if len(given) > 1:
        msg = f"operator {name!r} has both {given[0]} and {given[1]}"
        raise PlanError(msg, hint="give one of sql, function, connector and relation")
    if sql is not None:
        return SqlWork(sql)
    if function is not None:
        from planner.python_function import python_work

        return python_work(name, function, dict(columns or {}), changes=changes)
    if connector is not None:
        text = {k: v if isinstance(v, str) else _option(v) for k, v in (options or {}).items()}
        return ConnectorWork(connector, text, format.lower() if format else None, dict(columns or {}))
    return RelationWork(relation) if relation is not None else None


def _option(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
