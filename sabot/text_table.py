"""A table of Arrow rows as text, for `repr`; the prompt has its own, richer one."""

from __future__ import annotations

import pyarrow as pa

_MAX_WIDTH = 40


def text_table(table: pa.Table, max_rows: int) -> str:
    """Return the first `max_rows` rows of `table` in columns, numbers to the right, and how many there are."""
    shown = table.slice(0, max_rows)
    columns = []
    for field, values in zip(table.schema, shown.columns, strict=True):
        right = pa.types.is_integer(field.type) or pa.types.is_floating(field.type) or pa.types.is_decimal(field.type)
        cells = [_cut(field.name), *(_cut("NULL" if v is None else str(v)) for v in values.to_pylist())]
        width = max(map(len, cells))
        columns.append([cell.rjust(width) if right else cell.ljust(width) for cell in cells])
    lines = [" | ".join(cells).rstrip() for cells in zip(*columns, strict=True)]
    if columns:
        lines.insert(1, "-+-".join("-" * len(cells[0]) for cells in columns))
    count = f"({table.num_rows} row{'' if table.num_rows == 1 else 's'}"
    lines.append(count + (f", {max_rows} shown)" if table.num_rows > max_rows else ")"))
    return "\n".join(lines)


def _cut(text: str) -> str:
    text = text.replace("\n", "\\n")
    return text if len(text) <= _MAX_WIDTH else text[: _MAX_WIDTH - 1] + "…"
