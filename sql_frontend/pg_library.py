"""More of PostgreSQL's scalar functions in DuckDB's words, for expressions that the front end resolves.

A function fails as PostgreSQL's does, by ``error(...)``; a view makes NULL of that. In the templates ``p1``, ``p2`` are
the arguments; each stands as often as it is written, so it is cheap to repeat a column and not a long expression.
"""

from __future__ import annotations

_QUOTED = "'''' || replace(p1, '''', '''''') || ''''"
_IDENT = (
    "CASE WHEN regexp_full_match(p1, '[a-z_][a-z0-9_$]*') THEN p1 ELSE '\"' || replace(p1, '\"', '\"\"') || '\"' END"
)
_NO_NEGATIVE_LENGTH = "CASE WHEN p3 < 0 THEN CAST(error('negative substring length not allowed') AS BIGINT) "
_LN = "cannot take logarithm of a negative number or zero"
_POSITIVE = f"CASE WHEN {{0}} > 0 OR {{0}} IS NULL THEN {{0}} ELSE CAST(error('{_LN}') AS DOUBLE) END"


def _yeared(make: str, rest: str, kind: str) -> str:
    """Count years as PostgreSQL does: one below 1 is before Christ, and there is no year 0, as DuckDB has it."""
    year = (
        f"CASE WHEN p1 = 0 THEN CAST(error('{kind} field value out of range') AS BIGINT) WHEN "
        f"p1 < 0 THEN p1 + 1 ELSE p1 END"
    )
    return f"{make}(CAST({year} AS BIGINT), {rest})"


def _in_range(parts: list[tuple[str, int, int]], kind: str, value: str) -> str:
    bad = " OR ".join(f"{p} < {low} OR {p} > {high}" for p, low, high in parts)
    return f"CASE WHEN {bad} THEN CAST(error('{kind} field value out of range') AS {kind.upper()}) ELSE {value} END"


def truncated(local: str, back: str) -> str:
    """Return ``date_trunc(p1, p2)`` of a moment, by a zone's clocks.

    What is shorter than a day is taken off the moment itself: an hour that the clocks show twice stays the one it is.

    Parameters
    ----------
    local, back : str
        SQL of what the clocks show at ``p2``, and of the moment at which they show ``{}``.
    """
    cut = f"date_trunc(p1, {local})"
    short = "date_trunc(p1, TIMESTAMP '2001-12-31 23:59:59.999999') >= TIMESTAMP '2001-12-31 23:00:00'"
    return f"CASE WHEN {short} THEN p2 - ({local} - {cut}) ELSE {back.format(cut)} END"


LOCALLY_TRUNCATED = truncated("CAST(p2 AS TIMESTAMP)", "CAST({} AS TIMESTAMP WITH TIME ZONE)")
"""``date_trunc(p1, p2)`` of a moment by the session's time zone."""
_DATE_PARTS = [("p2", 1, 12), ("p3", 1, 31)]
_TIME_PARTS = [("p4", 0, 24), ("p5", 0, 59), ("p6", 0, 60)]
_STAMP = _in_range(
    [*_DATE_PARTS, *_TIME_PARTS],
    "timestamp",
    _yeared("make_timestamp", "p2, p3, p4, p5, CAST(p6 AS DOUBLE)", "timestamp"),
)

_ALL_US = (
    "((datepart('year', p1) * 12 + datepart('month', p1)) * 30 + datepart('day', p1)) * 86400000000 + "
    "datepart('hour', p1) * 3600000000 + datepart('minute', p1) * 60000000 + datepart('microsecond', p1)"
)
"""A month is thirty days and a day is 24 hours; all parts of the result have one sign."""
_JUSTIFIED = (
    f"to_months(CAST(({_ALL_US}) // 2592000000000 AS INTEGER)) + "
    f"to_days(CAST((({_ALL_US}) % 2592000000000) // 86400000000 AS INTEGER)) + "
    f"to_microseconds(({_ALL_US}) % 86400000000)"
)

