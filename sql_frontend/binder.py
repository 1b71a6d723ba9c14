"""Query text to logical plan: names looked up, views and CTEs expanded, every expression typed by DuckDB."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlglot import exp

from planner.aggregates import order_sql
from planner.batch_sql import batch_sql
from planner.logical import (
    CHANGELOG_OP,
    Emit,
    LogicalNode,
    Query,
    Relation,
    RelationKind,
    Scan,
    Watermark,
    schema_of,
)
from sabot.errors import SqlError
from sabot.schema import Field, Schema, quote
from sql_frontend import build
from sql_frontend.casts import cast, literal_text
from sql_frontend.catalog import Catalog, FunctionDefinition, ViewDefinition
from sql_frontend.check import check_types, render
from sql_frontend.clauses import INCLUDE_KINDS, SOURCE_CHANGES
from sql_frontend.cursor import nearest
from sql_frontend.duck import union_types
from sql_frontend.emit import check_emit_on_close
from sql_frontend.guard import guarded
from sql_frontend.lower_from import FromLowering
from sql_frontend.lower_rows import limited
from sql_frontend.lower_select import check_clauses, lower_select
from sql_frontend.lower_sets import difference, union
from sql_frontend.operators import by_place
from sql_frontend.origin import Origin
from sql_frontend.parse_function import body_error
from sql_frontend.query_tokens import CHANGELOG, MARK
from sql_frontend.read_query import read_expression, read_query, written_by_window
from sql_frontend.resolver import Resolver
from sql_frontend.scope import (
    Bound,
    Column,
    Domain,
    NeedsDomainError,
    ReadsDomainError,
    RelationInScope,
    Scope,
    folded,
)
from sql_frontend.statements import CreateFunction, CreateSource, CreateTable
from sql_frontend.user_functions import body_of, python_functions
from sql_frontend.window_calls import with_window

_SET_HANDLED = frozenset({"this", "expression", "distinct", "with_", "order", "limit", "offset"})
_SUBQUERY_HANDLED = frozenset({"this", "alias", "with_", "order", "limit", "offset"})


def bind_query(
    query_text: str,
    catalog: Catalog,
    *,
    emit_on_window_close: bool = False,
    span_offset: int = 0,
    text: str | None = None,
    columns: Sequence[str] = (),
) -> Query:
    """Bind a query: its logical plan, with DuckDB's type for every column.

    Parameters
    ----------
    query_text : str
        A SELECT (or WITH, FROM, UNION ALL of them), without EMIT.
    catalog : Catalog
        Where names are looked up.
    emit_on_window_close : bool
        Whether EMIT ON WINDOW CLOSE was written after it.
    span_offset, text : int, str
        Where `query_text` starts in the statement `text`; errors point into that.
    columns : sequence of str
        Names for the result's columns, of ``CREATE VIEW v (a, b)``; fewer than there are rename the first ones.

    Returns
    -------
    Query
        The root's fields are the result's columns, in order.

    Raises
    ------
    SqlError
        With the place in `text`; ``0A000`` for what a streaming query cannot do yet.
    """
    origin = Origin(query_text if text is None else text, span_offset, lookup=catalog.lookup)
    tree = read_query(query_text, origin)
    binder = _Binder(catalog, origin)
    bound = binder.query(tree, {})
    by_window = written_by_window(query_text)
    root = _finished(_told_apart(bound) if by_window else bound, columns, tree, origin)
    emit = Emit.BY_WINDOW if by_window or binder.by_window else Emit.ON_UPDATE
    if emit_on_window_close:
        check_emit_on_close(root, tree, origin)
        emit = Emit.ON_WINDOW_CLOSE
    notices = (_UNORDERED,) if _ordered_for_nothing(tree) else ()
    return Query(root, emit, notices, python_functions(origin.python))


DUCKDB_KNOWS = frozenset(["0A000", "42601", "42P01"])
"""SQLSTATEs of what the front end refuses and DuckDB may take: constructs and relations that it does not know."""
_MANY_CHARACTERS = 200_000
"""A VALUES of more is DuckDB's to read: so many rows are data, not expressions."""


