"""The clauses that CREATE statements share: columns, WITH, FORMAT ... ENCODE, INCLUDE, EMIT, the query."""

from __future__ import annotations

from dataclasses import dataclass

from sabot.errors import Span
from sabot.schema import Field
from sql_frontend.cursor import Cursor
from sql_frontend.split import LexemeKind
from sql_frontend.statements import FormatClause, WatermarkClause
from sql_frontend.types import check_column_type, collation_problem, type_text

_AFTER_TYPE = frozenset(
    {"NOT", "NULL", "PRIMARY", "DEFAULT", "AS", "CHECK", "UNIQUE", "REFERENCES", "GENERATED", "COLLATE", "METADATA"}
)
ENCODINGS = ("json", "csv", "parquet", "raw")
SINK_FORMATS = ("plain", "upsert", "debezium")
"""How a sink may tell its rows; which of them a connector has is for the connector to say."""
SOURCE_CHANGES = ("debezium", "flink_changelog")
"""Formats whose records tell changes; the other is plain, whose records are rows that are only ever added."""
INCLUDE_KINDS = {
    "topic": "VARCHAR",
    "key": "VARCHAR",
    "partition": "INTEGER",
    "offset": "BIGINT",
    "timestamp": "TIMESTAMP WITH TIME ZONE",
    "headers": "JSON",
    "qos": "INTEGER",
    "retain": "BOOLEAN",
    "file": "VARCHAR",
    "payload": "VARCHAR",
}
"""What INCLUDE may name, and the type of its column."""


@dataclass(frozen=True)
class ColumnClause:
    """A column as written; `default` is an expression's text and its offset in the statement."""

    field: Field
    span: Span
    not_null: bool
    primary_key: bool
    default: tuple[str, int] | None


@dataclass(frozen=True)
class ColumnList:
    """What stands in the parentheses after the name."""

    columns: tuple[ColumnClause, ...] = ()
    primary_key: tuple[str, ...] = ()
    watermark: WatermarkClause | None = None

    @property
    def fields(self) -> tuple[Field, ...]:
        """The columns' names and types."""
        return tuple(c.field for c in self.columns)


def column_list(cur: Cursor) -> ColumnList:
    """Read ``(column type ..., PRIMARY KEY (...), WATERMARK FOR c AS expr)``."""
    columns: list[ColumnClause] = []
    primary_key: tuple[str, ...] = ()
    watermark: WatermarkClause | None = None
    key_span = cur.here()
    cur.expect_symbol("(")
    while True:
        here = cur.here()
        if cur.at_words("WATERMARK", "FOR"):
            if watermark is not None:
                raise cur.error("a second WATERMARK clause", span=here, hint="a source has one watermark")
            watermark = _watermark(cur)
        elif cur.at_words("PRIMARY", "KEY"):
            if primary_key:
                raise cur.error("a second PRIMARY KEY", span=here, sqlstate="42P16")
            cur.expect("PRIMARY", "KEY")
            primary_key, key_span = names_in_parentheses(cur, "a column of the key"), here
        elif (word := cur.accept_one({"CONSTRAINT", "UNIQUE", "FOREIGN", "CHECK"})) is not None:
            raise cur.error(f"{word} is not supported", span=here, sqlstate="0A000")
        else:
            column = _column(cur)
            if any(c.field.name.lower() == column.field.name.lower() for c in columns):
                msg = f"column {column.field.name!r} stands twice"
                raise cur.error(msg, span=column.span, sqlstate="42701")
            if column.primary_key:
                if primary_key:
                    raise cur.error("a second PRIMARY KEY", span=column.span, sqlstate="42P16")
                primary_key, key_span = (column.field.name,), column.span
            columns.append(column)
        if not cur.accept_symbol(","):
            break
    cur.expect_symbol(")")
    names = {c.field.name for c in columns}
    for name in primary_key:
        if name not in names:
            raise cur.error(f"column {name!r} of the key does not exist", span=key_span, sqlstate="42703")
    if watermark is not None and watermark.column not in names and columns:
        msg = f"column {watermark.column!r} of the watermark does not exist"
        raise cur.error(msg, span=watermark.span, sqlstate="42703")
    return ColumnList(tuple(columns), primary_key, watermark)


