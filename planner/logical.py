"""The logical plan: what a query means, as frozen dataclasses over typed sqlglot expressions.

Every node's output fields have unique names. An expression in a node refers to its input's fields
by plain one-part columns (``exp.column(name, quoted=True)``) and carries its type
(``expression.type``). No node knows about time, tasks or transport.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TypeAlias

from sqlglot import exp

from planner.task_spec import FunctionSpec
from sabot.ids import ROW_WATERMARK
from sabot.schema import Field, Schema

CHANGELOG_OP = "changelog_op"
"""The column of a changelog that says what became of the row: 1 inserted, 2 deleted, 3 and 4 its update's new and old.
"""


class RelationKind(enum.Enum):
    """What a name in FROM may stand for, once views are expanded."""

    SOURCE = "source"
    TABLE = "table"
    MATERIALIZED_VIEW = "materialized view"
    INPUT = "input"
    """What another operator of a hand-written graph gives: ``input``, ``input_1``."""


@dataclass(frozen=True)
class Watermark:
    """``WATERMARK FOR column AS expression``; `expression` is DuckDB SQL over the source's columns."""

    column: str
    expression: str


@dataclass(frozen=True)
class Relation:
    """A thing that rows come from.

    ``stream_key`` names columns that identify a row (a view's group keys, a table's primary key);
    empty if none is known. ``append_only`` is false where rows may be retracted. ``connector``,
    ``format`` and ``options`` are of sources only.
    """

    name: str
    kind: RelationKind
    schema: Schema
    append_only: bool
    stream_key: tuple[str, ...] = ()
    watermark: Watermark | None = None
    connector: str | None = None
    format: str | None = None
    options: tuple[tuple[str, str], ...] = ()
    include: tuple[tuple[str, str], ...] = ()
    """(kind, column) pairs of INCLUDE clauses, such as ``("topic", "t")``; the columns are in ``schema``."""
    changes: str = ""
    """Of a source whose records tell changes, how: the word after FORMAT, in lower case."""
    finite: bool = False
    """A source that ends by itself."""
    shown: str = ""
    """What it is called in a SELECT, if that is another name by now."""
    changelog: bool = False
    """Stands for the changes of the relation, rows that are only ever added; the last column is ``changelog_op``."""
    stream_key_of_rows: tuple[str, ...] = ()
    """Of a changelog: the stream key of the relation itself, by which the two rows of an update are told."""
    rows_estimate: int | None = field(default=None, compare=False)
    """About how many rows it had when it was looked up; None where nobody can tell."""


@dataclass(frozen=True)
class NamedExpr:
    """An output column: `expr` over the input's fields, `type` as DuckDB type text."""

    name: str
    expr: exp.Expression
    type: str


@dataclass(frozen=True)
class Scan:
    """All rows of a relation. `fields` are the relation's columns, maybe pruned (also inside STRUCTs)."""

    relation: Relation
    fields: Schema


@dataclass(frozen=True)
class Project:
    """One output row per input row."""

    input: LogicalNode
    exprs: tuple[NamedExpr, ...]


@dataclass(frozen=True)
class Filter:
    """Rows for which `predicate` is true."""

    input: LogicalNode
    predicate: exp.Expression


class WindowKind(enum.Enum):
    """The window table functions."""

    TUMBLE = "tumble"
    HOP = "hop"
    CUMULATE = "cumulate"


@dataclass(frozen=True)
class Window:
    """Adds ``start_name`` and ``end_name`` (TIMESTAMP or TIMESTAMPTZ as the time column is).

    A row falls into ``size_us / slide_us`` windows (one for TUMBLE, where both are equal), aligned
    to the epoch plus ``offset_us``. Rows whose time is NULL fall into none. The windows of CUMULATE begin together
    every ``size_us`` and end one slide after the other.
    """

    input: LogicalNode
    kind: WindowKind
    time_column: str
    size_us: int
    slide_us: int
    offset_us: int = 0
    start_name: str = "window_start"
    end_name: str = "window_end"


@dataclass(frozen=True)
class Sessions:
    """Adds ``start_name`` and ``end_name``: rows less than ``gap_us`` apart are one session, from its first row on.

    A session ends one gap after its last row.
    """

    gap_us: int
    start_name: str = "window_start"
    end_name: str = "window_end"