def bind_insert(text: str, catalog: Catalog, types: Sequence[str]) -> str:
    """Bind the query of an INSERT as :func:`bind_select` does; values take the `types` of the columns they are for.

    Raises
    ------
    SqlError
        As :func:`bind_select` does.
    """
    origin = Origin(text, once=True, lookup=catalog.lookup)
    if len(text) > _MANY_CHARACTERS:
        raise origin.unsupported("so long a query", None)
    tree = read_query(text, origin)
    if not isinstance(tree, exp.Values) or any(tree.args.get(k) for k in ("order", "limit", "offset", "with_")):
        return bind_select(text, catalog).sql
    resolver = Resolver(Scope(origin), not_in="VALUES")
    rows = [r.expressions if isinstance(r, exp.Tuple) else [r.unnest()] for r in tree.expressions]
    if any(len(r) != len(rows[0]) for r in rows):
        raise origin.error("VALUES lists must all be the same length", tree, sqlstate="42601")
    if len(rows[0]) > len(types):
        raise origin.error(f"{len(types)} columns to fill, {len(rows[0])} given", tree, sqlstate="42601")
    return _values_sql([[_for_column(resolver, e, types[i], origin) for i, e in enumerate(r)] for r in rows])


def _for_column(resolver: Resolver, node: exp.Expr, type_: str, origin: Origin) -> exp.Expression:
    """Return one value of an INSERT, cast to its column's type."""
    to = exp.DataType(this=exp.DType.USERDEFINED, kind=type_)
    if isinstance(node, exp.Null):
        return exp.Cast(this=exp.Null(), to=to)
    if isinstance(node, exp.Literal):
        try:
            written = literal_text(node.name, type_) if node.is_string else None
        except ValueError as error:
            raise origin.error(str(error), node, sqlstate="22P02") from error
        return exp.Cast(this=node.copy() if written is None else exp.Literal.string(written), to=to)
    value = resolver(node)
    own = resolver.type_of(value)
    if own.startswith('"NULL"[') and not type_.startswith("VARCHAR["):
        msg = f"an array of NULLs alone is of text, the column of type {type_}"
        raise origin.error(msg, node, hint=f"cast it: ARRAY[NULL]::{type_}", sqlstate="42804")
    if own == type_ or type_.startswith(("STRUCT", "MAP")) or own.startswith(("STRUCT", "MAP")):
        return by_place(value)  # type: ignore[return-value]
    return cast(value, own, type_)


def bind_value(text: str, name: str, columns: Schema, catalog: Catalog, type_: str | None = None) -> str:
    """Bind an expression over one row of a table, as in UPDATE: PostgreSQL's meaning, in DuckDB's words.

    Parameters
    ----------
    name, columns : str, Schema
        What the table goes by, and its columns; the text returned reads them by their bare names.
    type_ : str, optional
        The DuckDB type of the column that takes the value; without, a condition is meant.

    Raises
    ------
    SqlError
        As :func:`bind_select` does; 0A000 for a subquery.
    """
    origin = Origin(text, once=True, lookup=catalog.lookup)
    tree = read_expression(text, origin)
    if tree.find(exp.Query) is not None:
        raise origin.unsupported("a subquery", tree)
    scope = Scope(origin, [RelationInScope(name, tuple(Column(f.name, f.name, f.type) for f in columns))])
    resolver = Resolver(scope, not_in="UPDATE")
    if type_ is None:
        condition = resolver(tree)
        check_types(columns, [condition], origin)
        return render(condition)
    value = _for_column(resolver, tree, type_, origin)
    check_types(columns, [value], origin)
    return render(value)


def _values_sql(rows: Sequence[Sequence[exp.Expression]]) -> str:
    return "VALUES " + ", ".join(f"({', '.join(render(cell) for cell in row)})" for row in rows)


@dataclass(frozen=True)
class BoundSelect:
    """A query that is answered once, as one DuckDB statement."""

    sql: str
    columns: tuple[str, ...]


