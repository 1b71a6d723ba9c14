"""Arrays of every Arrow type, with NULLs and edge values: what kernels must take."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_TEXT = ["", "a", "abcdefg", "abcdefgh", "abcdefghi", None, "é" * 30, "a\0", "sixteen letters!", "seventeen letters"]
_FLOATS = [0.0, -0.0, float("nan"), 1.5, None, -2.25, float("inf"), float("-inf"), 6e-8]
_PAIR = pa.struct([("a", pa.int64()), ("b", pa.string())])
_PAIRS = [{"a": 1, "b": "x"}, None, {"a": None, "b": None}, {"a": -1, "b": ""}]


class _Label(pa.ExtensionType):
    """A user's type over a dictionary."""

    def __init__(self) -> None:
        super().__init__(pa.dictionary(pa.int8(), pa.string()), "sabot.test.label")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> _Label:
        return cls()


def _ints(t: Any) -> list[int | None]:
    bits = t.bit_width
    if pa.types.is_unsigned_integer(t):
        return [0, 1, 100, None, 2**bits - 1, 2 ** (bits - 1)]
    return [0, 1, 100, None, -1, 2 ** (bits - 1) - 1, -(2 ** (bits - 1))]


def _make() -> dict[str, pa.Array[Any]]:
    cases: dict[str, pa.Array[Any]] = {}

    def add(values: list[Any], t: Any) -> None:
        cases[str(t)] = pa.array(values, t)

    for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"):
        add(_ints(getattr(pa, name)()), getattr(pa, name)())
    add([True, False, None, True] * 5, pa.bool_())
    for t in (pa.float16(), pa.float32(), pa.float64()):
        add(_FLOATS, t)
    for t in (pa.string(), pa.large_string(), pa.string_view()):
        add(_TEXT, t)
    for t in (pa.binary(), pa.large_binary(), pa.binary_view()):
        add([b"", b"\0", b"\0\0", None, b"\xff" * 20], t)
    for width in (1, 3, 16, 32):
        add([b"a" * width, None, bytes(width)], pa.binary(width))
    whole = [Decimal(5), Decimal(-7), None, Decimal(2**31 - 1), Decimal(0)]
    add(whole, pa.decimal64(18, 0))
    add([Decimal("5.00"), None, Decimal("-1.25")], pa.decimal32(7, 2))
    add(
        [*whole, Decimal(10) ** 37, -(Decimal(10) ** 37), Decimal(2**63), Decimal(2**64), Decimal(-(2**63))],
        pa.decimal128(38, 0),
    )
    add([Decimal("5.000"), Decimal("1.5"), Decimal("-2.125"), None, Decimal("-0.001")], pa.decimal128(20, 3))
    add(
        [Decimal("5.0"), Decimal("123456789012345678.5"), Decimal("-987654321098765432.125"), None],
        pa.decimal128(38, 20),
    )
    add([Decimal(10) ** 50, -(Decimal(10) ** 50), Decimal("-1.5"), None, Decimal(7)], pa.decimal256(70, 10))
    add([Decimal(500), Decimal(-100), None], pa.decimal128(10, -2))
    for unit in ("s", "ms", "us", "ns"):
        add([0, -5, None, 10**9], pa.timestamp(unit))
        add([0, -5, None, 10**9], pa.duration(unit))
    add([0, -5, None, 10**15], pa.timestamp("us", "UTC"))
    add([0, -1, 20000, None], pa.date32())
    add([0, 86_400_000, None], pa.date64())
    add([1, 2, None], pa.time32("s"))
    add([1, 2, None], pa.time32("ms"))
    add([1, 2, None], pa.time64("us"))
    add([1, 2, None], pa.time64("ns"))
    add([(1, 2, 3), None, (0, 32, 3), (-1, 0, -5)], pa.month_day_nano_interval())
    lists = [[1, 2], [], None, [None, 3]]
    for t in (pa.list_(pa.int32()), pa.large_list(pa.int64()), pa.list_view(pa.int64()), pa.large_list_view(pa.int8())):
        add(lists, t)
    add([[1, 2], None, [3, None]], pa.list_(pa.int64(), 2))
    add(_PAIRS, _PAIR)
    add([[("a", 1)], None, [], [("b", None), ("a", 2)]], pa.map_(pa.string(), pa.int64()))
    add([_PAIRS, None, [], [None]], pa.list_(_PAIR))
    add(["a", "b", None, "a"], pa.dictionary(pa.int8(), pa.string()))
    add([None] * 4, pa.null())
    add([b"a" * 16, None], pa.uuid())
    add([{"v": "x"}, None, {"v": "longer than twelve bytes"}], pa.struct([("v", pa.string_view())]))
    labels = pa.array(["a", "b", None, "a"], pa.dictionary(pa.int8(), pa.string()))
    offsets = pa.array([0, 2, 3, 4], pa.int32())
    cases["list of dictionary"] = pa.ListArray.from_arrays(offsets, labels)
    cases["struct of dictionary"] = pa.StructArray.from_arrays([labels, pa.array([1, 2, 3, 4])], names=["d", "n"])
    cases["extension of dictionary"] = pa.ExtensionArray.from_storage(_Label(), labels)
    cases["dictionary of struct"] = pa.DictionaryArray.from_arrays(
        pa.array([0, 1, None, 0], pa.int16()), pa.array([{"a": 1}, {"a": None}])
    )
    add([["a", "longer than twelve bytes"], None, [], [None]], pa.list_(pa.string_view()))
    add([["a", "b"], None, ["c", None]], pa.list_(pa.string(), 2))
    add([["a"], None, [], ["b", None]], pa.list_view(pa.string()))
    add(['{"a": 1}', None, "[]"], pa.json_())
    runs = pc.run_end_encode(pa.array([1, 1, None, 2]))
    cases["list of run_end_encoded"] = pa.ListArray.from_arrays(offsets, runs)
    cases["run_end_encoded strings"] = pc.run_end_encode(pa.array(["a", "a", None, "b"]))
    cases["run_end_encoded"] = pc.run_end_encode(pa.array([1, 1, 2, None, None, 3]))
    codes = pa.array([0, 1, 0, 1], pa.int8())
    cases["sparse_union"] = pa.UnionArray.from_sparse(
        codes, [pa.array([1, 2, None, 4]), pa.array(["a", "b", "c", "d"])]
    )
    offsets = pa.array([0, 0, 1, 1], pa.int32())
    cases["dense_union"] = pa.UnionArray.from_dense(codes, offsets, [pa.array([1, None]), pa.array(["a", "b"])])
    return cases


pa.register_extension_type(_Label())  # type: ignore[no-untyped-call]
CASES = _make()