class Fill(enum.Enum):
    """What a row that fills a gap has in a column."""

    NULL = "null"
    LAST = "last"
    """The value of the row before the gap."""
    BETWEEN = "between"
    """On the straight line from the row before the gap to the one behind it."""


@dataclass(frozen=True)
class GapFill:
    """Adds a row every ``step_us`` between two rows that are further apart; ``fills`` are (field, how) pairs."""

    step_us: int
    fills: tuple[tuple[str, Fill], ...] = ()


@dataclass(frozen=True)
class Timeline:
    """The rows of each `partition` in the order of a time column, and what `work` makes of them.

    Rows whose time is NULL are in no session; they stay as they are where gaps are filled. ``closing`` is the
    planner's: rows come with ``__wm`` and leave without it once the watermark has passed the end of their session.
    """

    input: LogicalNode
    partition: tuple[str, ...]
    time_column: str
    work: Sessions | GapFill
    closing: bool = False


@dataclass(frozen=True)
class OrderBy:
    """A field to sort by."""

    field: str
    descending: bool = False
    nulls_first: bool = False


@dataclass(frozen=True)
class AggCall:
    """An aggregate over input fields: ``function`` is count, sum, min, max, avg or another of DuckDB's.

    ``argument`` is a field name, or None for ``count(*)``. ``filter`` is a BOOLEAN field name.
    ``type`` is the result's DuckDB type text. Further arguments are the fields ``more``, then the SQL literals
    ``constants``; ``order`` is the ORDER BY inside the call.
    """

    name: str
    function: str
    argument: str | None
    type: str
    distinct: bool = False
    filter: str | None = None
    more: tuple[str, ...] = ()
    constants: tuple[str, ...] = ()
    order: tuple[OrderBy, ...] = ()

    @property
    def reads(self) -> tuple[str, ...]:
        """The fields that the call reads."""
        named = (self.argument, self.filter, *self.more, *(o.field for o in self.order))
        return tuple(dict.fromkeys(n for n in named if n is not None))


@dataclass(frozen=True)
class Aggregate:
    """GROUP BY the fields `keys`; output fields are the keys, then the calls by name.

    Without keys there is one row, also over empty input. ``close_column`` is the planner's: a key
    (TIMESTAMP) at which, by the watermark, a group is complete and is shown, once.
    """

    input: LogicalNode
    keys: tuple[str, ...]
    calls: tuple[AggCall, ...]
    close_column: str | None = None


class JoinKind(enum.Enum):
    """Which rows without a partner a join keeps; SEMI and ANTI give the left's rows alone."""

    INNER = "inner"
    LEFT = "left"
    RIGHT = "right"
    FULL = "full"
    SEMI = "semi"
    ANTI = "anti"


NULL_SAFE = "IS NOT DISTINCT FROM"
"""SQL's equality for which NULL equals NULL."""


@dataclass(frozen=True)
class AsOf:
    """``left sign right`` (>=, >, <= or <): of the rows that it holds for, the one whose `right` is nearest."""

    left: str
    sign: str
    right: str


@dataclass(frozen=True)
class Join:
    """Equi-join: ``left_keys[i] = right_keys[i]`` (SQL's =, NULL joins nothing) and `residual`; keys may be none.

    Of the first `null_safe` keys NULL joins NULL: they are compared by IS NOT DISTINCT FROM.

    Output fields are the left's, then (but for SEMI and ANTI) the right's; their names do not clash. A join that is
    `temporal` or has an `asof` is INNER or LEFT: each left row meets the right side as it is when the row comes, and
    keeps what it met; or it meets the one right row that `asof` finds nearest. ``close_columns``
    are the planner's: a time of each side, told by the keys, at which, by the watermark, its rows are complete.
    """

    left: LogicalNode
    right: LogicalNode
    left_keys: tuple[str, ...]
    right_keys: tuple[str, ...]
    residual: exp.Expression | None = None
    kind: JoinKind = JoinKind.INNER
    temporal: bool = False
    asof: AsOf | None = None
    close_columns: tuple[str, str] | None = None
    expiry: tuple[tuple[str, int], tuple[str, int]] | None = None
    """The planner's: per side (field, microseconds); a row can go when the watermark is past their sum."""
    null_safe: int = 0

    @property
    def key_pairs(self) -> tuple[tuple[str, str, str], ...]:
        """(left key, SQL's sign, right key) of each pair."""
        pairs = zip(self.left_keys, self.right_keys, strict=True)
        return tuple((a, NULL_SAFE if i < self.null_safe else "=", b) for i, (a, b) in enumerate(pairs))