def bind_select(text: str, catalog: Catalog) -> BoundSelect:
    """Bind a query that is answered once: PostgreSQL's meaning, in DuckDB's words.

    Its expressions are those of a view, but for what fails, which is an error.

    Raises
    ------
    SqlError
        As :func:`bind_query` does; ``0A000``, ``42601`` and ``42P01`` where only DuckDB itself may know better.
    """
    origin = Origin(text, once=True, lookup=catalog.lookup)
    tree = read_query(text, origin)
    _refuse_order_by_all(tree, origin)
    bound = _Binder(catalog, origin).query(tree, {}, outermost=True)
    items = ", ".join(f"{quote(c.field)} AS {quote(c.name)}" for c in bound.columns)
    tail = bound.tail
    sql = f"SELECT {items} FROM ({batch_sql(bound.node)}) AS __rows"
    if tail.order:
        sql += f" ORDER BY {order_sql(tail.order, '__rows.')}"
    if tail.limit is not None:
        sql += f" LIMIT {tail.limit}"
    if tail.offset:
        sql += f" OFFSET {tail.offset}"
    return BoundSelect(sql, tuple(c.name for c in bound.columns))


def _refuse_order_by_all(tree: exp.Expr, origin: Origin) -> None:
    """Leave DuckDB's ORDER BY ALL to it: the parser takes the word for a column."""
    order = tree.args.get("order")
    for ordered in order.expressions if isinstance(order, exp.Order) else ():
        name = ordered.this
        if isinstance(name, exp.Column) and name.name.lower() == "all" and not name.table and not name.this.quoted:
            raise origin.unsupported("ORDER BY ALL", name)


def _untyped(cell: exp.Expression) -> bool:
    return isinstance(cell, exp.Null) or (isinstance(cell, exp.Literal) and cell.is_string)


_UNORDERED = "ORDER BY without LIMIT has no effect here: order the SELECT that reads it"


def _ordered_for_nothing(tree: exp.Expr) -> bool:
    distinct = tree.args.get("distinct")
    on = isinstance(distinct, exp.Distinct) and distinct.args.get("on") is not None
    return tree.args.get("order") is not None and not (tree.args.get("limit") or tree.args.get("offset") or on)


def bind_source(statement: CreateSource, columns: Schema | None = None) -> Relation:
    """Return the relation that a CREATE SOURCE makes, its watermark typed and rendered for DuckDB.

    Parameters
    ----------
    statement : CreateSource
        The statement. Without columns the relation's are `columns`.
    columns : Schema, optional
        The columns that the connector itself gives (nexmark, datagen). Without any the schema holds only INCLUDE's
        columns, and the watermark's expression is rendered but not typed.

    Raises
    ------
    SqlError
        If the watermark's column or expression is not a time.
    """
    declared = statement.columns or tuple(columns or ())
    included = tuple(Field(name, INCLUDE_KINDS[kind]) for kind, name in statement.include)
    clash = {f.name.lower() for f in declared} & {f.name.lower() for f in included}
    if clash:
        name = min(clash)
        msg = f"INCLUDE column {name!r} is also a column of the source"
        raise SqlError(msg, text=statement.text, hint=f"INCLUDE ... AS another_{name}", sqlstate="42701")
    schema = declared + included
    watermark = _watermark(statement, schema, typed=bool(declared))
    kind = statement.format.format if statement.format else "plain"
    changes = kind if kind in SOURCE_CHANGES else ""
    return Relation(
        statement.name,
        RelationKind.SOURCE,
        schema,
        append_only=not changes,
        stream_key=statement.primary_key,
        changes=changes,
        watermark=watermark,
        connector=dict(statement.options).get("connector"),
        format=statement.format.encode if statement.format else None,
        options=statement.options,
        include=statement.include,
    )


def bind_table(statement: CreateTable) -> Relation:
    """Return the relation that a CREATE TABLE makes.

    Raises
    ------
    SqlError
        If the watermark's column or expression is not a time.
    """
    return Relation(
        statement.name,
        RelationKind.TABLE,
        statement.columns,
        append_only=statement.append_only,
        stream_key=statement.primary_key,
        watermark=_watermark(statement, statement.columns, typed=True),
    )


def bind_function(statement: CreateFunction, catalog: Catalog) -> FunctionDefinition:
    """Return the function that a CREATE FUNCTION makes, the body of a SQL one checked for its types.

    Raises
    ------
    SqlError
        In the body, with its place; 42P13 where it would call itself.
    """
    made = FunctionDefinition(
        statement.name,
        statement.parameters,
        statement.returns,
        statement.language,
        statement.body,
        statement.vectorized,
        statement.strict,
    )
    if made.language == "sql":
        origin = Origin(made.body, lookup=lambda name: made if name == made.name else catalog.lookup(name))
        try:
            body_of(made, origin)
        except SqlError as error:
            raise body_error(error, statement) from error
    return made


