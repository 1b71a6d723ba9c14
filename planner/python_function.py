"""A Python function on its way into a graph: named by its path, or pickled with its code."""

from __future__ import annotations

import re
import sys
import sysconfig
from types import ModuleType

from planner.distribution import Custom
from planner.operator_work import PythonWork
from sabot.errors import PlanError
from sabot.schema import arrow_type

_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*\Z")


def python_work(name: str, function: object, columns: dict[str, str], *, changes: bool) -> PythonWork:
    """Return `function` as data.

    Parameters
    ----------
    name : str
        The operator's, for messages.
    function : callable, class, object or str
        A function from RecordBatch to RecordBatch (or None for no rows); or a class or object with ``process(batch)``
        and perhaps ``barrier()``, of which every task has its own. A str is its path, ``module:qualname``, which the
        agents import; anything else is pickled with its code, and the code of its module unless that is installed.
    columns : dict of str to str
        What it returns: names to SQL types.
    changes : bool
        Whether it takes and gives ``__weight``.

    Raises
    ------
    PlanError
        If it is nothing of the kind, or cannot be pickled.
    """
    if not columns:
        msg = f"operator {name!r} does not say which columns its function returns"
        raise PlanError(msg, hint="columns={'user_id': 'BIGINT', ...}")
    for type_text in columns.values():
        arrow_type(type_text)  # raises for what is no type
    if isinstance(function, str):
        if not _PATH.match(function):
            msg = f"{function!r} of operator {name!r} is no path of a function"
            raise PlanError(msg, hint="write 'module:name'")
        return PythonWork(columns, path=function, changes=changes)
    if not callable(function) and not callable(getattr(function, "process", None)):
        msg = f"{function!r} of operator {name!r} is neither a function nor has it a method 'process'"
        raise PlanError(msg, hint="def f(batch: pyarrow.RecordBatch) -> pyarrow.RecordBatch")
    return PythonWork(columns, pickled=pickled(name, function), changes=changes)


def custom_partition(name: str, function: object) -> Custom:
    """Return a function from a batch to task indices as data; raises as `python_work`."""
    if isinstance(function, str):
        if not _PATH.match(function):
            msg = f"{function!r} before operator {name!r} is no path of a function"
            raise PlanError(msg, hint="write 'module:name'")
        return Custom(path=function)
    if not callable(function):
        msg = f"{function!r} before operator {name!r} is no function"
        raise PlanError(msg, hint="def f(batch: pyarrow.RecordBatch) -> an array of task indices")
    return Custom(pickled=pickled(name, function))


def pickled(name: str, function: object) -> bytes:
    """Return the pickle of (function, the path of its file or None)."""
    import pickle

    import cloudpickle  # type: ignore[import-untyped]

    owner = function if hasattr(function, "__qualname__") else type(function)
    module = sys.modules.get(getattr(owner, "__module__", ""))
    by_value = module is not None and module.__name__ != "__main__" and not _installed(module)
    if by_value:
        cloudpickle.register_pickle_by_value(module)
    try:
        # the code forgets which file it is from; messages about its lines need to say
        data: bytes = cloudpickle.dumps((function, getattr(module, "__file__", None)))
    except (pickle.PicklingError, TypeError, AttributeError, ValueError, RecursionError) as error:
        msg = f"the function of operator {name!r} cannot be pickled: {error}"
        raise PlanError(msg, hint="open files, locks and connections in it, not around it") from error
    finally:
        if by_value:
            cloudpickle.unregister_pickle_by_value(module)
    return data


def _installed(module: ModuleType) -> bool:
    """Whether other processes on this interpreter can import the module too."""
    file = getattr(module, "__file__", None)
    if file is None:
        return True
    return any(file.startswith(sysconfig.get_path(kind) + "/") for kind in ("purelib", "platlib", "stdlib"))
