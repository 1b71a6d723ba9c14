"""How a value that PostgreSQL would assign to a column becomes one of the column's type in DuckDB."""

from __future__ import annotations

import pyarrow as pa

from sabot.schema import quote


def assigned(name: str, given: pa.DataType, wanted: pa.DataType, type_: str) -> str:
    r"""Return the SQL expression of column `name` (of Arrow type `given`) for a column of DuckDB type `type_`.

    What DuckDB's own cast does stays with it. Rows are taken by place, not by their fields' names; text for an
    array is ``{...}``, and for BYTEA ``\x`` and hexadecimal digits.
    """
    return _assigned(quote(name), given, wanted, type_)


def _assigned(value: str, given: pa.DataType, wanted: pa.DataType, type_: str | None) -> str:
    is_text = pa.types.is_string(given) or pa.types.is_large_string(given) or pa.types.is_string_view(given)
    if is_text and _is_list(wanted) and type_ is not None:
        return f"CAST(CASE WHEN {value} LIKE '{{%' THEN translate({value}, '{{}}', '[]') ELSE {value} END AS {type_})"
    if is_text and (pa.types.is_binary(wanted) or pa.types.is_large_binary(wanted)):
        return f"CASE WHEN starts_with({value}, '\\x') THEN unhex({value}[3:]) ELSE encode({value}) END"
    if pa.types.is_struct(given) and pa.types.is_struct(wanted) and given.num_fields == wanted.num_fields:
        if given.equals(wanted):
            return value
        fields = ", ".join(
            f"{quote(wanted.field(i).name)} := "
            + _assigned(f"struct_extract_at({value}, {i + 1})", given.field(i).type, wanted.field(i).type, None)
            for i in range(wanted.num_fields)
        )
        return f"CASE WHEN {value} IS NOT NULL THEN struct_pack({fields}) END"
    if _is_list(given) and _is_list(wanted) and pa.types.is_struct(wanted.value_type):
        inner = _assigned("x", given.value_type, wanted.value_type, None)
        return value if inner == "x" else f"list_transform({value}, lambda x: {inner})"
    return value


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))
