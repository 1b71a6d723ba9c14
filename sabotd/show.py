"""What SHOW, DESCRIBE and the catalog tables say, as Arrow tables."""

from __future__ import annotations

import datetime as dt
import re
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from sabot import __version__
from sabot.errors import ShuffleError
from sabot.schema import quote
from sabotd.catalog_store import CatalogObject
from sabotd.cluster import Cluster
from sabotd.control.jobs import Job
from sql_frontend.catalog import FunctionDefinition

_HEAVIEST = 5

_KINDS = {
    "sources": "source",
    "tables": "table",
    "views": "view",
    "materialized views": "materialized view",
    "sinks": "sink",
}

_HALTED = {
    "FAILED": "materialized view {name} stands still: its job failed; SHOW JOBS tells why",
    "PAUSED": "materialized view {name} is paused; ALTER MATERIALIZED VIEW {name} RESUME has it go on",
    "RECOVERING": "materialized view {name} is being made anew; FLUSH waits for it",
}
_LITERAL = re.compile(r"'(?:[^']|'')*'")


def show(cluster: Cluster, what: str) -> pa.Table | None:
    """Return what ``SHOW <what>`` gives, None if it is no list of things."""
    if what in _KINDS:
        return relations(cluster, _KINDS[what])
    if what == "functions":
        return functions(cluster)
    if what == "schemas":
        return pa.table({"name": ["public", *sorted(cluster.catalog.schemas)]})
    if what == "jobs":
        return jobs(cluster)
    if what == "agents":
        return agents(cluster)
    return None


def relations(cluster: Cluster, kind: str | None = None) -> pa.Table:
    """List the catalog, or the objects of one kind; `problem` says why one could not be brought back at start."""
    found = [o for o in cluster.catalog.all() if kind in (None, o.kind)]
    return pa.table(
        {
            "name": pa.array([o.name for o in found], pa.string()),
            "kind": pa.array([o.kind for o in found], pa.string()),
            "columns": pa.array([", ".join(f"{c.name} {c.type}" for c in o.columns) for o in found], pa.string()),
            "definition": pa.array([o.sql for o in found], pa.string()),
            "problem": pa.array([o.broken for o in found], pa.string()),
        }
    )


def functions(cluster: Cluster) -> pa.Table:
    """List the functions that CREATE FUNCTION made."""
    found = [o for o in cluster.catalog.all() if o.kind == "function"]
    made = [o.relation if isinstance(o.relation, FunctionDefinition) else None for o in found]
    arguments = [", ".join(f"{c.name} {c.type}" for c in o.columns) for o in found]
    return pa.table(
        {
            "name": pa.array([o.name for o in found], pa.string()),
            "arguments": pa.array(arguments, pa.string()),
            "returns": pa.array([m.returns if m else None for m in made], pa.string()),
            "language": pa.array([m.language if m else None for m in made], pa.string()),
            "definition": pa.array([o.sql for o in found], pa.string()),
            "problem": pa.array([o.broken for o in found], pa.string()),
        }
    )


def describe(obj: CatalogObject) -> pa.Table:
    """List the columns of an object."""
    return pa.table(
        {
            "column": pa.array([c.name for c in obj.columns], pa.string()),
            "type": pa.array([c.type for c in obj.columns], pa.string()),
        }
    )


def settings_table(rows: Sequence[tuple[str, str]]) -> pa.Table:
    """List settings."""
    return pa.table({"setting": [r[0] for r in rows], "value": [r[1] for r in rows]})


def standing_still(cluster: Cluster, query: str) -> list[str]:
    """Tell of the views that `query` names, or that those read, whose rows are not being kept up to date."""
    halted = {job.spec.job_id: job.phase for job in cluster.coordinator.jobs() if job.phase in _HALTED}
    if not halted:
        return []
    bare = _LITERAL.sub("''", query)
    words = set(re.findall(r"\w+", bare.lower()))
    pending = [o for o in cluster.catalog.all() if o.name in words or quote(o.name) in bare]
    seen = {o.name for o in pending}
    told = []
    while pending:
        obj = pending.pop()
        if obj.job_id in halted:
            told.append(_HALTED[halted[obj.job_id]].format(name=repr(obj.name)))
        read = [cluster.catalog.by_key(name) for name in obj.reads - seen]
        pending += [o for o in read if o is not None]
        seen |= obj.reads
    return sorted(told)


def jobs(cluster: Cluster) -> pa.Table:
    """List the jobs: state, progress, and why one failed or what its sources wait for."""
    found = cluster.coordinator.jobs()
    states = [j.state for j in found]
    conditions: dict[str, set[str]] = {}
    for agent in [cluster.own_agent, *cluster.agents()]:
        try:
            answer = agent.conditions()
        except ShuffleError:  # lost in a moment, or busy; what is known of the jobs is told all the same
            silent = f"agent {agent.agent_id!r} does not answer"
            answer = {j.spec.job_id: [silent] for j in found if agent.agent_id in j.placement.values()}
        for job_id, said in answer.items():
            conditions.setdefault(job_id, set()).update(said)
    nobody = not any(agent.state == "UP" for agent in cluster.agents())
    return pa.table(
        {
            "job": pa.array([j.spec.job_id for j in found], pa.string()),
            "state": pa.array([j.phase for j in found], pa.string()),
            "epoch": pa.array([s.completed if s else None for s in states], pa.int64()),
            "rows_in": pa.array([s.rows_in if s else None for s in states], pa.int64()),
            "rows_out": pa.array([s.rows_out if s else None for s in states], pa.int64()),
            "bad_records": pa.array([s.bad_records if s else None for s in states], pa.int64()),
            "late_rows": pa.array([s.late_rows if s else None for s in states], pa.int64()),
            "watermark": pa.array([_watermark(j) for j in found], pa.string()),
            "tasks": pa.array([len(j.spec.tasks) for j in found], pa.int32()),
            "started": pa.array([j.started for j in found], pa.string()),
            "message": pa.array(
                [_message(j, conditions.get(j.spec.job_id, set()), nobody) for j in found], pa.string()
            ),
        }
    )


