"""RANGE and CUSTOM: rows that go where an ordered key or a user's function says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cython_shuffle import _kernels
from cython_shuffle.partitioner import Gatherer, Kernels, Parts, key_columns
from sabot.errors import JobError, ShuffleError


class RangePartitioner:
    """RANGE: partition p has the rows with ``bounds[p - 1] <= key < bounds[p]``.

    The order is PostgreSQL's: NaN is the greatest number, NULL comes after everything; both go to the last partition.

    Parameters
    ----------
    key : str
        A column of a type with an order: numbers, decimals, booleans, dates and times, strings, binaries, or a
        dictionary of those.
    bounds : sequence of pa.Scalar
        ``n_partitions - 1`` of them, ascending, not NULL, of a type that casts to the key's. Equal neighbours leave a
        partition empty.

    Raises
    ------
    ShuffleError
        The key is not there or has no order; the bounds are too few or many, NULL, out of order or of another type.
    """

    def __init__(
        self,
        schema: pa.Schema,
        key: str,
        bounds: Sequence[pa.Scalar[Any]],
        n_partitions: int,
        *,
        kernels: Kernels = _kernels,
    ) -> None:
        self.n_partitions = n_partitions
        (self._column,) = key_columns(schema, [key])
        if len(bounds) != n_partitions - 1:
            raise ShuffleError(
                f"{len(bounds)} bounds for {n_partitions} ranges of {key!r}", hint="give the least key of all but one"
            )
        self._type = _plain_type(schema.field(self._column).type)
        self._bounds = self._checked(key, bounds)
        self._gatherer = Gatherer(schema, kernels)

    def partition(self, batch: pa.RecordBatch) -> Parts:
        """Return each range's rows, in their order in `batch`; None where there are none."""
        if batch.num_rows == 0 or self.n_partitions == 1:
            return [batch if batch.num_rows else None] + [None] * (self.n_partitions - 1)
        places = self._places(_decoded(batch.column(self._column), self._type))
        places = pc.fill_null(places, self.n_partitions - 1).cast(pa.uint16())
        return self._gatherer.split(batch, _data(places), self.n_partitions)

    def _checked(self, key: str, bounds: Sequence[pa.Scalar[Any]]) -> Any:
        try:
            array: Any = pa.array([bound.cast(self._type).as_py() for bound in bounds], self._type)
            order = pc.array_sort_indices(array).to_pylist()
            self._bounds = array
            self._places(array)
        except (pa.ArrowException, ValueError) as error:
            raise ShuffleError(
                f"column {key!r} of type {self._type} cannot be cut at the bounds given: {error}",
                hint="bounds are of the key's type, and the type has an order",
            ) from error
        if array.null_count:
            raise ShuffleError(f"a bound of {key!r} is NULL", hint="NULL keys go to the last range by themselves")
        if order != sorted(order):
            raise ShuffleError(f"the bounds of {key!r} do not ascend", hint="sort them")
        return array

    def _places(self, column: Any) -> Any:
        """How many bounds each value has reached; NULL for NULL."""
        if not pa.types.is_decimal(self._type):  # which pyarrow cannot search
            return pc.search_sorted(self._bounds, column, side="right")
        reached = pc.if_else(pc.is_valid(column), pa.scalar(0, pa.uint64()), pa.scalar(None, pa.uint64()))
        for bound in self._bounds:
            reached = pc.add(reached, pc.greater_equal(column, bound).cast(pa.uint64()))
        return reached