def _watermark(statement: CreateSource | CreateTable, schema: Schema, *, typed: bool) -> Watermark | None:
    clause = statement.watermark
    if clause is None:
        return None
    start = statement.text.index(clause.expression, clause.span.start + len("WATERMARK FOR"))
    start = statement.text.rindex(clause.expression, start, clause.span.end)
    origin = Origin(statement.text, start)
    tree = read_expression(clause.expression, origin)
    if not typed:
        bare = tree.copy()
        for identifier in bare.find_all(exp.Identifier):
            identifier.set("this", folded(identifier))
            identifier.set("quoted", True)
        return Watermark(clause.column, render(bare))
    columns = tuple(Column(f.name, f.name, f.type) for f in schema)
    scope = Scope(origin, [RelationInScope(statement.name, columns)])
    by_name = {f.name: f for f in schema}
    if clause.column not in by_name:
        msg = f"column {clause.column!r} of the watermark does not exist"
        hint = nearest(clause.column, by_name)
        raise SqlError(msg, span=clause.span, text=statement.text, hint=hint, sqlstate="42703")
    expression = Resolver(scope, not_in="WATERMARK")(tree)
    (type_,) = check_types(schema, [expression], origin)
    wanted = by_name[clause.column].type
    if wanted not in ("TIMESTAMP", "TIMESTAMP WITH TIME ZONE"):
        msg = f"the watermark's column {clause.column!r} must be a TIMESTAMP, it is {wanted}"
        raise SqlError(msg, span=clause.span, text=statement.text, sqlstate="42804")
    if type_ != wanted:
        msg = f"the watermark is {type_}, its column {clause.column!r} is {wanted}"
        hint = f"write {clause.column} - INTERVAL '5 seconds'"
        raise SqlError(msg, span=clause.span, text=statement.text, hint=hint, sqlstate="42804")
    return Watermark(clause.column, render(guarded(expression, {f.name: f.type for f in schema})))


def _told_apart(bound: Bound) -> Bound:
    """Number columns of the same name, as Flink does: name, name0, name1."""
    taken: list[str] = []
    for column in bound.columns:
        count = 0
        name = column.name
        while name.lower() in taken:
            name, count = f"{column.name}{count}", count + 1
        taken.append(name.lower())
    names = zip(bound.columns, taken, strict=True)
    return replace(bound, columns=tuple(c if c.name.lower() == n else replace(c, name=n) for c, n in names))


def _finished(bound: Bound, names: Sequence[str], tree: exp.Expr, origin: Origin) -> LogicalNode:
    """Give the root its columns: the names asked for, each once."""
    columns = list(bound.columns)
    if len(names) > len(columns):
        msg = f"{len(names)} column names for {len(columns)} columns"
        raise origin.error(msg, tree, sqlstate="42601")
    for i, name in enumerate(names):
        columns[i] = replace(columns[i], name=name)
    items: list[tuple[str, exp.Expression]] = []
    for column in columns:
        if any(column.name.lower() == n.lower() for n, _ in items):
            msg = f"two columns are called {column.name!r}"
            raise origin.error(msg, tree, hint="give one another name with AS", sqlstate="42701")
        if column.name.startswith("__"):
            hint = "names that begin with two underscores are Sabot's own"
            raise origin.error(f"column name {column.name!r} is reserved", tree, hint=hint, sqlstate="42939")
        items.append((column.name, build.column(column.field)))
    return build.project(bound.node, items, origin)


def _selected(tree: exp.Values) -> exp.Query:
    """Return VALUES that read the query around as SELECTs."""
    selects: list[exp.Query] = []
    for row in tree.expressions:
        cells = row.expressions if isinstance(row, exp.Tuple) else [row.unnest()]
        named = [exp.alias_(cell, f"column{i + 1}", copy=True) for i, cell in enumerate(cells)]
        selects.append(exp.Select(expressions=named))
    whole = selects[0]
    for select in selects[1:]:
        whole = exp.Union(this=whole, expression=select, distinct=False)
    return whole


@dataclass(frozen=True)
class _Cte:
    """A WITH query, lowered once."""

    bound: Bound


