"""A hand-written job graph as JSON text: what a statement carries to the daemon."""

from __future__ import annotations

import sys
from typing import Literal, TypeAlias

import msgspec

from planner.distribution import (
    AnyDistribution,
    Broadcast,
    Custom,
    Distribution,
    Hash,
    Range,
    Rebalance,
    Single,
)
from planner.job_graph import DEFAULT_MAX_PARALLELISM, JobGraph, JobInput, OperatorType, StreamOperatorNode
from planner.operator_work import PythonWork, Work
from sabot.errors import PlanError
from sabot.ids import OperatorId

PYTHON_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
"""Pickled functions run only under the minor version that made them."""


_Word: TypeAlias = Literal["any", "hash", "single", "broadcast", "rebalance", "range", "custom"]


class _Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    upstream: str
    requires: _Word = "any"
    keys: tuple[str, ...] = ()
    bounds: tuple[str, ...] = ()
    path: str = ""
    pickled: bytes = b""


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


# made at import, on one thread: msgspec crashes when two threads are the first to decode a type
_GRAPH = msgspec.json.Decoder(_Graph)


def encode_graph(graph: JobGraph) -> str:
    """Return `graph` as JSON; see `JobGraph.to_json`."""
    operators = []
    for op in graph.operators:
        if op.max_parallelism != graph.max_parallelism:
            msg = f"operator {op.name!r} has max_parallelism {op.max_parallelism}, its graph {graph.max_parallelism}"
            raise PlanError(msg, hint="the operators of a job share one map of key groups")
        inputs = tuple(_input(i) for i in op.inputs)
        operators.append(_Operator(op.name, op.type, op.parallelism, op.stateful, inputs, op.work))
    pickled = any(
        (isinstance(o.work, PythonWork) and o.work.pickled) or any(i.pickled for i in o.inputs) for o in operators
    )
    encoded = _Graph(tuple(operators), graph.name, graph.max_parallelism, PYTHON_VERSION if pickled else "")
    return msgspec.json.encode(encoded).decode()


def decode_graph(text: str) -> JobGraph:
    """Read a graph; see `JobGraph.from_json`."""
    try:
        read = _GRAPH.decode(text)
    except msgspec.DecodeError as error:
        msg = f"the graph cannot be read: {str(error)[:1].lower()}{str(error)[1:]}"
        raise PlanError(msg, hint="JobGraph.to_json() writes it") from error
    if read.python not in ("", PYTHON_VERSION):
        msg = f"the graph's functions were pickled by Python {read.python}, this is {PYTHON_VERSION}"
        raise PlanError(msg, hint="name functions as 'module:name', or use the same version")
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


def _input(given: JobInput) -> _Input:
    match given.requires:
        case Hash(keys=keys):
            return _Input(given.upstream, "hash", keys)
        case Single():
            return _Input(given.upstream, "single")
        case Broadcast():
            return _Input(given.upstream, "broadcast")
        case Rebalance():
            return _Input(given.upstream, "rebalance")
        case Range(column=column, bounds=bounds):
            return _Input(given.upstream, "range", (column,), bounds)
        case Custom(path=path, pickled=pickled):
            return _Input(given.upstream, "custom", path=path, pickled=pickled)
        case AnyDistribution():
            return _Input(given.upstream)


def _distribution(name: str, given: _Input) -> Distribution:
    fits = {"hash": bool(given.keys), "range": len(given.keys) == 1}
    if not fits.get(given.requires, not given.keys) or (given.requires == "custom") != bool(
        given.path or given.pickled
    ):
        msg = f"operator {name!r} requires {given.requires!r} of its input with keys {given.keys!r}"
        raise PlanError(msg, hint="'hash' has keys, 'range' one and bounds, 'custom' a path or a pickled function")
    match given.requires:
        case "hash":
            return Hash(given.keys)
        case "single":
            return Single()
        case "broadcast":
            return Broadcast()
        case "rebalance":
            return Rebalance()
        case "range":
            return Range(given.keys[0], given.bounds)
        case "custom":
            return Custom(given.path, given.pickled)
        case "any":
            return AnyDistribution()
