"""Functions that CREATE FUNCTION made: SQL is put in the call's place, Python is a call that DuckDB knows by a name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlglot import exp

from planner.numeric import digits
from planner.task_spec import FunctionSpec
from sabot.errors import SqlError
from sabot.schema import quote
from sql_frontend.casts import cast
from sql_frontend.catalog import Catalog, FunctionDefinition
from sql_frontend.duck import constant, know_function
from sql_frontend.origin import Origin
from sql_frontend.read_query import read_expression, read_query
from sql_frontend.scope import Column, RelationInScope, Scope

if TYPE_CHECKING:
    from sql_frontend.resolver import Resolver

_PARAMETER = "\x04"
"""Begins the fields that stand for a function's parameters until the arguments take their place."""


def called(
    definition: FunctionDefinition, args: Sequence[exp.Expression], node: exp.Expr, resolver: Resolver
) -> exp.Expression:
    """Return the expression of a call over resolved arguments.

    Raises
    ------
    SqlError
        42883 where the arguments do not fit; 42P13 where the function calls itself.
    """
    origin = resolver.origin
    if len(args) != len(definition.parameters):
        msg = f"function {definition.name!r} takes {len(definition.parameters)} arguments, {len(args)} given"
        raise origin.error(msg, node, sqlstate="42883")
    values = [
        _argument(value, resolver.type_of(value), parameter.type)
        for value, parameter in zip(args, definition.parameters, strict=True)
    ]
    if definition.language == "python":
        know_function(definition.spec)
        call: exp.Expression = exp.Anonymous(this=definition.spec.name, expressions=values)
        if definition.returns in ("JSON", "UUID"):
            return exp.Cast(this=call, to=exp.DataType(this=exp.DType.USERDEFINED, kind=definition.returns))
        return call
    if definition.name in origin.inside:
        msg = f"function {definition.name!r} calls itself"
        raise origin.error(msg, node, hint="recursion is not supported", sqlstate="42P13")
    try:
        body = body_of(definition, origin)
    except SqlError as error:
        msg = f"in function {definition.name!r}: {error.message}"
        raise origin.error(msg, node, hint=error.hint, sqlstate=error.sqlstate) from error
    by_field = {f"{_PARAMETER}{i}": value for i, value in enumerate(values)}

    def swap(part: exp.Expr) -> exp.Expr:
        return exp.paren(by_field[part.name].copy()) if isinstance(part, exp.Column) and part.name in by_field else part

    filled: exp.Expression = exp.paren(body.copy()).transform(swap, copy=False)  # type: ignore[assignment]
    if definition.strict:
        absent = [exp.Is(this=exp.paren(v.copy()), expression=exp.Null()) for v in values]
        missing = exp.or_(*absent, copy=False) if absent else exp.false()
        null = exp.Cast(this=exp.Null(), to=exp.DataType(this=exp.DType.USERDEFINED, kind=definition.returns))
        return exp.Case(ifs=[exp.If(this=missing, true=null)], default=filled)
    return filled


def body_of(definition: FunctionDefinition, around: Origin) -> exp.Expression:
    """Return the body of a SQL function over fields for its parameters, of the type that it returns.

    Raises
    ------
    SqlError
        In the body, at its place there.
    """
    from sql_frontend.resolver import Resolver

    origin = replace(around, text=definition.body, offset=0, inside=(*around.inside, definition.name))
    tree = _expression(definition.body, origin)
    for parameter in list(tree.find_all(exp.Parameter)):
        number = parameter.this.name if isinstance(parameter.this, exp.Literal) else ""
        if not number.isdigit() or not 1 <= int(number) <= len(definition.parameters):
            raise origin.error(f"there is no parameter {parameter.sql()!r}", parameter, sqlstate="42P02")
        column = exp.column(definition.parameters[int(number) - 1].name, quoted=True)
        if parameter is tree:
            tree = column
        else:
            parameter.replace(column)
    columns = tuple(Column(p.name, f"{_PARAMETER}{i}", p.type) for i, p in enumerate(definition.parameters))
    resolver = Resolver(Scope(origin, [RelationInScope(definition.name, columns)]), not_in="a function")
    body = resolver(tree)
    type_ = resolver.type_of(body)
    if type_ == definition.returns:
        return body
    made = cast(body, type_, definition.returns)
    resolver.type_of(made)
    if not _fits(type_, definition.returns):
        msg = f"the function returns {definition.returns}, its body {type_}"
        raise origin.error(msg, tree, hint="cast it", sqlstate="42P13")
    return made


_TIMES = ("DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE")


def _fits(own: str, wanted: str) -> bool:
    """Whether a value of DuckDB type `own` may be kept in a column of type `wanted`."""
    numbers = ("FLOAT", "DOUBLE")
    if all(digits(t) is not None or t in numbers for t in (own, wanted)) or {own, wanted} <= set(_TIMES):
        return "BOOLEAN" not in (own, wanted)
    if "VARCHAR" in (own, wanted) or own == "NULL":
        return True
    return bool(constant(f"can_cast_implicitly(NULL::{own}, NULL::{wanted})"))


def _expression(text: str, origin: Origin) -> exp.Expression:
    words = text.split(None, 1)
    if not words or words[0].lower() not in ("select", "with", "values", "from"):
        return read_expression(text, origin)
    tree = read_query(text.rstrip().rstrip(";"), origin)
    plain = isinstance(tree, exp.Select) and len(tree.expressions) == 1
    clauses = [k for k, v in tree.args.items() if v and k not in ("expressions", "kind")]
    if not plain or clauses:
        hint = "write one SELECT of one expression over the parameters"
        raise origin.unsupported("a function's body that reads relations", tree, hint=hint)
    item = tree.expressions[0]
    inner = item.this if isinstance(item, exp.Alias) else item
    inner.pop()
    return inner  # type: ignore[no-any-return]


def _argument(value: exp.Expression, own: str, wanted: str) -> exp.Expression:
    if own == wanted:
        return value
    return cast(value, own, wanted)


def python_functions(names: Sequence[FunctionDefinition]) -> tuple[FunctionSpec, ...]:
    """Return what tasks need of the Python functions among `names`, each once."""
    return tuple(dict.fromkeys(d.spec for d in names if d.language == "python"))


def function_macro(definition: FunctionDefinition, catalog: Catalog) -> str:
    """Return the statement that makes a function a macro of DuckDB, for texts that DuckDB reads itself."""
    names = [f"p{i + 1}" for i in range(len(definition.parameters))]
    values: dict[str, exp.Expression] = {
        f"{_PARAMETER}{i}": exp.Cast(
            this=exp.column(name), to=exp.DataType(this=exp.DType.USERDEFINED, kind=parameter.type)
        )
        for i, (name, parameter) in enumerate(zip(names, definition.parameters, strict=True))
    }
    if definition.language == "python":
        body: exp.Expression = exp.Anonymous(this=definition.spec.name, expressions=list(values.values()))
    else:
        origin = Origin(definition.body, once=True, lookup=catalog.lookup)
        body = body_of(definition, origin).copy()

        def swap(part: exp.Expr) -> exp.Expr:
            return values[part.name].copy() if isinstance(part, exp.Column) and part.name in values else part

        body = exp.paren(body).transform(swap, copy=False)  # type: ignore[assignment]
    return f"CREATE OR REPLACE MACRO {quote(definition.name)}({', '.join(names)}) AS ({body.sql('duckdb')})"
