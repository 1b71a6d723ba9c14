"""A user's Python function over the columns of a batch."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pytest

from planner.task_spec import FunctionSpec
from sabot.errors import JobError
from sabotd.operators.scalar_function import Failure, ScalarFunction, compiled


def spec(source: str, *, returns: str = "BIGINT", vectorized: bool = True, strict: bool = False) -> FunctionSpec:
    return FunctionSpec("__python_f_1", "f", ("a",), ("BIGINT",), returns, source, vectorized, strict)


class Told:
    def __init__(self) -> None:
        self.failures: list[Failure] = []
        self.count = 0

    def __call__(self, source: str, failures: Sequence[Failure], count: int) -> None:
        assert source == "function f"
        self.failures += failures
        self.count += count


def column(*values: int | None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, pa.int64())])


@pytest.mark.parametrize(
    "source",
    [
        "return pc.add(a, 1)",
        "def f(x):\n    return pc.add(x, 1)",
        "import numpy as np\n\ndef f(x):\n    return x.to_numpy(zero_copy_only=False) + 1",
        "def f(x):\n    return [v + 1 for v in x.to_pylist()]",
        "    def f(x):\n        return pa.chunked_array([pc.add(x, 1)])",
    ],
)
def test_a_body_or_a_function_of_that_name(source: str) -> None:
    assert ScalarFunction(spec(source))(column(1, 2)).to_pylist() == [2, 3]


def test_one_value_stands_for_all_rows() -> None:
    assert ScalarFunction(spec("return 7"))(column(1, 2, 3)).to_pylist() == [7, 7, 7]


def test_the_answer_is_cast_to_the_declared_type() -> None:
    made = ScalarFunction(spec("return pc.multiply(a, 2)", returns="DECIMAL(10,2)"))(column(1))
    assert made.type == pa.decimal128(10, 2)


def test_null_is_given_unless_the_function_is_strict() -> None:
    source = "def f(v):\n    return -1 if v is None else v"
    assert ScalarFunction(spec(source, vectorized=False))(column(None, 5)).to_pylist() == [-1, 5]
    assert ScalarFunction(spec(source, vectorized=False, strict=True))(column(None, 5)).to_pylist() == [None, 5]
    assert ScalarFunction(spec("return a", strict=True))(column(None, None)).to_pylist() == [None, None]


@pytest.mark.parametrize("vectorized", [True, False])
def test_only_failing_rows_are_null(*, vectorized: bool) -> None:
    told = Told()
    body = "pc.divide_checked(100, v)" if vectorized else "100 // v"
    made = ScalarFunction(spec(f"def f(v):\n    return {body}", vectorized=vectorized), told)
    values = [0 if i % 50 == 7 else i + 1 for i in range(200)]
    assert made(column(*values)).to_pylist() == [100 // v if v else None for v in values]
    assert told.count == 4
    assert {f[1] for f in told.failures} == {b'{"a": 0}'}
    assert "ivi" in told.failures[0][2]


def test_every_row_may_fail() -> None:
    told = Told()
    made = ScalarFunction(spec("raise ValueError('no')"), told)
    assert made(column(*range(100))).to_pylist() == [None] * 100
    assert told.count == 100
    assert len(told.failures) < 100


def test_an_answer_of_another_length_is_a_failure() -> None:
    with pytest.raises(JobError, match="3 values for 2 rows"):
        ScalarFunction(spec("return pa.array([1, 2, 3])"))(column(1, 2))


def test_without_anybody_to_tell_a_failure_is_an_error() -> None:
    with pytest.raises(JobError, match="function 'f' failed: ValueError: no"):
        ScalarFunction(spec("raise ValueError('no')"))(column(1))


def test_what_is_no_python() -> None:
    with pytest.raises(SyntaxError):
        compiled(spec("give a back"))
    with pytest.raises(ModuleNotFoundError):
        compiled(spec("import no_such_package_here\ndef f(a): return a"))
