"""A hand-written job graph as JSON text: what a statement carries to the daemon."""

from __future__ import annotations

import sys
from typing import Literal

import msgspec

from planner.distribution import AnyDistribution, Broadcast, Distribution, Hash, Rebalance, Single
from planner.job_graph import DEFAULT_MAX_PARALLELISM, JobGraph, OperatorType, StreamOperatorNode
from planner.operator_work import PythonWork, Work
from sabot.errors import PlanError
from sabot.ids import OperatorId

PYTHON_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
"""Pickled functions run only under the minor version that made them."""


class _Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    upstream: str
    requires: Literal["any", "hash", "single", "broadcast", "rebalance"] = "any"
    keys: tuple[str, ...] = ()


class _Operator(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    name: str
    type: OperatorType
    parallelism: int = 1
    stateful: bool = False
    inputs: tuple[_Input, ...] = ()
    work: Work | None = None


class _Graph(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    operators: tuple[_Operator, ...]
    name: str = ""
    max_parallelism: int = DEFAULT_MAX_PARALLELISM
    python: str = ""


def encode_graph(graph: JobGraph) -> str:
    """Return `graph` as JSON; see `JobGraph.to_json`."""
    operators = []
    for op in graph.operators:
        if op.max_parallelism != graph.max_parallelism:
            msg = f"operator {op.name!r} has max_parallelism {op.max_parallelism}, its graph {graph.max_parallelism}"
            raise PlanError(msg, hint="the operators of a job share one map of key groups")
        inputs = tuple(_Input(i.upstream, _word(i.requires), i.key_by) for i in op.inputs)
        operators.append(_Operator(op.name, op.type, op.parallelism, op.stateful, inputs, op.work))
    pickled = any(isinstance(o.work, PythonWork) and o.work.pickled for o in operators)
    encoded = _Graph(tuple(operators), graph.name, graph.max_parallelism, PYTHON_VERSION if pickled else "")
    return msgspec.json.encode(encoded).decode()


def decode_graph(text: str) -> JobGraph:
    """Read a graph; see `JobGraph.from_json`."""
    try:
        read = msgspec.json.decode(text, type=_Graph)
    except msgspec.DecodeError as error:
        msg = f"the graph cannot be read: {str(error)[:1].lower()}{str(error)[1:]}"
        raise PlanError(msg, hint="JobGraph.to_json() writes it") from error
    if read.python not in ("", PYTHON_VERSION):
        msg = f"the graph's functions were pickled by Python {read.python}, this is {PYTHON_VERSION}"
        raise PlanError(msg, hint="name functions as 'module:name', or use the same version")
    if not 1 <= read.max_parallelism <= 32768:
        msg = f"max_parallelism {read.max_parallelism} is out of range"
        raise PlanError(msg, hint="it goes from 1 to 32768")
    graph = JobGraph(read.name, max_parallelism=read.max_parallelism)
    for op in read.operators:
        node = StreamOperatorNode(
            OperatorId(op.name), op.type, op.parallelism, read.max_parallelism, op.stateful, work=op.work,
            distribution=Single() if op.parallelism == 1 else AnyDistribution(),
        )  # fmt: skip
        graph.add(node)
        for port, given in enumerate(op.inputs):
            graph.connect(given.upstream, op.name, port, requires=_distribution(op.name, given))
    return graph


def _word(requires: Distribution) -> Literal["any", "hash", "single", "broadcast", "rebalance"]:
    match requires:
        case Hash():
            return "hash"
        case Single():
            return "single"
        case Broadcast():
            return "broadcast"
        case Rebalance():
            return "rebalance"
        case AnyDistribution():
            return "any"


def _distribution(name: str, given: _Input) -> Distribution:
    if (given.requires == "hash") != bool(given.keys):
        msg = f"operator {name!r} requires {given.requires!r} of its input with keys {given.keys!r}"
        raise PlanError(msg, hint="'hash' has keys, nothing else has")
    match given.requires:
        case "hash":
            return Hash(given.keys)
        case "single":
            return Single()
        case "broadcast":
            return Broadcast()
        case "rebalance":
            return Rebalance()
        case "any":
            return AnyDistribution()
