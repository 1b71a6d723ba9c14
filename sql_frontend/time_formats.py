"""PostgreSQL's patterns of to_char: of times (``YYYY-MM-DD HH24:MI``) by strftime, of numbers (``FM9,990.00``)."""

from __future__ import annotations

import re

_PATTERNS = {
    "YYYY": "%Y",
    "IYYY": "%G",
    "YY": "%y",
    "MONTH": "%B",
    "MON": "%b",
    "MM": "%m",
    "DDD": "%j",
    "DD": "%d",
    "DAY": "%A",
    "DY": "%a",
    "ID": "%u",
    "IW": "%V",
    "HH24": "%H",
    "HH12": "%I",
    "HH": "%I",
    "MI": "%M",
    "SS": "%S",
    "MS": "%g",
    "US": "%f",
    "AM": "%p",
    "PM": "%p",
    "TZ": "%Z",
}
_PIECE = re.compile(
    r'"(?P<quoted>[^"]*)"|(?P<pattern>FM)?(?P<name>' + "|".join(sorted(_PATTERNS, key=len, reverse=True)) + r")",
    re.IGNORECASE,
)
_PADDED = {"MONTH": 9, "DAY": 9}


def strftime_format(pattern: str) -> str | None:
    """Return strftime's form of a PostgreSQL date pattern, or None if a part of it has none.

    Of names only the capitalised form (``Mon``, ``FMMonth``) has one: PostgreSQL pads ``Month`` with blanks
    and writes ``MONTH`` in capitals, strftime does neither.
    """
    out: list[str] = []
    at = 0
    while at < len(pattern):
        match = _PIECE.match(pattern, at)
        if match is None:
            if pattern[at].isalpha():
                return None
            out.append("%%" if pattern[at] == "%" else pattern[at])
            at += 1
            continue
        at = match.end()
        if match["quoted"] is not None:
            out.append(match["quoted"].replace("%", "%%"))
            continue
        name = match["name"]
        upper = name.upper()
        capitalised = upper not in ("MONTH", "MON", "DAY", "DY") or name == name.capitalize()
        if not capitalised or (upper in _PADDED and not match["pattern"]):
            return None
        if match["pattern"] and upper not in _PADDED and upper not in ("MON", "DY"):
            return None
        out.append(_PATTERNS[upper])
    return "".join(out)


_ONLY_SHOWN = {
    "Q": "CAST(quarter(p1) AS VARCHAR)",
    "D": "CAST(dayofweek(p1) + 1 AS VARCHAR)",
    "WW": "lpad(CAST((dayofyear(p1) - 1) // 7 + 1 AS VARCHAR), 2, '0')",
    "W": "CAST((day(p1) - 1) // 7 + 1 AS VARCHAR)",
    "CC": "lpad(CAST((year(p1) - 1) // 100 + 1 AS VARCHAR), 2, '0')",
    "J": "CAST(CAST(julian(CAST(p1 AS DATE)) AS BIGINT) AS VARCHAR)",
    "SSSS": "CAST(date_part('hour', p1) * 3600 + date_part('minute', p1) * 60 + date_part('second', p1) AS VARCHAR)",
    "Y,YYY": "regexp_replace(strftime(p1, '%Y'), '(\\d{3})$', ',\\1')",
    "YYY": "right(strftime(p1, '%Y'), 3)",
    "Y": "right(strftime(p1, '%Y'), 1)",
    "A.M.": "CASE WHEN date_part('hour', p1) < 12 THEN 'A.M.' ELSE 'P.M.' END",
    "P.M.": "CASE WHEN date_part('hour', p1) < 12 THEN 'A.M.' ELSE 'P.M.' END",
    "OF": "strftime(p1, '%z')",
    "BC": "CASE WHEN year(p1) > 0 THEN 'AD' ELSE 'BC' END",
    "AD": "CASE WHEN year(p1) > 0 THEN 'AD' ELSE 'BC' END",
}
_ONLY_SHOWN["SSSSS"] = _ONLY_SHOWN["SSSS"]
_SHOWN = re.compile(
    r'"(?P<quoted>[^"]*)"|(?P<fm>FM)?(?P<name>'
    + "|".join(re.escape(n) for n in sorted({*_PATTERNS, *_ONLY_SHOWN, "NS"}, key=len, reverse=True))
    + r")(?P<th>TH|th)?",
    re.IGNORECASE,
)
_NAMES = ("MONTH", "MON", "DAY", "DY")