class _Binder:
    """Lowers queries; one for each text, as a view's own text has its own places."""

    def __init__(self, catalog: Catalog, origin: Origin, open_views: tuple[str, ...] = ()) -> None:
        self.catalog = catalog
        self.origin = origin
        self.open_views = open_views
        self.by_window = False
        """Whether a view that is read has windows as Flink or Arroyo write them."""

    def query(
        self,
        tree: exp.Expr,
        ctes: Mapping[str, _Cte],
        outer: Scope | None = None,
        domain: Domain | None = None,
        *,
        outermost: bool = False,
    ) -> Bound:
        """Lower a query of any form; `outer` is the scope around a subquery, read through `domain` if that is given."""
        if isinstance(tree, exp.Subquery):
            check_clauses(tree, _SUBQUERY_HANDLED, self.origin)
            inside = outermost and not any(tree.args.get(k) for k in ("order", "limit", "offset"))
            inner = self.query(tree.this, self._with(tree, ctes, outer, domain), outer, domain, outermost=inside)
            return inner if inside else limited(tree, inner, self.origin, outer, outermost=outermost)
        if isinstance(tree, exp.Select):
            return self._select(tree, self._with(tree, ctes, outer, domain), outer, domain, outermost=outermost)
        if isinstance(tree, exp.Union):
            bound = self._union(tree, self._with(tree, ctes, outer, domain), outer, domain)
            return limited(tree, bound, self.origin, outer, outermost=outermost)
        if isinstance(tree, (exp.Intersect, exp.Except)):
            bound = self._difference(tree, self._with(tree, ctes, outer, domain), outer, domain)
            return limited(tree, bound, self.origin, outer, outermost=outermost)
        if isinstance(tree, exp.Values):
            reads = outer is not None and tree.find(exp.Column) is not None
            bound = self.query(_selected(tree), ctes, outer, domain) if reads else self._values(tree)
            return limited(tree, bound, self.origin, outer, outermost=outermost)
        name = {"Except": "EXCEPT", "Intersect": "INTERSECT"}.get(type(tree).__name__, type(tree).__name__.upper())
        raise self.origin.unsupported(name, tree, hint="UNION, INTERSECT and EXCEPT work")

    def _select(
        self,
        tree: exp.Select,
        ctes: Mapping[str, _Cte],
        outer: Scope | None,
        domain: Domain | None,
        *,
        outermost: bool,
        reads: bool = False,
    ) -> Bound:
        from_ = FromLowering(
            lambda t: self._relation(t, ctes),
            lambda q, around, through: self.query(q, ctes, around, through),
            self.origin,
            outer,
            domain,
            reads=reads,
        )
        try:
            node, scope = from_.lower(tree)
            windowed = with_window(tree, node, scope)
            self.by_window |= windowed is not None
            return lower_select(tree, windowed or node, scope, outermost=outermost)
        except ReadsDomainError as error:
            if reads or error.select is not from_.select:
                raise
        return self._select(tree, ctes, outer, domain, outermost=outermost, reads=True)

    def _values(self, tree: exp.Values) -> Bound:
        """VALUES: constants alone, each column of one type."""
        resolver = Resolver(Scope(self.origin), not_in="VALUES")
        written = [r.expressions if isinstance(r, exp.Tuple) else [r.unnest()] for r in tree.expressions]
        width = len(written[0])
        if any(len(r) != width for r in written):
            raise self.origin.error("VALUES lists must all be the same length", tree, sqlstate="42601")
        table = [[resolver(e) for e in r] for r in written]
        found = [check_types((), row, self.origin) for row in table]
        types = union_types([tuple(row) for row in found])
        for i in range(width):
            # a string without a type takes that of the others
            others = {(row[i],) for row, cells in zip(found, table, strict=True) if not _untyped(cells[i])}
            others.discard(("NULL",))
            if not others:
                continue
            (type_,) = union_types(sorted(others))
            for cells in table:
                if _untyped(cells[i]) and type_ != "VARCHAR" and not isinstance(cells[i], exp.Null):
                    cells[i] = resolver.cast_literal(cells[i], type_, tree)
        types = union_types([tuple(check_types((), row, self.origin)) for row in table])
        types = tuple({"HUGEINT": build.WIDE_DECIMAL, "NULL": "VARCHAR"}.get(t, t) for t in types)
        node = self._constants(table, types) if self.origin.once else build.values(table, types, self.origin)
        return Bound(node, tuple(Column(f.name, f.name, f.type) for f in schema_of(node)))

    def _constants(self, table: Sequence[Sequence[exp.Expression]], types: Sequence[str]) -> LogicalNode:
        """VALUES that are read once."""
        rows = [[build.cast_to(cell, type_) for cell, type_ in zip(row, types, strict=True)] for row in table]
        fields = tuple(Field(f"column{i + 1}", t) for i, t in enumerate(types))
        names = ", ".join(quote(f.name) for f in fields)
        text = f"(SELECT * FROM ({_values_sql(rows)}) AS __values({names}))"
        return Scan(Relation(text, RelationKind.INPUT, fields, append_only=True, connector="values"), fields)

    def _with(
        self, tree: exp.Expr, known: Mapping[str, _Cte], outer: Scope | None, domain: Domain | None
    ) -> Mapping[str, _Cte]:
        with_ = tree.args.get("with_")
        if with_ is None:
            return known
        if with_.args.get("recursive"):
            hint = "write a join for each level; a SELECT over tables and views takes WITH RECURSIVE"
            raise self.origin.unsupported("WITH RECURSIVE", with_, hint=hint)
        ctes = dict(known)
        for cte in with_.expressions:
            bound = self.query(cte.this, ctes, outer, domain)
            if bound.residual or (bound.correlated and bound.domain is None):
                raise NeedsDomainError(outer)
            alias = cte.args["alias"]
            if any(c is not cte and folded(c.args["alias"].this) == folded(alias.this) for c in with_.expressions):
                msg = f"WITH query name {folded(alias.this)!r} stands twice"
                raise self.origin.error(msg, alias, sqlstate="42712")
            names = alias.args.get("columns") or []
            if len(names) > len(bound.columns):
                msg = f"{len(names)} column names for {len(bound.columns)} columns"
                raise self.origin.error(msg, alias, sqlstate="42P10")
            columns = list(bound.columns)
            for i, name in enumerate(names):
                columns[i] = replace(columns[i], name=folded(name))
            ctes[folded(alias.this)] = _Cte(Bound(bound.node, tuple(columns), bound.correlated, domain=bound.domain))
        return ctes

    def _relation(self, table: exp.Table, ctes: Mapping[str, _Cte]) -> Bound:
        name = folded(table.this)
        schema = table.args.get("db")
        changelog = schema is not None and table.parts[0].name == CHANGELOG.removeprefix(MARK)
        if changelog:
            # what the text has before the name
            schema = table.args["db"] if table.args.get("catalog") else None
            table = exp.Table(this=table.this, db=schema)
        if schema is None and name in ctes and not changelog:
            return ctes[name].bound
        if schema is not None and folded(schema) not in ("public", "main") and not table.args.get("catalog"):
            name, schema = f"{folded(schema)}.{name}", None
        if table.args.get("catalog"):
            msg = f"relation {table.sql('risingwave')!r} cannot be read by a streaming query"
            hint = "a name has a schema before it at most: schema.name"
            raise self.origin.error(msg, table, hint=hint, sqlstate="42P01")
        found = self.catalog.lookup(name) or self.catalog.lookup(name.lower())
        if found is None:
            near = nearest(name, [*self.catalog.names(), *ctes])
            raise self.origin.error(f"relation {name!r} does not exist", table, hint=near, sqlstate="42P01")
        if isinstance(found, FunctionDefinition):
            raise self.origin.error(f"{name!r} is a function", table, hint=f"call it: {name}(...)", sqlstate="42809")
        if self.origin.once and not isinstance(found, ViewDefinition) and found.kind is RelationKind.SOURCE:
            msg = f"{name!r} is a source: it has no rows of its own to select"
            hint = f"CREATE MATERIALIZED VIEW v AS SELECT ... FROM {name}, then SELECT from v"
            raise self.origin.error(msg, table, hint=hint, sqlstate="42809")
        if isinstance(found, ViewDefinition):
            if changelog:
                hint = "make it a MATERIALIZED VIEW: its rows are kept, so that changes can be told"
                raise self.origin.unsupported(f"the changelog of view {name!r}", table, hint=hint)
            return self._view(found, table)
        if changelog:
            found = self._changes_of(found, table)
        columns = tuple(Column(f.name, f.name, f.type) for f in found.schema)
        return Bound(Scan(found, found.schema), columns)

    def _changes_of(self, relation: Relation, table: exp.Table) -> Relation:
        """Return what stands for the changes of `relation` as rows of their own."""
        name = relation.name
        if self.origin.once:
            msg = f"the changelog of {name!r} has no rows to select: it is what happens to {name!r} from now on"
            hint = f"CREATE MATERIALIZED VIEW v AS WITH c AS CHANGELOG FROM {name} SELECT ..., then SELECT from v"
            raise self.origin.error(msg, table, hint=hint, sqlstate="42809")
        if relation.kind not in (RelationKind.TABLE, RelationKind.MATERIALIZED_VIEW):
            what = f"the changelog of {relation.kind.value} {name!r}"
            hint = f"CREATE MATERIALIZED VIEW v AS SELECT * FROM {name}, then CHANGELOG FROM v"
            raise self.origin.unsupported(what, table, hint=hint)
        if any(f.name.lower() == CHANGELOG_OP for f in relation.schema):
            msg = f"{name!r} has a column {CHANGELOG_OP!r}, which its changelog is to add"
            raise self.origin.error(msg, table, hint="give the column another name", sqlstate="42701")
        return replace(
            relation,
            schema=(*relation.schema, Field(CHANGELOG_OP, "SMALLINT")),
            append_only=True,
            stream_key=(),
            stream_key_of_rows=relation.stream_key,
            changelog=True,
            rows_estimate=None,
        )

    def _view(self, view: ViewDefinition, table: exp.Table) -> Bound:
        if view.name in self.open_views:
            chain = " -> ".join((*self.open_views[self.open_views.index(view.name) :], view.name))
            raise self.origin.error(f"view {view.name!r} reads itself: {chain}", table, sqlstate="42P17")
        inner_origin = replace(self.origin, text=view.query, offset=0)
        inner = _Binder(self.catalog, inner_origin, (*self.open_views, view.name))
        try:
            bound = inner.query(read_query(view.query, inner_origin), {})
        except SqlError as error:
            # the user's text holds the view's name, not its query
            msg = f"in view {view.name!r}: {error.message}"
            raise self.origin.error(msg, table, hint=error.hint, sqlstate=error.sqlstate) from error
        self.by_window |= inner.by_window or written_by_window(view.query)
        columns = list(bound.columns)
        for i, name in enumerate(view.columns):
            columns[i] = replace(columns[i], name=name)
        return Bound(bound.node, tuple(columns))

    def _union(self, tree: exp.Union, ctes: Mapping[str, _Cte], outer: Scope | None, domain: Domain | None) -> Bound:
        check_clauses(tree, _SET_HANDLED, self.origin)
        if tree.args.get("by_name"):
            raise self.origin.unsupported("UNION BY NAME", tree, hint="list the columns in the same order")
        branches = self._branches(tree, ctes, outer, domain, distinct=bool(tree.args.get("distinct")))
        return union(tree, branches, outer, self.origin)

    def _difference(
        self, tree: exp.Intersect | exp.Except, ctes: Mapping[str, _Cte], outer: Scope | None, domain: Domain | None
    ) -> Bound:
        check_clauses(tree, _SET_HANDLED, self.origin)
        if tree.args.get("by_name"):
            raise self.origin.unsupported("BY NAME", tree, hint="list the columns in the same order")
        sides = [self.query(side, ctes, outer, domain) for side in (tree.this, tree.expression)]
        return difference(tree, sides, outer, self.origin)

    def _branches(
        self, tree: exp.Expr, ctes: Mapping[str, _Cte], outer: Scope | None, domain: Domain | None, *, distinct: bool
    ) -> list[Bound]:
        """The inputs of one union: nested ones of the same kind are taken apart."""
        if isinstance(tree, exp.Union) and bool(tree.args.get("distinct")) == distinct and not tree.args.get("by_name"):
            check_clauses(tree, _SET_HANDLED, self.origin)
            ctes = self._with(tree, ctes, outer, domain)
            left = self._branches(tree.this, ctes, outer, domain, distinct=distinct)
            return left + self._branches(tree.expression, ctes, outer, domain, distinct=distinct)
        return [self.query(tree, ctes, outer, domain)]