@dataclass(frozen=True)
class OverCall:
    """A function over a window of rows: ``call`` sorted by ``order``, in ``frame`` (SQL text; "" is the default).

    ``ignore_nulls`` is IGNORE NULLS. The call's own ``order`` is that of the window.
    """

    call: AggCall
    frame: str = ""
    ignore_nulls: bool = False

    @property
    def name(self) -> str:
        """The column it adds."""
        return self.call.name


@dataclass(frozen=True)
class Over:
    """Adds the calls' columns to each row, among the rows of its `partition`; keeps the rows where `condition` is true.

    Rows that the calls' order leaves equal stand in the order of their other columns, so that the answer is the same
    each time. ``close_column`` is the planner's: a time of the partition at which, by the watermark, it is complete;
    so is ``close_order``: the time that all calls are sorted by, in whose order rows are told once their answer stands.
    """

    input: LogicalNode
    partition: tuple[str, ...]
    calls: tuple[OverCall, ...]
    condition: exp.Expression | None = None
    close_column: str | None = None
    close_order: str | None = None


@dataclass(frozen=True)
class Unnest:
    """One row for each element of the lists, side by side, the shorter ones filled up with NULL.

    ``lists`` are (list field, element's name, element's type); ``ordinality`` names a BIGINT that counts from 1. A row
    without elements gives none, or, if `outer`, one with NULL.
    """

    input: LogicalNode
    lists: tuple[tuple[str, str, str], ...]
    ordinality: str | None = None
    outer: bool = False


@dataclass(frozen=True)
class Union:
    """UNION ALL; all inputs have the same field names and types as the first."""

    inputs: tuple[LogicalNode, ...]


LogicalNode: TypeAlias = Scan | Project | Filter | Window | Timeline | Aggregate | Join | Over | Unnest | Union


class Emit(enum.Enum):
    """When a view shows a group: at every epoch, or once when the watermark has passed its window."""

    ON_UPDATE = "on update"
    ON_WINDOW_CLOSE = "on window close"
    BY_WINDOW = "by window"
    """What belongs to windows of event time once it is complete, all else at every epoch: as Flink and Arroyo do."""


@dataclass(frozen=True)
class Query:
    """A whole query: the root's fields are the result's columns in order; `notices` say what has no effect.

    `functions` are the Python functions that it calls.
    """

    root: LogicalNode
    emit: Emit = Emit.ON_UPDATE
    notices: tuple[str, ...] = ()
    functions: tuple[FunctionSpec, ...] = ()


def schema_of(node: LogicalNode) -> Schema:
    """Return the output fields of `node`."""
    match node:
        case Scan(fields=fields):
            return fields
        case Project(exprs=exprs):
            return tuple(Field(e.name, e.type) for e in exprs)
        case Filter(input=child):
            return schema_of(child)
        case Window(input=child):
            fields = schema_of(child)
            time = next(f.type for f in fields if f.name == node.time_column)
            return (*fields, Field(node.start_name, time), Field(node.end_name, time))
        case Timeline(input=child, work=work):
            fields = tuple(f for f in schema_of(child) if not (node.closing and f.name == ROW_WATERMARK))
            if isinstance(work, GapFill):
                return fields
            time = next(f.type for f in fields if f.name == node.time_column)
            return (*fields, Field(work.start_name, time), Field(work.end_name, time))
        case Aggregate(input=child):
            by_name = {f.name: f for f in schema_of(child)}
            keys = tuple(by_name[k] for k in node.keys)
            return keys + tuple(Field(c.name, c.type) for c in node.calls)
        case Join(left=left, kind=JoinKind.SEMI | JoinKind.ANTI):
            return schema_of(left)
        case Join(left=left, right=right):
            return schema_of(left) + schema_of(right)
        case Over(input=child, calls=calls):
            return schema_of(child) + tuple(Field(c.name, c.call.type) for c in calls)
        case Unnest(input=child, lists=lists):
            added = tuple(Field(name, type_) for _, name, type_ in lists)
            return schema_of(child) + added + ((Field(node.ordinality, "BIGINT"),) if node.ordinality else ())
        case Union(inputs=inputs):
            return schema_of(inputs[0])
