"""Exact NUMERIC: what types products and quotients have, and DuckDB SQL for the division that DuckDB does in DOUBLE."""

from __future__ import annotations

import re

QUOTIENT_SCALE = 16
"""Digits behind the point that a quotient has at least, as in PostgreSQL for numbers of one to four digits."""
_FINEST = 18
"""Digits behind the point that a side of an exact division may have; with more there is no room for the other's."""
_PRODUCT_SCALE = 20
_DIGITS = 38
_STEP = 9
"""Digits that a step of a division in 64 bits finds, of a divisor of so many digits."""
_NARROW = 18
"""DuckDB's product of two numbers of so many digits has no more of them, whatever the types ask for."""
_DECIMAL = re.compile(r"DECIMAL\((\d+),\s*(\d+)\)\Z")
_WHOLE = {
    "BOOLEAN": 1,
    "TINYINT": 3,
    "UTINYINT": 3,
    "SMALLINT": 5,
    "USMALLINT": 5,
    "INTEGER": 10,
    "INTEGER_LITERAL": 10,
    "UINTEGER": 10,
    "BIGINT": 19,
    "UBIGINT": 20,
    "HUGEINT": 38,
}


def is_decimal(type_text: str) -> bool:
    """Whether a DuckDB type is NUMERIC."""
    return _DECIMAL.match(type_text) is not None


def digits(type_text: str) -> tuple[int, int] | None:
    """Return (digits in all, digits behind the point) of an exact number's type; None of any other type."""
    if match := _DECIMAL.match(type_text):
        return int(match[1]), int(match[2])
    return (_WHOLE[type_text], 0) if type_text in _WHOLE else None


def quotient_type(left: str, right: str) -> str | None:
    """Return the type of a quotient of two exact numbers: 38 digits, at least 16 of them behind the point.

    None where it is DOUBLE: for other numbers, and for a fraction of more than 18 digits.
    """
    a, b = digits(left), digits(right)
    if a is None or b is None or max(a[1], b[1]) > _FINEST:
        return None
    return f"DECIMAL({_DIGITS},{max(QUOTIENT_SCALE, a[1], b[1])})"


def quotient_sql(left: str, left_type: str, right: str, right_type: str) -> str:
    """Return the quotient of two exact numbers, rounded at its last digit, halves away from zero.

    Both are taken as whole numbers of one scale; the digits behind the point are those of the remainder. A divisor too
    large for these to be exact in 128 bits (29 digits or more) has them from DOUBLE, so that the last may be off.

    Parameters
    ----------
    left, right : str
        DuckDB SQL; `right` must not be zero.
    left_type, right_type : str
        Their DuckDB types, as :func:`quotient_type` takes them.
    """
    a, b = digits(left_type), digits(right_type)
    assert a is not None
    assert b is not None
    scale = max(a[1], b[1])
    places = max(QUOTIENT_SCALE, scale) + 1
    unit = f"CAST('0.{'0' * (places - 1)}1' AS DECIMAL({places},{places}))"
    rest_places = 10 ** (places - _STEP)

    def made(whole: str, fraction: str) -> str:
        digits_behind = f"CAST(CAST({fraction} AS DECIMAL({places},0)) * {unit} AS DECIMAL({_DIGITS},{places}))"
        return f"CAST({whole} AS DECIMAL({_DIGITS},0)) + {digits_behind}"

    # DuckDB divides 128 bits slowly, and 64 are enough for most numbers: then by a long division in two steps
    top, bottom = _part("__x", "a"), _part("__x", "b")
    top64, bottom64 = f"CAST({top} AS BIGINT)", f"CAST({bottom} AS BIGINT)"
    step = f"{top64} % {bottom64} * {10**_STEP}"
    last = f"({step}) % {bottom64} * {rest_places} // {bottom64}"
    quick = made(f"{top64} // {bottom64}", f"({step}) // {bottom64} * {rest_places} + {last}")
    small = f"abs({top}) < {9 * 10**18}::HUGEINT AND abs({bottom}) < {10**_STEP}::HUGEINT"
    rest, divisor = _part("__y", "r"), _part("__y", "b")
    limit, further = _DIGITS - places, min(_DIGITS - _STEP, _DIGITS - places + _STEP)
    first = f"({rest} * {10**_STEP}::HUGEINT // {divisor})"
    last = f"({rest} * {10**_STEP}::HUGEINT - {first} * {divisor}) * {rest_places}::HUGEINT // {divisor}"
    close = f"CAST(trunc(CAST({rest} AS DOUBLE) / CAST({divisor} AS DOUBLE) * 1e{places}) AS HUGEINT)"
    fraction = (
        f"CASE WHEN abs({divisor}) < {10**limit}::HUGEINT THEN {rest} * {10**places}::HUGEINT // {divisor} "
        f"WHEN abs({divisor}) < {10**further}::HUGEINT THEN {first} * {rest_places}::HUGEINT + {last} ELSE {close} END"
    )
    whole = f"{top} // {bottom}"
    divided = f"{{'q': {whole}, 'b': {bottom}, 'r': {top} - {whole} * {bottom}}}"
    slow = f"list_transform([{divided}], LAMBDA __y: {made(_part('__y', 'q'), fraction)})[1]"
    # the second step must fit 64 bits too
    value = f"CASE WHEN {small} THEN {quick} ELSE {slow} END" if places <= 2 * _STEP else slow
    parts = f"{{'a': {_unscaled(_part('__n', 'a'), a, scale)}, 'b': {_unscaled(_part('__n', 'b'), b, scale)}}}"
    # a list of one element names what is read more than once, so that it is computed once
    numbers = f"list_transform([{{'a': {left}, 'b': {right}}}], LAMBDA __n: {parts})"
    return f"list_transform({numbers}, LAMBDA __x: CAST({value} AS DECIMAL({_DIGITS},{places - 1})))[1]"


