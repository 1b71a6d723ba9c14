"""From a bound query, or a graph written by hand, to what runs it. The names here are the graph's, for users."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from planner.execution_graph import ExecutionGraph, ShuffleEdge, ShuffleEdgeType
    from planner.job_graph import JobGraph, OperatorType, StreamOperatorNode

__all__ = ["ExecutionGraph", "JobGraph", "OperatorType", "ShuffleEdge", "ShuffleEdgeType", "StreamOperatorNode"]

_HOME: Final = {
    "ExecutionGraph": "planner.execution_graph",
    "ShuffleEdge": "planner.execution_graph",
    "ShuffleEdgeType": "planner.execution_graph",
    "JobGraph": "planner.job_graph",
    "OperatorType": "planner.job_graph",
    "StreamOperatorNode": "planner.job_graph",
}


def __getattr__(name: str) -> Any:
    """Load a public name at its first use."""
    if name not in _HOME:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value
