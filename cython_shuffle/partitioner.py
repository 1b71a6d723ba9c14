"""Which rows go to which downstream task, a whole batch at a time; knows columns, not channels."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Protocol, TypeAlias, cast

import pyarrow as pa
import pyarrow.compute as pc
from typing_extensions import Buffer

from cython_shuffle import _kernels
from sabot.errors import ShuffleError

DEFAULT_MAX_PARALLELISM = 128
MAX_MAX_PARALLELISM = 65536

Parts: TypeAlias = list[pa.RecordBatch | None]


class Kernels(Protocol):
    """The compiled kernels, or their plain twin."""

    def assign(self, batch: pa.RecordBatch, columns: Sequence[int], destination_of: Buffer) -> pa.Buffer: ...
    def counting_sort(self, destinations: pa.Buffer, n_destinations: int) -> tuple[list[int], pa.Buffer, pa.Buffer]: ...
    def gather(
        self, batch: pa.RecordBatch, columns: Sequence[int], order: pa.Buffer, target: pa.Buffer
    ) -> list[list[pa.Buffer | None]]: ...


class BatchPartitioner(Protocol):
    """Cuts batches into one part a downstream task."""

    n_partitions: int

    def partition(self, batch: pa.RecordBatch) -> Parts:
        """Return the rows of each partition in their order in `batch`; None where there are none."""
        ...


def task_of_group(n_partitions: int, max_parallelism: int) -> list[int]:
    """Return, for every key group g, the index of its task: ``g * n_partitions // max_parallelism``."""
    if not 1 <= max_parallelism <= MAX_MAX_PARALLELISM:
        raise ShuffleError(
            f"max_parallelism {max_parallelism!r} is out of range", hint=f"give 1 to {MAX_MAX_PARALLELISM}"
        )
    if not 1 <= n_partitions <= MAX_MAX_PARALLELISM:
        raise ShuffleError(f"{n_partitions!r} partitions are out of range", hint=f"give 1 to {MAX_MAX_PARALLELISM}")
    return [g * n_partitions // max_parallelism for g in range(max_parallelism)]


def key_groups(
    batch: pa.RecordBatch, keys: Sequence[str], max_parallelism: int = DEFAULT_MAX_PARALLELISM
) -> pa.UInt16Array:
    """Return each row's key group (uint16, ``0 <= g < max_parallelism``), by which state is stored.

    Raises
    ------
    ShuffleError
        If a key is not a column, or its type has no hash.
    """
    columns = key_columns(batch.schema, keys)
    identity = array("H", task_of_group(max_parallelism, max_parallelism))
    groups = _assign(_kernels, batch, columns, identity)
    return cast("pa.UInt16Array", pa.Array.from_buffers(pa.uint16(), batch.num_rows, [None, groups]))


def stable_hash(text: str) -> int:
    """Return the value hash of `text` (0 to 2**64 - 1): the same in every process, version and platform."""
    row = pa.record_batch([pa.array([text], pa.string())], names=["text"])
    return int.from_bytes(_kernels.hash_rows(row, [0]).to_pybytes(), "little")


class Partitioner:
    """HASH: rows whose keys are equal as values go to one partition.

    Parameters
    ----------
    schema : pa.Schema
        Of every batch.
    keys : sequence of str
        Columns, in the order that both sides of a join agree on. Empty: everything goes to partition 0.
    n_partitions : int
        Downstream tasks; 1 to 65536.
    max_parallelism : int
        Key groups; fixed for the life of a job.

    Raises
    ------
    ShuffleError
        If a key is not in `schema`, is there twice, or its type cannot be hashed.
    """

    def __init__(
        self,
        schema: pa.Schema,
        keys: Sequence[str],
        n_partitions: int,
        max_parallelism: int = DEFAULT_MAX_PARALLELISM,
        *,
        kernels: Kernels = _kernels,
    ) -> None:
        self.schema = schema
        self.keys = tuple(keys)
        self.n_partitions = n_partitions
        self.max_parallelism = max_parallelism
        self._kernels = kernels
        self._columns = key_columns(schema, keys)
        self._destination_of = array("H", task_of_group(n_partitions, max_parallelism))
        self._gatherer = Gatherer(schema, kernels)
        if self._columns:
            _assign(kernels, empty_batch(schema), self._columns, self._destination_of)

    def partition(self, batch: pa.RecordBatch) -> Parts:
        """Return each partition's rows, in their order in `batch`; None where there are none.

        The parts share newly allocated memory (`batch` itself where all rows go one way).
        """
        parts: Parts = [None] * self.n_partitions
        if batch.num_rows == 0:
            return parts
        if self.n_partitions == 1 or not self._columns:
            parts[0] = batch
            return parts
        return self._gatherer.split(
            batch, _assign(self._kernels, batch, self._columns, self._destination_of), self.n_partitions
        )


class RebalancePartitioner:
    """REBALANCE: round robin. A batch is dealt in contiguous runs that differ by one row at most.

    A cursor goes on from batch to batch, so that the surplus rows of small batches spread evenly. Nothing is copied.
    """

    def __init__(self, n_partitions: int, cursor: int = 0) -> None:
        self.n_partitions = n_partitions
        self.cursor = cursor % n_partitions
        """Which partition the next surplus row goes to."""

    def partition(self, batch: pa.RecordBatch) -> Parts:
        """Return each partition's run of `batch`; None where it is empty."""
        parts: Parts = [None] * self.n_partitions
        share, surplus = divmod(batch.num_rows, self.n_partitions)
        start = 0
        for turn in range(self.n_partitions):
            rows = share + (turn < surplus)
            if rows == 0:
                break
            parts[(self.cursor + turn) % self.n_partitions] = batch.slice(start, rows)
            start += rows
        self.cursor = (self.cursor + surplus) % self.n_partitions
        return parts


class BroadcastPartitioner:
    """BROADCAST (and FORWARD, with one partition): every partition gets the batch itself."""

    def __init__(self, n_partitions: int) -> None:
        self.n_partitions = n_partitions

    def partition(self, batch: pa.RecordBatch) -> Parts:
        """Return `batch` for every partition."""
        return [batch if batch.num_rows else None] * self.n_partitions


class Gatherer:
    """Puts the rows of a batch into a new order, whatever the types: by kernel where it can, else by pyarrow."""

    def __init__(self, schema: pa.Schema, kernels: Kernels = _kernels) -> None:
        self._schema = schema
        self._kernels = kernels
        self._by_kernel = [i for i, f in enumerate(schema) if _is_kernel_type(f.type)]
        self._otherwise = [(i, _take_of(f.type)) for i, f in enumerate(schema) if not _is_kernel_type(f.type)]

    def split(self, batch: pa.RecordBatch, destinations: pa.Buffer, n_partitions: int) -> Parts:
        """Return the rows of each destination (`destinations`: uint16, one a row), in their order in `batch`."""
        bounds, order, target = self._kernels.counting_sort(destinations, n_partitions)
        if batch.num_rows in (end - start for start, end in pairwise(bounds)):
            return [batch if start != end else None for start, end in pairwise(bounds)]
        ordered = self.gather(batch, order, target)
        return [ordered.slice(start, end - start) if end > start else None for start, end in pairwise(bounds)]

    def gather(self, batch: pa.RecordBatch, order: pa.Buffer, target: pa.Buffer) -> pa.RecordBatch:
        """Return the rows ``order[0], order[1], ...``; `target` is its inverse (both uint32)."""
        if batch.num_columns == 0:
            return batch  # all rows are alike, and only such a batch still knows how many there are
        n_rows = batch.num_rows
        columns: list[pa.Array[Any]] = list(batch.columns)
        if self._by_kernel:
            gathered = self._kernels.gather(batch, self._by_kernel, order, target)
            for i, buffers in zip(self._by_kernel, gathered, strict=True):
                columns[i] = pa.Array.from_buffers(
                    self._schema.field(i).type, n_rows, buffers, 0 if buffers[0] is None else -1
                )
        if self._otherwise:
            indices = pa.Array.from_buffers(pa.uint32(), n_rows, [None, order])
            for i, take in self._otherwise:
                columns[i] = take(columns[i], indices)
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)


