"""ALTER: jobs are paused and go on, agents are drained, relations get other names; definitions do not change."""

from __future__ import annotations

from sabot.errors import Span
from sql_frontend.cursor import Cursor
from sql_frontend.statements import DrainAgent, Pause, Rename


def parse_alter(cur: Cursor, span: Span) -> DrainAgent | Pause | Rename:
    """Parse ``ALTER SYSTEM DRAIN AGENT name``, or ALTER of a relation or job: PAUSE, RESUME, RENAME TO."""
    here = cur.here()
    cur.expect("ALTER")
    if cur.accept("SYSTEM"):
        cur.expect("DRAIN")
        cur.expect("AGENT")
        agent = cur.name("the agent's name")
        cur.finish()
        return DrainAgent(agent, cur.text, span)
    kind = "table" if cur.accept("TABLE") else _kind(cur)
    name = cur.relation_name(f"the name of the {kind}") if kind is not None else ""
    if kind is None or (kind == "table" and not cur.at_words("RENAME")):
        hint = "ALTER renames tables, materialized views and sinks, and pauses the last two; else DROP it and CREATE it"
        raise cur.error("ALTER of this is not supported", span=here, hint=hint, sqlstate="0A000")
    if cur.accept("RENAME"):
        if kind == "job" or not cur.accept("TO"):
            what = "RENAME of a job" if kind == "job" else "RENAME of anything but the whole"
            raise cur.error(f"{what} is not supported", span=cur.here(), hint="RENAME TO name", sqlstate="0A000")
        new_name = cur.relation_name("the new name")
        cur.finish()
        return Rename(kind, name, new_name, cur.text, span)
    word = cur.accept_one({"PAUSE", "RESUME"}) if kind != "table" else None
    if word is None:
        words = {"table": "RENAME TO", "job": "PAUSE or RESUME"}
        raise cur.unexpected(words.get(kind, "PAUSE, RESUME or RENAME TO"))
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