def _column(cur: Cursor) -> ColumnClause:
    here = cur.here()
    name = cur.name("a column name")
    if name.startswith("__"):
        hint = "names that begin with two underscores are Sabot's own"
        raise cur.error(f"column name {name!r} is reserved", span=here, hint=hint, sqlstate="42939")
    if cur.peek() is None or cur.at_symbol(",") or cur.at_symbol(")"):
        raise cur.unexpected(f"the type of column {name!r}")
    start, end = cur.skip_balanced(_AFTER_TYPE, angles=True)
    type_ = type_text(cur.text[start:end], text=cur.text, start=start)
    check_column_type(type_, name, Span(start, end), cur.text)
    not_null = primary_key = False
    default: tuple[str, int] | None = None
    while not (cur.peek() is None or cur.at_symbol(",") or cur.at_symbol(")")):
        at = cur.here()
        if cur.accept("NOT", "NULL"):
            not_null = True
        elif cur.accept("PRIMARY", "KEY"):
            primary_key = True
        elif cur.accept("COLLATE"):
            problem = collation_problem(cur.name("a collation"), type_)
            if problem is not None:
                raise cur.error(problem[0], span=at, hint=problem[1], sqlstate=problem[2])
        elif cur.accept("DEFAULT"):
            begin, stop = cur.skip_balanced({"NOT", "PRIMARY", "COLLATE"})
            default = (cur.text[begin:stop], begin)
        elif not cur.accept("NULL"):
            item = cur.peek()
            what = item.value.upper() if item else ""
            if item is not None and what in _AFTER_TYPE:
                raise cur.error(f"{what} of a column is not supported", span=at, sqlstate="0A000")
            raise cur.unexpected("',' or ')'")
    return ColumnClause(Field(name, type_), here, not_null, primary_key, default)


def _watermark(cur: Cursor) -> WatermarkClause:
    begin = cur.offset()
    cur.expect("WATERMARK", "FOR")
    column = cur.name("the watermark's column")
    cur.expect("AS")
    start, end = cur.skip_balanced()
    return WatermarkClause(column, cur.text[start:end], Span(begin, end))


def names_in_parentheses(cur: Cursor, what: str) -> tuple[str, ...]:
    """Read ``(a, b, c)``."""
    cur.expect_symbol("(")
    names = [cur.name(what)]
    while cur.accept_symbol(","):
        names.append(cur.name(what))
    cur.expect_symbol(")")
    return tuple(names)


def options(cur: Cursor) -> tuple[tuple[tuple[str, str], ...], tuple[tuple[str, Span], ...]]:
    """Read ``(key = value, ...)`` into (key, value) pairs and (key, span) pairs.

    A key may have dots and dashes; it is lower case unless quoted. A value is a string, number or word.
    """
    cur.expect_symbol("(")
    pairs: list[tuple[str, str]] = []
    spans: list[tuple[str, Span]] = []
    while not cur.at_symbol(")"):
        begin = cur.offset()
        key = _option_key(cur)
        cur.expect_symbol("=")
        value = _option_value(cur, key)
        span = Span(begin, cur.end_of_last())
        if any(k == key for k, _ in pairs):
            raise cur.error(f"option {key!r} stands twice", span=span)
        pairs.append((key, value))
        spans.append((key, span))
        if not cur.accept_symbol(","):
            break
    cur.expect_symbol(")")
    return tuple(pairs), tuple(spans)


def _option_key(cur: Cursor) -> str:
    item = cur.peek()
    if item is not None and item.kind in (LexemeKind.STRING, LexemeKind.QUOTED):
        cur.at += 1
        return item.value
    begin = cur.offset()
    while (item := cur.peek()) is not None and not (item.kind is LexemeKind.SYMBOL and item.value in "=,()"):
        cur.at += 1
    key = cur.text[begin : cur.end_of_last()] if cur.end_of_last() > begin else ""
    if not key or any(c.isspace() for c in key):
        raise cur.error("expected an option as key = 'value'", span=Span(begin, max(cur.here().start, begin)))
    return key.lower()


