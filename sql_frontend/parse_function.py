"""CREATE FUNCTION: its clauses, in any order, off the lexemes; the body stays text."""

from __future__ import annotations

from sabot.errors import Span, SqlError
from sabot.schema import Field
from sql_frontend.clauses import if_not_exists, options
from sql_frontend.cursor import Cursor, RelationName
from sql_frontend.split import LexemeKind
from sql_frontend.statements import CreateFunction
from sql_frontend.types import check_column_type, type_text

_LANGUAGES = ("sql", "python")
_CLAUSES = {"RETURNS", "LANGUAGE", "AS", "WITH", "STRICT", "IMMUTABLE", "STABLE", "VOLATILE", "CALLED", "RETURN"}
_MODES = ("IN", "OUT", "VARIADIC")


def parse_function(cur: Cursor, span: Span, *, or_replace: bool) -> CreateFunction:
    """Read what follows CREATE [OR REPLACE] FUNCTION.

    Raises
    ------
    SqlError
        42P13 if a clause is missing or stands twice.
    """
    exists = if_not_exists(cur)
    here = cur.here()
    name = cur.relation_name("the function's name")
    if isinstance(name, RelationName):
        raise cur.error(
            "a function in a schema is not supported", span=here, hint=f"write {name.bare}", sqlstate="0A000"
        )
    parameters = _parameters(cur)
    found: dict[str, str] = {}
    strict = False
    body_at = 0
    vectorized = True
    while cur.peek() is not None:
        here = cur.here()
        if cur.accept("RETURNS", "NULL", "ON", "NULL", "INPUT") or cur.accept("STRICT"):
            strict = True
        elif cur.accept("CALLED", "ON", "NULL", "INPUT") or cur.accept("IMMUTABLE") or cur.accept("STABLE"):
            continue
        elif cur.at_words("VOLATILE"):
            hint = "the same arguments must give the same answer"
            raise cur.error("a VOLATILE function is not supported", span=here, hint=hint, sqlstate="0A000")
        elif cur.accept("RETURNS"):
            if cur.at_words("TABLE") or cur.at_words("SETOF"):
                hint = "return an array and unnest it"
                raise cur.error("a function that returns rows is not supported", span=here, hint=hint, sqlstate="0A000")
            _once(cur, found, "RETURNS", _type(cur), here)
        elif cur.accept("LANGUAGE"):
            _once(cur, found, "LANGUAGE", _word(cur, "a language").lower(), here)
        elif cur.accept("AS"):
            item = cur.peek()
            if item is None or item.kind is not LexemeKind.STRING:
                raise cur.unexpected("the body as a string, such as $$ ... $$")
            body_at = cur.text.index(item.value, item.start) if item.value in cur.text[item.start :] else item.start
            cur.at += 1
            _once(cur, found, "AS", item.value, here)
        elif cur.accept("RETURN"):
            start = cur.offset()
            cur.at = len(cur.items)
            body_at = start
            _once(cur, found, "AS", f"{cur.text[start : cur.end_of_last()]}", here)
            found.setdefault("LANGUAGE", "sql")
        elif cur.accept("WITH"):
            vectorized = _vectorized(cur)
        else:
            raise cur.unexpected("RETURNS, LANGUAGE, AS $$ ... $$, STRICT or WITH (...)")
    for clause in ("RETURNS", "LANGUAGE", "AS"):
        if clause not in found:
            end = Span(len(cur.text), len(cur.text))
            hint = f"CREATE FUNCTION {name}(a INT) RETURNS INT LANGUAGE SQL AS $$ SELECT a + 1 $$"
            raise cur.error(f"the function has no {clause}", span=end, hint=hint, sqlstate="42P13")
    if found["LANGUAGE"] not in _LANGUAGES:
        at = cur.text.lower().find(found["LANGUAGE"])
        msg = f"language {found['LANGUAGE']!r} does not exist"
        raise cur.error(msg, span=Span(at, at + len(found["LANGUAGE"])), hint="SQL or PYTHON", sqlstate="42704")
    return CreateFunction(
        name,
        parameters,
        found["RETURNS"],
        found["LANGUAGE"],
        found["AS"],
        body_at,
        or_replace,
        exists,
        vectorized,
        strict,
        cur.text,
        span,
    )


