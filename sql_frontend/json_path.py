"""SQL/JSON paths (``jsonb_path_query`` and its kin) in DuckDB's words: members, elements and wildcards, in lax mode.

In lax mode a member of an array is that of each element, and an element of what is no array is the value itself
(PostgreSQL's manual, 9.16.2). A step takes a list of values to a list of values.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlglot import exp

from sabot.schema import literal
from sql_frontend.origin import Origin
from sql_frontend.templates import filled

_STEP = re.compile(
    r"""\s*(?: \.\s*(?P<member>[A-Za-z_]\w*) | \.\s*"(?P<quoted>[^"\\]*)" | (?P<members>\.\s*\*)
           | \[\s*(?P<index>\d+)\s*\] | \[\s*(?P<last>last)\s*\] | (?P<elements>\[\s*\*\s*\]) )""",
    re.VERBOSE,
)
_ALL = {
    "jsonb_path_query": "p1",
    "jsonb_path_query_array": "to_json(p1)",
    "jsonb_path_query_first": "list_extract(p1, 1)",
    "jsonb_path_exists": "len(p1) > 0",
}
FUNCTIONS = frozenset(_ALL)
_IS_ARRAY = "json_type(x) = 'ARRAY'"


def translate(name: str, call: exp.Anonymous, args: Sequence[exp.Expression], origin: Origin) -> exp.Expression:
    """Return DuckDB's expression of ``name(json, path)``.

    Raises
    ------
    SqlError
        0A000 for a path that is no constant, or has a filter, a method or strict mode; 42883 for other arguments.
    """
    if len(args) != 2:
        raise origin.error(f"{name} takes a JSON value and a path", call, sqlstate="42883")
    path = args[1].this if isinstance(args[1], exp.Cast) else args[1]
    if not isinstance(path, exp.Literal) or not path.is_string:
        raise origin.unsupported("a path that is no constant", call, hint="write the path as a string")
    text = path.name.strip()
    text = text.removeprefix("lax").lstrip()
    if not text.startswith("$"):
        raise _not_understood(text, call, origin)
    found, at = "[p1]", 1
    while at < len(text):
        step = _STEP.match(text, at)
        if step is None:
            raise _not_understood(text[at:], call, origin)
        found = _step(found, step)
        at = step.end()
    return filled(_ALL[name].replace("p1", f"CASE WHEN p1 IS NOT NULL THEN {found} END"), [args[0]])


def _not_understood(rest: str, call: exp.Anonymous, origin: Origin) -> Exception:
    hint = "members, [n], [last], [*] and .* work; for a filter write a condition in WHERE"
    return origin.unsupported(f"a path with {rest.strip()!r}", call, hint=hint)


def _step(found: str, step: re.Match[str]) -> str:
    if step["members"] is not None:
        each = f"CASE WHEN {_IS_ARRAY} THEN json_extract(x, '$[*].*') ELSE json_extract(x, '$.*') END"
    elif step["elements"] is not None:
        each = f"CASE WHEN {_IS_ARRAY} THEN json_extract(x, '$[*]') ELSE [x] END"
    elif step["last"] is not None:
        each = f"CASE WHEN {_IS_ARRAY} THEN [json_extract(x, '$[#-1]')] ELSE [x] END"
    elif step["index"] is not None:
        other = "[x]" if int(step["index"]) == 0 else "[]"
        each = f"CASE WHEN {_IS_ARRAY} THEN [json_extract(x, '$[{int(step['index'])}]')] ELSE {other} END"
    else:
        quoted = '."' + (step["member"] or step["quoted"]) + '"'
        of_each, own = literal("$[*]" + quoted), literal("$" + quoted)
        each = f"CASE WHEN {_IS_ARRAY} THEN json_extract(x, {of_each}) ELSE [json_extract(x, {own})] END"
    return f"list_filter(flatten(list_transform({found}, LAMBDA x: {each})), LAMBDA x: x IS NOT NULL)"


def by_keys(name: str, value: exp.Expression, keys: Sequence[str]) -> exp.Expression:
    """Return what DuckDB's function `name` finds in `value` by members, or places in arrays, one in the other."""
    found: list[exp.Expression] = [
        exp.Anonymous(this=name, expressions=[value.copy(), exp.Literal.string(json_path(p))]) for p in _readings(keys)
    ]
    return found[0] if len(found) == 1 else exp.Coalesce(this=found[0], expressions=found[1:])


def json_path(steps: Sequence[str | int]) -> str:
    """Return DuckDB's path of members and places."""
    path = "$"
    for step in steps:
        if isinstance(step, int):
            path += f"[{step}]" if step >= 0 else f"[#{step}]"
        else:
            escaped = str(step).replace("\\", "\\\\").replace('"', '\\"')
            path += f'."{escaped}"'
    return path


def _readings(keys: Sequence[str]) -> list[list[str | int]]:
    """Return the paths that `keys` may mean: a number is an element of an array or a member of an object."""
    found: list[list[str | int]] = [[]]
    for key in keys:
        steps: list[str | int] = [int(key), key] if re.fullmatch(r"-?\d{1,9}", key) else [key]
        found = [[*path, step] for path in found for step in steps]
    return found