def sample_bounds(sample: pa.Array[Any] | pa.ChunkedArray[Any], n_partitions: int) -> tuple[pa.Scalar[Any], ...]:
    """Choose bounds that cut the keys of `sample` into `n_partitions` about equal ranges.

    NULLs are left out. A key that is more frequent than a range's share repeats as a bound, and the ranges between its
    repetitions stay empty: a range cannot be thinner than its most frequent key.

    Raises
    ------
    ShuffleError
        There is nothing but NULL in the sample, or its type has no order.
    """
    if isinstance(sample, pa.ChunkedArray):
        sample = sample.combine_chunks()
    values = _decoded(sample, _plain_type(sample.type)).drop_null()
    if len(values) == 0 and n_partitions > 1:
        raise ShuffleError("a sample without keys gives no bounds", hint="give the bounds yourself")
    try:
        order = pc.array_sort_indices(values)
    except pa.ArrowNotImplementedError as error:
        raise ShuffleError(f"keys of type {sample.type} have no order") from error
    return tuple(values[order[p * len(values) // n_partitions].as_py()] for p in range(1, n_partitions))


class CustomPartitioner:
    """CUSTOM: a user's function from a batch to one partition number a row.

    Parameters
    ----------
    function : callable
        Gets a batch, returns a pyarrow or numpy array of integers, one a row, from 0 to ``n_partitions - 1``, without
        NULL. What it raises is raised on by `partition`.
    where : str
        For messages.

    Its wrong answers are errors of the job, which another attempt would not mend: no ShuffleError.
    """

    def __init__(
        self,
        schema: pa.Schema,
        function: Callable[[pa.RecordBatch], Any],
        n_partitions: int,
        where: str,
        *,
        kernels: Kernels = _kernels,
    ) -> None:
        self.n_partitions = n_partitions
        self._function = function
        self._where = where
        self._gatherer = Gatherer(schema, kernels)

    def partition(self, batch: pa.RecordBatch) -> Parts:
        """Return each partition's rows, in their order in `batch`; None where there are none.

        Raises
        ------
        JobError
            The function's answer is no array of integers, of another length, NULL somewhere, or out of range.
        """
        if batch.num_rows == 0:
            return [None] * self.n_partitions
        return self._gatherer.split(batch, self._numbers(batch), self.n_partitions)

    def _numbers(self, batch: pa.RecordBatch) -> pa.Buffer:
        given = self._function(batch)
        if isinstance(given, np.ndarray) and given.ndim == 1 and given.dtype.kind in "iu":
            given = pa.array(given)
        if isinstance(given, pa.ChunkedArray):
            given = given.combine_chunks()
        if not isinstance(given, pa.Array) or not pa.types.is_integer(given.type):
            kind = given.type if isinstance(given, pa.Array) else type(given).__name__
            raise JobError(
                f"the partition function of {self._where} gave {kind}", hint="return an array of integers, one a row"
            )
        if len(given) != batch.num_rows:
            raise JobError(
                f"the partition function of {self._where} gave {len(given)} numbers for {batch.num_rows} rows"
            )
        if given.null_count:
            raise JobError(f"the partition function of {self._where} gave NULL for {given.null_count} rows")
        extremes = pc.min_max(given)
        least, most = extremes["min"].as_py(), extremes["max"].as_py()
        if least < 0 or most >= self.n_partitions:
            raise JobError(
                f"the partition function of {self._where} gave {least if least < 0 else most!r}",
                hint=f"give 0 to {self.n_partitions - 1}",
            )
        return _data(given.cast(pa.uint16()))


def _plain_type(t: pa.DataType) -> pa.DataType:
    """The type of the values themselves, one that pyarrow can sort."""
    if isinstance(t, pa.BaseExtensionType):
        return _plain_type(t.storage_type)
    if pa.types.is_dictionary(t) or pa.types.is_run_end_encoded(t):
        return _plain_type(t.value_type)
    if pa.types.is_string_view(t):
        return pa.large_string()
    return pa.large_binary() if pa.types.is_binary_view(t) else t


def _decoded(column: Any, plain: pa.DataType) -> Any:
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if pa.types.is_run_end_encoded(column.type):
        column = pc.run_end_decode(column)
    return column if column.type == plain else column.cast(plain)


def _data(numbers: Any) -> pa.Buffer:
    """The values of a uint16 array without NULLs, as its buffer from its first row on."""
    return numbers.buffers()[1].slice(2 * numbers.offset, 2 * len(numbers))
