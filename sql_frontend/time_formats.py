"""PostgreSQL's date patterns (``YYYY-MM-DD HH24:MI``) to strftime's."""

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
