"""The kernels in plain Python, bit for bit the same: the oracle of the compiled ones, never a stand-in for them.

Slow on purpose: one value at a time, in the words of the definition in ``docs/shuffle.md``.
"""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from typing_extensions import Buffer

HASH_VERSION = 1

_MASK = 2**64 - 1
_GAMMA = 0x9E3779B97F4A7C15
_SEED = 0x5AB07D0000000001
_NULL = 0xA5F152B5C2D3E14B
_BYTES_SEED = 0xD6E8FEB86659FD93
_BYTES_MUL = 0xE7037ED1A0B428DB
_DECIMAL_SEED = 0x8CB92BA72F3D8DD7
_LIST_SEED = 0xC2B2AE3D27D4EB4F
_STRUCT_SEED = 0x165667B19E3779F9
_NAN_BITS = 0x7FF8000000000000
_DAY_NS = 86_400_000_000_000
_UNIT_NS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}


def hash_rows(batch: pa.RecordBatch, columns: Sequence[int]) -> pa.Buffer:
    """See ``_kernels.hash_rows``."""
    return pa.py_buffer(array("Q", _hashes(batch, columns)).tobytes())


def assign(batch: pa.RecordBatch, columns: Sequence[int], destination_of: Buffer) -> pa.Buffer:
    """See ``_kernels.assign``."""
    table = memoryview(destination_of)
    n_groups = len(table)
    if not 1 <= n_groups <= 65536:
        raise ValueError(f"{n_groups!r} key groups; 1 to 65536 are possible")
    groups = (((h >> 32) * n_groups) >> 32 for h in _hashes(batch, columns))
    return pa.py_buffer(array("H", (table[g] for g in groups)).tobytes())


def counting_sort(destinations: pa.Buffer, n_destinations: int) -> tuple[list[int], pa.Buffer, pa.Buffer]:
    """See ``_kernels.counting_sort``."""
    rows = memoryview(destinations).cast("B").cast("H")
    if len(rows) and max(rows) >= n_destinations:
        raise ValueError(f"a row has destination {max(rows)!r} of {n_destinations!r}")
    order = sorted(range(len(rows)), key=rows.__getitem__)
    target = array("I", [0] * len(rows))
    counts = [0] * (n_destinations + 1)
    for position, row in enumerate(order):
        target[row] = position
        counts[rows[row] + 1] += 1
    bounds = [sum(counts[: d + 1]) for d in range(n_destinations + 1)]
    return bounds, pa.py_buffer(array("I", order).tobytes()), pa.py_buffer(target.tobytes())


def gather(
    batch: pa.RecordBatch, columns: Sequence[int], order: pa.Buffer, target: pa.Buffer
) -> list[list[pa.Buffer | None]]:
    """See ``_kernels.gather``: here pyarrow's own ``take``."""
    indices = pa.Array.from_buffers(pa.uint32(), batch.num_rows, [None, order])
    return [pa.concat_arrays([batch.column(c).take(indices)]).buffers() for c in columns]


def _hashes(batch: pa.RecordBatch, columns: Sequence[int]) -> list[int]:
    rows = [_SEED] * batch.num_rows
    for column in columns:
        if not 0 <= column < batch.num_columns:
            raise IndexError(f"no column {column!r} in a batch of {batch.num_columns}")
        rows = [_combine(h, v) for h, v in zip(rows, _values(batch.column(column)), strict=True)]
    return rows


def _mix(x: int) -> int:
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & _MASK
    return x ^ (x >> 31)


def _combine(h: int, value: int) -> int:
    return _mix(((h + _GAMMA) & _MASK) ^ value)


def _chain(seed: int, values: Iterable[int]) -> int:
    for value in values:
        seed = _combine(seed & _MASK, value)
    return seed & _MASK


def _float(v: float) -> int:
    if v == 0.0:
        return 0
    if math.isnan(v):
        return _NAN_BITS
    bits: int = struct.unpack("<Q", struct.pack("<d", v))[0]
    return bits


def _bytes(data: bytes) -> int:
    h = _BYTES_SEED ^ (len(data) * _GAMMA & _MASK)
    for start in range(0, len(data), 8):
        product = (h ^ int.from_bytes(data[start : start + 8], "little")) * _BYTES_MUL
        h = (product & _MASK) ^ (product >> 64)
    return h


def _decimal(unscaled: int, scale: int) -> int:
    if scale < 0:
        unscaled, scale = unscaled * 10**-scale, 0
    while scale > 0 and unscaled % 10 == 0:
        unscaled, scale = unscaled // 10, scale - 1
    if scale == 0 and -(2**63) <= unscaled < 2**64:
        return unscaled & _MASK
    return _chain(_DECIMAL_SEED + scale, ((unscaled >> (64 * limb)) & _MASK for limb in range(4)))