def _part(name: str, part: str) -> str:
    return f"struct_extract({name}, '{part}')"


def _unscaled(sql: str, kind: tuple[int, int], scale: int) -> str:
    """Return a number times ``10 ** scale`` as a whole one; `sql` is evaluated more than once."""
    precision, own = kind
    if own == 0:
        return f"CAST({sql} AS HUGEINT)" + (f" * {10**scale}::HUGEINT" if scale else "")
    if precision + scale <= _NARROW:
        return f"CAST(CAST({sql} * {10**scale}::DECIMAL({scale + 1},0) AS BIGINT) AS HUGEINT)"
    factor = f"{10**scale}::DECIMAL({scale + 1},0)"
    # of 38 digits: DuckDB keeps products of up to 18 digits in 64 bits
    direct = f"CAST(CAST({sql} AS DECIMAL({_DIGITS},{own})) * {factor} AS HUGEINT)"
    if precision + scale <= _DIGITS:
        return direct
    # the whole has more digits than a product may: the part before the point goes by itself
    part = f"CAST({sql} - trunc({sql}) AS DECIMAL({_DIGITS},{own}))"
    parted = f"CAST(trunc({sql}) AS HUGEINT) * {10**scale}::HUGEINT + CAST({part} * {factor} AS HUGEINT)"
    room = f"{10 ** (_DIGITS - own - scale)}::HUGEINT"
    return f"CASE WHEN abs({sql}) < {room} THEN {direct} ELSE {parted} END"


def product_scales(left: str, right: str) -> tuple[str, str] | None:
    """Return the types that the sides of a product of NUMERIC are cast to first, or None where no cast is needed.

    A product has the digits of both sides. Where these are more than 38, and more than 20 stand behind the point,
    the longer fraction is rounded so that there is room before the point.
    """
    a, b = digits(left), digits(right)
    if a is None or b is None or not (is_decimal(left) or is_decimal(right)):
        return None
    if a[0] + b[0] <= _DIGITS or a[1] + b[1] <= _PRODUCT_SCALE:
        if a[0] + b[0] <= _NARROW or max(a[0], b[0]) > _NARROW:
            return None
        return f"DECIMAL({_DIGITS},{a[1]})", right
    longer, shorter = max(a[1], b[1]), min(a[1], b[1])
    cut = max(_PRODUCT_SCALE - shorter, _PRODUCT_SCALE // 2)
    scales = [min(s, cut) if s == longer else min(s, _PRODUCT_SCALE - cut) for s in (a[1], b[1])]
    if a[1] == b[1]:
        scales = [_PRODUCT_SCALE // 2] * 2
    return f"DECIMAL({_DIGITS},{scales[0]})", f"DECIMAL({_DIGITS},{scales[1]})"


def readable(sql: str) -> str:
    """Return `sql` with each quotient of :func:`quotient_sql` written as ``a / b``, for EXPLAIN."""
    begin = "list_transform(list_transform([{'a': "
    while (start := sql.lower().find(begin)) >= 0:
        first = _until(sql, start + len(begin), ", 'b': ")
        second = _until(sql, first + len(", 'b': "), "}], ")
        end = _until(sql, start + len("list_transform("), ")[1]") + len(")[1]")
        left, right = sql[start + len(begin) : first], sql[first + len(", 'b': ") : second]
        sql = f"{sql[:start]}({left} / {right}){sql[end:]}"
    return sql


def _until(sql: str, at: int, wanted: str) -> int:
    """Return where `wanted` stands outside of brackets and strings that open after `at`."""
    depth, quoted = 0, ""
    while at < len(sql):
        ch = sql[at]
        if quoted:
            quoted = "" if ch == quoted else quoted
        elif depth == 0 and sql.startswith(wanted, at):
            return at
        elif ch in "'\"":
            quoted = ch
        else:
            depth += (ch in "([{") - (ch in ")]}")
        at += 1
    return len(sql)
