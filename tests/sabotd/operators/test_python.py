from __future__ import annotations

import pyarrow as pa
import pytest

from cython_shuffle.frames import Barrier
from planner.python_function import pickled
from planner.task_spec import ColumnSpec, PythonOp
from sabot.errors import JobError
from sabotd.operators.python import Python

COLUMNS = (ColumnSpec("n", "BIGINT"), ColumnSpec("t", "VARCHAR"))
BATCH = pa.record_batch({"n": pa.array([1, 2], pa.int64()), "t": ["a", "b"]})


def operator(function: object, *, weighted: bool = False) -> Python:
    return Python(PythonOp("op", COLUMNS, pickled=pickled("op", function), weighted=weighted))


class Keeper:
    seen = 0

    def process(self, batch: pa.RecordBatch) -> None:
        self.seen += batch.num_rows

    def barrier(self) -> pa.RecordBatch:
        return pa.record_batch({"n": [self.seen], "t": ["sum"]})


def test_columns_come_in_the_declared_order() -> None:
    (out,) = operator(lambda batch: batch.select(["t", "n"])).process(0, BATCH)
    assert out.equals(BATCH)
    assert out.schema.names == ["n", "t"]
    assert operator(lambda batch: None).process(0, BATCH) == []
    assert operator(lambda batch: 1 / 0).process(0, BATCH.slice(0, 0)) == []


def test_every_task_has_an_object_of_its_own() -> None:
    for given in (Keeper, Keeper()):
        first, second = operator(given), operator(given)
        assert first.process(0, BATCH) == []
        assert [b.to_pydict() for b in first.barrier(Barrier(1, None))] == [{"n": [2], "t": ["sum"]}]
        assert [b.column("n")[0].as_py() for b in second.barrier(Barrier(1, None))] == [0]
    assert operator(lambda batch: batch).barrier(Barrier(1, None)) == []


def test_a_function_may_be_named() -> None:
    op = Python(PythonOp("op", COLUMNS, path="tests.support.batches:passed_on"))
    assert [b.to_pydict() for b in op.process(0, BATCH)] == [BATCH.to_pydict()]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda batch: batch.to_pandas, "returned a method, not a RecordBatch"),
        (lambda batch: batch.select(["n"]), "returned the columns n where n, t are declared"),
        (lambda batch: batch.set_column(0, "n", pa.array([1.5, 2.5])), "returned column 'n' as double where int64"),
        (
            lambda batch: 1 / 0,
            r"failed: ZeroDivisionError: division by zero \(line \d+ of .*test_python.py, in <lambda>",
        ),
    ],
)
def test_what_goes_wrong_is_told_with_the_operators_name(function: object, message: str) -> None:
    with pytest.raises(JobError, match=f"operator 'op'.*{message}"):
        operator(function).process(0, BATCH)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nobody:f", "ModuleNotFoundError: No module named 'nobody'"),
        ("os:nothing", "AttributeError: module 'os' has no attribute 'nothing'"),
        ("os:sep", "'/' is neither a function"),
    ],
)
def test_what_cannot_be_loaded_is_told(path: str, message: str) -> None:
    with pytest.raises(JobError, match=f"operator 'op'.*{message}"):
        Python(PythonOp("op", COLUMNS, path=path))


def test_changes_carry_their_weight() -> None:
    op = operator(lambda batch: batch, weighted=True)
    weighted = BATCH.append_column("__weight", pa.array([1, -1], pa.int32()))
    assert [b.to_pydict() for b in op.process(0, weighted)] == [weighted.to_pydict()]
    with pytest.raises(JobError, match="n, t, __weight are declared"):
        op.process(0, BATCH)