def shown_sql(pattern: str) -> str | None:
    """Return DuckDB SQL of the text of a time ``p1`` by a pattern of PostgreSQL's; None if a part is unknown."""
    parts: list[str] = []
    plain = ""
    at = 0

    def flush() -> None:
        nonlocal plain
        if plain:
            parts.append(f"strftime(p1, '{plain}')")
        plain = ""

    while at < len(pattern):
        match = _SHOWN.match(pattern, at)
        if match is None:
            if pattern[at].isalpha():
                return None
            plain += {"%": "%%", "'": "''"}.get(pattern[at], pattern[at])
            at += 1
            continue
        at = match.end()
        if match["quoted"] is not None:
            plain += match["quoted"].replace("%", "%%").replace("'", "''")
            continue
        if match["th"]:
            return None
        name, upper = match["name"], match["name"].upper()
        if upper in _ONLY_SHOWN:
            flush()
            parts.append(_ONLY_SHOWN[upper] if name != name.lower() else f"lower({_ONLY_SHOWN[upper]})")
        elif upper in _NAMES:
            flush()
            text = f"strftime(p1, '{_PATTERNS[upper]}')"
            text = f"upper({text})" if name.isupper() else f"lower({text})" if name.islower() else text
            padded = upper in _PADDED and not match["fm"]
            parts.append(f"rpad({text}, {_PADDED[upper]}, ' ')" if padded else text)
        elif upper in ("AM", "PM"):
            flush()
            parts.append("strftime(p1, '%p')" if name.isupper() else "lower(strftime(p1, '%p'))")
        elif upper == "NS":
            plain += "%n"
        else:
            code = _PATTERNS[upper]
            short = match["fm"] and code[1] in "mdHIMSj"
            plain += f"%-{code[1]}" if short else code
    flush()
    return " || ".join(parts) if parts else "''"


_NUMBER = re.compile(r"(?P<fm>FM)?(?P<whole>[90,]*)(?:\.(?P<fraction>[90]*))?", re.IGNORECASE)


def number_sql(pattern: str, *, exact: bool) -> str | None:
    """Return the text of a number ``p1`` by a pattern of 9, 0, comma, point and FM; None for any other pattern.

    With `exact` the number is one with decimal digits (or an integer) and stays that: no digit is lost, halves are
    rounded away from zero.
    """
    match = _NUMBER.fullmatch(pattern.strip())
    if match is None:
        return None
    whole, fraction = match["whole"], match["fraction"] or ""
    width = len(whole) + (len(fraction) + 1 if fraction else 0)
    body = _digits_sql(len(fraction), commas="," in whole, exact=exact)
    if "0" in whole:
        body = f"lpad({body}, CAST(greatest({width - whole.index('0')}, length({body})) AS INTEGER), '0')"
    elif fraction:
        body = f"regexp_replace({body}, '^0\\.', '.')"
    too_wide = f"length({body}) > {width}"
    hashes = re.sub("[90]", "#", whole) + ("." + "#" * len(fraction) if match["fraction"] is not None else "")
    # what rounds to zero has no sign, if it is exact
    negative = f"CAST(p1 AS DECIMAL(38, {len(fraction)})) < 0" if exact else "p1 < 0"
    if match["fm"]:
        kept = len(fraction.rstrip("9"))
        if fraction and kept < len(fraction):
            body = f"regexp_replace({body}, '0{{1,{len(fraction) - kept}}}$', '')"
        if not kept:
            body = f"regexp_replace({body}, '^[.]$', '0.')"
        return f"CASE WHEN {negative} THEN '-' ELSE '' END || CASE WHEN {too_wide} THEN '{hashes}' ELSE {body} END"
    sign = f"CASE WHEN {negative} THEN '-' ELSE ' ' END"
    return f"CASE WHEN {too_wide} THEN {sign} || '{hashes}' ELSE lpad({sign} || {body}, {width + 1}, ' ') END"


def _digits_sql(fraction: int, *, commas: bool, exact: bool) -> str:
    if not exact:
        # not format(), which is PostgreSQL's where a SELECT runs
        return f"printf('%{',' if commas else ''}.{fraction}f', abs(CAST(p1 AS DOUBLE)))"
    text = f"CAST(abs(CAST(p1 AS DECIMAL(38, {fraction}))) AS VARCHAR)"
    if not commas:
        return text
    backwards = f"reverse(split_part({text}, '.', 1))"
    parted = f"ltrim(reverse(regexp_replace({backwards}, '(\\d\\d\\d)', '\\1,', 'g')), ',')"
    return f"({parted} || '.' || split_part({text}, '.', 2))" if fraction else parted
