"""Casts between types whose text PostgreSQL and DuckDB write differently: booleans, arrays, bytes, times, numbers."""

from __future__ import annotations

import re

from sqlglot import exp

from sabot.schema import literal, struct_fields
from sql_frontend.templates import filled
from sql_frontend.types import is_struct

# a word may be cut short
_TRUE = (*("true"[:n] for n in (1, 2, 3, 4)), "yes", "ye", "y", "on", "1")
_FALSE = (*("false"[:n] for n in (1, 2, 3, 4, 5)), "no", "n", "off", "of", "0")
_ESCAPE = re.compile(rb"\\(\\|[0-7]{3})")
_FLOAT_TEXT = (
    "CASE WHEN isnan(p1) THEN 'NaN' WHEN isinf(p1) THEN CASE WHEN p1 > 0 THEN 'Infinity' ELSE '-Infinity' END "
    "ELSE regexp_replace(CAST(p1 AS VARCHAR), '\\.0($|e)', '\\1') END"
)
_BOOLEAN = (
    f"CASE WHEN lower(trim(p1, ' \t\n\r')) IN ({', '.join(map(literal, _TRUE))}) THEN TRUE "
    f"WHEN lower(trim(p1, ' \t\n\r')) IN ({', '.join(map(literal, _FALSE))}) THEN FALSE "
    "WHEN p1 IS NOT NULL THEN CAST(error('not a boolean: ' || p1) AS BOOLEAN) END"
)
_ELEMENT = (
    "CASE WHEN x IS NULL THEN 'NULL' WHEN x = '' OR lower(x) = 'null' OR regexp_matches(x, '[\\s,{}\"\\\\]') "
    "THEN '\"' || replace(replace(x, '\\', '\\\\'), '\"', '\\\"') || '\"' ELSE x END"
)
_ARRAY = f"'{{' || array_to_string(list_transform(CAST(p1 AS VARCHAR[]), LAMBDA x: {_ELEMENT}), ',') || '}}'"
_FIELD = (
    "CASE WHEN x IS NULL THEN '' WHEN x = '' OR regexp_matches(x, '[\\s,()\"\\\\]') "
    "THEN '\"' || replace(replace(x, '\\', '\\\\'), '\"', '\"\"') || '\"' ELSE x END"
)
_TO_TEXT = {
    "BLOB": "'\\x' || lower(hex(p1))",
    "DOUBLE": _FLOAT_TEXT,
    "FLOAT": _FLOAT_TEXT,
    "INTERVAL": "regexp_replace(CAST(p1 AS VARCHAR), '\\bmonth', 'mon', 'g')",
    "TIMESTAMP WITH TIME ZONE": "regexp_replace(CAST(p1 AS VARCHAR), '([+-]\\d\\d)$', '\\1:00')",
}


def cast(value: exp.Expression, from_type: str, to_type: str) -> exp.Expression:
    """Return `value` of DuckDB type `from_type` cast to `to_type`, as PostgreSQL casts."""
    to = exp.DataType(this=exp.DType.USERDEFINED, kind=to_type)
    template = None
    if to_type == "VARCHAR":
        template = _TO_TEXT.get(from_type)
        if from_type.endswith("[]") and not from_type.endswith("[][]"):
            template = _ARRAY
        elif is_struct(from_type):
            return _row_text(value, from_type)
    elif to_type == "BOOLEAN" and from_type == "VARCHAR":
        template = _BOOLEAN
    elif to_type == "TIME" and from_type == "TIMESTAMP WITH TIME ZONE":
        template = "CAST(CAST(p1 AS TIMESTAMP) AS TIME)"
    elif to_type == "BLOB" and from_type == "VARCHAR":
        template = "CASE WHEN starts_with(p1, '\\x') THEN unhex(replace(substr(p1, 3), ' ', '')) ELSE encode(p1) END"
    elif to_type.endswith("[]") and from_type == "VARCHAR":
        inner = filled("CASE WHEN starts_with(ltrim(p1), '{') THEN translate(p1, '{}', '[]') ELSE p1 END", [value])
        return exp.Cast(this=inner, to=to)
    elif to_type in ("FLOAT", "DOUBLE", "TINYINT", "SMALLINT", "INTEGER", "BIGINT") and from_type == "JSON":
        return exp.Cast(this=filled("json_extract_string(p1, '$')", [value]), to=to)
    if template is not None:
        return filled(template, [value])
    return exp.Cast(this=value, to=to)


def _row_text(value: exp.Expression, type_: str) -> exp.Expression:
    """``(1,a,"b c",)``: a field that is NULL is empty, one with signs of its own in quotes."""
    bare = value.unnest()
    fields = struct_fields(type_)
    if isinstance(bare, exp.Struct):
        parts = [p.expression for p in bare.expressions]
    elif isinstance(bare, (exp.Column, exp.Dot, exp.Identifier)):
        parts = [filled("struct_extract(p1, p2)", [value, exp.Literal.string(name)]) for name, _ in fields]
    else:
        # computed once, however many fields it has
        inner = _row_text(exp.to_identifier("__value"), type_)
        return filled("list_extract(list_transform([p1], LAMBDA __value: p2), 1)", [value, inner])
    texts = [
        filled("CASE WHEN p1 THEN 't' WHEN NOT p1 THEN 'f' END", [part])
        if kind == "BOOLEAN"
        else cast(part, kind, "VARCHAR")
        for part, (_, kind) in zip(parts, fields, strict=True)
    ]
    shown = f"'(' || array_to_string(list_transform(p2, LAMBDA x: {_FIELD}), ',') || ')'"
    return filled(f"CASE WHEN p1 IS NOT NULL THEN {shown} END", [value, exp.Array(expressions=texts)])


def shown_otherwise(type_: str) -> bool:
    """Whether PostgreSQL writes values of a DuckDB type otherwise than DuckDB."""
    return type_ in _TO_TEXT or type_.endswith("[]") or is_struct(type_)


def literal_text(text: str, to_type: str) -> str | None:
    """Return a string literal's text as DuckDB has to get it for a cast to `to_type`, None if it stays.

    Raises
    ------
    ValueError
        It is no value of the type.
    """
    if to_type == "BOOLEAN":
        word = text.strip().lower()
        if word in _TRUE or word in _FALSE:
            return "true" if word in _TRUE else "false"
        msg = f"not a boolean: {text!r}"
        raise ValueError(msg)
    if to_type == "BLOB":
        return "".join(f"\\x{byte:02X}" for byte in _bytes(text))
    if to_type.endswith("[]") and text.lstrip().startswith("{"):
        parts = re.split(r'("(?:[^"\\]|\\.)*")', text)
        return "".join(p if i % 2 else p.translate({123: "[", 125: "]"}) for i, p in enumerate(parts))
    return None


def _bytes(text: str) -> bytes:
    if text.startswith("\\x"):
        try:
            return bytes.fromhex(text[2:])
        except ValueError as error:
            msg = f"not a value of BYTEA: {text!r}"
            raise ValueError(msg) from error
    found = text.encode()
    if re.search(rb"\\(?!\\|[0-3][0-7]{2})", found.replace(b"\\\\", b"")):
        msg = f"not a value of BYTEA: {text!r}"
        raise ValueError(msg)
    return _ESCAPE.sub(lambda m: b"\\" if m[1] == b"\\" else bytes([int(m[1], 8) & 255]), found)