def key_columns(schema: pa.Schema, keys: Sequence[str]) -> list[int]:
    """Return where `keys` stand in `schema`; raises ShuffleError unless each stands there once."""
    columns = []
    for key in keys:
        found = schema.get_all_field_indices(key)
        if len(found) != 1:
            names = ", ".join(schema.names)
            raise ShuffleError(
                f"shuffle key {key!r} stands {len(found)} times in the schema", hint=f"the columns are {names}"
            )
        columns.append(found[0])
    return columns


def _assign(kernels: Kernels, batch: pa.RecordBatch, columns: Sequence[int], destination_of: Buffer) -> pa.Buffer:
    try:
        return kernels.assign(batch, columns, destination_of)
    except TypeError as error:
        raise ShuffleError(str(error), hint="use another key, or cast it") from error


def empty_batch(schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch of `schema` without rows, of whatever types; pyarrow's own way fails for run ends in a list."""
    if len(schema) == 0:
        return pa.RecordBatch.from_arrays([], schema=schema)
    rows = pa.nulls(0, pa.struct([f.with_nullable(True) for f in schema]))
    return pa.RecordBatch.from_struct_array(cast("pa.StructArray", rows))


def _is_kernel_type(t: pa.DataType) -> bool:
    types = pa.types
    if isinstance(t, pa.BaseExtensionType) or types.is_dictionary(t) or types.is_nested(t) or types.is_null(t):
        return False
    return not (types.is_string_view(t) or types.is_binary_view(t))


_Take: TypeAlias = Callable[[Any, Any], Any]


def _take_of(t: pa.DataType) -> _Take:
    """How to take rows of a type that the kernel leaves alone."""
    types = pa.types
    if types.is_string_view(t) or types.is_binary_view(t):
        plain = pa.large_string() if types.is_string_view(t) else pa.large_binary()
        return lambda column, indices: column.cast(plain).take(indices).cast(t)
    if types.is_run_end_encoded(t):
        return lambda column, indices: pc.run_end_encode(
            _take_of(t.value_type)(pc.run_end_decode(column), indices), run_end_type=t.run_end_type
        )
    if _has_no_take(t):
        return _take_by_rows
    return lambda column, indices: column.take(indices)


def _has_no_take(t: pa.DataType) -> bool:
    """Whether pyarrow cannot `take`: views of strings and run ends inside something nested."""
    types = pa.types
    if isinstance(t, pa.BaseExtensionType):
        return _has_no_take(t.storage_type)
    if types.is_string_view(t) or types.is_binary_view(t) or types.is_run_end_encoded(t):
        return True
    if types.is_dictionary(t):
        return _has_no_take(t.value_type)
    return any(_has_no_take(t.field(i).type) for i in range(t.num_fields))


def _take_by_rows(column: Any, indices: Any) -> Any:
    # rare enough for a slice a row
    return pa.concat_arrays([column.slice(i, 1) for i in indices.to_pylist()])
