"""The job graph: operators with their parallelism, and what each of their inputs requires."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from planner.distribution import AnyDistribution, Broadcast, Distribution, Hash, Single
from sabot.errors import PlanError
from sabot.ids import OperatorId

DEFAULT_MAX_PARALLELISM = 128


class OperatorType(enum.Enum):
    """What an operator does; the values are the tags of :mod:`planner.task_spec`."""

    SOURCE = "source"
    LOG_SOURCE = "log_source"
    SQL = "sql"
    UNION = "union"
    PARTIAL_AGG = "partial_agg"
    FINAL_AGG = "final_agg"
    RECOMPUTE = "recompute"
    JOIN = "join"
    CLOSE_FILTER = "close_filter"
    MATERIALIZE = "materialize"
    SINK = "sink"


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
class JobOperator:
    """One operator of a job. `distribution` is how its *output* lies over its tasks."""

    operator_id: OperatorId
    type: OperatorType
    parallelism: int
    max_parallelism: int = DEFAULT_MAX_PARALLELISM
    stateful: bool = False
    inputs: tuple[JobInput, ...] = ()
    distribution: Distribution = field(default_factory=AnyDistribution)
    pinned: bool = False

    @property
    def is_source(self) -> bool:
        """Whether rows enter the job here."""
        return not self.inputs


class JobGraph:
    """Operators in topological order."""

    def __init__(self) -> None:
        self._operators: dict[OperatorId, JobOperator] = {}

    @property
    def operators(self) -> tuple[JobOperator, ...]:
        """All operators, each after its inputs."""
        return tuple(self._operators.values())

    def operator(self, operator_id: OperatorId) -> JobOperator:
        """Return the operator of that id."""
        return self._operators[operator_id]

    def add(self, operator: JobOperator) -> JobOperator:
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
        if not 1 <= operator.parallelism <= operator.max_parallelism:
            msg = f"operator {name!r} has parallelism {operator.parallelism}"
            raise PlanError(msg, hint=f"choose 1 to {operator.max_parallelism} (max_parallelism)")
        for given in operator.inputs:
            if given.upstream not in self._operators:
                msg = f"operator {name!r} reads {given.upstream!r}, which does not exist"
                raise PlanError(msg)
            if isinstance(given.requires, Single) and operator.parallelism > 1:
                msg = f"operator {name!r} needs all rows in one task but has parallelism {operator.parallelism}"
                raise PlanError(msg, hint="give it a key, or parallelism 1")
        self._operators[name] = operator
        return operator

    def add_operator(
        self,
        name: str,
        type: OperatorType,
        parallelism: int,
        *,
        upstream: str | None = None,
        key_by: tuple[str, ...] = (),
        broadcast: bool = False,
        stateful: bool = False,
        max_parallelism: int = DEFAULT_MAX_PARALLELISM,
    ) -> JobOperator:
        """Add an operator with at most one input, as a job is written by hand.

        A keyed operator's output counts as hashed by its key; a stateful one without a key needs all rows in one task.
        """
        requires: Distribution = AnyDistribution()
        if broadcast:
            requires = Broadcast()
        elif key_by:
            requires = Hash(key_by)
        elif stateful and upstream is not None:
            requires = Single()
        inputs = (JobInput(OperatorId(upstream), requires),) if upstream is not None else ()
        output: Distribution = AnyDistribution()
        if parallelism == 1:
            output = Single()
        elif key_by:
            output = Hash(key_by)
        return self.add(JobOperator(OperatorId(name), type, parallelism, max_parallelism, stateful, inputs, output))