def _once(cur: Cursor, found: dict[str, str], clause: str, value: str, here: Span) -> None:
    if clause in found:
        raise cur.error(f"{clause} stands twice", span=here, sqlstate="42P13")
    found[clause] = value


def _word(cur: Cursor, what: str) -> str:
    item = cur.peek()
    if item is not None and item.kind is LexemeKind.STRING:
        cur.at += 1
        return item.value
    return cur.name(what)


def _parameters(cur: Cursor) -> tuple[Field, ...]:
    """Read ``(name TYPE, TYPE, ...)``; one without a name is ``$1``, ``$2``, ... by its place."""
    cur.expect_symbol("(")
    fields: list[Field] = []
    while not cur.at_symbol(")"):
        here = cur.here()
        if (mode := cur.accept_one(_MODES)) is not None and mode != "IN":
            raise cur.error(f"{mode} parameters are not supported", span=here, sqlstate="0A000")
        second = cur.peek(1)
        named = second is not None and second.kind in (LexemeKind.WORD, LexemeKind.QUOTED)
        first = cur.peek()
        if named and first is not None and first.value.upper() in ("DOUBLE", "TIMESTAMP", "TIME", "CHARACTER"):
            assert second is not None
            # a type of two words
            named = second.value.upper() not in ("PRECISION", "WITH", "WITHOUT", "VARYING")
        name = cur.name("a parameter's name") if named else f"${len(fields) + 1}"
        if any(f.name == name for f in fields):
            raise cur.error(f"parameter {name!r} stands twice", span=here, sqlstate="42P13")
        start, end = cur.skip_balanced(("DEFAULT",), angles=True)
        if cur.at_words("DEFAULT"):
            raise cur.error("DEFAULT of a parameter is not supported", span=cur.here(), sqlstate="0A000")
        type_ = type_text(cur.text[start:end], text=cur.text, start=start)
        check_column_type(type_, name, Span(start, end), cur.text)
        fields.append(Field(name, type_))
        if not cur.accept_symbol(","):
            break
    cur.expect_symbol(")")
    return tuple(fields)


def _type(cur: Cursor) -> str:
    start, end = cur.skip_balanced(_CLAUSES - {"WITH"}, angles=True)
    written = cur.text[start:end]
    # WITH begins the options, but not in TIMESTAMP WITH TIME ZONE
    lowered = written.lower()
    at = lowered.find(" with ")
    if at >= 0 and lowered[at:].split()[1:2] != ["time"]:
        while cur.at and cur.items[cur.at - 1].start > start + at:
            cur.at -= 1
        written = written[:at]
    type_ = type_text(written, text=cur.text, start=start)
    check_column_type(type_, "result", Span(start, start + len(written)), cur.text)
    return type_


def _vectorized(cur: Cursor) -> bool:
    pairs, spans = options(cur)
    vectorized = True
    for (key, value), (_, at) in zip(pairs, spans, strict=True):
        if key != "vectorized" or value.lower() not in ("true", "false"):
            hint = "the option is vectorized = true | false"
            raise cur.error(f"unknown option {key} = {value}", span=at, hint=hint, sqlstate="42P13")
        vectorized = value.lower() == "true"
    return vectorized


def body_error(error: SqlError, statement: CreateFunction) -> SqlError:
    """Return an error in a function's body as one of the whole statement."""
    span = error.span
    if span is not None:
        span = Span(span.start + statement.body_at, min(span.end + statement.body_at, len(statement.text)))
    return SqlError(error.message, span=span, text=statement.text, hint=error.hint, sqlstate=error.sqlstate)
