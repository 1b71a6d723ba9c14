"""A user's Python function of SQL expressions: Arrow arrays in, an array of the declared type out.

A failing batch is taken apart until the failing rows stand alone: these are NULL, and told of.
"""

from __future__ import annotations

import ast
import json
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from planner.task_spec import FunctionSpec
from sabot.errors import JobError
from sabot.schema import arrow_type

SHOWN = 20
"""Failing rows of one batch that are told of; all are counted."""
Failure = tuple[str, bytes, str]
"""Where it failed (empty: it has no place of its own), the values as JSON, and why."""


TellFailures: TypeAlias = Callable[[str, Sequence[Failure], int], None]
"""Takes a source's name, some of its failing rows, and how many there were."""


def compiled(spec: FunctionSpec) -> Callable[..., object]:
    """Return the function of a source text: a module that defines it, or the lines of its body.

    Raises
    ------
    SyntaxError
        The text is no Python.
    Exception
        Whatever the text raises when it is run: a package that cannot be imported.
    """
    source = textwrap.dedent(spec.source.strip("\n"))
    file = f"<function {spec.function}>"
    scope: dict[str, Any] = {"__name__": f"function {spec.function}", "pa": pa, "pc": pc}
    defines = False
    try:
        tree = ast.parse(source, file)
        kinds = (ast.FunctionDef, ast.ClassDef)
        defines = any(isinstance(n, kinds) and n.name == spec.function for n in tree.body)
    except SyntaxError as error:
        if "outside function" not in str(error):
            raise
    if not defines:
        names = ", ".join(n if n.isidentifier() else f"arg{i + 1}" for i, n in enumerate(spec.parameters))
        source = f"def __body({names}):\n{textwrap.indent(source, '    ')}\n"
    exec(compile(source, file, "exec"), scope)  # noqa: S102  the user's own code, let in by server.python_jobs
    function = scope[spec.function] if defines else scope["__body"]
    if not callable(function):
        msg = f"{spec.function!r} is no function"
        raise TypeError(msg)
    made: Callable[..., object] = function
    return made


class ScalarFunction:
    """Called by DuckDB with the columns of a piece of a batch.

    Parameters
    ----------
    spec : FunctionSpec
    tell : callable, optional
        Takes what failed; without it a failure is an error.
    """

    def __init__(self, spec: FunctionSpec, tell: TellFailures | None = None) -> None:
        self._spec = spec
        self._tell = tell
        self._function = compiled(spec)
        self._type = arrow_type(spec.returns)

    def __call__(self, *columns: pa.ChunkedArray) -> pa.Array:
        """Return one value a row."""
        arrays = [c.combine_chunks() if isinstance(c, pa.ChunkedArray) else c for c in columns]
        if not self._spec.strict:
            return self._failsafe(arrays)
        known = arrays[0].is_valid()
        for array in arrays[1:]:
            known = pc.and_(known, array.is_valid())
        found = self._failsafe([a.filter(known) for a in arrays])
        return pc.replace_with_mask(pa.nulls(len(known), self._type), known, found)

    def _failsafe(self, arrays: list[pa.Array]) -> pa.Array:
        if not len(arrays[0]):
            return pa.nulls(0, self._type)
        try:
            return self._values(arrays)
        except Exception as error:
            if self._tell is None:
                msg = f"function {self._spec.function!r} failed: {_reason(error)}"
                raise JobError(msg) from error
        failures: list[Failure] = []
        pieces: list[pa.Array] = []
        count = self._taken_apart(arrays, pieces, failures)
        self._tell(f"function {self._spec.function}", failures, count)
        return pa.concat_arrays(pieces)

    def _taken_apart(self, arrays: list[pa.Array], pieces: list[pa.Array], failures: list[Failure]) -> int:
        """Evaluate halves of what failed, down to single rows; return how many of these failed."""
        count = len(arrays[0])
        half = count // 2
        failed = 0
        for part in ([a[:half] for a in arrays], [a[half:] for a in arrays]) if half else ([*arrays],):
            try:
                pieces.append(self._values(part))
            except Exception as error:  # noqa: BLE001  see above
                if len(part[0]) > 1:
                    failed += self._taken_apart(part, pieces, failures)
                    continue
                failed += 1
                pieces.append(pa.nulls(1, self._type))
                if len(failures) < SHOWN:
                    values = {n: a[0].as_py() for n, a in zip(self._spec.parameters, part, strict=True)}
                    failures.append(("", json.dumps(values, default=str).encode(), _reason(error)))
        return failed

    def _values(self, arrays: list[pa.Array]) -> pa.Array:
        count = len(arrays[0])
        if self._spec.vectorized:
            given = self._function(*arrays)
        else:
            given = [self._function(*row) for row in zip(*(a.to_pylist() for a in arrays), strict=True)]
        if isinstance(given, pa.ChunkedArray):
            given = given.combine_chunks()
        if isinstance(given, pa.Scalar) or given is None or isinstance(given, (str, bytes, bool, int, float)):
            value = given.as_py() if isinstance(given, pa.Scalar) else given
            given = pa.repeat(pa.scalar(value, self._type), count)
        if not isinstance(given, pa.Array):
            given = pa.array(given, self._type)
        if len(given) != count:
            msg = f"it returned {len(given)} values for {count} rows"
            raise ValueError(msg)
        if given.type.equals(self._type):
            return given
        if pa.types.is_decimal(self._type):
            # by way of the widest: Arrow asks for room for every value of the type it comes from
            given = given.cast(pa.decimal128(38, self._type.scale))
        return given.cast(self._type)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
