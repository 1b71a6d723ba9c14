"""From a logical plan to streaming operators, each with changelog mode, stream key and distribution.

An input states the distribution it requires; whether that means an exchange is decided in one place,
:func:`planner.execution_graph.detect_shuffle_edge_type`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from planner.aggregates import (
    TwoPhase,
    by_order,
    key_columns,
    mergeable,
    monotone_result,
    two_phase,
    whole_rows_sql,
)
from planner.carried import carried, is_identity, only_renames, passed_fields, result_distribution, still_monotone
from planner.changelog import Changelog, Monotone
from planner.closing_plan import closed_windows, told_in_turn
from planner.distribution import AnyDistribution, Distribution, Hash, Single, renamed
from planner.expressions import reads_clock
from planner.failures import told_failures
from planner.join_plan import closed_join, inner_join, keyed_join
from planner.keyed_sql import over_sql
from planner.late_rows import late_ops
from planner.logical import (
    AggCall,
    Aggregate,
    Filter,
    Join,
    JoinKind,
    LogicalNode,
    Over,
    Project,
    RelationKind,
    Scan,
    Sessions,
    Timeline,
    Union,
    Unnest,
    Window,
    schema_of,
)
from planner.panes import partial_sql
from planner.placing import Placing
from planner.source_op import changelog_spec, source_op, watermark_sql
from planner.split_distinct import SplitDistinct, split_distinct
from planner.sql import select_sql
from planner.stream_node import (
    StreamInput,
    StreamNode,
    column_specs,
    travelling,
)
from planner.task_spec import (
    CloseFilterOp,
    CloseSessionsOp,
    FinalAggOp,
    LateOp,
    LogSourceOp,
    PartialAggOp,
    RecomputeOp,
    SqlOp,
    TopNOp,
    UnionOp,
    UpsertOp,
)
from planner.temporal_filters import temporal_filter
from planner.timeline_sql import sessions_sql, timeline_sql
from planner.top_n import TopN, best_rows_op, place_is_read, top_n, top_n_op
from planner.tree import consumer_counts, unique_nodes
from planner.versioned_joins import asof_join, temporal_join
from sabot.ids import ROW_WATERMARK, WEIGHT
from sabot.schema import Field, Schema, quote


class StreamPlanner:
    """Plans one job. Equal logical nodes become one operator.

    Parameters
    ----------
    parallelism : int
        Tasks of every operator that can be spread.
    watermarks : bool
        Whether sources compute their watermark (the query waits for it).
    inputs : mapping of relation name to StreamNode, optional
        Who gives the rows of relations of kind INPUT. Keyed work has `parallelism` tasks then, whatever its input has.
    broadcast : str, optional
        Of these, the one that goes to every task of a join.
    ttl_us : int, optional
        How long state is kept that nothing touches.
    """

    def __init__(
        self,
        root: LogicalNode,
        *,
        parallelism: int,
        watermarks: bool,
        inputs: Mapping[str, StreamNode] | None = None,
        broadcast: str | None = None,
        ttl_us: int | None = None,
    ) -> None:
        self._parallelism = parallelism
        self._watermarks = watermarks
        self._inputs = dict(inputs or {})
        self.placing = Placing(parallelism, bool(self._inputs), broadcast)
        self._ttl_us = ttl_us
        self._narrowed: dict[int, StreamNode] = {}
        self._root = root
        self._consumers = consumer_counts(root)
        # what is there when a view is made counts as there before: both snapshots are of the first epoch
        self._whole_snapshots = any(isinstance(n, Join) and n.temporal for n in unique_nodes(root))
        self._planned: dict[LogicalNode, StreamNode] = {}
        self._unweighted: dict[int, StreamNode] = {}
        self._late: dict[tuple[int, LateOp], StreamNode] = {}

    def plan(self, node: LogicalNode) -> StreamNode:
        """Return the operator whose output are the rows of `node`."""
        if node not in self._planned:
            self._planned[node] = self._plan(node)
        return self._planned[node]

    def _rows(self, node: LogicalNode) -> StreamNode:
        """Return the operator whose output are the rows of `node`, without a weight that says nothing."""
        rows = self.plan(node)
        if not rows.inserts_only:
            return rows
        if id(rows) not in self._unweighted:
            names = ", ".join(quote(f.name) for f in rows.schema)
            self._unweighted[id(rows)] = StreamNode(
                SqlOp(
                    f"SELECT {names} FROM input",
                    column_specs(rows.schema),
                    drops_weight=True,
                    passed=tuple(f.name for f in rows.schema),
                ),
                (StreamInput(rows, AnyDistribution()),),
                rows.schema,
                Changelog.APPEND_ONLY,
                rows.stream_key,
                rows.distribution,
                rows.parallelism,
            )
        return self._unweighted[id(rows)]

    def plan_root(self, node: LogicalNode) -> StreamNode:
        """Return the operator whose output is the query's result."""
        return self._rows(node)

    def _plan(self, node: LogicalNode) -> StreamNode:
        match node:
            case Scan():
                return self._source(node)
            case Filter() if reads_clock(node.predicate):
                return temporal_filter(node, self._rows(node.input))
            case Project() | Filter() | Window() | Unnest():
                return self._stateless(node)
            case Aggregate():
                return self._aggregate(node)
            case Join() if node.temporal or node.asof is not None:
                return self._versioned_join(node)
            case Timeline():
                return self._timeline(node)
            case Join(close_columns=(_, _)):
                return closed_join(node, *self._sides(node), self.placing)
            case Join(kind=JoinKind.INNER):
                return inner_join(node, *self._sides(node), self.placing, self._ttl_us)
            case Join():
                return keyed_join(node, *self._sides(node), self.placing, self._ttl_us)
            case Over():
                return self._over(node)
            case Union():
                return self._union(node)

    def _source(self, node: Scan) -> StreamNode:
        relation = node.relation
        fields = tuple(f for f in node.fields if f.name != ROW_WATERMARK)
        if relation.kind is RelationKind.INPUT:
            return self._input(self._inputs[relation.name], fields)
        key = relation.stream_key or None
        if key is not None and not set(key) <= {f.name for f in fields}:
            key = None
        if relation.kind is not RelationKind.SOURCE:
            watermark = watermark_sql(relation, fields, watermarks=self._watermarks)
            op = LogSourceOp(
                relation.name,
                column_specs(fields),
                not relation.append_only,
                self._whole_snapshots or watermark is not None,
                watermark,
                judge_lateness=len(fields) < len(node.fields),
                changelog=changelog_spec(relation),
            )
            return StreamNode(
                op,
                (),
                node.fields,
                Changelog.APPEND_ONLY if relation.append_only else Changelog.RETRACT,
                key,
                Single(),
                1,
                pinned=True,
            )
        rows = StreamNode(
            source_op(relation, fields, watermarks=self._watermarks, judge=len(fields) < len(node.fields)),
            (),
            node.fields,
            Changelog.RETRACT if relation.changes else Changelog.APPEND_ONLY,
            None if relation.changes else key,
            AnyDistribution() if self._parallelism > 1 else Single(),
            self._parallelism,
        )
        return self._upserted(rows, relation.stream_key) if relation.changes and relation.stream_key else rows

    def _upserted(self, changes: StreamNode, key: tuple[str, ...]) -> StreamNode:
        """Return the operator that knows what the changes of a key end."""
        requires = Hash(key)
        return StreamNode(
            UpsertOp(column_specs(changes.schema), key),
            (StreamInput(changes, requires),),
            changes.schema,
            Changelog.RETRACT,
            key,
            result_distribution(requires, changes.distribution, changes.parallelism),
            changes.parallelism,
            stateful=True,
        )

    def _input(self, rows: StreamNode, fields: Schema) -> StreamNode:
        narrow = self.project(rows, fields)
        if narrow is not rows:
            self._narrowed[id(narrow)] = rows
        return narrow

    def _wide(self, node: StreamNode) -> StreamNode:
        """Return what `node` only drops columns of: a statement that reads by name needs no other before it."""
        return self._narrowed.get(id(node), node)

    def _boundary(self, node: LogicalNode) -> LogicalNode:
        """Return the node below a stateless chain whose rows are the chain's ``input``."""
        while isinstance(node, Project | Filter | Window | Unnest) and node not in self._planned:
            if isinstance(node, Filter) and reads_clock(node.predicate):
                return node
            if self._consumers[node] > 1 and not only_renames(node):
                return node
            node = node.input
        return node

    def _stateless(self, node: Project | Filter | Window | Unnest) -> StreamNode:
        boundary = self._boundary(node.input)
        below = self.plan(boundary)
        if schema_of(node) == below.schema and is_identity(node, boundary):
            return below
        below = self._telling_late(node, boundary, below)
        key, distribution = carried(node, boundary, below.stream_key, self.placing.after_any(below))
        fields = schema_of(node)
        weighted = below.retracting and not below.inserts_only
        passed = passed_fields(node, boundary)

        def is_input(at: LogicalNode) -> bool:
            return at == boundary

        told = told_failures(node, is_input, weighted=weighted, top_shows=True)
        strict = select_sql(told.chain, is_input, weighted=weighted) if told.chain is not None else ""
        return StreamNode(
            SqlOp(
                select_sql(node, is_input, weighted=weighted),
                travelling(fields, weighted=weighted),
                drops_weight=below.retracting and not weighted,
                passed=(*passed, WEIGHT) if passed and weighted else passed,
                strict=strict,
                checks=told.checks,
            ),
            (StreamInput(self._wide(below), AnyDistribution()),),
            fields,
            Changelog.RETRACT if weighted else Changelog.APPEND_ONLY,
            key,
            distribution,
            self.placing.spread(below),
            monotone=still_monotone(node, boundary, below.monotone),
        )

    def _telling_late(self, top: LogicalNode, boundary: LogicalNode, below: StreamNode) -> StreamNode:
        """Return the rows of `below` by way of what tells which of them the chain above leaves out as late."""
        for op in late_ops(top, boundary):
            place = (id(below), op)
            if place not in self._late:
                self._late[place] = replace(
                    below,
                    op=op,
                    inputs=(StreamInput(below, AnyDistribution()),),
                    distribution=self.placing.after_any(below),
                    parallelism=self.placing.spread(below),
                    pinned=False,
                    stateful=False,
                )
            below = self._late[place]
        return below

    def _aggregate(self, node: Aggregate) -> StreamNode:
        boundary = self._boundary(node.input)
        below = self.plan(boundary)
        types = {f.name: f.type for f in schema_of(node.input)}
        weighted = below.retracting and not below.inserts_only
        monotone = still_monotone(node.input, boundary, below.monotone)

        def fits(call: AggCall) -> bool:
            argument_type = types[call.argument] if call.argument is not None else None
            return mergeable(call, argument_type, retracting=weighted, keys=node.keys, monotone=monotone)

        if all(fits(call) for call in node.calls):
            return self._two_phase(node, boundary, below, monotone)
        # what is told when its window closes is kept no longer than that, as rows
        split = split_distinct(node, fits, retracting=weighted) if node.close_column is None else None
        return self._recompute(node) if split is None else self._by_values(node, split)

    def _two_phase(
        self, node: Aggregate, boundary: LogicalNode, below: StreamNode, monotone: Monotone | None
    ) -> StreamNode:
        below = self._telling_late(node.input, boundary, below)
        weighted = below.retracting and not below.inserts_only
        phases = two_phase(node, retracting=weighted)
        partial = self._partial(node, phases, boundary, below)
        final = self._final(node, phases, (partial,))
        on_update = node.close_column is None
        return replace(
            final,
            monotone=monotone_result(node, retracting=weighted, below=monotone) if on_update else None,
            inserts_only=on_update and not weighted and bool(node.keys) and not node.calls,
        )

    def _partial(self, node: Aggregate, phases: TwoPhase, boundary: LogicalNode, below: StreamNode) -> StreamNode:
        """Return the operator that aggregates the rows of `below` where they are."""
        weighted = below.retracting and not below.inserts_only
        keys = key_columns(node)
        _, distribution = carried(node.input, boundary, None, self.placing.after_any(below))

        def is_input(at: LogicalNode) -> bool:
            return at == boundary

        told = told_failures(node.input, is_input, weighted=weighted, top_shows=False)
        failing = replace(node, input=told.chain) if told.chain is not None else None
        return StreamNode(
            PartialAggOp(
                partial_sql(node, phases, is_input, weighted=weighted),
                keys,
                phases.partials,
                strict=partial_sql(failing, phases, is_input, weighted=weighted) if failing is not None else "",
                checks=told.checks,
            ),
            (StreamInput(self._wide(below), AnyDistribution()),),
            (*(Field(c.name, c.type) for c in keys), *(Field(p.name, p.type) for p in phases.partials)),
            Changelog.PARTIAL,
            None,
            renamed(distribution, {k: k for k in node.keys}),
            self.placing.spread(below),
            stateful=True,
        )

    def _final(self, node: Aggregate, phases: TwoPhase, partials: tuple[StreamNode, ...]) -> StreamNode:
        """Return the operator that merges `partials`, all of one schema."""
        fields = schema_of(node)
        first = partials[0].distribution
        requires, parallelism = self.placing.keyed(node.keys, first, self._parallelism)
        return StreamNode(
            FinalAggOp(
                key_columns(node),
                phases.partials,
                phases.results,
                column_specs(fields),
                node.close_column,
                self._ttl_us,
            ),
            tuple(StreamInput(partial, requires) for partial in partials),
            fields,
            Changelog.RETRACT if node.close_column is None else Changelog.APPEND_ONLY,
            node.keys,
            result_distribution(requires, first if len(partials) == 1 else AnyDistribution(), parallelism),
            parallelism,
            stateful=True,
        )

    def _by_values(self, node: Aggregate, split: SplitDistinct) -> StreamNode:
        """An aggregate over DISTINCT values: see :mod:`planner.split_distinct`."""
        # every level reads the same rows: they are made once
        below = self.plan(node.input)
        partials = [self._partial(split.rows, split.row_phases, node.input, below)]
        for level in split.levels:
            apart = self._partial(level.values, level.value_phases, node.input, below)
            values = self._final(level.values, level.value_phases, (apart,))
            partials.append(self._partial(level.groups, level.group_phases, level.values, values))
        whole = TwoPhase((), split.partials, split.results)
        return self._final(node, whole, tuple(partials))

    def _recompute(self, node: Aggregate) -> StreamNode:
        below = self._rows(node.input)
        provided = self.placing.after_any(below)
        requires, parallelism = self.placing.keyed(node.keys, provided, self._parallelism)
        fields = schema_of(node)
        inputs = (column_specs(schema_of(node.input)),)
        distribution = result_distribution(requires, renamed(provided, {k: k for k in node.keys}), parallelism)
        sql, given = whole_rows_sql(node), (StreamInput(below, requires),)
        if node.close_column is not None:
            close = (node.close_column,)
            return closed_windows(
                given, close, sql, fields, node.keys, distribution, parallelism, ordered=by_order(node)
            )
        return StreamNode(
            RecomputeOp(inputs, (node.keys,), sql, column_specs(fields), ordered=by_order(node), ttl_us=self._ttl_us),
            given,
            fields,
            Changelog.RETRACT,
            node.keys,
            distribution,
            parallelism,
            stateful=True,
        )

    def hold_back(self, node: StreamNode, close_column: str) -> StreamNode:
        """Return an operator that lets the rows of `node` go when the watermark is at or past `close_column`."""
        # a row and its retraction must meet, so they stay where they are or are hashed by the whole row
        parallelism = self.placing.spread(node)
        whole_row = Hash(tuple(f.name for f in node.schema))
        requires = whole_row if node.retracting else AnyDistribution()
        provided = self.placing.after_any(node)
        return StreamNode(
            CloseFilterOp(column_specs(node.schema), close_column, weighted=node.retracting),
            (StreamInput(node, requires),),
            node.schema,
            Changelog.APPEND_ONLY,
            node.stream_key,
            result_distribution(requires, provided, parallelism),
            parallelism,
            stateful=True,
        )

    def _sides(self, node: Join) -> tuple[StreamNode, StreamNode]:
        return self._rows(node.left), self._rows(node.right)

    def _versioned_join(self, node: Join) -> StreamNode:
        left, right = self._sides(node)
        # the left row decides what it is joined with: every task needs all of the right that may be
        needs = self.placing.co_partition(replace(node, kind=JoinKind.LEFT), left, right)
        return (temporal_join if node.temporal else asof_join)(node, left, right, needs, self._ttl_us)

    def _over(self, node: Over) -> StreamNode:
        below = self._rows(node.input)
        closing = node.close_order is not None or node.close_column is not None
        # what keeps only the best rows has no TTL: its state is bounded by the number of keys alone
        ranking = None if below.retracting or closing or self._ttl_us is not None else top_n(node)
        if ranking is not None:
            below = self._best_rows(node, ranking, below)
        provided = self.placing.after_any(below)
        requires, parallelism = self.placing.keyed(node.partition, provided, self._parallelism)
        if closing:
            return self._closing_over(node, below, requires, parallelism)
        fields, key = schema_of(node), below.stream_key
        op: RecomputeOp | TopNOp
        if ranking is None:
            op = RecomputeOp(
                (column_specs(below.schema),),
                (node.partition,),
                over_sql(node),
                column_specs(fields),
                ttl_us=self._ttl_us,
            )
        else:
            shown = place_is_read(self._root, node, ranking)
            op, fields = top_n_op(node, ranking, shown=shown)
            by_place = ranking.stream_key(node.partition, shown=shown)
            key = key if by_place is None else by_place
        return StreamNode(
            op,
            (StreamInput(below, requires),),
            fields,
            Changelog.RETRACT,
            key,
            result_distribution(requires, renamed(provided, {k: k for k in node.partition}), parallelism),
            parallelism,
            stateful=True,
        )

    def _closing_over(self, node: Over, below: StreamNode, requires: Distribution, parallelism: int) -> StreamNode:
        """Functions over windows that are told once, when nothing changes them any more."""
        kept = renamed(self.placing.after_any(below), {k: k for k in node.partition})
        given, distribution = (StreamInput(below, requires),), result_distribution(requires, kept, parallelism)
        if node.close_order is not None:
            return told_in_turn(node, node.close_order, given, distribution, parallelism)
        close = (node.close_column or "",)
        sql, fields = over_sql(node), schema_of(node)
        return closed_windows(given, close, sql, fields, below.stream_key, distribution, parallelism)

    def _timeline(self, node: Timeline) -> StreamNode:
        """Sessions and filled gaps: a partition that changes is gone through anew, or once its sessions have closed."""
        below = self._rows(node.input)
        provided = self.placing.after_any(below)
        requires, parallelism = self.placing.keyed(node.partition, provided, self._parallelism)
        fields, kept = schema_of(node), renamed(provided, {k: k for k in node.partition})
        op: RecomputeOp | CloseSessionsOp = RecomputeOp(
            (column_specs(below.schema),), (node.partition,), timeline_sql(node), column_specs(fields)
        )
        if node.closing and isinstance(node.work, Sessions):
            rows = tuple(f for f in below.schema if f.name != ROW_WATERMARK)
            op = CloseSessionsOp(
                column_specs(rows),
                node.partition,
                node.time_column,
                node.work.gap_us,
                sessions_sql(node, node.work, "input"),
                column_specs(fields),
                below.retracting,
            )
        return StreamNode(
            op,
            (StreamInput(below, requires),),
            fields,
            Changelog.APPEND_ONLY if node.closing else Changelog.RETRACT,
            below.stream_key if isinstance(node.work, Sessions) else None,
            result_distribution(requires, kept, parallelism),
            parallelism,
            stateful=True,
        )

    def _best_rows(self, node: Over, ranking: TopN, below: StreamNode) -> StreamNode:
        """Return what leaves rows out where they are, before they are ranked."""
        op = best_rows_op(node, ranking)
        if op is None:
            return below
        return StreamNode(
            op,
            (StreamInput(below, AnyDistribution()),),
            below.schema,
            Changelog.APPEND_ONLY,
            below.stream_key,
            self.placing.after_any(below),
            self.placing.spread(below),
        )

    def _union(self, node: Union) -> StreamNode:
        inputs = [self._rows(kid) for kid in node.inputs]
        parallelism = max(self.placing.spread(i) for i in inputs)
        weighted = any(i.retracting for i in inputs)
        provided = {
            self.placing.after_any(i) if self.placing.spread(i) == parallelism else AnyDistribution() for i in inputs
        }
        distribution: Distribution = provided.pop() if len(provided) == 1 else AnyDistribution()
        if parallelism == 1:
            distribution = Single()
        fields = schema_of(node)
        return StreamNode(
            UnionOp(column_specs(fields), weighted),
            tuple(StreamInput(i, AnyDistribution()) for i in inputs),
            fields,
            Changelog.RETRACT if weighted else Changelog.APPEND_ONLY,
            None,
            distribution,
            parallelism,
        )

    def project(self, node: StreamNode, fields: Schema) -> StreamNode:
        """Return the rows of `node` with only `fields`."""
        if node.schema == fields:
            return node
        names = [quote(f.name) for f in fields] + ([WEIGHT] if node.retracting else [])
        kept = {f.name: f.name for f in fields}
        key = node.stream_key if node.stream_key is not None and set(node.stream_key) <= set(kept) else None
        return StreamNode(
            SqlOp(
                f"SELECT {', '.join(names)} FROM input",
                travelling(fields, weighted=node.retracting),
                passed=(*kept, WEIGHT) if node.retracting else tuple(kept),
            ),
            (StreamInput(node, AnyDistribution()),),
            fields,
            node.changelog,
            key,
            renamed(self.placing.after_any(node), kept),
            self.placing.spread(node),
        )
