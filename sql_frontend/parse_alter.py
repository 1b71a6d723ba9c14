"""ALTER: jobs are paused and go on, agents are drained; definitions do not change."""

from __future__ import annotations

from sabot.errors import Span
from sql_frontend.cursor import Cursor
from sql_frontend.statements import DrainAgent, Pause


def parse_alter(cur: Cursor, span: Span) -> DrainAgent | Pause:
    """Parse ``ALTER SYSTEM DRAIN AGENT name`` or ``ALTER MATERIALIZED VIEW | SINK | JOB name PAUSE | RESUME``."""
    here = cur.here()
    cur.expect("ALTER")
    if cur.accept("SYSTEM"):
        cur.expect("DRAIN")
        cur.expect("AGENT")
        agent = cur.name("the agent's name")
        cur.finish()
        return DrainAgent(agent, cur.text, span)
    kind = _kind(cur)
    if kind is None:
        hint = "ALTER pauses and resumes materialized views and sinks; else DROP it and CREATE it again"
        raise cur.error("ALTER of this is not supported", span=here, hint=hint, sqlstate="0A000")
    name = cur.relation_name(f"the name of the {kind}")
    word = cur.accept_one({"PAUSE", "RESUME"})
    if word is None:
        raise cur.unexpected("PAUSE or RESUME")
    cur.finish()
    return Pause(kind, name, word == "PAUSE", cur.text, span)


def parse_pause(cur: Cursor, span: Span) -> Pause:
    """Parse ``PAUSE | RESUME MATERIALIZED VIEW | SINK | JOB name``."""
    word = cur.accept_one({"PAUSE", "RESUME"})
    kind = _kind(cur)
    if kind is None:
        raise cur.unexpected("MATERIALIZED VIEW, SINK or JOB")
    name = cur.relation_name(f"the name of the {kind}")
    cur.finish()
    return Pause(kind, name, word == "PAUSE", cur.text, span)


def _kind(cur: Cursor) -> str | None:
    if cur.accept("MATERIALIZED", "VIEW"):
        return "materialized view"
    word = cur.accept_one({"SINK", "JOB"})
    return word.lower() if word is not None else None