LIBRARY: dict[tuple[str, int], str] = {
    # numbers
    ("ln", 1): f"ln({_POSITIVE.format('p1')})",
    ("log", 1): f"log10({_POSITIVE.format('p1')})",
    ("log10", 1): f"log10({_POSITIVE.format('p1')})",
    ("log", 2): f"ln({_POSITIVE.format('p2')}) / ln({_POSITIVE.format('p1')})",
    ("sqrt", 1): (
        "sqrt(CASE WHEN p1 < 0 THEN CAST(error('cannot take square root of a negative number') AS DOUBLE) ELSE p1 END)"
    ),
    ("exp", 1): (
        "CASE WHEN isinf(exp(p1)) AND NOT isinf(CAST(p1 AS DOUBLE)) THEN CAST(error('value "
        "out of range: overflow') AS DOUBLE) "
        "WHEN exp(p1) = 0 AND NOT isinf(CAST(p1 AS DOUBLE)) THEN CAST(error('value out of "
        "range: underflow') AS DOUBLE) "
        "ELSE exp(p1) END"
    ),
    ("div", 2): "trunc(p1 / p2)",
    ("cosd", 1): "cos(radians(p1))",
    ("sind", 1): "sin(radians(p1))",
    ("tand", 1): "tan(radians(p1))",
    ("width_bucket", 4): (
        "CASE WHEN p1 < p2 THEN 0 WHEN p1 >= p3 THEN CAST(p4 AS INTEGER) + 1 ELSE "
        "CAST(floor((CAST(p1 AS DOUBLE) - p2) * p4 / (CAST(p3 AS DOUBLE) - p2)) AS INTEGER) + 1 END"
    ),
    (
        "scale",
        1,
    ): "length(split_part(CAST(p1 AS VARCHAR), '.', 2))",
    ("min_scale", 1): "length(rtrim(split_part(CAST(p1 AS VARCHAR), '.', 2), '0'))",
    ("trim_scale", 1): "p1",  # a type's digits are those of all its values
    ("to_hex", 1): "lower(to_hex(p1))",
    ("to_bin", 1): "bin(p1)",
    ("atan2d", 2): "degrees(atan2(p1, p2))",
    # text
    ("initcap", 1): (
        "array_to_string(list_transform(regexp_extract_all(p1, '[[:alnum:]]+|[^[:alnum:]]+'), "
        "LAMBDA w: upper(left(w, 1)) || lower(substr(w, 2))), '')"
    ),
    ("quote_literal", 1): _QUOTED.replace("p1", "CAST(p1 AS VARCHAR)"),
    ("quote_nullable", 1): f"CASE WHEN p1 IS NULL THEN 'NULL' ELSE {_QUOTED.replace('p1', 'CAST(p1 AS VARCHAR)')} END",
    ("quote_ident", 1): _IDENT,
    ("lpad", 2): "lpad(p1, CAST(p2 AS INTEGER), ' ')",
    ("rpad", 2): "rpad(p1, CAST(p2 AS INTEGER), ' ')",
    ("lpad", 3): "CASE WHEN p2 <= 0 THEN '' WHEN p3 = '' THEN left(p1, p2) ELSE lpad(p1, CAST(p2 AS INTEGER), p3) END",
    ("rpad", 3): "CASE WHEN p2 <= 0 THEN '' WHEN p3 = '' THEN left(p1, p2) ELSE rpad(p1, CAST(p2 AS INTEGER), p3) END",
    ("repeat", 2): "repeat(p1, CASE WHEN p2 < 0 THEN 0 ELSE p2 END)",
    ("split_part", 3): (
        "CASE WHEN p3 = 0 THEN CAST(error('field position must not be zero') AS VARCHAR) WHEN p2 = '' THEN "
        "CASE WHEN p3 IN (1, -1) THEN p1 ELSE '' END ELSE coalesce(split_part(p1, p2, p3), "
        "CASE WHEN p1 IS NOT NULL AND p2 IS NOT NULL "
        "AND p3 IS NOT NULL THEN '' END) END"
    ),
    ("char_length", 1): "length(p1)",
    ("character_length", 1): "length(p1)",
    ("md5", 1): "md5(p1)",
    ("sha1", 1): "unhex(sha1(p1))",
    ("sha256", 1): "unhex(sha256(p1))",
    ("encode", 2): (
        "CASE lower(p2) WHEN 'hex' THEN lower(hex(p1)) WHEN 'base64' THEN base64(p1) "
        "WHEN 'escape' THEN regexp_replace(CAST(p1 AS VARCHAR), '\\\\x([0-9A-F][0-9A-F])', '\\x\\1', 'g') "
        "ELSE CAST(error('unrecognized encoding') AS VARCHAR) END"
    ),
    ("decode", 2): (
        "CASE lower(p2) WHEN 'hex' THEN unhex(p1) WHEN 'base64' THEN from_base64(p1) WHEN 'escape' THEN encode(p1) "
        "ELSE CAST(error('unrecognized encoding') AS BLOB) END"
    ),
    ("convert_from", 2): "decode(p1)",
    ("convert_to", 2): "encode(p1)",
    ("regexp_match", 2): (
        "CASE WHEN regexp_matches(p1, p2) THEN CASE WHEN regexp_matches(p2, '(^|[^\\\\])\\([^?]') "
        "THEN [regexp_extract(p1, p2, 1)] ELSE [regexp_extract(p1, p2)] END END"
    ),
    ("regexp_match", 3): (
        "CASE WHEN regexp_matches(p1, '(?' || p3 || ')' || p2) THEN CASE WHEN regexp_matches(p2, '(^|[^\\\\])\\([^?]') "
        "THEN [regexp_extract(p1, '(?' || p3 || ')' || p2, 1)] ELSE [regexp_extract(p1, '(?' "
        "|| p3 || ')' || p2)] END END"
    ),
    ("regexp_count", 2): "len(regexp_extract_all(p1, p2))",
    ("regexp_count", 3): "len(regexp_extract_all(substr(p1, p3), p2))",
    ("regexp_like", 2): "regexp_matches(p1, p2)",
    ("regexp_like", 3): "regexp_matches(p1, '(?' || p3 || ')' || p2)",
    ("regexp_substr", 2): "nullif(regexp_extract(p1, p2), '')",
    ("regexp_instr", 2): (
        "CASE WHEN regexp_matches(p1, p2) THEN strpos(p1, regexp_extract(p1, p2)) "
        "WHEN NOT regexp_matches(p1, p2) THEN 0 END"
    ),
    ("regexp_split_to_array", 2): "string_split_regex(p1, p2)",
    ("overlay", 3): "left(p1, p3 - 1) || p2 || substr(p1, p3 + length(p2))",
    ("overlay", 4): "left(p1, p3 - 1) || p2 || substr(p1, p3 + p4)",
    ("chr", 1): "CASE WHEN p1 = 0 THEN CAST(error('null character not permitted') AS VARCHAR) ELSE chr(p1) END",
    # times
    ("make_date", 3): _in_range(_DATE_PARTS, "date", _yeared("make_date", "p2, p3", "date")),
    ("make_time", 3): _in_range(
        [("p1", 0, 23), ("p2", 0, 59), ("p3", 0, 60)], "time", "make_time(p1, p2, CAST(p3 AS DOUBLE))"
    ),
    ("make_timestamp", 6): _STAMP,
    ("make_timestamptz", 6): f"CAST({_STAMP} AS TIMESTAMP WITH TIME ZONE)",
    ("make_timestamptz", 7): f"timezone(p7, {_STAMP})",
    ("date_trunc", 3): truncated("timezone(p3, p2)", "timezone(p3, {})"),
    ("date_bin", 3): "time_bucket(p1, p2, p3)",
    ("justify_hours", 1): (
        "to_months(CAST(datepart('year', p1) * 12 + datepart('month', p1) AS INTEGER)) + "
        "to_days(CAST(datepart('day', p1) + "
        "datepart('hour', p1) // 24 AS INTEGER)) + to_microseconds((datepart('hour', p1) % 24) * 3600000000 + "
        "datepart('minute', p1) * 60000000 + datepart('microsecond', p1))"
    ),
    ("justify_days", 1): (
        "to_months(CAST(datepart('year', p1) * 12 + datepart('month', p1) + datepart('day', p1) // 30 AS INTEGER)) + "
        "to_days(CAST(datepart('day', p1) % 30 AS INTEGER)) + to_microseconds(datepart('hour', p1) * 3600000000 + "
        "datepart('minute', p1) * 60000000 + datepart('microsecond', p1))"
    ),
    ("justify_interval", 1): _JUSTIFIED,
    # arrays
    ("array_length", 1): "nullif(len(p1), 0)",
    ("array_length", 2): "CASE WHEN p2 = 1 THEN nullif(len(p1), 0) END",
    ("array_upper", 2): "CASE WHEN p2 = 1 THEN nullif(len(p1), 0) END",
    ("array_lower", 2): "CASE WHEN p2 = 1 AND len(p1) > 0 THEN 1 END",
    ("cardinality", 1): "len(p1)",
    ("array_remove", 2): "list_filter(p1, LAMBDA x: x IS DISTINCT FROM p2)",
    ("array_replace", 3): "list_transform(p1, LAMBDA x: CASE WHEN x IS NOT DISTINCT FROM p2 THEN p3 ELSE x END)",
    ("array_position", 2): "nullif(list_position(p1, p2), 0)",
    ("array_positions", 2): (
        "list_filter(list_transform(p1, LAMBDA x, i: CASE WHEN x IS NOT DISTINCT FROM p2 THEN i END), "
        "LAMBDA x: x IS NOT NULL)"
    ),
    ("array_append", 2): "list_append(p1, p2)",
    ("array_prepend", 2): "list_prepend(p1, p2)",
    ("array_cat", 2): "CASE WHEN p1 IS NOT NULL OR p2 IS NOT NULL THEN list_concat(p1, p2) END",
    ("array_to_string", 2): (
        "CASE WHEN p1 IS NOT NULL AND p2 IS NOT NULL THEN "
        "coalesce(array_to_string(list_filter(CAST(p1 AS VARCHAR[]), LAMBDA x: x IS NOT NULL), p2), '') END"
    ),
    ("array_to_string", 3): (
        "CASE WHEN p1 IS NOT NULL AND p2 IS NOT NULL THEN coalesce(array_to_string(list_transform("
        "CAST(p1 AS VARCHAR[]), LAMBDA x: coalesce(x, p3)), p2), '') END"
    ),
    ("trim_array", 2): (
        "CASE WHEN p2 < 0 OR p2 > len(p1) THEN list_slice(p1, CAST(error('number of elements "
        "to trim must be between 0 and ' || len(p1)) "
        "AS BIGINT), 1) ELSE list_slice(p1, 1, len(p1) - p2) END"
    ),
    ("array_ndims", 1): "CASE WHEN len(p1) > 0 THEN 1 END",
    ("array_contains", 2): "list_has_all(p1, p2)",
    ("array_contained", 2): "list_has_all(p2, p1)",
    # maps
    ("map_access", 2): "map_extract_value(p1, p2)",
    ("map_length", 1): "cardinality(p1)",
    ("map_from_key_values", 2): "map(p1, p2)",
    ("map_cat", 2): "map_concat(p1, p2)",
    ("map_insert", 3): "map_concat(p1, map([p2], [p3]))",
    ("map_delete", 2): "map_from_entries(list_filter(map_entries(p1), LAMBDA e: struct_extract(e, 'key') <> p2))",
    # json
    ("jsonb_typeof", 1): (
        "CASE json_type(p1) WHEN 'OBJECT' THEN 'object' WHEN 'ARRAY' THEN 'array' WHEN 'VARCHAR' THEN 'string' "
        "WHEN 'BOOLEAN' THEN 'boolean' WHEN 'NULL' THEN 'null' WHEN 'BIGINT' THEN 'number' "
        "WHEN 'UBIGINT' THEN 'number' "
        "WHEN 'DOUBLE' THEN 'number' WHEN 'HUGEINT' THEN 'number' END"
    ),
    ("to_jsonb", 1): "to_json(p1)",
    ("row_to_json", 1): "to_json(p1)",
    ("array_to_json", 1): "to_json(p1)",
    ("jsonb_pretty", 1): "json_pretty(p1)",
    ("jsonb_contains", 2): "json_contains(p1, p2)",
    ("jsonb_contained", 2): "json_contains(p2, p1)",
    ("jsonb_exists", 2): "list_contains(json_keys(p1), p2)",
    ("jsonb_object_keys", 1): "json_keys(p1)",
    ("jsonb_array_elements", 1): "CAST(p1 AS JSON[])",
    ("json_array_elements", 1): "CAST(p1 AS JSON[])",
    ("jsonb_array_elements_text", 1): "json_extract_string(p1, '$[*]')",
    ("json_array_elements_text", 1): "json_extract_string(p1, '$[*]')",
    ("jsonb_concat", 2): "json_merge_patch(p1, p2)",
}
LIBRARY[("json_typeof", 1)] = LIBRARY[("jsonb_typeof", 1)]

RENAMED = {
    "jsonb_array_length": "json_array_length",
    "jsonb_extract_path": "json_extract_path",
    "jsonb_extract_path_text": "json_extract_path_text",
    "jsonb_build_object": "json_object",
    "json_build_object": "json_object",
    "jsonb_build_array": "json_array",
    "json_build_array": "json_array",
    "jsonb_object": "json_object",
    "strpos": "strpos",
    "char": "chr",
    "power": "pow",
    "ceiling": "ceil",
    "btrim": "trim",
    "timestamptz": "timezone",
}
"""Functions that DuckDB has by another name."""

ROWS = frozenset(
    [
        "jsonb_array_elements",
        "json_array_elements",
        "jsonb_array_elements_text",
        "json_array_elements_text",
        "jsonb_object_keys",
        "json_object_keys",
        "jsonb_path_query",
        "regexp_matches",
        "regexp_split_to_table",
        "generate_subscripts",
        "string_to_table",
    ]
)
"""Functions that give a row for each element of the list that they are here."""