def _option_value(cur: Cursor, key: str) -> str:
    begin = cur.offset()
    first = cur.peek()
    _, end = cur.skip_balanced()
    if first is not None and first.end == end and first.kind in (LexemeKind.STRING, LexemeKind.QUOTED):
        return first.value
    value = cur.text[begin:end]
    if any(c.isspace() or c in "()'\"" for c in value):
        raise cur.error(f"the value of option {key!r} must be a string or a number", span=Span(begin, end))
    return value


def format_clause(cur: Cursor, kinds: tuple[str, ...] = ("plain",)) -> FormatClause:
    """Read what follows FORMAT: ``PLAIN ENCODE JSON [(...)]``; `kinds` are what may stand for PLAIN."""
    here = cur.here()
    kind = cur.name("a format").lower()
    if kind not in kinds:
        hint = "FORMAT PLAIN is what works: each record is one row that is only ever added"
        if len(kinds) > 1:
            hint = "the formats are " + ", ".join(k.upper() for k in kinds)
        raise cur.error(f"FORMAT {kind.upper()} is not supported", span=here, hint=hint, sqlstate="0A000")
    cur.expect("ENCODE")
    here = cur.here()
    encode = cur.name("an encoding").lower()
    encode = "raw" if encode == "bytes" else encode
    if encode not in ENCODINGS:
        hint = "the encodings are " + ", ".join(e.upper() for e in ENCODINGS)
        raise cur.error(f"ENCODE {encode.upper()} is not supported", span=here, hint=hint, sqlstate="0A000")
    pairs: tuple[tuple[str, str], ...] = ()
    if cur.at_symbol("("):
        pairs, _ = options(cur)
    return FormatClause(kind, encode, pairs)


def include_clause(cur: Cursor) -> tuple[str, str]:
    """Read what follows INCLUDE: ``topic [AS c]``; the column has the kind's name unless told."""
    here = cur.here()
    kind = cur.name("what to include").lower()
    kind = "headers" if kind == "header" else kind
    if kind not in INCLUDE_KINDS:
        hint = "one of " + ", ".join(INCLUDE_KINDS)
        raise cur.error(f"INCLUDE {kind!r} is not known", span=here, hint=hint)
    return kind, cur.name("a column name") if cur.accept("AS") else kind


def query_text(cur: Cursor, *, before_with: bool) -> tuple[str, Span, bool]:
    """Read a query up to EMIT, the end, or (of a sink) ``WITH (`` or FORMAT.

    Returns
    -------
    str, Span, bool
        The query, where it stands, and whether EMIT ON WINDOW CLOSE follows.
    """
    begin = cur.offset()
    depth = 0
    while (item := cur.peek()) is not None:
        if item.kind is LexemeKind.SYMBOL and item.value in ("(", "[", ")", "]"):
            depth += 1 if item.value in "([" else -1
        elif depth == 0 and (
            cur.at_words("EMIT", "ON")
            or cur.at_words("EMIT", "CHANGES")
            or (before_with and ((cur.at_words("WITH") and cur.at_symbol("(", 1)) or cur.at_words("FORMAT", "PLAIN")))
        ):
            break
        cur.at += 1
    end = cur.end_of_last()
    if end <= begin:
        raise cur.unexpected("a query")
    return cur.text[begin:end], Span(begin, end), _emit(cur)


def _emit(cur: Cursor) -> bool:
    if not cur.at_words("EMIT"):
        return False
    begin = cur.offset()
    if cur.accept("EMIT", "ON", "WINDOW", "CLOSE"):
        return True
    if cur.accept("EMIT", "ON", "UPDATE") or cur.accept("EMIT", "CHANGES"):
        return False
    raise cur.error("unknown EMIT clause", span=Span(begin, cur.items[-1].end), hint="write EMIT ON WINDOW CLOSE")


def if_not_exists(cur: Cursor) -> bool:
    """Read ``IF NOT EXISTS`` if it comes next."""
    return cur.accept("IF", "NOT", "EXISTS")