def _message(job: Job, conditions: set[str], nobody: bool) -> str:
    if nobody and job.phase == "RECOVERING":
        return "no agent is up; it waits for one to join"
    if job.state is not None and job.state.error:
        return job.state.error
    if not conditions and job.has_tasks and job.state is not None and not job.state.completed:
        return "working on its first rows"
    return "; ".join(sorted(conditions))


def _watermark(job: Job) -> str | None:
    known = [w for w in job.state.watermarks_us.values() if w is not None] if job.state else []
    if not known:
        return None
    try:
        moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=min(known))
    except OverflowError:
        return "end"
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def _labels(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{k}={v}" for k, v in sorted(labels.items()))


def agents(cluster: Cluster) -> pa.Table:
    """List the agents, the daemon's own among them."""
    found = [cluster.own_agent, *cluster.agents()]
    members = [cluster.member(a.agent_id) for a in found]
    used = cluster.coordinator.slots_used()
    tasks: dict[str, int] = {}
    for job in cluster.coordinator.jobs():
        if job.has_tasks:
            for agent_id in job.placement.values():
                tasks[agent_id] = tasks.get(agent_id, 0) + 1
    return pa.table(
        {
            "agent": pa.array([a.agent_id for a in found], pa.string()),
            "state": pa.array([a.state for a in found], pa.string()),
            "pid": pa.array([a.pid for a in found], pa.int64()),
            "tasks": pa.array([tasks.get(a.agent_id, 0) for a in found], pa.int32()),
            "location": pa.array([a.location for a in found], pa.string()),
            "host": pa.array([m.host if m else socket.gethostname() for m in members], pa.string()),
            "slots": pa.array([a.slots or None for a in found], pa.int32()),
            "slots_used": pa.array([used[a.agent_id] if a.slots else None for a in found], pa.int32()),
            "memory_mb": pa.array([m.memory_mb if m else None for m in members], pa.int64()),
            "version": pa.array([m.version if m else __version__ for m in members], pa.string()),
            "labels": pa.array([_labels(m.labels) if m else "" for m in members], pa.string()),
        }
    )


_WORKFLOWS = pa.schema(
    [
        ("workflow_id", pa.string()),
        ("name", pa.string()),
        ("status", pa.string()),
        ("created", pa.timestamp("ms", tz="UTC")),
        ("updated", pa.timestamp("ms", tz="UTC")),
        ("attempts", pa.int32()),
    ]
)
_STEPS = pa.schema(
    [
        ("workflow_id", pa.string()),
        ("step", pa.int32()),
        ("name", pa.string()),
        ("error", pa.string()),
        ("started", pa.timestamp("ms", tz="UTC")),
        ("completed", pa.timestamp("ms", tz="UTC")),
    ]
)


def workflows(cluster: Cluster) -> pa.Table:
    """List the newest durable workflows: what was asked of the cluster, and how it ended."""
    return pa.Table.from_pylist(cluster.workflows()[0], schema=_WORKFLOWS)


def workflow_steps(cluster: Cluster) -> pa.Table:
    """List the steps of those workflows."""
    return pa.Table.from_pylist(cluster.workflows()[1], schema=_STEPS)


def shuffle_edges(cluster: Cluster) -> pa.Table:
    """List every edge of every job with what went over it in its present attempt."""
    rows = [
        {
            "job": job_id,
            "edge": m.edge.edge_id,
            "type": m.edge.kind,
            "keys": ", ".join(m.edge.keys),
            "upstream_tasks": len(m.edge.upstream),
            "downstream_tasks": len(m.edge.downstream),
            "rows": m.rows,
            "bytes": m.bytes,
            "batches": m.batches,
            "wait_up_ms": m.wait_up_ns // 1_000_000,
            "wait_down_ms": m.wait_down_ns // 1_000_000,
            "skew": m.skew,
            "heaviest_keys": ", ".join(f"{key}: {rows}" for key, rows in list(m.heavy_keys.items())[:_HEAVIEST]),
        }
        for job_id, m in cluster.coordinator.shuffle_metrics()
    ]
    return pa.Table.from_pylist(rows, schema=_EDGES)


def edge_report(edges: Sequence[Mapping[str, Any]]) -> str:
    """Return what EXPLAIN ANALYZE tells beside the plan: of a job's `edges`, rows of `shuffle_edges`."""
    lines = ["", "Shuffle so far"]
    for e in edges:
        skew = "" if e["skew"] is None else f", skew {e['skew']:.2f}"
        lines.append(
            f"  {e['edge']}: {e['rows']} rows, {e['bytes']} bytes, {e['batches']} batches, "
            f"waited {e['wait_up_ms']} ms up and {e['wait_down_ms']} ms down{skew}"
        )
        if e["heaviest_keys"]:
            lines.append(f"    heaviest {e['keys']}, about: {e['heaviest_keys']}")
    return "\n".join(lines) + "\n"


_EDGES = pa.schema(
    [
        ("job", pa.string()),
        ("edge", pa.string()),
        ("type", pa.string()),
        ("keys", pa.string()),
        ("upstream_tasks", pa.int32()),
        ("downstream_tasks", pa.int32()),
        ("rows", pa.int64()),
        ("bytes", pa.int64()),
        ("batches", pa.int64()),
        ("wait_up_ms", pa.int64()),
        ("wait_down_ms", pa.int64()),
        ("skew", pa.float64()),
        ("heaviest_keys", pa.string()),
    ]
)
