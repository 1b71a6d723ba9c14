"""What reaches an agent: plain data, SQL text over named inputs, types and keys; no sqlglot.

A task is a small graph of operators (`OperatorNode`) fused because rows flow FORWARD between them.
SQL texts read their input as the table ``input`` (``input_1`` for a second), are DuckDB's dialect,
and run with ``integer_division = true``. On a stream with retractions the input has the column
``__weight`` and the SQL passes it on.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec


class ColumnSpec(msgspec.Struct, frozen=True):
    """A column by name and DuckDB type text."""

    name: str
    type: str


Columns: TypeAlias = tuple[ColumnSpec, ...]


class SourceOp(msgspec.Struct, frozen=True, tag="source"):
    """Reads a connector. Output: `columns` (append-only), plus ``__wm`` if `judge_lateness`.

    `watermark_sql` is an expression over `columns`; None without WATERMARK.
    `include` has (kind, column) pairs whose columns are among `columns`.
    `declared` names the columns before pruning, by which CSV finds its fields. With `changes` (``debezium``,
    ``flink_changelog``) the records tell changes and rows carry ``__weight``; with a `key` too, a row of weight 1
    takes the place of its key's, and of one of weight -1 no more than the key is sure.
    """

    relation: str
    connector: str
    options: dict[str, str]
    format: str | None
    columns: Columns
    declared: Columns
    watermark_sql: str | None = None
    judge_lateness: bool = False
    include: tuple[tuple[str, str], ...] = ()
    changes: str = ""
    key: tuple[str, ...] = ()
    finite: bool = False


class ChangelogSpec(msgspec.Struct, frozen=True):
    """How a relation's changes become rows with the column `op`: 1 insert, 2 delete, 3 and 4 an update's new and old.

    An old and a new row of one `key` are an update. With `by_statement` all of a statement's are, if it has both.
    """

    op: str
    key: tuple[str, ...] = ()
    by_statement: bool = False


class LogSourceOp(msgspec.Struct, frozen=True, tag="log_source"):
    """Reads the stream log of a table or view in the daemon: its snapshot, then its changes.

    Output: `columns`, plus ``__wm`` if `judge_lateness`, plus ``__weight`` if `weighted`. With `whole_snapshot` no
    barrier comes before the snapshot's end. `watermark_sql` is as of a source; rows of the snapshot, which has no
    order, are never late. With a `changelog` each change is a row that stays; `columns` may have its `op` among them.
    Runs only on the daemon's own agent.
    """

    relation: str
    columns: Columns
    weighted: bool
    whole_snapshot: bool = False
    watermark_sql: str | None = None
    judge_lateness: bool = False
    changelog: ChangelogSpec | None = None


class FailureCheck(msgspec.Struct, frozen=True):
    """How rows are found on which an expression failed: that of output `column`, where it holds a NULL, or another.

    `column` is None where the result does not show the NULL: there the batch's strict statement has raised. `rows_sql`
    gives what those rows hold as JSON, one text a row; `reason_sql` fails with the reason of one of them, its parameter
    counting from 0. `expression` is for people.
    """

    column: str | None
    expression: str
    rows_sql: str
    reason_sql: str


class SqlOp(msgspec.Struct, frozen=True, tag="sql"):
    """Stateless: one SELECT per batch over ``input`` (filters, projections, windows, fused).

    Output: exactly `columns`; on a stream with retractions ``__weight`` (INTEGER) is the last of them, unless
    `drops_weight`: the plan knows that every weight is 1. If `passed` is not empty the statement only renames, sorts
    and leaves out: each output column is the input's column of that name.

    If `strict` is not empty it is `sql` with expressions that fail where those of `sql` are NULL. A batch on which it
    does not raise has its answer by it, and one on which it does is for `checks`.
    """

    sql: str
    columns: Columns
    drops_weight: bool = False
    passed: tuple[str, ...] = ()
    strict: str = ""
    checks: tuple[FailureCheck, ...] = ()


class UnionOp(msgspec.Struct, frozen=True, tag="union"):
    """Passes every input on; adds ``__weight`` = 1 to an input without it when `weighted`."""

    columns: Columns
    weighted: bool


class PartialColumn(msgspec.Struct, frozen=True):
    """A column of a partial aggregate and the function that merges it: sum, min or max."""

    name: str
    type: str
    merge: str


class PartialAggOp(msgspec.Struct, frozen=True, tag="partial_agg"):
    """Aggregates within one task, before the exchange.

    `sql` turns a batch ``input`` into `keys` + `partials` (it multiplies by ``__weight`` where there is
    one, and has the column ``__rows``: the number of rows, BIGINT, merge sum). Partials gather until the
    barrier and are merged by `keys`. Output: keys, then partials, no ``__weight``. `strict` and `checks` as of `SqlOp`.
    """

    sql: str
    keys: Columns
    partials: tuple[PartialColumn, ...]
    strict: str = ""
    checks: tuple[FailureCheck, ...] = ()


class FinalAggOp(msgspec.Struct, frozen=True, tag="final_agg"):
    """Merges partials into the state by key and emits the changes of each touched group.

    Input: keys + partials. `result_sql` are SELECT items (after the keys) over the merged partial columns, in the
    order of `columns` after the keys. A group whose ``__rows`` is 0 is gone (a global aggregate's, `keys` empty, stays:
    it shows a row from the first epoch on). Emits on update: ``__weight`` -1 the old row, +1 the
    new one, nothing where both are equal. With `close_column` (a key, the window's end): emits each group once,
    append-only without ``__weight``, when the watermark is at or past it, and drops its state. With `ttl_us`, a group
    that nothing has touched for so long is forgotten (its row stays shown).
    """

    keys: Columns
    partials: tuple[PartialColumn, ...]
    result_sql: tuple[str, ...]
    columns: Columns
    close_column: str | None = None
    ttl_us: int | None = None


class RecomputeOp(msgspec.Struct, frozen=True, tag="recompute"):
    """The universal tier: keeps the weighted rows of its inputs, recomputes the keys an epoch touched.

    ``keys[i]`` are the key columns of input i (same order, same types; empty: everything is one key).
    `sql` is the operator's own DuckDB SQL over ``input`` (``input_1``, ...), where each row stands as often as its
    weight says. With `ordered` they stand sorted by all columns: what adds floats or takes the first of them is then
    the same each time.
    Output: `columns` + ``__weight``: the difference of the answers before and after. `expires` are, per input, a time
    and microseconds: a row goes when the watermark is past their sum. With `ttl_us`, the rows of a key that nothing
    has touched for so long go.
    """

    inputs: tuple[Columns, ...]
    keys: tuple[tuple[str, ...], ...]
    sql: str
    columns: Columns
    ordered: bool = False
    expires: tuple[tuple[str, int], ...] = ()
    ttl_us: int | None = None


class SortKey(msgspec.Struct, frozen=True):
    """A column to sort by."""

    name: str
    descending: bool = False
    nulls_first: bool = False


class TopNOp(msgspec.Struct, frozen=True, tag="top_n"):
    """Keeps the first `limit` places of each key of an append-only input, by `function` over `order`.

    `function`: row_number, rank or dense_rank. Output: `inputs`, then the place as `place` (BIGINT) if that is
    shown, and ``__weight``; of these only the rows for which `condition_sql` holds.
    """

    inputs: Columns
    keys: tuple[str, ...]
    function: str
    order: tuple[SortKey, ...]
    limit: int
    columns: Columns
    place: str | None = None
    condition_sql: str | None = None


class BestRowsOp(msgspec.Struct, frozen=True, tag="best_rows"):
    """Before a `TopNOp`, where the rows are: leaves out what is worse than the `limit` best of its key in an epoch.

    By `lead` alone, the first column of the order. Output: exactly `columns`.
    """

    columns: Columns
    keys: tuple[str, ...]
    lead: SortKey
    limit: int


class JoinOp(msgspec.Struct, frozen=True, tag="join"):
    """Inner equi-join of two inputs, delta by state. `residual_sql` is over all `columns`.

    ``weighted[i]``: whether input i carries ``__weight``. Output: left columns, right columns, and ``__weight`` if
    either input has it (weights multiply). `expires` and `ttl_us` are as of :class:`RecomputeOp`. Of the first
    `null_safe` pairs of keys NULL joins NULL.
    """

    left: Columns
    right: Columns
    left_keys: tuple[str, ...]
    right_keys: tuple[str, ...]
    weighted: tuple[bool, bool]
    columns: Columns
    residual_sql: str | None = None
    expires: tuple[tuple[str, int], ...] = ()
    ttl_us: int | None = None
    null_safe: int = 0


class TemporalJoinOp(msgspec.Struct, frozen=True, tag="temporal_join"):
    """Joins each left row with the right side as it stands at the end of the row's epoch, once.

    What happens on the right later revises nothing. A left row that is taken back takes back what it was joined with:
    of equal rows the one that came first. With `ttl_us`, left rows that came so long ago are forgotten. `outer` keeps
    left rows without a partner. `residual_sql` is over all `columns`. Output: left columns, right columns, and
    ``__weight`` if the left input has it.
    """

    left: Columns
    right: Columns
    left_keys: tuple[str, ...]
    right_keys: tuple[str, ...]
    weighted: tuple[bool, bool]
    columns: Columns
    outer: bool
    residual_sql: str | None = None
    ttl_us: int | None = None


class ClockCondition(msgspec.Struct, frozen=True):
    """``value_sql sign bound_sql``: the value over the input's columns, the bound over ``__now`` (TIMESTAMPTZ) alone.

    `sign` is >, >=, <, <= or =. The bound only rises.
    """

    value_sql: str
    sign: str
    bound_sql: str


class TemporalFilterOp(msgspec.Struct, frozen=True, tag="temporal_filter"):
    """Shows the rows for which all conditions hold at the last barrier's time, and keeps those that may come or go.

    Output: `columns`, and ``__weight`` if `retracts`: the input has it (`weighted`), or rows leave by themselves.
    """

    columns: Columns
    conditions: tuple[ClockCondition, ...]
    weighted: bool

    @property
    def retracts(self) -> bool:
        """Whether the output carries ``__weight``."""
        return self.weighted or any(c.sign in (">", ">=", "=") for c in self.conditions)


class CloseFilterOp(msgspec.Struct, frozen=True, tag="close_filter"):
    """Holds rows back until the watermark is at or past `close_column`, then lets them go, once.

    Of EMIT ON WINDOW CLOSE where the window's rows are not made by an aggregate (joins, projections). Input may be
    weighted: rows consolidate while they are held; output is append-only.
    """

    columns: Columns
    close_column: str
    weighted: bool


class CloseRecomputeOp(msgspec.Struct, frozen=True, tag="close_recompute"):
    """Keeps the rows of windows until the watermark has closed them, then says once what `sql` says of them.

    ``close_columns[i]`` is the time of input i at which its rows are complete; the rows of one key are complete
    together. ``weighted[i]``: whether input i carries ``__weight``. `sql` and `ordered` are as in `RecomputeOp`.
    Output: `columns`, append-only. Rows that are closed when they come are dropped.
    """

    inputs: tuple[Columns, ...]
    close_columns: tuple[str, ...]
    weighted: tuple[bool, ...]
    sql: str
    columns: Columns
    ordered: bool = False


class CloseOverOp(msgspec.Struct, frozen=True, tag="close_over"):
    """Tells rows in the order of a time once what functions over other rows say of them stands.

    Input: `rows`, append-only. A row is looked at when the watermark has passed its `time`. `sql` is over ``input``,
    the rows so far of some partitions (`keys`), as `planner.closing_over.closing_over_sql` makes it. Of rows told the
    last `history` of a partition are kept, all if it is None. Output: `columns`, append-only.
    """

    rows: Columns
    keys: tuple[str, ...]
    time: str
    sql: str
    columns: Columns
    history: int | None = None


class CloseSessionsOp(msgspec.Struct, frozen=True, tag="close_sessions"):
    """Gives each row its session once the watermark has passed the end of it.

    Input: `rows`, ``__wm``, and ``__weight`` if `weighted`. Rows of equal `keys` less than `gap_us` apart in
    `time_column` are one session. `sql` gives every row of ``input`` its session: `columns`, the end of it last.
    A row is late if its own window, one gap long, has closed by its ``__wm`` and no session that is still open
    reaches into it. Output: `columns`, append-only.
    """

    rows: Columns
    keys: tuple[str, ...]
    time_column: str
    gap_us: int
    sql: str
    columns: Columns
    weighted: bool = False


class LateOp(msgspec.Struct, frozen=True, tag="late"):
    """Passes its input on as it is, and tells of the rows that what follows leaves out because they come too late.

    `sql` gives these: `late`, and ``__wm``. With `time`, a column of the input, only rows older than their own ``__wm``
    can be among them.
    """

    sql: str
    late: Columns
    time: str | None = None


class UpsertOp(msgspec.Struct, frozen=True, tag="upsert"):
    """Keeps the row of each key of a source of changes, and tells what became of it.

    Input: `columns` and ``__weight``: 1, the key's new row; -1, the key is gone. Output: `columns` + ``__weight``. Of
    ``__wm``, if it is among the columns, nothing is kept: a retracted row has that of the change.
    """

    columns: Columns
    keys: tuple[str, ...]


class PythonOp(msgspec.Struct, frozen=True, tag="python"):
    """A user's function from RecordBatch to RecordBatch, or an object with ``process`` and perhaps ``barrier``.

    Either `path` (``module:qualname``) or `pickled`. Output: exactly `columns`; with `weighted` the input has
    ``__weight`` and so has the output, as the last column. `name` is the operator's, for messages.
    """

    name: str
    columns: Columns
    path: str = ""
    pickled: bytes = b""
    weighted: bool = False


class MaterializeOp(msgspec.Struct, frozen=True, tag="materialize"):
    """Keeps a view in the daemon's store and its stream log. Runs only on the daemon's own agent.

    `forgiving`: what took rows away may have forgotten them. A row that is not there is not taken away, and a new row
    takes the place of one with its key.
    """

    relation: str
    columns: Columns
    weighted: bool
    stream_key: tuple[str, ...] = ()
    forgiving: bool = False


class SinkOp(msgspec.Struct, frozen=True, tag="sink"):
    """Writes to a connector, epoch by epoch."""

    relation: str
    connector: str
    options: dict[str, str]
    format: str | None
    columns: Columns
    weighted: bool


class TableSinkOp(msgspec.Struct, frozen=True, tag="table_sink"):
    """Writes the rows of sink `relation` into `table` of the daemon's store. Runs only on the daemon's own agent.

    `columns` are some of the table's, its key's among them; `weighted` rows are taken back by that key. With `rereads`
    an attempt gives all rows again, so that what another wrote before it can be compared. `forgiving` as of a view.
    """

    relation: str
    table: str
    columns: Columns
    weighted: bool
    rereads: bool = True
    forgiving: bool = False


Operator: TypeAlias = (
    SourceOp
    | LogSourceOp
    | SqlOp
    | UnionOp
    | PartialAggOp
    | FinalAggOp
    | RecomputeOp
    | TopNOp
    | BestRowsOp
    | JoinOp
    | TemporalJoinOp
    | TemporalFilterOp
    | CloseFilterOp
    | CloseRecomputeOp
    | CloseOverOp
    | CloseSessionsOp
    | LateOp
    | UpsertOp
    | PythonOp
    | MaterializeOp
    | TableSinkOp
    | SinkOp
)


class FromOperator(msgspec.Struct, frozen=True, tag="op"):
    """Input from the operator at `index` in the same task."""

    index: int


class FromEdge(msgspec.Struct, frozen=True, tag="edge"):
    """Input from a shuffle edge."""

    edge_id: str


class OperatorNode(msgspec.Struct, frozen=True):
    """An operator with, per input port, where that input comes from. Sources have no inputs."""

    op: Operator
    inputs: tuple[FromOperator | FromEdge, ...] = ()


class EdgeOutput(msgspec.Struct, frozen=True):
    """The operator at `index` writes its output to `edge_id`."""

    index: int
    edge_id: str


class EdgeSpec(msgspec.Struct, frozen=True):
    """A shuffle edge of a job.

    `kind`: FORWARD, HASH, BROADCAST, REBALANCE, RANGE, CUSTOM (a gather to one task is HASH with no keys).
    `keys` are column names of `columns`. `columns` includes ``__weight`` (INTEGER) where the stream has it.
    Key group g of `max_parallelism` goes to downstream task ``g * len(downstream) // max_parallelism``. Of RANGE,
    `keys` is one column and `bounds` texts that cast to its type; of CUSTOM, the function is named or pickled.
    """

    edge_id: str
    kind: str
    keys: tuple[str, ...]
    columns: Columns
    upstream: tuple[str, ...]
    downstream: tuple[str, ...]
    max_parallelism: int = 128
    bounds: tuple[str, ...] = ()
    function_path: str = ""
    function_pickled: bytes = b""


class FunctionSpec(msgspec.Struct, frozen=True):
    """A Python function that statements call as `name`: `source` has it under the name that the user gave, `function`.

    `types` and `returns` are DuckDB's, as values travel. It gets Arrow arrays, or one row's values unless `vectorized`;
    a `strict` one is not called where an argument is NULL.
    """

    name: str
    function: str
    parameters: tuple[str, ...]
    types: tuple[str, ...]
    returns: str
    source: str
    vectorized: bool = True
    strict: bool = False


class TaskSpec(msgspec.Struct, frozen=True):
    """One task: `nodes` in topological order, `outputs` to edges. `pinned`: must run on the daemon's own agent.

    `index` of `parallelism` tells a source which splits are its own. `functions` are what the statements may call.
    """

    task_id: str
    operator_id: str
    index: int
    parallelism: int
    nodes: tuple[OperatorNode, ...]
    outputs: tuple[EdgeOutput, ...]
    pinned: bool = False
    functions: tuple[FunctionSpec, ...] = ()


class JobSpec(msgspec.Struct, frozen=True):
    """A whole job as it is deployed: tasks in topological order, and the edges between them."""

    job_id: str
    tasks: tuple[TaskSpec, ...]
    edges: tuple[EdgeSpec, ...]
