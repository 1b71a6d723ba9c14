"""What each operator keeps, and what bounds it: the marks of EXPLAIN, and the notice at CREATE where nothing does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from planner.render import duration
from planner.stream_node import StreamNode
from planner.task_spec import (
    BestRowsOp,
    CloseFilterOp,
    CloseOverOp,
    CloseRecomputeOp,
    CloseSessionsOp,
    FinalAggOp,
    JoinOp,
    LogSourceOp,
    MaterializeOp,
    PythonOp,
    RecomputeOp,
    SinkOp,
    SourceOp,
    TableSinkOp,
    TemporalFilterOp,
    TemporalJoinOp,
    TopNOp,
    UpsertOp,
)
from sabot.ids import OperatorId

Operators = Sequence[tuple[OperatorId, StreamNode]]

_WINDOWS = "a window and EMIT ON WINDOW CLOSE, a condition t > now() - INTERVAL '1 day', or WITH (state_ttl = '1 day')"
_INTERVAL = (
    "ON ... AND a.t BETWEEN b.t - INTERVAL '1 hour' AND b.t, with watermarks on both, or WITH (state_ttl = '1 day')"
)


@dataclass(frozen=True)
class StateMark:
    """How an operator's state is kept and bounded.

    `tier` is ``incrementally`` or ``by affected keys``. `grows_with` names the endless sources whose rows or keys it
    keeps for ever: none where something bounds it.
    """

    tier: str
    bound: str
    grows_with: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"kept {self.tier}, state {self.bound}"


def state_marks(operators: Operators) -> dict[OperatorId, StateMark]:
    """Return the mark of every operator with state of its own, in order; views and what users wrote are left out."""
    live: dict[int, tuple[frozenset[str], frozenset[str]]] = {}
    marks: dict[OperatorId, StateMark] = {}
    for name, node in operators:
        endless = frozenset[str]().union(*(live[id(given.node)][0] for given in node.inputs))
        tables = frozenset[str]().union(*(live[id(given.node)][1] for given in node.inputs))
        mark = _mark(node, endless, tables, [live[id(given.node)] for given in node.inputs])
        if mark is not None:
            marks[name] = mark
        match node.op:
            case SourceOp(relation=relation, finite=finite):
                endless, tables = (
                    (frozenset(), frozenset({relation})) if finite else (frozenset({relation}), frozenset())
                )
            case LogSourceOp(relation=relation, changelog=changelog) if changelog is not None:
                endless = frozenset({relation})
            case LogSourceOp(relation=relation):
                tables = frozenset({relation})
            case TemporalFilterOp() if node.retracting:
                endless = frozenset()
            case _:
                pass
        if node.stream_key == ():
            endless = frozenset()  # one row at most
        live[id(node)] = endless, tables
    return marks


def _expiring(node: StreamNode) -> str | None:
    """Return what bounds an operator's state by its own spec: the watermark, or the view's state_ttl."""
    if isinstance(node.op, JoinOp | RecomputeOp) and node.op.expires:
        by = ", ".join(f"{name} + {duration(after_us)}" for name, after_us in node.op.expires)
        return f"bounded by the watermark, which passes {by}"
    ttl_us = node.op.ttl_us if isinstance(node.op, JoinOp | RecomputeOp | FinalAggOp | TemporalJoinOp) else None
    return f"bounded by state_ttl {duration(ttl_us)}" if ttl_us is not None else None


def _mark(
    node: StreamNode,
    endless: frozenset[str],
    tables: frozenset[str],
    inputs: list[tuple[frozenset[str], frozenset[str]]],
) -> StateMark | None:
    match node.op:
        case FinalAggOp(close_column=close) if close is not None:
            return StateMark("incrementally", f"bounded by the watermark, which passes {close}")
        case CloseFilterOp(close_column=close):
            return StateMark("incrementally", f"bounded by the watermark, which passes {close}")
        case CloseRecomputeOp(close_columns=closes):
            return StateMark("by affected keys", f"bounded by the watermark, which passes {' and '.join(closes)}")
        case CloseOverOp() | CloseSessionsOp():
            return StateMark("by affected keys", "bounded by the watermark")
        case UpsertOp():
            return _grown("incrementally", "a row a key", endless, tables)
        case JoinOp() | RecomputeOp() | FinalAggOp() | TemporalJoinOp() if (bound := _expiring(node)) is not None:
            return StateMark("by affected keys" if isinstance(node.op, RecomputeOp) else "incrementally", bound)
        case FinalAggOp(keys=()):
            return StateMark("incrementally", "of one row")
        case TemporalFilterOp():
            return StateMark("incrementally", "bounded by the clock")
        case FinalAggOp():
            return _grown("incrementally", "a row a group", endless, tables)
        case TemporalJoinOp(weighted=(keeps_left, _)):
            kept = inputs if keeps_left else inputs[1:]
            return _grown(
                "incrementally",
                "all rows",
                frozenset[str]().union(*(e for e, _ in kept)),
                frozenset[str]().union(*(t for _, t in kept)),
            )
        case JoinOp():
            return _grown("incrementally", "all rows", endless, tables)
        case RecomputeOp():
            return _grown("by affected keys", "all rows", endless, tables)
        case TopNOp(limit=limit) | BestRowsOp(limit=limit):
            return _grown("incrementally", f"the best {limit} rows of each key", endless, tables)
        case MaterializeOp() | TableSinkOp() | SinkOp() | PythonOp():
            return None
        case _:
            return None


def _grown(tier: str, what: str, endless: frozenset[str], tables: frozenset[str]) -> StateMark:
    if endless:
        return StateMark(tier, f"not bounded: {what} of {', '.join(sorted(endless))}", tuple(sorted(endless)))
    return StateMark(tier, f"as large as what it reads: {what} of {', '.join(sorted(tables)) or 'constants'}")


def unbounded_notice(operators: Operators) -> str | None:
    """Return what to tell at CREATE if state grows for ever: the first such operator, and what would bound it."""
    found = [(name, mark) for name, mark in state_marks(operators).items() if mark.grows_with]
    if not found:
        return None
    name, mark = found[0]
    nodes = dict(operators)
    others = f" (and of {len(found) - 1} more)" if len(found) > 1 else ""
    remedy = _INTERVAL if isinstance(nodes[name].op, JoinOp | TemporalJoinOp) else _WINDOWS
    return f"the state of {name}{others} grows for ever with {', '.join(mark.grows_with)}; what bounds it: {remedy}"
