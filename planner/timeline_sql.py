"""What is said of a partition's rows one after another in time: sessions, and the rows that fill gaps."""

from __future__ import annotations

from planner.logical import Fill, GapFill, Sessions, Timeline, schema_of
from planner.render import motion_type
from planner.sql import interval_sql
from sabot.schema import quote

_NEW, _SESSION = '"__new"', '"__session"'
_NEXT, _AT = '"__next"', '"__at"'


def timeline_sql(node: Timeline) -> str:
    """Return the statement of `node` over ``input``, the rows of one or more partitions."""
    if isinstance(node.work, Sessions):
        return sessions_sql(node, node.work, "input")
    return _filled_sql(node, node.work)


def sessions_sql(node: Timeline, work: Sessions, source: str) -> str:
    """Return the SELECT of the rows of `source` with their sessions; rows of equal time are of one session."""
    time = quote(node.time_column)
    keys = [quote(k) for k in node.partition]
    by = f"PARTITION BY {', '.join(keys)} " if keys else ""
    apart = f"epoch_us({time}) - lag(epoch_us({time})) OVER ({by}ORDER BY {time}) < {work.gap_us}"
    marked = f"SELECT *, CASE WHEN {apart} THEN 0 ELSE 1 END AS {_NEW} FROM {source} WHERE {time} IS NOT NULL"
    counted = f"SELECT *, sum({_NEW}) OVER ({by}ORDER BY {time}) AS {_SESSION} FROM ({marked})"
    of_session = f"OVER (PARTITION BY {', '.join([*keys, _SESSION])})"
    type_text = motion_type(next(f.type for f in schema_of(node) if f.name == node.time_column))
    start = f"min({time}) {of_session}"
    end = f"CAST(max({time}) {of_session} + {interval_sql(work.gap_us)} AS {type_text})"
    kept = [quote(f.name) for f in schema_of(node) if f.name not in (work.start_name, work.end_name)]
    items = [*kept, f"{start} AS {quote(work.start_name)}", f"{end} AS {quote(work.end_name)}"]
    return f"SELECT {', '.join(items)} FROM ({counted})"


def _filled_sql(node: Timeline, work: GapFill) -> str:
    """Return the rows, and between each and the next one further away than a step a row every step.

    Of several rows at one time the last in the order of all columns is the one before the gap.
    """
    fields = schema_of(node)
    types = {f.name: motion_type(f.type) for f in fields}
    names = [quote(f.name) for f in fields]
    time = quote(node.time_column)
    keys = [quote(k) for k in node.partition]
    by = f"PARTITION BY {', '.join(keys)} " if keys else ""
    order = f"({by}ORDER BY {', '.join([time, *(n for n in names if n != time and n not in keys)])})"
    fills = dict(work.fills)
    between = [n for n, how in work.fills if how is Fill.BETWEEN]
    last = [n for n, how in work.fills if how is Fill.LAST]
    looked = [f"lead({time}) OVER {order} AS {_NEXT}"]
    looked += [f"lead({quote(n)}) OVER {order} AS {quote('__to_' + n)}" for n in between]
    # where a value is NULL the one before it goes on
    looked += [
        f"last_value({quote(n)} IGNORE NULLS) OVER ({order[1:-1]} ROWS UNBOUNDED PRECEDING) AS {quote('__last_' + n)}"
        for n in last
    ]
    rows = f"SELECT *, {', '.join(looked)} FROM input WHERE {time} IS NOT NULL"
    steps = f"(epoch_us({_NEXT}) - epoch_us({time}) - 1) // {work.step_us}"
    each = f"SELECT *, unnest(range(1, {steps} + 1)) AS {_AT} FROM ({rows}) WHERE {steps} > 0"
    items = []
    for field in fields:
        name = quote(field.name)
        how = fills.get(field.name, Fill.NULL)
        if field.name == node.time_column:
            value = f"{name} + {_AT} * {interval_sql(work.step_us)}"
        elif field.name in node.partition:
            value = name
        elif how is Fill.LAST:
            value = quote("__last_" + field.name)
        elif how is Fill.BETWEEN:
            share = f"({_AT} * {work.step_us} / CAST(epoch_us({_NEXT}) - epoch_us({time}) AS DOUBLE))"
            value = f"{name} + ({quote('__to_' + field.name)} - {name}) * {share}"
        else:
            value = "NULL"
        items.append(f"CAST({value} AS {types[field.name]}) AS {name}")
    listed = ", ".join(names)
    return f"SELECT {listed} FROM input UNION ALL SELECT {', '.join(items)} FROM ({each})"
