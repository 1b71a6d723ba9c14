"""What a client's SELECT may do, and how DuckDB's complaints about it become ours."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Sequence

import duckdb

from sabot.errors import SabotError, Span, SqlError

# functions and views that tell of the server's files and settings, change what is not theirs, or run text as SQL
# behind this check's back; what reads files is refused by DuckDB itself, which says so
FORBIDDEN = frozenset(
    {
        "arrow_scan",
        "arrow_scan_dumb",
        "add_grammar_extension",
        "checkpoint",
        "create_external_resource",
        "current_setting",
        "deregister_external_resource",
        "destroy_external_resource",
        "disable_logging",
        "disable_profiling",
        "duckdb_approx_database_count",
        "duckdb_databases",
        "duckdb_extension_repositories",
        "duckdb_extensions",
        "duckdb_external_file_cache",
        "duckdb_external_resource_types",
        "duckdb_external_resources",
        "duckdb_live_query_metrics",
        "duckdb_log_contexts",
        "duckdb_logs",
        "duckdb_logs_parsed",
        "duckdb_prepared_statements",
        "duckdb_profiling_settings",
        "duckdb_secret_type_parameters",
        "duckdb_secret_types",
        "duckdb_secrets",
        "duckdb_settings",
        "duckdb_temporary_files",
        "enable_logging",
        "enable_profiling",
        "force_checkpoint",
        "from_substrait",
        "getenv",
        "json_execute_serialized_sql",
        "pandas_scan",
        "parse_duckdb_log_message",
        "pg_settings",
        "pragma_database_list",
        "pragma_database_size",
        "python_arrow_scan",
        "python_map_function",
        "query",
        "query_table",
        "register_external_resource",
        "register_external_resource_type",
        "remove_grammar_extension",
        "seq_scan",
        "truncate_duckdb_logs",
        "which_secret",
        "write_log",
    }
)
_WORD = re.compile(
    r"""'(?:[^']|'')*'|\$(\w*)\$.*?\$\1\$|--[^\n]*|/\*.*?\*/|"(?P<quoted>(?:[^"]|"")*)"|(?P<word>[A-Za-z_]\w*)""",
    re.DOTALL,
)
_POSITION = re.compile(r"^LINE (\d+): (.*)\n( *)\^", re.MULTILINE)
_MISSING = (
    ("table", "42P01", re.compile(r'Table with name "?([^"\s]+?)"? does not exist')),
    ("table", "42P01", re.compile(r'Referenced table "([^"]+)" not found')),
    ("column", "42703", re.compile(r'Referenced column "([^"]+)" (?:was )?not found')),
    ("column", "42703", re.compile(r'does not have a column named "([^"]+)"')),
    ("function", "42883", re.compile(r'Function with name "?([^"\s]+?)"? does not exist')),
)
DIVISION_HINT = "TRY(a / b) gives NULL instead"
_SUGGESTED = re.compile(r'Did you mean "([^"]+)"')


def check_select(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Let pass exactly one SELECT that reads relations only.

    Raises
    ------
    SqlError
        It is another statement, does not parse, or names a function that tells of the server.
    """
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise sql_error(error, sql, ()) from error
    if len(statements) != 1 or statements[0].type.name != "SELECT":
        msg = "only a SELECT can be run here"
        raise SqlError(msg, sqlstate="0A000", text=sql)
    for name in _named(_tree(connection, sql)):
        if name.lower() in FORBIDDEN:
            msg = f"function {name!r} is not available"
            raise SqlError(msg, sqlstate="42501", text=sql, span=_word_span(name, sql))


def relations_of(connection: duckdb.DuckDBPyConnection, sql: str) -> set[str]:
    """Return the names of the relations that a SELECT reads, its own WITH queries among them."""
    return set(_named(_tree(connection, sql), functions=False))


def _tree(connection: duckdb.DuckDBPyConnection, sql: str) -> object:
    """Return DuckDB's own reading of a text: ours would take a comment or a string for what it is not."""
    ((serialized,),) = connection.execute("SELECT json_serialize_sql($1)", [sql]).fetchall()
    tree = json.loads(serialized)
    if tree["error"]:
        msg = f"this SELECT cannot be checked: {tree['error_message']}"
        raise SqlError(msg, sqlstate="0A000", text=sql)
    return tree


def _named(tree: object, *, functions: bool = True) -> Iterator[str]:
    """Yield the functions and relations of a serialized statement."""
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            pending += node
        elif isinstance(node, dict):
            pending += node.values()
            kind = node.get("class") or node.get("type")
            if kind in ("FUNCTION", "WINDOW") and functions:
                yield node["function_name"]
            elif kind == "BASE_TABLE":
                yield node["table_name"]


def sql_error(error: duckdb.Error, sql: str, names: Sequence[str]) -> SabotError:
    """Turn DuckDB's error into one with a place in `sql` and the nearest of `names` (relations and columns)."""
    text = str(error).strip()
    first = text.splitlines()[0]
    _, _, reason = first.partition("Error: ")
    reason = (reason or first).rstrip(".!")
    span = _span(text, sql)
    for kind, state, pattern in _MISSING:
        if missing := pattern.search(first):
            name = missing[1]
            near = difflib.get_close_matches(name.lower(), [n.lower() for n in names], n=1)
            if not near and kind == "function" and (suggested := _SUGGESTED.search(text)):
                near = [suggested[1]]
            return SqlError(
                f"{kind} {name!r} does not exist",
                span=span or _word_span(name, sql),
                text=sql,
                hint=f"did you mean {near[0]!r}?" if near else None,
                sqlstate=state,
            )
    if reason.startswith("Division by zero"):
        return SqlError("division by zero", span=span, text=sql, hint=DIVISION_HINT, sqlstate="22012")
    if isinstance(error, duckdb.ParserException):
        return SqlError(lowered(reason), span=span, text=sql, sqlstate="42601")
    if isinstance(error, duckdb.PermissionException):
        return SqlError("the server's files are out of reach of SQL", span=span, text=sql, sqlstate="42501")
    return SqlError(lowered(reason), span=span, text=sql, sqlstate="42000")


def lowered(reason: str) -> str:
    """Begin what DuckDB says in lower case, unless it begins with a keyword in capitals."""
    return reason if reason[1:2].isupper() else reason[:1].lower() + reason[1:]


def _span(text: str, sql: str) -> Span | None:
    """Find the place of DuckDB's caret: it quotes one line of the statement, cut at both ends when that is long."""
    match = _POSITION.search(text)
    if match is None:
        return None
    number, shown = int(match[1]), match[2]
    column = len(match[3]) - len(f"LINE {match[1]}: ")
    lines = sql.splitlines(keepends=True)
    if number > len(lines):
        return None
    line = lines[number - 1]
    if shown.startswith("..."):
        body = shown[3:].removesuffix("...")
        column += line.find(body) - 3
    start = sum(len(x) for x in lines[: number - 1]) + max(0, column)
    word = re.match(r'"(?:[^"]|"")*"|\w+|.', sql[start:], re.DOTALL)
    return Span(start, start + (len(word[0]) if word else 1))


def _word_span(name: str, sql: str) -> Span | None:
    """Find where `name` stands as a word; DuckDB does not always say."""
    for match in _WORD.finditer(sql):
        word = match["word"] or (match["quoted"] or "").replace('""', '"')
        if word.lower() == name.lower():
            return Span(match.start(), match.end())
    return None