def _values(column: pa.Array[Any]) -> list[int]:
    """The 64-bit value of every slot."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    t = column.type
    if pa.types.is_null(t):
        return [_NULL] * len(column)
    if pa.types.is_union(t):
        column = pa.concat_arrays([column])  # a slice's type codes are the whole array's
        members = [_values(column.field(k)) for k in range(t.num_fields)]
        return [members[k][i] for k, i in _union_slots(column)]
    if pa.types.is_run_end_encoded(t):
        return _values(pc.run_end_decode(column))
    valid = column.is_valid().to_pylist()
    return [v if ok else _NULL for v, ok in zip(_valid_values(column), valid, strict=True)]


def _union_slots(column: Any) -> list[tuple[int, int]]:
    place = {code: k for k, code in enumerate(column.type.type_codes)}
    codes = [place[c] for c in column.type_codes.to_pylist()]
    if column.type.mode == "dense":
        return list(zip(codes, column.offsets.to_pylist(), strict=True))
    return [(k, i) for i, k in enumerate(codes)]


def _valid_values(column: Any) -> list[int]:
    """As `_values`; what stands in a null slot does not matter."""
    t = column.type
    if pa.types.is_dictionary(t):
        words = [*_values(column.dictionary), _NULL]
        return [words[-1 if i is None else i] for i in column.indices.to_pylist()]
    if pa.types.is_struct(t):
        fields = [_values(column.field(k).slice(0)) for k in range(t.num_fields)]
        return [_chain(_STRUCT_SEED, (f[i] for f in fields)) for i in range(len(column))]
    if pa.types.is_nested(t):
        return [_NULL if s is None else _chain(_LIST_SEED + len(s), s) for s in _list_slots(column)]
    if pa.types.is_decimal(t):
        return _decimals(column)
    if pa.types.is_temporal(t):
        return _temporals(column)
    if pa.types.is_floating(t):
        return [_float(0.0 if v is None else v) for v in column.cast(pa.float64()).to_pylist()]
    if pa.types.is_integer(t) or pa.types.is_boolean(t):
        return [int(v or 0) & _MASK for v in column.to_pylist()]
    data = column.to_pylist()
    return [_bytes(v.encode() if isinstance(v, str) else v or b"") for v in data]


def _list_slots(column: Any) -> Iterable[list[int] | None]:
    """The values of each list's elements."""
    t = column.type
    whole = pa.concat_arrays([column])
    if pa.types.is_map(t):
        entries = pa.StructArray.from_arrays([whole.keys, whole.items], ["key", "value"])
        elements = _values(entries)
    elif pa.types.is_fixed_size_list(t):
        elements = _values(whole.values)
        size = t.list_size
        return [elements[i * size : (i + 1) * size] for i in range(len(whole))]
    else:
        elements = _values(whole.values)
    starts = whole.offsets.to_pylist()
    if pa.types.is_list_view(t) or pa.types.is_large_list_view(t):
        pairs = zip(starts, whole.sizes.to_pylist(), strict=True)
        return [elements[s : s + n] for s, n in pairs]
    return [elements[s:e] for s, e in pairwise(starts)]


def _cells(column: Any, code: str) -> list[tuple[Any, ...]]:
    """The fixed-width slots as ``struct`` reads them."""
    data = column.buffers()[1]
    if data is None:
        return [struct.unpack(code, bytes(struct.calcsize(code)))] * len(column)
    width = struct.calcsize(code)
    raw = bytes(data)[column.offset * width : (column.offset + len(column)) * width]
    return list(struct.iter_unpack(code, raw))


def _decimals(column: Any) -> list[int]:
    width = column.type.bit_width // 8
    numbers = (int.from_bytes(cell, "little", signed=True) for (cell,) in _cells(column, f"<{width}s"))
    return [_decimal(n, column.type.scale) for n in numbers]


def _temporals(column: Any) -> list[int]:
    t = column.type
    if pa.types.is_interval(t):
        return [((months * 30 + days) * _DAY_NS + ns) & _MASK for months, days, ns in _cells(column, "<iiq")]
    code = "<i" if t.bit_width == 32 else "<q"
    if pa.types.is_date(t):
        factor = _DAY_NS if t.bit_width == 32 else 1_000_000
    else:
        factor = _UNIT_NS[t.unit]
    return [v * factor & _MASK for (v,) in _cells(column, code)]
