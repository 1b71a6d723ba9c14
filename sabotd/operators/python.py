"""A user's function as an operator: rows in, rows out, its errors told with the line where they arose."""

from __future__ import annotations

import importlib
import linecache
import pickle
import traceback
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

import pyarrow as pa

from cython_shuffle.frames import Barrier
from planner.job_columns import output_schema
from planner.task_spec import PythonOp
from sabot.errors import JobError, SabotError


class Python:
    """Calls a function for each batch, or an object's ``process``, and its ``barrier`` at the end of each epoch.

    Every task has an object of its own: a class is called without arguments, a pickled object is unpickled.
    """

    def __init__(self, op: PythonOp) -> None:
        self._op = op
        self._schema = output_schema(op, [])
        self._blame = _Blame(op.name)
        with self._blame:
            target, self._blame.file = load_function(op.path, op.pickled)
            if isinstance(target, type):
                target = target()
        self._process: Callable[[pa.RecordBatch], object] = getattr(target, "process", target)
        self._barrier: Callable[[], object] | None = getattr(target, "barrier", None)
        if not callable(self._process):
            text = f"operator {op.name!r}: {target!r} is neither a function nor has it a method 'process'"
            raise JobError(text)

    def process(self, port: int, batch: pa.RecordBatch) -> Iterable[pa.RecordBatch]:
        """Return what the function gives for `batch`."""
        if not batch.num_rows:
            return []
        with self._blame:
            given = self._process(batch)
        return self._checked(given)

    def barrier(self, barrier: Barrier) -> Iterable[pa.RecordBatch]:
        """Return what the object gives at the end of an epoch."""
        if self._barrier is None:
            return []
        with self._blame:
            given = self._barrier()
        return self._checked(given)

    def close(self) -> None:
        """Do nothing: the function goes with its task."""

    def _checked(self, given: object) -> list[pa.RecordBatch]:
        if given is None:
            return []
        if not isinstance(given, pa.RecordBatch):
            raise self._error(f"returned a {type(given).__name__}, not a RecordBatch", "return None for no rows")
        names = given.schema.names
        if sorted(names) != sorted(self._schema.names):
            raise self._error(
                f"returned the columns {', '.join(names)} where {', '.join(self._schema.names)} are declared"
            )
        arrays = []
        for field in self._schema:
            array = given.column(field.name)
            if not array.type.equals(field.type):
                raise self._error(f"returned column {field.name!r} as {array.type} where {field.type} is declared")
            arrays.append(array)
        return [pa.RecordBatch.from_arrays(arrays, schema=self._schema)]

    def _error(self, what: str, hint: str | None = None) -> JobError:
        return JobError(f"the function of operator {self._op.name!r} {what}", hint=hint)


def partition_function(name: str, path: str, pickled: bytes) -> Callable[[pa.RecordBatch], object]:
    """Return the function of a CUSTOM edge; its errors are told with `name` and the line."""
    blame = _Blame(name)
    with blame:
        function, blame.file = load_function(path, pickled)

    def blamed(batch: pa.RecordBatch) -> object:
        with blame:
            return function(batch)

    return blamed


class _Blame:
    """Gives an error out of a user's code the operator's name and the line."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.file: str | None = None
        """Where the code is from, which it does not know itself once it was pickled."""

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, Exception) or isinstance(error, SabotError):
            return
        where = ""
        # the first frame is ours
        frames = traceback.extract_tb(trace)[1:]
        if frames:
            last = frames[-1]
            file = self.file if last.filename == _PICKLED and self.file is not None else last.filename
            line = (last.line or linecache.getline(file, last.lineno or 0)).strip()
            where = f" (line {last.lineno} of {file}, in {last.name}{f': {line}' if line else ''})"
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        msg = f"operator {self._name!r} failed: {reason}{where}"
        raise JobError(msg) from error


_PICKLED = "<dynamic-code>"
"""What cloudpickle calls the file of all code."""


def load_function(path: str, pickled: bytes) -> tuple[Any, str | None]:
    """Return what a graph names or carries, and the file it was in; raises what its import or unpickling raises."""
    if pickled:
        carried: tuple[Any, str | None] = pickle.loads(pickled)  # noqa: S301  let in by sabotd.graphs
        return carried
    module, _, name = path.partition(":")
    target: Any = importlib.import_module(module)
    for part in name.split("."):
        target = getattr(target, part)
    return target, None
